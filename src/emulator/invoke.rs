//! InvokeModel and its stream: the body is the model family's own, told by the model id and, where an ARN hides it, by the body's fields.
//!
//! Every answer carries the token counts in headers, or in the last chunk's `amazon-bedrock-invocationMetrics`, beside where the family's own
//! body puts them (section 5 of the facts: Cohere and older Mistral put them nowhere else).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::answer::{Answer, Knobs, Prompt, Usage, with};
use super::eventstream;
use super::reply::{Event, Failure, Reply};
use super::runtime::{LATENCY_MS, conversation, converse_usage, parse};
use super::{anthropic, openai};

/// Whose body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Anthropic,
    Nova,
    TitanText,
    TitanEmbed,
    Llama,
    Mistral,
    CohereCommand,
    CohereEmbed,
    /// OpenAI's chat: `openai.gpt-oss*`, and whatever else sends `messages`.
    Chat,
}

impl Family {
    fn of(model: &str, body: &Value) -> Self {
        let has = |name: &str| body.get(name).is_some();
        let by_id = [
            ("anthropic.", Self::Anthropic),
            ("amazon.nova", Self::Nova),
            ("amazon.titan-embed", Self::TitanEmbed),
            ("amazon.titan", Self::TitanText),
            ("meta.llama", Self::Llama),
            ("cohere.embed", Self::CohereEmbed),
            ("cohere.", Self::CohereCommand),
            ("openai.", Self::Chat),
        ];
        if let Some((_, family)) = by_id.iter().find(|(part, _)| model.contains(part)) {
            return *family;
        }
        if has("anthropic_version") {
            Self::Anthropic
        } else if has("inferenceConfig") {
            Self::Nova
        } else if has("inputText") {
            Self::TitanText
        } else if has("prompt") && model.contains("mistral.") {
            Self::Mistral
        } else if has("prompt") {
            Self::Llama
        } else {
            Self::Chat
        }
    }

    fn answer(self, body: &Value, knobs: Knobs) -> Result<Answer, Failure> {
        let limit = |pointers: &[&str]| pointers.iter().find_map(|pointer| body.pointer(pointer)?.as_u64());
        let prompt = |name: &str| match body.get(name) {
            Some(text) if text.is_string() || text.is_array() => Ok(Prompt::of(&[text])),
            _ => {
                Err(Failure::validation(format!("Malformed input request: `{name}` is missing, please reformat your input and try again.")))
            }
        };
        Ok(match self {
            Self::Anthropic => {
                if body.get("anthropic_version").is_none() {
                    return Err(Failure::validation("anthropic_version: Field required"));
                }
                anthropic::answer(body, knobs)?
            }
            Self::Nova => {
                let most = limit(&["/inferenceConfig/maxTokens", "/inferenceConfig/max_new_tokens"]);
                Answer::to(&conversation(body)?, most, knobs)
            }
            Self::TitanText => Answer::to(&prompt("inputText")?, limit(&["/textGenerationConfig/maxTokenCount"]), knobs),
            Self::Llama => Answer::to(&prompt("prompt")?, limit(&["/max_gen_len"]), knobs),
            Self::Mistral => Answer::to(&prompt("prompt")?, limit(&["/max_tokens"]), knobs),
            Self::CohereCommand => Answer::to(&prompt("message").or_else(|_| prompt("prompt"))?, limit(&["/max_tokens"]), knobs),
            Self::TitanEmbed => without_output(Answer::to(&prompt("inputText")?, Some(0), knobs)),
            Self::CohereEmbed => without_output(Answer::to(&prompt("texts")?, Some(0), knobs)),
            Self::Chat => openai::chat_answer(body, knobs)?,
        })
    }

    fn body(self, answer: &Answer, asked: &Value, model: &str) -> Value {
        let text = || answer.text();
        let usage = answer.usage;
        match self {
            Self::Anthropic => anthropic::message(answer, model),
            Self::Nova => {
                let message = json!({"role": "assistant", "content": [{"text": text()}]});
                let body = json!({"output": {"message": message}, "stopReason": answer.ended("end_turn", "max_tokens")});
                with(body, "usage", usage.map(nova_usage))
            }
            Self::TitanText => {
                let result = json!({"outputText": text(), "completionReason": answer.ended("FINISH", "LENGTH")});
                let result = with(result, "tokenCount", usage.map(|usage| json!(usage.output)));
                with(json!({"results": [result]}), "inputTextTokenCount", usage.map(|usage| json!(usage.input)))
            }
            Self::Llama => llama(&text(), Some(answer.ended("stop", "length")), usage),
            Self::Mistral => json!({"outputs": [{"text": text(), "stop_reason": answer.ended("stop", "length")}]}),
            Self::CohereCommand if asked.get("message").is_some() => {
                json!({"response_id": "r-1", "generation_id": "g-1", "text": text(), "finish_reason": answer.ended("COMPLETE", "MAX_TOKENS")})
            }
            Self::CohereCommand => {
                let generation = json!({"id": "g-1", "text": text(), "finish_reason": answer.ended("COMPLETE", "MAX_TOKENS")});
                json!({"id": "r-1", "generations": [generation], "prompt": asked.get("prompt")})
            }
            Self::TitanEmbed => {
                let dimensions = asked.get("dimensions").and_then(Value::as_u64).unwrap_or(1024);
                let vector = vector(usize::try_from(dimensions.min(4_096)).unwrap_or(0));
                with(
                    json!({"embedding": vector, "embeddingsByType": {"float": vector}}),
                    "inputTextTokenCount",
                    usage.map(|usage| json!(usage.input)),
                )
            }
            Self::CohereEmbed => {
                let texts = asked.get("texts").and_then(Value::as_array).map_or(0, Vec::len);
                let vectors = vec![vector(8); texts];
                json!({"id": "e-1", "response_type": "embeddings_floats", "embeddings": vectors, "texts": asked.get("texts")})
            }
            Self::Chat => openai::chat_completion(answer, model),
        }
    }

    /// The chunks of the stream, before the metrics.
    fn chunks(self, answer: &Answer, asked: &Value, model: &str) -> Vec<Event<Value>> {
        let each = |chunk: &dyn Fn(&str) -> Value| answer.pieces.iter().map(|piece| Event::token(chunk(piece))).collect::<Vec<_>>();
        match self {
            Self::Anthropic => anthropic::events(answer, model),
            Self::Nova => {
                let mut chunks = vec![Event::frame(json!({"messageStart": {"role": "assistant"}}))];
                chunks.extend(each(&|text| json!({"contentBlockDelta": {"delta": {"text": text}, "contentBlockIndex": 0}})));
                chunks.push(Event::frame(json!({"contentBlockStop": {"contentBlockIndex": 0}})));
                chunks.push(Event::frame(json!({"messageStop": {"stopReason": answer.ended("end_turn", "max_tokens")}})));
                chunks.push(Event::frame(
                    json!({"metadata": with(json!({"metrics": {}, "trace": {}}), "usage", answer.usage.map(nova_usage))}),
                ));
                chunks
            }
            Self::TitanText => {
                let last = json!({"outputText": "", "index": 0, "completionReason": answer.ended("FINISH", "LENGTH")});
                let mut chunks =
                    each(&|text| json!({"outputText": text, "index": 0, "totalOutputTextTokenCount": null, "completionReason": null}));
                let last = with(last, "totalOutputTextTokenCount", answer.usage.map(|usage| json!(usage.output)));
                chunks.push(Event::frame(with(last, "inputTextTokenCount", answer.usage.map(|usage| json!(usage.input)))));
                chunks
            }
            Self::Llama => {
                let mut chunks = each(&|text| llama(text, None, None));
                chunks.push(Event::frame(llama("", Some(answer.ended("stop", "length")), answer.usage)));
                chunks
            }
            Self::Mistral => {
                let mut chunks = each(&|text| json!({"outputs": [{"text": text, "stop_reason": null}]}));
                chunks.push(Event::frame(json!({"outputs": [{"text": "", "stop_reason": answer.ended("stop", "length")}]})));
                chunks
            }
            Self::CohereCommand => {
                let mut chunks = each(&|text| json!({"event_type": "text-generation", "text": text, "is_finished": false}));
                chunks.push(Event::frame(
                    json!({"event_type": "stream-end", "is_finished": true, "finish_reason": answer.ended("COMPLETE", "MAX_TOKENS")}),
                ));
                chunks
            }
            Self::TitanEmbed | Self::CohereEmbed => vec![Event::frame(self.body(answer, asked, model))],
            Self::Chat => openai::chat_chunks(answer, model, true),
        }
    }
}

pub(super) fn invoke(model: &str, body: &[u8], knobs: Knobs) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let family = Family::of(model, &body);
    let answer = family.answer(&body, knobs)?;
    let mut reply = Reply::json(&family.body(&answer, &body, model)).header("x-amzn-bedrock-invocation-latency", LATENCY_MS);
    if let Some(usage) = answer.usage {
        reply = reply.header("x-amzn-bedrock-input-token-count", usage.input);
        if !matches!(family, Family::TitanEmbed | Family::CohereEmbed) {
            reply = reply.header("x-amzn-bedrock-output-token-count", usage.output);
        }
        if usage.cache_read + usage.cache_write() > 0 {
            reply = reply
                .header("x-amzn-bedrock-cache-read-input-token-count", usage.cache_read)
                .header("x-amzn-bedrock-cache-write-input-token-count", usage.cache_write());
        }
    }
    Ok(reply.costing(answer.cost, model))
}

pub(super) fn invoke_stream(model: &str, body: &[u8], knobs: Knobs) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let family = Family::of(model, &body);
    let answer = family.answer(&body, knobs)?;
    let mut chunks = family.chunks(&answer, &body, model);
    if let Some(last) = chunks.pop() {
        // The family's own usage event may be an earlier one; the last word is AWS's.
        chunks.iter_mut().for_each(|chunk| chunk.mark.settles = false);
        chunks.push(Event::usage(with(last.data, "amazon-bedrock-invocationMetrics", answer.usage.map(metrics))));
    }
    let event = |chunk: Value| {
        let payload = json!({"bytes": BASE64_STANDARD.encode(chunk.to_string()), "p": "abcdefgh"});
        eventstream::event("chunk", payload.to_string().as_bytes())
    };
    let reply = Reply::event_stream(chunks.into_iter().map(|chunk| chunk.map(event)).collect()).costing(answer.cost, model);
    Ok(reply.header("x-amzn-bedrock-content-type", http::HeaderValue::from_static("application/json")))
}

fn metrics(usage: Usage) -> Value {
    let metrics = json!({
        "inputTokenCount": usage.input, "outputTokenCount": usage.output, "invocationLatency": LATENCY_MS, "firstByteLatency": LATENCY_MS,
    });
    if usage.cache_read + usage.cache_write() == 0 {
        return metrics;
    }
    let metrics = with(metrics, "cacheReadInputTokenCount", Some(json!(usage.cache_read)));
    with(metrics, "cacheWriteInputTokenCount", Some(json!(usage.cache_write())))
}

fn nova_usage(usage: Usage) -> Value {
    let mut value = converse_usage(usage);
    if let Some(fields) = value.as_object_mut() {
        for (old, new) in [("cacheReadInputTokens", "cacheReadInputTokenCount"), ("cacheWriteInputTokens", "cacheWriteInputTokenCount")] {
            let count = fields.remove(old).unwrap_or_default();
            fields.insert(new.to_owned(), count);
        }
    }
    value
}

fn llama(text: &str, stop: Option<&str>, usage: Option<Usage>) -> Value {
    let chunk = json!({"generation": text, "stop_reason": stop});
    let chunk = with(chunk, "prompt_token_count", usage.map(|usage| json!(usage.input)));
    with(chunk, "generation_token_count", usage.map(|usage| json!(usage.output)))
}

/// An embedding has no output tokens.
fn without_output(mut answer: Answer) -> Answer {
    answer.cost.output = 0;
    answer.usage = answer.usage.map(|usage| Usage { output: 0, ..usage });
    answer
}

/// A unit vector.
fn vector(dimensions: usize) -> Vec<f64> {
    (0..dimensions).map(|at| if at == 0 { 1.0 } else { 0.0 }).collect()
}
