//! How much a body asks for: what estimates start from.
//!
//! One pass over the bytes, without a tree: strings are crossed by `memchr`, keys are compared where they stand. It never fails; of a body that is no
//! JSON it finds little.

use memchr::memchr2;

use crate::domain::Asked;

/// So many bytes of a string tell base64 from text.
const SAMPLE: usize = 64;

/// What a value under a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Text, where it is a string; also what is not known: a model that reads it pays for it.
    Text,
    /// The base64 of an image or a document; or the text of one, for Anthropic writes both under `data`.
    Data,
    /// What holds an image or a document, or its address.
    Medium,
    /// Its address, if what holds it is such.
    Address,
    /// The most output tokens.
    Most,
    /// How many answers are wanted, each with that bound.
    Answers,
    /// Whether the answer is to come as a stream.
    Stream,
    /// What holds either.
    Settings,
    /// Names and ids, which no model reads.
    Label,
}

fn kind(key: &[u8]) -> Kind {
    match key {
        b"bytes" | b"data" | b"file_data" => Kind::Data,
        b"image" | b"images" | b"inputImage" | b"image_url" | b"video_url" | b"source" | b"s3Location" | b"file_id" => Kind::Medium,
        b"url" | b"uri" => Kind::Address,
        b"maxTokens"
        | b"max_tokens"
        | b"max_tokens_to_sample"
        | b"maxTokenCount"
        | b"max_gen_len"
        | b"max_completion_tokens"
        | b"max_output_tokens"
        | b"max_new_tokens" => Kind::Most,
        b"n" | b"num_generations" => Kind::Answers,
        b"stream" => Kind::Stream,
        b"inferenceConfig" | b"textGenerationConfig" => Kind::Settings,
        b"role" | b"type" | b"format" | b"model" | b"modelId" | b"media_type" | b"anthropic_version" | b"anthropic_beta" | b"id"
        | b"toolUseId" | b"tool_use_id" | b"tool_call_id" | b"call_id" | b"signature" | b"detail" => Kind::Label,
        _ => Kind::Text,
    }
}

/// How much `body` asks for, as far as it tells. Bytes of text are those between the quotes, escapes as they stand. The most output tokens are believed
/// where the APIs put them only: a tool's arguments may hold a key of that name.
pub(super) fn weigh(body: &[u8]) -> Asked {
    let mut weight = Weight {
        asked: Asked::default(),
        answers: 1,
        stream: None,
        kind: Kind::Text,
        within: Kind::Text,
        settings: false,
        objects: 0,
        depth: 0,
        expects_key: false,
    };
    let mut rest = body;
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => weight.string(after),
            b'0'..=b'9' if matches!(weight.kind, Kind::Most | Kind::Answers) => weight.number(rest),
            b't' | b'f' if weight.kind == Kind::Stream => {
                weight.switch(rest);
                after
            }
            _ => {
                weight.punctuation(*byte);
                after
            }
        };
    }
    let max_tokens = weight.asked.max_tokens.map(|most| most.saturating_mul(weight.answers));
    Asked { max_tokens, streamed: weight.stream == Some(true), ..weight.asked }
}

struct Weight {
    asked: Asked,
    /// How many are wanted.
    answers: u64,
    /// Whether every word about it says that the answer is to be a stream; none without a word.
    stream: Option<bool>,
    /// Of the value under the last key.
    kind: Kind,
    /// Of the object that began last.
    within: Kind,
    /// Whether the object at the second level is one of settings.
    settings: bool,
    /// A bit a level: whether the container there is an object, the innermost in the lowest bit. What is beyond 128 levels is forgotten, and keys there
    /// count as text.
    objects: u128,
    depth: u32,
    expects_key: bool,
}

/// The bytes of a string up to its closing quote, what follows that, and whether there are escapes in it.
fn string(bytes: &[u8]) -> (&[u8], &[u8], bool) {
    let mut from = 0;
    while let Some(at) = memchr2(b'"', b'\\', bytes.get(from..).unwrap_or_default()).map(|at| from + at) {
        if bytes.get(at) == Some(&b'"') {
            return (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..).unwrap_or_default(), from > 0);
        }
        from = at + 2;
    }
    (bytes, &[], from > 0)
}

/// The kind that a key with escapes in it has: hidden so, a bound would be the upstream's and not ours.
fn escaped_kind(key: &[u8]) -> Kind {
    let key: Result<String, _> = serde_json::from_slice(&[b"\"", key, b"\""].concat());
    key.map_or(Kind::Text, |key| kind(key.as_bytes()))
}

/// Whether a string can be base64, or the `data:` URL of such. Text of any length has a space in it soon.
fn is_base64(text: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'\\' | b'-' | b'_');
    text.starts_with(b"data:") || text.iter().take(SAMPLE).all(is_digit)
}

impl Weight {
    fn string<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (text, rest, escaped) = string(bytes);
        if self.expects_key {
            self.expects_key = false;
            self.kind = if escaped { escaped_kind(text) } else { kind(text) };
            return rest;
        }
        let is_medium = match self.kind {
            Kind::Label => return rest,
            Kind::Text | Kind::Most | Kind::Answers | Kind::Stream | Kind::Settings => false,
            Kind::Medium => true,
            Kind::Data => is_base64(text),
            Kind::Address => self.within == Kind::Medium,
        };
        if is_medium {
            self.asked.media = self.asked.media.saturating_add(1);
        } else {
            self.asked.text_bytes = self.asked.text_bytes.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        }
        rest
    }

    /// The greatest counts, where there are several: an estimate must not be too low.
    fn number<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let length = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
        let (digits, rest) = bytes.split_at(length);
        // `1e5` and `1.5` are no count of tokens.
        let is_whole = !matches!(rest.first(), Some(b'.' | b'e' | b'E'));
        if is_whole && (self.depth == 1 || (self.depth == 2 && self.settings)) {
            let number = digits.iter().fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
            if self.kind == Kind::Most {
                self.asked.max_tokens = self.asked.max_tokens.max(Some(number));
            } else {
                self.answers = self.answers.max(number);
            }
        }
        self.kind = Kind::Text;
        rest
    }

    /// Of two words the one counts by which more is reserved: that it is no stream.
    fn switch(&mut self, bytes: &[u8]) {
        if self.depth == 1 {
            self.stream = Some(bytes.starts_with(b"true") && self.stream != Some(false));
        }
        self.kind = Kind::Text;
    }

    fn punctuation(&mut self, byte: u8) {
        match byte {
            b'{' => {
                self.within = self.kind;
                if self.depth == 1 {
                    self.settings = self.kind == Kind::Settings;
                }
                self.enter(true);
                self.kind = Kind::Text;
            }
            b'[' => self.enter(false),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.objects >>= 1;
                self.expects_key = false;
                if byte == b'}' {
                    self.kind = Kind::Text;
                }
            }
            b',' => self.expects_key = self.objects & 1 == 1,
            // No count of anything.
            b'-' => self.kind = Kind::Text,
            _ => {}
        }
    }

    fn enter(&mut self, object: bool) {
        self.depth = self.depth.saturating_add(1);
        self.objects = self.objects << 1 | u128::from(object);
        self.expects_key = object;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text_bytes: u64, media: u32, max_tokens: Option<u64>) -> Asked {
        Asked { text_bytes, media, max_tokens, ..Asked::default() }
    }

    #[test]
    fn every_shape_tells_its_text_its_media_and_its_bound() {
        for (body, expected) in [
            (
                r#"{"messages":[{"role":"user","content":[{"text":"hello"}]}],"system":[{"text":"be"}],"inferenceConfig":{"maxTokens":99,"temperature":0.5}}"#,
                asked(7, 0, Some(99)),
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"image":{"format":"png","source":{"bytes":"iVBORw0KGgo="}}},{"document":{"format":"pdf","name":"d","source":{"s3Location":{"uri":"s3://b/k"}}}},{"text":"x"}]}]}"#,
                asked(2, 2, None),
            ),
            (
                r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens":1024,"messages":[{"role":"user","content":"hi"},{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}},{"type":"document","source":{"type":"text","media_type":"text/plain","data":"a text of words"}}]}]}"#,
                asked(17, 1, Some(1024)),
            ),
            (
                r#"{"model":"m","max_completion_tokens":7,"messages":[{"role":"user","content":[{"type":"text","text":"abc"},{"type":"image_url","image_url":{"url":"https://a/b.png","detail":"low"}},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}"#,
                asked(3, 2, Some(7)),
            ),
            (r#"{"model":"m","input":"hello","instructions":"be","max_output_tokens":5}"#, asked(7, 0, Some(5))),
            (r#"{"inputText":"hi","textGenerationConfig":{"maxTokenCount":3}}"#, asked(2, 0, Some(3))),
            (r#"{"inputText":"hi","inputImage":"iVBORw0KGgo="}"#, asked(2, 1, None)),
            (r#"{"prompt":"a\"b","max_gen_len":4}"#, asked(4, 0, Some(4))),
            (r#"{"prompt":"ab","max_tokens_to_sample":4}"#, asked(2, 0, Some(4))),
            (r#"{"texts":["ab","cd"],"images":["AAAA","BBBB"]}"#, asked(4, 2, None)),
            (r#"{"inferenceConfig":{"max_new_tokens":12},"messages":[]}"#, asked(0, 0, Some(12))),
        ] {
            assert_eq!(weigh(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn a_bound_counts_where_the_api_puts_it_only() {
        for body in [
            r#"{"messages":[{"content":[{"toolUse":{"input":{"max_tokens":1}}}]}]}"#,
            r#"{"messages":[{"inferenceConfig":{"maxTokens":1}}]}"#,
            r#"{"tools":{"maxTokens":1}}"#,
            r#"{"max_tokens":1.5}"#,
            r#"{"max_tokens":1e3}"#,
            r#"{"max_tokens":null,"n":5}"#,
            r#"{"max_tokens":-5}"#,
            r#"{"prompt":"\"max_tokens\":5"}"#,
        ] {
            let found = weigh(body.as_bytes()).max_tokens;
            assert_eq!(found, None, "{body}");
        }
        assert_eq!(weigh(br#"{"max_tokens":1,"messages":[],"max_tokens":50}"#).max_tokens, Some(50));
        assert_eq!(weigh(br#"{"n":3,"max_tokens":10,"messages":[]}"#).max_tokens, Some(30), "each of three answers");
        assert_eq!(weigh(br#"{"max_tokens":1,"max\u005ftoken\u0073":50}"#).max_tokens, Some(50), "hidden by escapes");
        assert_eq!(weigh(br#"{"max_tokens":99999999999999999999999}"#).max_tokens, Some(u64::MAX));
    }

    #[test]
    fn a_body_asks_for_a_stream_by_its_own_word_only() {
        for (body, streamed) in [
            (r#"{"stream":true,"messages":[]}"#, true),
            (r#"{"model":"m", "stream" : true }"#, true),
            (r#"{"stream":true,"stream":true}"#, true),
            (r#"{"stream":false,"stream":true}"#, false),
            (r#"{"stream":true,"stream":false}"#, false),
            (r#"{"stream":false,"tools":[true]}"#, false),
            (r#"{"stream":null,"store":true}"#, false),
            (r#"{"stream":true,"str\u0065am":false}"#, false),
            (r#"{"stream":"true"}"#, false),
            (r#"{"stream":[true]}"#, false),
            (r#"{"stream":{"stream":true}}"#, false),
            (r#"{"stream_options":{"stream":true}}"#, false),
            (r#"{"prompt":"\"stream\":true"}"#, false),
            (r#"{"messages":[{"stream":true}]}"#, false),
        ] {
            assert_eq!(weigh(body.as_bytes()).streamed, streamed, "{body}");
        }
    }

    #[test]
    fn what_is_no_json_weighs_something_or_nothing_and_never_panics() {
        for body in [&b""[..], b"{", b"\"", b"{\"a\":\"\\", b"{\"max_tokens\":", b"]]]}}}", b"{\"a\":\"\\\"", b"\xff\xfe", b",,,{,"] {
            weigh(body);
        }
        let deep = [&b"[".repeat(1_000)[..], &b"{\"a\":".repeat(1_000), b"\"text\"", &b"}]".repeat(2_000)].concat();
        assert!(weigh(&deep).text_bytes >= 4);
    }

    proptest::proptest! {
        #[test]
        fn it_weighs_what_serde_reads(texts in proptest::collection::vec("[a-z \\\\\"\n\u{e9}]{0,40}", 0..8), most in proptest::option::of(0_u64..1_000_000)) {
            let messages: Vec<_> = texts.iter().map(|text| serde_json::json!({"role": "user", "content": [{"text": text}]})).collect();
            let mut body = serde_json::json!({"messages": messages});
            if let Some(most) = most {
                body["max_tokens"] = most.into();
            }
            let expected: usize = texts.iter().map(|text| serde_json::to_string(text).unwrap().len() - 2).sum();
            let expected = asked(expected as u64, 0, most);
            proptest::prop_assert_eq!(weigh(body.to_string().as_bytes()), expected);
            proptest::prop_assert_eq!(weigh(serde_json::to_string_pretty(&body).unwrap().as_bytes()), expected);
        }

        #[test]
        fn no_body_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            weigh(&body);
        }
    }
}
