//! The method `jwt`: a token signed by one of several issuers (RFC 7519), judged as RFC 8725 advises.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, IgnoredAny};
use serde_json::{Map, Value};

use super::cache::{Fingerprint, Stamp, VerifiedTokens};
use super::claims::{self, Registered};
use super::error::IdentityError;
use super::fault::{Fault, excerpt};
use super::keyring::Keyring;
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
    groups: Tenants,
}

/// One issuer, and what its tokens are asked.
#[derive(Debug)]
pub(super) struct Issuer {
    rules: config::Jwt,
    keys: Arc<Keyring>,
}

impl Issuer {
    /// Prepares the issuer's keys, or takes them from those that are `known`.
    pub(super) fn build(rules: &config::Jwt, known: &[&Arc<Keyring>]) -> Result<Self, IdentityError> {
        let keys = match known.iter().find(|keys| keys.is_of(rules)) {
            Some(keys) => Arc::clone(keys),
            None => Arc::new(Keyring::build(rules)?),
        };
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
        Ok(Self { issuers, verified: VerifiedTokens::new(), tenants: Tenants::new(), groups: Tenants::new() })
    }

    /// The keys of each issuer, in the order of the configuration.
    pub(super) fn keyrings(&self) -> impl Iterator<Item = &Arc<Keyring>> {
        self.issuers.iter().map(|issuer| &issuer.keys)
    }

    /// Whom `token` speaks for at the time `now`.
    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Arc<Principal>, Fault> {
        if token.len() > MAX_TOKEN {
            return Err(Fault::TooLong { bytes: token.len() });
        }
        // A clock before 1970 is broken: under it every token counts as expired, none as eternal.
        let now = now.duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs());
        let fingerprint = Fingerprint::of(token);
        if let Some((principal, stamp)) = self.verified.find(&fingerprint, now)
            && self.counts(stamp)
        {
            return Ok(principal);
        }
        let (principal, until, stamp) = self.verify_unknown(token, now)?;
        self.verified.remember(fingerprint, until, Arc::clone(&principal), stamp, now);
        Ok(principal)
    }

    /// Whether the keys that a token verified under are all still there.
    fn counts(&self, stamp: Stamp) -> bool {
        let issuer = self.issuers.get(usize::from(stamp.issuer));
        issuer.and_then(|issuer| issuer.keys.published().as_ref().map(|published| published.epoch)) == Some(stamp.epoch)
    }

    /// Judges a token, in the order: shape, issuer, algorithm, signature, time, audience, names. What the token says is believed after the
    /// signature only; before it, `iss`, `alg` and `kid` merely choose what to try.
    fn verify_unknown(&self, token: &str, now: u64) -> Result<(Arc<Principal>, u64, Stamp), Fault> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Fault::Malformed("the token has no dots"))?;
        let (header, claims) = signed.split_once('.').ok_or(Fault::Malformed("the token has one dot"))?;
        let header = object(header).ok_or(Fault::Malformed("the token's header is no JSON object in base64url"))?;
        let claims = object(claims).ok_or(Fault::Malformed("the token's claims are no JSON object in base64url"))?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| Fault::Malformed("the token's header is no JOSE header"))?;
        let registered: Registered = serde_json::from_slice(&claims)
            .map_err(|_| Fault::Malformed("a registered claim of the token is of the wrong type or stands twice"))?;

        let named = registered.iss.as_deref().ok_or(Fault::NoIssuer)?;
        let Some((at, Issuer { rules, keys })) = (0..).zip(&self.issuers).find(|(_, issuer)| issuer.rules.issuer == named) else {
            return Err(Fault::Issuer(excerpt(named)));
        };
        if header.crit {
            return Err(Fault::Critical);
        }
        if let Some(kind) = header.typ.filter(|kind| !admits_somebody(kind)) {
            return Err(Fault::Kind(excerpt(&kind)));
        }
        let algorithm = config::Algorithm::named(&header.alg)
            .filter(|algorithm| rules.algorithms.contains(algorithm))
            .ok_or_else(|| Fault::Algorithm(excerpt(&header.alg)))?;
        // One guard for keys and epoch: what is remembered below counts as long as these very keys do.
        let published = keys.published();
        let published = published.as_ref().ok_or_else(|| Fault::NoKeys(excerpt(named)))?;
        let stamp = Stamp { issuer: at, epoch: published.epoch };
        published.keys.verify(header.kid.as_deref(), algorithm, signed, signature).inspect_err(|fault| {
            if matches!(fault, Fault::UnknownKey(_) | Fault::NoKid) || header.kid.is_none() {
                keys.miss();
            }
        })?;

        let until = registered.valid_until(now)?;
        registered.is_for(&rules.audiences)?;
        let claims: Map<String, Value> =
            serde_json::from_slice(&claims).map_err(|_| Fault::Malformed("the token's claims are no JSON object"))?;
        if claims::are_an_event(&claims) {
            return Err(Fault::Kind("security event".to_owned()));
        }
        for (path, wanted) in &rules.required_claims {
            claims::holds(&claims, path, wanted)?;
        }
        let tenant = claims::name(&claims, &rules.tenant)?.ok_or_else(|| Fault::NoTenant(excerpt(&rules.tenant.0)))?;
        let user = claims::name(&claims, &rules.user)?;
        let groups = rules.groups.as_ref().map_or(Ok(Vec::new()), |path| claims::names(&claims, path))?;
        let principal = Principal {
            tenant: self.tenants.shared(tenant),
            user: user.map(Arc::from),
            groups: groups.into_iter().map(|group| self.groups.shared(group)).collect(),
            method: Method::Jwt,
            key_id: None,
        };
        Ok((Arc::new(principal), until, stamp))
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
    typ: Option<String>,
    /// Whether there is a `crit`, whatever it says: it names extensions that must be understood, and none is.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// Whether a token of this `typ` may be shown by whoever it speaks for (RFC 8725, section 3.11): an identity token or one from before types
/// (RFC 7519, section 5.1; `JOSE` in SPIFFE's), or an access token (RFC 9068, section 2.1). An issuer signs others with the same key: logout
/// tokens, security events, proofs of possession, signed requests. They say `typ` so that nobody takes them for these.
fn admits_somebody(typ: &str) -> bool {
    let typ = match typ.split_at_checked("application/".len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case("application/") => rest,
        _ => typ,
    };
    ["JWT", "at+jwt", "JOSE"].iter().any(|kind| typ.eq_ignore_ascii_case(kind))
}

fn present<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// The bytes of a part that begins as a JSON object: serde would fill a struct from an array too, which no other reader of tokens does.
fn object(part: &str) -> Option<Vec<u8>> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    json.trim_ascii_start().starts_with(b"{").then_some(json)
}
