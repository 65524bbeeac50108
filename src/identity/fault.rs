//! What can be wrong with a credential: the exact fault for our log, its kind for the caller.

use std::time::Duration;

use crate::domain::{Reason, Rejection};

/// When to try again while an issuer's keys have not been had: by then they have been asked for again.
const KEYS_AGAIN: Duration = Duration::from_secs(5);

/// Why a credential is refused. It holds names that the token gave (cut and escaped), never the token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("`{header}` is sent more than once")]
    Repeated { header: &'static str },
    #[error("`{header}` holds bytes that are not printable ASCII")]
    NotAscii { header: &'static str },
    #[error("the token is {bytes} bytes long")]
    TooLong { bytes: usize },
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the algorithm `{0}` is not in `algorithms`")]
    Algorithm(String),
    #[error("the token has a `crit` header")]
    Critical,
    #[error("the token is a `{0}`, which is no access or identity token")]
    Kind(String),
    #[error("the keys of the issuer `{0}` have not been fetched yet")]
    NoKeys(String),
    #[error("the issuer `{0}` is not configured")]
    Issuer(String),
    #[error("the token names no issuer")]
    NoIssuer,
    #[error("no key of the set has the `kid` `{0}` and fits the algorithm")]
    UnknownKey(String),
    #[error("the token names no `kid`, and not exactly one key fits the algorithm")]
    NoKid,
    #[error("the signature is not of this key")]
    Signature,
    #[error("the token has no `exp`")]
    NoExpiry,
    #[error("the token expired at {at} (Unix time), beyond the leeway")]
    Expired { at: u64 },
    #[error("the token is not valid before {at} (Unix time), beyond the leeway")]
    NotYetValid { at: u64 },
    #[error("neither `aud` nor, in its absence, `client_id` names one of `audiences`")]
    Audience,
    #[error("the claim `{0}` for the tenant is missing")]
    NoTenant(String),
    #[error("the token is no API key, and no other method takes tokens")]
    NoApiKey,
    #[error("the API key's checksum is wrong")]
    BrokenApiKey,
    #[error("no such API key was issued")]
    UnknownApiKey,
    #[error("the API key is disabled")]
    DisabledApiKey,
    #[error("the API key has expired")]
    ExpiredApiKey,
    #[error("the claim `{0}` is not what `required_claims` asks for")]
    Required(String),
    #[error("the claim `{0}` is not a text of 1 to 256 bytes without control characters, or it is `(mirror)`")]
    Claim(String),
}

impl Fault {
    /// What the caller is told: the kind of fault only. An unknown key and a bad signature are one kind, so that keys can't be probed for.
    fn message(&self) -> &'static str {
        match self {
            Self::Repeated { .. } => "more than one credential was sent",
            Self::NotAscii { .. } | Self::Malformed(_) => "the credential is not a signed token (JWT)",
            Self::TooLong { .. } => "the token is longer than 16384 bytes",
            Self::Algorithm(_) => "the token's signature algorithm is not accepted",
            Self::Critical => "the token has critical header parameters, of which none is supported",
            Self::Kind(_) => "the token is of a kind that admits nobody",
            Self::NoKeys(_) => "the keys of the token's issuer are not at hand yet",
            Self::Issuer(_) | Self::NoIssuer => "the token's issuer is not accepted",
            Self::UnknownKey(_) | Self::NoKid | Self::Signature => "the token's signature can't be verified",
            Self::NoExpiry => "the token has no expiry",
            Self::Expired { .. } => "the token has expired",
            Self::NotYetValid { .. } => "the token is not valid yet",
            Self::Audience => "the token is meant for another audience",
            Self::NoApiKey => "the credential is not an API key of this gateway",
            Self::BrokenApiKey => "the API key is incomplete or mistyped",
            Self::UnknownApiKey => "the API key is not known",
            Self::DisabledApiKey => "the API key was revoked",
            Self::ExpiredApiKey => "the API key has expired",
            Self::Required(_) => "the token lacks a required claim",
            Self::NoTenant(_) => "the token names no tenant",
            Self::Claim(_) => "a claim of the token that names the tenant, the user or a group is malformed",
        }
    }
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        let message = fault.message();
        match fault {
            // Not the caller's fault, and not for long: SDKs try again after a 503, never after a 401.
            Fault::NoKeys(_) => Self::new(Reason::KeysUnavailable, message).retry_after(KEYS_AGAIN),
            _ => Self::new(Reason::Unauthenticated, message),
        }
        .because(fault)
    }
}

/// The beginning of a name that a token gave, fit for a log line: escaped, and of at most 64 characters.
pub(super) fn excerpt(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_default).collect()
}
