//! What the record room is told of an exchange, when it ends: in `logging`, and where that never runs (a panic, a forced stop) when the exchange is dropped.

use http::header;
use http::{HeaderValue, Method, Version};
use pingora::{Error, ErrorSource};
use pingora_proxy::Session;

use super::canary;
use super::exchange::Exchange;
use super::head;
use super::settle::{self, Client};
use crate::domain::Call;
use crate::record::{Entry, Unheard};
use crate::reply::Ended;

/// What of the request's head is written down.
pub(super) struct Head<'a> {
    client: Option<std::net::IpAddr>,
    method: &'a Method,
    version: Version,
    path: &'a [u8],
    user_agent: Option<&'a [u8]>,
}

impl<'a> Head<'a> {
    /// The head of the request in `session`.
    pub(super) fn of(session: &'a Session) -> Self {
        let head = session.req_header();
        Self {
            client: head::client(session),
            method: &head.method,
            version: head.version,
            path: head::path(head),
            user_agent: head.headers.get(header::USER_AGENT).map(HeaderValue::as_bytes),
        }
    }
}

/// Records `exchange`, once.
pub(super) fn report(exchange: &mut Exchange, head: &Head<'_>, error: Option<&Error>) {
    if std::mem::replace(&mut exchange.recorded, true) {
        return;
    }
    let total = exchange.elapsed();
    let progress = &exchange.progress;
    let left =
        progress.is_outlived() || exchange.refused.is_none() && error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
    let whole = progress.complete && (error.is_none() || exchange.refused.is_some());
    if left {
        exchange.live.metrics.client_left(if whole { Unheard::Drained } else { Unheard::Cancelled });
    }
    // A refusal that went out whole stands in the place of an answer that did not.
    let ended = match whole {
        true if exchange.refused.is_none() => Ended::Whole,
        false if progress.cut => Ended::Cut,
        _ => Ended::Early,
    };
    // Torn off, without an error: nobody hears it either.
    let torn = error.is_none() && exchange.refused.is_none() && progress.head.is_none();
    let client = if left || torn { Client::Left } else { Client::Stayed };
    let (measured, cost) = settle::measure(exchange, ended, client);
    settle::settle(exchange, &measured, cost, client);
    canary::ended(exchange, client, &measured);
    let progress = &exchange.progress;
    let admitted = exchange.admitted.as_ref();
    let call = exchange.known.call.as_deref();
    exchange.live.recorder.record(&Entry {
        request_id: &exchange.id,
        trace: &exchange.trace,
        began: exchange.began_wall,
        client: head.client,
        principal: exchange.known.principal.as_deref(),
        mirror_of: None,
        service: call.map(|call| call.service),
        method: head.method.as_str(),
        version: head.version,
        path: call.map_or(head.path, |call| call.path.as_bytes()),
        model: call.and_then(|call| call.model.as_deref()),
        operation: call.map(Call::operation),
        status: progress.status,
        reason: exchange.refused,
        shadow_policy: &exchange.known.shadowed,
        shadow_limits: &exchange.known.shadowed_limits,
        limit: exchange.known.limit.as_deref(),
        waited: exchange.known.waited,
        route: admitted.map(|admitted| &*admitted.route.name),
        target: admitted.filter(|_| progress.attempts > 0).map(|admitted| &*admitted.aim.target.name),
        alias: exchange.known.alias.as_deref(),
        tried: &progress.tried,
        upstream: admitted.filter(|_| progress.attempts > 0).map(|admitted| &*admitted.aim.upstream.name),
        upstream_request_id: progress.upstream_request_id.as_ref().map(HeaderValue::as_bytes),
        attempts: progress.attempts,
        bytes_in: progress.bytes_in,
        bytes_out: progress.bytes_out,
        upstream_time: progress.upstream_time(),
        total,
        overhead: progress.overhead(total).saturating_sub(exchange.known.waited),
        complete: whole && !left,
        client_left: left,
        streamed: measured.streamed,
        usage: measured.usage.as_ref(),
        cost,
        admitted: progress.admitted,
        sent: progress.sent,
        head: progress.head,
        first_token: measured.first_token,
        last_token: measured.last_token,
        user_agent: head.user_agent,
    });
}

/// An exchange that is torn off has cost what it has cost. Of its head only what the call kept is known any more.
impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.recorded && self.progress.attempts > 0 {
            let method = self.known.method.clone();
            report(self, &Head { client: None, method: &method, version: Version::HTTP_11, path: b"", user_agent: None }, None);
        }
    }
}
