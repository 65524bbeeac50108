//! What is asked of buckets, and what comes of it.

use smallvec::SmallVec;

use super::super::bucket::{Ask, Blocked, Bucket, Terms};
use super::super::key::Key;
use super::shard::Held;

/// So much to be taken from one bucket, `of` whoever asks.
#[derive(Debug)]
pub(in super::super) struct Want<T> {
    pub(in super::super) of: T,
    pub(in super::super) terms: Terms,
    pub(in super::super) ask: Ask,
    /// Of the bucket; past the bound, of the one that newcomers share.
    pub(in super::super) key: Key,
    pub(super) overflow: Key,
    pub(super) shard: usize,
    /// The bucket as it was found; none where there is none yet.
    pub(super) found: Option<Bucket>,
    /// None until it is taken.
    pub(in super::super) taken: Option<Taken>,
}

/// What taking came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Taken {
    /// What was used before.
    pub(in super::super) used: u64,
    /// The bucket as it is then.
    pub(in super::super) bucket: Bucket,
    pub(in super::super) amount: u64,
    /// When, in nanoseconds since the epoch.
    pub(in super::super) at: u64,
}

impl<T> Want<T> {
    pub(in super::super) const fn new(of: T, key: Key, overflow: Key, terms: Terms, ask: Ask) -> Self {
        Self { of, terms, ask, key, overflow, shard: 0, found: None, taken: None }
    }

    /// Whether it wants room for a new bucket; the bucket that newcomers share has it always.
    pub(super) fn is_newcomer(&self) -> bool {
        self.found.is_none() && self.key != self.overflow
    }
}

/// Nothing was taken: the bucket of `of` is the last to have it again.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Refusal<T> {
    pub(in super::super) of: T,
    pub(in super::super) key: Key,
    pub(in super::super) why: Blocked,
    /// The bucket that refused, as it is.
    pub(in super::super) bucket: Bucket,
}

/// Wants and locks of most calls fit where they are made.
pub(in super::super) type Wants<T> = SmallVec<[Want<T>; 4]>;

/// Finds what each want would leave in its bucket, and which are newcomers. Takes nothing.
pub(super) fn check<T: Copy>(wants: &mut [Want<T>], held: &mut [Held<'_>], now: u64) -> Result<(), Refusal<T>> {
    // All are looked up before any is judged: they are hardly ever in the cache, and so the processor waits for them together.
    for (group, held) in wants.chunk_by_mut(|one, other| one.shard == other.shard).zip(&*held) {
        for want in group {
            want.found = held.table.buckets.get(&want.key).copied();
        }
    }
    let mut refusal: Option<Refusal<T>> = None;
    for (group, held) in wants.chunk_by_mut(|one, other| one.shard == other.shard).zip(held) {
        let at = held.table.at(now);
        for want in group {
            let bucket = want.found;
            let before = bucket.unwrap_or_default().at(want.terms, at);
            // A clock was wrong by more than a period: kept, or the bucket would wait for that time to come, refusal after refusal.
            if bucket.is_some_and(|bucket| before.at < bucket.at) {
                held.table.buckets.insert(want.key, before);
            }
            match before.take(want.ask, want.terms, at) {
                Ok((bucket, amount)) => want.taken = Some(Taken { used: before.used, bucket, amount, at }),
                Err(why) => {
                    let why = match (why, bucket) {
                        // To the nanosecond: it stays as it was, and was not rounded. The caller's clock may be a little behind the shard's.
                        (Blocked::Drains(_), Some(bucket)) => {
                            Blocked::Drains(bucket.drains_in(want.ask.least, want.terms, at) + (at - now))
                        }
                        _ => why,
                    };
                    if refusal.as_ref().is_none_or(|refusal| refusal.why < why) {
                        refusal = Some(Refusal { of: want.of, key: want.key, why, bucket: before });
                    }
                }
            }
        }
    }
    refusal.map_or(Ok(()), Err)
}
