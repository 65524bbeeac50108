//! What was seen of a canary and of its baseline in the last while.

use std::time::{Duration, Instant};

/// The window slides by a tenth of its length.
const SLOTS: usize = 10;

/// Whose call it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The canary's.
    Canary,
    /// Another target's of its route.
    Baseline,
}

/// What a try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it failed, by the upstream's fault.
    pub failed: bool,
    /// From sending the call to the first token of a stream; to when its client had waited enough, where none came. None where it tells nothing.
    pub first_token: Option<Duration>,
}

/// What was seen of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// So many tries.
    pub calls: u32,
    /// So many of them failed.
    pub failed: u32,
    /// Of so many the time to the first token is known.
    pub timed: u32,
    /// The sum of the logarithms of those times in seconds, and of their squares: the times of models have a long tail, their logarithms next to none.
    pub(super) logs: f64,
    pub(super) squares: f64,
}

impl Figures {
    /// The part of the calls that failed: 0 to 1; 0 where there were none.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { f64::from(self.failed) / f64::from(self.calls) }
    }

    /// The typical time to the first token (the geometric mean), in seconds; none where none is known.
    #[must_use]
    pub fn first_token(&self) -> Option<f64> {
        (self.timed > 0).then(|| self.mean_log().exp())
    }

    pub(super) fn mean_log(&self) -> f64 {
        self.logs / f64::from(self.timed.max(1))
    }

    /// The variance of the mean of the logarithms.
    pub(super) fn variance_of_mean(&self) -> f64 {
        let number = f64::from(self.timed.max(2));
        let mean = self.logs / number;
        // Rounding can bring it below zero where all are the same.
        ((self.squares / number - mean * mean).max(0.0)) / (number - 1.0)
    }

    fn add(&mut self, outcome: Outcome) {
        self.calls = self.calls.saturating_add(1);
        self.failed = self.failed.saturating_add(u32::from(outcome.failed));
        if let Some(time) = outcome.first_token {
            let log = time.as_secs_f64().max(1e-6).ln();
            self.timed = self.timed.saturating_add(1);
            self.logs += log;
            self.squares += log * log;
        }
    }

    fn join(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.failed = self.failed.saturating_add(other.failed);
        self.timed = self.timed.saturating_add(other.timed);
        self.logs += other.logs;
        self.squares += other.squares;
    }
}

/// The figures of both sides over the last while: the current tenth of the window, which has perhaps only begun, and the nine before it.
#[derive(Debug)]
pub(super) struct Window {
    /// A tenth of the window; never zero.
    slot: Duration,
    /// The first time that was heard of. Earlier times count as it.
    base: Option<Instant>,
    /// The number of the tenth that each was last used for, and what was seen in it.
    slots: [(u128, [Figures; 2]); SLOTS],
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let tenth = length / 10;
        Self { slot: tenth.max(Duration::from_millis(1)), base: None, slots: Default::default() }
    }

    pub(super) fn add(&mut self, side: Side, outcome: Outcome, now: Instant) {
        let number = self.number(now);
        let at = usize::try_from(number % 10).unwrap_or(0);
        let Some((used_for, sides)) = self.slots.get_mut(at) else { return };
        if *used_for < number {
            (*used_for, *sides) = (number, Default::default());
        }
        let [canary, baseline] = sides;
        match side {
            Side::Canary => canary.add(outcome),
            Side::Baseline => baseline.add(outcome),
        }
    }

    /// What was seen in the window that ends now, of the canary and of the baseline.
    pub(super) fn sums(&mut self, now: Instant) -> [Figures; 2] {
        let number = self.number(now);
        let mut sums = [Figures::default(); 2];
        for (_, sides) in self.slots.iter().filter(|(used_for, _)| used_for + 10 > number) {
            sums.iter_mut().zip(sides).for_each(|(sum, side)| sum.join(side));
        }
        sums
    }

    /// The number of the tenth that is current.
    fn number(&mut self, now: Instant) -> u128 {
        let base = *self.base.get_or_insert(now);
        now.saturating_duration_since(base).as_nanos() / self.slot.as_nanos().max(1)
    }
}
