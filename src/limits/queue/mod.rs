//! Whose turn is it? Calls that wait for a bucket to have room for them.
//!
//! A queue is of one bucket, and is there only while someone waits. Invariants:
//! * only the first of a queue ever tries to be admitted, and is called when something is given back to the bucket, when the one
//!   before has gone, and when the time of its last refusal is over ([`Waiting`]): many may wait, and none of them runs;
//! * who has a place is in the queue until they are admitted, pushed out or leave: a [`Place`] gives itself up when it is dropped, whatever the way, and
//!   the turn passes on;
//! * no lock of a queue is held while one of a bucket is taken, or the other way round;
//! * so many wait at most, for one bucket and for all together.

mod lanes;
mod waiting;

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst, fence};

use parking_lot::Mutex;

use self::lanes::{Entry, Queue, Waiter};
use super::key::{Key, Prehashed};

pub(super) use self::waiting::{Line, Stop};
pub use self::waiting::{Turn, Waiting};

/// So many wait at most, in all queues together; each holds its request's body meanwhile.
const MOST: usize = 100_000;

/// The queues of all buckets. They live as long as the buckets do: whoever gives something back calls whoever waits for it, whatever was reloaded between.
#[derive(Default)]
pub(super) struct Queues {
    waiting: AtomicUsize,
    tickets: AtomicU64,
    queues: Mutex<HashMap<Key, Queue, BuildHasherDefault<Prehashed>>>,
}

/// Where one waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// It is their turn.
    First,
    /// Others are before them.
    Behind,
    /// Nowhere: another was given their place.
    Out,
}

/// A place in a queue; given up when it is dropped.
struct Place<'a> {
    queues: &'a Queues,
    key: Key,
    waiter: Waiter,
    /// Its holder has had their turn.
    served: bool,
}

impl Queues {
    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// The first of `keys` for whose bucket someone waits.
    pub(super) fn queued(&self, mut keys: impl Iterator<Item = Key>) -> Option<Key> {
        if self.waiting() == 0 {
            return None;
        }
        let queues = self.queues.lock();
        keys.find(|key| queues.contains_key(key))
    }

    /// Something was given back to a bucket: the first who waits for it is called. It costs a load where nobody waits for anything.
    pub(super) fn call(&self, key: Key) {
        // What was given back comes before the look at who waits; in `join`, the place comes before the look at what is there. One of the two sees the other.
        fence(SeqCst);
        if self.waiting() == 0 {
            return;
        }
        let head = self.queues.lock().get(&key).and_then(Queue::head).map(|(_, bell)| Arc::clone(bell));
        if let Some(bell) = head {
            bell.notify_one();
        }
    }

    /// The time of a call's arrival, as it were: who comes later has a higher one.
    fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Relaxed)
    }

    /// Takes a place among at most `most` in the queue of a bucket; none where there is no place left. Whoever has one and is the first must try to be admitted
    /// before they sleep: what was given back until now has called nobody.
    fn join(&self, key: Key, waiter: Waiter, most: usize) -> Option<Place<'_>> {
        let place = self.waiting.fetch_update(Relaxed, Relaxed, |waiting| (waiting < MOST).then_some(waiting + 1));
        place.ok()?;
        let entry = self.change(key, |queue| queue.join(waiter.clone(), most));
        if !matches!(entry, Entry::In) {
            self.waiting.fetch_sub(1, Relaxed);
        }
        match entry {
            Entry::Full => return None,
            Entry::For(bell) => bell.notify_one(),
            Entry::In => {}
        }
        fence(SeqCst);
        Some(Place { queues: self, key, waiter, served: false })
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.queues.lock().is_empty()
    }

    /// Changes a queue, forgets it when it is empty, and calls whoever is its first since.
    fn change<T>(&self, key: Key, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queues = self.queues.lock();
        let queue = queues.entry(key).or_default();
        let before = queue.head().map(|(ticket, _)| ticket);
        let result = change(queue);
        let head = queue.head().filter(|(ticket, _)| before.is_some_and(|before| before != *ticket)).map(|(_, bell)| Arc::clone(bell));
        if queue.is_empty() {
            queues.remove(&key);
        }
        drop(queues);
        if let Some(bell) = head {
            bell.notify_one();
        }
        result
    }
}

impl Place<'_> {
    fn rank(&self) -> Rank {
        let queues = self.queues.queues.lock();
        let Some(queue) = queues.get(&self.key) else { return Rank::Out };
        match queue.head() {
            Some((ticket, _)) if ticket == self.waiter.ticket => Rank::First,
            _ if queue.has(&self.waiter.tenant, self.waiter.ticket) => Rank::Behind,
            _ => Rank::Out,
        }
    }

    /// Gives the place up: its holder has had what they waited for.
    fn served(mut self) {
        self.served = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Waiter { tenant, ticket, .. } = &self.waiter;
        let left = self.queues.change(self.key, |queue| {
            let before = queue.len();
            if self.served {
                queue.served(tenant, *ticket)
            } else {
                queue.leave(tenant, *ticket)
            }
            before - queue.len()
        });
        // Whoever was pushed out counts no more already.
        self.queues.waiting.fetch_sub(left, Relaxed);
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}
