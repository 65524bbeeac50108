//! Which operation a request asks for, from its method and raw path.

use http::Method;
use percent_encoding::percent_decode_str;

/// The operations that have an answer of their own; anything else is an echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Converse,
    ConverseStream,
    InvokeModel,
    InvokeModelWithResponseStream,
    CountTokens,
    ApplyGuardrail,
    ListFoundationModels,
    GetFoundationModel,
    ListInferenceProfiles,
    GetInferenceProfile,
    ChatCompletions,
    Responses,
    Models,
    Messages,
    CountMessageTokens,
    InvokeGuardrailChecks,
    InvokeAgent,
    InvokeInlineAgent,
    InvokeHarness,
    Retrieve,
    RetrieveAndGenerate,
    Echo,
}

impl Operation {
    /// Its name in botocore's models, or that of the API.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Converse => "Converse",
            Self::ConverseStream => "ConverseStream",
            Self::InvokeModel => "InvokeModel",
            Self::InvokeModelWithResponseStream => "InvokeModelWithResponseStream",
            Self::CountTokens => "CountTokens",
            Self::ApplyGuardrail => "ApplyGuardrail",
            Self::InvokeGuardrailChecks => "InvokeGuardrailChecks",
            Self::ListFoundationModels => "ListFoundationModels",
            Self::GetFoundationModel => "GetFoundationModel",
            Self::ListInferenceProfiles => "ListInferenceProfiles",
            Self::GetInferenceProfile => "GetInferenceProfile",
            Self::ChatCompletions => "ChatCompletions",
            Self::Responses => "Responses",
            Self::Models => "Models",
            Self::Messages => "Messages",
            Self::CountMessageTokens => "CountMessageTokens",
            Self::InvokeAgent => "InvokeAgent",
            Self::InvokeInlineAgent => "InvokeInlineAgent",
            Self::InvokeHarness => "InvokeHarness",
            Self::Retrieve => "Retrieve",
            Self::RetrieveAndGenerate => "RetrieveAndGenerate",
            Self::Echo => "Echo",
        }
    }
}

/// An operation, and what the path names, decoded once: a model, a guardrail, a profile, a session; empty where it names none. An agent, its alias and
/// the session stand as in the path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) operation: Operation,
    pub(super) name: String,
}

impl Route {
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let found = if method == Method::POST {
            post(path)
        } else if method == Method::GET {
            read(path)
        } else {
            None
        };
        let (operation, name) = found.unwrap_or((Operation::Echo, ""));
        Self { operation, name: percent_decode_str(name).decode_utf8_lossy().into_owned() }
    }
}

fn post(path: &str) -> Option<(Operation, &str)> {
    let operation = match path {
        "/openai/v1/chat/completions" | "/v1/chat/completions" => Operation::ChatCompletions,
        "/openai/v1/responses" | "/v1/responses" => Operation::Responses,
        "/anthropic/v1/messages" => Operation::Messages,
        "/anthropic/v1/messages/count_tokens" => Operation::CountMessageTokens,
        "/guardrail-checks/invoke" => Operation::InvokeGuardrailChecks,
        "/harnesses/invoke" => Operation::InvokeHarness,
        "/retrieveAndGenerate" => Operation::RetrieveAndGenerate,
        _ => return post_with_name(path),
    };
    Some((operation, ""))
}

fn post_with_name(path: &str) -> Option<(Operation, &str)> {
    if let Some(rest) = path.strip_prefix("/guardrail/") {
        let (name, last) = rest.split_once("/version/")?;
        return last.ends_with("/apply").then_some((Operation::ApplyGuardrail, name));
    }
    if let Some(rest) = path.strip_prefix("/agents/") {
        let Some((agent, last)) = rest.split_once('/') else {
            return (!rest.is_empty()).then_some((Operation::InvokeInlineAgent, rest));
        };
        let mut last = last.split('/');
        let parts = [last.next(), last.next(), last.next(), last.next(), last.next(), last.next()];
        let [Some("agentAliases"), Some(_), Some("sessions"), Some(_), Some("text"), None] = parts else { return None };
        return (!agent.is_empty()).then_some((Operation::InvokeAgent, rest.strip_suffix("/text")?));
    }
    if let Some(rest) = path.strip_prefix("/knowledgebases/") {
        return Some((Operation::Retrieve, rest.strip_suffix("/retrieve").filter(|name| !name.contains('/'))?));
    }
    // A model id may hold a raw `/` (an ARN): the operation is the last segment.
    let (name, last) = path.strip_prefix("/model/")?.rsplit_once('/')?;
    let operation = match last {
        "converse" => Operation::Converse,
        "converse-stream" => Operation::ConverseStream,
        "invoke" => Operation::InvokeModel,
        "invoke-with-response-stream" => Operation::InvokeModelWithResponseStream,
        "count-tokens" => Operation::CountTokens,
        _ => return None,
    };
    Some((operation, name))
}

fn read(path: &str) -> Option<(Operation, &str)> {
    let operation = match path {
        "/foundation-models" => Operation::ListFoundationModels,
        "/inference-profiles" => Operation::ListInferenceProfiles,
        "/openai/v1/models" | "/v1/models" => Operation::Models,
        _ => {
            let model = path.strip_prefix("/foundation-models/").map(|name| (Operation::GetFoundationModel, name));
            return model.or_else(|| path.strip_prefix("/inference-profiles/").map(|name| (Operation::GetInferenceProfile, name)));
        }
    };
    Some((operation, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_told_from_raw_paths_in_every_clients_encoding() {
        for (path, operation, name) in [
            ("/model/anthropic.claude-v1%3A0/converse", Operation::Converse, "anthropic.claude-v1:0"),
            ("/model/anthropic.claude-v1:0/invoke", Operation::InvokeModel, "anthropic.claude-v1:0"),
            (
                "/model/arn:aws:bedrock:us-east-1:1:inference-profile/x/converse-stream",
                Operation::ConverseStream,
                "arn:aws:bedrock:us-east-1:1:inference-profile/x",
            ),
            ("/guardrail/abc/version/DRAFT/apply", Operation::ApplyGuardrail, "abc"),
            ("/agents/A/agentAliases/B/sessions/s%3A1/text", Operation::InvokeAgent, "A/agentAliases/B/sessions/s:1"),
            ("/agents/s-1", Operation::InvokeInlineAgent, "s-1"),
            ("/agents/", Operation::Echo, ""),
            ("/agents/A/agentAliases/B/memories", Operation::Echo, ""),
            ("/knowledgebases/K/retrieve", Operation::Retrieve, "K"),
            ("/model/x", Operation::Echo, ""),
            ("/", Operation::Echo, ""),
        ] {
            assert_eq!(Route::of(&Method::POST, path), Route { operation, name: name.to_owned() });
        }
        assert_eq!(Route::of(&Method::DELETE, "/foundation-models").operation, Operation::Echo);
        assert_eq!(Route::of(&Method::GET, "/inference-profiles/arn%3Ax").name, "arn:x");
    }
}
