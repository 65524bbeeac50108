//! Which of its targets a try goes to: one that is well, and whose account has something left of its quota. The order is the route's; where no target is
//! well or has any left, the one that will be first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::Result;
use pingora_proxy::Session;

use super::aim::Shot;
use super::exchange::{Admitted, Exchange};
use super::{head, turn};
use crate::config::routes::Retries;
use crate::config::upstreams::Budget;
use crate::domain::Cost;
use crate::limits::Ask;
use crate::record::Attempt;
use crate::state::{Live, Snapshot};
use crate::upstreams::health::{Change, Health, Outcome, RetryBudget, Verdict, choose};

/// How upstreams are, and how often calls may turn from one to another.
pub(super) struct Fitness {
    healths: HashMap<Arc<str>, Arc<Health>>,
    budgets: HashMap<Arc<str>, RetryBudget>,
}

impl Fitness {
    pub(super) fn of(snapshot: &Snapshot, live: &Live) -> Self {
        let healths =
            snapshot.upstreams.all().map(|upstream| (Arc::clone(&upstream.name), live.healths.of(&upstream.name, upstream.health())));
        let budgets = snapshot.routes.all().map(|route| (Arc::clone(&route.name), RetryBudget::new(budget(route.retries))));
        Self { healths: healths.collect(), budgets: budgets.collect() }
    }

    /// Whether an upstream is well and `model` is not throttled there.
    pub(super) fn is_fit(&self, upstream: &str, model: Option<&str>, now: Instant) -> bool {
        self.healths.get(upstream).is_none_or(|health| matches!(health.ask(model, now), Verdict::Fit))
    }

    /// Counts a call of this route.
    pub(super) fn deposit(&self, route: &str, now: Instant) {
        if let Some(budget) = self.budgets.get(route) {
            budget.deposit(now);
        }
    }

    /// Whether a call of this route may be tried once more.
    pub(super) fn withdraw(&self, route: &str, now: Instant) -> bool {
        self.budgets.get(route).is_some_and(|budget| budget.withdraw(now))
    }
}

/// In whole percent and whole retries, rounded up.
fn budget(Retries { budget, min }: Retries) -> Budget {
    let seconds = min.period.as_secs().max(1);
    Budget { percent: budget.div_ceil(10_000), min_per_second: u32::try_from(min.events.div_ceil(seconds)).unwrap_or(u32::MAX) }
}

/// Aims at the target of the next try, and takes what that may come to from its account's quota.
///
/// # Errors
/// Where no account has any left, in time: the refusal that is over first.
pub(super) async fn steer(session: &mut Session, exchange: &mut Exchange) -> Result<()> {
    let (plane, now) = (exchange.plane.clone(), exchange.now());
    let address = head::client(session);
    // What was asked in vain stands first, the last before the others; and the how-manieth of them is over first.
    let (mut refused, mut soonest) = (0, None::<(usize, Duration)>);
    loop {
        let Some(admitted) = exchange.admitted.as_mut() else { return Err(super::unadmitted().into()) };
        let asked = admitted.aim.left().skip(refused).map(|(at, target, model)| {
            let health = plane.fitness.healths.get(&target.upstream);
            (at, health.map_or(Verdict::Fit, |health| health.ask(model, now.monotonic)))
        });
        let Some((at, verdict)) = choose(asked) else { break };
        let mut shot = Shot { call: &mut admitted.call, body: &mut admitted.body, known: &mut exchange.known };
        admitted.aim.turn_to(at, &plane.snapshot, &mut shot)?;
        let Some(principal) = exchange.known.principal.as_deref() else { return Err(super::unadmitted().into()) };
        let (call, route, price) = (&admitted.call, &admitted.route.name, &|_: &_| Cost::Nothing);
        let ask = Ask { principal, call, route, address, price };
        match plane.snapshot.quotas.admit(&admitted.aim.upstream.name, &ask, now) {
            Ok(quota) => {
                (admitted.quota, admitted.verdict) = (quota, Some(verdict));
                return Ok(());
            }
            Err(why) => {
                refused += 1;
                // What says no time never passes.
                let after = why.rejection.retry_after.unwrap_or(Duration::MAX);
                if soonest.is_none_or(|(_, soonest)| after < soonest) {
                    soonest = Some((refused, after));
                }
            }
        }
    }
    // Each account is at its end: the call waits for the first that is not, where that says so.
    let Some(admitted) = exchange.admitted.as_mut() else { return Err(super::unadmitted().into()) };
    let mut shot = Shot { call: &mut admitted.call, body: &mut admitted.body, known: &mut exchange.known };
    admitted.aim.turn_to(soonest.map_or(0, |(nth, _)| refused - nth), &plane.snapshot, &mut shot)?;
    let (call, route, upstream) = (Arc::clone(&admitted.call), Arc::clone(&admitted.route), Arc::clone(&admitted.aim.upstream));
    let Some(principal) = exchange.known.principal.clone() else { return Err(super::unadmitted().into()) };
    let ask = Ask { principal: &principal, call: &call, route: &route.name, address, price: &|_| Cost::Nothing };
    let quota = turn::take_quota(session, exchange, &upstream.name, &ask).await?;
    if let Some(admitted) = exchange.admitted.as_mut() {
        admitted.quota = quota;
    }
    Ok(())
}

/// Tells the upstream's health how a try of it ended, and operators what that changes. `retry_after`: what a 429 said.
pub(super) fn told(exchange: &mut Exchange, outcome: Attempt, status: Option<u16>, retry_after: Option<Duration>) {
    let (now, elapsed) = (exchange.live.now(), exchange.elapsed());
    let first_byte = elapsed.saturating_sub(exchange.progress.sent.unwrap_or(elapsed));
    let came_to = match outcome {
        Attempt::Answered => Outcome::Answered { status: status.unwrap_or(200), first_byte },
        Attempt::ServerError => Outcome::Answered { status: status.unwrap_or(500), first_byte },
        Attempt::Throttled => Outcome::Throttled { retry_after },
        Attempt::Exception if exchange.progress.meter.is_throttled() => Outcome::Throttled { retry_after: None },
        Attempt::Exception => Outcome::Answered { status: 500, first_byte },
        Attempt::Unreachable => Outcome::Unreachable,
        Attempt::TimedOut => Outcome::TimedOut,
        Attempt::Broken => Outcome::Broken,
        // Neither says anything of the upstream.
        Attempt::Stale | Attempt::Abandoned => return,
    };
    let plane = &exchange.plane;
    let Some(Admitted { aim, verdict, call, .. }) = exchange.admitted.as_mut() else { return };
    let Some(health) = plane.fitness.healths.get(&aim.upstream.name) else { return };
    let upstream = &*aim.upstream.name;
    match verdict.take().unwrap_or(Verdict::Fit).told(health, call.model.as_deref(), came_to, now) {
        Some(Change::Ejected { why, lasts }) => {
            tracing::warn!(upstream, why = why.label(), ?lasts, "an upstream is left alone for a while");
        }
        Some(Change::Readmitted) => tracing::info!(upstream, "an upstream is well again"),
        None => {}
    }
}
