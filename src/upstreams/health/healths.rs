//! The health of every upstream, by its name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::window::Window;
use super::{Health, Standing};
use crate::config::upstreams::{Health as Config, Upstream};
use crate::domain::Ejection;

/// What is known of every upstream. It lives on while configurations come and go, and holds no more upstreams than they name.
#[derive(Debug, Default)]
pub struct Healths(Mutex<HashMap<Arc<str>, Arc<Health>>>);

/// How one upstream stands, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthLevel {
    /// Its key in the configuration.
    pub upstream: Arc<str>,
    /// It is left alone.
    pub ejected: bool,
    /// So many of its models are left alone because AWS throttles them; at most 256.
    pub throttled: u64,
    /// How often it was ejected, by [`Ejection::ALL`].
    pub ejections: [u64; Ejection::ALL.len()],
}

impl Healths {
    /// Nothing is known yet: all are well.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The health of `upstream` under `rule`, as it stands. A changed rule keeps what is known, but for the counts of a window of another length; one
    /// that is switched off knows nothing.
    #[must_use]
    pub fn of(self: &Arc<Self>, upstream: &Arc<str>, rule: &Config) -> Arc<Health> {
        let mut all = self.0.lock();
        let known = all.get(upstream);
        if let Some(health) = known.filter(|health| health.rule == *rule) {
            return Arc::clone(health);
        }
        let health = Arc::new(Health::following(known.map(|known| &**known), rule));
        all.insert(Arc::clone(upstream), Arc::clone(&health));
        health
    }

    /// Forgets every upstream that is not among `names`.
    pub fn retain<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let names: Vec<&str> = names.into_iter().collect();
        self.0.lock().retain(|upstream, _| names.contains(&&**upstream));
    }

    /// Knows exactly these `upstreams` from now on: those that a configuration names that begins to be served.
    pub fn follow(self: &Arc<Self>, upstreams: &[Upstream]) {
        for upstream in upstreams {
            drop(self.of(&upstream.name, &upstream.health));
        }
        self.retain(upstreams.iter().map(|upstream| &*upstream.name));
    }

    /// How each stands whose health is kept, in no order.
    #[must_use]
    pub fn levels(&self, now: Instant) -> Vec<HealthLevel> {
        let kept: Vec<_> = self.0.lock().iter().map(|(upstream, health)| (Arc::clone(upstream), Arc::clone(health))).collect();
        let kept = kept.into_iter().filter(|(_, health)| health.rule != Config::Off);
        kept.map(|(upstream, health)| {
            let state = health.standing.state.lock();
            HealthLevel {
                upstream,
                ejected: state.illness.is_ejected(),
                throttled: u64::try_from(state.throttled.parked(now)).unwrap_or(u64::MAX),
                ejections: state.illness.counts(),
            }
        })
        .collect()
    }
}

impl Health {
    /// Under `rule`, with what `before` knows.
    fn following(before: Option<&Self>, rule: &Config) -> Self {
        let length = |rule: &Config| match rule {
            Config::On(rule) => rule.window,
            // Nothing is counted.
            Config::Off => Duration::ZERO,
        };
        let kept = before.filter(|before| before.rule != Config::Off && *rule != Config::Off);
        Self {
            rule: rule.clone(),
            window: kept
                .filter(|kept| length(&kept.rule) == length(rule))
                .map_or_else(|| Arc::new(Window::new(length(rule))), |kept| Arc::clone(&kept.window)),
            standing: kept.map_or_else(Arc::<Standing>::default, |kept| Arc::clone(&kept.standing)),
        }
    }
}
