//! When credentials are fetched again.

use std::future::poll_fn;
use std::time::{Duration, SystemTime};

use crate::domain::Clock;

/// Renewed so long before they expire; AWS's own SDKs take five minutes too.
const EARLY: Duration = Duration::from_mins(5);

/// After a failure, tried again so soon, and then ever more slowly up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Credentials without an expiry are looked at so often: a rotated profile or environment file is taken up without a restart.
const REVISIT: Duration = Duration::from_mins(10);

/// How long to wait before asking again. Some of the early time is left to chance, so that a fleet does not ask at once.
pub(super) fn renewal(expires: Option<SystemTime>, now: SystemTime) -> Duration {
    let Some(expires) = expires else { return REVISIT };
    let left = expires.duration_since(now).unwrap_or_default();
    let early = EARLY.min(left / 2);
    left.saturating_sub(early).saturating_sub(early.mul_f64(fastrand::f64() * 0.5)).max(RETRY_MIN)
}

/// How long to wait after failures: ever longer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// The wait after one more failure: 1 s, then twice as long each time, up to 30 s; a quarter of it is left to chance.
    pub(super) fn next(&mut self) -> Duration {
        let wait = RETRY_MIN.saturating_mul(1 << self.0.min(5)).min(RETRY_MAX);
        self.0 = self.0.saturating_add(1);
        wait.mul_f64(1.0 - fastrand::f64() * 0.25)
    }
}

/// Returns when `clock` shows that `wait` has passed.
pub(super) async fn until(clock: &Clock, wait: Duration) {
    match clock {
        Clock::System => tokio::time::sleep(wait).await,
        Clock::Manual(manual) => {
            let at = clock.monotonic() + wait;
            poll_fn(|cx| manual.poll_until(at, cx)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_renewed_early_but_never_in_a_spin() {
        let now = SystemTime::UNIX_EPOCH;
        for hour in 1..24_u64 {
            let left = Duration::from_secs(hour * 3600);
            let wait = renewal(Some(now + left), now);
            assert!(wait + EARLY <= left && wait + EARLY.mul_f64(1.6) >= left, "{wait:?} of {left:?}");
        }
        assert_eq!(renewal(Some(now), now + Duration::from_secs(9)), RETRY_MIN);
        assert_eq!(renewal(None, now), REVISIT);
    }

    #[test]
    fn failures_are_answered_with_ever_longer_waits() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(waits[0] <= RETRY_MIN && waits[0] >= RETRY_MIN.mul_f64(0.75));
        assert!(waits[..5].windows(2).all(|two| two[1] > two[0]), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= RETRY_MAX));
    }
}
