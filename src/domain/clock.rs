//! Where time comes from. Rooms take a time as an argument; only the corridor asks a clock.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

/// The system's clocks, or a [`ManualClock`] that a test turns.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The operating system's monotonic and wall clocks.
    System,
    /// Stands still until it is turned.
    Manual(ManualClock),
}

impl Clock {
    /// Monotonic time: for durations, buckets and deadlines.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn monotonic(&self) -> Instant {
        match self {
            Self::System => Instant::now(),
            Self::Manual(manual) => manual.0.lock().monotonic,
        }
    }

    /// Wall time: for signatures, token expiry and log lines. It may jump.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn wall(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Manual(manual) => manual.0.lock().wall,
        }
    }
}

/// A clock that moves only when told to. Clones share the hands.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Hands>>);

#[derive(Debug)]
struct Hands {
    monotonic: Instant,
    wall: SystemTime,
    /// Those who wait for a time.
    sleepers: Vec<Waker>,
}

impl ManualClock {
    /// Starts at `wall`; the monotonic hand starts at an arbitrary instant.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    pub fn starting_at(wall: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(Hands { monotonic: Instant::now(), wall, sleepers: Vec::new() })))
    }

    /// Turns both hands forward by `by`.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.0.lock();
        hands.monotonic += by;
        hands.wall += by;
        let sleepers = std::mem::take(&mut hands.sleepers);
        drop(hands);
        sleepers.into_iter().for_each(Waker::wake);
    }

    /// Ready once the monotonic hand has come to `at`; until then, whoever asks is woken whenever the hands are turned.
    pub fn poll_until(&self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut hands = self.0.lock();
        if hands.monotonic >= at {
            return Poll::Ready(());
        }
        if !hands.sleepers.iter().any(|sleeper| sleeper.will_wake(cx.waker())) {
            hands.sleepers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
