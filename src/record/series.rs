//! What is counted under one set of labels that come from calls.
//!
//! A set costs some hundred bytes; what only some exchanges need is made when the first of them comes.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use aws_lc_rs::digest;

use super::histogram::Histogram;
use super::labels::StatusClass;
use crate::domain::{GuardrailUnits, Reason, SERVICES, TokenKind, hex};

/// The services, and one more for exchanges of which none is known.
pub(super) const SERVICE_LABELS: usize = SERVICES.len() + 1;

/// What stands for names that have no series of their own.
pub(super) const OTHER: &str = "other";

/// The longest label value, in bytes.
const LONGEST: usize = 128;
/// How many of the digits of its hash end a value that was cut.
const HASH_DIGITS: usize = 16;

/// The labels of a set; empty where nothing is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Names<'a> {
    pub(super) tenant: Cow<'a, str>,
    pub(super) model: Cow<'a, str>,
    pub(super) operation: Cow<'a, str>,
    pub(super) upstream: Cow<'a, str>,
}

impl<'a> Names<'a> {
    /// These names, each cut to 128 bytes. Allocates nothing unless one is longer.
    pub(super) fn new(tenant: &'a str, model: &'a str, operation: &'a str, upstream: &'a str) -> Self {
        Self { tenant: cut(tenant), model: cut(model), operation: cut(operation), upstream: cut(upstream) }
    }

    /// The set that counts for whoever has none.
    pub(super) fn others(upstream: &'a str) -> Self {
        Self::new(OTHER, OTHER, OTHER, upstream)
    }

    pub(super) fn is_others(&self) -> bool {
        [&self.tenant, &self.model, &self.operation].into_iter().all(|name| name == OTHER)
    }

    pub(super) fn into_owned(self) -> Names<'static> {
        let owned = |name: Cow<'a, str>| Cow::Owned(name.into_owned());
        Names { tenant: owned(self.tenant), model: owned(self.model), operation: owned(self.operation), upstream: owned(self.upstream) }
    }

    /// For sorting: tenants together, and each one's models.
    pub(super) fn order(&self) -> [&str; 4] {
        [&self.tenant, &self.model, &self.operation, &self.upstream]
    }
}

/// At most 128 bytes. A longer value ends in digits of its SHA-256, so that two of them stay two, after a restart as before.
fn cut(value: &str) -> Cow<'_, str> {
    if value.len() <= LONGEST {
        return Cow::Borrowed(value);
    }
    let end = value.floor_char_boundary(LONGEST - HASH_DIGITS - 1);
    let hash = hex(digest::digest(&digest::SHA256, value.as_bytes()).as_ref());
    Cow::Owned(format!("{}~{}", value.get(..end).unwrap_or_default(), hash.get(..HASH_DIGITS).unwrap_or_default()))
}

/// Whether a label may be no name but the beginning of one.
pub(super) fn is_cut(value: &str) -> bool {
    value.len() > LONGEST - 4 && value.rsplit_once('~').is_some_and(|(_, hash)| hash.len() == HASH_DIGITS)
}

/// A label's value as the text format has it within quotes.
pub(super) fn escaped(value: &str) -> Cow<'_, str> {
    if value.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        return Cow::Owned(value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n"));
    }
    Cow::Borrowed(value)
}

/// Everything that is counted under one set of labels.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) names: Names<'static>,
    /// `tenant="…",model="…",operation="…",upstream="…"`, escaped.
    pub(super) labels: Box<str>,
    /// By service, then by class.
    pub(super) requests: [OnceLock<Box<[AtomicU64; StatusClass::ALL.len()]>>; SERVICE_LABELS],
    pub(super) refusals: OnceLock<Box<[AtomicU64; Reason::ALL.len()]>>,
    pub(super) metered: OnceLock<Box<Metered>>,
}

/// What is counted of calls to models.
#[derive(Debug, Default)]
pub(super) struct Metered {
    pub(super) tokens: Kinds,
    pub(super) reasoning: AtomicU64,
    pub(super) estimated: Kinds,
    pub(super) unpriced: Kinds,
    pub(super) unpriced_requests: AtomicU64,
    pub(super) guardrail: [AtomicU64; GUARDRAIL_POLICIES.len()],
    /// In picodollars: 18 million dollars at most.
    pub(super) cost: AtomicU64,
    pub(super) input: OnceLock<Histogram>,
    pub(super) output: OnceLock<Histogram>,
    pub(super) duration: OnceLock<Histogram>,
    pub(super) first_token: OnceLock<Histogram>,
    pub(super) per_token: OnceLock<Histogram>,
}

/// Tokens, by [`TokenKind::ALL`].
pub(super) type Kinds = [AtomicU64; TokenKind::ALL.len()];

/// The labels of `policy` in `tollgate_guardrail_units_total`.
pub(super) const GUARDRAIL_POLICIES: [&str; 6] =
    ["topic", "content", "content_image", "sensitive_information", "contextual_grounding", "automated_reasoning"];

/// The units, by [`GUARDRAIL_POLICIES`].
pub(super) const fn guardrail_units(units: &GuardrailUnits) -> [u64; GUARDRAIL_POLICIES.len()] {
    [units.topic, units.content, units.content_image, units.sensitive_information, units.contextual_grounding, units.automated_reasoning]
}

impl Series {
    pub(super) fn new(names: Names<'_>) -> Self {
        let labels = format!(
            r#"tenant="{}",model="{}",operation="{}",upstream="{}""#,
            escaped(&names.tenant),
            escaped(&names.model),
            escaped(&names.operation),
            escaped(&names.upstream)
        );
        Self {
            names: names.into_owned(),
            labels: labels.into(),
            requests: [const { OnceLock::new() }; SERVICE_LABELS],
            refusals: OnceLock::new(),
            metered: OnceLock::new(),
        }
    }

    pub(super) fn metered(&self) -> &Metered {
        self.metered.get_or_init(Box::default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_and_stay_apart() {
        let (one, two) = ("ä".repeat(500) + "1", "ä".repeat(500) + "2");
        assert!(cut(&one).len() <= LONGEST && cut(&one).len() > LONGEST - 4);
        assert_ne!(cut(&one), cut(&two));
        assert!(is_cut(&cut(&one)) && !is_cut(&"x".repeat(LONGEST)));
        assert_eq!(cut(&one), cut(&one.clone()));
        let short = "x".repeat(LONGEST);
        assert!(matches!(cut(&short), Cow::Borrowed(same) if same == short));
    }

    #[test]
    fn values_are_escaped_by_the_rules_of_the_format() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
        assert!(matches!(escaped("us.amazon.nova-lite-v1:0"), Cow::Borrowed(_)));
    }
}
