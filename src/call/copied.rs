//! Which calls may be made twice.

use super::model;
use crate::domain::{Call, Service};

/// The last words of the operations that name their model in the body, and only answer (the shapes of OpenAI and Anthropic).
const ANSWERING: [&str; 4] = ["completions", "messages", "responses", "embeddings"];

/// Whether a POST of this call asks a model for an answer and does nothing else, so that a copy of it may be sent elsewhere.
///
/// Of what names its model in the path that is so (`/model/{id}/…`). Of what names it in the body it is so for the operations that are known to be: a batch,
/// a fine-tuning or an asynchronous job names a model too, and must not be begun twice. What AWS adds tomorrow is not copied until it is known.
#[must_use]
pub fn may_be_copied(call: &Call) -> bool {
    let only_answers = model::from_path(&call.path).is_some()
        || model::key_in_body(call) == Some("model") && ANSWERING.iter().any(|word| call.operation().eq_ignore_ascii_case(word));
    call.model.is_some()
        && !call.asked.of_no_model
        && [Service::BEDROCK_RUNTIME, Service::BEDROCK_MANTLE].contains(&call.service)
        && only_answers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Asked;

    fn call(service: &'static Service, path: &str) -> Call {
        Call { service, path: path.into(), query: "".into(), model: Some("m".into()), asked: Asked::default() }
    }

    #[test]
    fn what_only_answers_may_be_copied() {
        for path in [
            "/model/m/converse",
            "/model/m/converse-stream",
            "/%6dodel/m/invoke",
            "/model/m/invoke-with-response-stream",
            "/openai/v1/chat/completions",
            "/openai/v1/responses",
            "/anthropic/v1/messages",
            "/v1/messages/",
        ] {
            assert!(may_be_copied(&call(Service::BEDROCK_RUNTIME, path)), "{path}");
        }
        assert!(may_be_copied(&call(Service::BEDROCK_MANTLE, "/v1/responses")));
    }

    #[test]
    fn what_begins_something_may_not() {
        for (service, path) in [
            (Service::BEDROCK_RUNTIME, "/async-invoke"),
            (Service::BEDROCK_RUNTIME, "/guardrail/g/version/1/apply"),
            (Service::BEDROCK_RUNTIME, "/openai/v1/batches"),
            (Service::BEDROCK_RUNTIME, "/openai/v1/fine_tuning/jobs"),
            (Service::BEDROCK_RUNTIME, "/anthropic/v1/messages/batches"),
            (Service::BEDROCK_MANTLE, "/v1/fine_tuning/jobs"),
            (Service::BEDROCK_MANTLE, "/v1/something-new"),
            (Service::BEDROCK, "/model-invocation-job"),
            (Service::BEDROCK, "/model-customization-jobs"),
            (Service::BEDROCK_AGENT, "/agents"),
            // An agent calls tools.
            (Service::BEDROCK_AGENT_RUNTIME, "/agents/S"),
            (Service::BEDROCK_AGENTCORE, "/runtimes/x/invocations"),
        ] {
            assert!(!may_be_copied(&call(service, path)), "{path}");
        }
        let nameless = Call { model: None, ..call(Service::BEDROCK_RUNTIME, "/openai/v1/responses") };
        let read = Call { asked: Asked { of_no_model: true, ..Asked::default() }, ..call(Service::BEDROCK_RUNTIME, "/model/m/converse") };
        assert!(!may_be_copied(&nameless) && !may_be_copied(&read));
    }
}
