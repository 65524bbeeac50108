//! One JSON object (RFC 8259) at the end of a byte buffer: no allocation once the buffer has grown, and nothing that a client sends can break out of a string.

use std::net::IpAddr;
use std::time::SystemTime;

use time::OffsetDateTime;

use crate::domain::Usd;

/// Ends a text that was cut.
const CUT: &[u8] = "…".as_bytes();

/// An object that is being written. Keys are literals that need no escaping.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    before_key: &'static [u8],
}

impl<'a> Object<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        Self { out, before_key: b"{\"" }
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    /// A string of `parts`, one after the other, of at most `most` bytes before escaping: what is longer is cut at a character and ends in `…`.
    /// Bytes that are no UTF-8 become U+FFFD.
    pub(super) fn text<const PARTS: usize>(&mut self, key: &'static str, parts: [&[u8]; PARTS], most: usize) {
        self.key(key);
        self.out.push(b'"');
        let whole = parts.iter().map(|part| part.len()).sum::<usize>() <= most;
        let mut room = if whole { most } else { most.saturating_sub(CUT.len()) };
        for part in parts {
            let kept = cut(part, room);
            escape(self.out, kept);
            if kept.len() < part.len() {
                break;
            }
            room -= kept.len();
        }
        if !whole {
            self.out.extend_from_slice(CUT);
        }
        self.out.push(b'"');
    }

    pub(super) fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        digits(self.out, value, 1);
    }

    /// Dollars as an exact decimal number, in a string: most readers take a JSON number for a float, which holds no exact cents.
    pub(super) fn dollars(&mut self, key: &'static str, value: Usd) {
        self.key(key);
        self.out.push(b'"');
        digits(self.out, value.picos() / Usd::PICOS, 1);
        let decimals = value.picos() % Usd::PICOS;
        if decimals > 0 {
            self.out.push(b'.');
            digits(self.out, decimals, 12);
            // It ends: one digit at least is none.
            while self.out.pop_if(|last| *last == b'0').is_some() {}
        }
        self.out.push(b'"');
    }

    /// 32 digits of lower-case hex.
    pub(super) fn hex(&mut self, key: &'static str, value: u128) {
        self.key(key);
        self.out.push(b'"');
        self.out.extend((0..32_u32).rev().map(|nibble| {
            let digit = u8::try_from((value >> (nibble * 4)) & 0xf).unwrap_or_default();
            if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
        }));
        self.out.push(b'"');
    }

    pub(super) fn boolean(&mut self, key: &'static str, value: bool) {
        self.key(key);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// An array of objects, each of which `write` fills from one of `items`.
    pub(super) fn objects<T>(&mut self, key: &'static str, items: impl Iterator<Item = T>, write: impl Fn(&mut Object<'_>, T)) {
        self.key(key);
        self.out.push(b'[');
        for (nth, item) in items.enumerate() {
            if nth > 0 {
                self.out.push(b',');
            }
            let mut object = Object::begin(self.out);
            write(&mut object, item);
            object.end();
        }
        self.out.push(b']');
    }

    /// An address as text; an IPv4 address that is mapped into IPv6 as what it is.
    pub(super) fn address(&mut self, key: &'static str, value: IpAddr) {
        self.key(key);
        self.out.push(b'"');
        match value.to_canonical() {
            // By hand: the formatting machinery costs ten times as much, and almost every client is one of these.
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                digits(self.out, a.into(), 1);
                for octet in [b, c, d] {
                    self.out.push(b'.');
                    digits(self.out, octet.into(), 1);
                }
            }
            IpAddr::V6(v6) => {
                use std::io::Write;
                // Writing to a Vec does not fail.
                write!(self.out, "{v6}").unwrap_or_default();
            }
        }
        self.out.push(b'"');
    }

    /// RFC 3339, UTC, milliseconds: `2026-11-22T13:00:44.123Z`. A time that no calendar holds is written as the epoch.
    pub(super) fn time(&mut self, key: &'static str, value: SystemTime) {
        let since = value.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let date = i64::try_from(since.as_secs()).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        let date = date.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        self.key(key);
        self.out.push(b'"');
        digits(self.out, u64::try_from(date.year()).unwrap_or_default(), 4);
        for (separator, value) in
            [(b'-', u8::from(date.month())), (b'-', date.day()), (b'T', date.hour()), (b':', date.minute()), (b':', date.second())]
        {
            self.out.push(separator);
            digits(self.out, value.into(), 2);
        }
        self.out.push(b'.');
        digits(self.out, since.subsec_millis().into(), 3);
        self.out.extend_from_slice(b"Z\"");
    }

    fn key(&mut self, key: &'static str) {
        self.out.extend_from_slice(self.before_key);
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.before_key = b",\"";
    }
}

/// The longest beginning of `text` that has at most `most` bytes and ends between two characters.
fn cut(text: &[u8], most: usize) -> &[u8] {
    let Some((mut kept, [next, ..])) = text.split_at_checked(most) else { return text };
    // A character has at most three continuation bytes; a longer run of them is no UTF-8 anyway.
    let mut next = next;
    for _ in 0..3 {
        if next & 0xc0 != 0x80 {
            break;
        }
        let Some((last, before)) = kept.split_last() else { break };
        (next, kept) = (last, before);
    }
    kept
}

/// Appends `text` as the inside of a JSON string.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    // Without an early exit this loop is vectorised. Almost every text passes.
    if text.iter().fold(true, |plain, &byte| plain & is_plain(byte)) {
        return out.extend_from_slice(text);
    }
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                // JSON allows U+007F to U+009F as they are; a terminal may obey them.
                _ if character.is_control() => escape_unit(out, character.into()),
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Stands for itself in a JSON string, and on any terminal.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// `\u` and four hex digits. Control characters end at U+009F.
fn escape_unit(out: &mut Vec<u8>, unit: u32) {
    out.extend_from_slice(b"\\u");
    for shift in [12_u32, 8, 4, 0] {
        let digit = char::from_digit((unit >> shift) & 0xf, 16).unwrap_or('0');
        out.extend_from_slice(digit.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// Appends `value` in decimal, with zeros before it up to `least` digits.
fn digits(out: &mut Vec<u8>, mut value: u64, least: usize) {
    let mut text = [b'0'; 20]; // as many as u64::MAX has
    let mut used = 0;
    for byte in text.iter_mut().rev() {
        if value == 0 && used >= least {
            break;
        }
        *byte = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
        used += 1;
    }
    out.extend_from_slice(text.get(text.len() - used..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Object<'_>)) -> serde_json::Value {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        write(&mut object);
        object.end();
        serde_json::from_slice::<serde_json::Value>(&out).unwrap()["key"].clone()
    }

    fn text(parts: [&[u8]; 2], most: usize) -> String {
        written(|object| object.text("key", parts, most)).as_str().unwrap().to_owned()
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        assert_eq!(text([b"four", b"more"], 8), "fourmore");
        assert_eq!(text([b"four", b"more!"], 8), "fourm…");
        assert_eq!(text([b"four", b"more"], 5), "fo…");
        assert_eq!(text(["ääää".as_bytes(), b""], 7), "ää…");
        assert_eq!(text(["ääää".as_bytes(), b""], 6), "ä…");
        assert_eq!(text([&[0x80; 9], b""], 6), "…", "three bytes, all of them continuations");
    }

    #[test]
    fn a_control_character_never_reaches_a_terminal() {
        let mut out = Vec::new();
        escape(&mut out, "\u{1b}[31m\u{7f}\u{9b}\n".as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), r"\u001b[31m\u007f\u009b\n");
    }

    #[test]
    fn a_mapped_address_is_written_as_what_it_is() {
        let address = |text: &str| written(|object| object.address("key", text.parse().unwrap()));
        assert_eq!(address("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(address("255.0.10.100"), "255.0.10.100");
        assert_eq!(address("2001:db8::1"), "2001:db8::1");
    }

    #[test]
    fn a_time_is_written_as_rfc_3339() {
        let time = |millis: u64| written(|object| object.time("key", SystemTime::UNIX_EPOCH + Duration::from_millis(millis)));
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(1_709_210_096_009), "2024-02-29T12:34:56.009Z");
        assert_eq!(time(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
        assert_eq!(time(253_402_300_800_000), "1970-01-01T00:00:00.000Z", "no calendar that we write holds the year 10000");
    }

    #[test]
    fn dollars_end_with_their_last_digit() {
        for (picos, text) in [(0, "0"), (10 * Usd::PICOS, "10"), (12_500_000_000, "0.0125"), (u64::MAX, "18446744.073709551615")] {
            assert_eq!(written(|object| object.dollars("key", Usd::from_picos(picos))), text);
        }
    }

    proptest! {
        #[test]
        fn any_sum_is_written_as_it_displays(picos: u64) {
            let sum = Usd::from_picos(picos);
            prop_assert_eq!(written(|object| object.dollars("key", sum)), sum.to_string());
        }

        #[test]
        fn any_trace_has_all_of_its_digits(trace: u128) {
            prop_assert_eq!(written(|object| object.hex("key", trace)), format!("{trace:032x}"));
        }

        #[test]
        fn any_bytes_come_back_as_the_text_that_they_are(bytes: Vec<u8>) {
            prop_assert_eq!(text([&bytes, b""], usize::MAX), String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn a_cut_text_is_never_longer_than_told(head: String, tail: String, most in 3_usize..40) {
            let whole = head.clone() + &tail;
            let kept = text([head.as_bytes(), tail.as_bytes()], most);
            prop_assert!(kept.len() <= most);
            match kept.strip_suffix('…') {
                Some(start) if whole.len() > most => prop_assert!(whole.starts_with(start)),
                _ => prop_assert_eq!(kept, whole),
            }
        }

        #[test]
        fn any_number_comes_back(value: u64) {
            prop_assert_eq!(written(|object| object.number("key", value)), value);
        }
    }
}
