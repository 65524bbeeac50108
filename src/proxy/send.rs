//! The request as AWS gets it: host, headers and signature, made anew for every attempt.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::{OrErr, Result};

use super::body::Body;
use super::exchange::Admitted;
use crate::domain::{Call, Clock, Principal, Reason, Rejection, Trace};
use crate::upstreams::{Endpoint, Fate, Keys, Request, Upstream, fate};

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// What goes out: a call, its body, where to, and what it is signed with.
pub(super) struct Parcel<'a> {
    pub(super) call: &'a Call,
    pub(super) body: &'a Body,
    pub(super) endpoint: &'a Endpoint,
    pub(super) keys: &'a Arc<Keys>,
}

/// Turns the client's head into the one that goes upstream, in `trace`, where the gateway takes part in traces. Signed last: the signature covers what
/// comes before, and a retry may have changed it.
pub(super) fn prepare(head: &mut RequestHeader, admitted: &Admitted, trace: Option<&Trace>, clock: &Clock) -> Result<()> {
    let Admitted { call, body, aim, keys, .. } = admitted;
    let keys = keys.as_ref().ok_or_else(super::unadmitted)?;
    address(head, &Parcel { call, body, endpoint: &aim.endpoint, keys }, trace, clock)
}

/// The same for what is no exchange's own call.
pub(super) fn address(head: &mut RequestHeader, parcel: &Parcel<'_>, trace: Option<&Trace>, clock: &Clock) -> Result<()> {
    let Parcel { call, body, endpoint, keys } = parcel;
    let now = clock.wall();

    strip(head);
    if call.query.is_empty() {
        head.set_raw_path(call.path.as_bytes())?;
    } else {
        head.set_raw_path(format!("{}?{}", call.path, call.query).as_bytes())?;
    }
    head.insert_header(header::HOST, &*endpoint.host_header)?;
    head.insert_header(header::ACCEPT_ENCODING, "identity")?;
    if let Some(trace) = trace {
        // `tracestate` belongs to the `traceparent` beside it (W3C Trace Context, 3.3): where that was no good, it goes too.
        if trace.parent.is_none() {
            head.remove_header("tracestate");
        }
        head.insert_header("traceparent", trace.traceparent())?;
    }
    if body.len > 0 || head.method == http::Method::POST || head.method == http::Method::PUT || head.method == http::Method::PATCH {
        head.insert_header(header::CONTENT_LENGTH, body.len)?;
    }

    let signed = {
        let mut covered: Vec<(&str, &[u8])> = Vec::with_capacity(8);
        covered.push(("host", endpoint.host_header.as_bytes()));
        let signed = head.headers.iter().filter(|(name, _)| fate(name) == Fate::Sign);
        covered.extend(signed.map(|(name, value)| (name.as_str(), value.as_bytes())));
        // Stable: several values of one name keep their order, which is the order they are sent in.
        covered.sort_by_key(|(name, _)| *name);
        let request =
            Request { method: head.method.as_str(), path: &call.path, query: &call.query, headers: &covered, payload: &body.sha256 };
        endpoint.signer.sign(keys, &request, now)
    };
    head.insert_header(DATE, signed.date)?;
    if let Some(token) = &keys.session_token {
        let mut token =
            HeaderValue::from_str(token.expose()).or_err(pingora::ErrorType::InternalError, "a session token that is no header")?;
        token.set_sensitive(true);
        head.insert_header(TOKEN, token)?;
    }
    let mut authorization =
        HeaderValue::from_str(&signed.authorization).or_err(pingora::ErrorType::InternalError, "a signature that is no header")?;
    authorization.set_sensitive(true);
    head.insert_header(header::AUTHORIZATION, authorization)?;
    Ok(())
}

/// The keys to sign a call of `principal` with: it waits where they are its own, and still to be had.
pub(super) async fn keys(upstream: &Upstream, principal: &Principal, clock: &Clock) -> Result<Arc<Keys>, Rejection> {
    upstream.credentials.keys(principal, clock.wall()).await.map_err(|why| {
        let message = "the gateway has no AWS credentials at the moment";
        Rejection::new(Reason::NoCredentials, message).retry_after(Duration::from_secs(5)).because(why)
    })
}

fn strip(head: &mut RequestHeader) {
    let mut stripped: Vec<HeaderName> = Vec::with_capacity(8);
    stripped.extend(head.headers.keys().filter(|name| fate(name) == Fate::Strip).cloned());
    for name in &stripped {
        head.remove_header(name);
    }
}
