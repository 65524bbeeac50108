//! The model a call names: in the path (`/model/{id}/…`), or at the top level of its body.
//!
//! A policy judges what is found here, so nothing that the upstream may read otherwise is passed over: the path's first segment counts in any spelling,
//! a key of the body in any case, and a body with two such keys, or with something behind its end, is refused.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use percent_encoding::percent_decode_str;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::CallError;
use crate::domain::{Call, Service};

/// Bedrock's own bound on a model id or ARN.
const MODEL_MAX: usize = 2048;

/// The id in `/model/{id}/…`, decoded once.
pub(super) fn from_path(path: &str) -> Option<Cow<'_, str>> {
    let mut segments = path.strip_prefix('/')?.split('/');
    percent_decode_str(segments.next()?).eq(*b"model").then_some(())?;
    let id = percent_decode_str(segments.next()?).decode_utf8().ok()?;
    (!id.is_empty() && id.len() <= MODEL_MAX).then_some(id)
}

/// The key of the body that names the model of a call, where there is one (botocore 1.44.5; the shapes of OpenAI and Anthropic).
pub(super) fn key_in_body(call: &Call) -> Option<&'static str> {
    let segment = call.path.strip_prefix('/')?.split('/').next()?;
    let is = |name: &[u8]| percent_decode_str(segment).eq(name.iter().copied());
    match call.service {
        Service::BEDROCK_RUNTIME if is(b"async-invoke") => Some("modelId"),
        // ApplyGuardrail runs none, and its bodies may be long.
        Service::BEDROCK_RUNTIME if is(b"guardrail") || is(b"guardrail-checks") => None,
        Service::BEDROCK_RUNTIME | Service::BEDROCK_MANTLE => Some("model"),
        Service::BEDROCK => Some("modelId"),
        Service::BEDROCK_AGENT | Service::BEDROCK_AGENT_RUNTIME => Some("foundationModel"),
        _ => None,
    }
}

/// Whether a body begins as an object of JSON: after white space (RFC 8259, section 2), or a byte order mark that some readers step over.
pub(super) fn begins_as_object(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    body.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) == Some(&b'{')
}

/// The text under `key` at the top level, in any case: some readers of JSON take no notice of it. A value of another kind is the upstream's to refuse.
pub(super) fn from_body(body: &[u8], key: &'static str) -> Result<Option<String>, CallError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let found = json.deserialize_map(TopLevel { key }).and_then(|found| json.end().map(|()| found)).map_err(|_| CallError::BadBody)?;
    match found {
        Found::Nothing => Ok(None),
        Found::Once(value) => {
            Ok(serde_json::from_str::<String>(value.get()).ok().filter(|model| !model.is_empty() && model.len() <= MODEL_MAX))
        }
        Found::Twice => Err(CallError::ModelTwice),
    }
}

/// Where in `body` the value stands that [`from_body`] reads, its quotes included.
pub(super) fn place_in_body(body: &[u8], key: &'static str) -> Option<Range<usize>> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let Found::Once(value) = json.deserialize_map(TopLevel { key }).ok()? else { return None };
    // It is borrowed from the body, so its address tells where it stands.
    let start = value.get().as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    Some(start..start.checked_add(value.get().len()).filter(|end| *end <= body.len())?)
}

/// What stands under the key.
enum Found<'de> {
    Nothing,
    Once(&'de RawValue),
    Twice,
}

/// Walks the object and skips what it does not want, so that no tree is built.
struct TopLevel {
    key: &'static str,
}

impl<'de> Visitor<'de> for TopLevel {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<'de>, A::Error> {
        let mut found = Found::Nothing;
        while let Some(is_key) = map.next_key_seed(Is(self.key))? {
            if !is_key {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            found = match found {
                Found::Nothing => Found::Once(map.next_value()?),
                Found::Once(_) | Found::Twice => {
                    map.next_value::<IgnoredAny>()?;
                    Found::Twice
                }
            };
        }
        Ok(found)
    }
}

/// Whether a key is this one, in any case, without keeping it.
struct Is(&'static str);

impl<'de> DeserializeSeed<'de> for Is {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key.eq_ignore_ascii_case(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_of_a_model_id_decode_to_the_same() {
        for path in ["/model/anthropic.claude-v1%3A0/converse", "/model/anthropic.claude-v1:0/invoke"] {
            assert_eq!(from_path(path).unwrap(), "anthropic.claude-v1:0");
        }
        let arn = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc/converse";
        assert_eq!(from_path(arn).unwrap(), "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc");
        assert_eq!(from_path("/model//converse"), None);
        assert_eq!(from_path("/foundation-models/x"), None);
        assert_eq!(from_path("/model/%ff/converse"), None);
    }

    #[test]
    fn no_spelling_of_the_first_segment_hides_the_model() {
        for path in ["/%6dodel/opus/converse", "/%6D%6f%64%65%6C/opus/converse", "/model/%6fpus/converse", "/model/opus", "/model/opus/"] {
            assert_eq!(from_path(path).as_deref(), Some("opus"), "{path}");
        }
        // AWS has no such route; what names no model is judged as such.
        for path in ["/MODEL/opus/converse", "/model%2Fopus/converse", "/v1/model/opus", "/models/opus/x", "/model"] {
            assert_eq!(from_path(path), None, "{path}");
        }
        assert_eq!(from_path("/model/%256fpus/converse").as_deref(), Some("%6fpus"), "decoded once");
    }

    fn named(body: &[u8]) -> Result<Option<String>, CallError> {
        from_body(body, "model")
    }

    #[test]
    fn a_body_names_its_model_at_the_top_level_only() {
        let is = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(named(br#"{"messages":[{"model":"inner"}],"model":"openai.gpt-oss-20b"}"#), is("openai.gpt-oss-20b"));
        assert_eq!(named(br#"{"mod\u0065l":"esc\u0061ped"}"#), is("escaped"));
        assert_eq!(named(br#"{"MODEL":"any-case"}"#), is("any-case"));
        assert_eq!(named(br#"{"messages":[{"model":"inner"}]}"#), Ok(None));
        for other in
            [&br#"{"model":1}"#[..], br#"{"model":null}"#, br#"{"model":["x"]}"#, br#"{"model":{"model":"x"}}"#, br#"{"model":""}"#, b"{}"]
        {
            assert_eq!(named(other), Ok(None), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn a_body_with_two_models_is_nobodys_to_guess() {
        for body in [
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a","messages":[],"mod\u0065l":"b"}"#,
            r#"{"model":"a","Model":"b"}"#,
            r#"{"model":1,"model":"b"}"#,
            r#"{"model":"a","model":null}"#,
            r#"{"model":"a","model":"b","model":"c"}"#,
        ] {
            assert_eq!(named(body.as_bytes()), Err(CallError::ModelTwice), "{body}");
        }
    }

    #[test]
    fn a_body_that_readers_may_read_in_two_ways_is_refused() {
        for body in [
            &b"{not json"[..],
            br#"{"model":"a""#,
            br#"{"model":"a"}{"model":"b"}"#,
            br#"{"model":"a"} x"#,
            br#"{"model":"a",}"#,
            br"{'model':'a'}",
            br#"{"model":"a"/**/}"#,
            b"{\"model\":\"\xff\"}",
            b"\xef\xbb\xbf{\"model\":\"a\"}",
            b"{\0\"\0m\0",
        ] {
            assert!(begins_as_object(body));
            assert_eq!(named(body), Err(CallError::BadBody), "{}", String::from_utf8_lossy(body));
        }
        assert!(begins_as_object(b" \n\t\r{"));
        for body in [&b""[..], b"x", b"[{}]", b"\xff\xfe{\0", b"\x1f\x8b", b"\xc2\xa0{"] {
            assert!(!begins_as_object(body));
        }
    }

    #[test]
    fn the_key_is_that_of_the_operation() {
        let key = |service, path: &str| {
            key_in_body(&Call { service, path: path.into(), query: "".into(), model: None, asked: crate::domain::Asked::default() })
        };
        for (service, path, expected) in [
            (Service::BEDROCK_RUNTIME, "/openai/v1/chat/completions", Some("model")),
            (Service::BEDROCK_RUNTIME, "/anthropic/v1/messages", Some("model")),
            (Service::BEDROCK_RUNTIME, "/async-invoke", Some("modelId")),
            (Service::BEDROCK_RUNTIME, "/%61sync-invoke", Some("modelId")),
            (Service::BEDROCK_RUNTIME, "/guardrail/g/version/1/apply", None),
            (Service::BEDROCK_MANTLE, "/v1/responses", Some("model")),
            (Service::BEDROCK, "/model-invocation-job", Some("modelId")),
            (Service::BEDROCK_AGENT_RUNTIME, "/agents/S", Some("foundationModel")),
            (Service::BEDROCK_AGENTCORE, "/runtimes/x/invocations", None),
        ] {
            assert_eq!(key(service, path), expected, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_body_and_no_path_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200), path in "\\PC*") {
            drop(named(&body));
            drop(from_path(&path));
        }
    }
}
