//! Whether a canary is worse than its baseline.
//!
//! Two things must hold: it is worse by more than the rule's margin, and that is not chance. A margin alone would do for large numbers; of a hundred calls
//! of two sides that are alike, one has two percentage points more failures than the other every few minutes, and a canary is looked at every second.
//!
//! Of failures: were both sides alike, then of all that failed the canary would have its share of all calls. The probability that it has as many as it has,
//! or more, is bounded by Hoeffding's inequality (1963, theorem 1 in its sharp form, which holds for drawing without replacement too, theorem 4), whatever
//! the numbers: `exp(-n D)`, where `D` is the divergence of the share that it has from the one that is its due. Of times: the difference of the means of
//! their logarithms, in units of its own deviation (Welch's), which is that of a normal distribution for as many calls as are asked for.

use super::figures::Figures;
use crate::config::routes::Promote;

/// What is as improbable as `exp(-12)`, one in 160,000, is no chance. By deviations that is 4.9.
const BEYOND_CHANCE: f64 = 12.0;

/// By what a canary is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// More of its calls fail.
    Errors,
    /// Its first token takes longer.
    FirstToken,
}

impl Why {
    /// The word for it in logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::FirstToken => "first_token",
        }
    }
}

/// Whether there were enough calls of both to say anything.
pub(super) fn says_something(rule: &Promote, canary: &Figures, baseline: &Figures) -> bool {
    canary.calls.min(baseline.calls) >= rule.min_requests
}

/// By what the canary is worse, where it is.
pub(super) fn worse(rule: &Promote, canary: &Figures, baseline: &Figures) -> Option<Why> {
    if !says_something(rule, canary, baseline) {
        return None;
    }
    let margin = f64::from(rule.errors) / 1e6;
    if canary.error_rate() - baseline.error_rate() > margin && failures(canary, baseline) >= BEYOND_CHANCE {
        return Some(Why::Errors);
    }
    let margin = (1.0 + f64::from(rule.first_token?) / 100.0).ln();
    if canary.timed.min(baseline.timed) < rule.min_requests {
        return None;
    }
    let slower = canary.mean_log() - baseline.mean_log();
    let variance = canary.variance_of_mean() + baseline.variance_of_mean();
    (slower > margin && slower * slower >= 2.0 * BEYOND_CHANCE * variance).then_some(Why::FirstToken)
}

/// The negative logarithm of the bound of the probability that the canary has so many of all failures by chance; 0 where it has no more than is its due.
/// There are calls of both.
fn failures(canary: &Figures, baseline: &Figures) -> f64 {
    let (mine, all) = (f64::from(canary.failed), f64::from(canary.failed) + f64::from(baseline.failed));
    let due = f64::from(canary.calls) / (f64::from(canary.calls) + f64::from(baseline.calls));
    let has = mine / all.max(1.0);
    if has <= due {
        return 0.0;
    }
    let rest = if has < 1.0 { (1.0 - has) * ((1.0 - has) / (1.0 - due)).ln() } else { 0.0 };
    all * (has * (has / due).ln() + rest)
}
