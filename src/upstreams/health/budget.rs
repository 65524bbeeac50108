//! How many retries there may be.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::window::Window;
use crate::config::upstreams::Budget;

/// Requests and retries are compared over so long.
const WINDOW: Duration = Duration::from_secs(10);
const WINDOW_SECONDS: u64 = 10;

const REQUESTS: usize = 0;
const RETRIES: usize = 1;

/// Allows as many retries as are a share of the requests of the last ten seconds, and a few more: an outage at which every call asks again would else double
/// the load on what is left.
///
/// Of the last nine to ten seconds (the window slides by the second): retries <= `percent` of requests + 10 * `min_per_second`. A retry leaves the window
/// no sooner than the requests before it, so no request pays twice.
#[derive(Debug)]
pub struct RetryBudget {
    rule: Budget,
    counts: Window<2>,
    /// Held while a retry is weighed and counted.
    weighing: Mutex<()>,
}

impl RetryBudget {
    /// Nothing is used yet.
    #[must_use]
    pub fn new(rule: Budget) -> Self {
        Self { rule, counts: Window::new(WINDOW), weighing: Mutex::new(()) }
    }

    /// Counts a request: its first try, whatever becomes of it.
    pub fn deposit(&self, now: Instant) {
        self.counts.add(REQUESTS, now);
    }

    /// Takes a retry, if there may be one.
    #[must_use]
    pub fn withdraw(&self, now: Instant) -> bool {
        let _weighing = self.weighing.lock();
        let [requests, retries] = self.counts.sums(now);
        // In hundredths of a retry.
        let allowed = requests
            .saturating_mul(self.rule.percent.into())
            .saturating_add(u64::from(self.rule.min_per_second).saturating_mul(WINDOW_SECONDS * 100));
        let allows = retries.saturating_add(1).saturating_mul(100) <= allowed;
        if allows {
            self.counts.add(RETRIES, now);
        }
        allows
    }
}
