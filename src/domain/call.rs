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
    /// Whether the answer is to come as a stream, as far as path and body tell.
    pub streamed: bool,
    /// Whether no model answers, though one may be named: of what reads, lists, deletes or sets something up.
    pub of_no_model: bool,
}

/// Bytes of text that are taken for a token of input. A byte-level tokenizer reads English at four bytes a token, code and other languages at two to three
/// and a half.
const BYTES_A_TOKEN: u64 = 3;
/// Tokens of an image or a document: at most about 1,600 (Anthropic's figure for the largest image that is not scaled down: width x height / 750), and a
/// page of a document has about as many.
const MEDIA_TOKENS: u64 = 1_600;

impl Asked {
    /// An estimate of the input tokens: rather too many than too few.
    #[must_use]
    pub fn input_tokens(&self) -> u64 {
        self.text_bytes.div_ceil(BYTES_A_TOKEN).saturating_add(u64::from(self.media).saturating_mul(MEDIA_TOKENS))
    }

    /// Whether there is nothing in it that a model could read.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self { streamed: self.streamed, of_no_model: self.of_no_model, ..Self::default() }
    }
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
    #[test]
    fn input_is_estimated_at_three_bytes_a_token_and_rounded_up() {
        for (text_bytes, media, tokens) in [
            (0, 0, 0),
            (1, 0, 1),
            (3, 0, 1),
            (4, 0, 2),
            (300, 0, 100),
            (0, 2, 3_200),
            (7, 1, 1_603),
            (u64::MAX, 0, u64::MAX / 3),
            (0, u32::MAX, u64::from(u32::MAX) * 1_600),
        ] {
            // What comes out, and how, is not of the input.
            for asked in [Asked { max_tokens: Some(9), ..Asked::default() }, Asked { streamed: true, ..Asked::default() }] {
                assert_eq!(Asked { text_bytes, media, ..asked }.input_tokens(), tokens, "{text_bytes} {media}");
            }
        }
    }

    #[test]
    fn what_has_no_text_no_media_and_no_bound_asks_for_nothing() {
        let nothing = Asked::default();
        assert!(nothing.is_nothing());
        assert!(Asked { streamed: true, ..nothing }.is_nothing(), "how it is to come is no question");
        for something in
            [Asked { text_bytes: 1, ..nothing }, Asked { media: 1, ..nothing }, Asked { max_tokens: Some(0), streamed: true, ..nothing }]
        {
            assert!(!something.is_nothing(), "{something:?}");
        }
    }
}
