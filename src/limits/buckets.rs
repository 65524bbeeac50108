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

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::mem::size_of;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use smallvec::SmallVec;

use super::bucket::{Ask, Blocked, Bucket, HORIZON, Terms};
use super::key::{Key, Prehashed, Seed};
use super::queue::Queues;
use super::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Relaxed};

/// Past this many shards they only cost. At the default capacity a shard has 1,560 buckets then, which fill a table of 2,048 places well: 100 KB.
const MOST_SHARDS: usize = 640;
/// A shard is worth its lock and its table from about this many buckets.
const BUCKETS_PER_SHARD: usize = 64;
/// How many shards one newcomer sweeps at most, at the bound, before it shares a bucket.
const MOST_SWEEPS: usize = 8;
/// A clock that goes back by so many seconds at most is waited for.
const MOST_BACK: u64 = 86_400;
/// The least time between two warnings that newcomers share a bucket, in nanoseconds.
const WARN_EVERY: u64 = 60_000_000_000;

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
    /// The latest wall time that anyone told, in seconds since 1970.
    wall: AtomicU64,
    /// Who waits for a bucket.
    pub(super) queues: Queues,
}

/// A cache line of its own: callers of different shards don't slow each other down, and a visit costs one miss.
#[derive(Debug)]
#[repr(align(64))]
struct Shard {
    /// No bucket of the shard is idle before this time. Written under the lock; read without, as a hint.
    none_idle_before: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// The latest time that anyone was here.
    latest: u64,
    buckets: HashMap<Key, Bucket, BuildHasherDefault<Prehashed>>,
}

/// So much to be taken from one bucket, `of` whoever asks.
#[derive(Debug)]
pub(super) struct Want<T> {
    pub(super) of: T,
    pub(super) terms: Terms,
    pub(super) ask: Ask,
    pub(super) key: Key,
    overflow: Key,
    shard: usize,
    /// Whether there is no such bucket yet.
    absent: bool,
    /// What the bucket is before and once it is taken, how much is taken, and when, in nanoseconds since the epoch.
    pub(super) taken: Option<Taken>,
}

/// What taking came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) before: Bucket,
    pub(super) bucket: Bucket,
    pub(super) amount: u64,
    pub(super) at: u64,
}

impl<T> Want<T> {
    /// Whether it wants room for a new bucket; the bucket that newcomers share has it always.
    fn is_newcomer(&self) -> bool {
        self.absent && self.key != self.overflow
    }

    pub(super) const fn new(of: T, key: Key, overflow: Key, terms: Terms, ask: Ask) -> Self {
        Self { of, terms, ask, key, overflow, shard: 0, absent: false, taken: None }
    }
}

/// Nothing was taken: the bucket of `of` is the last to have it again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal<T> {
    pub(super) of: T,
    pub(super) key: Key,
    pub(super) why: Blocked,
    /// The bucket that refused, as it is.
    pub(super) bucket: Bucket,
}

/// Wants and locks of most calls fit where they are made.
pub(super) type Wants<T> = SmallVec<[Want<T>; 4]>;

impl Buckets {
    /// A million: 65 to 75 MB when all of them are in use.
    pub const DEFAULT_CAPACITY: usize = 1_000_000;

    /// Room for `capacity` buckets, none of which takes memory yet. Times before `epoch` count as `epoch`.
    #[must_use]
    pub fn new(capacity: usize, epoch: Instant) -> Arc<Self> {
        let shards = (capacity / BUCKETS_PER_SHARD).clamp(1, MOST_SHARDS);
        let shard = || Shard { none_idle_before: AtomicU64::new(u64::MAX), table: Mutex::default() };
        Arc::new(Self {
            capacity,
            epoch,
            seed: Seed::random(),
            shards: std::iter::repeat_with(shard).take(shards).collect(),
            taken: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
            overflowed: AtomicU64::new(0),
            warn_at: AtomicU64::new(0),
            wall: AtomicU64::new(0),
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

    /// The bytes that the buckets and the tables around them take. It locks every shard in turn.
    #[must_use]
    pub fn footprint(&self) -> usize {
        // A table keeps one place in eight free, and one byte beside each place (hashbrown).
        let place = size_of::<(Key, Bucket)>() + 1;
        let tables: usize = self.shards.iter().map(|shard| (shard.table.lock().buckets.capacity() * 8).div_ceil(7) * place).sum();
        size_of::<Self>() + self.shards.len() * size_of::<Shard>() + tables
    }

    /// Forgets the buckets that are idle at `now`, gives back memory that is no longer needed, and returns how many were forgotten.
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

    /// The wall time in whole seconds since 1970, which does not go back: not by less than a day, for then the clock was wrong before, and is followed.
    pub(super) fn wall(&self, now: SystemTime) -> u64 {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let latest = self.latest_wall();
        match latest.checked_sub(now) {
            Some(0) => now,
            Some(back) if back <= MOST_BACK => latest,
            Some(_) => {
                self.wall.store(now, Relaxed);
                tracing::warn!(from = latest, to = now, "the clock went back by more than a day; quotas keep what is used of them");
                now
            }
            None => {
                self.wall.fetch_max(now, Relaxed);
                now
            }
        }
    }

    /// The same, where `at_least` was seen before the process began.
    pub(super) fn wall_at_least(&self, at_least: u64, now: SystemTime) -> u64 {
        let wall = self.wall(now);
        if at_least > wall && at_least - wall <= MOST_BACK {
            self.wall.fetch_max(at_least, Relaxed);
        }
        self.latest_wall()
    }

    /// The latest wall time that anyone told, in seconds since 1970.
    pub(super) fn latest_wall(&self) -> u64 {
        self.wall.load(Relaxed)
    }

    /// The bucket as it is at `now`, and that time in nanoseconds since the epoch. Takes nothing, and keeps nothing.
    pub(super) fn look(&self, key: Key, terms: Terms, now: Instant) -> (Bucket, u64) {
        let now = self.nanos(now);
        let Some(shard) = self.shards.get(self.shard_of(key)) else { return (Bucket::default(), now) };
        let table = shard.table.lock();
        let now = now.max(table.latest);
        (table.buckets.get(&key).copied().unwrap_or_default().at(terms, now), now)
    }

    /// Changes one bucket by `change`, which gets it as it is now and that time in nanoseconds since the epoch, and returns it before and after. Without
    /// `now` it is the latest time that anyone was there: good enough for what gives something back. It takes room beyond the bound where there is no
    /// such bucket: what a call used is never forgotten for want of room.
    pub(super) fn change(
        &self,
        key: Key,
        terms: Terms,
        now: Option<Instant>,
        change: impl FnOnce(Bucket, u64) -> Bucket,
    ) -> (Bucket, Bucket) {
        let now = now.map_or(0, |now| self.nanos(now));
        let Some(shard) = self.shards.get(self.shard_of(key)) else { return (Bucket::default(), Bucket::default()) };
        let mut table = shard.table.lock();
        let now = table.at(now);
        let before = table.buckets.get(&key).copied().unwrap_or_default().at(terms, now);
        let after = change(before, now);
        lower(&shard.none_idle_before, after.idle_at());
        if table.buckets.insert(key, after).is_none() {
            self.taken.fetch_add(1, Relaxed);
        }
        (before, after)
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
    fn lock<T>(&self, wants: &[Want<T>]) -> SmallVec<[Held<'_>; 4]> {
        let shards = wants.chunk_by(|one, other| one.shard == other.shard).filter_map(|group| self.shards.get(group.first()?.shard));
        shards.map(|shard| Held { shard, table: shard.table.lock() }).collect()
    }

    /// Takes what [`check`] found to be there. Room for `reserved` new buckets is taken already.
    fn commit<T>(&self, wants: &mut [Want<T>], held: &mut [Held<'_>], reserved: usize) {
        let mut added = 0;
        for (group, held) in wants.chunk_by_mut(|one, other| one.shard == other.shard).zip(held) {
            // Those that are there go first: once taken from, they are not idle, and growing the table can't forget them.
            group.sort_unstable_by_key(|want| want.absent);
            for want in group {
                let Some(Taken { bucket, .. }) = want.taken else { continue };
                if want.absent {
                    self.grow(held);
                }
                if held.table.buckets.insert(want.key, bucket).is_none() {
                    added += 1;
                }
                lower(&held.shard.none_idle_before, bucket.idle_at());
            }
        }
        // More than reserved where the bucket that newcomers share is new.
        if added > reserved {
            self.taken.fetch_add(added - reserved, Relaxed);
        } else {
            self.taken.fetch_sub(reserved - added, Relaxed);
        }
    }

    /// Before a table doubles, forgets what is idle in it. It doubles all the same if that was little: or the next few would sweep again.
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

    /// Sweeps shards that may hold idle buckets until there is room for `places`. The caller holds no shard.
    fn make_room(&self, places: usize, now: u64) -> bool {
        let is_room = || self.taken.load(Relaxed).saturating_add(places) <= self.capacity;
        let from = self.cursor.fetch_add(1, Relaxed) % self.shards.len().max(1);
        let (before, after) = self.shards.split_at(from.min(self.shards.len()));
        let worth_it = after.iter().chain(before).filter(|shard| shard.none_idle_before.load(Relaxed) <= now);
        for shard in worth_it.take(MOST_SWEEPS) {
            self.sweep_shard(shard, &mut shard.table.lock(), now);
            if is_room() {
                return true;
            }
        }
        is_room()
    }

    /// Forgets the buckets of one shard that are idle at `now`, and returns how many.
    fn sweep_shard(&self, shard: &Shard, table: &mut Table, now: u64) -> usize {
        let now = table.at(now);
        if shard.none_idle_before.load(Relaxed) > now {
            return 0;
        }
        let before = table.buckets.len();
        let mut earliest = u64::MAX;
        table.buckets.retain(|_, bucket| {
            let keep = bucket.idle_at() > now;
            if keep {
                earliest = earliest.min(bucket.idle_at());
            }
            keep
        });
        shard.none_idle_before.store(earliest, Relaxed);
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
        // As many of the 32 bits as there are shards, without a division.
        let shards = u64::try_from(self.shards.len()).unwrap_or(0);
        usize::try_from(((key.high & 0xffff_ffff) * shards) >> 32).unwrap_or(0)
    }

    /// Nanoseconds since the epoch, at most [`HORIZON`].
    pub(super) fn nanos(&self, now: Instant) -> u64 {
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
        let at = held.table.at(now);
        for want in group {
            let bucket = held.table.buckets.get(&want.key).copied();
            want.absent = bucket.is_none();
            let before = bucket.unwrap_or_default().at(want.terms, at);
            match before.take(want.ask, want.terms, at) {
                Ok((bucket, amount)) => want.taken = Some(Taken { before, bucket, amount, at }),
                Err(why) => {
                    // The caller's clock may be a little behind the shard's.
                    let why = if let Blocked::Drains(nanos) = why { Blocked::Drains(nanos + (at - now)) } else { why };
                    if refusal.as_ref().is_none_or(|refusal| refusal.why < why) {
                        refusal = Some(Refusal { of: want.of, key: want.key, why, bucket: before });
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
}
