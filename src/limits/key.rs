//! What a bucket is found by: 64 bits that nobody outside can steer.
//!
//! A key is the XOR of a rule's part and one part for each dimension of the rule. Every part is SipHash-1-3 under a seed drawn when the process starts; its
//! kind and the length of every text go in first, so that no two sets of values feed the hash the same bytes. That any two of a million callers share a
//! bucket by chance has a probability of 1 in 37 million; the hash is half of what an admission computes, and so it is not made twice as long.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::ops::BitXor;

/// The name of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u64);

impl Key {
    /// 32 bits that choose a shard: neither those by which a table chooses the place nor those by which it tells neighbours apart (hashbrown: the lowest and
    /// the highest).
    pub(super) const fn shard(self) -> u64 {
        (self.0 >> 16) & 0xffff_ffff
    }
}

impl BitXor for Key {
    type Output = Self;

    fn bitxor(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// The hasher for keys that are hashes already: hands on what it is given.
#[derive(Clone, Copy, Default)]
pub(super) struct Prehashed(u64);

impl Hasher for Prehashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 ^= value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The secret under which keys are made: drawn at random, never shown, kept for the life of the buckets.
pub(super) struct Seed(RandomState);

/// What a part of a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Part {
    Rule,
    Overflow,
    Tenant,
    User,
    Group,
    Model,
    KeyId,
    Address,
}

impl Seed {
    pub(super) fn random() -> Self {
        Self(RandomState::new())
    }

    /// The part of a key that `texts` stand for. What is within a tenant has the tenant first: two tenants' users of one name have nothing in common.
    #[inline]
    pub(super) fn part(&self, part: Part, texts: &[&str]) -> Key {
        let mut hasher = self.0.build_hasher();
        for text in texts {
            // Eight bytes: they keep what follows aligned, and so quick to hash. No text has 2^56 bytes.
            let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
            hasher.write(&((length << 8) | u64::from(part as u8)).to_le_bytes());
            hasher.write(text.as_bytes());
        }
        Key(hasher.finish())
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(***)")
    }
}
