//! How many requests are under way at once.
//!
//! Connections have a bound, and bodies have one; but one HTTP/2 connection carries a thousand requests, and each holds a connection to Bedrock. A request
//! takes its place before anything of it is looked at, and gives it back by `Drop`, on whatever path it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::domain::{Reason, Rejection};

/// Whoever is turned away is told to come back after so long at least ...
const AGAIN: Duration = Duration::from_secs(1);
/// ... and up to so many milliseconds later: those who were turned away together do not come back together.
const SPREAD: u64 = 1000;

/// How many requests may be under way, and how many are. Outlives reloads.
#[derive(Debug)]
pub struct Requests {
    bound: AtomicU64,
    taken: AtomicU64,
}

impl Requests {
    /// Places for `bound` requests, none of them taken.
    #[must_use]
    pub fn new(bound: u64) -> Arc<Self> {
        Arc::new(Self { bound: AtomicU64::new(bound), taken: AtomicU64::new(0) })
    }

    /// Changes the bound, on a reload. What is under way goes on, above the bound too.
    pub fn set_bound(&self, bound: u64) {
        self.bound.store(bound, Relaxed);
    }

    /// The places that are taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Takes a place for one request until it is dropped. Some ten nanoseconds.
    ///
    /// # Errors
    /// [`Reason::Overloaded`] where all are taken.
    pub fn take(self: &Arc<Self>) -> Result<RequestPlace, Rejection> {
        // Taken first and looked at afterwards: one addition, where to look first takes a loop of comparisons. Two at the last place may both see it
        // taken, and be turned away: never one too many.
        let before = self.taken.fetch_add(1, Relaxed);
        let place = RequestPlace(Arc::clone(self));
        if before < self.bound.load(Relaxed) {
            return Ok(place);
        }
        drop(place);
        let after = AGAIN + Duration::from_millis(fastrand::u64(..SPREAD));
        let message = "as many requests are under way as may be (`firewall.max_requests`); try again in a second or two";
        Err(Rejection::new(Reason::Overloaded, message).retry_after(after))
    }
}

/// The place of one request. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "the place is given back at once when it is dropped"]
pub struct RequestPlace(Arc<Requests>);

impl Drop for RequestPlace {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_admitted_and_one_more_is_told_to_come_back_in_a_second_or_two() {
        let requests = Requests::new(2);
        let (one, _two) = (requests.take().unwrap(), requests.take().unwrap());
        for _ in 0..100 {
            let refused = requests.take().unwrap_err();
            assert_eq!((refused.reason, refused.reason.status()), (Reason::Overloaded, 503));
            let after = refused.retry_after.unwrap();
            assert!(after >= Duration::from_secs(1) && after < Duration::from_secs(2), "{after:?}");
        }
        assert_eq!(requests.taken(), 2, "who is turned away holds nothing");
        drop(one);
        drop(requests.take().unwrap());
        requests.set_bound(1);
        requests.take().unwrap_err();
        requests.set_bound(3);
        drop(requests.take().unwrap());
    }

    #[test]
    fn threads_together_never_hold_more_than_the_bound_and_leave_nothing() {
        let requests = Requests::new(10);
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let places: Vec<_> = (0..3).filter_map(|_| requests.take().ok()).collect();
                        let count = u64::try_from(places.len()).unwrap();
                        most.fetch_max(held.fetch_add(count, Relaxed) + count, Relaxed);
                        held.fetch_sub(count, Relaxed);
                        drop(places);
                    }
                });
            }
        });
        assert!(most.load(Relaxed) <= 10, "{most:?}");
        assert_eq!(requests.taken(), 0);
    }
}
