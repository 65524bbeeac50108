//! A call's turn under the limits: at once, or after a wait that ends with its client's patience.

use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::exchange::Exchange;
use super::watch;
use crate::limits::{Admission, Ask, Refused, Turn, Waiting};
use crate::state::{Live, Subject};

/// Takes what the call may come to from every limit, and notes where the caller stands.
pub(super) async fn take(session: &mut Session, exchange: &mut Exchange, ask: &Ask<'_>) -> Result<Admission> {
    let plane = exchange.plane.clone();
    let admitted = match plane.snapshot.limits.admit_or_wait(ask, exchange.now()) {
        Ok(Turn::Admitted(admission)) => Ok(admission),
        Ok(Turn::Waits(waiting)) => {
            let before = exchange.elapsed();
            // Few calls wait: the others need not carry the room for it.
            let admitted = Box::pin(wait(session, waiting, ask, &exchange.live)).await;
            exchange.known.waited = exchange.elapsed().saturating_sub(before);
            admitted?
        }
        Err(refused) => Err(refused),
    };
    let admission = admitted.map_err(|refused| {
        (exchange.known.rates, exchange.known.limit) = (refused.rates, Some(refused.rule));
        refused.rejection
    })?;
    exchange.known.rates = admission.rates().clone();
    exchange.known.shadowed_limits = admission.shadows().to_vec();
    Ok(admission)
}

/// Takes what the attempt at `upstream` may come to from its account's quota, where it has one. Where the caller stands under their own limits stays what they
/// are told: the account's quota is nobody's to plan by.
pub(super) async fn take_quota(session: &mut Session, exchange: &mut Exchange, upstream: &str, ask: &Ask<'_>) -> Result<Option<Admission>> {
    let plane = exchange.plane.clone();
    let admitted = match plane.snapshot.quotas.admit_or_wait(upstream, ask, exchange.now()) {
        Ok(None) => return Ok(None),
        Ok(Some(Turn::Admitted(admission))) => Ok(admission),
        Ok(Some(Turn::Waits(waiting))) => {
            let before = exchange.elapsed();
            let admitted = Box::pin(wait(session, waiting, ask, &exchange.live)).await;
            exchange.known.waited += exchange.elapsed().saturating_sub(before);
            admitted?
        }
        Err(refused) => Err(refused),
    };
    admitted.map(Some).map_err(|refused| {
        exchange.known.limit = Some(refused.rule);
        refused.rejection.into()
    })
}

/// Waits for the call's turn, for as long as its client does and no operator stops it: Pingora 0.9.1 does not look at the client while a request is judged.
async fn wait(session: &mut Session, waiting: Waiting<'_>, ask: &Ask<'_>, live: &Live) -> Result<Result<Admission, Box<Refused>>> {
    let subject = Subject::of(Some(ask.principal), Some(ask.call), Some(ask.route));
    tokio::select! {
        biased;
        error = leaves(session) => Err(error),
        () = live.over.cancelled() => Err(Error::explain(ErrorType::ConnectionClosed, "the gateway ends").into_down()),
        why = watch::ended(live, &subject) => Err(why.into()),
        admitted = waiting.admitted(&live.clock) => Ok(admitted),
    }
}

/// Returns once the client has left, whose request was read whole.
///
/// What it sends meanwhile is its next request, of which Pingora reads one byte and keeps it for later; from then on nobody can tell whether the client is
/// still there, and it is taken to be.
async fn leaves(session: &mut Session) -> Box<Error> {
    match session.as_downstream_mut().read_body_or_idle(true).await {
        Err(error) => error.into_down(),
        Ok(_) => std::future::pending().await,
    }
}
