//! What rooms need of a request's head, in their own words.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{self, HeaderValue};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;

use crate::call::{self, CallError};
use crate::domain::{Call, Rejection};
use crate::identity::Presented;
use crate::listeners::Arrival;
use crate::routes::Routes;

/// What is known of the connection: on either HTTP version, a connection of ours has it.
fn arrival(session: &Session) -> Option<&Arrival> {
    session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}

/// The client's address: behind a balancer or proxy that is trusted, not theirs.
pub(super) fn client(session: &Session) -> Option<IpAddr> {
    Some(arrival(session)?.client(&session.req_header().headers))
}

/// The length of an HTTP/1.1 head in bytes; none where HTTP/2 has bounded it already.
pub(super) fn length(session: &Session) -> usize {
    match session.as_downstream() {
        ServerSession::H1(session) => session.get_headers_raw_bytes().len(),
        _ => 0,
    }
}

/// The raw path, without the query.
pub(super) fn path(head: &RequestHeader) -> &[u8] {
    let raw = head.raw_path();
    raw.split(|byte| *byte == b'?').next().unwrap_or(raw)
}

/// The `Host` header, or HTTP/2's `:authority`.
pub(super) fn host(head: &RequestHeader) -> Option<&str> {
    head.uri.authority().map(http::uri::Authority::as_str).or_else(|| head.headers.get(header::HOST)?.to_str().ok())
}

/// The caller's `traceparent`; none where there are several, since each would be another trace.
pub(super) fn traceparent(head: &RequestHeader) -> Option<&[u8]> {
    let mut all = head.headers.get_all("traceparent").iter();
    all.next().filter(|_| all.next().is_none()).map(HeaderValue::as_bytes)
}

/// The raw path and query.
fn target(head: &RequestHeader) -> (&str, &str) {
    let raw = std::str::from_utf8(head.raw_path()).unwrap_or_default();
    raw.split_once('?').unwrap_or((raw, ""))
}

/// What a request shows of its sender, at the time `now`.
///
/// # Errors
/// Where its connection was made with a certificate that is good no more.
pub(super) fn presented(session: &Session, now: SystemTime) -> Result<Presented<'_>, Rejection> {
    let head = session.req_header();
    let (path, query) = target(head);
    Ok(Presented {
        method: head.method.as_str(),
        path,
        query,
        host: host(head),
        headers: &head.headers,
        address: client(session),
        certificate: arrival(session).map_or(Ok(None), |arrival| arrival.certificate(now))?,
    })
}

/// What is asked, and at which stage: that comes off the path before anything else is read of it.
pub(super) fn call(head: &RequestHeader, routes: &Routes) -> Result<(Option<Arc<str>>, Call), Rejection> {
    let (path, query) = target(head);
    let (stage, path) = routes.stage(path);
    let call = call::read(&head.headers, host(head), path, query).map_err(<Rejection as From<CallError>>::from)?;
    Ok((stage.cloned(), call))
}
