//! The tokens that verified, so that a known one costs a hash and a lookup (a new RS256 token costs tens of microseconds).
//!
//! * Only verified tokens get in, so a stranger can neither fill it nor push others out.
//! * It holds 100,000 live tokens without pushing one out, and never more than [`CAPACITY`]; beyond that the CLOCK rule (second chance)
//!   drops the expired and those not asked for since the hand last passed.
//! * What a token verified under is kept beside it, so that a key that is withdrawn takes its tokens with it at once, and no other issuer's.
//! * An entry takes 64 bytes and some 20 of index; its `Principal` takes 72 more, each group 16, and the user's name its length and 16.
//! * A token is held as its SHA-256 only: a core dump shows none.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use parking_lot::Mutex;

use crate::domain::Principal;

/// A lock each, so that threads seldom meet.
const SHARDS: usize = 32;
/// 100,000 / 32 is 3125; hashes spread them with a standard deviation of 55, and six of those leave no shard short.
const SHARD: usize = 3456;
/// The most tokens that are ever held.
#[cfg(test)]
const CAPACITY: usize = SHARDS * SHARD;

/// The SHA-256 of a token's bytes, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u64; 4]);

impl Fingerprint {
    pub(super) fn of(token: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(digest.as_ref().as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self(words)
    }

    /// Which shard, and under which key in its index.
    fn place(&self) -> (usize, u64) {
        let [shard, key, ..] = self.0;
        (usize::try_from(shard).unwrap_or(usize::MAX) % SHARDS, key)
    }
}

/// Under what a token verified: an issuer, by its place, and the epoch of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) issuer: u16,
    pub(super) epoch: u32,
}

/// Verified tokens and whom they speak for.
pub(super) struct VerifiedTokens {
    shards: [Mutex<Shard>; SHARDS],
}

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Whom a token speaks for and what it verified under, if it verified before and its time is not over at `now` (Unix seconds). Whether
    /// the keys still count is for the caller to see: an entry under keys that do not is replaced when the token verifies anew.
    pub(super) fn find(&self, token: &Fingerprint, now: u64) -> Option<(Arc<Principal>, Stamp)> {
        let (shard, key) = token.place();
        self.shards.get(shard)?.lock().find(key, token, now)
    }

    /// Remembers a token that verified and counts while the time is less than `until` (Unix seconds).
    pub(super) fn remember(&self, token: Fingerprint, until: u64, principal: Arc<Principal>, stamp: Stamp, now: u64) {
        let (shard, key) = token.place();
        if let Some(shard) = self.shards.get(shard) {
            shard.lock().remember(key, Entry { token, until, principal, stamp, asked_for: false }, now);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().entries.len()).sum()
    }
}

impl fmt::Debug for VerifiedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedTokens").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Shard {
    /// Part of the fingerprint to the place in `entries`. Two tokens of one key would take turns, never stand for each other.
    index: HashMap<u64, usize>,
    /// At most [`SHARD`]; never shrinks.
    entries: Vec<Entry>,
    /// Where the search for an entry to drop goes on.
    hand: usize,
}

struct Entry {
    token: Fingerprint,
    until: u64,
    principal: Arc<Principal>,
    stamp: Stamp,
    /// Whether it was asked for since the hand last passed.
    asked_for: bool,
}

impl Shard {
    fn find(&mut self, key: u64, token: &Fingerprint, now: u64) -> Option<(Arc<Principal>, Stamp)> {
        let entry = self.entries.get_mut(*self.index.get(&key)?)?;
        if entry.token != *token || now >= entry.until {
            return None;
        }
        entry.asked_for = true;
        Some((Arc::clone(&entry.principal), entry.stamp))
    }

    fn remember(&mut self, key: u64, new: Entry, now: u64) {
        let known = self.index.get(&key).copied();
        let at = match known {
            Some(at) => at,
            None if self.entries.len() < SHARD => self.entries.len(),
            None => self.expendable(now),
        };
        match self.entries.get_mut(at) {
            Some(entry) => {
                self.index.remove(&entry.token.place().1);
                *entry = new;
            }
            None => self.entries.push(new),
        }
        self.index.insert(key, at);
    }

    /// The first entry from the hand on that is expired or was not asked for; found in at most one round and a step.
    fn expendable(&mut self, now: u64) -> usize {
        loop {
            let at = self.hand;
            self.hand = (at + 1) % SHARD;
            match self.entries.get_mut(at) {
                Some(entry) if entry.asked_for && now < entry.until => entry.asked_for = false,
                _ => return at,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Method;

    fn principal() -> Arc<Principal> {
        Arc::new(Principal { tenant: "acme".into(), user: None, groups: Arc::default(), method: Method::Jwt, key_id: None })
    }

    const STAMP: Stamp = Stamp { issuer: 0, epoch: 0 };

    fn token(n: u32) -> Fingerprint {
        Fingerprint::of(&n.to_string())
    }

    #[test]
    fn a_hundred_thousand_live_tokens_are_all_held() {
        let (tokens, who) = (VerifiedTokens::new(), principal());
        for n in 0..100_000 {
            tokens.remember(token(n), 10, Arc::clone(&who), STAMP, 0);
        }
        let held = (0..100_000).filter(|n| tokens.find(&token(*n), 9).is_some()).count();
        assert_eq!(held, 100_000);
    }

    #[test]
    fn no_number_of_tokens_makes_it_grow_beyond_its_bound() {
        let (tokens, who) = (VerifiedTokens::new(), principal());
        for n in 0..300_000 {
            tokens.remember(token(n), 10, Arc::clone(&who), STAMP, 0);
            assert!(tokens.find(&token(n), 0).is_some(), "the newest is held");
        }
        assert_eq!(tokens.len(), CAPACITY);
        let indexed: usize = tokens.shards.iter().map(|shard| shard.lock().index.len()).sum();
        assert_eq!(indexed, CAPACITY);
        assert_eq!((size_of::<Entry>(), size_of::<Principal>()), (64, 72), "as the module says; an Arc adds 16");
    }

    #[test]
    fn what_is_asked_for_outlives_what_is_not() {
        let (tokens, who) = (VerifiedTokens::new(), principal());
        for n in 0..300_000 {
            tokens.remember(token(n), 10, Arc::clone(&who), STAMP, 0);
            assert!(tokens.find(&token(n % 100), 0).is_some());
        }
    }

    #[test]
    fn an_expired_entry_is_no_answer_and_goes_first() {
        let mut shard = Shard::default();
        let entry = |n, until| Entry { token: token(n), until, principal: principal(), stamp: STAMP, asked_for: true };
        for n in 0..u32::try_from(SHARD).unwrap() {
            shard.remember(u64::from(n), entry(n, if n == 7 { 5 } else { 10 }), 0);
        }
        assert!(shard.find(7, &token(7), 4).is_some());
        assert!(shard.find(7, &token(7), 5).is_none());
        assert_eq!(shard.expendable(5), 7);
    }

    #[test]
    fn tokens_of_one_index_key_do_not_stand_for_each_other() {
        let mut shard = Shard::default();
        shard.remember(1, Entry { token: token(1), until: 10, principal: principal(), stamp: STAMP, asked_for: false }, 0);
        assert!(shard.find(1, &token(2), 0).is_none());
    }
}
