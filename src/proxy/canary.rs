//! What the tries of a call say of its route's canary.
//!
//! Each try is told once. A try fails by what its upstream did: no connection, no answer in time or one that broke off, 5xx, an exception, no credentials
//! for it, and 429, since a canary whose quota is too small for its share is not to grow. What the caller or the gateway did (4xx, a refusal, a limit that
//! cut the answer, a stop) is no failure. What a call could not be sent to, because its upstream was left alone or its account had nothing left of its
//! quota, has failed too: or who is spared a bad canary would keep it from being told. A client that left is no failure; but it has waited for so long, and
//! where slow answers drive clients away that says more than the answers that came in time.

use std::sync::Arc;

use super::exchange::{Admitted, Exchange, Trial};
use super::settle::Client;
use crate::domain::Reason;
use crate::record::Attempt;
use crate::reply::Measured;
use crate::routes::Outcome;

/// A try was given up for another target.
pub(super) fn given_up(exchange: &Exchange, outcome: Attempt) {
    let failed = match outcome {
        Attempt::Exception | Attempt::Throttled | Attempt::ServerError | Attempt::Unreachable | Attempt::Broken | Attempt::TimedOut => true,
        Attempt::Answered | Attempt::Stale | Attempt::Abandoned => return,
    };
    saw(exchange, Outcome { failed, first_token: None });
}

/// The last try of a call has ended, and was `measured`.
pub(super) fn ended(exchange: &Exchange, client: Client, measured: &Measured) {
    let progress = &exchange.progress;
    if let Some(Admitted { aim, route, .. }) = &exchange.admitted
        && !Arc::ptr_eq(&aim.chosen, &aim.target)
        && !progress.tried.iter().any(|tried| tried.target == aim.chosen.name)
    {
        route.saw(&aim.chosen, Outcome { failed: true, first_token: None }, exchange.live.now());
    }
    let unsent = progress.connecting.is_none() && exchange.refused != Some(Reason::NoCredentials);
    if progress.trial == Trial::GivenUp || unsent {
        return;
    }
    let since_sent = |at: std::time::Duration| progress.sent.map(|sent| at.saturating_sub(sent));
    let first_token = measured.first_token.and_then(since_sent);
    let status = progress.status.unwrap_or_default();
    let outcome = match exchange.refused {
        Some(Reason::UpstreamUnreachable | Reason::UpstreamBroken | Reason::UpstreamTimeout | Reason::NoCredentials) => {
            Outcome { failed: true, first_token: None }
        }
        // A limit ended what went well until then.
        Some(Reason::BudgetSpent) if progress.cut => Outcome { failed: false, first_token },
        Some(_) => return,
        None if measured.failed || status == 429 || status >= 500 => Outcome { failed: true, first_token: None },
        None if client == Client::Left && measured.first_token.is_none() => {
            let streamed = exchange.admitted.as_ref().is_some_and(|admitted| admitted.call.asked.streamed);
            let Some(waited) = since_sent(exchange.elapsed()).filter(|_| streamed) else { return };
            Outcome { failed: false, first_token: Some(waited) }
        }
        None => Outcome { failed: false, first_token },
    };
    saw(exchange, outcome);
}

fn saw(exchange: &Exchange, outcome: Outcome) {
    if let Some(admitted) = &exchange.admitted {
        admitted.route.saw(&admitted.aim.target, outcome, exchange.live.now());
    }
}
