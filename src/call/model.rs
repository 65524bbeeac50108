//! The model a call names: in the path (`/model/{id}/…`), or at the top level of an OpenAI- or Anthropic-shaped body.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// Bedrock's own bound on a model id or ARN.
const MODEL_MAX: usize = 2048;

/// The id in `/model/{id}/…`, decoded once.
pub(super) fn from_path(path: &str) -> Option<Cow<'_, str>> {
    let id = path.strip_prefix("/model/")?.split('/').next()?;
    let id = percent_decode_str(id).decode_utf8().ok()?;
    (!id.is_empty() && id.len() <= MODEL_MAX).then_some(id)
}

/// The first `"model"` at the top level, where it is a string.
pub(super) fn from_body(body: &[u8]) -> Option<String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let model = json.deserialize_map(TopLevel).ok().flatten()?;
    (!model.is_empty() && model.len() <= MODEL_MAX).then_some(model)
}

/// Walks the object and skips what it does not want, so that no tree is built.
struct TopLevel;

impl<'de> Visitor<'de> for TopLevel {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut model = None;
        while let Some(IsModel(is_model)) = map.next_key()? {
            if is_model && model.is_none() {
                // A value of another kind is the upstream's to refuse.
                model = map.next_value::<serde_json::Value>()?.as_str().map(str::to_owned);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(model)
    }
}

/// Whether a key is `model`, without keeping the key.
struct IsModel(bool);

impl<'de> Deserialize<'de> for IsModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key;
        impl Visitor<'_> for Key {
            type Value = IsModel;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, key: &str) -> Result<IsModel, E> {
                Ok(IsModel(key == "model"))
            }
        }
        deserializer.deserialize_str(Key)
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
    fn a_body_names_its_model_at_the_top_level_only() {
        assert_eq!(from_body(br#"{"messages":[{"model":"inner"}],"model":"openai.gpt-oss-20b"}"#).unwrap(), "openai.gpt-oss-20b");
        assert_eq!(from_body(br#"{"mod\u0065l":"escaped"}"#).unwrap(), "escaped");
        assert_eq!(from_body(br#"{"messages":[{"model":"inner"}]}"#), None);
        assert_eq!(from_body(br#"{"model":1}"#), None);
        assert_eq!(from_body(b"{not json"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            drop(from_body(&body));
        }
    }
}
