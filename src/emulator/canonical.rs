//! The canonical forms of Signature Version 4, from the bytes on the wire.
//!
//! Bedrock is not S3, so the path is normalised and encoded a second time
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>). `tests/vectors/sigv4.json` holds the truth.

use std::fmt::Write as _;

/// The canonical path: dot segments and empty segments gone, a final `/` kept, and every byte but `A-Za-z0-9-_.~/` percent-encoded.
pub(super) fn path(raw: &str) -> String {
    let mut segments = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let mut out = String::with_capacity(raw.len() + 16);
    for segment in &segments {
        out.push('/');
        encode(segment.as_bytes(), &mut out);
    }
    if segments.is_empty() || raw.ends_with('/') {
        out.push('/');
    }
    out
}

/// The canonical query: each name and value decoded once and encoded strictly, then sorted by name and value. `without` leaves one name out.
pub(super) fn query(raw: &str, without: Option<&str>) -> String {
    let mut pairs: Vec<(String, String)> = pairs(raw).into_iter().filter(|(name, _)| Some(name.as_str()) != without).collect();
    for (name, value) in &mut pairs {
        *name = encoded(name.as_bytes());
        *value = encoded(value.as_bytes());
    }
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// The names and values of a query, percent-decoded. `+` is a plus: only forms read it as a space.
pub(super) fn pairs(raw: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = raw.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (decode(name), decode(value))).collect()
}

/// Whether the query on the wire is already strictly encoded, so that every reader of it agrees on what was signed.
pub(super) fn query_is_strict(raw: &str) -> bool {
    raw.is_empty()
        || raw.split('&').all(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            !name.is_empty() && pairs(pair).first().is_some_and(|(n, v)| encoded(n.as_bytes()) == name && encoded(v.as_bytes()) == value)
        })
}

/// One header's value: trimmed, inner runs of white space made one space, several values joined by commas. `None` where there is none.
pub(super) fn header(headers: &[(&str, &[u8])], name: &str) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    for (_, value) in headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)) {
        let joined = out.get_or_insert_default();
        if !joined.is_empty() {
            joined.push(b',');
        }
        let words = value.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        for (at, word) in words.enumerate() {
            if at > 0 {
                joined.push(b' ');
            }
            joined.extend_from_slice(word);
        }
    }
    out
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        write!(out, "{byte:02x}").unwrap_or_default();
    }
    out
}

fn encoded(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    encode(bytes, &mut out);
    out
}

fn encode(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").unwrap_or_default(),
        }
    }
}
