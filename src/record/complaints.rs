//! How often a writer says in the log that something failed.

use std::time::{Duration, Instant};

/// At most this often: what fails now mostly fails again with the next batch, and the counters tell how often.
const EVERY: Duration = Duration::from_mins(1);

/// The complaints of one writer.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: Option<Instant>,
}

impl Complaints {
    /// Whether a complaint is due at `now`: then it is taken to be made.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.last.is_none_or(|last| now.duration_since(last) >= EVERY);
        if due {
            self.last = Some(now);
        }
        due
    }
}
