//! What the limits are told of an exchange that ends: what it used, once, and before its client can know of the end. A client that may have one call under
//! way sends its next as soon as it has read the last, and must not be refused for the one that it has read.
//!
//! | how it ends | settled | at |
//! |---|---|---|
//! | before it was sent | never: dropped, it gives back what was taken | nothing |
//! | with an answer | at the answer's end ([`ends`]), or head, where there is no body ([`has_no_body`]) | what was told, or estimated from what was delivered |
//! | with an answer that nothing can be read of | the same | what was reserved |
//! | with a refusal of Bedrock's | the same | nothing |
//! | by an upstream that broke or can't be reached any more | before the client is told (`refuse`) | what was delivered until then |
//! | by an upstream that was silent for too long | the same | what was delivered; without an answer what was reserved where a model is named, for it may have run |
//! | by a limit | when the last event is made (`cut`) | what was delivered until then |
//! | by a client that left | in `report` | what was delivered until then; without a head what was reserved, or of a stream the input: nobody knows how far the model came |
//! | torn off: a panic, a forced stop | in `report`, when the exchange is dropped | the same |

use http::{Method, StatusCode, header};
use pingora::http::ResponseHeader;

use super::exchange::Exchange;
use crate::domain::{Asked, Call, Cost, Reason, Tokens};
use crate::record::{Attempt, Tried};
use crate::reply::{Ended, Measured};

/// The answer has come to its end.
pub(super) fn ends(exchange: &mut Exchange, ended: Ended) {
    // Both are settled at once: where the one is gone, so is the other.
    let Some(admitted) = exchange.admitted.as_ref().filter(|admitted| admitted.admission.is_some()) else { return };
    let (measured, cost) = if admitted.counts_use() { measure(exchange, ended, Client::Stayed) } else { Default::default() };
    settle(exchange, &measured, cost, Client::Stayed);
}

/// Whether the client of an exchange left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    Stayed,
    Left,
}

/// What the answer used so far, and what that costs.
pub(super) fn measure(exchange: &Exchange, ended: Ended, client: Client) -> (Measured, Cost) {
    let progress = &exchange.progress;
    let measured = match asked(exchange.known.call.as_deref()) {
        // It was sent, and nobody waited for what it would come to.
        Some(asked) if client == Client::Left && progress.sent.is_some() && progress.head.is_none() => Measured::unanswered(asked),
        asked => progress.meter.measured(asked, ended),
    };
    let cost = measured.usage.as_ref().zip(exchange.admitted.as_ref()).map_or(Cost::Nothing, |(usage, admitted)| {
        exchange.plane.snapshot.prices.cost(admitted.call.model.as_deref(), &admitted.aim.upstream.region, usage)
    });
    (measured, cost)
}

/// What a try used that is given up, and what that costs: nothing, where it was refused or never sent.
pub(super) fn measure_try(exchange: &Exchange, outcome: Attempt) -> (Measured, Cost) {
    let silent = outcome == Attempt::TimedOut && exchange.progress.head.is_none();
    measure(exchange, Ended::Early, if silent { Client::Left } else { Client::Stayed })
}

/// Settles what a try took of its upstream's quota, now that it is given up. What was never sent gives it back.
pub(super) fn settle_quota(exchange: &mut Exchange, measured: &Measured, cost: Cost) {
    let now = exchange.now();
    let Some(quota) = exchange.admitted.as_mut().and_then(|admitted| admitted.quota.take()) else { return };
    if exchange.progress.sent.is_some() {
        let tokens = measured.tokens();
        quota.settle(Some((&tokens, cost)), now);
    }
}

/// What was used by the tries that were given up: the caller pays for them too.
pub(super) fn given_up(tried: &[Tried]) -> (Tokens, Cost) {
    let mut sum = (Tokens::default(), Cost::Nothing);
    for (usage, cost) in tried.iter().filter_map(|tried| Some((tried.usage.as_ref()?, tried.cost))) {
        sum.0 += usage.tokens;
        sum.1 += cost;
    }
    sum
}

/// What a call asks of the model that it names; none where it names none, or none answers.
pub(super) fn asked(call: Option<&Call>) -> Option<&Asked> {
    call.filter(|call| call.model.is_some() && !call.asked.of_no_model).map(|call| &call.asked)
}

/// Settles what the call took of the limits, unless that is done. What was never sent gives it back.
pub(super) fn settle(exchange: &mut Exchange, measured: &Measured, cost: Cost, client: Client) {
    let now = exchange.now();
    let Some(admitted) = exchange.admitted.as_mut() else { return };
    let (admission, quota) = (admitted.admission.take(), admitted.quota.take());
    let progress = &exchange.progress;
    let (mut tokens, mut costs) = given_up(&progress.tried);
    if progress.sent.is_none() && tokens.total() == 0 {
        return;
    }
    // A guardrail or a knowledge base that is silent has used nothing.
    let unheard = progress.head.is_none()
        && asked(exchange.known.call.as_deref()).is_some_and(|asked| {
            // A stream that is not read is not generated to its end; an answer in one piece is, whether or not its client waits for it.
            exchange.refused == Some(Reason::UpstreamTimeout) || client == Client::Left && !asked.streamed
        });
    let is_known = !measured.opaque && !unheard;
    let of_try = measured.tokens();
    if let Some(quota) = quota.filter(|_| progress.sent.is_some()) {
        quota.settle(is_known.then_some((&of_try, cost)), now);
    }
    tokens += of_try;
    costs += cost;
    if let Some(admission) = admission {
        admission.settle(is_known.then_some((&tokens, costs)), now);
    }
}

/// Whether an answer ends with this head, as far as the head tells.
pub(super) fn has_no_body(asked_by: &Method, head: &ResponseHeader) -> bool {
    *asked_by == Method::HEAD
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || head.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0")
}
