//! Counts over a sliding window, without a lock where nothing slides.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The window slides by a tenth of its length.
const SLOTS: usize = 10;

/// `N` counts over the last while: the current tenth of the window, which has perhaps only begun, and the nine before it.
///
/// What is counted while another lets the window slide may go to the tenth before; nothing is lost.
#[derive(Debug)]
pub(super) struct Window<const N: usize> {
    /// A tenth of the window; never zero.
    slot: Duration,
    /// The first time that was heard of. Earlier times count as it.
    base: OnceLock<Instant>,
    /// How many tenths after `base` the current one begins.
    current: AtomicU64,
    slots: [[AtomicU64; N]; SLOTS],
    sliding: Mutex<()>,
}

impl<const N: usize> Window<N> {
    pub(super) fn new(length: Duration) -> Self {
        let tenth = length / 10;
        Self {
            slot: tenth.max(Duration::from_millis(1)),
            base: OnceLock::new(),
            current: AtomicU64::new(0),
            slots: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            sliding: Mutex::new(()),
        }
    }

    /// Adds one to the count `which`.
    pub(super) fn add(&self, which: usize, now: Instant) {
        let slot = self.slide(now);
        if let Some(count) = self.at(slot).and_then(|counts| counts.get(which)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts of the window that ends now.
    pub(super) fn sums(&self, now: Instant) -> [u64; N] {
        self.slide(now);
        let mut sums = [0_u64; N];
        for counts in &self.slots {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = sum.saturating_add(count.load(Ordering::Relaxed));
            }
        }
        sums
    }

    /// Forgets all counts.
    pub(super) fn clear(&self) {
        let _sliding = self.sliding.lock();
        self.slots.iter().flatten().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    /// Empties the tenths that have passed out of the window, and tells the current one. Time that runs back stands still.
    fn slide(&self, now: Instant) -> u64 {
        let base = *self.base.get_or_init(|| now);
        let slot = slot_of(now.saturating_duration_since(base), self.slot);
        let current = self.current.load(Ordering::Acquire);
        if slot <= current {
            return current;
        }
        let _sliding = self.sliding.lock();
        let current = self.current.load(Ordering::Acquire);
        for passed in (current + 1..=slot).take(SLOTS) {
            self.at(passed).into_iter().flatten().for_each(|count| count.store(0, Ordering::Relaxed));
        }
        let slot = slot.max(current);
        self.current.store(slot, Ordering::Release);
        slot
    }

    fn at(&self, slot: u64) -> Option<&[AtomicU64; N]> {
        let slots = u64::try_from(SLOTS).unwrap_or(1);
        usize::try_from(slot % slots).ok().and_then(|slot| self.slots.get(slot))
    }
}

/// How many whole `slot`s are in `time`.
fn slot_of(time: Duration, slot: Duration) -> u64 {
    let (time, slot) = (time.as_nanos(), slot.as_nanos().max(1));
    // Half a millennium of nanoseconds fits; a division of 64 bits is several times as fast.
    match (u64::try_from(time), u64::try_from(slot)) {
        (Ok(time), Ok(slot)) => time / slot,
        _ => u64::try_from(time / slot).unwrap_or(u64::MAX),
    }
}
