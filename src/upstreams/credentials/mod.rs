//! The gateway's own AWS credentials: fetched in the background, renewed before they expire, published without a lock.
//!
//! Invariant: what an upstream's role is for is never signed with what the role was assumed with. No session, no call.

mod base;
mod error;
mod files;
mod renewal;
mod session;
mod sessions;
mod sts;
mod tags;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;

use self::base::Base;
use self::renewal::{Backoff, renewal, until};
use self::sessions::Sessions;
use self::sts::Sts;
use self::tags::Tags;
use crate::config::upstreams::{Credentials as Config, Upstream};
use crate::domain::{Clock, Principal, Secret};

pub use self::error::{CredentialError, NoKeys};

/// One set of AWS credentials.
#[derive(Debug, PartialEq, Eq)]
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

impl Keys {
    /// Whether AWS still takes them at `now`.
    fn last_beyond(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// What happened to the credentials of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// There are some, up to then where they expire.
    There(Option<SystemTime>),
    /// There are none, and this is why: for operators.
    Missing(String),
    /// STS was asked for a session.
    Asked(StsAnswer),
    /// So many sessions are held.
    Sessions(usize),
}

/// How a question to STS ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StsAnswer {
    /// With a session.
    Granted,
    /// With a no.
    Refused,
    /// Without an answer, or with one that can't be used.
    Unreachable,
    /// It was not asked: there is nothing to ask with.
    Unasked,
}

impl StsAnswer {
    fn of(found: &Result<Keys, NoKeys>) -> Self {
        match found {
            Ok(_) => Self::Granted,
            Err(NoKeys::Refused(_)) => Self::Refused,
            Err(NoKeys::NoBase) => Self::Unasked,
            Err(NoKeys::Unreachable(_) | NoKeys::Missing | NoKeys::Late | NoKeys::Full) => Self::Unreachable,
        }
    }
}

/// The credentials of one upstream, as of now. Empty until they have been fetched, and again once they have expired unrenewed.
#[derive(Debug)]
pub struct Credentials {
    upstream: Arc<str>,
    base: Arc<Base>,
    signs: Signs,
}

/// What calls are signed with.
#[derive(Debug)]
enum Signs {
    Base,
    /// One session of a role, for all callers.
    Session {
        sts: Arc<Sts>,
        keys: ArcSwapOption<Keys>,
    },
    /// A session of a role for each set of tags.
    Sessions {
        sts: Arc<Sts>,
        sessions: Arc<Sessions>,
    },
}

impl Credentials {
    /// Prepares the credentials of an upstream. Fixed ones are there at once; all others are asked for by [`Self::keep_fresh`].
    ///
    /// # Errors
    /// Where a key file can't be read, is empty or is larger than 16 KiB.
    pub fn build(config: &Upstream) -> Result<Self, CredentialError> {
        let upstream = Arc::clone(&config.name);
        let role = match &config.credentials {
            Config::Base(base) => {
                return Ok(Self { upstream, base: Arc::new(Base::build(base, config)?), signs: Signs::Base });
            }
            Config::Role(role) => role,
        };
        let base = Arc::new(Base::build(&role.from, config)?);
        let sts = Arc::new(Sts::new(role.as_ref().clone(), config, Arc::clone(&base)));
        let signs = if role.session_tags.is_empty() {
            Signs::Session { sts, keys: ArcSwapOption::empty() }
        } else {
            let tags = Tags::new(role.session_tags.clone());
            Signs::Sessions { sts, sessions: Arc::new(Sessions::new(Arc::clone(&upstream), tags)) }
        };
        Ok(Self { upstream, base, signs })
    }

    /// Whether both, of the same configuration, were read alike: from a source that is asked later, or as the same fixed keys.
    pub(super) fn reads_as(&self, other: &Self) -> bool {
        self.base.reads_as(&other.base)
    }

    /// The keys that sign for every caller at `now`, where there are any that AWS still takes. None where each caller has a session of its own: see
    /// [`Self::keys`].
    #[must_use]
    pub fn current(&self, now: SystemTime) -> Option<Arc<Keys>> {
        match &self.signs {
            Signs::Base => self.base.current(now),
            Signs::Session { keys, .. } => keys.load_full().filter(|keys| keys.last_beyond(now)),
            Signs::Sessions { .. } => None,
        }
    }

    /// The keys to sign a call of `principal` with at `now`. Where its session is there, or there is but one for all, this does not wait; else for 5 s at
    /// most, while [`Self::keep_fresh`] runs.
    ///
    /// # Errors
    /// [`NoKeys`]: the call can't be made. It is never made with other keys.
    pub async fn keys(&self, principal: &Principal, now: SystemTime) -> Result<Arc<Keys>, NoKeys> {
        match &self.signs {
            Signs::Base | Signs::Session { .. } => self.current(now).ok_or(NoKeys::Missing),
            Signs::Sessions { sessions, .. } => sessions.keys(sessions.tags().who(principal), now).await,
        }
    }

    /// Fetches what is needed and renews it before it expires, for ever; `told` hears of every change. The last good keys stay until they expire.
    ///
    /// Of an upstream whose callers have sessions of their own, it is the credentials to ask STS with that are told to be there: which sessions will be
    /// wanted is not known before a call comes.
    pub async fn keep_fresh(&self, clock: &Clock, told: impl Fn(News) + Send + Sync) {
        let of_base = |found| match found {
            Ok(expiry) => told(News::There(expiry)),
            Err(why) => told(News::Missing(why)),
        };
        match &self.signs {
            Signs::Base => self.base.keep_fresh(clock, of_base).await,
            Signs::Sessions { sts, sessions } => {
                let asker = sts.asker();
                tokio::join!(self.base.keep_fresh(clock, of_base), sessions.keep_fresh(&asker, clock, &told));
            }
            Signs::Session { sts, keys } => {
                let of_base = |found| {
                    if let Err(why) = found
                        && self.current(clock.wall()).is_none()
                    {
                        told(News::Missing(why));
                    }
                };
                tokio::join!(self.base.keep_fresh(clock, of_base), self.renew(sts, keys, clock, &told));
            }
        }
    }

    /// Keeps the one session of the role.
    async fn renew(&self, sts: &Arc<Sts>, keys: &ArcSwapOption<Keys>, clock: &Clock, told: impl Fn(News)) {
        let (asker, mut renewals, mut backoff) = (sts.asker(), self.base.renewals(), Backoff::default());
        loop {
            renewals.mark_unchanged();
            let found = asker.assume(std::iter::empty(), clock).await;
            told(News::Asked(StsAnswer::of(&found)));
            match found {
                Ok(found) => {
                    let expires = found.expires;
                    keys.store(Some(Arc::new(found)));
                    told(News::There(expires));
                    backoff = Backoff::default();
                    until(clock, renewal(expires, clock.wall())).await;
                }
                // Its own source says why.
                Err(NoKeys::NoBase) => drop(renewals.changed().await),
                Err(error) => {
                    tracing::warn!(upstream = %self.upstream, %error, "the role can't be assumed");
                    if self.current(clock.wall()).is_none() {
                        told(News::Missing(error.to_string()));
                    }
                    // With other credentials it may be another answer.
                    tokio::select! {
                        () = until(clock, backoff.next()) => {}
                        _ = renewals.changed() => {}
                    }
                }
            }
        }
    }
}
