//! When the periods of a quota begin and end: by the calendar, in a time zone.
//!
//! A period goes from the first instant of a day to the first instant of another. Periods follow one another without gap or overlap, whatever a zone's clocks
//! do at midnight; days have 23 or 25 hours where they change.

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};

use crate::config::limits::{self, Every};

/// The calendar of a rule, its zone looked up.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    every: Every,
    starts_on: i8,
    zone: TimeZone,
}

/// One period, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) starts: u64,
    /// Its first second that is no more of it.
    pub(super) ends: u64,
}

impl Period {
    /// The period that `now`, in seconds since 1970, is in. What began before 1970 begins then, and what is beyond the year 9999 never ends.
    pub(super) fn of(calendar: &Calendar, now: u64) -> Self {
        calendar.period(now).unwrap_or(Self { starts: 0, ends: u64::MAX })
    }

    /// Whether a time is in it.
    pub(super) const fn holds(self, now: u64) -> bool {
        self.starts <= now && now < self.ends
    }
}

impl Calendar {
    /// Looks the zone up: on the machine, which may know of changes that came after this program, and then in what it brings along.
    pub(super) fn new(calendar: &limits::Calendar) -> Self {
        let name = calendar.zone.name();
        let zone = TimeZone::get(name).or_else(|_| TimeZoneDatabase::bundled().get(name)).unwrap_or_else(|error| {
            // The configuration is checked for it; the machine's zones may have been removed since.
            tracing::error!(zone = name, %error, "no such time zone; quotas go by UTC");
            TimeZone::UTC
        });
        Self { every: calendar.every, starts_on: i8::try_from(calendar.starts_on).unwrap_or(1).max(1), zone }
    }

    fn period(&self, now: u64) -> Option<Period> {
        let now = Timestamp::from_second(i64::try_from(now).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX);
        let mut starts = self.first_day(self.zone.to_datetime(now).date())?;
        let mut ends = self.next(starts);
        // Clocks that go back over midnight bring yesterday's date again, after today has begun (St. John's until 2011).
        while let Some(day) = ends.filter(|day| self.begins(*day).is_some_and(|begins| begins <= now)) {
            (starts, ends) = (day, self.next(day));
        }
        let seconds = |time: Timestamp| u64::try_from(time.as_second()).unwrap_or(0);
        let ends = ends.and_then(|day| self.begins(day)).map_or(u64::MAX, seconds);
        Some(Period { starts: self.begins(starts).map_or(0, seconds), ends })
    }

    /// The first day of the period that `day` is of.
    fn first_day(&self, day: Date) -> Option<Date> {
        match self.every {
            Every::Day => Some(day),
            Every::Week => {
                let gone = (day.weekday().to_monday_one_offset() - self.starts_on).rem_euclid(7);
                day.checked_sub(Span::new().days(gone)).ok()
            }
            Every::Month => {
                let first = self.of_month(day)?;
                if first <= day { Some(first) } else { self.of_month(day.first_of_month().yesterday().ok()?) }
            }
        }
    }

    /// The first day of the period after the one that begins on `first`.
    fn next(&self, first: Date) -> Option<Date> {
        match self.every {
            Every::Day => first.tomorrow().ok(),
            Every::Week => first.checked_add(Span::new().days(7)).ok(),
            Every::Month => self.of_month(first.last_of_month().tomorrow().ok()?),
        }
    }

    /// The day of the month of `day` on which a period begins.
    fn of_month(&self, day: Date) -> Option<Date> {
        Date::new(day.year(), day.month(), self.starts_on.min(day.days_in_month())).ok()
    }

    /// The first instant of a day: midnight, where there is one, and the first of two.
    fn begins(&self, day: Date) -> Option<Timestamp> {
        let midnight = self.zone.to_ambiguous_timestamp(day.at(0, 0, 0, 0));
        match midnight.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => midnight.earlier().ok(),
            // The clocks went over it, and not always from midnight on. A whole day that was left out (Samoa, 30 December 2011) begins with the next.
            AmbiguousOffset::Gap { .. } => {
                let before = midnight.earlier().ok()?;
                self.zone.following(before).next().map(|change| change.timestamp())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::limits::Zone;

    const DAY: u64 = 86_400;
    const HOUR: u64 = 3_600;
    /// 2100.
    const LATE: u64 = 4_102_444_800;

    fn calendar(every: Every, starts_on: u8, zone: &str) -> Calendar {
        Calendar {
            zone: TimeZoneDatabase::bundled().get(zone).unwrap(),
            ..Calendar::new(&limits::Calendar { every, starts_on, zone: Zone::UTC })
        }
    }

    fn seconds(time: &str) -> u64 {
        u64::try_from(time.parse::<Timestamp>().unwrap().as_second()).unwrap()
    }

    fn period(every: Every, starts_on: u8, zone: &str, now: &str) -> [String; 2] {
        let period = Period::of(&calendar(every, starts_on, zone), seconds(now));
        [period.starts, period.ends].map(|time| Timestamp::from_second(i64::try_from(time).unwrap()).unwrap().to_string())
    }

    /// The names of all zones there are.
    fn zones() -> Vec<String> {
        TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect()
    }

    /// All that must hold of any period.
    fn check(calendar: &Calendar, now: u64) {
        let name = calendar.zone.iana_name().unwrap_or("?");
        let period = Period::of(calendar, now);
        let at = format!("{name} {:?} on {} at {now}: {period:?}", calendar.every, calendar.starts_on);
        assert!(period.holds(now), "{at}");
        assert_eq!(Period::of(calendar, period.starts), period, "{at}");
        assert_eq!(Period::of(calendar, period.ends - 1), period, "{at}");
        assert_eq!(Period::of(calendar, period.ends).starts, period.ends, "{at}: the next");
        if period.starts > 0 {
            assert_eq!(Period::of(calendar, period.starts - 1).ends, period.starts, "{at}: the one before");
            let (least, most) = match calendar.every {
                Every::Day => (1, 1),
                Every::Week => (7, 7),
                Every::Month => (28, 31),
            };
            // Clocks change by an hour or so; a zone that crosses the date line leaves a day out, or has it twice.
            let length = period.ends - period.starts;
            assert!(length <= (most + 1) * DAY + 2 * HOUR && length >= (least * DAY).saturating_sub(DAY + 2 * HOUR).max(1), "{at}");
        }
    }

    #[test]
    fn a_day_goes_from_midnight_to_midnight_in_its_zone() {
        for (zone, now, starts, ends) in [
            ("UTC", "2026-03-29T12:00:00Z", "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"),
            // 23 hours, and 25.
            ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ("Asia/Kathmandu", "2026-06-01T18:14:59Z", "2026-05-31T18:15:00Z", "2026-06-01T18:15:00Z"),
            // Half an hour.
            ("Australia/Lord_Howe", "2026-10-03T15:00:00Z", "2026-10-03T13:30:00Z", "2026-10-04T13:00:00Z"),
            // No midnight: it begins at one.
            ("America/Sao_Paulo", "2018-11-04T03:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"),
            ("America/Sao_Paulo", "2018-11-04T02:59:59Z", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z"),
            ("Asia/Beirut", "2026-03-29T10:00:00Z", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"),
            // Two midnights: it begins at the first.
            ("America/Havana", "2024-11-03T04:30:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),
            ("America/Havana", "2024-11-03T05:30:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),
            // At a minute past midnight the clocks went back into yesterday, and today had begun.
            ("America/St_Johns", "2009-11-01T02:29:59Z", "2009-10-31T02:30:00Z", "2009-11-01T02:30:00Z"),
            ("America/St_Johns", "2009-11-01T02:31:30Z", "2009-11-01T02:30:00Z", "2009-11-02T03:30:00Z"),
            ("America/St_Johns", "2009-11-01T03:20:00Z", "2009-11-01T02:30:00Z", "2009-11-02T03:30:00Z"),
            // A day that never was.
            ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
            ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
        ] {
            assert_eq!(period(Every::Day, 1, zone, now), [starts, ends], "{zone} {now}");
        }
    }

    #[test]
    fn a_day_whose_midnight_is_passed_over_begins_when_the_clocks_change() {
        // At half past eleven the clocks went to half past twelve.
        let zone = TimeZone::posix("EST5EDT,M3.5.0/-0:30,M11.1.0/2").unwrap();
        let calendar = Calendar { zone, ..calendar(Every::Day, 1, "UTC") };
        let change = seconds("2026-03-29T04:30:00Z");
        assert_eq!(Period::of(&calendar, change).starts, change);
        assert_eq!(Period::of(&calendar, change - 1).ends, change);
    }

    #[test]
    fn a_week_begins_on_the_day_that_is_said() {
        for (starts_on, now, starts, ends) in [
            (1, "2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            (1, "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (7, "2026-11-22T00:00:00Z", "2026-11-22T00:00:00Z", "2026-11-29T00:00:00Z"),
            (7, "2026-11-21T23:59:59Z", "2026-11-15T00:00:00Z", "2026-11-22T00:00:00Z"),
            (4, "2026-01-01T05:00:00Z", "2026-01-01T00:00:00Z", "2026-01-08T00:00:00Z"),
            (5, "2026-01-01T05:00:00Z", "2025-12-26T00:00:00Z", "2026-01-02T00:00:00Z"),
        ] {
            assert_eq!(period(Every::Week, starts_on, "UTC", now), [starts, ends], "{starts_on} {now}");
        }
        assert_eq!(
            period(Every::Week, 1, "America/New_York", "2026-11-02T04:59:59Z"),
            ["2026-10-26T04:00:00Z", "2026-11-02T05:00:00Z"],
            "an hour longer, for the clocks went back"
        );
    }

    #[test]
    fn a_month_begins_on_the_day_that_is_said_or_on_its_last() {
        for (starts_on, now, starts, ends) in [
            (1, "2026-02-28T23:59:59Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            (1, "2026-12-31T12:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (15, "2026-03-14T12:00:00Z", "2026-02-15T00:00:00Z", "2026-03-15T00:00:00Z"),
            (15, "2026-01-01T12:00:00Z", "2025-12-15T00:00:00Z", "2026-01-15T00:00:00Z"),
            (31, "2026-02-27T12:00:00Z", "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"),
            (31, "2026-02-28T00:00:00Z", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"),
            (31, "2028-02-28T12:00:00Z", "2028-01-31T00:00:00Z", "2028-02-29T00:00:00Z"),
            (31, "2026-04-30T12:00:00Z", "2026-04-30T00:00:00Z", "2026-05-31T00:00:00Z"),
            (30, "2026-03-01T12:00:00Z", "2026-02-28T00:00:00Z", "2026-03-30T00:00:00Z"),
            (29, "2027-02-28T12:00:00Z", "2027-02-28T00:00:00Z", "2027-03-29T00:00:00Z"),
        ] {
            assert_eq!(period(Every::Month, starts_on, "UTC", now), [starts, ends], "{starts_on} {now}");
        }
    }

    #[test]
    fn whatever_the_clocks_of_any_zone_do_periods_follow_one_another() {
        let until = Timestamp::from_second(i64::try_from(seconds("2040-01-01T00:00:00Z")).unwrap()).unwrap();
        let mut changes = 0;
        for name in zones() {
            let calendars = [calendar(Every::Day, 1, &name), calendar(Every::Week, 7, &name), calendar(Every::Month, 31, &name)];
            let zone = calendars[0].zone.clone();
            for change in zone.following(Timestamp::UNIX_EPOCH).take_while(|change| change.timestamp() < until) {
                changes += 1;
                let at = u64::try_from(change.timestamp().as_second()).unwrap();
                check(&calendars[0], at);
                check(&calendars[0], at.saturating_sub(1));
                check(&calendars[changes % 3], at + 1_800);
            }
        }
        assert!(changes > 10_000, "{changes} changes were seen: are there no zones?");
    }

    #[test]
    fn no_time_is_too_early_or_too_late() {
        let last = u64::try_from(Timestamp::MAX.as_second()).unwrap();
        for name in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Berlin"] {
            for calendar in [calendar(Every::Day, 1, name), calendar(Every::Week, 3, name), calendar(Every::Month, 31, name)] {
                check(&calendar, 0);
                for now in [0, 1, DAY, last - 40 * DAY, last - 1, last, last + 1, u64::MAX / 2, u64::MAX - 1] {
                    assert!(Period::of(&calendar, now).holds(now), "{name} {now}");
                }
                assert_eq!(Period::of(&calendar, u64::MAX), Period::of(&calendar, last + DAY), "{name}: the end of time is in the last");
            }
        }
    }

    #[test]
    fn a_zone_is_there_on_machines_without_any() {
        assert_eq!(calendar(Every::Day, 1, "Europe/Berlin").zone.iana_name(), Some("Europe/Berlin"));
        assert_eq!(Calendar::new(&limits::Calendar { every: Every::Day, starts_on: 1, zone: Zone::UTC }).zone, TimeZone::UTC);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn any_time_is_in_its_period_and_periods_tile_time(
            zone in prop::sample::select(zones()),
            every in prop::sample::select(Every::ALL.to_vec()),
            starts_on in 1_u8..=31,
            now in 0..LATE,
        ) {
            let starts_on = match every {
                Every::Day => 1,
                Every::Week => starts_on.min(7),
                Every::Month => starts_on,
            };
            check(&calendar(every, starts_on, &zone), now);
        }

        #[test]
        fn no_number_panics(zone in prop::sample::select(zones()), now in any::<u64>(), starts_on in any::<u8>()) {
            for every in Every::ALL {
                let calendar = calendar(every, starts_on, &zone);
                prop_assert!(Period::of(&calendar, now).starts <= now);
            }
        }
    }
}
