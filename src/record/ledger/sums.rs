//! What is counted in one row of the ledger.

use crate::domain::{Basis, Cost, Usage};
use crate::record::entry::{Entry, Metered};

/// How many counts a row has.
pub(super) const COUNTS: usize = 20;

/// The columns of the counts, in the order of [`Sums`].
pub(super) const COLUMNS: [&str; COUNTS] = [
    "calls",
    "refused",
    "failed",
    "estimated_calls",
    "unpriced_calls",
    "input",
    "output",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "reasoning",
    "estimated_input",
    "estimated_output",
    "guardrail_topic",
    "guardrail_content",
    "guardrail_content_image",
    "guardrail_sensitive_information",
    "guardrail_contextual_grounding",
    "guardrail_automated_reasoning",
    "cost_picos",
];

/// Counts of exchanges, in the order of [`COLUMNS`]. None goes beyond what a column of the file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums(pub(super) [u64; COUNTS]);

/// The most that an INTEGER of `SQLite` holds.
pub(super) const MOST: u64 = i64::MAX.cast_unsigned();

impl Sums {
    /// What one exchange counts. An exchange is refused, or failed, or neither: a refusal's status is no second fault.
    pub(super) fn of(entry: &Entry<'_>) -> Self {
        let refused = entry.reason.is_some();
        let failed = !refused && (!entry.complete || entry.status.is_none_or(|status| status >= 400));
        let estimated = entry.usage.is_some_and(|usage| usage.basis == Basis::Estimated);
        let unpriced = entry.cost == Cost::Unpriced;
        Self::used([1, refused.into(), failed.into(), estimated.into(), unpriced.into()], entry.usage, entry.cost)
    }

    /// What a try that was given up counts beside its exchange: no call, and what it used.
    pub(super) fn of_try(metered: &Metered<'_>) -> Self {
        let Metered { tried, usage, newly_unpriced, newly_estimated } = *metered;
        Self::used([0, 0, 0, newly_estimated.into(), newly_unpriced.into()], Some(usage), tried.cost)
    }

    fn used([calls, refused, failed, estimated_calls, unpriced_calls]: [u64; 5], usage: Option<&Usage>, cost: Cost) -> Self {
        let (tokens, guardrail) = usage.map(|usage| (usage.tokens, usage.guardrail)).unwrap_or_default();
        let estimated = usage.is_some_and(|usage| usage.basis == Basis::Estimated);
        let of_estimated = |count: u64| if estimated { count } else { 0 };
        let picos = match cost {
            Cost::Priced(usd) => usd.picos(),
            Cost::Nothing | Cost::Unpriced => 0,
        };
        let counts = [
            calls,
            refused,
            failed,
            estimated_calls,
            unpriced_calls,
            tokens.input,
            tokens.output,
            tokens.cache_read,
            tokens.cache_write_5m,
            tokens.cache_write_1h,
            tokens.reasoning,
            of_estimated(tokens.input),
            of_estimated(tokens.output),
            guardrail.topic,
            guardrail.content,
            guardrail.content_image,
            guardrail.sensitive_information,
            guardrail.contextual_grounding,
            guardrail.automated_reasoning,
            picos,
        ];
        Self(counts.map(|count| count.min(MOST)))
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(more).min(MOST);
        }
    }
}
