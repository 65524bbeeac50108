//! The memory of all request bodies that are held at once.
//!
//! A body is held whole before it is signed, so without a bound enough clients could fill the machine. Memory is counted before it is
//! allocated, and given back by `Drop`, on whatever path an exchange ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::domain::{Reason, Rejection};

/// How much there is for all bodies, and how much of it is taken. Outlives reloads.
#[derive(Debug)]
pub struct BodyMemory {
    /// In bytes.
    bound: AtomicU64,
    /// In bytes; at most what the bound was when the last of it was taken.
    held: AtomicU64,
}

impl BodyMemory {
    /// Memory of `bytes` for all bodies together, none of it taken.
    #[must_use]
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { bound: AtomicU64::new(bytes), held: AtomicU64::new(0) })
    }

    /// Changes the bound, on a reload. What is held stays held, above the bound too.
    pub fn set_bound(&self, bytes: u64) {
        self.bound.store(bytes, Relaxed);
    }

    /// The bytes that permits hold now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Takes `bytes` for one body; none for an empty one, which always succeeds.
    ///
    /// # Errors
    /// [`Reason::BodyMemory`] when less than `bytes` are free; nothing is taken then.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<BodyPermit, Rejection> {
        self.take(bytes)?;
        Ok(BodyPermit { memory: Arc::clone(self), bytes })
    }

    fn take(&self, bytes: u64) -> Result<(), Rejection> {
        if bytes == 0 {
            return Ok(());
        }
        let bound = self.bound.load(Relaxed);
        let more = |held: u64| held.checked_add(bytes).filter(|held| *held <= bound);
        if self.held.fetch_update(Relaxed, Relaxed, more).is_err() {
            let message = "all memory for request bodies is taken (`firewall.body_memory`); try again in a second";
            return Err(Rejection::new(Reason::BodyMemory, message).retry_after(Duration::from_secs(1)));
        }
        Ok(())
    }

    fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Relaxed);
    }
}

/// Leave to hold one body. Dropping it gives the memory back.
#[derive(Debug)]
#[must_use = "the memory is given back at once when the permit is dropped"]
pub struct BodyPermit {
    memory: Arc<BodyMemory>,
    bytes: u64,
}

impl BodyPermit {
    /// How many bytes may be held.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`Reason::BodyMemory`] when less than `bytes` are free; what is held already stays held.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Rejection> {
        self.memory.take(bytes)?;
        // The sum of all permits was just found to fit.
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back what is held beyond `bytes`; nothing if that is nothing.
    pub fn shrink_to(&mut self, bytes: u64) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.bytes -= surplus;
        self.memory.give_back(surplus);
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bound_is_granted_and_one_byte_more_is_not() {
        let memory = BodyMemory::new(100);
        let mut permit = memory.reserve(60).unwrap();
        let other = memory.reserve(40).unwrap();
        let refused = memory.reserve(1).unwrap_err();
        assert_eq!((refused.reason, refused.retry_after), (Reason::BodyMemory, Some(Duration::from_secs(1))));
        assert_eq!(refused.reason.status(), 503);
        permit.grow(1).unwrap_err();
        assert_eq!((memory.held(), permit.bytes()), (100, 60));
        drop(other);
        permit.grow(40).unwrap();
        permit.grow(1).unwrap_err();
        permit.shrink_to(10);
        permit.shrink_to(11);
        assert_eq!((memory.held(), permit.bytes()), (10, 10));
        drop(permit);
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn an_empty_body_needs_nothing_and_a_lowered_bound_takes_nothing_away() {
        let memory = BodyMemory::new(100);
        let permit = memory.reserve(100).unwrap();
        memory.set_bound(50);
        assert_eq!(memory.held(), 100);
        memory.reserve(1).unwrap_err();
        let empty = memory.reserve(0).unwrap();
        drop(permit);
        memory.reserve(51).unwrap_err();
        drop(memory.reserve(50).unwrap());
        drop(empty);
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn a_length_that_would_overflow_is_refused() {
        let memory = BodyMemory::new(u64::MAX);
        let _permit = memory.reserve(1).unwrap();
        memory.reserve(u64::MAX).unwrap_err();
        assert_eq!(memory.held(), 1);
    }

    #[test]
    fn threads_together_never_hold_more_than_the_bound_and_leave_nothing() {
        let memory = BodyMemory::new(1_000);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let memory = &memory;
                scope.spawn(move || {
                    for turn in 0..2_000 {
                        if let Ok(mut permit) = memory.reserve((thread * 37 + turn) % 400) {
                            permit.grow(turn % 50).ok();
                            assert!(memory.held() <= 1_000);
                            permit.shrink_to(turn % 30);
                        }
                    }
                });
            }
        });
        assert_eq!(memory.held(), 0);
    }

    proptest! {
        #[test]
        fn what_is_held_is_the_sum_of_the_permits(steps in prop::collection::vec((0_u8..4, 0_u64..80), 0..200)) {
            let memory = BodyMemory::new(200);
            let mut permits: Vec<BodyPermit> = Vec::new();
            for (step, bytes) in steps {
                match (step, permits.last_mut()) {
                    (0, _) => permits.extend(memory.reserve(bytes)),
                    (1, Some(permit)) => drop(permit.grow(bytes)),
                    (2, Some(permit)) => permit.shrink_to(bytes),
                    _ => drop(permits.pop()),
                }
                prop_assert_eq!(memory.held(), permits.iter().map(BodyPermit::bytes).sum::<u64>());
                prop_assert!(memory.held() <= 200);
            }
        }
    }
}
