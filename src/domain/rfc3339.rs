//! Times as people read them.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time in whole seconds (RFC 3339), in UTC. The year is at most 9999: no later one can be told.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    let told = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::macros::datetime!(9999-12-31 23:59:59 UTC));
    told.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_told_in_utc_and_the_last_one_for_what_is_beyond() {
        let at = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(1_795_352_444), "2026-11-22T13:00:44Z");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(1_999)), "1970-01-01T00:00:01Z");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
        assert_eq!(at(i64::MAX.cast_unsigned()), "9999-12-31T23:59:59Z");
    }
}
