//! What limits did and what they leave. Rules are named by the configuration, so their names are bounded.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec};

use super::super::entry::Entry;
use super::super::families::Families;
use super::super::labels::Posted;
use super::Metrics;
use crate::domain::{LimitWarning, Subject};

pub(super) type Read = dyn Fn(&Subject) -> Vec<LimitLevel> + Send;

/// Where a caller stands under one limit. Amounts are in its units of account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitLevel {
    /// The limit's name.
    pub limit: Arc<str>,
    /// What it counts, as gateway.yaml calls it.
    pub count: &'static str,
    /// Units of account that make one of what is counted: a power of ten.
    pub scale: u64,
    /// The most at once, or in a period.
    pub capacity: u64,
    /// What is used.
    pub used: u64,
    /// What calls under way hold.
    pub held: u64,
    /// The time until nothing more is used, if nothing more is taken.
    pub reset: Duration,
    /// When the period ends, in seconds since 1970; none where there are no periods.
    pub ends: Option<u64>,
}

impl LimitLevel {
    /// What could be taken at once now.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.capacity.saturating_sub(self.used).saturating_sub(self.held)
    }
}

/// What limits did, rule by rule, and who knows what they leave.
pub(super) struct Limits {
    refusals: IntCounterVec,
    shadow: IntCounterVec,
    cuts: IntCounterVec,
    warnings: IntCounterVec,
    posts: [IntCounter; Posted::ALL.len()],
    /// What is asked how much a caller has left.
    pub(super) read: Mutex<Option<Box<Read>>>,
}

impl Limits {
    pub(super) fn build(families: &Families<'_>) -> Self {
        let posts = families.counters("tollgate_webhook_posts_total", "Warnings for the webhook, by what became of them.", &["outcome"]);
        Self {
            refusals: families.counters("tollgate_limit_refusals_total", "Exchanges that a limit refused.", &["limit"]),
            shadow: families.counters("tollgate_limit_shadow_total", "Exchanges that a limit in shadow would have refused.", &["limit"]),
            cuts: families.counters("tollgate_limit_cuts_total", "Streams that a limit ended.", &["limit"]),
            warnings: families.counters(
                "tollgate_limit_warnings_total",
                "Quotas whose use passed a share at which their rule warns, in percent.",
                &["limit", "percent"],
            ),
            posts: Posted::ALL.map(|outcome| posts.with_label_values(&[outcome.label()])),
            read: Mutex::default(),
        }
    }

    pub(super) fn count(&self, entry: &Entry<'_>) {
        for rule in entry.shadow_limits {
            self.shadow.with_label_values(&[&**rule]).inc();
        }
        if let (Some(limit), Some(_)) = (entry.limit, entry.reason) {
            // A refusal has a status of its own. Once the upstream's has gone out, all that a limit can do is end the answer.
            let cut = entry.status.is_some_and(|status| status < 300);
            if cut { &self.cuts } else { &self.refusals }.with_label_values(&[limit]).inc();
        }
    }

    pub(super) fn posts(&self) -> [IntCounter; Posted::ALL.len()] {
        self.posts.clone()
    }
}

impl Metrics {
    /// Shows what the rule `limit`, which warns at these shares, did from the beginning, at zero.
    pub fn limit(&self, limit: &str, shadow: bool, cut: bool, warn_at: &[u8]) {
        let Limits { refusals, shadow: shadows, cuts, warnings, .. } = &self.limits;
        drop(if shadow { shadows } else { refusals }.with_label_values(&[limit]));
        if cut {
            drop(cuts.with_label_values(&[limit]));
        }
        for percent in warn_at {
            drop(warnings.with_label_values(&[limit, &percent.to_string()]));
        }
    }

    /// Counts a quota whose use passed a share at which its rule warns.
    pub(in super::super) fn limit_warned(&self, warning: &LimitWarning) {
        self.limits.warnings.with_label_values(&[&*warning.rule, &warning.percent.to_string()]).inc();
    }

    /// What became of posts to the webhook, by [`Posted::ALL`].
    pub(in super::super) fn webhook_posts(&self) -> [IntCounter; Posted::ALL.len()] {
        self.limits.posts()
    }

    /// Has `read` asked how much a caller has left, from now on: at each scrape each tenant that was counted. It must not block.
    pub fn limits(&self, read: impl Fn(&Subject) -> Vec<LimitLevel> + Send + 'static) {
        *self.limits.read.lock() = Some(Box::new(read));
    }

    /// How much `subject` has left under each limit that tells callers apart by what it has and by nothing else; nothing where nobody was said to know
    /// ([`Metrics::limits`]).
    #[must_use]
    pub fn limits_of(&self, subject: &Subject) -> Vec<LimitLevel> {
        self.limits.read.lock().as_ref().map(|read| read(subject)).unwrap_or_default()
    }
}
