//! A token bucket by the generic cell rate algorithm (ITU-T I.371, annex A, "virtual scheduling").
//!
//! Its state is one time: when the bucket will be full again, the theoretical arrival time. Taking moves that time on by one interval;
//! a request passes if the time is then at most a burst's worth of intervals ahead. Nothing ticks, and nothing is lost to rounding over
//! time: the interval is rounded **up** to whole nanoseconds once, so a rate is never exceeded (and is kept to within 1 in 1,000 up to a
//! million a second; the fastest there is, is one a nanosecond).

use crate::config::limits::Rate;

/// The longest time that is told apart, in nanoseconds: 146 years. Three of them fit into a `u64`, so no sum here can overflow.
pub(super) const HORIZON: u64 = u64::MAX / 4;

/// What a rule grants, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// In which one request refills: `1..=HORIZON`.
    interval: u64,
    /// In which an empty bucket fills: `interval..=HORIZON`.
    depth: u64,
}

impl Terms {
    /// A bucket that refills at `rate` and holds `burst`.
    pub(super) fn new(rate: Rate, burst: u64) -> Self {
        let interval = rate.period.as_nanos().div_ceil(u128::from(rate.events.max(1)));
        let interval = u64::try_from(interval).unwrap_or(HORIZON).clamp(1, HORIZON);
        Self { interval, depth: interval.saturating_mul(burst.max(1)).min(HORIZON) }
    }

    /// How many a full bucket admits at once; at least 1.
    pub(super) const fn burst(self) -> u64 {
        self.depth / self.interval
    }

    /// How many more a bucket admits that will be full in `debt` nanoseconds.
    pub(super) const fn remaining(self, debt: u64) -> u64 {
        self.depth.saturating_sub(debt) / self.interval
    }
}

/// The state of one bucket. A bucket that is full equals one that is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// When it is full again, in nanoseconds since the epoch of the buckets; at most `3 * HORIZON`.
    full_at: u64,
    /// The interval under which `full_at` was written: a reload may have changed it since.
    interval: u64,
}

/// What a bucket would be if one were taken from it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) bucket: Bucket,
    /// The time from now until it is full again, in nanoseconds; at most the terms' depth.
    pub(super) debt: u64,
}

/// The bucket is empty: the nanoseconds from now until one could be taken; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Empty(pub(super) u64);

impl Bucket {
    /// Takes one from `bucket` (absent means full), which was last seen [`Self::under`] these `terms`, at `now` (at most [`HORIZON`]).
    pub(super) fn take(bucket: Option<Self>, terms: Terms, now: u64) -> Result<Taken, Empty> {
        let debt = bucket.map_or(0, |bucket| bucket.full_at.saturating_sub(now)) + terms.interval;
        if debt > terms.depth {
            return Err(Empty(debt - terms.depth));
        }
        Ok(Taken { bucket: Self { full_at: now + debt, interval: terms.interval }, debt })
    }

    /// When the bucket is full again and may be forgotten.
    pub(super) const fn full_at(self) -> u64 {
        self.full_at
    }

    /// The same bucket under `terms` that a reload may have changed: requests that are missing stay missing and refill at the new rate,
    /// but no bucket is emptier than empty. The same value if the terms are those it was written under.
    ///
    /// The result must be kept even if nothing is then taken, or the bucket would go on refilling as of old.
    pub(super) fn under(self, terms: Terms, now: u64) -> Self {
        let debt = self.full_at.saturating_sub(now);
        if self.interval == terms.interval && debt <= terms.depth {
            return self;
        }
        let scaled = (u128::from(debt) * u128::from(terms.interval)).div_ceil(u128::from(self.interval));
        let debt = u64::try_from(scaled).unwrap_or(HORIZON).min(terms.depth);
        Self { full_at: now + debt, interval: terms.interval }
    }
}
