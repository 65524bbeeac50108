//! Why there are no keys.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A key file that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("can't read the credential file `{}`: {source}", file.display())]
pub struct CredentialError {
    pub(super) file: PathBuf,
    pub(super) source: io::Error,
}

/// Why a call can't be signed. For our own log: it may name our roles.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoKeys {
    /// None have been fetched yet, or they have expired.
    #[error("there are no credentials, or they have expired")]
    Missing,
    /// None that STS could be asked with.
    #[error("there are no credentials to assume the role with")]
    NoBase,
    /// STS said no.
    #[error("STS refused the session: {0}")]
    Refused(Arc<str>),
    /// STS gave no answer, or none that can be used.
    #[error("STS can't be asked: {0}")]
    Unreachable(Arc<str>),
    /// STS did not answer within the time that a call waits.
    #[error("STS has not answered in time")]
    Late,
    /// Too many sessions are in use.
    #[error("too many sessions are in use")]
    Full,
}
