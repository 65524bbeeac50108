//! When the periods of a quota begin and end.

use crate::config::limits::Calendar;

/// One period, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) starts: u64,
    /// Its first second that is no more of it.
    pub(super) ends: u64,
}

impl Period {
    /// The period that `now`, in seconds since 1970, is in.
    pub(super) fn of(_calendar: &Calendar, now: u64) -> Self {
        let day = 86_400;
        let starts = now / day * day;
        Self { starts, ends: starts + day }
    }

    /// Whether a time is in it.
    pub(super) const fn holds(self, now: u64) -> bool {
        self.starts <= now && now < self.ends
    }
}
