//! The answer on its way back: framed so that every event leaves as it comes.

use http::{StatusCode, Version, header};
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::domain::RequestId;
use crate::upstreams::KEPT_FROM_CLIENTS;

/// The header by which AWS names an exchange.
pub(super) const REQUEST_ID: &str = "x-amzn-requestid";

/// Adjusts the upstream's final head for the client. `streamed` is whether a stream of events follows.
pub(super) fn reframe(head: &mut ResponseHeader, id: &RequestId, client: Version, streamed: bool) -> Result<()> {
    if !head.headers.contains_key(REQUEST_ID) {
        head.insert_header("x-amzn-RequestId", id.as_str())?;
    }
    for name in KEPT_FROM_CLIENTS {
        head.remove_header(&name);
    }
    let bodiless = head.status == StatusCode::NO_CONTENT || head.status == StatusCode::NOT_MODIFIED;
    if streamed && !bodiless {
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
