//! Which of a route's targets a call gets.
//!
//! Calls that are to stick are given theirs by weighted rendezvous hashing (Thaler and Ravishankar 1998; the weights by Schindelhauer and Schomaker's
//! logarithmic method, 2005): every target scores `-weight / ln(h)` on the key, and the best takes it. A weight that grows takes keys from others, and
//! moves none between those. `h` is a hash with fixed keys, so that every instance of a fleet gives the same answer, today and after an upgrade: what
//! the keys and the hash are is a contract, held by a test with known values.

use std::sync::Arc;

use aws_lc_rs::digest;
use siphasher::sip::SipHasher24;

use super::Target;

/// The targets of a route that calls are drawn for, at least one.
#[derive(Debug)]
pub(super) struct Choice(Box<[Drawn]>);

#[derive(Debug)]
struct Drawn {
    target: Arc<Target>,
    /// Hashes keys for this target of this route.
    hasher: SipHasher24,
}

impl Choice {
    pub(super) fn new(route: &str, targets: &[Arc<Target>]) -> Self {
        Self(targets.iter().map(|target| Drawn { hasher: hasher(route, &target.name), target: Arc::clone(target) }).collect())
    }

    /// The target at this place.
    pub(super) fn at(&self, place: usize) -> Option<&Arc<Target>> {
        self.0.get(place).map(|drawn| &drawn.target)
    }

    /// All of them.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.0.iter().map(|drawn| &drawn.target)
    }

    /// The place of the target that the key sticks to. Never one of weight 0, unless all are.
    pub(super) fn stuck(&self, key: &Key<'_>) -> usize {
        if self.0.len() == 1 {
            return 0;
        }
        let scores = self.0.iter().map(|drawn| match drawn.target.weight.now() {
            0 => f64::NEG_INFINITY,
            weight => -f64::from(weight) / unit(key.hash(drawn.hasher)).ln(),
        });
        // Of equals the first: `max_by` would take the last.
        let best = scores.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map_or(0, |(place, _)| place)
    }

    /// The place of a target that is drawn: `draw(n)` gives a number below `n`, which is not 0. Never one of weight 0, unless all are.
    pub(super) fn drawn(&self, draw: impl FnOnce(u64) -> u64) -> usize {
        if self.0.len() == 1 {
            return 0;
        }
        // Each weight is looked at once in each pass, and may have changed between: then the last that can be drawn gets what is left over.
        let weights = || self.0.iter().map(|drawn| u64::from(drawn.target.weight.now()));
        let all = weights().sum::<u64>();
        if all == 0 {
            return 0;
        }
        let mut left = draw(all);
        let mut last = 0;
        for (place, weight) in weights().enumerate().filter(|(_, weight)| *weight > 0) {
            if left < weight {
                return place;
            }
            left -= weight;
            last = place;
        }
        last
    }
}

/// What a call sticks by. Each part is told from the next, so that no two keys are one.
pub(super) struct Key<'k> {
    pub(super) first: &'k [u8],
    pub(super) second: &'k [u8],
}

impl Key<'_> {
    /// The first part, its length behind it as eight bytes, and the second.
    fn hash(&self, mut hasher: SipHasher24) -> u64 {
        use std::hash::Hasher as _;
        hasher.write(self.first);
        hasher.write(&(self.first.len() as u64).to_le_bytes());
        hasher.write(self.second);
        hasher.finish()
    }
}

/// SipHash-2-4 under the first 16 bytes of the SHA-256 of route, a zero byte and target: names hold none.
fn hasher(route: &str, target: &str) -> SipHasher24 {
    let mut name = digest::Context::new(&digest::SHA256);
    name.update(route.as_bytes());
    name.update(&[0]);
    name.update(target.as_bytes());
    let mut key = [0; 16];
    key.iter_mut().zip(name.finish().as_ref()).for_each(|(to, from)| *to = *from);
    SipHasher24::new_with_key(&key)
}

/// Between 0 and 1, neither of them: the middles of 2^52 equal parts, which a float holds exactly.
fn unit(hash: u64) -> f64 {
    // Both halves fit a float: 32 bits, and 20 of the lower ones.
    let (high, low) = (hash >> 32, (hash >> 12) & 0xF_FFFF);
    let part = |bits: u64| f64::from(u32::try_from(bits).unwrap_or(u32::MAX));
    (part(high) * f64::from(1_u32 << 20) + part(low) + 0.5) / f64::from(1_u32 << 26) / f64::from(1_u32 << 26)
}

#[cfg(test)]
mod tests;
