//! Is this request signed, with Signature Version 4, by a known key, for this place and time?
//!
//! Recomputed from the bytes as received, by code that shares nothing with the gateway's signer (not the `aws-sigv4` crate, not a line of
//! Tollgate's), so that a mistake in one is seen by the other. It agrees with `tests/vectors/sigv4.json`, which botocore made.

use aws_lc_rs::{constant_time, digest, hmac};
use thiserror::Error;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime};

use super::canonical;
use super::claim::{ALGORITHM, Claim};
use super::options::Credential;
use super::scope::{Named, SIGNING_NAMES};

/// How far a signature's date may be from now, either way.
const TOLERANCE: Duration = Duration::minutes(5);

/// A request as it came off the wire.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The method, in upper case.
    pub method: &'a str,
    /// The path as received: encoded, not normalised.
    pub path: &'a str,
    /// The query as received, without the `?`.
    pub query: &'a str,
    /// The headers as received, in any order and case. On HTTP/2 `host` is what `:authority` said.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The SHA-256 of the body, in lower-case hex.
    pub body_sha256: &'a str,
}

/// What a signature is held against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The keys that are known.
    pub credentials: &'a [Credential],
    /// The region that the scope must name; any where `None` and the host names none.
    pub region: Option<&'a str>,
    /// The time now.
    pub now: OffsetDateTime,
    /// Whether a body may be left out of the signature.
    pub unhashed: Unhashed,
}

/// What to make of `x-amz-content-sha256` that names no hash (`UNSIGNED-PAYLOAD`, `STREAMING-…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unhashed {
    /// Refuse it: no Bedrock operation is known to take it.
    Refuse,
    /// Take its word into the canonical request.
    Accept,
}

/// Why a signature is refused. The texts are AWS's.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SignatureError {
    /// There is no signature.
    #[error("Missing Authentication Token")]
    Missing,
    /// The credential cannot be read, or leaves out a part.
    #[error("Authorization header is incomplete or malformed: {0}")]
    Incomplete(&'static str),
    /// The key id or the session token is not a known one.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// The credential scope names another date, region or service.
    #[error("Credential should be scoped to a valid {part}, not '{found}'.")]
    Scope {
        /// The part of the scope that is wrong.
        part: &'static str,
        /// What it said.
        found: String,
    },
    /// The signature's date is too far from now.
    #[error("Signature expired or not yet current: {date} is not within {} minutes of {now}", TOLERANCE.whole_minutes())]
    Time {
        /// The signature's date.
        date: String,
        /// The time at which it was read.
        now: OffsetDateTime,
    },
    /// A header that must be signed is not.
    #[error("'{0}' must be a 'SignedHeader' in the AWS Authorization.")]
    NotSigned(String),
    /// `x-amz-content-sha256` is not the body's.
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    Payload,
    /// The signature is another one than ours.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. \
         Consult the service documentation for details.\n\nThe Canonical String for this request should have been\n'{canonical_request}'\n\n\
         The String-to-Sign should have been\n'{string_to_sign}'\n"
    )]
    Mismatch {
        /// The canonical request that we made.
        canonical_request: String,
        /// The string to sign that we made.
        string_to_sign: String,
    },
}

impl SignatureError {
    /// The `x-amzn-ErrorType` that AWS answers it with; the status is 403 for every one.
    #[must_use]
    pub const fn error_type(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationTokenException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::UnknownKey => "UnrecognizedClientException",
            Self::Scope { .. } | Self::Time { .. } | Self::NotSigned(_) | Self::Payload | Self::Mismatch { .. } => {
                "InvalidSignatureException"
            }
        }
    }
}

/// Recomputes the signature of a request, in headers or in the query (presigned), and compares.
///
/// # Errors
/// A [`SignatureError`] for the first thing that is wrong.
pub fn verify(received: &Received<'_>, expected: &Expected<'_>) -> Result<(), SignatureError> {
    let claim = Claim::of(received)?;
    let credential = expected.credentials.iter().find(|known| known.access_key_id == claim.key_id).ok_or(SignatureError::UnknownKey)?;
    check_token(&claim, credential)?;
    check_scope(&claim, received, expected.region)?;
    check_time(&claim, expected.now)?;
    check_signed_headers(&claim, received)?;

    let canonical_request = canonical_request(&claim, received, expected.unhashed)?;
    let scope = format!("{}/{}/{}/aws4_request", claim.date, claim.region, claim.service);
    let hash = canonical::hex(digest::digest(&digest::SHA256, &canonical_request).as_ref());
    let string_to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{hash}", claim.timestamp);
    let signature = signature(credential, &claim, &string_to_sign);
    constant_time::verify_slices_are_equal(signature.as_bytes(), claim.signature.as_bytes()).map_err(|_| SignatureError::Mismatch {
        canonical_request: String::from_utf8_lossy(&canonical_request).into_owned(),
        string_to_sign,
    })
}

fn check_token(claim: &Claim, credential: &Credential) -> Result<(), SignatureError> {
    let known = credential.session_token.as_ref().map(|token| token.expose().as_bytes());
    match (&claim.token, known) {
        (None, None) => Ok(()),
        (Some(given), Some(known)) if constant_time::verify_slices_are_equal(given, known).is_ok() => Ok(()),
        _ => Err(SignatureError::UnknownKey),
    }
}

fn check_scope(claim: &Claim, received: &Received<'_>, region: Option<&str>) -> Result<(), SignatureError> {
    let wrong = |part, found: &str| Err(SignatureError::Scope { part, found: found.to_owned() });
    if !claim.timestamp.starts_with(&claim.date) || claim.date.len() != 8 {
        return wrong("date", &claim.date);
    }
    let host = canonical::header(received.headers, "host").unwrap_or_default();
    let named = Named::by(&String::from_utf8_lossy(&host), received.path);
    if [region, named.region.as_deref()].into_iter().flatten().any(|region| region != claim.region) || claim.region.is_empty() {
        return wrong("region", &claim.region);
    }
    let known = SIGNING_NAMES.iter().any(|(_, name)| *name == claim.service);
    if !known || named.service.is_some_and(|service| service != claim.service) {
        return wrong("service", &claim.service);
    }
    Ok(())
}

fn check_time(claim: &Claim, now: OffsetDateTime) -> Result<(), SignatureError> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let date =
        PrimitiveDateTime::parse(&claim.timestamp, format).map_err(|_| SignatureError::Incomplete("the date is not YYYYMMDDTHHMMSSZ"))?;
    let age = now - date.assume_utc();
    if age < -TOLERANCE || age > claim.expires.unwrap_or(TOLERANCE) {
        return Err(SignatureError::Time { date: claim.timestamp.clone(), now });
    }
    Ok(())
}

/// The host, and every `x-amz-*` header that is there, must be covered.
fn check_signed_headers(claim: &Claim, received: &Received<'_>) -> Result<(), SignatureError> {
    let covers = |name: &str| claim.signed.iter().any(|signed| signed == name);
    // The JavaScript SDK signs `:authority` in place of `host` over HTTP/2.
    if !covers("host") && !covers(":authority") {
        return Err(SignatureError::NotSigned("Host".to_owned()));
    }
    if received.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).count() != 1 {
        return Err(SignatureError::Incomplete("there must be one Host"));
    }
    for (name, _) in received.headers {
        let name = name.to_ascii_lowercase();
        if name.starts_with("x-amz-") && !covers(&name) {
            return Err(SignatureError::NotSigned(name));
        }
    }
    Ok(())
}

fn canonical_request(claim: &Claim, received: &Received<'_>, unhashed: Unhashed) -> Result<Vec<u8>, SignatureError> {
    let path = canonical::path(received.path);
    let query = canonical::query(received.query, claim.expires.map(|_| "X-Amz-Signature"));
    let mut out = format!("{}\n{path}\n{query}\n", received.method).into_bytes();
    for name in &claim.signed {
        let looked_up = if name == ":authority" { "host" } else { name.as_str() };
        let value = canonical::header(received.headers, looked_up).ok_or(SignatureError::Incomplete("a signed header is not there"))?;
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(&value);
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(claim.signed.join(";").as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&payload_hash(received, unhashed)?);
    Ok(out)
}

fn payload_hash(received: &Received<'_>, unhashed: Unhashed) -> Result<Vec<u8>, SignatureError> {
    let actual = received.body_sha256.as_bytes();
    match canonical::header(received.headers, "x-amz-content-sha256") {
        None => Ok(actual.to_vec()),
        Some(given) if given == actual => Ok(given),
        Some(given)
            if unhashed == Unhashed::Accept && matches!(given.as_slice(), b"UNSIGNED-PAYLOAD" | b"STREAMING-AWS4-HMAC-SHA256-EVENTS") =>
        {
            Ok(given)
        }
        Some(_) => Err(SignatureError::Payload),
    }
}

fn signature(credential: &Credential, claim: &Claim, string_to_sign: &str) -> String {
    let mac = |key: &[u8], data: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data.as_bytes());
    let secret = format!("AWS4{}", credential.secret_access_key.expose());
    let mut key = mac(secret.as_bytes(), &claim.date);
    for part in [claim.region.as_str(), claim.service.as_str(), "aws4_request"] {
        key = mac(key.as_ref(), part);
    }
    canonical::hex(mac(key.as_ref(), string_to_sign).as_ref())
}
