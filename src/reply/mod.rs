//! What comes back? A reader stands beside the answer and finds what it used.
//!
//! Invariants: the bytes pass untouched and unheld; a frame may be split anywhere; memory is bounded whatever a frame says of its length; nothing that
//! comes from outside makes it fail: where it understands nothing, it finds nothing.

use std::time::Duration;

use http::HeaderMap;

use crate::domain::{Asked, Usage};

/// Reads one answer.
#[derive(Debug, Default)]
pub struct Meter {
    streamed: bool,
}

/// What was found in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// What it used; none where it is no model's answer.
    pub usage: Option<Usage>,
    /// When its first token came, by the time that [`Meter::read`] was given.
    pub first_token: Option<Duration>,
    /// When its last came.
    pub last_token: Option<Duration>,
    /// Whether it came as a stream of events.
    pub streamed: bool,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// At its end.
    Whole,
    /// Before it: the client left, or the upstream broke off.
    Early,
}

impl Meter {
    /// Begins at the head of the upstream's answer.
    #[must_use]
    pub fn begin(_status: u16, _headers: &HeaderMap) -> Self {
        Self::default()
    }

    /// Looks at the next bytes of the body, which came `at` so long after the exchange began. Allocates nothing for what can't matter.
    pub fn read(&mut self, _bytes: &[u8], _at: Duration) {}

    /// What was found, now that the answer has ended. `asked` is what an estimate starts from where nothing was told; none where the call is for no model.
    #[must_use]
    pub fn measured(&self, _asked: Option<&Asked>, _ended: Ended) -> Measured {
        Measured { streamed: self.streamed, ..Measured::default() }
    }
}
