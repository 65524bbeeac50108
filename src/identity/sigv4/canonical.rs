//! The canonical request (docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html), from the bytes as they came.
//!
//! Written apart from `upstreams/signature.rs`, which signs what the gateway itself sends: this one meets what any client makes. Clients differ in one
//! thing: botocore signs the query as it stands, the SDKs for Rust and JavaScript decode it and encode it anew. Where that makes a difference, both
//! are computed, and either will do: they say the same.

use percent_encoding::percent_decode_str;

use super::super::Presented;
use super::fault::Fault;
use super::sent::{SIGNATURE, pairs};

/// A canonical request but for the body's hash, which comes last.
#[derive(Debug)]
pub(super) struct Canonical {
    /// Method and path.
    pub(super) before: Vec<u8>,
    /// The query, as it stands.
    pub(super) query: String,
    /// The query, decoded and encoded anew, where that is another.
    pub(super) strict: Option<String>,
    /// Headers and their names.
    pub(super) after: Vec<u8>,
}

impl Canonical {
    /// The canonical form of `request`, signed in the headers `names` (with semicolons). The host is `host`, whatever header it came in.
    pub(super) fn of(request: &Presented<'_>, host: &str, names: &str) -> Result<Self, Fault> {
        let mut before = Vec::with_capacity(64 + request.path.len() * 3 / 2);
        before.extend_from_slice(request.method.as_bytes());
        before.push(b'\n');
        push_path(&mut before, request.path);
        before.push(b'\n');

        let query = sorted(pairs(request.query).filter(|(name, _)| *name != SIGNATURE).collect());
        let strict = if query.is_empty() { None } else { Some(strict(request.query)).filter(|strict| *strict != query) };

        let mut after = Vec::with_capacity(512);
        after.push(b'\n');
        for name in names.split(';') {
            after.extend_from_slice(name.as_bytes());
            after.push(b':');
            if matches!(name, "host" | ":authority") {
                after.extend_from_slice(host.as_bytes());
            } else {
                push_values(&mut after, request, name)?;
            }
            after.push(b'\n');
        }
        after.push(b'\n');
        after.extend_from_slice(names.as_bytes());
        after.push(b'\n');
        Ok(Self { before, query, strict, after })
    }
}

/// The values of a header: cut at both ends, runs of white space within made one space, several joined by commas.
fn push_values(out: &mut Vec<u8>, request: &Presented<'_>, name: &str) -> Result<(), Fault> {
    let mut values = request.headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        return Err(Fault::NotThere(super::super::fault::excerpt(name)));
    }
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let words = value.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        for (at, word) in words.enumerate() {
            if at > 0 {
                out.push(b' ');
            }
            out.extend_from_slice(word);
        }
    }
    Ok(())
}

/// The path, without dot segments and empty ones, encoded once more: every service but S3 signs what is on the wire encoded again.
fn push_path(out: &mut Vec<u8>, path: &str) {
    let start = out.len();
    let mut ends = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => out.truncate(ends.pop().unwrap_or(start)),
            segment => {
                ends.push(out.len());
                out.push(b'/');
                push_encoded(out, segment.as_bytes());
            }
        }
    }
    if ends.is_empty() || path.ends_with('/') {
        out.push(b'/');
    }
}

/// Every byte but `A-Za-z0-9-_.~` as `%XX`.
fn push_encoded(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(byte);
        } else {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

/// The pairs by name and then value; a name without `=` gets one.
fn sorted(mut pairs: Vec<(&str, &str)>) -> String {
    if let [("", "")] | [] = *pairs {
        return String::new();
    }
    pairs.sort_unstable();
    let mut out = String::with_capacity(pairs.iter().map(|(name, value)| name.len() + value.len() + 2).sum());
    for (at, (name, value)) in pairs.into_iter().enumerate() {
        if at > 0 {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        out.push_str(value);
    }
    out
}

/// The same with every name and value decoded and encoded anew, empty pairs dropped.
fn strict(query: &str) -> String {
    let encoded = |text: &str| {
        let mut out = Vec::with_capacity(text.len());
        push_encoded(&mut out, &percent_decode_str(text).collect::<Vec<u8>>());
        // `push_encoded` writes ASCII only.
        String::from_utf8(out).unwrap_or_default()
    };
    let pairs = pairs(query).filter(|pair| *pair != ("", "") && pair.0 != SIGNATURE);
    let owned: Vec<(String, String)> = pairs.map(|(name, value)| (encoded(name), encoded(value))).collect();
    sorted(owned.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect())
}
