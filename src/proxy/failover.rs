//! What becomes of a try: its answer is the call's, or the call turns to its next target.
//!
//! A call turns away from an upstream that can't be reached, answers 429 or 5xx, breaks off or is silent, and from a stream that begins with an exception;
//! never once its client has a byte of an answer. So of a stream that could still turn the head and what says nothing yet are held back, by the session
//! that stands in ([`standin`](super::standin)). What a try used that was given up is booked all the same, as AWS bills it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::Session;

use super::exchange::{Exchange, Trial};
use super::{answer, refuse, send, settle, steer};
use crate::domain::{Reason, Rejection};
use crate::record::{Attempt, Tried};
use crate::reply::is_stream;

/// Marks the error of a try whose call goes on.
const TURNS: &str = "turned to another target";

/// So much of a stream is held back at most, in bytes: what says nothing yet has a few hundred.
const HELD: usize = 16 * 1024;

/// Chooses where the next try goes. Returns once there is something to sign it with: what can't be signed opens no connection.
///
/// # Errors
/// Where the call can't be signed for this target, nor turned to another; and where no account has any left of its quota.
pub(super) async fn prepare(session: &mut Session, exchange: &mut Exchange) -> Result<()> {
    loop {
        steer::steer(session, exchange).await?;
        let (Some(admitted), Some(principal)) = (exchange.admitted.as_mut(), exchange.known.principal.as_deref()) else {
            return Err(super::unadmitted().into());
        };
        let refusal = match send::keys(&admitted.aim.upstream, principal, &exchange.live.clock).await {
            Ok(keys) => {
                admitted.keys = Some(keys);
                return Ok(());
            }
            Err(refusal) => refusal,
        };
        if !turns(exchange, Attempt::Unreachable, None, None) {
            return Err(refusal.into());
        }
        turn(exchange);
    }
}

/// Begins a try: at the next target, where the last one was given up.
///
/// # Errors
/// As [`prepare`].
pub(super) async fn begin(session: &mut Session, exchange: &mut Exchange) -> Result<()> {
    if exchange.progress.trial == Trial::GivenUp {
        turn(exchange);
        prepare(session, exchange).await?;
    }
    if exchange.progress.attempts == 0
        && let Some(admitted) = &exchange.admitted
    {
        exchange.plane.fitness.deposit(&admitted.route.name, exchange.live.now());
    }
    exchange.progress.attempts += 1;
    exchange.progress.tries += 1;
    exchange.progress.connecting = Some(exchange.elapsed());
    Ok(())
}

/// Leaves the target that was given up.
fn turn(exchange: &mut Exchange) {
    exchange.progress.turned();
    if let Some(admitted) = exchange.admitted.as_mut() {
        admitted.aim.spend();
    }
}

/// Whether the call may still turn: there is another target, and its client has nothing of an answer.
pub(super) fn may_turn(exchange: &Exchange) -> bool {
    exchange.admitted.as_ref().is_some_and(|admitted| admitted.aim.has_more() && admitted.body.is_held())
}

/// Turns the call away from a try that ended with `outcome`, where it may. Returns whether it does.
pub(super) fn turns(exchange: &mut Exchange, outcome: Attempt, status: Option<u16>, id: Option<&HeaderValue>) -> bool {
    if !may_turn(exchange) {
        return false;
    }
    let route = exchange.admitted.as_ref().map(|admitted| &*admitted.route.name).unwrap_or_default();
    if !exchange.plane.fitness.withdraw(route, exchange.live.now()) {
        exchange.live.metrics.retry_budget_exhausted();
        return false;
    }
    give_up(exchange, outcome, status, id);
    true
}

/// The error that has Pingora try again, at the target that is next.
#[expect(clippy::unnecessary_box_returns, reason = "it is what every hook returns")]
pub(super) fn again() -> Box<Error> {
    let mut error = Error::explain(ErrorType::new(TURNS), "");
    error.as_up();
    error.set_retry(true);
    error
}

/// What becomes of a call at the head of an answer.
///
/// # Errors
/// That it [turns](again), where the upstream refuses or fails, and there is another.
pub(super) fn answered(head: &ResponseHeader, exchange: &mut Exchange) -> Result<()> {
    let status = head.status.as_u16();
    let outcome = Attempt::answered(status);
    exchange.progress.head = Some(exchange.elapsed());
    if outcome != Attempt::Answered {
        ended(exchange, outcome, Some(status), retry_after(&head.headers));
        if turns(exchange, outcome, Some(status), head.headers.get(answer::REQUEST_ID)) {
            return Err(again());
        }
        kept(exchange);
        return Ok(());
    }
    // Of a stream its first event will tell.
    if is_stream(&head.headers) && may_turn(exchange) {
        exchange.progress.trial = Trial::Undecided;
    } else {
        ended(exchange, outcome, Some(status), None);
        kept(exchange);
    }
    Ok(())
}

/// So many bytes of `piece` came of an answer's body, and are read.
///
/// # Errors
/// That the call [turns](again), where a stream begins with an exception.
pub(super) fn heard(exchange: &mut Exchange, bytes: usize) -> Result<()> {
    let progress = &mut exchange.progress;
    let Some(signals) = progress.stand_in.as_ref().map(Arc::clone) else { return Ok(()) };
    signals.set_within_event(progress.meter.is_streamed() && !progress.meter.is_between_events());
    if !signals.holds() {
        return Ok(());
    }
    progress.held = progress.held.saturating_add(bytes);
    if progress.meter.failed_at_once() {
        // It is what it is, whether or not there is somewhere else to go.
        if decided(exchange) {
            ended(exchange, Attempt::Exception, None, None);
        }
        if turns(exchange, Attempt::Exception, None, None) {
            return Err(again());
        }
    } else if !progress.meter.has_delivered() && progress.held < HELD {
        return Ok(());
    }
    signals.hold(false);
    kept(exchange);
    Ok(())
}

/// The answer is the call's: nothing will be sent again.
pub(super) fn kept(exchange: &mut Exchange) {
    if decided(exchange) {
        let status = exchange.progress.status;
        ended(exchange, Attempt::Answered, status, None);
    }
    if let Some(admitted) = exchange.admitted.as_mut() {
        admitted.body.release();
    }
}

/// A try has ended so: counts it, and tells the upstream's health.
fn ended(exchange: &mut Exchange, outcome: Attempt, status: Option<u16>, retry_after: Option<Duration>) {
    if let Some(admitted) = &exchange.admitted {
        exchange.live.metrics.attempt(&admitted.aim.upstream.name, outcome);
    }
    steer::told(exchange, outcome, status, retry_after);
}

/// When AWS says to ask again.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Whether the try was undecided; it is so no more.
fn decided(exchange: &mut Exchange) -> bool {
    let undecided = exchange.progress.trial == Trial::Undecided;
    if undecided {
        exchange.progress.trial = Trial::Begun;
    }
    undecided
}

/// What becomes of a call whose connection failed after it was made.
pub(super) fn broken(session: &Session, error: &mut Error, exchange: &mut Exchange, reused: bool) {
    if exchange.progress.trial == Trial::GivenUp {
        // Decided, and told, by whoever gave the try up.
        return;
    }
    let answered = refuse::answered(session);
    // A kept connection that AWS closed at the wrong moment: nothing was read from it, and the body is still held.
    if reused && !answered && exchange.progress.head.is_none() {
        error.retry.decide_reuse(reused);
    } else {
        error.set_retry(false);
    }
    let outcome = refuse::outcome(error);
    if exchange.progress.head.is_none() || decided(exchange) {
        ended(exchange, outcome, None, None);
    }
    if !error.retry() && !answered && is_upstreams(error) && turns(exchange, outcome, None, None) {
        error.set_retry(true);
    }
}

/// What becomes of a call that got no connection.
pub(super) fn unreachable(error: &mut Error, exchange: &mut Exchange) {
    ended(exchange, Attempt::Unreachable, None, None);
    error.as_up();
    // The dialer has tried every address once. Where there is nowhere else to go, a second round covers a resolver that was behind.
    let again = turns(exchange, Attempt::Unreachable, None, None) || exchange.progress.tries < 2;
    error.set_retry(again);
}

/// Whether it is of the upstream's making that no answer came: by its connection, or its silence.
fn is_upstreams(error: &Error) -> bool {
    *error.esource() == ErrorSource::Upstream
        || error.root_cause().downcast_ref::<Rejection>().is_some_and(|rejection| rejection.reason == Reason::UpstreamTimeout)
}

/// Ends the try, and writes down what it was.
fn give_up(exchange: &mut Exchange, outcome: Attempt, status: Option<u16>, id: Option<&HeaderValue>) {
    let (measured, cost) = settle::measure_try(exchange, outcome);
    settle::settle_quota(exchange, &measured, cost);
    let now = exchange.elapsed();
    let progress = &mut exchange.progress;
    let began = progress.connecting.unwrap_or(now);
    let Some(admitted) = exchange.admitted.as_ref() else { return };
    progress.trial = Trial::GivenUp;
    progress.tried.push(Tried {
        target: admitted.aim.target.name.clone(),
        upstream: admitted.aim.upstream.name.clone(),
        model: admitted.call.model.clone(),
        outcome,
        status: status.or(progress.status),
        upstream_request_id: id.or(progress.upstream_request_id.as_ref()).map(|id| id.as_bytes().into()),
        began,
        took: now.saturating_sub(began),
        usage: measured.usage,
        cost,
    });
    let (id, upstream, outcome) = (exchange.id.as_str(), &*admitted.aim.upstream.name, outcome.label());
    tracing::debug!(id, upstream, outcome, status, "turned to another target");
}
