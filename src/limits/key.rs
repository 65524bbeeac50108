//! What a bucket is found by: 128 bits that nobody outside can steer.
//!
//! A key is the XOR of a rule's part and one part for each dimension of the rule. Every part is SipHash-1-3, twice, under a seed drawn
//! when the process starts; its kind and the length of every text go in first, so that no two sets of values feed the hash the same bytes.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::ops::BitXor;

/// The name of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Chooses the shard.
    pub(super) high: u64,
    /// Chooses the place within the shard.
    low: u64,
}

impl BitXor for Key {
    type Output = Self;

    fn bitxor(self, other: Self) -> Self {
        Self { high: self.high ^ other.high, low: self.low ^ other.low }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.low);
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
    pub(super) fn part(&self, part: Part, texts: &[&str]) -> Key {
        let half = |side: u8| {
            let mut hasher = self.0.build_hasher();
            hasher.write(&[side, part as u8]);
            for text in texts {
                hasher.write_usize(text.len());
                hasher.write(text.as_bytes());
            }
            hasher.finish()
        };
        Key { high: half(0), low: half(1) }
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(***)")
    }
}
