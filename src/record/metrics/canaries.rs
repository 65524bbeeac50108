//! How canaries stand. They are named by the configuration, so their names are bounded; what is gone from it is gone from here.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{GaugeVec, IntCounterVec, Opts};

use super::super::families::{Families, known_good};
use super::Metrics;

type Read = dyn Fn() -> Vec<CanaryShare> + Send;

/// How one canary stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryShare {
    /// Its route.
    pub route: Arc<str>,
    /// The target's name.
    pub target: Arc<str>,
    /// Its share of the route's calls, in parts of a million.
    pub share: u32,
    /// How often this process stepped it up,
    pub ups: u64,
    /// and back.
    pub backs: u64,
}

/// What is shown of canaries, and who knows it.
pub(super) struct Canaries {
    shares: GaugeVec,
    steps: IntCounterVec,
    read: Mutex<Option<Box<Read>>>,
}

impl Canaries {
    pub(super) fn build(families: &Families<'_>) -> Self {
        let share = Opts::new("tollgate_canary_share", "The share of its route's calls that a canary gets: 0 to 1.");
        Self {
            shares: families.register(known_good(GaugeVec::new(share, &["route", "target"]))),
            steps: families.counters(
                "tollgate_canary_steps_total",
                "Changes of a canary's share by this process: up, or back to nothing because it was worse than its baseline.",
                &["route", "target", "direction"],
            ),
            read: Mutex::default(),
        }
    }

    /// Asks how each stands, and shows that and nothing else.
    pub(super) fn take(&self) {
        let shares = self.read.lock().as_ref().map(|read| read()).unwrap_or_default();
        self.shares.reset();
        self.steps.reset();
        for CanaryShare { route, target, share, ups, backs } in shares {
            self.shares.with_label_values(&[&*route, &*target]).set(f64::from(share) / 1e6);
            self.steps.with_label_values(&[&*route, &*target, "up"]).inc_by(ups);
            self.steps.with_label_values(&[&*route, &*target, "back"]).inc_by(backs);
        }
    }
}

impl Metrics {
    /// Has `read` asked how each canary stands, from now on at each scrape. It must not wait for anything but a lock.
    pub fn canaries(&self, read: impl Fn() -> Vec<CanaryShare> + Send + 'static) {
        *self.canaries.read.lock() = Some(Box::new(read));
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn every_canary_that_is_configured_is_shown_and_none_that_is_gone() {
        let metrics = Metrics::new();
        let lines = || -> Vec<String> {
            let text = metrics.render(SystemTime::UNIX_EPOCH);
            text.lines().filter(|line| line.starts_with("tollgate_canary_")).map(str::to_owned).collect()
        };
        assert_eq!(lines(), [""; 0], "nobody was said to know");
        let one = CanaryShare { route: "chat".into(), target: "new".into(), share: 250_000, ups: 1, backs: 0 };
        metrics.canaries(move || vec![one.clone()]);
        for _ in 0..2 {
            let expected = [
                r#"tollgate_canary_share{route="chat",target="new"} 0.25"#,
                r#"tollgate_canary_steps_total{direction="back",route="chat",target="new"} 0"#,
                r#"tollgate_canary_steps_total{direction="up",route="chat",target="new"} 1"#,
            ];
            assert_eq!(lines(), expected);
        }
        metrics.canaries(Vec::new);
        assert_eq!(lines(), [""; 0]);
    }
}
