//! What rooms need of a request's head, in their own words.

use std::net::IpAddr;

use http::header;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;

use crate::call::{self, CallError};
use crate::domain::{Call, Rejection};
use crate::identity::Presented;

/// The client's address.
pub(super) fn client(session: &Session) -> Option<IpAddr> {
    session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip().to_canonical())
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

/// The raw path and query.
fn target(head: &RequestHeader) -> (&str, &str) {
    let raw = std::str::from_utf8(head.raw_path()).unwrap_or_default();
    raw.split_once('?').unwrap_or((raw, ""))
}

/// What a request shows of its sender.
pub(super) fn presented(session: &Session) -> Presented<'_> {
    let head = session.req_header();
    let (path, query) = target(head);
    Presented { method: head.method.as_str(), path, query, host: host(head), headers: &head.headers, address: client(session) }
}

/// What is asked.
pub(super) fn call(head: &RequestHeader) -> Result<Call, Rejection> {
    let (path, query) = target(head);
    call::read(&head.headers, host(head), path, query).map_err(<Rejection as From<CallError>>::from)
}
