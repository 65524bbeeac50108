//! The keys of one issuer as they are now: read or fetched by a task of their own, and replaced while requests are served.
//!
//! * No request waits for a provider. One that names a key we do not have is refused at once, and wakes the task.
//! * A key set is replaced whole, and only by one that is good: the last good one stays while a provider is down or talks nonsense.
//! * Whatever strangers send, unknown keys cause one fetch in [`UNKNOWN_KEY`] at most.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use futures_util::FutureExt;
use http::{HeaderMap, header};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::error::{IdentityError, KeySetError};
use super::fetch::{FetchError, Fetcher};
use super::keys::KeySet;
use crate::config::identity::{Algorithm, Jwt, KeySource, Url};
use crate::domain::FileStamp;

/// How long fetched keys count as fresh where the provider does not say, and within which bounds it may.
const FRESH: Duration = Duration::from_mins(10);
const FRESH_MIN: Duration = Duration::from_mins(1);
const FRESH_MAX: Duration = Duration::from_hours(24);

/// Unknown keys cause one fetch in this time at most.
const UNKNOWN_KEY: Duration = Duration::from_secs(30);

/// After a failure, tried again so soon, and then ever more slowly.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(1);

/// A file is looked at so often.
const POLL: Duration = Duration::from_secs(2);

/// The keys of one issuer.
#[derive(Debug)]
pub struct Keyring {
    issuer: Arc<str>,
    algorithms: Vec<Algorithm>,
    /// Where they are from, as configured.
    from: KeySource,
    /// What was known of the bundle of authorities before it was read: one that has changed since is read anew.
    ca: Option<FileStamp>,
    source: Source,
    /// Empty until the first fetch.
    published: ArcSwapOption<Published>,
    /// Told when a token names a key that is not there.
    unknown: Notify,
}

#[derive(Debug)]
enum Source {
    /// A key set, or a shared secret.
    File { config: KeySource, read: Option<FileStamp> },
    /// At this URL.
    Url { url: Url, fetcher: Box<Fetcher> },
    /// Where the issuer's metadata, which is at this URL, says.
    Discovery { url: Url, fetcher: Box<Fetcher> },
}

/// A key set in force.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) keys: KeySet,
    /// Counts the sets from which a key was missing that had been in the one before: what was verified under an earlier one counts no more.
    pub(super) epoch: u32,
}

/// What became of an attempt to have an issuer's keys.
#[derive(Debug, PartialEq, Eq)]
pub enum Renewal {
    /// A good set is in force, this moment.
    Fresh,
    /// There was no answer, or none with status 200. The last good set stays, if there ever was one.
    Unreachable(String),
    /// There was an answer that can't be used. The last good set stays, if there ever was one.
    Unusable(String),
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the key set of `{0}` {1}")]
    Keys(http::Uri, #[source] KeySetError),
    #[error("`{0}` is no OpenID provider metadata: {1}")]
    Metadata(http::Uri, #[source] serde_json::Error),
    #[error("`{0}` is the metadata of the issuer `{1}`, which is not to the letter the configured one")]
    Issuer(http::Uri, String),
    #[error("the `jwks_uri` `{0}` {1}")]
    KeysUrl(String, &'static str),
}

impl Keyring {
    /// Prepares the keys of an issuer. Those in a file are there at once; others are fetched by [`Self::keep_fresh`].
    ///
    /// # Errors
    /// Where a file can't be used.
    pub(super) fn build(rules: &Jwt) -> Result<Self, IdentityError> {
        let fetcher = |ca: &Option<std::path::PathBuf>| {
            let told = |cause| IdentityError::Ca { file: ca.clone().unwrap_or_default(), cause };
            Fetcher::build(ca.as_ref()).map(Box::new).map_err(told)
        };
        let ca = rules.keys.ca().and_then(|file| stamp(file));
        let (source, keys) = match &rules.keys {
            config @ (KeySource::File(file) | KeySource::Secret(file)) => {
                let read = stamp(file);
                let keys = read_file(config, &rules.algorithms).map_err(|cause| match config {
                    KeySource::Secret(_) => IdentityError::Secret { file: file.clone(), cause },
                    _ => IdentityError::KeySet { file: file.clone(), cause },
                })?;
                (Source::File { config: config.clone(), read }, Some(keys))
            }
            KeySource::Url { url, ca } => (Source::Url { url: url.clone(), fetcher: fetcher(ca)? }, None),
            KeySource::Discovery { url, ca } => (Source::Discovery { url: url.clone(), fetcher: fetcher(ca)? }, None),
        };
        Ok(Self {
            issuer: rules.issuer.as_str().into(),
            algorithms: rules.algorithms.clone(),
            from: rules.keys.clone(),
            ca,
            source,
            published: ArcSwapOption::new(keys.map(|keys| Arc::new(Published { keys, epoch: 0 }))),
            unknown: Notify::new(),
        })
    }

    /// Whether these are the keys that `rules` ask for, from the same place and for the same algorithms.
    pub(super) fn is_of(&self, rules: &Jwt) -> bool {
        *self.issuer == *rules.issuer
            && self.algorithms == rules.algorithms
            && self.from == rules.keys
            && self.ca == rules.keys.ca().and_then(|file| stamp(file))
    }

    /// Whose keys they are.
    #[must_use]
    pub const fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// Whether the keys come over the network, so that they can be missing or old.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        matches!(self.source, Source::Url { .. } | Source::Discovery { .. })
    }

    /// Whether there is a key set in force.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.published.load().is_some()
    }

    /// The set in force, if there is one yet.
    pub(super) fn published(&self) -> Guard<Option<Arc<Published>>> {
        self.published.load()
    }

    /// Says that a token named a key which is not there. Costs an atomic; a thousand come to one fetch.
    pub(super) fn miss(&self) {
        self.unknown.notify_one();
    }

    /// Keeps the keys fresh, for ever. `told` hears how each attempt ended; of a file, only where it changed or can't be read.
    pub async fn keep_fresh(&self, mut told: impl FnMut(Renewal) + Send) {
        match &self.source {
            Source::File { config, read } => self.watch(config, *read, told).await,
            Source::Url { .. } | Source::Discovery { .. } => self.refetch(&mut told).await,
        }
    }

    /// A file, looked at again and again; read where it changed, or could not be used the last time.
    async fn watch(&self, config: &KeySource, mut seen: Option<FileStamp>, mut told: impl FnMut(Renewal) + Send) {
        let mut broken = None;
        loop {
            tokio::time::sleep(POLL).await;
            let (config, algorithms) = (config.clone(), self.algorithms.clone());
            let (last, retry) = (seen, broken.is_some());
            let looked = tokio::task::spawn_blocking(move || {
                let (KeySource::File(file) | KeySource::Secret(file)) = &config else { return None };
                // Before it is read: a change while it is read is seen the next time.
                let state = stamp(file);
                (retry || state != last).then(|| (state, read_file(&config, &algorithms)))
            });
            let Ok(Some((state, read))) = looked.await else { continue };
            seen = state;
            match read {
                Ok(keys) => {
                    self.publish(keys);
                    broken = None;
                    tracing::info!(issuer = %self.issuer, "keys read anew from their file");
                    told(Renewal::Fresh);
                }
                Err(error) => {
                    let why = error.to_string();
                    if broken.as_ref() != Some(&why) {
                        tracing::warn!(issuer = %self.issuer, error = why, "the file of keys can't be used; the last good keys stay");
                        told(Renewal::Unusable(why.clone()));
                        broken = Some(why);
                    }
                }
            }
        }
    }

    /// A provider, asked when its keys grow old, and when a token names a key that is not there.
    async fn refetch(&self, told: &mut (impl FnMut(Renewal) + Send)) {
        let mut schedule = Schedule::default();
        loop {
            let wait = match self.fetch().await {
                Ok((keys, headers)) => {
                    self.publish(keys);
                    told(Renewal::Fresh);
                    schedule.succeeded(&headers)
                }
                Err(error) => {
                    let why = error.to_string();
                    tracing::warn!(issuer = %self.issuer, error = why, kept = self.is_there(), "the issuer's keys can't be fetched");
                    told(if matches!(error, RenewError::Fetch(_)) { Renewal::Unreachable(why) } else { Renewal::Unusable(why) });
                    schedule.failed()
                }
            };
            // What was missed while this went on was judged by the old set; whoever still misses it says so again.
            let _: Option<()> = self.unknown.notified().now_or_never();
            let due = Instant::now() + wait;
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.missed(&schedule) => schedule.asked = Some(Instant::now()),
            }
        }
    }

    /// Ends when a token named a key that is not there, and unknown keys may cause a fetch again.
    async fn missed(&self, schedule: &Schedule) {
        self.unknown.notified().await;
        if let Some(allowed) = schedule.unknown_allowed() {
            tokio::time::sleep_until(allowed).await;
        }
    }

    async fn fetch(&self) -> Result<(KeySet, HeaderMap), RenewError> {
        let (url, fetcher) = match &self.source {
            Source::File { .. } => return std::future::pending().await,
            Source::Url { url, fetcher } => (url.clone(), fetcher),
            Source::Discovery { url, fetcher } => (self.discover(url, fetcher).await?, fetcher),
        };
        let answer = fetcher.get(url.uri()).await?;
        let keys = KeySet::parse(&answer.body, &self.algorithms).map_err(|cause| RenewError::Keys(url.uri().clone(), cause))?;
        Ok((keys, answer.headers))
    }

    /// Where the issuer's metadata says that its keys are (OpenID Connect Discovery 1.0, sections 3 and 4.3).
    async fn discover(&self, url: &Url, fetcher: &Fetcher) -> Result<Url, RenewError> {
        #[derive(Deserialize)]
        struct Metadata {
            issuer: String,
            jwks_uri: String,
        }
        let answer = fetcher.get(url.uri()).await?;
        let metadata: Metadata = serde_json::from_slice(&answer.body).map_err(|error| RenewError::Metadata(url.uri().clone(), error))?;
        if metadata.issuer != *self.issuer {
            return Err(RenewError::Issuer(url.uri().clone(), super::fault::excerpt(&metadata.issuer)));
        }
        let refused = |why| RenewError::KeysUrl(super::fault::excerpt(&metadata.jwks_uri), why);
        let keys = Url::parse(&metadata.jwks_uri).map_err(refused)?;
        if url.is_https() && !keys.is_https() { Err(refused("is not `https`, as the issuer is")) } else { Ok(keys) }
    }

    pub(super) fn publish(&self, keys: KeySet) {
        let old = self.published.load_full();
        let epoch = old.map_or(0, |old| if keys.hold_all_of(&old.keys) { old.epoch } else { old.epoch.wrapping_add(1) });
        self.published.store(Some(Arc::new(Published { keys, epoch })));
    }
}

/// When a provider is asked again.
#[derive(Debug, Default)]
struct Schedule {
    /// How long to wait after the next failure; [`RETRY_MIN`] where the last attempt succeeded.
    retry: Option<Duration>,
    /// When an unknown key last caused a fetch.
    asked: Option<Instant>,
}

impl Schedule {
    fn succeeded(&mut self, headers: &HeaderMap) -> Duration {
        self.retry = None;
        let fresh = max_age(headers).unwrap_or(FRESH).clamp(FRESH_MIN, FRESH_MAX);
        // A tenth is left to chance, so that a fleet does not ask at once.
        fresh.mul_f64(fastrand::f64().mul_add(-0.1, 1.0))
    }

    fn failed(&mut self) -> Duration {
        let wait = self.retry.unwrap_or(RETRY_MIN);
        self.retry = Some((wait * 2).min(RETRY_MAX));
        wait
    }

    /// When an unknown key may cause a fetch again, where it may not at any time.
    fn unknown_allowed(&self) -> Option<Instant> {
        self.asked.map(|asked| asked + UNKNOWN_KEY)
    }
}

/// `max-age` of `Cache-Control` (RFC 9111, section 5.2.2.1); none where an answer has none, or one that is no number.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(','));
    let seconds = directives.find_map(|directive| {
        let (name, seconds) = directive.split_once('=')?;
        name.trim().eq_ignore_ascii_case("max-age").then(|| seconds.trim().trim_matches('"').parse().ok())?
    })?;
    Some(Duration::from_secs(seconds))
}

fn stamp(file: &Path) -> Option<FileStamp> {
    fs::metadata(file).ok().as_ref().map(FileStamp::of)
}

fn read_file(config: &KeySource, algorithms: &[Algorithm]) -> Result<KeySet, KeySetError> {
    match config {
        KeySource::Secret(file) => KeySet::read_secret(file, algorithms),
        KeySource::File(file) => KeySet::read(file, algorithms),
        KeySource::Url { .. } | KeySource::Discovery { .. } => Err(KeySetError::NoUsableKey { keys: 0, algorithms: algorithms.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cached(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CACHE_CONTROL, http::HeaderValue::from_static(value))])
    }

    #[test]
    fn keys_are_fresh_as_long_as_the_provider_says_within_bounds() {
        let minute = Duration::from_mins(1);
        for (said, fresh) in [
            ("", FRESH),
            ("no-cache", FRESH),
            ("max-age=abc", FRESH),
            ("max-age=-1", FRESH),
            ("max-age=99999999999999999999999", FRESH),
            ("max-age=0", minute),
            ("public, max-age=19800, must-revalidate", minute * 330),
            ("MAX-AGE = \"900\"", minute * 15),
            ("max-age=18446744073709551615", FRESH_MAX),
        ] {
            let wait = Schedule::default().succeeded(&cached(said));
            assert!(wait <= fresh && wait >= fresh.mul_f64(0.9), "{said}: {wait:?}");
        }
    }

    #[test]
    fn a_provider_that_is_down_is_asked_ever_more_slowly() {
        let mut schedule = Schedule::default();
        let waits: Vec<_> = (0..9).map(|_| schedule.failed().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        schedule.succeeded(&HeaderMap::new());
        assert_eq!(schedule.failed(), RETRY_MIN);
    }

    #[tokio::test]
    async fn unknown_keys_cause_one_fetch_in_half_a_minute() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.unknown_allowed(), None, "at once");
        let now = Instant::now();
        schedule.asked = Some(now);
        schedule.succeeded(&HeaderMap::new());
        assert_eq!(schedule.unknown_allowed(), Some(now + Duration::from_secs(30)));
    }
}
