//! Taking: all that is wanted, or nothing.

use std::time::Instant;

use smallvec::SmallVec;

use super::super::sync::Relaxed;
use super::Buckets;
use super::shard::Held;
use super::wants::{Refusal, Taken, Want, check};

/// How many shards one newcomer sweeps at most, at the bound, before it shares a bucket.
const MOST_SWEEPS: usize = 8;
/// The least time between two warnings that newcomers share a bucket, in nanoseconds.
const WARN_EVERY: u64 = 60_000_000_000;

impl Buckets {
    /// Takes every want, or none of them: no other caller sees or does anything in between.
    pub(in super::super) fn take_all<T: Copy>(&self, wants: &mut [Want<T>], now: Instant) -> Result<(), Refusal<T>> {
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
        shards.map(|shard| shard.lock()).collect()
    }

    /// Takes what [`check`] found to be there. Room for `reserved` new buckets is taken already.
    fn commit<T>(&self, wants: &mut [Want<T>], held: &mut [Held<'_>], reserved: usize) {
        let (mut added, mut swept) = (0, 0);
        for (group, held) in wants.chunk_by_mut(|one, other| one.shard == other.shard).zip(held) {
            // Those that are there go first: once taken from, they are not idle, and growing the table can't forget them.
            group.sort_unstable_by_key(|want| want.found.is_none());
            for want in group {
                let Some(Taken { bucket, .. }) = want.taken else { continue };
                if want.found.is_none() {
                    swept += held.grow(self.latest_wall());
                }
                added += usize::from(held.put(want.key, bucket));
            }
        }
        // More than reserved where the bucket that newcomers share is new. Most calls find all their buckets there, and leave the count alone, which
        // all cores share.
        self.count(added, reserved + swept);
    }

    /// Takes `places` of the room there is, or none.
    pub(super) fn reserve(&self, places: usize) -> bool {
        if places == 0 {
            return true;
        }
        let more = |taken: usize| taken.checked_add(places).filter(|taken| *taken <= self.capacity);
        self.taken.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// So many buckets more, and so many less.
    pub(super) fn count(&self, added: usize, gone: usize) {
        if added > gone {
            self.taken.fetch_add(added - gone, Relaxed);
        } else if gone > added {
            self.taken.fetch_sub(gone - added, Relaxed);
        }
    }

    /// Sweeps shards that may hold idle buckets until there is room for `places`. The caller holds no shard.
    pub(super) fn make_room(&self, places: usize, now: u64) -> bool {
        let is_room = || self.taken.load(Relaxed).saturating_add(places) <= self.capacity;
        let from = self.cursor.fetch_add(1, Relaxed) % self.shards.len().max(1);
        let (before, after) = self.shards.split_at(from.min(self.shards.len()));
        let worth_it = after.iter().chain(before).filter(|shard| shard.may_have_idle(now));
        for shard in worth_it.take(MOST_SWEEPS) {
            let mut held = shard.lock();
            self.count(0, held.sweep(now, self.latest_wall()));
            drop(held);
            if is_room() {
                return true;
            }
        }
        is_room()
    }

    pub(super) fn warn(&self, now: u64) {
        let due = self.warn_at.load(Relaxed);
        if now >= due && self.warn_at.compare_exchange(due, now + WARN_EVERY, Relaxed, Relaxed).is_ok() {
            let (capacity, overflowed) = (self.capacity, self.overflowed());
            tracing::warn!(capacity, overflowed, "no room for more limit buckets: newcomers share one for each rule");
        }
    }
}
