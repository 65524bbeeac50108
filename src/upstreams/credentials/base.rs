//! Credentials that are found or given: by the default chain, a profile, or files.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials as Found;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use tokio::sync::watch;

use super::files::Files;
use super::renewal::{Backoff, renewal, until};
use super::{CredentialError, Keys};
use crate::config::upstreams::{Base as Config, Upstream};
use crate::domain::{Clock, Secret, causes};

/// Key files are looked at so often, as those of issued keys are.
const LOOK: Duration = Duration::from_secs(2);

/// Credentials that are found or given, as of now.
#[derive(Debug)]
pub(super) struct Base {
    upstream: Arc<str>,
    source: Source,
    keys: ArcSwapOption<Keys>,
    /// Told whenever there are other keys.
    renewed: watch::Sender<()>,
}

#[derive(Debug)]
enum Source {
    Files(Arc<Files>),
    Asked(Asked),
}

/// Whom the SDK asks.
#[derive(Debug)]
enum Asked {
    /// The AWS default provider chain, asked with this region.
    Chain(Region),
    /// A profile of the AWS configuration files.
    Profile { name: Box<str>, region: Region, fips: bool },
}

impl Base {
    /// Fixed ones are there at once; the others are asked by [`Self::keep_fresh`].
    pub(super) fn build(config: &Config, upstream: &Upstream) -> Result<Self, CredentialError> {
        let region = Region::new(upstream.region.clone());
        let (source, keys) = match config {
            Config::DefaultChain => (Source::Asked(Asked::Chain(region)), None),
            Config::Profile(name) => (Source::Asked(Asked::Profile { name: name.as_str().into(), region, fips: upstream.fips }), None),
            Config::Static { access_key_id, secret_access_key_file, session_token_file } => {
                let (files, keys) = Files::open(access_key_id, secret_access_key_file, session_token_file.as_deref())?;
                (Source::Files(Arc::new(files)), Some(Arc::new(keys)))
            }
        };
        Ok(Self { upstream: Arc::clone(&upstream.name), source, keys: ArcSwapOption::new(keys), renewed: watch::Sender::new(()) })
    }

    /// Whether both were read alike: from the same kind of source, and the same keys where that is files.
    pub(super) fn reads_as(&self, other: &Self) -> bool {
        match (&self.source, &other.source) {
            (Source::Asked(_), Source::Asked(_)) => true,
            (Source::Files(_), Source::Files(_)) => {
                let (ours, theirs) = (self.keys.load(), other.keys.load());
                ours.as_deref().zip(theirs.as_deref()).is_some_and(|(ours, theirs)| ours == theirs)
            }
            (Source::Files(_), Source::Asked(_)) | (Source::Asked(_), Source::Files(_)) => false,
        }
    }

    /// The keys at `now`, where there are any that AWS still takes.
    pub(super) fn current(&self, now: SystemTime) -> Option<Arc<Keys>> {
        self.keys.load_full().filter(|keys| keys.last_beyond(now))
    }

    /// Hears of every change of the keys.
    pub(super) fn renewals(&self) -> watch::Receiver<()> {
        self.renewed.subscribe()
    }

    /// Fetches the keys and renews them before they expire, for ever. `told` hears of every change: the expiry in force, or why there is none.
    pub(super) async fn keep_fresh(&self, clock: &Clock, told: impl Fn(Result<Option<SystemTime>, String>)) {
        match &self.source {
            Source::Files(files) => {
                told(Ok(None));
                self.follow(files, clock).await;
            }
            Source::Asked(asked) => self.renew(asked, clock, told).await,
        }
    }

    async fn renew(&self, asked: &Asked, clock: &Clock, told: impl Fn(Result<Option<SystemTime>, String>)) {
        let (mut known, mut backoff) = (None, Backoff::default());
        loop {
            let provider = match known.take() {
                Some(provider) => provider,
                None => asked.provider().await,
            };
            let found = provider.provide_credentials().await;
            let now = clock.wall();
            let wait = match self.take(found, now) {
                Ok(expires) => {
                    told(Ok(expires));
                    backoff = Backoff::default();
                    // Without an expiry they are from files or the environment, and only another provider sees that those have changed.
                    known = expires.map(|_| provider);
                    renewal(expires, now)
                }
                Err(why) => {
                    tracing::warn!(upstream = %self.upstream, error = why, "no AWS credentials from their source");
                    if self.current(now).is_none() {
                        told(Err(why));
                    }
                    // One that has found some knows how to bridge an outage of its source; one that has not may never look again.
                    known = self.keys.load().is_some().then_some(provider);
                    backoff.next()
                }
            };
            until(clock, wait).await;
        }
    }

    /// Publishes what was found; else says why there is nothing to publish.
    fn take(&self, asked: Result<Found, CredentialsError>, now: SystemTime) -> Result<Option<SystemTime>, String> {
        let found = asked.map_err(|error| causes(&error))?;
        let keys = Keys {
            access_key_id: found.access_key_id().into(),
            secret_access_key: Secret::new(found.secret_access_key().to_owned()),
            session_token: found.session_token().map(|token| Secret::new(token.to_owned())),
            expires: found.expiry(),
        };
        // IMDS that can't be reached is answered for by what it said last, however long ago.
        if !keys.last_beyond(now) {
            return Err("what their source has is expired".to_owned());
        }
        let expires = keys.expires;
        if self.keys.load().as_deref() != Some(&keys) {
            self.keys.store(Some(Arc::new(keys)));
            self.renewed.send_replace(());
        }
        Ok(expires)
    }

    async fn follow(&self, files: &Arc<Files>, clock: &Clock) {
        loop {
            until(clock, LOOK).await;
            let looking = Arc::clone(files);
            // A panic in it is its own report.
            match tokio::task::spawn_blocking(move || looking.look()).await {
                Ok(Some(Ok(keys))) => {
                    self.keys.store(Some(Arc::new(keys)));
                    self.renewed.send_replace(());
                    tracing::info!(upstream = %self.upstream, "credential files read again");
                }
                Ok(Some(Err(error))) => {
                    tracing::warn!(upstream = %self.upstream, %error, "credential files can't be used; keeping the last good ones");
                }
                Ok(None) | Err(_) => {}
            }
        }
    }
}

impl Asked {
    async fn provider(&self) -> SharedCredentialsProvider {
        match self {
            Self::Chain(region) => SharedCredentialsProvider::new(DefaultCredentialsChain::builder().region(region.clone()).build().await),
            Self::Profile { name, region, fips } => {
                // It may lead on to a role of its own, and so to STS.
                let reach = ProviderConfig::without_region().with_region(Some(region.clone())).with_use_fips(Some(*fips));
                let profile = ProfileFileCredentialsProvider::builder().profile_name(name.to_string()).configure(&reach);
                SharedCredentialsProvider::new(profile.build())
            }
        }
    }
}

/// What STS is asked with: always what is in force.
#[derive(Debug)]
pub(super) struct InForce(pub(super) Arc<Base>);

impl ProvideCredentials for InForce {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let keys = self.0.keys.load_full().ok_or_else(|| CredentialsError::not_loaded("there are none yet"));
        future::ProvideCredentials::ready(keys.map(|keys| {
            let token = keys.session_token.as_ref().map(|token| token.expose().clone());
            Found::new(&*keys.access_key_id, keys.secret_access_key.expose().clone(), token, keys.expires, "tollgate")
        }))
    }
}
