//! Every bucket of every rule: a sharded map with a bound.
//!
//! Invariants:
//! * at most `capacity` buckets, and one more for each rule (the one that its newcomers share past the bound);
//! * only a full bucket is ever forgotten, and a full bucket equals an absent one: forgetting gives nobody anything;
//! * a thread locks shards in ascending order, and holds none when it sweeps others: no deadlock;
//! * a shard's time never runs backwards, so that a caller who was held up on the way here can't undo a forgetting.
//!
//! Full buckets go when their shard would grow, when the bound is reached, and in [`Buckets::sweep`]. Each shard knows a time before which
//! it holds no full bucket, so a sweep that would find nothing is rarely begun; a shard is small, so none takes long (tens of microseconds).

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::bucket::{Bucket, Empty, HORIZON, Taken, Terms};
use super::key::{Key, Prehashed, Seed};

/// Past this many shards they only cost: 2,000 buckets each at the default capacity, 70 KB.
const MOST_SHARDS: usize = 512;
/// A shard is worth its lock and its table from about this many buckets.
const BUCKETS_PER_SHARD: usize = 64;
/// How many shards one newcomer sweeps at most, at the bound, before it shares a bucket.
const MOST_SWEEPS: usize = 8;
/// The least time between two warnings that newcomers share a bucket, in nanoseconds.
const WARN_EVERY: u64 = 60_000_000_000;

/// The buckets of all rules; they outlive the rules, which a reload replaces.
#[derive(Debug)]
pub struct Buckets {
    capacity: usize,
    epoch: Instant,
    seed: Seed,
    /// A power of two of them.
    shards: Box<[Shard]>,
    /// Room taken: never less than the buckets there are.
    taken: AtomicUsize,
    /// Where the next search for a full bucket begins.
    cursor: AtomicUsize,
    overflowed: AtomicU64,
    /// When to warn next, in nanoseconds since the epoch.
    warn_at: AtomicU64,
}

/// A cache line of its own: callers of different shards don't slow each other down, and a visit costs one miss.
#[derive(Debug)]
#[repr(align(64))]
struct Shard {
    /// No bucket of the shard is full before this time. Written under the lock; read without, as a hint.
    none_full_before: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// The latest time that anyone was here.
    latest: u64,
    buckets: HashMap<Key, Bucket, BuildHasherDefault<Prehashed>>,
}

/// One to be taken from one bucket, `of` whoever asks.
#[derive(Debug)]
pub(super) struct Want<T> {
    pub(super) of: T,
    pub(super) terms: Terms,
    key: Key,
    overflow: Key,
    shard: usize,
    /// Whether there is no such bucket yet.
    absent: bool,
    /// What the bucket is once the request is taken.
    taken: Option<Taken>,
}

impl<T> Want<T> {
    /// Whether it wants room for a new bucket; the bucket that newcomers share has it always.
    fn is_newcomer(&self) -> bool {
        self.absent && self.key != self.overflow
    }

    pub(super) const fn new(of: T, key: Key, overflow: Key, terms: Terms) -> Self {
        Self { of, terms, key, overflow, shard: 0, absent: false, taken: None }
    }

    /// The time from the taking until the bucket is full again; zero before the taking.
    pub(super) fn debt(&self) -> Duration {
        Duration::from_nanos(self.taken.map_or(0, |taken| taken.debt))
    }

    /// How many more the bucket would admit right after the taking.
    pub(super) fn remaining(&self) -> u64 {
        self.terms.remaining(self.taken.map_or(0, |taken| taken.debt))
    }
}

/// Nothing was taken: the bucket of `of` is the last to have one again, after `wait`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal<T> {
    pub(super) of: T,
    pub(super) wait: Duration,
}

impl Buckets {
    /// A million: 70 to 90 MB when all of them are in use.
    pub const DEFAULT_CAPACITY: usize = 1_000_000;

    /// Room for `capacity` buckets, none of which takes memory yet. Times before `epoch` count as `epoch`.
    #[must_use]
    pub fn new(capacity: usize, epoch: Instant) -> Arc<Self> {
        let shards = (capacity / BUCKETS_PER_SHARD).next_power_of_two().min(MOST_SHARDS);
        let shard = || Shard { none_full_before: AtomicU64::new(u64::MAX), table: Mutex::default() };
        Arc::new(Self {
            capacity,
            epoch,
            seed: Seed::random(),
            shards: std::iter::repeat_with(shard).take(shards).collect(),
            taken: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
            overflowed: AtomicU64::new(0),
            warn_at: AtomicU64::new(0),
        })
    }

    /// How many buckets there are: at most the capacity, and one more for each rule.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// Whether there is no bucket, so that every caller has a full one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often a newcomer had to share its rule's one bucket for newcomers, because the bound was reached. It only grows.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Relaxed)
    }

    /// The bytes that the buckets and the tables around them take. It locks every shard in turn.
    #[must_use]
    pub fn footprint(&self) -> usize {
        // A table keeps one place in eight free, and one byte beside each place (hashbrown).
        let place = size_of::<(Key, Bucket)>() + 1;
        let tables: usize = self.shards.iter().map(|shard| (shard.table.lock().buckets.capacity() * 8).div_ceil(7) * place).sum();
        size_of::<Self>() + self.shards.len() * size_of::<Shard>() + tables
    }

    /// Forgets the buckets that are full at `now`, gives back memory that is no longer needed, and returns how many were forgotten.
    ///
    /// It holds one shard at a time, for tens of microseconds; all of them take some ten milliseconds at a million buckets. Call it every
    /// few seconds, off the request path.
    pub fn sweep(&self, now: Instant) -> usize {
        let now = self.nanos(now);
        self.shards
            .iter()
            .map(|shard| {
                let mut table = shard.table.lock();
                let swept = self.sweep_shard(shard, &mut table, now);
                let needed = table.buckets.len();
                if table.buckets.capacity() > needed * 4 {
                    table.buckets.shrink_to(needed * 2);
                }
                swept
            })
            .sum()
    }

    /// The nanoseconds from `now` until the bucket is full again. Takes nothing, and keeps nothing.
    pub(super) fn debt(&self, key: Key, terms: Terms, now: Instant) -> u64 {
        let now = self.nanos(now);
        let Some(shard) = self.shards.get(self.shard_of(key)) else { return 0 };
        let table = shard.table.lock();
        let now = now.max(table.latest);
        table.buckets.get(&key).map_or(0, |bucket| bucket.under(terms, now).full_at().saturating_sub(now))
    }

    pub(super) const fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Takes every want, or none of them: no other caller sees or does anything in between.
    pub(super) fn take_all<T: Copy>(&self, wants: &mut [Want<T>], now: Instant) -> Result<(), Refusal<T>> {
        let now = self.nanos(now);
        let mut searched = false;
        // Each turn but the last either makes room, once, or gives up some newcomer's claim to it.
        loop {
            for want in &mut *wants {
                want.shard = self.shard_of(want.key);
            }
            wants.sort_unstable_by_key(|want| want.shard);
            let mut held = self.lock(wants);
            check(wants, &mut held, now)?;
            let newcomers = wants.iter().filter(|want| want.is_newcomer()).count();
            if self.reserve(newcomers) {
                self.commit(wants, &mut held, newcomers);
                return Ok(());
            }
            drop(held);
            if searched || !self.make_room(newcomers, now) {
                for want in wants.iter_mut().filter(|want| want.is_newcomer()) {
                    want.key = want.overflow;
                    self.overflowed.fetch_add(1, Relaxed);
                }
                self.warn(now);
            }
            searched = true;
        }
    }

    /// Locks the shards of `wants`, which are in the shards' order: one guard for each shard.
    fn lock<T>(&self, wants: &[Want<T>]) -> Vec<Held<'_>> {
        let shards = wants.chunk_by(|one, other| one.shard == other.shard).filter_map(|group| self.shards.get(group.first()?.shard));
        shards.map(|shard| Held { shard, table: shard.table.lock() }).collect()
    }

    /// Takes what [`check`] found to be there. Room for `reserved` new buckets is taken already.
    fn commit<T>(&self, wants: &mut [Want<T>], held: &mut [Held<'_>], reserved: usize) {
        let mut added = 0;
        for (group, held) in wants.chunk_by_mut(|one, other| one.shard == other.shard).zip(held) {
            // Those that are there go first: once taken from, they are not full, and growing the table can't forget them.
            group.sort_unstable_by_key(|want| want.absent);
            for want in group {
                let Some(Taken { bucket, .. }) = want.taken else { continue };
                if want.absent {
                    self.grow(held);
                }
                if held.table.buckets.insert(want.key, bucket).is_none() {
                    added += 1;
                }
                lower(&held.shard.none_full_before, bucket.full_at());
            }
        }
        // More than reserved where the bucket that newcomers share is new.
        if added > reserved {
            self.taken.fetch_add(added - reserved, Relaxed);
        } else {
            self.taken.fetch_sub(reserved - added, Relaxed);
        }
    }

    /// Before a table doubles, forgets what is full in it. It doubles all the same if that was little: or the next few would sweep again.
    fn grow(&self, held: &mut Held<'_>) {
        let table = &mut *held.table;
        if table.buckets.len() < table.buckets.capacity() {
            return;
        }
        self.sweep_shard(held.shard, table, table.latest);
        let capacity = table.buckets.capacity();
        if table.buckets.len() > capacity / 4 * 3 {
            table.buckets.reserve(capacity - table.buckets.len() + 1);
        }
    }

    /// Takes `places` of the room there is, or none.
    fn reserve(&self, places: usize) -> bool {
        if places == 0 {
            return true;
        }
        let more = |taken: usize| taken.checked_add(places).filter(|taken| *taken <= self.capacity);
        self.taken.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Sweeps shards that may hold full buckets until there is room for `places`. The caller holds no shard.
    fn make_room(&self, places: usize, now: u64) -> bool {
        let is_room = || self.taken.load(Relaxed).saturating_add(places) <= self.capacity;
        let from = self.cursor.fetch_add(1, Relaxed) & (self.shards.len() - 1);
        let (before, after) = self.shards.split_at(from.min(self.shards.len()));
        let worth_it = after.iter().chain(before).filter(|shard| shard.none_full_before.load(Relaxed) <= now);
        for shard in worth_it.take(MOST_SWEEPS) {
            self.sweep_shard(shard, &mut shard.table.lock(), now);
            if is_room() {
                return true;
            }
        }
        is_room()
    }

    /// Forgets the buckets of one shard that are full at `now`, and returns how many.
    fn sweep_shard(&self, shard: &Shard, table: &mut Table, now: u64) -> usize {
        let now = table.at(now);
        if shard.none_full_before.load(Relaxed) > now {
            return 0;
        }
        let before = table.buckets.len();
        let mut earliest = u64::MAX;
        table.buckets.retain(|_, bucket| {
            let keep = bucket.full_at() > now;
            if keep {
                earliest = earliest.min(bucket.full_at());
            }
            keep
        });
        shard.none_full_before.store(earliest, Relaxed);
        let swept = before - table.buckets.len();
        self.taken.fetch_sub(swept, Relaxed);
        swept
    }

    fn warn(&self, now: u64) {
        let due = self.warn_at.load(Relaxed);
        if now >= due && self.warn_at.compare_exchange(due, now + WARN_EVERY, Relaxed, Relaxed).is_ok() {
            let (capacity, overflowed) = (self.capacity, self.overflowed());
            tracing::warn!(capacity, overflowed, "no room for more limit buckets: newcomers share one for each rule");
        }
    }

    fn shard_of(&self, key: Key) -> usize {
        let mask = self.shards.len() - 1;
        // There are at most 512 shards: the 16 bits that are kept always fit, and hold the mask.
        usize::try_from(key.high & 0xffff).unwrap_or(0) & mask
    }

    /// Nanoseconds since the epoch, at most [`HORIZON`].
    fn nanos(&self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(nanos).unwrap_or(HORIZON).min(HORIZON)
    }

    /// Every bucket, in no order.
    #[cfg(test)]
    pub(super) fn dump(&self) -> HashMap<Key, Bucket> {
        self.shards.iter().flat_map(|shard| shard.table.lock().buckets.iter().map(|(k, b)| (*k, *b)).collect::<Vec<_>>()).collect()
    }
}

/// A shard that is locked.
struct Held<'a> {
    shard: &'a Shard,
    table: MutexGuard<'a, Table>,
}

/// Finds what each want would leave in its bucket, and which are newcomers. Takes nothing.
fn check<T: Copy>(wants: &mut [Want<T>], held: &mut [Held<'_>], now: u64) -> Result<(), Refusal<T>> {
    let mut refusal: Option<Refusal<T>> = None;
    for (group, held) in wants.chunk_by_mut(|one, other| one.shard == other.shard).zip(held) {
        let shard_now = held.table.at(now);
        for want in group {
            let bucket = held.table.find(want.key, want.terms, shard_now, &held.shard.none_full_before);
            want.absent = bucket.is_none();
            match Bucket::take(bucket, want.terms, shard_now) {
                Ok(taken) => want.taken = Some(taken),
                Err(Empty(nanos)) => {
                    // The caller's clock may be a little behind the shard's.
                    let wait = Duration::from_nanos(nanos + (shard_now - now));
                    if refusal.as_ref().is_none_or(|refusal| refusal.wait < wait) {
                        refusal = Some(Refusal { of: want.of, wait });
                    }
                }
            }
        }
    }
    refusal.map_or(Ok(()), Err)
}

/// Lowers `hint` to `time` if it is above. The caller holds the shard's lock, so a plain read and write will do.
fn lower(hint: &AtomicU64, time: u64) {
    if time < hint.load(Relaxed) {
        hint.store(time, Relaxed);
    }
}

impl Table {
    /// Turns the shard's time on to `now` and returns it; it never runs backwards.
    fn at(&mut self, now: u64) -> u64 {
        self.latest = self.latest.max(now);
        self.latest
    }

    /// The bucket, restated first if its rule's terms have changed.
    fn find(&mut self, key: Key, terms: Terms, now: u64, none_full_before: &AtomicU64) -> Option<Bucket> {
        let found = self.buckets.get_mut(&key)?;
        let restated = found.under(terms, now);
        if restated != *found {
            *found = restated;
            lower(none_full_before, restated.full_at());
        }
        Some(restated)
    }
}
