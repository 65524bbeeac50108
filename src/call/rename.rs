//! The same call for a model of another name: where the path names it, or where the body does.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::model;
use crate::domain::Call;

/// What a segment of a path keeps as it is: RFC 3986's unreserved characters (section 2.3). AWS's SDKs encode all else, `:` and `/` among it.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The body of the same call for another model, where it is the body that names it.
#[derive(Debug, PartialEq, Eq)]
pub struct Renamed {
    /// Where the old name stands in the body, its quotes included.
    pub place: Range<usize>,
    /// What is to stand there: a string of JSON.
    pub name: String,
}

/// Gives `call` the model `name`: in its path, encoded once, where that names one. Returns what is to change in `body` where that does.
///
/// A call that names no model at all is left as it is: where one stands is not known.
pub fn rename(call: &mut Call, body: &[u8], name: &str) -> Option<Renamed> {
    call.model.as_ref()?;
    if let Some((before, after)) = around(&call.path) {
        let encoded: Cow<'_, str> = utf8_percent_encode(name, SEGMENT).into();
        call.path = [before, &encoded, after].concat().into();
        call.model = Some(name.into());
        return None;
    }
    let place = model::place_in_body(body, model::key_in_body(call)?)?;
    call.model = Some(name.into());
    Some(Renamed { place, name: serde_json::Value::from(name).to_string() })
}

/// What stands before and after the model's segment in a path that has one.
fn around(path: &str) -> Option<(&str, &str)> {
    model::from_path(path)?;
    let second = path.match_indices('/').nth(1)?.0 + 1;
    let (before, rest) = path.split_at_checked(second)?;
    let (_, after) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
    Some((before, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Asked, Service};

    fn call(path: &str, model: Option<&str>) -> Call {
        let model = model.map(Into::into);
        Call { service: Service::BEDROCK_RUNTIME, path: path.into(), query: "".into(), model, asked: Asked::default() }
    }

    fn put(body: &str, renamed: &Renamed) -> String {
        let mut body = body.to_owned();
        body.replace_range(renamed.place.clone(), &renamed.name);
        body
    }

    #[test]
    fn a_name_in_the_path_is_encoded_once_and_the_rest_is_left_alone() {
        let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a b";
        for (path, renamed) in [
            (
                "/model/sonnet/converse",
                "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fa%20b/converse",
            ),
            (
                "/%6dodel/son%6eet/%63onverse/",
                "/%6dodel/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fa%20b/%63onverse/",
            ),
            ("/model/sonnet", "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fa%20b"),
        ] {
            let mut call = call(path, Some("sonnet"));
            assert_eq!(rename(&mut call, b"{\"model\":\"not here\"}", arn), None);
            assert_eq!((&*call.path, call.model.as_deref()), (renamed, Some(arn)));
            assert_eq!(model::from_path(&call.path).as_deref(), Some(arn), "read back");
        }
    }

    #[test]
    fn a_name_in_the_body_is_replaced_where_it_stands() {
        for body in [
            r#"{"model":"sonnet","messages":[]}"#,
            r#" { "messages" : [{"model":"inner"}] , "m\u006fdel" : "s\u006fnnet" , "x":1}"#,
            r#"{"MODEL":"sonnet"}"#,
        ] {
            let mut call = call("/openai/v1/chat/completions", Some("sonnet"));
            let renamed = rename(&mut call, body.as_bytes(), "a\"b:0").unwrap();
            let after = put(body, &renamed);
            assert_eq!(model::from_body(after.as_bytes(), "model").unwrap().as_deref(), Some("a\"b:0"), "{after}");
            assert_eq!(after.len(), body.len() - renamed.place.len() + renamed.name.len());
            assert_eq!((&*call.path, call.model.as_deref()), ("/openai/v1/chat/completions", Some("a\"b:0")));
        }
    }

    #[test]
    fn what_names_no_model_is_left_as_it_is() {
        for (path, body) in
            [("/openai/v1/chat/completions", "{}"), ("/guardrail/g/version/1/apply", r#"{"model":"x"}"#), ("/model/m/x", "")]
        {
            let mut call = call(path, None);
            assert_eq!(rename(&mut call, body.as_bytes(), "other"), None);
            assert_eq!((&*call.path, call.model.as_deref()), (path, None));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_name_reads_back_from_path_and_body(name in "\\PC{1,60}", old in "[a-z.:%/-]{1,20}") {
            let mut by_path = call(&format!("/model/{}/converse", utf8_percent_encode(&old, SEGMENT)), Some(&old));
            rename(&mut by_path, b"", &name);
            proptest::prop_assert_eq!(model::from_path(&by_path.path).unwrap_or_default(), &*name);
            let body = serde_json::json!({ "a": old, "model": old, "z": [old] }).to_string();
            let mut by_body = call("/v1/x", Some(&old));
            let renamed = rename(&mut by_body, body.as_bytes(), &name).unwrap();
            let after = put(&body, &renamed);
            proptest::prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&after).unwrap(), serde_json::json!({ "a": old, "model": name, "z": [old] }));
        }
    }
}
