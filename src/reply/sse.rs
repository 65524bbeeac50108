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
    scanner: Scanner,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { line: Line::Field(0), after_return: false, scanner: Scanner::new(Place::Body) }
    }

    pub(super) fn read(&mut self, mut bytes: &[u8], found: &mut Found) {
        while let Some((first, after)) = bytes.split_first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = after;
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
            bytes = match rest.split_first() {
                None => rest,
                Some((ending, rest)) => {
                    self.after_return = *ending == b'\r';
                    match self.line {
                        // A blank line ends the event.
                        Line::Field(0) => self.scanner.restart(Place::Body),
                        Line::Data => self.scanner.feed(b"\n", found),
                        Line::Field(_) | Line::Other => {}
                    }
                    self.line = Line::Field(0);
                    rest
                }
            };
        }
    }
}
