//! What has no price, logged once.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::domain::Tier;

/// So many models are logged by name.
const LOGGED: usize = 1024;
/// Longer names are cut, in bytes.
const LONGEST: usize = 512;

/// The models that were logged: at most 1,024 names of at most 512 bytes. What comes beyond is not logged, and that is said once.
#[derive(Debug, Default)]
pub(super) struct Untold {
    models: Mutex<HashSet<Box<str>>>,
    full: AtomicBool,
    guardrail: AtomicBool,
}

impl Untold {
    /// Logs a model, unless it was logged. Whoever asks on each call asks [`super::resolved::Known::is_news`] first: this takes a lock.
    pub(super) fn model(&self, model: &str, region: &str, tier: Tier) {
        let name = model.get(..model.floor_char_boundary(LONGEST)).unwrap_or_default();
        let mut models = self.models.lock();
        if models.contains(name) {
            return;
        }
        if models.len() >= LOGGED {
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::warn!(logged = LOGGED, "more models without a price are used than are logged");
            }
            return;
        }
        models.insert(name.into());
        drop(models);
        tracing::warn!(model = name, region, tier = tier.label(), "what was used has no price: it is counted as unpriced");
    }

    /// Logs that units of a guardrail have no price, once.
    pub(super) fn guardrail(&self) {
        if !self.guardrail.swap(true, Ordering::Relaxed) {
            tracing::warn!("a guardrail has no price: it is counted as unpriced");
        }
    }

    /// How many models were logged.
    #[cfg(test)]
    pub(super) fn logged(&self) -> usize {
        self.models.lock().len()
    }
}
