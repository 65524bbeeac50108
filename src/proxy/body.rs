//! Reads a request's body whole before the upstream sees any of it: SigV4 signs its hash, and a retry sends the same bytes.
//!
//! Pingora 0.9.1 streams bodies and forgets what is read before the forwarding begins: its loop sends an initial body only where its own 64 KiB
//! retry buffer holds one, and otherwise waits for a body that never comes. Two turns make it go on (docs/decisions/0003-bodies.md):
//!
//! * where the length is known, its buffer is switched on only for the last 64 KiB, so that it is never cut short and always holds something;
//! * where it is not (HTTP/1.1 chunked) and more than 64 KiB came, the head is given to the parser once more with a body of one byte, so that the
//!   reader is not done. HTTP/2 has no such turn: 411 past 64 KiB.
//!
//! Then `request_body_filter` puts the held body in place of whatever Pingora sends. Both turns lean on this release; the matrix in tests/it/bodies.rs
//! covers every framing, and the checks here fail closed: 411 or 500, never a hang.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use http::{Version, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::client::http_req_header_to_wire;
use pingora::{Error, Result};
use pingora_proxy::Session;

use crate::domain::{Reason, Rejection, hex};
use crate::firewall::{BodyMemory, BodyPermit, body_fits};

/// The size of Pingora's retry buffer (`v1/common.rs`), and more than it ever reads at once.
const RETRY_BUFFER: u64 = 64 * 1024;

/// A length that a client only claims is trusted for so much memory; more is taken as it arrives.
const CLAIMED_MAX: u64 = 256 * 1024;

/// A body, held whole.
pub(super) struct Body {
    /// Its bytes; taken once the answer's head is here.
    pub(super) bytes: Option<Bytes>,
    /// Its SHA-256 in lower-case hex.
    pub(super) sha256: String,
    /// Its length in bytes.
    pub(super) len: u64,
    /// Its share of `firewall.body_memory`; given back with the bytes.
    permit: Option<BodyPermit>,
}

impl Body {
    /// Whether it may be sent, once more or for the first time.
    pub(super) const fn is_held(&self) -> bool {
        self.bytes.is_some()
    }

    /// Gives the memory back: the answer has begun, nothing will be sent again.
    pub(super) fn release(&mut self) {
        self.bytes = None;
        self.permit = None;
    }
}

impl Body {
    /// The same once more, with a share of `memory` of its own; none where there is none left, or the bytes are gone.
    pub(super) fn share(&self, memory: &Arc<BodyMemory>) -> Option<Self> {
        let bytes = self.bytes.clone()?;
        let permit = memory.reserve(self.len).ok()?;
        Some(Self { bytes: Some(bytes), sha256: self.sha256.clone(), len: self.len, permit: Some(permit) })
    }

    /// Puts `with` in the place of some of its bytes.
    ///
    /// # Errors
    /// Where there is no memory for what it grows by.
    pub(super) fn replace(&mut self, place: &Range<usize>, with: &[u8]) -> Result<(), Rejection> {
        let Some(bytes) = &self.bytes else { return Ok(()) };
        let (Some(before), Some(after)) = (bytes.get(..place.start), bytes.get(place.end..)) else { return Ok(()) };
        let length = before.len() + with.len() + after.len();
        if let (Some(permit), Some(more)) = (&mut self.permit, length.checked_sub(bytes.len())) {
            permit.grow(u64::try_from(more).unwrap_or(u64::MAX))?;
        }
        let mut whole = BytesMut::with_capacity(length);
        for part in [before, with, after] {
            whole.extend_from_slice(part);
        }
        self.sha256 = hex(digest::digest(&digest::SHA256, &whole).as_ref());
        self.len = u64::try_from(length).unwrap_or(u64::MAX);
        self.bytes = Some(whole.freeze());
        Ok(())
    }
}

/// Reads the body of the request in `session`, at most `max` bytes within `time`, out of `memory`.
pub(super) async fn read(session: &mut Session, max: u64, time: Duration, memory: &Arc<BodyMemory>) -> Result<Body> {
    // What ends nowhere for certain would be taken for the next request.
    let length = length(session.req_header()).inspect_err(|_| session.set_keepalive(None))?;
    if let Some(length) = length {
        body_fits(length, max)?;
    }
    if expects_continue(session.req_header()) {
        let kept = session.as_downstream().get_keepalive();
        session.write_continue_response().await?;
        if kept.is_some() {
            // Pingora ends a connection on which it answers before the body is read. This is no answer.
            session.set_keepalive(kept);
        }
    }
    // Pingora's bounds one read; ours bounds them all.
    session.set_read_timeout(None);
    let Ok(body) = tokio::time::timeout(time, collect(session, length, max, memory)).await else {
        // What is left of it would be taken for the next request.
        session.set_keepalive(None);
        let message = format!("the request's body did not arrive within {time:?} (`firewall.body_timeout`)");
        return Err(Rejection::new(Reason::RequestTimeout, message).into());
    };
    let body = body?;
    if body.len > 0 && session.as_downstream().get_retry_buffer().is_none() {
        rewind(session).await?;
    }
    Ok(body)
}

async fn collect(session: &mut Session, length: Option<u64>, max: u64, memory: &Arc<BodyMemory>) -> Result<Body> {
    let mut permit = memory.reserve(length.unwrap_or(0).min(CLAIMED_MAX))?;
    let mut reserved = length.unwrap_or(0).min(CLAIMED_MAX);
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut held = Held::None;
    let mut read = 0_u64;
    loop {
        if length.is_none_or(|length| length.saturating_sub(read) <= RETRY_BUFFER) {
            session.enable_retry_buffering();
        }
        let Some(chunk) = session.read_request_body().await.map_err(Error::into_down)? else { break };
        let size = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        read = read.saturating_add(size);
        body_fits(read, max).inspect_err(|_| session.set_keepalive(None))?;
        if read > reserved {
            permit.grow(read - reserved).inspect_err(|_| session.set_keepalive(None))?;
            reserved = read;
        }
        hash.update(&chunk);
        held.push(chunk, length);
    }
    let sha256 = hex(hash.finish().as_ref());
    Ok(Body { bytes: Some(held.finish()), sha256, len: read, permit: Some(permit) })
}

/// What has come so far. Most bodies come in one piece, and are held as they came.
enum Held {
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Held {
    fn push(&mut self, chunk: Bytes, length: Option<u64>) {
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One(chunk),
            Self::One(first) => {
                let expected = usize::try_from(length.unwrap_or(0).min(CLAIMED_MAX)).unwrap_or(0);
                let mut all = BytesMut::with_capacity(expected.max((first.len() + chunk.len()) * 2));
                all.extend_from_slice(&first);
                all.extend_from_slice(&chunk);
                Self::Many(all)
            }
            Self::Many(mut all) => {
                all.extend_from_slice(&chunk);
                Self::Many(all)
            }
        };
    }

    fn finish(self) -> Bytes {
        match self {
            Self::None => Bytes::new(),
            Self::One(chunk) => chunk,
            Self::Many(all) => all.freeze(),
        }
    }
}

/// Whether the client waits for leave to send its body (RFC 9110, section 10.1.1); one of HTTP/1.0 knows no such answer.
fn expects_continue(head: &RequestHeader) -> bool {
    head.version >= Version::HTTP_11
        && head.headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The length that the head tells, where it tells one.
fn length(head: &RequestHeader) -> Result<Option<u64>, Rejection> {
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        // Pingora takes off the chunks alone: a body compressed for this hop would go on as if it were none.
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Rejection::new(Reason::Malformed, "the only `Transfer-Encoding` taken is `chunked`"));
        }
        return Ok(None);
    }
    let Some(value) = head.headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| Rejection::new(Reason::Malformed, "the `Content-Length` is not a number"))
}

/// The placeholder: the head once more, with a body of one byte, so that Pingora's reader is not done.
async fn rewind(session: &mut Session) -> Result<()> {
    if session.is_http2() {
        let message = "over HTTP/2, a body of more than 64 KiB needs a `Content-Length`";
        return Err(Rejection::new(Reason::LengthRequired, message).into());
    }
    let mut head = session.req_header().clone();
    head.remove_header(&header::TRANSFER_ENCODING);
    head.remove_header(&header::EXPECT);
    head.insert_header(header::CONTENT_LENGTH, "1")?;
    let lost = || Rejection::new(Reason::Internal, "the request's head could not be read again");
    let mut wire = http_req_header_to_wire(&head).ok_or_else(lost)?;
    wire.extend_from_slice(b"x");
    let downstream = session.as_downstream_mut();
    downstream.set_pipelined_prefix(wire);
    if !downstream.read_request().await? {
        return Err(lost().into());
    }
    // What the reader had read ahead is gone: the connection must not be used again.
    downstream.set_keepalive(None);
    Ok(())
}
