//! The path of an operation in the one form that patterns are compared with.

use std::borrow::Cow;

/// A path as rules and routes see it: lower case; every escape decoded but those of `/`, `%` and what is no printable ASCII, so that the segments stay as the
/// upstream will find them; and no slash at the end.
#[derive(Debug)]
pub struct CanonicalPath<'c>(Cow<'c, str>);

impl<'c> CanonicalPath<'c> {
    /// The form of a raw path.
    #[must_use]
    pub fn of(raw: &'c str) -> Self {
        let plain = |byte: &u8| *byte != b'%' && !byte.is_ascii_uppercase();
        let form = if raw.as_bytes().iter().all(plain) { Cow::Borrowed(raw) } else { Cow::Owned(decoded(raw)) };
        Self(match form {
            Cow::Borrowed(path) => Cow::Borrowed(trimmed(path)),
            Cow::Owned(path) => Cow::Owned(trimmed(&path).to_owned()),
        })
    }

    /// The form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn trimmed(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    }
}

fn decoded(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let escape = after.get(..2).filter(|digits| !digits.starts_with('+')).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escape {
            Some(byte) if byte.is_ascii_graphic() && !matches!(byte, b'/' | b'%') => {
                out.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                out.push('%');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out.make_ascii_lowercase();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_path_has_one_form() {
        for (raw, form) in [
            ("/model/amazon.nova-lite-v1:0/converse", "/model/amazon.nova-lite-v1:0/converse"),
            ("/model/amazon.nova-lite-v1%3A0/converse", "/model/amazon.nova-lite-v1:0/converse"),
            ("/%6dodel/x/%63onverse", "/model/x/converse"),
            ("/Model/X/Converse/", "/model/x/converse"),
            ("/model/a%2Fb/invoke", "/model/a%2fb/invoke"),
            ("/model/a%2fb/invoke", "/model/a%2fb/invoke"),
            ("/model/%2563/invoke", "/model/%2563/invoke"),
            ("/caf%C3%A9", "/caf%c3%a9"),
            ("/", "/"),
            ("/sessions/", "/sessions"),
            ("/a%", "/a%"),
            ("/a%4", "/a%4"),
            ("/a%+1b", "/a%+1b"),
        ] {
            assert_eq!(CanonicalPath::of(raw).as_str(), form, "{raw}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_panics_and_a_form_is_its_own_form(raw in "\\PC*") {
            let form = decoded(&raw);
            // An escaped escape stays what it is: it is decoded once.
            if !form.contains('%') {
                let again = CanonicalPath::of(&form);
                proptest::prop_assert_eq!(again.as_str(), trimmed(&form));
            }
        }

        #[test]
        fn escaping_any_letters_changes_nothing(path in "/model/[a-z0-9.:-]{1,30}/(converse|invoke)", mask in proptest::num::u64::ANY) {
            let spelled: String = path.bytes().enumerate().map(|(at, byte)| match byte {
                b'/' => "/".to_owned(),
                _ if mask >> (at % 64) & 1 == 1 => format!("%{byte:02x}"),
                _ => char::from(byte).to_string(),
            }).collect();
            let form = CanonicalPath::of(&spelled);
            proptest::prop_assert_eq!(form.as_str(), path);
        }
    }
}
