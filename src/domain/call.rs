//! What is asked, and where it is to go.

use super::Service;

/// What the caller asks for: made by `call` from the request's head (and, where the path does not name the model, its body).
#[derive(Clone, Debug)]
pub struct Call {
    /// The AWS service that answers it.
    pub service: &'static Service,
    /// The path that goes upstream: the client's raw bytes, less what chose the service. Starts with `/`.
    pub path: Box<str>,
    /// The query that goes upstream, re-encoded strictly (RFC 3986) and without presigning parameters; no `?`. Empty where there is none.
    pub query: Box<str>,
    /// The model id, decoded once, where the request names one.
    pub model: Option<Box<str>>,
    /// How much is asked for, as far as the body tells; nothing before it is read.
    pub asked: Asked,
}

/// How much a request asks for: what an estimate of its usage starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Bytes of text in it that a model reads.
    pub text_bytes: u64,
    /// Images and documents in it.
    pub media: u32,
    /// The most output tokens that it allows, where it tells.
    pub max_tokens: Option<u64>,
}

impl Call {
    /// The operation, as a word of the path: `converse`, `invoke-with-response-stream`, `completions`, `retrieve`. It is the last segment that can be
    /// a word rather than an id: of letters, `-` and `_` only, 40 at most; without one it is `other`. Callers choose it, so whoever keeps it bounds it.
    #[must_use]
    pub fn operation(&self) -> &str {
        let is_word = |segment: &&str| {
            (1..=40).contains(&segment.len()) && segment.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_'))
        };
        self.path.rsplit('/').find(is_word).unwrap_or("other")
    }
}

/// One place to send a call: which upstream, under which of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The key of the upstream in `upstreams`.
    pub upstream: std::sync::Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_the_last_word_of_the_path() {
        for (path, operation) in [
            ("/model/amazon.nova-lite-v1:0/converse", "converse"),
            ("/model/amazon.nova-lite-v1%3A0/invoke-with-response-stream", "invoke-with-response-stream"),
            ("/openai/v1/chat/completions", "completions"),
            ("/anthropic/v1/messages/count_tokens", "count_tokens"),
            ("/guardrail/gr-1/version/1/apply", "apply"),
            ("/sessions/", "sessions"),
            ("/foundation-models/amazon.nova-lite-v1:0", "foundation-models"),
            ("/", "other"),
            ("/1", "other"),
        ] {
            let call =
                Call { service: Service::BEDROCK_RUNTIME, path: path.into(), query: "".into(), model: None, asked: Asked::default() };
            assert_eq!(call.operation(), operation, "{path}");
        }
    }
}
