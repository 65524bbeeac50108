//! Every bucket of every rule: a sharded map with a bound.
//!
//! Invariants:
//! * at most `capacity` buckets, and one more for each rule (the one that its newcomers share past the bound);
//! * only an idle bucket is ever forgotten, and an idle bucket equals an absent one: forgetting gives nobody anything;
//! * a thread locks shards in ascending order, and holds none when it sweeps others: no deadlock;
//! * a shard's time never runs backwards, so that a caller who was held up on the way here can't undo a forgetting.
//!
//! Idle buckets go when their shard would grow, when the bound is reached, and in [`Buckets::sweep`]. Each shard knows a time before which
//! it holds no idle bucket, so a sweep that would find nothing is rarely begun; a shard is small, so none takes long (tens of microseconds).

mod shard;
mod take;
mod wall;
mod wants;

#[cfg(test)]
use std::collections::HashMap;
use std::mem::size_of;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use self::shard::Shard;
use self::wall::Wall;
pub(super) use self::wants::{Refusal, Want, Wants};
use super::bucket::{Bucket, HORIZON, Terms};
use super::key::{Key, Seed};
use super::queue::Queues;
use super::sync::{AtomicU64, AtomicUsize, Relaxed};

/// Past this many shards they only cost. At the default capacity a shard has 1,560 buckets then, which fill a table of 2,048 places well: 117 KB.
const MOST_SHARDS: usize = 640;
/// A shard is worth its lock and its table from about this many buckets.
const BUCKETS_PER_SHARD: usize = 64;

/// The buckets of all rules; they outlive the rules, which a reload replaces.
#[derive(Debug)]
pub struct Buckets {
    capacity: usize,
    epoch: Instant,
    seed: Seed,
    shards: Box<[Shard]>,
    /// Room taken: never less than the buckets there are.
    taken: AtomicUsize,
    /// Where the next search for an idle bucket begins.
    cursor: AtomicUsize,
    overflowed: AtomicU64,
    /// When to warn next, in nanoseconds since the epoch.
    warn_at: AtomicU64,
    wall: Wall,
    /// Who waits for a bucket.
    pub(super) queues: Queues,
}

impl Buckets {
    /// A million: 64 MB when all of them are in use.
    pub const DEFAULT_CAPACITY: usize = 1_000_000;

    /// Room for `capacity` buckets, none of which takes memory yet. Times before `epoch` count as `epoch`.
    #[must_use]
    pub fn new(capacity: usize, epoch: Instant) -> Arc<Self> {
        let shards = (capacity / BUCKETS_PER_SHARD).clamp(1, MOST_SHARDS);
        Arc::new(Self {
            capacity,
            epoch,
            seed: Seed::random(),
            shards: std::iter::repeat_with(Shard::new).take(shards).collect(),
            taken: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
            overflowed: AtomicU64::new(0),
            warn_at: AtomicU64::new(0),
            wall: Wall::new(),
            queues: Queues::default(),
        })
    }

    /// How many buckets there are: at most the capacity, and one more for each rule.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// Whether there is no bucket, so that every caller has all there is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often a newcomer had to share its rule's one bucket for newcomers, because the bound was reached. It only grows.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Relaxed)
    }

    /// How many calls wait for their turn at one of them.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        u64::try_from(self.queues.waiting()).unwrap_or(u64::MAX)
    }

    /// The bytes that the buckets and the tables around them take. It locks every shard in turn.
    #[must_use]
    pub fn footprint(&self) -> usize {
        let tables: usize = self.shards.iter().map(|shard| shard.lock().footprint()).sum();
        size_of::<Self>() + self.shards.len() * size_of::<Shard>() + tables
    }

    /// Forgets the buckets that are idle at `now`, gives back memory that is no longer needed, and returns how many were forgotten. A quota is idle when
    /// its period is over by the latest wall time that a call told, too.
    ///
    /// It holds one shard at a time, for tens of microseconds; all of them take some ten milliseconds at a million buckets. Call it every
    /// few seconds, off the request path.
    pub fn sweep(&self, now: Instant) -> usize {
        let (now, wall) = (self.nanos(now), self.latest_wall());
        let sweep = |shard: &Shard| {
            let mut held = shard.lock();
            let swept = held.sweep(now, wall);
            held.shrink();
            // While the shard is locked: the count is never less than what is there.
            self.count(0, swept);
            swept
        };
        self.shards.iter().map(sweep).sum()
    }

    /// The wall time in whole seconds since 1970, which does not go back by less than a day.
    pub(super) fn wall(&self, now: SystemTime) -> u64 {
        self.wall.at(now)
    }

    /// The latest wall time that anyone told, in seconds since 1970.
    pub(super) fn latest_wall(&self) -> u64 {
        self.wall.latest()
    }

    /// The bucket as it is at `now`, and that time in nanoseconds since the epoch. Takes nothing, and keeps nothing.
    pub(super) fn look(&self, key: Key, terms: Terms, now: Instant) -> (Bucket, u64) {
        let now = self.nanos(now);
        let Some(shard) = self.shards.get(self.shard_of(key)) else { return (Bucket::default(), now) };
        let held = shard.lock();
        let now = now.max(held.table.latest());
        (held.table.buckets.get(&key).copied().unwrap_or_default().at(terms, now), now)
    }

    /// Changes one bucket by `change`, which gets it as it is now and that time in nanoseconds since the epoch, and returns it before and after. Without
    /// `now` it is the latest time that anyone was there: good enough for what gives something back. It takes room beyond the bound where there is no
    /// such bucket: what a call used is never forgotten for want of room. One that is idle then is not made.
    pub(super) fn change(
        &self,
        key: Key,
        terms: Terms,
        now: Option<Instant>,
        change: impl FnOnce(Bucket, u64) -> Bucket,
    ) -> (Bucket, Bucket) {
        let now = now.map_or(0, |now| self.nanos(now));
        let Some(shard) = self.shards.get(self.shard_of(key)) else { return (Bucket::default(), Bucket::default()) };
        let mut held = shard.lock();
        let now = held.table.at(now);
        let present = held.table.buckets.get(&key).copied();
        let before = present.unwrap_or_default().at(terms, now);
        let after = change(before, now);
        if present.is_some() {
            held.put(key, after);
        } else if !after.is_idle(now, self.latest_wall()) {
            self.count(1, 0);
            held.put(key, after);
        }
        (before, after)
    }

    /// Where what is known of a bucket from before the process began is put: in its own, or, past the bound, in the one that newcomers share.
    pub(super) fn place_for(&self, key: Key, overflow: Key, now: Instant) -> Key {
        let known = self.shards.get(self.shard_of(key)).is_some_and(|shard| shard.lock().table.buckets.contains_key(&key));
        if known || self.len() < self.capacity {
            return key;
        }
        self.overflowed.fetch_add(1, Relaxed);
        self.warn(self.nanos(now));
        overflow
    }

    pub(super) const fn seed(&self) -> &Seed {
        &self.seed
    }

    fn shard_of(&self, key: Key) -> usize {
        // As many of the 32 bits as there are shards, without a division.
        let shards = u64::try_from(self.shards.len()).unwrap_or(0);
        usize::try_from((key.shard() * shards) >> 32).unwrap_or(0)
    }

    /// Nanoseconds since the epoch, at most [`HORIZON`].
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(nanos).unwrap_or(HORIZON).min(HORIZON)
    }

    /// Every bucket, in no order.
    #[cfg(test)]
    pub(super) fn dump(&self) -> HashMap<Key, Bucket> {
        self.shards.iter().flat_map(|shard| shard.lock().table.buckets.iter().map(|(k, b)| (*k, *b)).collect::<Vec<_>>()).collect()
    }
}
