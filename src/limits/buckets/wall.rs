//! The wall clock, as far as quotas follow it.

use std::time::SystemTime;

use super::super::sync::{AtomicU64, Relaxed};

/// A clock that goes back by so many seconds at most is waited for.
const MOST_BACK: u64 = 86_400;

/// The latest time that anyone told, in seconds since 1970.
#[derive(Debug)]
pub(super) struct Wall(AtomicU64);

impl Wall {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The time in whole seconds, which does not go back: not by less than a day, for then the clock was wrong before, and is followed.
    pub(super) fn at(&self, now: SystemTime) -> u64 {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let latest = self.latest();
        match latest.checked_sub(now) {
            Some(0) => now,
            Some(back) if back <= MOST_BACK => latest,
            // Whoever is first tells.
            Some(_) if self.0.compare_exchange(latest, now, Relaxed, Relaxed).is_ok() => {
                tracing::warn!(from = latest, to = now, "the clock went back by more than a day; quotas keep what is used of them");
                now
            }
            Some(_) => now,
            None => {
                self.0.fetch_max(now, Relaxed);
                now
            }
        }
    }

    /// The latest that anyone told.
    pub(super) fn latest(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
