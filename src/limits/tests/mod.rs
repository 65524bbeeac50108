//! The room as its callers see it, on a clock that stands still unless it is turned.

mod account;
mod admission;
mod book;
mod bounds;
mod clocks;
mod endings;
mod histories;
mod history;
mod models;
mod reload;
mod stories;
mod told;
mod turn_stories;
mod turns;
mod waiters;
mod world;

use super::*;
use crate::config::limits::{Bound, Dimension};
use crate::domain::{Asked, Clock, ManualClock, Method, Service};

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
    Rule { per: per.into(), ..Rule::new(name, Count::Requests, Bound::Rate { amount: events, period, burst }) }
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

fn now(monotonic: Instant) -> Now {
    Now { monotonic, wall: SystemTime::UNIX_EPOCH }
}

impl Limits {
    /// Asks to be admitted, and waits where that is how it is.
    async fn admit_in_turn(self: &Arc<Self>, ask: &Ask<'_>, clock: &Clock) -> Result<Admission, Box<Refused>> {
        match self.admit_or_wait(ask, Now::of(clock))? {
            Turn::Admitted(admission) => Ok(admission),
            Turn::Waits(waiting) => waiting.admitted(clock).await,
        }
    }

    /// How many calls wait for their turn.
    fn waiting(&self) -> u64 {
        self.buckets.waiting()
    }
}

/// Rules for calls that make one request each, and are over at once.
struct Room(Arc<Limits>);

impl Room {
    fn build(rules: &[Rule], buckets: Arc<Buckets>) -> Self {
        Self(Limits::build(rules, buckets, Arc::default(), Arc::new(Nobody)))
    }

    /// Makes a request, and tells where the caller stands then.
    fn admit(&self, caller: &Principal, monotonic: Instant) -> Result<Rates, Rejection> {
        let call = Call { service: Service::BEDROCK_RUNTIME, path: "/".into(), query: "".into(), model: None, asked: Asked::default() };
        let ask = Ask { principal: caller, call: &call, route: "everything", address: None, price: &|_| Cost::Nothing };
        let admission = self.0.admit(&ask, now(monotonic)).map_err(|refused| refused.rejection)?;
        let rates = admission.rates().clone();
        admission.settle(None, now(monotonic));
        Ok(rates)
    }

    fn standing(&self, tenant: &str, monotonic: Instant) -> Vec<Standing> {
        self.0.standing(&Subject { tenant: Some(tenant.into()), ..Subject::default() }, now(monotonic))
    }
}

/// How many of `tries` are admitted at `now`.
fn admitted(limits: &Room, caller: &Principal, now: Instant, tries: usize) -> usize {
    (0..tries).filter(|_| limits.admit(caller, now).is_ok()).count()
}

/// A nanosecond less.
fn just_under(wait: Duration) -> Duration {
    wait.checked_sub(Duration::from_nanos(1)).unwrap()
}
