//! The copies of calls that are under way: nobody waits for one, so they are owned here.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::firewall::BodyMemory;

/// So many copies may be under way at once. A mirror that takes 10 s for an answer can be sent some 25 a second.
pub const MOST_MIRRORED: usize = 256;

/// Copies may hold so large a part of what all bodies may.
const PART: u64 = 8;

/// Who owns the tasks of copies, and how many there may be. It outlives reloads.
#[derive(Debug)]
pub struct Mirrors {
    tasks: TaskTracker,
    places: Arc<Semaphore>,
    /// The memory of their bodies, beside that of calls: a mirror that is slow must not take it from them.
    pub bodies: Arc<BodyMemory>,
}

impl Mirrors {
    pub(super) fn new(body_memory: u64) -> Self {
        Self { tasks: TaskTracker::new(), places: Arc::new(Semaphore::new(MOST_MIRRORED)), bodies: BodyMemory::new(body_memory / PART) }
    }

    /// From now on all bodies may hold so much, and copies their part as much again.
    pub fn set_body_memory(&self, bytes: u64) {
        self.bodies.set_bound(bytes / PART);
    }

    /// A place among those that are under way, until it is dropped; none where there is none left. It waits for nothing.
    #[must_use]
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Runs `copy` beside everything else. It is to end when [`Live::over`](super::Live::over) is cancelled; a panic in it is its own end.
    pub fn run(&self, copy: impl Future<Output = ()> + Send + 'static) {
        drop(self.tasks.spawn(copy));
    }

    /// How many are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.tasks.len()
    }

    /// Returns once none is under way any more.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_places_as_may_be_and_one_that_is_left_is_free_again() {
        let mirrors = Mirrors::new(64 * 1024);
        let mut places: Vec<_> = (0..MOST_MIRRORED).map_while(|_| mirrors.place()).collect();
        assert_eq!(places.len(), MOST_MIRRORED);
        assert!(mirrors.place().is_none());
        places.pop();
        assert!(mirrors.place().is_some());
    }

    #[tokio::test]
    async fn a_panic_is_the_end_of_its_own_copy_only() {
        let mirrors = Mirrors::new(64 * 1024);
        mirrors.run(async { panic!("on purpose") });
        mirrors.run(async {});
        mirrors.ended().await;
        assert_eq!(mirrors.under_way(), 0);
    }
}
