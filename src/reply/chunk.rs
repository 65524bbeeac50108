//! Takes the answer out of `{"bytes":"<base64>","p":"…"}`, which `InvokeModelWithResponseStream`, its bidirectional sister and `InvokeAgent` wrap it into.

use super::found::Found;
use super::json::{Scanner, Sink};
use super::places::Place;

/// Bytes decoded at once, on the stack.
const PIECE: usize = 192;

/// No digit of base64.
const NONE: u8 = 0x80;

/// The values of base64's digits (RFC 4648, section 4).
const DIGITS: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut digits = [NONE; 256];
    let mut value = 0;
    while value < 64 {
        #[expect(clippy::indexing_slicing, reason = "evaluated at compile time: it would not compile")]
        #[expect(clippy::cast_possible_truncation, reason = "less than 64")]
        {
            digits[alphabet[value] as usize] = value as u8;
        }
        value += 1;
    }
    digits
};

fn digit(byte: u8) -> u8 {
    DIGITS.get(usize::from(byte)).copied().unwrap_or(NONE)
}

/// Reads the wrapper; what is in it goes to a scanner of its own, or is counted as text.
pub(super) struct Unwrap<'a> {
    pub(super) inner: &'a mut Scanner,
    pub(super) held: &'a mut Held,
    pub(super) found: &'a mut Found,
}

/// Digits that are no whole group of four yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    digits: [u8; 4],
    count: u8,
}

impl Unwrap<'_> {
    fn hand_on(&mut self, place: Place, decoded: &[u8]) {
        match place {
            Place::Bytes => self.inner.feed(decoded, self.found),
            Place::TextBytes => self.found.piece(Place::Text, decoded),
            _ => {}
        }
    }

    /// What no digit is, is passed over: the padding, mostly.
    fn decode(&mut self, place: Place, encoded: &[u8]) {
        let mut out = [0_u8; PIECE];
        let mut room = out.chunks_exact_mut(3);
        let mut filled = 0;
        let mut rest = encoded;
        while let Some((byte, after)) = rest.split_first() {
            let group = if self.held.count == 0
                && let Some((group, after)) = rest.split_first_chunk::<4>()
                && let digits = group.map(digit)
                && digits.iter().all(|digit| *digit < NONE)
            {
                rest = after;
                digits
            } else {
                rest = after;
                let Some(group) = self.held.push(digit(*byte)) else { continue };
                group
            };
            if room.len() == 0 {
                self.hand_on(place, &out);
                room = out.chunks_exact_mut(3);
                filled = 0;
            }
            if let Some(slot) = room.next() {
                slot.copy_from_slice(&bytes_of(group));
                filled += 3;
            }
        }
        self.hand_on(place, out.get(..filled).unwrap_or_default());
    }
}

impl Held {
    /// A whole group, once there is one.
    fn push(&mut self, digit: u8) -> Option<[u8; 4]> {
        if digit >= NONE {
            return None;
        }
        *self.digits.get_mut(usize::from(self.count))? = digit;
        self.count = (self.count + 1) % 4;
        (self.count == 0).then_some(self.digits)
    }
}

/// The three bytes of four digits.
fn bytes_of([a, b, c, d]: [u8; 4]) -> [u8; 3] {
    let [_, bytes @ ..] = (u32::from(a) << 18 | u32::from(b) << 12 | u32::from(c) << 6 | u32::from(d)).to_be_bytes();
    bytes
}

impl Sink for Unwrap<'_> {
    fn open(&mut self, _place: Place) {}
    fn close(&mut self, _place: Place) {}
    fn number(&mut self, _place: Place, _value: u64) {}
    fn word(&mut self, _place: Place, _word: &[u8]) {}
    fn arguments(&mut self, _bytes: usize) {}

    fn piece(&mut self, place: Place, piece: &[u8]) {
        self.decode(place, piece);
    }

    fn string_end(&mut self, place: Place) {
        let Held { mut digits, count } = std::mem::take(self.held);
        // Two digits hold a byte, three two (RFC 4648, section 4).
        let bytes = usize::from(count).saturating_sub(1);
        digits.iter_mut().skip(usize::from(count)).for_each(|digit| *digit = 0);
        self.hand_on(place, bytes_of(digits).get(..bytes).unwrap_or_default());
    }

    fn end(&mut self) {
        self.found.wrapper_end();
    }
}
