//! AWS Signature Version 4 (docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html), header form.
//!
//! The canonical request is built here, in one pass over borrowed parts; the signing key is derived by `aws-sigv4` once a day and scope. The
//! crate's own request signer derives the key every time and allocates freely: it costs three times as much, and stands in the tests as the judge
//! of this one, beside botocore's vectors (docs/decisions/0002-signing.md).

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use aws_lc_rs::{digest, hmac};
use memchr::memmem;
use time::OffsetDateTime;

use super::Keys;
use crate::domain::push_hex;

/// A request as AWS is to see it, borrowed for signing.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, in upper case.
    pub method: &'a str,
    /// The raw path as it goes over the wire.
    pub path: &'a str,
    /// The query as it goes over the wire, strictly encoded, without `?`.
    pub query: &'a str,
    /// The headers to sign besides those that signing adds: lower-case names, sorted; several of one name stand together.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The SHA-256 of the body, in lower-case hex, or what stands for it.
    pub payload: &'a str,
}

/// What signing adds to a request. `x-amz-security-token` goes with it where the keys have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// `x-amz-date`.
    pub date: String,
    /// `authorization`.
    pub authorization: String,
}

/// Signs for one region and service, and keeps the day's key.
#[derive(Debug)]
pub struct Signer {
    region: Box<str>,
    service: &'static str,
    key: ArcSwapOption<DayKey>,
}

/// SigV4's days are UTC's, without leap seconds, as the system clock's are.
const SECONDS_A_DAY: u64 = 86_400;

struct DayKey {
    keys: Arc<Keys>,
    /// Days since the epoch.
    day: u64,
    hmac: hmac::Key,
}

impl std::fmt::Debug for DayKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DayKey").field("day", &self.day).finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer for `service`, the signing name, in `region`.
    #[must_use]
    pub fn new(region: &str, service: &'static str) -> Self {
        Self { region: region.into(), service, key: ArcSwapOption::empty() }
    }

    /// Signs `request` with `keys` as of `now`.
    #[must_use]
    pub fn sign(&self, keys: &Arc<Keys>, request: &Request<'_>, now: SystemTime) -> Signed {
        let date = timestamp(now);
        let day = date.get(..8).unwrap_or_default();
        let token = keys.session_token.as_ref().map(|token| token.expose().as_str());
        let Signing { canonical, names } = Signing::of(request, &date, token);

        let mut to_sign = String::with_capacity(192);
        to_sign.push_str("AWS4-HMAC-SHA256\n");
        to_sign.push_str(&date);
        to_sign.push('\n');
        self.push_scope(&mut to_sign, day);
        to_sign.push('\n');
        push_hex(&mut to_sign, digest::digest(&digest::SHA256, &canonical).as_ref());

        let mut authorization = String::with_capacity(256);
        authorization.push_str("AWS4-HMAC-SHA256 Credential=");
        authorization.push_str(&keys.access_key_id);
        authorization.push('/');
        self.push_scope(&mut authorization, day);
        authorization.push_str(", SignedHeaders=");
        authorization.push_str(&names);
        authorization.push_str(", Signature=");
        push_hex(&mut authorization, self.seal(keys, to_sign.as_bytes(), now).as_ref());
        Signed { date, authorization }
    }

    /// The last step: the string to sign under the day's key.
    pub(super) fn seal(&self, keys: &Arc<Keys>, to_sign: &[u8], now: SystemTime) -> hmac::Tag {
        hmac::sign(&self.day_key(keys, now).hmac, to_sign)
    }

    fn push_scope(&self, out: &mut String, day: &str) {
        for part in [day, "/", &self.region, "/", self.service, "/aws4_request"] {
            out.push_str(part);
        }
    }

    /// The key for these credentials on this day: kept until either changes. Two callers may derive it at once; they derive the same.
    fn day_key(&self, keys: &Arc<Keys>, now: SystemTime) -> Arc<DayKey> {
        let day = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / SECONDS_A_DAY;
        if let Some(kept) = self.key.load().as_ref().filter(|kept| Arc::ptr_eq(&kept.keys, keys) && kept.day == day) {
            return Arc::clone(kept);
        }
        let derived = aws_sigv4::sign::v4::generate_signing_key(keys.secret_access_key.expose(), now, &self.region, self.service);
        let fresh = Arc::new(DayKey { keys: Arc::clone(keys), day, hmac: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) });
        self.key.store(Some(Arc::clone(&fresh)));
        fresh
    }
}

/// `20260115T123456Z`.
fn timestamp(now: SystemTime) -> String {
    let now = OffsetDateTime::from(now);
    let mut out = String::with_capacity(16);
    let mut digits = |value: u32, width: u32| {
        for place in (0..width).rev() {
            out.push(char::from_digit(value / 10_u32.pow(place) % 10, 10).unwrap_or('0'));
        }
    };
    digits(now.year().unsigned_abs(), 4);
    digits(u32::from(u8::from(now.month())), 2);
    digits(u32::from(now.day()), 2);
    out.push('T');
    let mut digits = |value: u8| {
        out.push(char::from(b'0' + value / 10));
        out.push(char::from(b'0' + value % 10));
    };
    digits(now.hour());
    digits(now.minute());
    digits(now.second());
    out.push('Z');
    out
}

/// What is signed, and what it covers.
pub(super) struct Signing {
    /// The canonical request.
    pub(super) canonical: Vec<u8>,
    /// The names of the headers in it, as `SignedHeaders` lists them.
    names: String,
}

impl Signing {
    pub(super) fn of(request: &Request<'_>, date: &str, session_token: Option<&str>) -> Self {
        // A path may grow by half where it is all percent signs; more than this is rare.
        let mut out = Vec::with_capacity(512 + request.path.len() + request.query.len());
        let mut names = String::with_capacity(128);
        out.extend_from_slice(request.method.as_bytes());
        out.push(b'\n');
        push_path(&mut out, request.path);
        out.push(b'\n');
        push_query(&mut out, request.query);
        out.push(b'\n');
        let added = [("x-amz-date", Some(date)), ("x-amz-security-token", session_token)];
        let mut added = added.iter().filter_map(|(name, value)| value.map(|value| (*name, value.as_bytes()))).peekable();
        let mut last = "";
        for header in request.headers {
            while let Some(own) = added.next_if(|own| own.0 < header.0) {
                push_header(&mut out, &mut names, own, &mut last);
            }
            push_header(&mut out, &mut names, *header, &mut last);
        }
        for own in added {
            push_header(&mut out, &mut names, own, &mut last);
        }
        out.extend_from_slice(b"\n\n");
        out.extend_from_slice(names.as_bytes());
        out.push(b'\n');
        out.extend_from_slice(request.payload.as_bytes());
        Self { canonical: out, names }
    }
}

/// One canonical header: spaces at the ends cut, runs of spaces folded; a name that comes again joins the line before it.
fn push_header<'a>(out: &mut Vec<u8>, names: &mut String, (name, value): (&'a str, &[u8]), last: &mut &'a str) {
    if *last == name {
        out.push(b',');
    } else {
        if !last.is_empty() {
            out.push(b'\n');
            names.push(';');
        }
        names.push_str(name);
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        *last = name;
    }
    let value = value.trim_ascii();
    if memmem::find(value, b"  ").is_none() {
        out.extend_from_slice(value);
        return;
    }
    let mut space = false;
    for &byte in value {
        if !(byte == b' ' && space) {
            out.push(byte);
        }
        space = byte == b' ';
    }
}

/// The path, normalised (RFC 3986, 6.2.2.3) and encoded once more: every service but S3 wants what is on the wire encoded again.
fn push_path(out: &mut Vec<u8>, path: &str) {
    if path.is_empty() {
        out.push(b'/');
        return;
    }
    if !path.contains("//") && !path.contains("/.") {
        push_encoded(out, path);
        return;
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    for segment in &kept {
        out.push(b'/');
        push_encoded(out, segment);
    }
    if kept.is_empty() || path.ends_with('/') {
        out.push(b'/');
    }
}

fn push_encoded(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/') {
            out.push(byte);
        } else {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

/// The pairs, sorted by name and then by value; a name without `=` gets one.
fn push_query(out: &mut Vec<u8>, query: &str) {
    if query.is_empty() {
        return;
    }
    let mut pairs: Vec<(&str, &str)> = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    pairs.sort_unstable();
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_bytes());
    }
}
