//! Requests per address and second, in fixed memory.
//!
//! The counts are a count-min sketch (`pingora_limits::estimator`), which may count too much and never too little. `pingora_limits::rate`
//! is not used: it asks the system for the time, and when two threads meet at the end of its interval, the one whose time is older
//! subtracts to below zero (`rate.rs`, `maybe_reset`, 0.9.1): a panic in a debug build, and all counts lost in a release build.

use std::fmt;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pingora_limits::estimator::Estimator;

/// Rows of the sketch: an address is over-counted only if it shares a column with others in every row.
const ROWS: usize = 4;
/// Columns of the sketch: at 50,000 other requests a second, an address is over-counted by about 10.
const COLUMNS: usize = 4096;

/// Counts requests by address, a second at a time.
pub(super) struct Flood {
    per_second: isize,
    /// The first time that was told: seconds count from there.
    epoch: OnceLock<Instant>,
    /// The latest second that a thread has set out to begin.
    begun: AtomicU64,
    /// The second that is counted now.
    second: AtomicU64,
    /// The counts of even and of odd seconds: one is cleared while the other is still in use.
    sketches: [Estimator; 2],
}

impl Flood {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second: isize::try_from(per_second).unwrap_or(isize::MAX),
            epoch: OnceLock::new(),
            begun: AtomicU64::new(0),
            second: AtomicU64::new(0),
            sketches: [Estimator::new(ROWS, COLUMNS), Estimator::new(ROWS, COLUMNS)],
        }
    }

    /// Counts one request and returns whether its address is still within bounds.
    pub(super) fn admits(&self, address: IpAddr, now: Instant) -> bool {
        let second = now.saturating_duration_since(*self.epoch.get_or_init(|| now)).as_secs();
        // One thread begins a second; until it has, the others count on in the one before.
        if second > self.begun.load(Ordering::Relaxed) && self.begun.fetch_max(second, Ordering::Relaxed) < second {
            self.sketch(second).reset();
            self.second.fetch_max(second, Ordering::Release);
        }
        self.sketch(self.second.load(Ordering::Acquire)).incr(source(address), 1) <= self.per_second
    }

    const fn sketch(&self, second: u64) -> &Estimator {
        let [even, odd] = &self.sketches;
        if second.is_multiple_of(2) { even } else { odd }
    }
}

impl fmt::Debug for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flood").field("per_second", &self.per_second).finish_non_exhaustive()
    }
}

/// Who an address stands for: an IPv4 address, or the /64 of an IPv6 one. The two can't meet: no client has an address in `::/32`,
/// where IPv4 ones are put.
fn source(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            u64::from(a) << 48 | u64::from(b) << 32 | u64::from(c) << 16 | u64::from(d)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::domain::{Clock, ManualClock, Reason};
    use crate::firewall::Firewall;
    use std::net::Ipv4Addr;
    use std::time::{Duration, SystemTime};

    fn start() -> Instant {
        Clock::Manual(ManualClock::starting_at(SystemTime::UNIX_EPOCH)).monotonic()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_bound_is_admitted_and_one_more_is_not_until_the_next_second() {
        let (flood, start) = (Flood::new(3), start());
        for second in 0..5 {
            let now = start + Duration::from_secs(second) + Duration::from_millis(10);
            assert!((0..3).all(|_| flood.admits(ip("192.0.2.1"), now)), "second {second}");
            assert!(!flood.admits(ip("192.0.2.1"), now + Duration::from_millis(900)), "second {second}");
            assert!(flood.admits(ip("192.0.2.2"), now), "another address has its own count");
        }
    }

    #[test]
    fn a_pause_of_any_length_and_a_time_that_runs_back_are_in_order() {
        let (flood, start) = (Flood::new(1), start());
        for seconds in [0, 2, 3, 7, 1_000_000] {
            assert!(flood.admits(ip("192.0.2.1"), start + Duration::from_secs(seconds)));
            assert!(!flood.admits(ip("192.0.2.1"), start + Duration::from_secs(seconds)));
        }
        assert!(!flood.admits(ip("192.0.2.1"), start), "an old time counts in the second that runs");
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_a_mapped_ipv4_address_is_itself() {
        assert_eq!(source(ip("2001:db8::1")), source(ip("2001:db8::ffff:1")));
        assert_ne!(source(ip("2001:db8::1")), source(ip("2001:db8:0:1::1")));
        assert_eq!(source(ip("::ffff:192.0.2.1")), source(ip("192.0.2.1")));
        assert_ne!(source(ip("192.0.2.1")), source(ip("192.0.2.2")));
    }

    #[test]
    fn ten_thousand_quiet_addresses_are_not_taken_for_a_flood() {
        let (flood, now) = (Flood::new(50), start());
        for _ in 0..5 {
            for n in 0..10_000 {
                assert!(flood.admits(Ipv4Addr::from_bits(0x0a00_0000 + n).into(), now));
            }
        }
    }

    #[test]
    fn threads_together_get_no_more_than_the_bound() {
        let (flood, now) = (Flood::new(1000), start());
        let admitted: usize = std::thread::scope(|scope| {
            let count = || (0..1000).filter(|_| flood.admits(ip("192.0.2.1"), now)).count();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1000);
    }

    #[test]
    fn a_flood_is_told_to_come_back_in_a_second_and_no_bound_refuses_nobody() {
        let mut config = config::firewall::Firewall {
            max_body: 1,
            body_memory: 1,
            header_timeout: Duration::from_secs(1),
            body_timeout: Duration::from_secs(1),
            max_requests: 1,
            flood: Some(config::firewall::Flood { per_second: 1 }),
        };
        let (firewall, now) = (Firewall::build(&config), start());
        firewall.flood(ip("192.0.2.1"), now).unwrap();
        let refused = firewall.flood(ip("192.0.2.1"), now).unwrap_err();
        assert_eq!((refused.reason, refused.retry_after), (Reason::Flood, Some(Duration::from_secs(1))));
        config.flood = None;
        let firewall = Firewall::build(&config);
        assert!((0..100_000).all(|_| firewall.flood(ip("192.0.2.1"), now).is_ok()));
    }
}
