//! The room as its callers see it, on a clock that stands still unless it is turned.

mod admission;
mod bounds;
mod reload;
mod stories;

use std::time::SystemTime;

use super::*;
use crate::domain::{Clock, ManualClock, Method};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

fn start() -> Instant {
    Clock::Manual(ManualClock::starting_at(SystemTime::UNIX_EPOCH)).monotonic()
}

fn caller(tenant: &str, user: Option<&str>) -> Principal {
    Principal { tenant: tenant.into(), user: user.map(Into::into), groups: [].into(), method: Method::Jwt, key_id: None }
}

fn rule(name: &str, events: u64, period: Duration, burst: u64, per: &[Dimension]) -> Rule {
    Rule { name: name.into(), count: Count::Requests, rate: Rate { events, period }, burst, per: per.into(), tenants: Vec::new() }
}

fn per_tenant(events: u64, period: Duration, burst: u64) -> Rule {
    rule("rpm", events, period, burst, &[Dimension::Tenant])
}

fn per_user(name: &str, events: u64, period: Duration, burst: u64) -> Rule {
    rule(name, events, period, burst, &[Dimension::User])
}

fn buckets(start: Instant) -> Arc<Buckets> {
    Buckets::new(Buckets::DEFAULT_CAPACITY, start)
}

/// How many of `tries` are admitted at `now`.
fn admitted(limits: &Limits, caller: &Principal, now: Instant, tries: usize) -> usize {
    (0..tries).filter(|_| limits.admit(caller, now).is_ok()).count()
}

/// A nanosecond less.
fn just_under(wait: Duration) -> Duration {
    wait.checked_sub(Duration::from_nanos(1)).unwrap()
}
