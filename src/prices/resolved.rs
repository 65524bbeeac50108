//! Which entries price a model that was seen before.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;

use super::Line;
use crate::domain::Tier;

/// Places for models seen. A region's models are some hundreds, with their profiles and tiers.
const PLACES: usize = 4096;
/// Longer names are looked up each time: an ARN of Bedrock has some 150 bytes.
const LONGEST: usize = 512;

/// What was found for models seen, at most one in each of 4,096 places: a newcomer takes the place of who is there. So a caller who makes names up
/// costs others a look-up now and then, and never memory. Where a name goes is keyed at random.
#[derive(Debug)]
pub(super) struct Resolved {
    places: Box<[ArcSwapOption<Known>]>,
    hash: RandomState,
}

/// What was found for one model, in a region and tier.
#[derive(Debug)]
pub(super) struct Known {
    model: Box<str>,
    region: Box<str>,
    tier: Tier,
    lines: Vec<Arc<Line>>,
    told: AtomicBool,
}

impl Default for Resolved {
    fn default() -> Self {
        Self { places: (0..PLACES).map(|_| ArcSwapOption::empty()).collect(), hash: RandomState::new() }
    }
}

impl Resolved {
    /// What is known of a model; found by `find`, and remembered, where nothing is.
    pub(super) fn known(&self, model: &str, region: &str, tier: Tier, find: impl FnOnce() -> Vec<Arc<Line>>) -> Arc<Known> {
        let place = if model.len() <= LONGEST { self.place(model, region, tier) } else { None };
        if let Some(known) = place.and_then(ArcSwapOption::load_full).filter(|known| known.is_of(model, region, tier)) {
            return known;
        }
        let known = Arc::new(Known { model: model.into(), region: region.into(), tier, lines: find(), told: AtomicBool::new(false) });
        if let Some(place) = place {
            place.store(Some(Arc::clone(&known)));
        }
        known
    }

    /// How many models are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.places.iter().filter(|place| place.load().is_some()).count()
    }

    fn place(&self, model: &str, region: &str, tier: Tier) -> Option<&ArcSwapOption<Known>> {
        let hash = self.hash.hash_one((model, region, tier));
        self.places.get(usize::try_from(hash % PLACES as u64).ok()?)
    }
}

impl Known {
    fn is_of(&self, model: &str, region: &str, tier: Tier) -> bool {
        *self.model == *model && *self.region == *region && self.tier == tier
    }

    /// The entries that price it, the shortest input first.
    pub(super) fn lines(&self) -> &[Arc<Line>] {
        &self.lines
    }

    /// Whether this is asked for the first time.
    pub(super) fn is_news(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }
}
