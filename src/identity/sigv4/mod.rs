//! The method `aws_credentials`: the caller's own signature (AWS Signature Version 4), verified with a secret that the gateway issued.
//!
//! In two steps, since the signature covers a body that is not here yet and a stranger's body is never read: [`Claim::judge`] looks at the head (the
//! key is one of ours, the scope is for Bedrock, the time is now, nothing that must be signed is left out), [`Claim::settle`] computes the signature
//! once the body is hashed. What was signed is taken from the head before the body is read: nothing that happens to the head meanwhile counts.

mod canonical;
mod fault;
mod sent;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{constant_time, digest, hmac};
use http::header::HOST;

use self::canonical::Canonical;
use self::fault::{Fault, When};
use super::Presented;
use super::issued::{Credential, Index, Lapsed, SigningKey};
use crate::domain::{Principal, Rejection, SERVICES, hex};

pub(super) use self::sent::Sent;

/// How far the time of a signature may be from ours, in seconds; AWS's own bound.
const TOLERANCE: i64 = 5 * 60;

/// The longest that a presigned URL holds, in seconds: 12 hours. AWS allows 7 days to those who hold long-term keys.
const LONGEST: u32 = 12 * 60 * 60;

/// More headers than this are signed by nobody.
const MAX_NAMES: usize = 256;

/// A signature of which the head shows nothing wrong.
pub struct Claim {
    credential: Arc<Credential>,
    /// Where the credential was found, and where its signing keys are kept.
    index: Arc<Index>,
    scope: Box<str>,
    timestamp: Box<str>,
    signature: [u8; 32],
    /// What `x-amz-content-sha256` says.
    payload: Option<Box<str>>,
    /// The canonical request but for the body's hash, hashed: with the query as it stands, and with it encoded anew where that is another.
    canonical: digest::Context,
    strict: Option<digest::Context>,
}

impl Claim {
    /// Judges what the head shows of a signature, at the time `now`.
    pub(super) fn judge(sent: &Sent<'_>, request: &Presented<'_>, index: Arc<Index>, now: SystemTime) -> Result<Self, Rejection> {
        Ok(Self::of(sent, request, index, now)?)
    }

    fn of(sent: &Sent<'_>, request: &Presented<'_>, index: Arc<Index>, now: SystemTime) -> Result<Self, Fault> {
        let credential = Arc::clone(index.credential(&sent.key_id).ok_or(Fault::UnknownKey("no such access key id was issued"))?);
        if request.headers.contains_key("x-amz-security-token")
            || sent::pairs(request.query).any(|(name, _)| name == "X-Amz-Security-Token")
        {
            return Err(Fault::SessionToken);
        }
        credential.owner.at(now).map_err(|lapsed| {
            Fault::UnknownKey(match lapsed {
                Lapsed::Disabled => "the credential is disabled",
                Lapsed::Expired => "the credential has expired",
            })
        })?;
        in_scope(sent)?;
        in_time(sent, now)?;
        let host = covers(sent, request)?;
        let payload = payload(request)?;

        let parts = Canonical::of(request, host, &sent.names)?;
        let mut canonical = digest::Context::new(&digest::SHA256);
        canonical.update(&parts.before);
        let strict = parts.strict.map(|query| {
            let mut strict = canonical.clone();
            strict.update(query.as_bytes());
            strict.update(&parts.after);
            strict
        });
        canonical.update(parts.query.as_bytes());
        canonical.update(&parts.after);
        let (scope, timestamp) = (sent.scope.as_ref().into(), sent.timestamp.as_ref().into());
        Ok(Self { credential, index, scope, timestamp, signature: sent.signature, payload, canonical, strict })
    }

    /// Who sent the request, now that the body is hashed: `sha256` is its SHA-256 in lower-case hex.
    ///
    /// # Errors
    /// [`Reason::InvalidSignature`](crate::domain::Reason::InvalidSignature) where the signature is another, or the body is not the one that was signed.
    pub fn settle(&self, sha256: &str) -> Result<Arc<Principal>, Rejection> {
        if self.payload.as_deref().is_some_and(|signed| signed != sha256) {
            return Err(Fault::Payload.into());
        }
        let Credential { access_key_id, owner, .. } = &*self.credential;
        let known = self.index.derived.find(access_key_id, &self.scope);
        let key = known.clone().unwrap_or_else(|| Arc::new(SigningKey::new(access_key_id, &self.scope, self.derive())));
        let right =
            [Some(&self.canonical), self.strict.as_ref()].into_iter().flatten().any(|canonical| self.is_of(canonical, sha256, &key));
        if !right {
            return Err(Fault::Mismatch.into());
        }
        if known.is_none() {
            self.index.derived.remember(&key);
        }
        Ok(Arc::clone(&owner.principal))
    }

    /// Whether the signature is that of this canonical request with this body.
    fn is_of(&self, canonical: &digest::Context, sha256: &str, key: &SigningKey) -> bool {
        let mut canonical = canonical.clone();
        canonical.update(sha256.as_bytes());
        let mut to_sign = hmac::Context::with_key(&key.hmac);
        for part in ["AWS4-HMAC-SHA256\n", &self.timestamp, "\n", &self.scope, "\n", &hex(canonical.finish().as_ref())] {
            to_sign.update(part.as_bytes());
        }
        constant_time::verify_slices_are_equal(to_sign.sign().as_ref(), &self.signature).is_ok()
    }

    /// The signing key: the secret, the date, the region, the service and `aws4_request`, one HMAC after another.
    fn derive(&self) -> hmac::Key {
        let secret = format!("AWS4{}", self.credential.secret.expose());
        self.scope.split('/').fold(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        })
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("access_key_id", &self.credential.access_key_id).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// The day is the signature's, the service is one of Bedrock's; the region may be any, for a client must name one and the gateway picks its own.
fn in_scope(sent: &Sent<'_>) -> Result<(), Fault> {
    let mut parts = sent.scope.split('/');
    let (Some(date), Some(region), Some(service), Some("aws4_request"), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Fault::Malformed("the credential is not `id/date/region/service/aws4_request`"));
    };
    if sent.timestamp.get(..8) != Some(date) {
        return Err(Fault::Scope("date: the day of `X-Amz-Date`"));
    }
    if !(1..=64).contains(&region.len()) || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(Fault::Scope("region"));
    }
    if !SERVICES.iter().any(|known| known.signing_name == service) {
        return Err(Fault::Scope("service: `bedrock` or another of Bedrock's signing names"));
    }
    Ok(())
}

fn in_time(sent: &Sent<'_>, now: SystemTime) -> Result<(), Fault> {
    // A clock before 1970 is broken: under it every signature counts as early.
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    let age = now.saturating_sub(sent.signed_at);
    let (signed, now) = (When(sent.signed_at), When(now));
    match sent.expires {
        _ if age < -TOLERANCE => Err(Fault::Early { signed, now }),
        Some(expires) if age > i64::from(expires) => Err(Fault::Expired { signed, expires, now }),
        None if age > TOLERANCE => Err(Fault::Old { signed, now }),
        Some(_) | None => Ok(()),
    }
}

/// Nothing that must be signed is left out: the host, every `x-amz-*`, and what chooses the service. Returns the host.
///
/// Over HTTP/2 the host is `:authority`, which most clients sign as `host` and the SDK for JavaScript under its own name.
fn covers<'r>(sent: &Sent<'_>, request: &Presented<'r>) -> Result<&'r str, Fault> {
    let names: Vec<&str> = sent.names.split(';').collect();
    if names.len() > MAX_NAMES || !names.is_sorted_by(|one, next| one < next) || names.iter().any(|name| !is_lower_case(name)) {
        return Err(Fault::Malformed("`SignedHeaders` are lower-case names, sorted, each once, with semicolons between"));
    }
    let signed = |name: &str| names.binary_search(&name).is_ok();
    if !signed("host") && !signed(":authority") {
        return Err(Fault::NotSigned("host".to_owned()));
    }
    let host = request.host.ok_or(Fault::Malformed("a signed request needs one `Host`"))?;
    let mut hosts = request.headers.get_all(HOST).iter();
    // Two hosts: the signature would cover one, and another reader believe the other.
    if hosts.next().is_some_and(|one| one.as_bytes() != host.as_bytes()) || hosts.next().is_some() {
        return Err(Fault::Malformed("a signed request needs one `Host`"));
    }
    for name in request.headers.keys().map(http::HeaderName::as_str) {
        if (name.starts_with("x-amz-") || name == "aws-endpoint-prefix") && !signed(name) {
            return Err(Fault::NotSigned(name.to_owned()));
        }
    }
    Ok(host)
}

fn is_lower_case(name: &str) -> bool {
    !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// The hash of the body that the head declares. One that is none would let anybody change the body.
fn payload(request: &Presented<'_>) -> Result<Option<Box<str>>, Fault> {
    let mut values = request.headers.get_all("x-amz-content-sha256").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map(str::trim).ok().filter(|_| values.next().is_none()).ok_or(Fault::Payload)?;
    if text == "UNSIGNED-PAYLOAD" {
        Err(Fault::Unhashed("UNSIGNED-PAYLOAD"))
    } else if text.starts_with("STREAMING-") {
        Err(Fault::Unhashed("STREAMING-…"))
    } else {
        Ok(Some(text.into()))
    }
}
