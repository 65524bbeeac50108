//! What can be wrong with a signature. AWS's own words where it has some: SDKs and people know them.

use std::fmt;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::{Reason, Rejection};

/// Why a signature is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// Never issued, disabled or expired: one message for all, so that ids can't be probed for.
    #[error("The security token included in the request is invalid.")]
    UnknownKey(&'static str),
    #[error("This gateway issues no session tokens: remove `X-Amz-Security-Token` (`aws_session_token`)")]
    SessionToken,
    #[error("{0}")]
    Malformed(&'static str),
    #[error("Credential should be scoped to a valid {0}")]
    Scope(&'static str),
    #[error("Signature expired: the request was signed at {signed} and it is {now} here: more than 5 minutes apart")]
    Old { signed: When, now: When },
    #[error("Signature not yet current: the request was signed at {signed} and it is {now} here: more than 5 minutes apart")]
    Early { signed: When, now: When },
    #[error("Signature expired: the URL was signed at {signed} for {expires} seconds and it is {now} here")]
    Expired { signed: When, expires: u32, now: When },
    #[error("'{0}' must be a 'SignedHeader' in the AWS Authorization.")]
    NotSigned(String),
    #[error("a signed header is not there: '{0}'")]
    NotThere(String),
    #[error("`x-amz-content-sha256: {0}` leaves the body out of the signature: sign the SHA-256 of the body")]
    Unhashed(&'static str),
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    Payload,
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. \
         Consult the service documentation for details."
    )]
    Mismatch,
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::UnknownKey(why) => Self::new(Reason::UnknownAccessKey, fault.to_string()).because(why),
            Fault::SessionToken => Self::new(Reason::UnknownAccessKey, fault.to_string()),
            fault => Self::new(Reason::InvalidSignature, fault.to_string()),
        }
    }
}

/// A Unix time, told as `2026-01-15T12:34:56Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct When(pub(super) i64);

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = OffsetDateTime::from_unix_timestamp(self.0).ok().and_then(|at| at.format(&Rfc3339).ok());
        f.write_str(text.as_deref().unwrap_or("an unknown time"))
    }
}
