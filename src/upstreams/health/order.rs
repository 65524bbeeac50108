//! Which of several targets a try goes to. Never to none: one that is ill may still answer, and nobody else would.

use std::time::Instant;

use super::Verdict;

/// All `targets`: those that may be tried in the order they came in, then what is throttled, then what is ejected, each by how soon that is over.
///
/// A probe that is not tried now must be dropped, or nobody else can take its place: [`choose`] takes none in vain.
#[must_use]
pub fn order<T>(targets: impl IntoIterator<Item = (T, Verdict)>) -> Vec<(T, Verdict)> {
    let mut ordered: Vec<(T, Verdict)> = targets.into_iter().collect();
    ordered.sort_by_key(|(_, verdict)| rank(verdict));
    ordered
}

/// The first of [`order`]; none where there is no target at all. It asks no further than to the first that may be tried.
#[must_use]
pub fn choose<T>(targets: impl IntoIterator<Item = (T, Verdict)>) -> Option<(T, Verdict)> {
    let mut best: Option<(T, Verdict)> = None;
    for (target, verdict) in targets {
        if rank(&verdict) == Rank::Now {
            return Some((target, verdict));
        }
        if best.as_ref().is_none_or(|(_, best)| rank(&verdict) < rank(best)) {
            best = Some((target, verdict));
        }
    }
    best
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Now,
    Throttled(Instant),
    Ejected(Instant),
}

const fn rank(verdict: &Verdict) -> Rank {
    match verdict {
        Verdict::Fit | Verdict::Probe(_) => Rank::Now,
        Verdict::Throttled { until } => Rank::Throttled(*until),
        Verdict::Ejected { until } => Rank::Ejected(*until),
    }
}
