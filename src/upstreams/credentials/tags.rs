//! What the sessions of a role are tagged with: a principal's attributes, as AWS takes them.
//!
//! Invariant: two attributes that differ have two values. What AWS would refuse is written otherwise and ends in a part of its SHA-256; what looks as if it
//! had been is written so too.

use std::sync::Arc;

use aws_lc_rs::digest;

use crate::config::upstreams::Attribute;
use crate::domain::{Principal, hex};

/// The longest value, in characters (API reference of STS, `Tag`).
const LONGEST: usize = 256;

/// What stands between a value that was changed and the digits of its hash.
const MARK: char = '=';

/// So many digits of the SHA-256: 96 bits.
const DIGITS: usize = 24;

/// The tags of an upstream's sessions.
#[derive(Debug)]
pub(super) struct Tags(Vec<(String, Attribute)>);

/// Whom a session is for: the values of its tags. Cheap to clone, and at most 3 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Who {
    tenant: Option<Arc<str>>,
    user: Option<Arc<str>>,
    group: Option<Arc<str>>,
}

impl Tags {
    pub(super) const fn new(tags: Vec<(String, Attribute)>) -> Self {
        Self(tags)
    }

    /// Whom the session is for that `principal` calls by: all principals of whom the tags tell the same share one.
    pub(super) fn who(&self, principal: &Principal) -> Who {
        let mut who = Who::default();
        for (_, attribute) in &self.0 {
            match attribute {
                Attribute::Tenant => who.tenant = value(&principal.tenant),
                Attribute::User => who.user = principal.user.as_ref().and_then(value),
                // The same whatever order a token lists them in.
                Attribute::Group => who.group = principal.groups.iter().min().and_then(value),
            }
        }
        who
    }

    /// The tags of such a session; those without a value are left out.
    pub(super) fn of<'a>(&'a self, who: &'a Who) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(|(key, attribute)| {
            let value = match attribute {
                Attribute::Tenant => &who.tenant,
                Attribute::User => &who.user,
                Attribute::Group => &who.group,
            };
            Some((key.as_str(), value.as_deref()?))
        })
    }
}

/// `raw` as the value of a tag; none where it is empty.
fn value(raw: &Arc<str>) -> Option<Arc<str>> {
    if raw.is_empty() {
        return None;
    }
    Some(if is_taken_as_it_is(raw) { Arc::clone(raw) } else { rewritten(raw).into() })
}

fn is_taken_as_it_is(raw: &str) -> bool {
    raw.chars().take(LONGEST + 1).count() <= LONGEST
        && raw.chars().all(may_stand)
        && raw.trim() == raw
        && !is_reserved(raw)
        && !is_rewritten(raw)
}

/// AWS keeps `aws:` for its own, in values of some services too.
fn is_reserved(raw: &str) -> bool {
    raw.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
}

/// Whether it looks as if it had been rewritten: else somebody could be called what another's name becomes.
fn is_rewritten(raw: &str) -> bool {
    raw.rsplit_once(MARK).is_some_and(|(_, end)| end.len() == DIGITS && end.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

fn rewritten(raw: &str) -> String {
    let room = LONGEST - DIGITS - 1;
    let mut text: String = raw.chars().take(room).map(|c| if may_stand(c) { c } else { '_' }).collect();
    if is_reserved(&text) || text.starts_with(' ') {
        text.replace_range(..1, "_");
    }
    text.push(MARK);
    let hash = hex(digest::digest(&digest::SHA256, raw.as_bytes()).as_ref());
    text.push_str(hash.get(..DIGITS).unwrap_or_default());
    text
}

/// Whether AWS takes it in a value (`[\p{L}\p{Z}\p{N}_.:/=+\-@]`). Beyond ASCII, only letters of blocks that hold nothing else: of other characters the
/// standard library tells no category.
fn may_stand(c: char) -> bool {
    match c {
        'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '.' | ':' | '/' | '=' | '+' | '-' | '@' | ' ' => true,
        // Latin, Greek and Cyrillic, Hebrew, Arabic, Japanese, Chinese, Korean.
        '\u{c0}'..='\u{24f}' | '\u{370}'..='\u{481}' | '\u{48a}'..='\u{52f}' | '\u{5d0}'..='\u{5ea}' | '\u{620}'..='\u{64a}' => {
            c.is_alphabetic()
        }
        '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => c.is_alphabetic(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Method;

    fn mapped(raw: &str) -> String {
        value(&raw.into()).unwrap().to_string()
    }

    fn principal(tenant: &str, user: Option<&str>, groups: &[&str]) -> Principal {
        Principal {
            tenant: tenant.into(),
            user: user.map(Into::into),
            groups: groups.iter().map(|group| Arc::from(*group)).collect(),
            method: Method::Jwt,
            key_id: None,
        }
    }

    fn all() -> Tags {
        Tags::new(vec![
            ("cost-center".to_owned(), Attribute::Tenant),
            ("who".to_owned(), Attribute::User),
            ("team".to_owned(), Attribute::Group),
        ])
    }

    #[test]
    fn what_aws_takes_is_left_as_it_is() {
        for raw in [
            "acme",
            "Müller & Söhne".replace('&', "+").as_str(),
            "a b",
            "arn:aws:iam::1:role/x",
            "me@example.com",
            "株式会社",
            &"x".repeat(256),
        ] {
            assert_eq!(mapped(raw), *raw);
        }
    }

    #[test]
    fn what_aws_refuses_is_written_otherwise_and_ends_in_its_hash() {
        assert_eq!(mapped("a&b"), "a_b=4e012385d7caf8417f8a9dcb");
        for raw in ["a,b", " a", "a ", "aws:x", "AWS:x", "a\u{301}", "Ⓐ", "\u{a0}", &"x".repeat(257)] {
            assert_eq!(mapped(raw).chars().rev().nth(DIGITS), Some(MARK), "{raw}");
        }
    }

    #[test]
    fn nobody_can_be_called_what_anothers_name_becomes() {
        let taken = mapped("a&b");
        assert_ne!(mapped(&taken), taken);
    }

    #[test]
    fn a_principal_without_a_user_or_group_has_no_such_tag() {
        let tags = all();
        let who = tags.who(&principal("acme", None, &[]));
        assert_eq!(tags.of(&who).collect::<Vec<_>>(), [("cost-center", "acme")]);
        let who = tags.who(&principal("acme", Some(""), &["ops", "dev"]));
        assert_eq!(tags.of(&who).collect::<Vec<_>>(), [("cost-center", "acme"), ("team", "dev")]);
    }

    #[test]
    fn only_what_the_tags_tell_makes_sessions_differ() {
        let tags = Tags::new(vec![("t".to_owned(), Attribute::Tenant)]);
        assert_eq!(tags.who(&principal("acme", Some("a"), &["x"])), tags.who(&principal("acme", Some("b"), &[])));
        let (one, other) = (all().who(&principal("acme", Some("a"), &["x", "y"])), all().who(&principal("acme", Some("a"), &["y", "x"])));
        assert_eq!(one, other, "groups in any order");
        assert_ne!(one, all().who(&principal("acme", Some("b"), &["x", "y"])));
    }

    proptest! {
        #[test]
        fn whatever_a_name_holds_aws_takes_its_value(raw in "\\PC{1,300}") {
            let value = mapped(&raw);
            prop_assert!(value.chars().count() <= LONGEST && value.chars().all(may_stand) && !is_reserved(&value) && value.trim() == value, "{value}");
        }

        #[test]
        fn two_names_never_share_a_value(one in "[ab&,=é ]{1,4}", other in "[ab&,=é ]{1,4}") {
            prop_assert_eq!(one == other, mapped(&one) == mapped(&other));
        }
    }
}
