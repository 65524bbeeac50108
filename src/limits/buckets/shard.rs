//! A part of the buckets under a lock of its own.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::mem::size_of;

use super::super::bucket::Bucket;
use super::super::key::{Key, Prehashed};
use super::super::sync::{AtomicU64, Mutex, MutexGuard, Relaxed};

/// A bucket that is idle but for the wall clock is looked at again after so many nanoseconds.
const AGAIN: u64 = 1_000_000_000;

/// A cache line of its own: callers of different shards don't slow each other down, and a visit costs one miss.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Shard {
    /// No bucket of the shard is idle before this time. Written under the lock; read without, as a hint.
    none_idle_before: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// The latest time that anyone was here.
    latest: u64,
    pub(super) buckets: HashMap<Key, Bucket, BuildHasherDefault<Prehashed>>,
}

/// A shard that is locked.
pub(super) struct Held<'a> {
    shard: &'a Shard,
    pub(super) table: MutexGuard<'a, Table>,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self { none_idle_before: AtomicU64::new(u64::MAX), table: Mutex::default() }
    }

    #[inline]
    pub(super) fn lock(&self) -> Held<'_> {
        Held { shard: self, table: self.table.lock() }
    }

    /// Whether it may hold idle buckets, as far as can be told without locking it.
    pub(super) fn may_have_idle(&self, now: u64) -> bool {
        self.none_idle_before.load(Relaxed) <= now
    }
}

impl Held<'_> {
    /// Puts a bucket there, and tells whether there was none before.
    #[inline]
    pub(super) fn put(&mut self, key: Key, bucket: Bucket) -> bool {
        let hint = &self.shard.none_idle_before;
        // Under the lock, so a plain read and write will do.
        if bucket.idle_at() < hint.load(Relaxed) {
            hint.store(bucket.idle_at(), Relaxed);
        }
        self.table.buckets.insert(key, bucket).is_none()
    }

    /// Forgets what is idle at `now`, by the wall clock too, and returns how much that was.
    pub(super) fn sweep(&mut self, now: u64, wall: u64) -> usize {
        let now = self.table.at(now);
        let hint = &self.shard.none_idle_before;
        if hint.load(Relaxed) > now {
            return 0;
        }
        let before = self.table.buckets.len();
        let mut earliest = u64::MAX;
        self.table.buckets.retain(|_, bucket| {
            let keep = !bucket.is_idle(now, wall);
            if keep {
                earliest = earliest.min(bucket.idle_at().max(now + AGAIN));
            }
            keep
        });
        hint.store(earliest, Relaxed);
        before - self.table.buckets.len()
    }

    /// Before a table doubles, forgets what is idle in it, and returns how much that was. It doubles all the same if that was little: or the next few
    /// would sweep again.
    pub(super) fn grow(&mut self, wall: u64) -> usize {
        if self.table.buckets.len() < self.table.buckets.capacity() {
            return 0;
        }
        let swept = self.sweep(0, wall);
        let capacity = self.table.buckets.capacity();
        if self.table.buckets.len() > capacity / 4 * 3 {
            let more = capacity - self.table.buckets.len() + 1;
            self.table.buckets.reserve(more);
        }
        swept
    }

    /// Gives back memory that is no longer needed.
    pub(super) fn shrink(&mut self) {
        let needed = self.table.buckets.len();
        if self.table.buckets.capacity() > needed * 4 {
            self.table.buckets.shrink_to(needed * 2);
        }
    }

    /// The bytes that its table takes.
    pub(super) fn footprint(&self) -> usize {
        // A table keeps one place in eight free, and one byte beside each place (hashbrown).
        let place = size_of::<(Key, Bucket)>() + 1;
        (self.table.buckets.capacity() * 8).div_ceil(7) * place
    }
}

impl Table {
    /// Turns the shard's time on to `now` and returns it; it never runs backwards.
    pub(super) fn at(&mut self, now: u64) -> u64 {
        self.latest = self.latest.max(now);
        self.latest
    }

    /// The latest time that anyone was here.
    pub(super) const fn latest(&self) -> u64 {
        self.latest
    }
}
