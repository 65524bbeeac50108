//! Times on the command line.

use std::time::{Duration, SystemTime};

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

/// A time as it is given: so long ago, or a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Ago(Duration),
    At(SystemTime),
}

impl Moment {
    pub(super) fn from(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH),
            Self::At(time) => time,
        }
    }
}

/// `7d`, `12h`, `2026-11-01` or `2026-11-01T13:00:00Z`.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(ago) = duration(text) {
        return Ok(Moment::Ago(ago));
    }
    let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok().map(|date| date.midnight().assume_utc());
    let time = date.or_else(|| OffsetDateTime::parse(text, &Rfc3339).ok()).filter(|time| time.unix_timestamp() >= 0);
    time.map(|time| Moment::At(time.into()))
        .ok_or_else(|| "days or hours ago, as in 7d or 12h; a date, as in 2026-11-01; or a time, as in 2026-11-01T13:00:00Z".to_owned())
}

/// `90d` or `12h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "days or hours, as in 90d or 12h".to_owned();
    let (number, seconds) = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((number, "d")) => (number, 24 * 60 * 60),
        Some((number, "h")) => (number, 60 * 60),
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(wrong)
}

/// A time as answers tell it, in whole seconds (RFC 3339, UTC).
pub(super) fn told(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_days_or_hours() {
        assert_eq!(duration("90d"), Ok(Duration::from_hours(90 * 24)));
        assert_eq!(duration("12h"), Ok(Duration::from_hours(12)));
        for wrong in ["", "d", "90", "0d", "-1d", "1.5h", "90 d", "9999999999999999999d", "é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_moment_is_so_long_ago_or_a_date_in_utc() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_352_444);
        assert_eq!(told(now), "2026-11-22T13:00:44Z");
        for (text, expected) in [
            ("24h", "2026-11-21T13:00:44Z"),
            ("7d", "2026-11-15T13:00:44Z"),
            ("30000d", "1970-01-01T00:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01T13:30:00Z", "2026-11-01T13:30:00Z"),
            ("2026-11-01T13:30:00+01:00", "2026-11-01T12:30:00Z"),
        ] {
            assert_eq!(moment(text).map(|moment| told(moment.from(now))), Ok(expected.to_owned()), "{text}");
        }
        for wrong in ["", "yesterday", "2026-13-01", "2026-11-01 13:00", "1969-12-31", "01.11.2026"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
