//! How much: a rate, a quota or a maximum.

use std::time::Duration;

use super::super::reader::{Checked, FromValue, Map, Value, suggest};
use super::read::only;
use super::zone::Zone;
use super::{Count, amount};

/// How much, in units of account ([`Count::scale`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// So much in any such time, and so much at once.
    Rate {
        /// How fast it refills: at least 1 unit.
        amount: u64,
        /// A second, a minute or an hour.
        period: Duration,
        /// The most at once: at least 1 unit. Default of requests: what a second gives, at least 1; of others: what `period` gives.
        burst: u64,
    },
    /// So much in each period of the calendar.
    Quota {
        /// At least 1 unit.
        limit: u64,
        /// The periods.
        calendar: Calendar,
    },
    /// So many at once.
    Max(u64),
}

/// Periods of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// How long one is.
    pub every: Every,
    /// On which day it begins: of a month 1 to 31 (its last day, where it has fewer); of a week 1 (Monday) to 7; of a day always 1. Default 1.
    pub starts_on: u8,
    /// In which time zone. Default UTC.
    pub zone: Zone,
}

/// How long a period of the calendar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Every {
    /// From midnight to midnight.
    Day,
    /// Seven days.
    Week,
    /// A calendar month.
    Month,
}

impl Every {
    /// Every length.
    pub const ALL: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    pub(super) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|every| every.label() == word)
    }

    /// The word for it in gateway.yaml and in refusals.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

/// So many in such a time, as in `600/minute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// 1 to 1,000,000,000.
    pub events: u64,
    /// A second, a minute or an hour.
    pub period: Duration,
}

impl Bound {
    /// A rate; without a burst of its own, the default one.
    pub(super) fn rate(count: Count, amount: u64, period: Duration, burst: Option<u64>) -> Self {
        let given = match count {
            Count::Requests | Count::Concurrency => (amount / period.as_secs().max(1)).max(1),
            Count::Tokens | Count::Usd => amount,
        };
        Self::Rate { amount, period, burst: burst.unwrap_or(given) }
    }
}

impl Calendar {
    /// The days of a week, of which the first is 1.
    pub const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
}

/// Which kind of bound a rule has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rate,
    Quota,
    Max,
}

/// A rule's bound, by the one key of three that is given; and its kind, where that much is right.
pub(super) fn read(map: &mut Map<'_>, count: Checked<Count>) -> (Option<Kind>, Checked<Bound>) {
    let given: Vec<_> = [("rate", Kind::Rate), ("quota", Kind::Quota), ("max", Kind::Max)]
        .into_iter()
        .filter_map(|(key, kind)| map.value(key).map(|value| (key, kind, value)))
        .collect();
    let one = match given.as_slice() {
        [] if matches!(count, Ok(Count::Concurrency)) => map.missing("max", "add `max: 64`"),
        [] if matches!(count, Ok(Count::Usd)) => map.missing("quota", "add `quota: 500/month`; or `rate: 5/hour`"),
        [] => map.missing("rate", "add `rate: 600/minute`; or `quota: 100000/day`, by the calendar"),
        [(_, kind, value)] => fits(value, *kind, count).map(|()| (*kind, value)),
        [(first, ..), (.., second), ..] => {
            second.refuse_key(&format!("a second bound, beside `{first}`"), "a rule has one: make the other a rule of its own")
        }
    };
    let kind = one.as_ref().ok().map(|(kind, _)| *kind);
    let is = |wanted| kind.is_none_or(|kind| kind == wanted);
    let burst = only(map, "burst", is(Kind::Rate), "goes with a `rate` only", "remove it");
    let starts_on = only(map, "starts_on", is(Kind::Quota), "goes with a `quota` only", "remove it");
    let zone = only(map, "zone", is(Kind::Quota), "goes with a `quota` only", "remove it");
    let zone = zone.and_then(|zone| zone.as_ref().map(Zone::from_value).transpose());
    let of = |value: &Value<'_>| count.unwrap_or_else(|_| amount::assumed(value));
    let bound = one.and_then(|(kind, value)| match kind {
        Kind::Rate => {
            let rate = amount::rate(value, of(value));
            let burst = burst.and_then(|burst| burst.map(|burst| amount::burst(&burst, of(&burst))).transpose());
            let (amount, period) = rate?;
            Ok(Bound::rate(count?, amount, period, burst?))
        }
        Kind::Quota => {
            let quota = amount::quota(value, of(value));
            let every = quota.as_ref().ok().map(|(_, every)| *every);
            let starts_on = starts_on?.zip(every).map_or(Ok(1), |(day, every)| first_day(&day, every));
            let (limit, every) = quota?;
            Ok(Bound::Quota { limit, calendar: Calendar { every, starts_on: starts_on?, zone: zone?.unwrap_or(Zone::UTC) } })
        }
        Kind::Max => amount::max(value).map(Bound::Max),
    });
    (kind, bound)
}

/// Calls under way have a maximum, and nothing else has.
fn fits(value: &Value<'_>, kind: Kind, count: Checked<Count>) -> Checked<()> {
    match (count, kind) {
        (Ok(Count::Concurrency), Kind::Rate | Kind::Quota) => {
            value.refuse_key("calls under way are not counted by time", "`max: 64` instead; or count `requests`")
        }
        (Ok(Count::Requests | Count::Tokens | Count::Usd), Kind::Max) => {
            value.refuse_key("bounds calls under way: `count: concurrency`", "`rate: 600/minute`; or `quota: 100000/day`, by the calendar")
        }
        (Ok(Count::Concurrency), Kind::Max) | (Ok(_), Kind::Rate | Kind::Quota) | (Err(_), _) => Ok(()),
    }
}

/// On which day a period begins.
fn first_day(value: &Value<'_>, every: Every) -> Checked<u8> {
    match every {
        Every::Day => value.refuse_key("a day begins at midnight", "remove it; or count by `week` or `month`"),
        Every::Week => {
            let named = value.as_text().and_then(|text| (1..).zip(Calendar::WEEKDAYS).find(|(_, day)| *day == text));
            let unknown = || {
                let help = suggest(value.as_text().unwrap_or_default(), &Calendar::WEEKDAYS);
                value.refuse_with(format!("{} is not a day of the week", value.quoted()), help)
            };
            named.map_or_else(unknown, |(number, _)| Ok(number))
        }
        Every::Month => match value.written().and_then(|text| text.parse().ok()) {
            Some(day @ 1..=31) => Ok(day),
            _ => value
                .refuse_with(format!("{} is not a day of a month", value.quoted()), "1 to 31; a month of fewer days begins on its last"),
        },
    }
}

impl FromValue for Rate {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        amount::rate_by_clock(value, Count::Requests).map(|(events, period)| Self { events, period })
    }
}
