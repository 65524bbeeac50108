//! Reads server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>): the `data` of each is a JSON document.

use memchr::memchr2;

use super::found::Found;
use super::json::Scanner;
use super::places::Place;

/// The only field that matters: the data say their kind themselves.
const DATA: &[u8] = b"data:";

/// Where in a line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// So many bytes of `data:` have come.
    Field(usize),
    Data,
    Other,
}

/// Reads the stream line by line, and keeps none.
#[derive(Debug)]
pub(super) struct Events {
    line: Line,
    /// The line before ended with `\r`: a `\n` belongs to that end.
    after_return: bool,
    /// That line was blank.
    after_blank: bool,
    /// The line that ended last was blank, or none has begun yet.
    after_blank_line: bool,
    scanner: Scanner,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { line: Line::Field(0), after_return: false, after_blank: false, after_blank_line: true, scanner: Scanner::new(Place::Body) }
    }

    /// Whether what was read ends with a whole event, its blank line included.
    pub(super) const fn is_between(&self) -> bool {
        matches!(self.line, Line::Field(0)) && self.after_blank_line
    }

    pub(super) fn read(&mut self, mut bytes: &[u8], found: &mut Found) {
        while !bytes.is_empty() {
            bytes = self.read_event(bytes, found).0;
        }
    }

    /// Reads to the end of the event that it is in, as far as that is there. Returns what is behind, and whether the event is whole: after its blank line.
    /// One that ends with `\r` is whole once the next byte tells that no `\n` belongs to it.
    pub(super) fn read_event<'a>(&mut self, mut bytes: &'a [u8], found: &mut Found) -> (&'a [u8], bool) {
        while let Some((first, after)) = bytes.split_first() {
            if std::mem::take(&mut self.after_return) {
                let whole = std::mem::take(&mut self.after_blank);
                if *first == b'\n' {
                    bytes = after;
                }
                if whole {
                    return (bytes, true);
                }
                continue;
            }
            if let Line::Field(matched) = self.line
                && !matches!(first, b'\n' | b'\r')
            {
                self.line = match DATA.get(matched) {
                    Some(expected) if expected == first && matched + 1 == DATA.len() => Line::Data,
                    Some(expected) if expected == first => Line::Field(matched + 1),
                    _ => Line::Other,
                };
                bytes = after;
                continue;
            }
            let end = memchr2(b'\n', b'\r', bytes);
            let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line == Line::Data {
                self.scanner.feed(line, found);
            }
            let Some((ending, rest)) = rest.split_first() else { return (rest, false) };
            bytes = rest;
            self.after_return = *ending == b'\r';
            self.after_blank_line = self.line == Line::Field(0);
            match std::mem::replace(&mut self.line, Line::Field(0)) {
                // A blank line ends the event.
                Line::Field(0) => {
                    self.scanner.restart(Place::Body);
                    self.after_blank = self.after_return;
                    if !self.after_return {
                        return (bytes, true);
                    }
                }
                Line::Data => self.scanner.feed(b"\n", found),
                Line::Field(_) | Line::Other => {}
            }
        }
        (bytes, false)
    }
}
