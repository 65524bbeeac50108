//! What the metrics say at one moment, as values: for people who look, not for Prometheus.

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use prometheus::core::Metric as _;

use super::super::labels::Attempt;
use super::super::tenants::{TenantFigures, figures};
use super::Metrics;
use crate::domain::Reason;

/// Everything that the live page shows, since the process began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Exchanges that have begun and not ended.
    pub in_flight: u64,
    /// The gateway's own delay.
    pub overhead: Distribution,
    /// Exchanges that were refused or broken off, by the label of each reason; those that there were.
    pub refusals: Vec<(&'static str, u64)>,
    /// Tries to have a request answered upstream, by the label of each outcome; all of them.
    pub attempts: Vec<(&'static str, u64)>,
    /// Tries at one target of a route that were given up for another.
    pub failovers: u64,
    /// When the credentials of an upstream expire, by its key; those that do.
    pub expiries: Vec<(Box<str>, SystemTime)>,
    /// What each tenant did, by name.
    pub tenants: Vec<TenantFigures>,
}

/// How many of what was observed were at most so large.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// The upper bounds, in seconds, ascending.
    pub bounds: Vec<f64>,
    /// How many were within each bound, all smaller ones included; one more at the end, for all there are.
    pub counts: Vec<u64>,
}

impl Metrics {
    /// What the metrics say now. It takes milliseconds where there are many series; call it off the threads that serve.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let all = self.table.all();
        let mut refusals = Reason::ALL.map(|reason| (reason.label(), 0_u64));
        for cells in all.iter().filter_map(|series| series.refusals.get()) {
            for ((_, sum), cell) in refusals.iter_mut().zip(cells.iter()) {
                *sum = sum.saturating_add(cell.load(Relaxed));
            }
        }
        let overhead = self.overhead.metric();
        let overhead = overhead.get_histogram();
        let buckets = overhead.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
        let (bounds, mut counts): (Vec<_>, Vec<_>) = buckets.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())).unzip();
        counts.push(overhead.get_sample_count());
        Figures {
            in_flight: u64::try_from(self.in_flight.get()).unwrap_or_default(),
            overhead: Distribution { bounds, counts },
            refusals: refusals.into_iter().filter(|(_, count)| *count > 0).collect(),
            attempts: Attempt::ALL.iter().zip(self.upstreams.attempts()).map(|(outcome, count)| (outcome.label(), count)).collect(),
            failovers: self.upstreams.failovers(),
            expiries: self.expiries.lock().iter().map(|(upstream, expiry)| (upstream.clone(), *expiry)).collect(),
            tenants: figures(&all),
        }
    }
}
