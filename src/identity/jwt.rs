//! The method `jwt`: a token signed by one of several issuers (RFC 7519), judged as RFC 8725 advises.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, IgnoredAny};
use serde_json::{Map, Value};

use super::cache::{Fingerprint, VerifiedTokens};
use super::claims::{self, Registered};
use super::error::IdentityError;
use super::fault::{Fault, excerpt};
use super::keys::{self, KeySet};
use super::tenants::Tenants;
use crate::config::identity as config;
use crate::domain::{Method, Principal};

/// The longest token that is looked at, in bytes; Entra's and Keycloak's with many groups reach 8 KiB.
const MAX_TOKEN: usize = 16 * 1024;

/// Tokens of all configured issuers.
pub(super) struct Jwt {
    /// At least one; no two of the same name.
    issuers: Vec<Issuer>,
    verified: VerifiedTokens,
    tenants: Tenants,
}

/// One issuer, and what its tokens are asked.
#[derive(Debug)]
pub(super) struct Issuer {
    rules: config::Jwt,
    keys: KeySet,
}

impl Issuer {
    /// Reads the issuer's key set.
    pub(super) fn build(rules: &config::Jwt) -> Result<Self, IdentityError> {
        let keys = KeySet::read(&rules.jwks_file, &rules.algorithms)
            .map_err(|cause| IdentityError::KeySet { file: rules.jwks_file.clone(), cause })?;
        Ok(Self { rules: rules.clone(), keys })
    }
}

impl Jwt {
    /// Takes the issuers, of which no two may have one name.
    pub(super) fn of(issuers: Vec<Issuer>) -> Result<Self, IdentityError> {
        for (at, issuer) in issuers.iter().enumerate() {
            if issuers.iter().skip(at + 1).any(|other| other.rules.issuer == issuer.rules.issuer) {
                return Err(IdentityError::IssuerTwice { issuer: issuer.rules.issuer.clone() });
            }
        }
        Ok(Self { issuers, verified: VerifiedTokens::new(), tenants: Tenants::new() })
    }

    /// Whom `token` speaks for at the time `now`.
    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Arc<Principal>, Fault> {
        if token.len() > MAX_TOKEN {
            return Err(Fault::TooLong { bytes: token.len() });
        }
        // A clock before 1970 is broken: under it every token counts as expired, none as eternal.
        let now = now.duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs());
        let fingerprint = Fingerprint::of(token);
        if let Some(principal) = self.verified.find(&fingerprint, now) {
            return Ok(principal);
        }
        let (principal, until) = self.verify_unknown(token, now)?;
        self.verified.remember(fingerprint, until, Arc::clone(&principal), now);
        Ok(principal)
    }

    /// Judges a token, in the order: shape, issuer, algorithm, signature, time, audience, names. What the token says is believed after the
    /// signature only; before it, `iss`, `alg` and `kid` merely choose what to try.
    fn verify_unknown(&self, token: &str, now: u64) -> Result<(Arc<Principal>, u64), Fault> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Fault::Malformed("the token has no dots"))?;
        let (header, claims) = signed.split_once('.').ok_or(Fault::Malformed("the token has one dot"))?;
        let header = object(header).ok_or(Fault::Malformed("the token's header is no JSON object in base64url"))?;
        let claims = object(claims).ok_or(Fault::Malformed("the token's claims are no JSON object in base64url"))?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| Fault::Malformed("the token's header is no JOSE header"))?;
        let registered: Registered = serde_json::from_slice(&claims)
            .map_err(|_| Fault::Malformed("a registered claim of the token is of the wrong type or stands twice"))?;

        let named = registered.iss.as_deref().ok_or(Fault::NoIssuer)?;
        let Some(Issuer { rules, keys }) = self.issuers.iter().find(|issuer| issuer.rules.issuer == named) else {
            return Err(Fault::Issuer(excerpt(named)));
        };
        if header.crit {
            return Err(Fault::Critical);
        }
        let algorithm = keys::named(&header.alg)
            .filter(|algorithm| rules.algorithms.contains(algorithm))
            .ok_or_else(|| Fault::Algorithm(excerpt(&header.alg)))?;
        keys.verify(header.kid.as_deref(), algorithm, signed, signature)?;

        let until = registered.valid_until(now)?;
        registered.is_for(&rules.audiences)?;
        let claims: Map<String, Value> =
            serde_json::from_slice(&claims).map_err(|_| Fault::Malformed("the token's claims are no JSON object"))?;
        let tenant = claims::name(&claims, &rules.tenant)?.ok_or_else(|| Fault::NoTenant(excerpt(&rules.tenant.0)))?;
        let user = claims::name(&claims, &rules.user)?;
        let principal = Principal {
            tenant: self.tenants.shared(tenant),
            user: user.map(Arc::from),
            groups: Arc::default(),
            method: Method::Jwt,
            key_id: None,
        };
        Ok((Arc::new(principal), until))
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("issuers", &self.issuers).finish_non_exhaustive()
    }
}

/// What of a JOSE header (RFC 7515, section 4.1) has a say. Keys that a header brings along (`jwk`, `jku`, `x5c`) have none.
#[derive(serde::Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Whether there is a `crit`, whatever it says: it names extensions that must be understood, and none is.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

fn present<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// The bytes of a part that begins as a JSON object: serde would fill a struct from an array too, which no other reader of tokens does.
fn object(part: &str) -> Option<Vec<u8>> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    json.trim_ascii_start().starts_with(b"{").then_some(json)
}
