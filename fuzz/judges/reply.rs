//! What holds of any answer that is read: nothing panics, and however its bytes are split, the same is found.

#![allow(dead_code, reason = "each target takes one of them")]

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tollgate::domain::{Asked, Usage};
use tollgate::reply::{Ended, Meter};

const ASKED: Asked = Asked { text_bytes: 30, media: 1, max_tokens: Some(1_000), streamed: false, of_no_model: false };

fn read<'a>(kind: &'static str, pieces: impl IntoIterator<Item = &'a [u8]>, ended: Ended) -> (Option<Usage>, bool) {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(kind));
    let mut meter = Meter::begin(200, &headers);
    pieces.into_iter().for_each(|piece| meter.read(piece, Duration::ZERO));
    let measured = meter.measured(Some(&ASKED), ended);
    (measured.usage, measured.failed)
}

fn judge(kind: &'static str, data: &[u8]) {
    let at = data.first().map_or(0, |byte| usize::from(*byte)).min(data.len());
    let (head, tail) = data.split_at(at);
    for ended in [Ended::Whole, Ended::Early] {
        let whole = read(kind, [data], ended);
        assert_eq!(read(kind, [head, tail], ended), whole, "split at {at}");
        assert_eq!(read(kind, data.chunks(1), ended), whole, "byte by byte");
    }
}

/// `application/vnd.amazon.eventstream`.
pub(crate) fn event_stream(data: &[u8]) {
    judge("application/vnd.amazon.eventstream", data);
}

/// JSON.
pub(crate) fn json(data: &[u8]) {
    judge("application/json", data);
}

/// `text/event-stream`.
pub(crate) fn server_sent_events(data: &[u8]) {
    judge("text/event-stream", data);
}
