//! Scans JSON that comes in pieces, and hands on what stands at the places that matter.
//!
//! It keeps no tree and no text: a stack of places, the key it is in, a number. Pieces may end anywhere, within an escape even. It never fails: what
//! is no JSON finds nothing more, and what stands deeper than [`DEPTH`] is passed over. Strings are crossed by `memchr`.

use memchr::memchr2;

use super::places::{Place, Wants};

/// How deep places are followed. The deepest that matters, a model's usage in an agent's trace in a flow's trace, is at 11.
const DEPTH: usize = 16;

/// The longest key or word that is kept; AWS's longest key that matters has 35 bytes.
const WORD: usize = 64;

/// Takes what a [`Scanner`] finds.
pub(super) trait Sink {
    /// An object or an array begins at `place`.
    fn open(&mut self, place: Place);
    /// It ended.
    fn close(&mut self, place: Place);
    /// A whole number.
    fn number(&mut self, place: Place, value: u64);
    /// A short string, whole.
    fn word(&mut self, place: Place, word: &[u8]);
    /// A piece of a string, unescaped; a string of no bytes has none.
    fn piece(&mut self, place: Place, piece: &[u8]);
    /// The string of the pieces ended.
    fn string_end(&mut self, place: Place);
    /// So many bytes of a tool's arguments, as they stand.
    fn arguments(&mut self, bytes: usize);
    /// The document ended.
    fn end(&mut self);
}

/// What it is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Between,
    Key,
    KeyEscape,
    Text,
    TextEscape,
    /// The digits of `\u` that are still to come.
    TextHex(u8),
    Number,
    /// Behind the document's end, or lost.
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    place: Place,
    object: bool,
}

/// Where in a document it is.
#[derive(Debug)]
pub(super) struct Scanner {
    mode: Mode,
    root: Place,
    /// Of the value under the last key, or of the string or number it is in.
    value: Place,
    expects_key: bool,
    /// Whether the innermost container is within a tool's arguments.
    in_arguments: bool,
    depth: u32,
    /// None where it is no whole number.
    number: Option<u64>,
    /// More than [`WORD`] where the word is too long to matter.
    length: usize,
    frames: [Frame; DEPTH],
    word: [u8; WORD],
}

/// All but the first `count` bytes.
fn past(bytes: &[u8], count: usize) -> &[u8] {
    bytes.get(count..).unwrap_or_default()
}

impl Scanner {
    /// Waits for a document that begins at `root`.
    pub(super) fn new(root: Place) -> Self {
        Self {
            mode: Mode::Between,
            root,
            value: root,
            expects_key: false,
            in_arguments: false,
            depth: 0,
            number: None,
            length: 0,
            frames: [Frame { place: Place::Nowhere, object: false }; DEPTH],
            word: [0; WORD],
        }
    }

    /// Forgets the document it is in and waits for one that begins at `root`.
    pub(super) fn restart(&mut self, root: Place) {
        self.mode = Mode::Between;
        self.root = root;
        self.value = root;
        self.expects_key = false;
        self.in_arguments = false;
        self.depth = 0;
    }

    /// Reads the next bytes.
    pub(super) fn feed<S: Sink>(&mut self, mut bytes: &[u8], sink: &mut S) {
        while !bytes.is_empty() {
            let (before, inside) = (bytes.len(), self.in_arguments);
            bytes = match self.mode {
                Mode::Between => self.between(bytes, sink),
                Mode::Key => self.key(bytes),
                Mode::KeyEscape => {
                    self.mode = Mode::Key;
                    past(bytes, 1)
                }
                Mode::Text => self.text(bytes, sink),
                Mode::TextEscape => self.escape(bytes, sink),
                Mode::TextHex(left) => {
                    self.mode = if left > 1 { Mode::TextHex(left - 1) } else { Mode::Text };
                    past(bytes, 1)
                }
                Mode::Number => self.digits(bytes, sink),
                Mode::Done => return,
            };
            if inside || self.in_arguments {
                sink.arguments(before - bytes.len());
            }
        }
    }

    /// Keys, punctuation, and the beginnings of values; `null` and the like are passed over.
    fn between<'a, S: Sink>(&mut self, bytes: &'a [u8], sink: &mut S) -> &'a [u8] {
        for (at, &byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => {
                    self.length = 0;
                    if self.expects_key {
                        self.mode = Mode::Key;
                    } else {
                        self.value = self.place();
                        self.mode = Mode::Text;
                    }
                }
                b'{' | b'[' => {
                    self.open(byte == b'{', sink);
                    return past(bytes, at + 1);
                }
                b'}' | b']' => {
                    self.close(byte == b'}', sink);
                    return past(bytes, at + 1);
                }
                b',' => self.expects_key = self.top().is_some_and(|frame| frame.object),
                b'-' | b'0'..=b'9' if matches!(self.place().wants(), Wants::Number) => {
                    self.value = self.place();
                    self.number = Some(0);
                    self.mode = Mode::Number;
                    return past(bytes, at);
                }
                _ => {}
            }
            if self.mode != Mode::Between {
                return past(bytes, at + 1);
            }
        }
        &[]
    }

    fn top(&self) -> Option<Frame> {
        let depth = usize::try_from(self.depth).ok()?.checked_sub(1)?;
        Some(self.frames.get(depth).copied().unwrap_or(Frame { place: Place::Nowhere, object: false }))
    }

    /// The place of the value that comes next.
    fn place(&self) -> Place {
        match self.top() {
            None => self.root,
            Some(Frame { object: true, .. }) => self.value,
            Some(Frame { place, object: false }) => place,
        }
    }

    fn open<S: Sink>(&mut self, object: bool, sink: &mut S) {
        let place = match self.place() {
            Place::Arguments => Place::InArguments,
            place => place,
        };
        if self.depth == 0 && !object {
            self.mode = Mode::Done;
            return;
        }
        self.in_arguments |= place == Place::InArguments;
        if let Some(frame) = usize::try_from(self.depth).ok().and_then(|depth| self.frames.get_mut(depth)) {
            *frame = Frame { place, object };
            self.expects_key = object;
            sink.open(place);
        } else {
            self.expects_key = false;
        }
        self.depth = self.depth.saturating_add(1);
    }

    fn close<S: Sink>(&mut self, object: bool, sink: &mut S) {
        let Some(depth) = self.depth.checked_sub(1) else {
            self.mode = Mode::Done;
            return;
        };
        if let Some(frame) = usize::try_from(depth).ok().and_then(|depth| self.frames.get(depth).copied()) {
            if frame.object != object {
                self.mode = Mode::Done;
                return;
            }
            sink.close(frame.place);
        }
        self.depth = depth;
        self.expects_key = false;
        // What stands too deep to have a place is in them if they were entered before.
        self.in_arguments &=
            self.top().is_some_and(|frame| frame.place == Place::InArguments) || usize::try_from(depth).is_ok_and(|depth| depth > DEPTH);
        if depth == 0 {
            self.mode = Mode::Done;
            sink.end();
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        let end = self.length.saturating_add(piece.len());
        if let Some(room) = self.word.get_mut(self.length..end) {
            room.copy_from_slice(piece);
        }
        self.length = end;
    }

    fn kept(&self) -> Option<&[u8]> {
        self.word.get(..self.length)
    }

    fn key<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(at) = memchr2(b'"', b'\\', bytes) else {
            self.keep(bytes);
            return &[];
        };
        self.keep(bytes.get(..at).unwrap_or_default());
        if bytes.get(at) == Some(&b'"') {
            let inside = self.top().map_or(Place::Nowhere, |frame| frame.place);
            self.value = self.kept().map_or(Place::Nowhere, |key| inside.under(key));
            self.expects_key = false;
            self.mode = Mode::Between;
        } else {
            // None that matters is written with an escape: such a key is another.
            self.length = WORD + 1;
            self.mode = Mode::KeyEscape;
        }
        past(bytes, at + 1)
    }

    fn text<'a, S: Sink>(&mut self, bytes: &'a [u8], sink: &mut S) -> &'a [u8] {
        let found = memchr2(b'"', b'\\', bytes);
        self.hand_on(bytes.get(..found.unwrap_or(bytes.len())).unwrap_or_default(), sink);
        let Some(at) = found else { return &[] };
        if bytes.get(at) == Some(&b'"') {
            match self.value.wants() {
                Wants::Word => {
                    if let Some(word) = self.kept() {
                        sink.word(self.value, word);
                    }
                }
                Wants::Text => sink.string_end(self.value),
                Wants::Number | Wants::Nothing => {}
            }
            self.mode = Mode::Between;
        } else {
            self.mode = Mode::TextEscape;
        }
        past(bytes, at + 1)
    }

    fn hand_on<S: Sink>(&mut self, piece: &[u8], sink: &mut S) {
        match self.value.wants() {
            Wants::Word => self.keep(piece),
            Wants::Text if !piece.is_empty() => sink.piece(self.value, piece),
            Wants::Text | Wants::Number | Wants::Nothing => {}
        }
    }

    /// An escape stands for one byte; `\u` for three, the most that it can: what is counted of a text is never too little.
    fn escape<'a, S: Sink>(&mut self, bytes: &'a [u8], sink: &mut S) -> &'a [u8] {
        let (escaped, rest) = bytes.split_at(1);
        if escaped == b"u" {
            self.hand_on(b"???", sink);
            self.mode = Mode::TextHex(4);
        } else {
            self.hand_on(escaped, sink);
            self.mode = Mode::Text;
        }
        rest
    }

    fn digits<'a, S: Sink>(&mut self, bytes: &'a [u8], sink: &mut S) -> &'a [u8] {
        for (at, &byte) in bytes.iter().enumerate() {
            match byte {
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    self.number = self.number.and_then(|number| number.checked_mul(10)?.checked_add(digit));
                }
                b'-' | b'+' | b'.' | b'e' | b'E' => self.number = None,
                _ => {
                    if let Some(number) = self.number.take() {
                        sink.number(self.value, number);
                    }
                    self.mode = Mode::Between;
                    return past(bytes, at);
                }
            }
        }
        &[]
    }
}
