//! The answer on its way back: framed so that every event leaves as it comes.

use http::{StatusCode, Version, header};
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::domain::RequestId;
use crate::upstreams::KEPT_FROM_CLIENTS;

/// The header by which AWS names an exchange.
pub(super) const REQUEST_ID: &str = "x-amzn-requestid";

/// Content types whose bodies are streams of events.
const STREAMS: [&str; 2] = ["application/vnd.amazon.eventstream", "text/event-stream"];

/// Adjusts the upstream's final head for the client.
pub(super) fn reframe(head: &mut ResponseHeader, id: &RequestId, client: Version) -> Result<()> {
    if !head.headers.contains_key(REQUEST_ID) {
        head.insert_header("x-amzn-RequestId", id.as_str())?;
    }
    for name in KEPT_FROM_CLIENTS {
        head.remove_header(&name);
    }
    if is_stream(head) {
        // Pingora flushes an HTTP/1.1 body of known length only every so many bytes: an event would wait for the next.
        head.remove_header(&header::CONTENT_LENGTH);
        if client == Version::HTTP_11 {
            head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
        }
    }
    if client < Version::HTTP_11 {
        // It knows no chunks: where no length is told, the body ends with the connection.
        head.remove_header(&header::TRANSFER_ENCODING);
    }
    Ok(())
}

fn is_stream(head: &ResponseHeader) -> bool {
    let bodiless = head.status == StatusCode::NO_CONTENT || head.status == StatusCode::NOT_MODIFIED;
    !bodiless
        && head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
            STREAMS.iter().any(|stream| {
                value.len() >= stream.len()
                    && value.as_bytes().get(..stream.len()).is_some_and(|start| start.eq_ignore_ascii_case(stream.as_bytes()))
            })
        })
}
