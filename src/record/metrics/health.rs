//! How upstreams are. They are named by the configuration, so their names are bounded; what is gone from it is gone from here.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, Opts};

use super::super::families::{Families, known_good};
use super::Metrics;
use crate::domain::Ejection;

type Read = dyn Fn() -> Vec<UpstreamLevel> + Send;

/// How one upstream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamLevel {
    /// Its key in the configuration.
    pub upstream: Arc<str>,
    /// It is left alone for a while.
    pub ejected: bool,
    /// So many of its models are left alone because AWS throttles them.
    pub throttled: u64,
    /// How often it was ejected, by [`Ejection::ALL`].
    pub ejections: [u64; Ejection::ALL.len()],
}

/// What is shown of upstreams' health, and who knows it.
pub(super) struct Health {
    ejected: GaugeVec,
    throttled: GaugeVec,
    ejections: IntCounterVec,
    budget_exhausted: IntCounter,
    read: Mutex<Option<Box<Read>>>,
}

impl Health {
    pub(super) fn build(families: &Families<'_>) -> Self {
        let gauges = |name, help| families.register(known_good(GaugeVec::new(Opts::new(name, help), &["upstream"])));
        Self {
            ejected: gauges("tollgate_upstream_ejected", "1 while an upstream is left alone because it failed, else 0."),
            throttled: gauges("tollgate_upstream_throttled", "Models that are left alone at an upstream because AWS throttles them there."),
            ejections: families.counters("tollgate_upstream_ejections_total", "Ejections of an upstream, by cause.", &["upstream", "why"]),
            budget_exhausted: families
                .counter("tollgate_retry_budget_exhausted_total", "Retries that were not made because there had been too many."),
            read: Mutex::default(),
        }
    }

    /// Asks how each stands, and shows that and nothing else.
    pub(super) fn take(&self) {
        let levels = self.read.lock().as_ref().map(|read| read()).unwrap_or_default();
        self.ejected.reset();
        self.throttled.reset();
        self.ejections.reset();
        for UpstreamLevel { upstream, ejected, throttled, ejections } in levels {
            self.ejected.with_label_values(&[&*upstream]).set(if ejected { 1.0 } else { 0.0 });
            self.throttled.with_label_values(&[&*upstream]).set(f64::from(u32::try_from(throttled).unwrap_or(u32::MAX)));
            for (why, count) in Ejection::ALL.into_iter().zip(ejections) {
                self.ejections.with_label_values(&[&*upstream, why.label()]).inc_by(count);
            }
        }
    }
}

impl Metrics {
    /// Has `read` asked how each upstream stands, from now on at each scrape. It must not block.
    pub fn health(&self, read: impl Fn() -> Vec<UpstreamLevel> + Send + 'static) {
        *self.health.read.lock() = Some(Box::new(read));
    }

    /// Counts a retry that was not made because there had been too many.
    pub fn retry_budget_exhausted(&self) {
        self.health.budget_exhausted.inc();
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn every_upstream_that_is_configured_is_shown_and_none_that_is_gone() {
        let metrics = Metrics::new();
        let lines = || -> Vec<String> {
            let text = metrics.render(SystemTime::UNIX_EPOCH);
            text.lines().filter(|line| line.starts_with("tollgate_upstream_") && line.contains("upstream=")).map(str::to_owned).collect()
        };
        assert_eq!(lines(), [""; 0], "nobody was said to know");
        let level = |upstream: &str| UpstreamLevel { upstream: upstream.into(), ejected: true, throttled: 3, ejections: [1, 2, 0, 4] };
        metrics.health(move || vec![level("use1"), UpstreamLevel { ejected: false, ..level("usw2") }]);
        for _ in 0..2 {
            let shown = lines();
            assert_eq!(shown.len(), 12, "{shown:?}");
            for line in [
                r#"tollgate_upstream_ejected{upstream="use1"} 1"#,
                r#"tollgate_upstream_ejected{upstream="usw2"} 0"#,
                r#"tollgate_upstream_throttled{upstream="use1"} 3"#,
                r#"tollgate_upstream_ejections_total{upstream="use1",why="failures"} 1"#,
                r#"tollgate_upstream_ejections_total{upstream="use1",why="error_rate"} 2"#,
                r#"tollgate_upstream_ejections_total{upstream="use1",why="first_byte"} 0"#,
                r#"tollgate_upstream_ejections_total{upstream="usw2",why="probe"} 4"#,
            ] {
                assert!(shown.iter().any(|shown| shown == line), "no {line} in {shown:?}");
            }
        }
        metrics.health(move || vec![level("usw2")]);
        assert!(lines().len() == 6 && lines().iter().all(|line| line.contains("usw2")));
    }
}
