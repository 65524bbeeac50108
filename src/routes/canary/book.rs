//! Every canary, over reloads, and over restarts where somebody keeps what is to be kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;

use super::super::Routes;
use super::{Canary, CanaryLevel, Step};
use crate::config::routes::Route as Config;
use crate::domain::KeptCanary;

/// So many are remembered that are no more configured, or not so: a rule that comes back finds what it had come to.
const MOST_KEPT: usize = 1_000;

/// The canaries of all routes that are served, and what is known of others.
#[derive(Debug, Default)]
pub struct Canaries(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    serving: Vec<Arc<Canary>>,
    /// By route, as it was kept last.
    kept: BTreeMap<Box<str>, KeptCanary>,
}

impl Canaries {
    /// Those of which this was kept.
    #[must_use]
    pub fn new(kept: Vec<KeptCanary>) -> Self {
        let kept = kept.into_iter().take(MOST_KEPT).map(|kept| (kept.route.clone(), kept)).collect();
        Self(Mutex::new(Held { serving: Vec::new(), kept }))
    }

    /// The canary of a route: the one that serves, where it is configured the same; as it was kept, where that was so; else a new one.
    pub(in super::super) fn of(&self, route: &Config) -> Option<Arc<Canary>> {
        let held = self.0.lock();
        let canary = Canary::new(route, held.kept.get(&*route.name))?;
        let known = held.serving.iter().find(|known| known.route == canary.route && known.hash == canary.hash);
        Some(known.map_or_else(|| Arc::new(canary), Arc::clone))
    }

    /// From now on the canaries of `routes` serve, and no others.
    pub fn follow(&self, routes: &Routes, now: Instant, wall: SystemTime) {
        let mut held = self.0.lock();
        held.serving.clear();
        for canary in routes.canaries() {
            if !held.serving.iter().any(|known| Arc::ptr_eq(known, canary)) {
                canary.begin(now, wall);
                held.serving.push(Arc::clone(canary));
            }
        }
    }

    /// Steps of those whose share is to change.
    pub fn tick(&self, now: Instant, wall: SystemTime) -> Vec<Step> {
        self.serving().iter().filter_map(|canary| canary.tick(now, wall)).collect()
    }

    /// What is to be kept, and is not yet.
    #[must_use]
    pub fn unkept(&self) -> Vec<KeptCanary> {
        let held = self.0.lock();
        let new = held.serving.iter().filter_map(|canary| canary.to_keep());
        new.filter(|canary| held.kept.get(&canary.route) != Some(canary)).collect()
    }

    /// This is kept.
    pub fn keep(&self, canary: KeptCanary) {
        let mut held = self.0.lock();
        if held.kept.len() >= MOST_KEPT && !held.kept.contains_key(&canary.route) {
            let is_serving = |kept: &KeptCanary| held.serving.iter().any(|canary| *canary.route == *kept.route);
            let oldest = held.kept.values().filter(|kept| !is_serving(kept)).min_by_key(|kept| kept.since);
            if let Some(route) = oldest.map(|oldest| oldest.route.clone()) {
                held.kept.remove(&route);
            }
        }
        held.kept.insert(canary.route.clone(), canary);
    }

    /// Takes over what other processes have kept that is later. Returns the canaries whose share is another now.
    pub fn adopt(&self, kept: &[KeptCanary], now: Instant) -> Vec<Arc<Canary>> {
        let mut adopted = Vec::new();
        for canary in self.serving() {
            if let Some(kept) = kept.iter().find(|kept| *kept.route == *canary.route)
                && canary.adopt(kept, now)
            {
                self.keep(kept.clone());
                adopted.push(canary);
            }
        }
        adopted
    }

    /// Has the canary of a route begin anew at its first step. Returns it as it stands then, and what its share was; none where the route has none.
    pub fn reset(&self, route: &str, now: Instant, wall: SystemTime) -> Option<(CanaryLevel, u32)> {
        let canary = self.serving().into_iter().find(|canary| *canary.route == *route)?;
        let was = canary.reset(now, wall);
        Some((canary.level(now), was))
    }

    /// How each stands, in the order of the routes.
    #[must_use]
    pub fn levels(&self, now: Instant) -> Vec<CanaryLevel> {
        self.serving().iter().map(|canary| canary.level(now)).collect()
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> Vec<KeptCanary> {
        self.0.lock().kept.values().cloned().collect()
    }

    fn serving(&self) -> Vec<Arc<Canary>> {
        self.0.lock().serving.clone()
    }
}
