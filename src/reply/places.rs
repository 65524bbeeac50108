//! The places in an answer where something is told, as far as AWS's and the model families' own shapes go.
//!
//! A place follows from the one above it and a key. Usage is believed at these places only: what a model writes, the arguments of a tool among it,
//! can hold an object that looks like usage, and must not be counted as such.

/// A figure of usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    /// Input that no cache had, or with [`Figure::Cached`] beside it, all input.
    Input,
    Output,
    CacheRead,
    CacheWrite,
    CacheWrite5m,
    CacheWrite1h,
    /// The part of `input` that a cache had: OpenAI's way to tell it.
    Cached,
    /// The part of `input` that was written to one; not every API that speaks OpenAI's shape tells it.
    CachedWrite,
    Reasoning,
}

/// A count of guardrails' units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Topic,
    Content,
    ContentImage,
    Sensitive,
    Grounding,
    Reasoning,
    /// How many policies of automated reasoning those units went through.
    Policies,
}

/// Who tells usage, and in which manner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The API's or the family's own message: what comes last counts.
    Own,
    /// Its first message (Anthropic): input, and an output that has only begun.
    Start,
    /// Bedrock beside it: headers, `amazon-bedrock-invocationMetrics`.
    Bedrock,
    /// One of several calls that an agent made: they add up.
    Step,
}

/// What kind of guardrail usage it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// The total of an answer.
    Total,
    /// That of one assessment in a trace: they add up.
    Part,
}

/// What a document tells of itself by having a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Tokens that were counted, not used (`CountTokens`).
    Counted,
    /// A call that goes on elsewhere (`StartAsyncInvoke`).
    Async,
    /// Vectors: input only.
    Embedding,
    /// An error in place of an answer.
    Error,
}

/// A place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing below it matters.
    Nowhere,
    /// A JSON body, the data of a server-sent event, the payload of an event.
    Body,
    /// The JSON that `InvokeModelWithResponseStream` wraps into a `chunk`.
    Inner,
    /// The `chunk` around it.
    Wrapper,
    /// What an agent wraps so: text of its answer.
    WrappedText,
    /// The payload of a `trace` event of an agent or a flow.
    TraceEvent,
    /// Base64 of the inner document, or of text.
    Bytes,
    TextBytes,
    /// Delivered content: whatever text is below it was made by the model.
    Content,
    /// A string of it.
    Text,
    /// Arguments of a tool: a string of JSON, or an object; all of it was made by the model.
    Arguments,
    /// Within such an object.
    InArguments,
    Message,
    Response,
    Metadata,
    Results,
    Meta,
    Usage(Source),
    Metrics,
    CacheDetails,
    CacheDetailTokens,
    CacheDetailTtl,
    CacheCreation(Source),
    InputDetails(Source),
    OutputDetails(Source),
    Figure(Source, Figure),
    ServiceTier,
    TierName,
    /// The `type` of an OpenAI or Anthropic event.
    Kind,
    Sonic,
    SonicUsage,
    GuardrailTrace,
    Assessment,
    Assessed,
    AssessedUsage,
    Unit(Guard, Unit),
    Steps,
    Step,
    StepOutput,
    StepMetadata,
    FlowElements,
    FlowTraces,
    Mark(Mark),
}

/// What a place takes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// Nothing.
    Nothing,
    /// A whole number.
    Number,
    /// A short string.
    Word,
    /// A string of any length, in pieces.
    Text,
}

impl Place {
    pub(super) const fn wants(self) -> Wants {
        match self {
            Self::Figure(..) | Self::Unit(..) | Self::CacheDetailTokens | Self::Mark(Mark::Counted) => Wants::Number,
            Self::TierName | Self::Kind | Self::CacheDetailTtl => Wants::Word,
            Self::Text | Self::Arguments | Self::Bytes | Self::TextBytes | Self::Mark(Mark::Async) => Wants::Text,
            _ => Wants::Nothing,
        }
    }

    /// The place under `key` of an object at this one.
    pub(super) fn under(self, key: &[u8]) -> Self {
        match self {
            Self::Body | Self::Inner => document(key, self == Self::Inner),
            Self::Wrapper if key == b"bytes" => Self::Bytes,
            Self::WrappedText if key == b"bytes" => Self::TextBytes,
            Self::TraceEvent | Self::FlowTraces if key == b"trace" => Self::Steps,
            Self::Arguments | Self::InArguments => Self::InArguments,
            Self::Message if key == b"usage" => Self::Usage(Source::Start),
            Self::Metadata | Self::Response if key == b"usage" => Self::Usage(Source::Own),
            Self::Response if key == b"service_tier" => Self::TierName,
            Self::Results if key == b"tokenCount" => Self::Figure(Source::Own, Figure::Output),
            Self::Content | Self::Text | Self::Message | Self::Results => content(key),
            Self::Meta if key == b"billed_units" => Self::Usage(Source::Own),
            Self::Usage(source) => usage(key, source),
            Self::Metrics => metrics(key),
            Self::CacheDetails if key == b"ttl" => Self::CacheDetailTtl,
            Self::CacheDetails if key == b"inputTokens" => Self::CacheDetailTokens,
            Self::CacheCreation(source) if key == b"ephemeral_5m_input_tokens" => Self::Figure(source, Figure::CacheWrite5m),
            Self::CacheCreation(source) if key == b"ephemeral_1h_input_tokens" => Self::Figure(source, Figure::CacheWrite1h),
            Self::InputDetails(source) if key == b"cached_tokens" => Self::Figure(source, Figure::Cached),
            Self::InputDetails(source) if key == b"cache_write_tokens" => Self::Figure(source, Figure::CachedWrite),
            Self::OutputDetails(source) if key == b"reasoning_tokens" => Self::Figure(source, Figure::Reasoning),
            Self::ServiceTier if key == b"type" => Self::TierName,
            Self::Sonic => match key {
                b"usageEvent" => Self::SonicUsage,
                b"textOutput" | b"toolUse" => Self::Content,
                _ => Self::Nowhere,
            },
            Self::SonicUsage if key == b"totalInputTokens" => Self::Figure(Source::Own, Figure::Input),
            Self::SonicUsage if key == b"totalOutputTokens" => Self::Figure(Source::Own, Figure::Output),
            Self::GuardrailTrace if key == b"guardrail" => Self::Assessment,
            Self::Assessment if key == b"invocationMetrics" => Self::Assessed,
            // Ids of guardrails are keys here.
            Self::Assessment => Self::Assessment,
            Self::Assessed if key == b"usage" => Self::AssessedUsage,
            Self::AssessedUsage => unit(key, Guard::Part),
            Self::Steps => Self::Step,
            Self::Step if key == b"modelInvocationOutput" => Self::StepOutput,
            Self::Step if key == b"traceElements" => Self::FlowElements,
            Self::StepOutput if key == b"metadata" => Self::StepMetadata,
            Self::StepMetadata if key == b"usage" => Self::Usage(Source::Step),
            Self::FlowElements if key == b"agentTraces" => Self::FlowTraces,
            _ => Self::Nowhere,
        }
    }
}

/// Keys at the top of a document.
fn document(key: &[u8], inner: bool) -> Place {
    match key {
        b"usage" => Place::Usage(Source::Own),
        b"message" => Place::Message,
        b"response" => Place::Response,
        b"type" => Place::Kind,
        b"serviceTier" => Place::ServiceTier,
        b"service_tier" => Place::TierName,
        b"amazon-bedrock-invocationMetrics" => Place::Metrics,
        b"trace" | b"amazon-bedrock-trace" => Place::GuardrailTrace,
        b"assessments" => Place::Assessment,
        b"inputTextTokenCount" | b"prompt_token_count" => Place::Figure(Source::Own, Figure::Input),
        b"totalOutputTextTokenCount" | b"generation_token_count" => Place::Figure(Source::Own, Figure::Output),
        b"results" => Place::Results,
        b"meta" => Place::Meta,
        b"metadata" if inner => Place::Metadata,
        b"event" if inner => Place::Sonic,
        b"inputTokens" | b"input_tokens" => Place::Mark(Mark::Counted),
        b"invocationArn" => Place::Mark(Mark::Async),
        b"embedding" | b"embeddings" | b"embeddingsByType" => Place::Mark(Mark::Embedding),
        b"error" => Place::Mark(Mark::Error),
        _ => content(key),
    }
}

/// Keys of content: text under the names that AWS and the families give it, and containers of it. Nothing told here is usage.
fn content(key: &[u8]) -> Place {
    match key {
        b"text" | b"thinking" | b"reasoning" | b"reasoning_content" | b"content" | b"delta" | b"partial_json" | b"outputText"
        | b"generation" | b"completion" | b"refusal" | b"data" | b"redactedContent" => Place::Text,
        b"input" | b"arguments" => Place::Arguments,
        // What the model was given, not what it said; pictures and sound; what is told elsewhere.
        b"citation"
        | b"citations"
        | b"sourceContent"
        | b"retrievedReferences"
        | b"attribution"
        | b"toolResult"
        | b"source"
        | b"image"
        | b"images"
        | b"audio"
        | b"audioOutput"
        | b"metadata"
        | b"usage"
        | b"trace"
        | b"logprobs"
        | b"tools"
        | b"error" => Place::Nowhere,
        _ => Place::Content,
    }
}

fn usage(key: &[u8], source: Source) -> Place {
    let figure = match key {
        b"inputTokens" | b"input_tokens" | b"prompt_tokens" => Figure::Input,
        b"outputTokens" | b"output_tokens" | b"completion_tokens" => Figure::Output,
        b"cacheReadInputTokens" | b"cacheReadInputTokenCount" | b"cache_read_input_tokens" => Figure::CacheRead,
        b"cacheWriteInputTokens" | b"cacheWriteInputTokenCount" | b"cache_creation_input_tokens" => Figure::CacheWrite,
        b"cacheDetails" => return Place::CacheDetails,
        b"cache_creation" => return Place::CacheCreation(source),
        b"input_tokens_details" | b"prompt_tokens_details" => return Place::InputDetails(source),
        b"output_tokens_details" | b"completion_tokens_details" => return Place::OutputDetails(source),
        // Cohere wraps the billed ones once more.
        b"billed_units" => return Place::Usage(source),
        b"service_tier" => return Place::TierName,
        _ => return unit(key, Guard::Total),
    };
    Place::Figure(source, figure)
}

fn metrics(key: &[u8]) -> Place {
    let figure = match key {
        b"inputTokenCount" => Figure::Input,
        b"outputTokenCount" => Figure::Output,
        b"cacheReadInputTokenCount" => Figure::CacheRead,
        b"cacheWriteInputTokenCount" => Figure::CacheWrite,
        _ => return Place::Nowhere,
    };
    Place::Figure(Source::Bedrock, figure)
}

/// Units of `GuardrailUsage`, botocore 1.44.5. Words, and the free patterns of personal data, cost nothing.
fn unit(key: &[u8], guard: Guard) -> Place {
    let unit = match key {
        b"topicPolicyUnits" => Unit::Topic,
        b"contentPolicyUnits" => Unit::Content,
        b"contentPolicyImageUnits" => Unit::ContentImage,
        b"sensitiveInformationPolicyUnits" => Unit::Sensitive,
        b"contextualGroundingPolicyUnits" => Unit::Grounding,
        b"automatedReasoningPolicyUnits" => Unit::Reasoning,
        b"automatedReasoningPolicies" => Unit::Policies,
        _ => return Place::Nowhere,
    };
    Place::Unit(guard, unit)
}
