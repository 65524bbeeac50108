//! Is this request signed, with Signature Version 4, by a known key, for this place and time?
//!
//! Recomputed from the bytes as received, by code that shares nothing with the gateway's signer (not the `aws-sigv4` crate, not a line of
//! Tollgate's), so that a mistake in one is seen by the other. It agrees with `tests/vectors/sigv4.json`, which botocore made.

use aws_lc_rs::{constant_time, digest, hmac};
use thiserror::Error;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime};

use super::canonical;
use super::options::Credential;

/// How far a signature's date may be from now, either way.
const TOLERANCE: Duration = Duration::minutes(5);
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

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

/// What the request says of its signature.
struct Claim {
    key_id: String,
    date: String,
    region: String,
    service: String,
    signed: Vec<String>,
    signature: String,
    timestamp: String,
    token: Option<Vec<u8>>,
    /// How long a presigned request holds.
    expires: Option<Duration>,
}

impl Claim {
    fn of(received: &Received<'_>) -> Result<Self, SignatureError> {
        let mut authorizations = received.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        let presigned = canonical::pairs(received.query);
        let in_query = |name: &str| presigned.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        match (authorizations.next(), authorizations.next(), in_query("X-Amz-Signature")) {
            (None, _, None) => Err(SignatureError::Missing),
            (None, _, Some(signature)) => {
                let part = |name, what| in_query(name).ok_or(SignatureError::Incomplete(what));
                let expires =
                    part("X-Amz-Expires", "no X-Amz-Expires")?.parse().map_err(|_| SignatureError::Incomplete("X-Amz-Expires"))?;
                Self::scoped(
                    &part("X-Amz-Credential", "no X-Amz-Credential")?,
                    &part("X-Amz-SignedHeaders", "no X-Amz-SignedHeaders")?,
                    &signature,
                    part("X-Amz-Date", "no X-Amz-Date")?,
                    in_query("X-Amz-Security-Token").map(String::into_bytes),
                    Some(Duration::seconds(expires)),
                )
            }
            (Some((_, value)), None, None) => Self::in_header(value, received),
            _ => Err(SignatureError::Incomplete("more than one signature")),
        }
    }

    fn in_header(value: &[u8], received: &Received<'_>) -> Result<Self, SignatureError> {
        let text = std::str::from_utf8(value).map_err(|_| SignatureError::Incomplete("not text"))?;
        let fields = text.strip_prefix(ALGORITHM).ok_or(SignatureError::Missing)?;
        let field = |name: &str| fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
        let date = canonical::header(received.headers, "x-amz-date").ok_or(SignatureError::Incomplete("no x-amz-date"))?;
        Self::scoped(
            field("Credential").ok_or(SignatureError::Incomplete("no Credential"))?,
            field("SignedHeaders").ok_or(SignatureError::Incomplete("no SignedHeaders"))?,
            field("Signature").ok_or(SignatureError::Incomplete("no Signature"))?,
            String::from_utf8(date).map_err(|_| SignatureError::Incomplete("x-amz-date is not text"))?,
            canonical::header(received.headers, "x-amz-security-token"),
            None,
        )
    }

    fn scoped(
        credential: &str,
        signed: &str,
        signature: &str,
        timestamp: String,
        token: Option<Vec<u8>>,
        expires: Option<Duration>,
    ) -> Result<Self, SignatureError> {
        let parts: Vec<&str> = credential.split('/').collect();
        let &[key_id, date, region, service, "aws4_request"] = parts.as_slice() else {
            return Err(SignatureError::Incomplete("the credential is not key/date/region/service/aws4_request"));
        };
        let signed: Vec<String> = signed.split(';').map(str::to_owned).collect();
        if !signed.is_sorted() || signed.iter().any(|name| name.chars().any(char::is_uppercase)) {
            return Err(SignatureError::Incomplete("SignedHeaders are not sorted lower-case names"));
        }
        let [key_id, date, region, service, signature] = [key_id, date, region, service, signature].map(str::to_owned);
        Ok(Self { key_id, date, region, service, signed, signature, timestamp, token, expires })
    }
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
    if region.or(named.region.as_deref()).is_some_and(|region| region != claim.region) || claim.region.is_empty() {
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

/// The first label of a service's host, and the name that it is signed under (botocore 1.44.5).
const SIGNING_NAMES: &[(&str, &str)] = &[
    ("bedrock", "bedrock"),
    ("bedrock-runtime", "bedrock"),
    ("bedrock-agent", "bedrock"),
    ("bedrock-agent-runtime", "bedrock"),
    ("bedrock-data-automation", "bedrock"),
    ("bedrock-data-automation-runtime", "bedrock"),
    ("bedrock-agentcore", "bedrock-agentcore"),
    ("bedrock-agentcore-control", "bedrock-agentcore"),
    ("bedrock-mantle", "bedrock-mantle"),
    ("agent-registry", "agent-registry"),
    ("agent-registry-control", "agent-registry"),
    ("nova-act", "nova-act"),
];

/// What the host, or else the path, tells of the service.
struct Named {
    service: Option<&'static str>,
    region: Option<String>,
}

impl Named {
    fn by(host: &str, path: &str) -> Self {
        let mut labels = host.split('.');
        let first = labels.next().unwrap_or_default();
        let prefix = first.strip_suffix("-fips").unwrap_or(first);
        if let Some((_, service)) = SIGNING_NAMES.iter().find(|(known, _)| *known == prefix) {
            // A region looks like `us-east-1`; `bedrock.amazonaws.com` has none.
            let region = labels.next().filter(|label| label.contains('-') && label.ends_with(|end: char| end.is_ascii_digit()));
            return Self { service: Some(*service), region: region.map(str::to_owned) };
        }
        let bedrock = ["model", "guardrail", "async-invoke", "foundation-models", "inference-profiles"];
        let service = path.split('/').nth(1).filter(|segment| bedrock.contains(segment)).map(|_| "bedrock");
        Self { service, region: None }
    }
}
