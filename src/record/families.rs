//! Makes families of metrics in a registry.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Makes families in a registry.
pub(super) struct Families<'a> {
    pub(super) registry: &'a Registry,
}

impl Families<'_> {
    pub(super) fn counter(&self, name: &'static str, help: &'static str) -> IntCounter {
        self.register(known_good(IntCounter::new(name, help)))
    }

    pub(super) fn counters(&self, name: &'static str, help: &'static str, labels: &[&'static str]) -> IntCounterVec {
        self.register(known_good(IntCounterVec::new(Opts::new(name, help), labels)))
    }

    pub(super) fn gauge(&self, name: &'static str, help: &'static str, label: Option<(&'static str, &'static str)>) -> IntGauge {
        let opts = match label {
            Some((label, value)) => Opts::new(name, help).const_label(label, value),
            None => Opts::new(name, help),
        };
        self.register(known_good(IntGauge::with_opts(opts)))
    }

    pub(super) fn histogram(&self, name: &'static str, help: &'static str, buckets: &[f64]) -> Histogram {
        self.register(known_good(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))))
    }

    pub(super) fn register<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        known_good(self.registry.register(Box::new(collector.clone())));
        collector
    }
}

/// A family's error is a bad or double name, and names are literals.
#[expect(clippy::expect_used, reason = "names, labels and buckets are literals of this room; `Metrics::new` in any test tries them all")]
pub(super) fn known_good<T>(made: prometheus::Result<T>) -> T {
    made.expect("a metric's name is valid and used once")
}
