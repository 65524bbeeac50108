//! The gateway's own AWS credentials: fetched in the background, renewed before they expire, published without a lock.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_credential_types::provider::ProvideCredentials;

use crate::config::upstreams::Credentials as Config;
use crate::domain::{Clock, Secret, causes};

/// Renewed so long before they expire; AWS's own SDKs take five minutes too.
const EARLY: Duration = Duration::from_mins(5);

/// After a failure, tried again so soon, and then ever more slowly up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Credentials without an expiry are looked at so often: a rotated profile or environment file is taken up without a restart.
const REVISIT: Duration = Duration::from_mins(10);

/// A key file is a line; more than this is not one.
const FILE_MAX: u64 = 16 * 1024;

/// One set of AWS credentials.
#[derive(Debug)]
pub struct Keys {
    /// Names the keys: no secret, yet in no answer to a client.
    pub access_key_id: Box<str>,
    /// Signs.
    pub secret_access_key: Secret<String>,
    /// Goes with temporary credentials.
    pub session_token: Option<Secret<String>>,
    /// When AWS stops taking them; none for long-lived ones.
    pub expires: Option<SystemTime>,
}

/// A key file that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("can't read the credential file `{}`: {source}", file.display())]
pub struct CredentialError {
    file: PathBuf,
    source: io::Error,
}

/// The credentials of one upstream, as of now. Empty until they have been fetched, and again once they have expired unrenewed.
#[derive(Debug)]
pub struct Credentials {
    source: Source,
    keys: ArcSwapOption<Keys>,
}

#[derive(Debug)]
enum Source {
    /// The AWS default provider chain, asked with this region.
    Chain(String),
    Fixed,
}

impl Credentials {
    /// Prepares the credentials of an upstream in `region`. Fixed ones are there at once; the chain is asked by [`Self::keep_fresh`].
    ///
    /// # Errors
    /// Where a key file can't be read, is empty or is larger than 16 KiB.
    pub fn build(config: &Config, region: &str) -> Result<Self, CredentialError> {
        match config {
            Config::DefaultChain => Ok(Self { source: Source::Chain(region.to_owned()), keys: ArcSwapOption::empty() }),
            Config::Static { access_key_id, secret_access_key_file, session_token_file } => {
                let keys = Keys {
                    access_key_id: access_key_id.as_str().into(),
                    secret_access_key: read(secret_access_key_file)?,
                    session_token: session_token_file.as_deref().map(read).transpose()?,
                    expires: None,
                };
                Ok(Self { source: Source::Fixed, keys: ArcSwapOption::from_pointee(keys) })
            }
        }
    }

    /// The keys to sign with at `now`, where there are any that AWS still takes.
    #[must_use]
    pub fn current(&self, now: SystemTime) -> Option<Arc<Keys>> {
        self.keys.load_full().filter(|keys| keys.expires.is_none_or(|expires| now < expires))
    }

    /// Whether both were read alike: from the chain, which is asked later, or as the same fixed keys.
    pub(super) fn reads_as(&self, other: &Self) -> bool {
        match (&self.source, &other.source) {
            (Source::Chain(_), Source::Chain(_)) => true,
            (Source::Fixed, Source::Fixed) => {
                let (ours, theirs) = (self.keys.load(), other.keys.load());
                let same = |ours: &Arc<Keys>, theirs: &Arc<Keys>| {
                    ours.secret_access_key == theirs.secret_access_key && ours.session_token == theirs.session_token
                };
                ours.as_ref().zip(theirs.as_ref()).is_some_and(|(ours, theirs)| same(ours, theirs))
            }
            (Source::Chain(_), Source::Fixed) | (Source::Fixed, Source::Chain(_)) => false,
        }
    }

    /// Fetches the keys and renews them before they expire, for ever; fixed ones need nothing. `told` hears of every change: the expiry in
    /// force, or why there is none. The last good keys stay until they expire.
    pub async fn keep_fresh(&self, clock: &Clock, mut told: impl FnMut(Result<Option<SystemTime>, String>) + Send) {
        let Source::Chain(region) = &self.source else {
            told(Ok(None));
            return;
        };
        let chain = DefaultCredentialsChain::builder().region(Region::new(region.clone())).build().await;
        let mut retry = RETRY_MIN;
        loop {
            let wait = match chain.provide_credentials().await {
                Ok(found) => {
                    let expires = found.expiry();
                    self.keys.store(Some(Arc::new(Keys {
                        access_key_id: found.access_key_id().into(),
                        secret_access_key: Secret::new(found.secret_access_key().to_owned()),
                        session_token: found.session_token().map(|token| Secret::new(token.to_owned())),
                        expires,
                    })));
                    told(Ok(expires));
                    retry = RETRY_MIN;
                    renewal(expires, clock.wall())
                }
                Err(error) => {
                    if self.current(clock.wall()).is_none() {
                        told(Err(causes(&error)));
                    }
                    tracing::warn!(error = causes(&error), "no AWS credentials from the default provider chain");
                    let wait = retry;
                    retry = (retry * 2).min(RETRY_MAX);
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }
}

/// How long to wait before asking again. Some of the early time is left to chance, so that a fleet does not ask at once.
fn renewal(expires: Option<SystemTime>, now: SystemTime) -> Duration {
    let Some(expires) = expires else { return REVISIT };
    let left = expires.duration_since(now).unwrap_or_default();
    let early = EARLY.min(left / 2);
    left.saturating_sub(early).saturating_sub(early.mul_f64(fastrand::f64() * 0.5)).max(RETRY_MIN)
}

fn read(file: impl AsRef<Path>) -> Result<Secret<String>, CredentialError> {
    let file = file.as_ref();
    let bounded = || {
        if fs::metadata(file)?.len() > FILE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 16 KiB"));
        }
        let text = fs::read_to_string(file)?;
        let text = text.trim();
        if text.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty"));
        }
        Ok(Secret::new(text.to_owned()))
    };
    bounded().map_err(|source| CredentialError { file: file.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_renewed_early_but_never_in_a_spin() {
        let now = SystemTime::UNIX_EPOCH;
        for hour in 1..24_u64 {
            let left = Duration::from_secs(hour * 3600);
            let wait = renewal(Some(now + left), now);
            assert!(wait + EARLY <= left && wait + EARLY.mul_f64(1.6) >= left, "{wait:?} of {left:?}");
        }
        assert_eq!(renewal(Some(now), now + Duration::from_secs(9)), RETRY_MIN);
        assert_eq!(renewal(None, now), REVISIT);
    }

    #[test]
    fn expired_keys_sign_nothing() {
        let now = SystemTime::UNIX_EPOCH;
        let keys = Keys {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: Secret::new("secret".into()),
            session_token: None,
            expires: Some(now + Duration::from_secs(10)),
        };
        let credentials = Credentials { source: Source::Fixed, keys: ArcSwapOption::from_pointee(keys) };
        assert!(credentials.current(now).is_some());
        assert!(credentials.current(now + Duration::from_secs(10)).is_none());
    }
}
