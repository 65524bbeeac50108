//! What is found in answers of every kind, however their bytes are split.

mod answers;
mod cut;
mod hostile;
mod shapes;
mod splits;

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::{Ended, Measured, Meter};
use crate::domain::{Asked, Basis, Tokens, Usage};
use crate::emulator::eventstream;

/// The content types that decide how an answer is read.
const JSON: &str = "application/json";
const SSE: &str = "text/event-stream; charset=utf-8";
const FRAMES: &str = "application/vnd.amazon.eventstream";

/// What is asked for where a test does not say otherwise: 30 bytes of text are 10 tokens.
const ASKED: Asked = Asked { text_bytes: 30, media: 0, max_tokens: None, streamed: false, of_no_model: false };

/// One answer and what must be found in it.
struct Answer {
    name: &'static str,
    kind: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    usage: Option<Usage>,
}

/// An answer that tells all.
fn answer(name: &'static str, kind: &'static str, body: impl Into<Vec<u8>>, tokens: Tokens) -> Answer {
    Answer { name, kind, headers: Vec::new(), body: body.into(), usage: Some(reported(tokens)) }
}

fn reported(tokens: Tokens) -> Usage {
    Usage { tokens, guardrail: crate::domain::GuardrailUnits::default(), basis: Basis::Reported, tier: None }
}

fn estimated(input: u64, output: u64) -> Usage {
    Usage { basis: Basis::Estimated, ..reported(tokens(input, output)) }
}

fn tokens(input: u64, output: u64) -> Tokens {
    Tokens { input, output, ..Tokens::default() }
}

fn meter(kind: &'static str, headers: &[(&'static str, &'static str)]) -> Meter {
    let mut map: HeaderMap = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
    if !kind.is_empty() {
        map.insert("content-type", HeaderValue::from_static(kind));
    }
    Meter::begin(200, &map)
}

impl Answer {
    fn measured<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>, ended: Ended) -> Measured {
        let mut meter = meter(self.kind, &self.headers);
        for (at, piece) in pieces.into_iter().enumerate() {
            meter.read(piece, Duration::from_millis(at as u64));
        }
        meter.measured(Some(&ASKED), ended)
    }
}

/// What a whole body of this kind tells.
fn read(kind: &'static str, body: &[u8], asked: Option<&Asked>, ended: Ended) -> Measured {
    let mut meter = meter(kind, &[]);
    meter.read(body, Duration::ZERO);
    meter.measured(asked, ended)
}

/// Frames of these events, one behind the other.
fn frames(events: &[(&str, &str)]) -> Vec<u8> {
    events.iter().flat_map(|(name, payload)| eventstream::event(name, payload.as_bytes())).collect()
}

/// The same for what InvokeModel wraps into `chunk` events.
fn chunks(documents: &[&str]) -> Vec<u8> {
    use base64::Engine as _;
    let wrap = |document: &&str| {
        let payload = format!(r#"{{"bytes":"{}","p":"abcdefghijk"}}"#, base64::prelude::BASE64_STANDARD.encode(document));
        eventstream::event("chunk", payload.as_bytes())
    };
    documents.iter().flat_map(wrap).collect()
}

/// Server-sent events.
fn events(documents: &[&str]) -> Vec<u8> {
    documents.iter().flat_map(|document| format!("data: {document}\n\n").into_bytes()).collect()
}
