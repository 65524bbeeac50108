//! What comes back? A reader stands beside the answer and finds what it used.
//!
//! Invariants: the bytes pass untouched and unheld; a frame may be split anywhere; memory is bounded whatever a frame says of its length; nothing that
//! comes from outside makes it fail: where it understands nothing, it finds nothing. No operation is known by name: an answer's content type says how
//! it is read.

mod chunk;
mod exception;
mod found;
mod frames;
mod json;
mod places;
mod settle;
mod sse;
#[cfg(test)]
mod tests;
mod told;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};

use crate::domain::{Asked, Basis, Tokens, Usage};
pub use exception::Ending;
use found::Found;
use frames::Frames;
use json::Scanner;
use places::Place;
use sse::Events;

/// What only an agent's answer has; its `chunk` events hold text, where a model's hold JSON.
const AGENT: [&str; 2] = ["x-amz-bedrock-agent-session-id", "x-amzn-bedrock-agent-content-type"];

/// The content types of streams.
const FRAMES: &str = "application/vnd.amazon.eventstream";
const EVENTS: &str = "text/event-stream";

/// Reads one answer.
#[derive(Debug, Default)]
pub struct Meter {
    streamed: bool,
    /// Nothing where there is nothing to be read: a refusal, a body of another kind.
    reading: Option<Box<Reading>>,
    first_token: Option<Duration>,
    last_token: Option<Duration>,
}

#[derive(Debug)]
struct Reading {
    reader: Reader,
    found: Found,
}

/// How the body is read.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one to an answer, and it is boxed as a whole")]
enum Reader {
    /// Its first byte will tell whether it is JSON.
    Unknown,
    /// Not at all: what the head told is all.
    Nothing,
    Body(Scanner),
    Events(Events),
    Frames(Frames),
}

/// What was found in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// What it used; none where it is no model's answer.
    pub usage: Option<Usage>,
    /// When its first token came, by the time that [`Meter::read`] was given; none for an answer that came as a whole.
    pub first_token: Option<Duration>,
    /// When its last came.
    pub last_token: Option<Duration>,
    /// Whether it came as a stream of events.
    pub streamed: bool,
    /// Whether the stream told of an exception: the status was 200 by then.
    pub failed: bool,
    /// Whether a model answered and nobody can tell what that used: by bytes of a kind or a coding that is not read, or by frames that made no sense.
    /// `usage` is the least that it can be, then.
    pub opaque: bool,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// At its end.
    Whole,
    /// Before it: the client left, or the upstream broke off.
    Early,
    /// Before it: a limit did, by what [`Meter::so_far`] said.
    Cut,
}

/// Whether an answer with these headers comes as a stream of events.
#[must_use]
pub fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    is(kind, FRAMES) || is(kind, EVENTS)
}

/// Whether a content type is this one, whatever its parameters.
fn is(kind: &str, name: &str) -> bool {
    kind.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

impl Meter {
    /// Begins at the head of the upstream's answer. Of a status other than 2xx nothing is used, and nothing is read.
    #[must_use]
    pub fn begin(status: u16, headers: &HeaderMap) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (frames, events) = (is(kind, FRAMES), is(kind, EVENTS));
        let streamed = frames || events;
        if !(200..300).contains(&status) {
            return Self { streamed, ..Self::default() };
        }
        let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
        let reader = if encoded {
            Reader::Nothing
        } else if frames {
            Reader::Frames(Frames::new(AGENT.iter().any(|name| headers.contains_key(HeaderName::from_static(name)))))
        } else if events {
            Reader::Events(Events::new())
        } else {
            Reader::Unknown
        };
        Self { streamed, reading: Some(Box::new(Reading { reader, found: Found::in_head(headers) })), ..Self::default() }
    }

    /// Whether the answer comes as a stream of events.
    #[must_use]
    pub const fn is_streamed(&self) -> bool {
        self.streamed
    }

    /// Looks at the next bytes of the body, which came `at` so long after the exchange began. Allocates nothing.
    pub fn read(&mut self, bytes: &[u8], at: Duration) {
        let Some(Reading { reader, found }) = self.reading.as_deref_mut() else { return };
        let before = found.delivered;
        reader.read(bytes, found);
        self.delivered_since(before, at);
    }

    /// Looks at them to the end of the event that they are in, where that is among them. Returns how many bytes that takes; none where the event goes on
    /// behind them, or the answer is no stream that can be read: all of them were looked at then.
    pub fn read_event(&mut self, bytes: &[u8], at: Duration) -> Option<usize> {
        let Reading { reader, found } = self.reading.as_deref_mut()?;
        let before = found.delivered;
        let (rest, whole) = match reader {
            Reader::Events(events) => events.read_event(bytes, found),
            Reader::Frames(frames) => frames.read_event(bytes, found),
            Reader::Unknown | Reader::Nothing | Reader::Body(_) => {
                reader.read(bytes, found);
                return None;
            }
        };
        self.delivered_since(before, at);
        whole.then_some(bytes.len() - rest.len())
    }

    fn delivered_since(&mut self, before: u64, at: Duration) {
        if self.streamed && self.reading.as_deref().is_some_and(|reading| reading.found.delivered > before) {
            self.first_token.get_or_insert(at);
            self.last_token = Some(at);
        }
    }

    /// What the answer used by now, as told or estimated: cheap enough to be asked at every event. None where nothing is read.
    #[must_use]
    pub fn so_far(&self, asked: Option<&Asked>) -> Option<Tokens> {
        Some(settle::so_far(&self.reading.as_deref()?.found, asked))
    }

    /// Whether a stream has told all that it used, so that its end would spare nothing more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.reading.as_deref().is_some_and(|reading| settle::is_over(&reading.found))
    }

    /// Whether all that was looked at of a stream are whole events, so that another may be put behind them.
    #[must_use]
    pub fn is_between_events(&self) -> bool {
        self.reading.as_deref().is_some_and(|reading| match &reading.reader {
            Reader::Events(events) => events.is_between(),
            Reader::Frames(frames) => frames.is_between(),
            Reader::Unknown | Reader::Nothing | Reader::Body(_) => false,
        })
    }

    /// Whether a stream has told of an exception before any of its answer.
    #[must_use]
    pub fn failed_at_once(&self) -> bool {
        self.streamed && self.first_token.is_none() && self.reading.as_deref().is_some_and(|reading| reading.found.failed)
    }

    /// Whether that exception was that AWS would not now.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        self.reading.as_deref().is_some_and(|reading| reading.found.throttled)
    }

    /// Whether a stream has delivered some of its answer.
    #[must_use]
    pub const fn has_delivered(&self) -> bool {
        self.first_token.is_some()
    }

    /// Whether a stream can be read at all: of one in a coding of its own, or out of step, nobody knows what it says.
    #[must_use]
    pub fn is_legible(&self) -> bool {
        self.reading.as_deref().is_some_and(|reading| match &reading.reader {
            Reader::Events(_) => true,
            Reader::Frames(frames) => !frames.is_lost(),
            Reader::Unknown | Reader::Nothing | Reader::Body(_) => false,
        })
    }

    /// Whether a stream that ended here ended in the middle of an event, and so too early. Of server-sent events nobody can tell: many leave out the last
    /// blank line.
    #[must_use]
    pub fn ends_within_event(&self) -> bool {
        self.reading
            .as_deref()
            .is_some_and(|reading| matches!(&reading.reader, Reader::Frames(frames) if !frames.is_lost() && !frames.is_between()))
    }

    /// An event that tells of an error in the stream's own way, to be put behind a whole event ([`Meter::read_event`]) as the stream's last. None where the
    /// answer is no stream that can be read.
    #[must_use]
    pub fn exception(&self, ending: Ending, message: &str) -> Option<Bytes> {
        match self.reading.as_deref()?.reader {
            Reader::Frames(_) => Some(exception::frame(ending, message)),
            Reader::Events(_) => Some(exception::event(ending, message)),
            Reader::Unknown | Reader::Nothing | Reader::Body(_) => None,
        }
    }

    /// What was found, now that the answer has ended. `asked` is what an estimate starts from where nothing was told; none where the call is for no model.
    #[must_use]
    pub fn measured(&self, asked: Option<&Asked>, ended: Ended) -> Measured {
        let found = self.reading.as_deref().map(|reading| &reading.found);
        let usage = found.and_then(|found| settle::settle(found, asked, ended, self.streamed));
        Measured {
            usage,
            first_token: self.first_token,
            last_token: self.last_token,
            streamed: self.streamed,
            failed: found.is_some_and(|found| found.failed),
            opaque: asked.is_some() && self.reading.as_deref().is_some_and(|reading| reading.is_opaque(usage.as_ref())),
        }
    }
}

impl Reading {
    fn is_opaque(&self, usage: Option<&Usage>) -> bool {
        let Self { reader, found } = self;
        if found.uses_nothing || usage.is_some_and(|usage| usage.basis == Basis::Reported) {
            return false;
        }
        match reader {
            Reader::Nothing => true,
            Reader::Frames(frames) => frames.is_lost(),
            // There was no body, or all of it was read: what tells nothing has used nothing.
            Reader::Unknown | Reader::Body(_) | Reader::Events(_) => false,
        }
    }
}

impl Measured {
    /// Its tokens: none where it is no model's answer.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        self.usage.map_or_else(Tokens::default, |usage| usage.tokens)
    }

    /// Of a call whose client left before an answer began: the model has read it by then, or will.
    #[must_use]
    pub fn unanswered(asked: &Asked) -> Self {
        Self { usage: Some(settle::unanswered(asked)), ..Self::default() }
    }
}

impl Reader {
    fn read(&mut self, bytes: &[u8], found: &mut Found) {
        if matches!(self, Self::Unknown) {
            // What InvokeModel answers is the model's own, and so is its content type.
            match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
                None => return,
                Some(b'{') => *self = Self::Body(Scanner::new(Place::Body)),
                Some(_) => *self = Self::Nothing,
            }
        }
        match self {
            Self::Unknown | Self::Nothing => {}
            Self::Body(scanner) => scanner.feed(bytes, found),
            Self::Events(events) => events.read(bytes, found),
            Self::Frames(frames) => frames.read(bytes, found),
        }
    }
}
