//! Histograms that are counted with two atomic additions, and whose sums are whole numbers: exact, however many are added.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How a quantity is told apart, and in what it is written.
#[derive(Debug)]
pub(super) struct Scale {
    /// The upper bounds, ascending, each with its label `le`.
    pub(super) bounds: &'static [(u64, &'static str)],
    /// How many of the units that are counted make one that is written: a power of ten.
    pub(super) one: u64,
}

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

/// Tokens: the steps that the OpenTelemetry conventions advise (powers of four), without those that no call ends at.
pub(super) static TOKENS: Scale = Scale {
    bounds: &[
        (1, "1"),
        (16, "16"),
        (64, "64"),
        (256, "256"),
        (1 << 10, "1024"),
        (1 << 12, "4096"),
        (1 << 14, "16384"),
        (1 << 16, "65536"),
        (1 << 18, "262144"),
        (1 << 20, "1048576"),
    ],
    one: 1,
};

/// Whole answers: from an embedding to an agent that works for half an hour.
pub(super) static REQUEST_SECONDS: Scale = Scale {
    bounds: &[
        (100 * MILLI, "0.1"),
        (250 * MILLI, "0.25"),
        (500 * MILLI, "0.5"),
        (SECOND, "1"),
        (2500 * MILLI, "2.5"),
        (5 * SECOND, "5"),
        (10 * SECOND, "10"),
        (30 * SECOND, "30"),
        (60 * SECOND, "60"),
        (300 * SECOND, "300"),
        (1800 * SECOND, "1800"),
    ],
    one: SECOND,
};

/// First tokens.
pub(super) static FIRST_TOKEN_SECONDS: Scale = Scale {
    bounds: &[
        (50 * MILLI, "0.05"),
        (100 * MILLI, "0.1"),
        (250 * MILLI, "0.25"),
        (500 * MILLI, "0.5"),
        (SECOND, "1"),
        (2 * SECOND, "2"),
        (5 * SECOND, "5"),
        (10 * SECOND, "10"),
        (30 * SECOND, "30"),
    ],
    one: SECOND,
};

/// The time for one more token.
pub(super) static PER_TOKEN_SECONDS: Scale = Scale {
    bounds: &[
        (5 * MILLI, "0.005"),
        (10 * MILLI, "0.01"),
        (15 * MILLI, "0.015"),
        (20 * MILLI, "0.02"),
        (30 * MILLI, "0.03"),
        (50 * MILLI, "0.05"),
        (100 * MILLI, "0.1"),
        (200 * MILLI, "0.2"),
        (500 * MILLI, "0.5"),
    ],
    one: SECOND,
};

/// The most lines that one histogram takes: ten bounds or eleven, `+Inf`, the sum and the count.
pub(super) const MOST_LINES: u64 = 14;

/// Counts by bucket, and the sum.
#[derive(Debug)]
pub(super) struct Histogram {
    scale: &'static Scale,
    /// One for each bound, not cumulated, and one for what is beyond.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(scale: &'static Scale) -> Self {
        let buckets = std::iter::repeat_with(AtomicU64::default).take(scale.bounds.len() + 1).collect();
        Self { scale, buckets, sum: AtomicU64::new(0) }
    }

    /// How many lines of an exposition one of that scale takes.
    pub(super) fn lines(scale: &Scale) -> u64 {
        scale.bounds.len() as u64 + 3
    }

    pub(super) fn observe(&self, value: u64) {
        let at = self.scale.bounds.partition_point(|(bound, _)| *bound < value);
        if let Some(bucket) = self.buckets.get(at) {
            add(bucket, 1);
            add(&self.sum, value);
        }
    }

    /// The sum, and its scale.
    pub(super) fn sum(&self) -> (u64, &'static Scale) {
        (self.sum.load(Relaxed), self.scale)
    }

    /// Every bound's label, `+Inf` last, with how many were at most as large.
    pub(super) fn cumulated(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let labels = self.scale.bounds.iter().map(|(_, label)| *label).chain(["+Inf"]);
        labels.zip(&self.buckets).scan(0_u64, |sum, (label, bucket)| {
            *sum = sum.saturating_add(bucket.load(Relaxed));
            Some((label, *sum))
        })
    }
}

/// Adds, and returns what was there before. A figure that comes from outside may be any; a counter that turned over would look like a restart, so it stops.
pub(super) fn add(cell: &AtomicU64, count: u64) -> u64 {
    cell.fetch_update(Relaxed, Relaxed, |sum| Some(sum.saturating_add(count))).unwrap_or_default()
}

/// In whole nanoseconds; 584 years at most.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&TOKENS);
        for value in [0, 1, 2, 16, 17, 1 << 20, u64::MAX] {
            histogram.observe(value);
        }
        let counts: Vec<_> = histogram.cumulated().collect();
        assert_eq!(counts.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 4, 5, 5, 5, 5, 5, 5, 5, 6, 7]);
        assert_eq!(counts.last(), Some(&("+Inf", 7)));
        assert_eq!(histogram.sum().0, u64::MAX, "a sum stops at its end");
    }

    #[test]
    fn labels_say_what_the_bounds_are() {
        for scale in [&TOKENS, &REQUEST_SECONDS, &FIRST_TOKEN_SECONDS, &PER_TOKEN_SECONDS] {
            assert!(scale.bounds.is_sorted() && Histogram::lines(scale) <= MOST_LINES);
            for (bound, label) in scale.bounds {
                #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^53")]
                let told = *bound as f64 / scale.one as f64;
                assert!((label.parse::<f64>().unwrap() - told).abs() < 1e-12, "{label}");
            }
        }
    }
}
