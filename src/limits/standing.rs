//! Where a caller stands under a rule.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::bucket::{Bucket, Terms};
use super::rule::Judge;
use crate::config::limits::Count;

/// Where a caller stands under one rule. Amounts are in units of account ([`Count::scale`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The rule's name.
    pub rule: Arc<str>,
    /// What it counts.
    pub count: Count,
    /// The most at once, or in a period.
    pub limit: u64,
    /// What is used.
    pub used: u64,
    /// What calls under way hold.
    pub held: u64,
    /// The time until nothing more is used, if nothing more is taken: a bucket has refilled, a period has ended.
    pub reset: Duration,
    /// When the period of a quota ends, in seconds since 1970.
    pub ends: Option<u64>,
}

impl Standing {
    pub(super) fn of(rule: &Judge, terms: Terms, bucket: Bucket, now: u64) -> Self {
        let reset = match terms {
            Terms::Quota { ends_in, .. } => ends_in,
            Terms::Rate { .. } => bucket.settle(bucket.held, bucket.held, terms, now).idle_at().saturating_sub(now),
            Terms::Max { .. } => 0,
        };
        Self {
            rule: Arc::clone(&rule.name),
            count: rule.count,
            limit: terms.capacity(),
            used: bucket.used,
            held: bucket.held,
            reset: Duration::from_nanos(reset),
            ends: if let Terms::Quota { ends, .. } = terms { Some(ends) } else { None },
        }
    }

    /// What is left, in units of account.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used).saturating_sub(self.held)
    }
}

/// Where a caller stands under the tightest rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of requests; none where no rule counts them.
    pub requests: Option<Standing>,
    /// Of tokens.
    pub tokens: Option<Standing>,
}

impl Rates {
    #[inline]
    pub(super) fn note(&mut self, rule: &Judge, terms: Terms, bucket: Bucket, now: u64) {
        let place = match rule.count {
            Count::Requests => &mut self.requests,
            Count::Tokens => &mut self.tokens,
            Count::Usd | Count::Concurrency => return,
        };
        // Least left first; of equals, the one that takes longest.
        let remaining = terms.capacity().saturating_sub(bucket.taken());
        if place.as_ref().is_some_and(|tightest| tightest.remaining() < remaining) {
            return;
        }
        let standing = Standing::of(rule, terms, bucket, now);
        let rank = |standing: &Standing| (standing.remaining(), Reverse(standing.reset));
        if place.as_ref().is_none_or(|tightest| rank(&standing) < rank(tightest)) {
            *place = Some(standing);
        }
    }
}
