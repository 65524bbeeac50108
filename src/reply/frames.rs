//! Reads `application/vnd.amazon.eventstream`: `u32 total | u32 headers | u32 CRC-32 of those 8 bytes | headers | payload | u32 CRC-32`, big-endian
//! (<https://smithy.io/2.0/aws/amazon-eventstream.html>).
//!
//! Nothing is kept of a frame but its first twelve bytes and the header it is in. Events that can't matter are passed over by their length. Where a
//! frame makes no sense the reader gives up for the rest of the answer: without a length it would never be in step again.

use super::chunk::{Held, Unwrap};
use super::found::Found;
use super::json::Scanner;
use super::places::Place;

const PRELUDE: usize = 12;
/// The prelude and the checksum at the end.
const OVERHEAD: u32 = 16;
/// Payloads have 16 MiB at most and headers 128 KiB (Smithy's specification); some room above.
const FRAME_MAX: u32 = 24 * 1024 * 1024;
const HEADERS_MAX: u32 = 128 * 1024;
/// The longest name or value of a header that is told from others.
const WORD: usize = 40;

/// What an event holds that is worth reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload {
    /// Nothing.
    Skipped,
    /// A document.
    Document(Place),
    /// One that wraps another.
    Wrapped(Place),
}

/// What comes next in the block of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    NameLength,
    Name,
    Type,
    /// The length of a string or of bytes.
    Length,
    Value,
}

/// A header whose value matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    MessageType,
    EventType,
    ExceptionType,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Prelude,
    Headers,
    Payload,
    Checksum,
    /// Out of step.
    Lost,
}

/// Where in the stream it is.
#[derive(Debug)]
pub(super) struct Frames {
    part: Part,
    /// Bytes of this part that are still to come; of the prelude, of a header's piece, in `need`.
    left: u32,
    payload_length: u32,
    step: Step,
    need: usize,
    name: Name,
    payload: Payload,
    /// Whether `chunk` events hold text, and not a model's JSON.
    agent: bool,
    kept: usize,
    keep: [u8; WORD],
    held: Held,
    outer: Scanner,
    inner: Scanner,
}

impl Frames {
    /// `agent`: whether an agent answers, whose `chunk` events wrap text, and not JSON of a model.
    pub(super) fn new(agent: bool) -> Self {
        Self {
            part: Part::Prelude,
            left: 0,
            payload_length: 0,
            step: Step::NameLength,
            need: PRELUDE,
            name: Name::Other,
            payload: Payload::Document(Place::Body),
            agent,
            kept: 0,
            keep: [0; WORD],
            held: Held::default(),
            outer: Scanner::new(Place::Body),
            inner: Scanner::new(Place::Inner),
        }
    }

    pub(super) fn read(&mut self, mut bytes: &[u8], found: &mut Found) {
        while !bytes.is_empty() {
            bytes = self.read_event(bytes, found).0;
        }
    }

    /// Reads to the end of the frame that it is in, as far as that is there. Returns what is behind, and whether the frame is whole.
    pub(super) fn read_event<'a>(&mut self, mut bytes: &'a [u8], found: &mut Found) -> (&'a [u8], bool) {
        while !bytes.is_empty() {
            bytes = match self.part {
                Part::Prelude => self.prelude(bytes),
                Part::Headers => self.headers(bytes, found),
                Part::Payload => self.payload(bytes, found),
                Part::Checksum => {
                    let (_, rest) = self.take(bytes);
                    if self.left == 0 {
                        (self.part, self.need, self.kept) = (Part::Prelude, PRELUDE, 0);
                        return (rest, true);
                    }
                    rest
                }
                Part::Lost => &[],
            };
        }
        (bytes, false)
    }

    /// Whether what was read ends with a whole frame.
    pub(super) fn is_between(&self) -> bool {
        self.part == Part::Prelude && self.kept == 0
    }

    /// Whether it is out of step, and finds nothing more.
    pub(super) const fn is_lost(&self) -> bool {
        matches!(self.part, Part::Lost)
    }

    /// As much of this part as is there.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left = self.left.saturating_sub(u32::try_from(most).unwrap_or(u32::MAX));
        bytes.split_at(most)
    }

    /// Keeps as much of what is needed next as is there; whether it is all there.
    fn gather<'a>(&mut self, bytes: &'a [u8]) -> (bool, &'a [u8]) {
        let (piece, rest) = bytes.split_at(self.need.min(bytes.len()));
        let end = self.kept.saturating_add(piece.len());
        if let Some(room) = self.keep.get_mut(self.kept..end) {
            room.copy_from_slice(piece);
        }
        self.kept = end;
        self.need -= piece.len();
        (self.need == 0, rest)
    }

    fn prelude<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (whole, rest) = self.gather(bytes);
        if !whole {
            return rest;
        }
        let ([total, headers, checksum, ..], Some(summed)) = (self.keep.as_chunks::<4>().0, self.keep.first_chunk::<8>()) else {
            return rest;
        };
        let (total, headers) = (u32::from_be_bytes(*total), u32::from_be_bytes(*headers));
        let sound = crc32fast::hash(summed) == u32::from_be_bytes(*checksum);
        match total.checked_sub(OVERHEAD).and_then(|body| body.checked_sub(headers)) {
            Some(payload) if sound && total <= FRAME_MAX && headers <= HEADERS_MAX => {
                self.payload_length = payload;
                self.payload = Payload::Document(Place::Body);
                self.left = headers;
                self.part = Part::Headers;
                self.expect(Step::NameLength, 1);
                if headers == 0 {
                    self.begin_payload();
                }
            }
            _ => self.part = Part::Lost,
        }
        rest
    }

    fn expect(&mut self, step: Step, need: usize) {
        (self.step, self.need, self.kept) = (step, need, 0);
    }

    fn headers<'a>(&mut self, bytes: &'a [u8], found: &mut Found) -> &'a [u8] {
        let (mut block, rest) = self.take(bytes);
        while !block.is_empty() {
            let (whole, after) = self.gather(block);
            block = after;
            if whole && self.header(found).is_none() {
                self.part = Part::Lost;
                return &[];
            }
        }
        if self.left == 0 {
            // It must end where a header does.
            if self.step == Step::NameLength {
                self.begin_payload();
            } else {
                self.part = Part::Lost;
            }
        }
        rest
    }

    /// The piece of a header that was needed is there. None where it is none.
    fn header(&mut self, found: &mut Found) -> Option<()> {
        let [first, second, ..] = self.keep;
        match self.step {
            Step::NameLength if first == 0 => return None,
            Step::NameLength => self.expect(Step::Name, usize::from(first)),
            Step::Name => {
                self.name = match self.keep.get(..self.kept) {
                    Some(b":message-type") => Name::MessageType,
                    Some(b":event-type") => Name::EventType,
                    Some(b":exception-type") => Name::ExceptionType,
                    _ => Name::Other,
                };
                self.expect(Step::Type, 1);
            }
            Step::Type => match first {
                0 | 1 => self.expect(Step::NameLength, 1),
                2 => self.expect(Step::Value, 1),
                3 => self.expect(Step::Value, 2),
                4 => self.expect(Step::Value, 4),
                5 | 8 => self.expect(Step::Value, 8),
                6 | 7 => self.expect(Step::Length, 2),
                9 => self.expect(Step::Value, 16),
                _ => return None,
            },
            Step::Length => match u16::from_be_bytes([first, second]) {
                0 => self.expect(Step::NameLength, 1),
                length => self.expect(Step::Value, usize::from(length)),
            },
            Step::Value => {
                let value = self.keep.get(..self.kept).unwrap_or_default();
                match self.name {
                    Name::MessageType if matches!(value, b"exception" | b"error") => {
                        found.failed();
                        self.payload = Payload::Skipped;
                    }
                    Name::ExceptionType => found.throttled |= value == b"throttlingException",
                    Name::EventType if self.payload != Payload::Skipped => self.payload = payload_of(value, self.agent),
                    Name::MessageType | Name::EventType | Name::Other => {}
                }
                self.expect(Step::NameLength, 1);
            }
        }
        Some(())
    }

    fn begin_payload(&mut self) {
        self.left = self.payload_length;
        self.part = Part::Payload;
        match self.payload {
            Payload::Skipped => {}
            Payload::Document(root) => self.outer.restart(root),
            Payload::Wrapped(root) => {
                self.outer.restart(root);
                self.inner.restart(Place::Inner);
                self.held = Held::default();
            }
        }
        self.end_payload();
    }

    fn end_payload(&mut self) {
        if self.left == 0 {
            (self.part, self.left) = (Part::Checksum, 4);
        }
    }

    fn payload<'a>(&mut self, bytes: &'a [u8], found: &mut Found) -> &'a [u8] {
        let (piece, rest) = self.take(bytes);
        match self.payload {
            Payload::Skipped => {}
            Payload::Document(_) => self.outer.feed(piece, found),
            Payload::Wrapped(_) => {
                let mut unwrap = Unwrap { inner: &mut self.inner, held: &mut self.held, found };
                self.outer.feed(piece, &mut unwrap);
            }
        }
        self.end_payload();
        rest
    }
}

/// What is read of an event of this type; one that is not known is read, for what AWS adds may tell usage.
fn payload_of(event_type: &[u8], agent: bool) -> Payload {
    match event_type {
        b"chunk" => Payload::Wrapped(if agent { Place::WrappedText } else { Place::Wrapper }),
        b"trace" | b"flowTraceEvent" => Payload::Document(Place::TraceEvent),
        b"messageStart"
        | b"contentBlockStart"
        | b"contentBlockStop"
        | b"messageStop"
        | b"files"
        | b"returnControl"
        | b"citation"
        | b"guardrail"
        | b"analyzePromptEvent"
        | b"flowCompletionEvent" => Payload::Skipped,
        _ => Payload::Document(Place::Body),
    }
}
