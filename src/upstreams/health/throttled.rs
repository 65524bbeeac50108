//! Models that Bedrock said 429 for.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use super::illness::doubled;
use super::{after, jittered};

/// So many models of one upstream are remembered; a newcomer takes the place of the oldest.
pub(super) const MODELS: usize = 256;
/// Without a `Retry-After`, a model is left alone for so long, then for twice as long, and so on.
const FIRST: Duration = Duration::from_secs(1);
/// But no longer than this.
const MOST: Duration = Duration::from_secs(30);
/// A model that is throttled again within this time was throttled twice in a row.
const MEMORY: Duration = Duration::from_secs(30);

/// The models of one upstream that are left alone for a while.
///
/// Models are known by a hash under a key of the process: names come from callers, and a collision, which nobody can bring about, leaves a model alone
/// for nothing.
#[derive(Debug, Default)]
pub(super) struct Throttled {
    hash: RandomState,
    models: HashMap<u64, Park>,
    /// Before this time nothing is forgotten.
    next: Option<Instant>,
}

#[derive(Debug)]
struct Park {
    begun: Instant,
    until: Instant,
    /// How many times in a row it was throttled.
    steps: u32,
}

impl Throttled {
    /// How many are remembered, those included that may be asked for again.
    pub(super) fn len(&self) -> usize {
        self.models.len()
    }

    /// How many are left alone now.
    pub(super) fn parked(&self, now: Instant) -> usize {
        self.models.values().filter(|park| now < park.until).count()
    }

    /// Until when `model` is left alone, if it is.
    pub(super) fn until(&self, model: Option<&str>, now: Instant) -> Option<Instant> {
        let park = self.models.get(&self.key(model))?;
        (now < park.until).then_some(park.until)
    }

    /// Leaves `model` alone: for as long as AWS asks, or for a growing time where it does not say; never for longer than `longest`.
    pub(super) fn park(&mut self, model: Option<&str>, retry_after: Option<Duration>, longest: Duration, now: Instant) {
        self.forget(now);
        let key = self.key(model);
        let asked = retry_after.filter(|time| !time.is_zero()).map(|time| time.min(longest));
        let known = self.models.get(&key).map(|park| (park.begun, park.until, park.steps));
        let park = match (known, asked) {
            // One of those that were under way: it says nothing new.
            (Some((_, until, _)), None) if now < until => return,
            (Some((begun, until, steps)), Some(asked)) if now < until => Park { begun, until: until.max(after(now, asked)), steps },
            (known, asked) => {
                let before = known.map_or(0, |(_, _, steps)| steps);
                let (grown, steps) = doubled(FIRST, MOST, before.saturating_add(1));
                let time = asked.unwrap_or_else(|| jittered(grown).min(longest));
                Park { begun: now, until: after(now, time), steps }
            }
        };
        if known.is_none() && self.models.len() >= MODELS {
            let oldest = self.models.iter().min_by_key(|(_, park)| park.begun).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.models.remove(&oldest));
        }
        self.models.insert(key, park);
        self.next = self.models.values().map(Park::forgotten).min();
    }

    /// Forgets that `model` was throttled, if it may be asked for again by now.
    pub(super) fn answered(&mut self, model: Option<&str>, now: Instant) {
        let key = self.key(model);
        if self.models.get(&key).is_some_and(|park| park.until <= now) {
            self.models.remove(&key);
        }
    }

    /// Forgets whatever is long over.
    pub(super) fn forget(&mut self, now: Instant) {
        if self.next.is_some_and(|next| next <= now) {
            self.models.retain(|_, park| now < park.forgotten());
            self.next = self.models.values().map(Park::forgotten).min();
        }
    }

    fn key(&self, model: Option<&str>) -> u64 {
        self.hash.hash_one(model)
    }
}

impl Park {
    fn forgotten(&self) -> Instant {
        after(self.until, MEMORY)
    }
}
