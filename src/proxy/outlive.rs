//! An exchange that outlives its client: where a route says `on_disconnect: drain`, the answer is read to its end though nobody hears it, so that what
//! it used is known exactly.

use std::sync::Arc;

use http::{Method, Version};
use pingora_proxy::Session;

use super::exchange::Exchange;
use super::standin;

/// From here on the call costs something: where its route says so, it goes on without its client. Calls that only read cost nothing. A client of HTTP/1.0
/// needs what only its own session can do, to end the connection behind the answer.
pub(super) fn outlive(session: &mut Session, exchange: &mut Exchange) {
    let Some(route) = exchange.admitted.as_ref().map(|admitted| Arc::clone(&admitted.route)).filter(|route| route.outlive.is_some()) else {
        return;
    };
    let head = session.req_header();
    if head.method == Method::POST && head.version >= Version::HTTP_11 {
        standin::stand_in(session, exchange, Some(route));
    }
}
