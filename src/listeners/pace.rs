//! Where a connection stands between two requests: what a slow client may still take its time for.

use std::sync::atomic::{AtomicU8, Ordering};

/// A connection's phase, told by the connection as bytes arrive and by the corridor as requests begin and end.
#[derive(Debug)]
pub(super) struct Pace(AtomicU8);

/// What the next byte would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// The first of a new connection: it must come within the header timeout.
    Fresh = 0,
    /// The first of another request: Pingora's keep-alive timeout bounds the wait.
    Idle = 1,
    /// More of a request's head: all of it must come within the header timeout.
    Head = 2,
    /// Part of a request that is being served: bounded elsewhere.
    Serving = 3,
    /// Of HTTP/2, after its preface, to the connection's end: bounded elsewhere.
    Http2 = 4,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self(AtomicU8::new(Phase::Fresh as u8))
    }

    // Relaxed: one task at a time uses a connection, and the flag guards no other memory.
    pub(super) fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Fresh,
            1 => Phase::Idle,
            2 => Phase::Head,
            3 => Phase::Serving,
            _ => Phase::Http2,
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }
}
