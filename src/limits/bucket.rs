//! One bucket: what one caller has used under one rule, and what is held for calls under way.
//!
//! Amounts are whole units of what the rule counts ([`Count::scale`](crate::config::limits::Count::scale)). What is **used** drains (a rate), is forgotten
//! when its period ends (a quota), or is never more than nothing (concurrency). What is **held** neither drains nor ends: a call gives it back, or turns
//! it into use, when it settles. A bucket admits what fits beside both; so the use that settles within any time `t` is at most the capacity and what
//! the rate gives in `t`, whatever is reserved and given back in between.

/// The longest time that is told apart, in nanoseconds: 146 years. Sums of three of them fit into a `u64`.
pub(super) const HORIZON: u64 = u64::MAX / 4;
/// No period of a quota is longer, in seconds.
const LONGEST: u64 = 32 * 86_400;

/// What a rule grants one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terms {
    /// Use drains.
    Rate {
        /// So much in every `period`; at least 1.
        amount: u64,
        /// In nanoseconds; at least 1.
        period: u64,
        /// The most at once; at least 1.
        capacity: u64,
    },
    /// Use is forgotten when the period ends.
    Quota {
        /// The most in a period.
        limit: u64,
        /// When the present period began, in seconds since 1970.
        starts: u64,
        /// When the next one begins, likewise.
        ends: u64,
        /// Nanoseconds until then.
        ends_in: u64,
    },
    /// Nothing is used, only held.
    Max {
        /// The most at once.
        limit: u64,
    },
}

impl Terms {
    /// The most that a bucket holds.
    pub(super) const fn capacity(self) -> u64 {
        match self {
            Self::Rate { capacity, .. } => capacity,
            Self::Quota { limit, .. } | Self::Max { limit } => limit,
        }
    }

    /// What drains in `nanos`, rounded down.
    #[inline]
    fn drained(self, nanos: u64) -> u64 {
        match self {
            Self::Rate { amount, period, .. } => scaled(nanos, amount, period),
            Self::Quota { .. } | Self::Max { .. } => 0,
        }
    }

    /// Nanoseconds in which `units` drain, rounded up; at most [`HORIZON`].
    #[inline]
    fn drains_in(self, units: u64) -> u64 {
        match self {
            Self::Rate { .. } if units == 0 => 0,
            Self::Rate { amount, period, .. } => scaled_up(units, period, amount).min(HORIZON),
            Self::Quota { ends_in, .. } => ends_in.min(HORIZON),
            Self::Max { .. } => 0,
        }
    }
}

/// `value * by / over`, rounded down; at most `u64::MAX`.
#[inline]
fn scaled(value: u64, by: u64, over: u64) -> u64 {
    match value.checked_mul(by) {
        Some(product) => product / over.max(1),
        None => u64::try_from(u128::from(value) * u128::from(by) / u128::from(over.max(1))).unwrap_or(u64::MAX),
    }
}

/// The same, rounded up.
#[inline]
fn scaled_up(value: u64, by: u64, over: u64) -> u64 {
    match value.checked_mul(by) {
        Some(product) => product.div_ceil(over.max(1)),
        None => u64::try_from((u128::from(value) * u128::from(by)).div_ceil(u128::from(over.max(1)))).unwrap_or(u64::MAX),
    }
}

/// The state of one bucket. One that is idle equals one that is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// What is used, as of `at`.
    pub(super) used: u64,
    /// What is held for calls under way.
    pub(super) held: u64,
    /// Of a rate: nanoseconds since the buckets' epoch. Of a quota: the beginning of the period that `used` is of.
    pub(super) at: u64,
    /// When nothing is left of it, in nanoseconds since the buckets' epoch; never while something is held.
    idle_at: u64,
    /// Of a quota: when the period ends, in seconds since 1970. Both clocks must be past it, for either may be wrong: the one runs at a rate of its own,
    /// the other jumps.
    ends: u64,
}

/// What is asked of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// So much; at least 1.
    pub(super) amount: u64,
    /// Less will do, down to so much; at most `amount`.
    pub(super) least: u64,
    /// Whether it is held until it settles, and not used at once.
    pub(super) hold: bool,
}

/// Why a bucket does not admit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Blocked {
    /// Calls under way hold what is left; what they give back will show.
    Held,
    /// Enough drains in so many nanoseconds; at least 1.
    Drains(u64),
    /// It is used up, for so many nanoseconds.
    Spent(u64),
    /// It is more than a bucket holds.
    TooMuch,
}

impl Bucket {
    /// As it is at `now` under `terms`, which a reload may have changed.
    ///
    /// What drains is rounded down, by less than a nanosecond's worth for each time that the bucket is changed.
    ///
    /// A quota's period never goes back. Where the clock does, what is used stays used, and counts in the period to which the clock had come: the next one
    /// at the latest, or a clock that was wrong by years would close the bucket for years.
    #[inline]
    pub(super) fn at(self, terms: Terms, now: u64) -> Self {
        match terms {
            Terms::Rate { .. } => {
                let drained = terms.drained(now.saturating_sub(self.at));
                if self.used <= drained {
                    return Self { used: 0, at: now, ..self };
                }
                // The time in which that much drains, and not a nanosecond more: what is left of it goes on draining.
                let at = if drained == 0 { self.at } else { (self.at + terms.drains_in(drained)).min(now) };
                Self { used: self.used - drained, at, ..self }
            }
            Terms::Quota { starts, .. } if starts > self.at => Self { used: 0, at: starts, ..self },
            Terms::Quota { ends, .. } => Self { at: self.at.min(ends), ..self },
            Terms::Max { .. } => self,
        }
    }

    /// What is used and held.
    pub(super) const fn taken(self) -> u64 {
        self.used.saturating_add(self.held)
    }

    /// Takes what is asked from a bucket as it is now ([`Bucket::at`]); returns it, and how much that was.
    #[inline]
    pub(super) fn take(self, ask: Ask, terms: Terms, now: u64) -> Result<(Self, u64), Blocked> {
        let capacity = terms.capacity();
        let amount = ask.amount.min(capacity.saturating_sub(self.taken()));
        if amount < ask.least || amount == 0 {
            return Err(self.blocked(ask.least.max(1), terms, now));
        }
        let taken = if ask.hold { Self { held: self.held + amount, ..self } } else { Self { used: self.used + amount, ..self } };
        Ok((taken.rest(terms, now), amount))
    }

    fn blocked(self, amount: u64, terms: Terms, now: u64) -> Blocked {
        let Some(room) = terms.capacity().checked_sub(amount) else { return Blocked::TooMuch };
        match terms {
            Terms::Quota { ends_in, .. } if self.used > room => Blocked::Spent(ends_in),
            Terms::Quota { .. } | Terms::Max { .. } => Blocked::Held,
            Terms::Rate { .. } => {
                let excess = self.taken().saturating_sub(room);
                if excess > self.used { Blocked::Held } else { Blocked::Drains(self.drains_in(amount, terms, now)) }
            }
        }
    }

    /// Nanoseconds from `now` until so much of a rate has drained that there is room for `amount`; at least 1. The bucket may be as it was left.
    pub(super) fn drains_in(self, amount: u64, terms: Terms, now: u64) -> u64 {
        let excess = self.taken().saturating_sub(terms.capacity().saturating_sub(amount));
        terms.drains_in(excess).saturating_sub(now.saturating_sub(self.at)).max(1)
    }

    /// Of what is held, `held` is given back, and `used` was used: more or less than that.
    pub(super) fn settle(self, held: u64, used: u64, terms: Terms, now: u64) -> Self {
        let used = self.used.saturating_add(used).min(u64::MAX / 2);
        Self { held: self.held.saturating_sub(held), used, ..self }.rest(terms, now)
    }

    /// Holds `more`, fitting or not.
    pub(super) fn grow(self, more: u64, terms: Terms, now: u64) -> Self {
        Self { held: self.held.saturating_add(more).min(u64::MAX / 2), ..self }.rest(terms, now)
    }

    /// What was used `since` (nanoseconds since the epoch) and never came to anything is given back. What drains in that time may have been of it, and
    /// then is given back already: all of it counts so, to the nanosecond, for nobody can tell.
    pub(super) fn undo(self, used: u64, since: u64, terms: Terms, now: u64) -> Self {
        let gone = now.saturating_sub(since);
        let Terms::Rate { amount, period, .. } = terms else {
            return Self { used: self.used.saturating_sub(used), ..self }.rest(terms, now);
        };
        if terms.drained(gone) >= used {
            return self;
        }
        // As if nothing had drained in that time. Where it is more than the bucket's own time to drain in, whole units make up for the rest: at the
        // very beginning, where no time is that long ago, for more than the rest.
        let late = (self.at + gone).saturating_sub(now);
        let units = scaled_up(late, amount, period);
        let at = (self.at + gone).saturating_sub(scaled(units, period, amount)).min(now);
        Self { used: self.used.saturating_add(units).saturating_sub(used), at, ..self }.rest(terms, now)
    }

    /// What was used of a quota in the period that began at `starts`, before the process did. An earlier period than the bucket's is over.
    pub(super) fn restore(self, used: u64, starts: u64, terms: Terms, now: u64) -> Self {
        let Terms::Quota { ends, .. } = terms else { return self };
        let starts = starts.min(ends);
        if starts < self.at {
            return self;
        }
        let known = if starts == self.at { self.used } else { 0 };
        Self { at: starts, used: known, ..self }.settle(0, used, terms, now)
    }

    /// Less was used of a quota, in the period that began at `starts`, than another process had told. Of another period than the bucket's it is over.
    pub(super) fn give_back(self, used: u64, starts: u64, terms: Terms, now: u64) -> Self {
        let Terms::Quota { ends, .. } = terms else { return self };
        if starts.min(ends) != self.at {
            return self;
        }
        Self { used: self.used.saturating_sub(used), ..self }.rest(terms, now)
    }

    /// Says when it will be idle.
    #[inline]
    fn rest(self, terms: Terms, now: u64) -> Self {
        let (idle_at, ends) = match terms {
            _ if self.held > 0 => (u64::MAX, 0),
            _ if self.used == 0 => (now, 0),
            Terms::Rate { .. } => (self.at + terms.drains_in(self.used), 0),
            // Of a period to come.
            Terms::Quota { starts, .. } if self.at > starts => {
                (now + LONGEST.saturating_mul(2_000_000_000).min(HORIZON), self.at.saturating_add(LONGEST))
            }
            Terms::Quota { ends, .. } => (now + terms.drains_in(self.used), ends),
            Terms::Max { .. } => (now, 0),
        };
        Self { idle_at, ends, ..self }
    }

    /// When nothing is left of it, if its clock is right.
    pub(super) const fn idle_at(self) -> u64 {
        self.idle_at
    }

    /// Whether it equals an absent one, and may be forgotten. `wall`: in seconds since 1970.
    pub(super) const fn is_idle(self, now: u64, wall: u64) -> bool {
        self.idle_at <= now && self.ends <= wall
    }
}
