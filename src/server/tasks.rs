//! What keeps itself fresh in the background, and what it says of readiness.
//!
//! A task belongs to a thing (credentials, keys), not to a configuration: it goes on while the thing lives on. Dropping its [`Tended`] ends it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Works, canaries};
use crate::admin::{Condition, Readiness, credentials_of};
use crate::identity::{IssuedKeys, Keyring, Look, Renewal};
use crate::record::{KeyFetch, Metrics, StsCall};
use crate::state::Snapshot;
use crate::upstreams::{Credentials, News, REFRESH, StsAnswer};

/// So often is looked what the ledger has as stopped: what another process stops ends within a second, its streams included.
const LOOK_AT_STOPS: Duration = Duration::from_millis(500);

/// Idle full buckets are looked for so often.
const SWEEP: Duration = Duration::from_secs(10);

/// What keeps itself fresh.
#[derive(Clone)]
pub(super) enum What {
    /// The credentials of the upstream of this name.
    Credentials(Arc<str>, Arc<Credentials>),
    /// The keys of an issuer of tokens.
    Keys(Arc<Keyring>),
    /// A file of issued keys.
    Issued(Arc<IssuedKeys>),
}

/// A task that keeps something fresh.
pub(super) struct Tended {
    pub(super) what: What,
    pub(super) says: Arc<Says>,
    stop: CancellationToken,
}

/// What a task says: to operators, from when it is told of.
pub(super) struct Says {
    what: What,
    metrics: Arc<Metrics>,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    /// None before it is told of, and after.
    condition: Option<Condition>,
    /// When what there is expires or was had; or why there is nothing. None before the first attempt ended.
    last: Option<Result<Option<SystemTime>, String>>,
}

impl What {
    /// Everything in a snapshot that keeps itself fresh.
    pub(super) fn all(snapshot: &Snapshot) -> Vec<Self> {
        let credentials =
            snapshot.upstreams.all().map(|upstream| Self::Credentials(Arc::clone(&upstream.name), Arc::clone(&upstream.credentials)));
        let keys = snapshot.identity.keyrings().cloned().map(Self::Keys);
        let issued = snapshot.identity.issued().cloned().map(Self::Issued);
        credentials.chain(keys).chain(issued).collect()
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Credentials(_, one), Self::Credentials(_, other)) => Arc::ptr_eq(one, other),
            (Self::Keys(one), Self::Keys(other)) => Arc::ptr_eq(one, other),
            (Self::Issued(one), Self::Issued(other)) => Arc::ptr_eq(one, other),
            (Self::Credentials(..) | Self::Keys(_) | Self::Issued(_), _) => false,
        }
    }

    /// The condition of readiness that it is, where it can be missing: what is in a file is there at once.
    pub(super) fn condition(&self) -> Option<String> {
        match self {
            Self::Credentials(upstream, _) => Some(credentials_of(upstream)),
            Self::Keys(keys) => keys.is_remote().then(|| format!("keys of issuer `{}`", keys.issuer())),
            Self::Issued(_) => None,
        }
    }
}

impl Says {
    fn new(what: What, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { what, metrics, said: Mutex::default() })
    }

    fn say(&self, what: Result<Option<SystemTime>, String>) {
        let mut said = self.said.lock();
        said.last = Some(what);
        self.publish(&said);
    }

    /// Why it is not there yet; none where it is, or is never missing.
    pub(super) fn lacks(&self) -> Option<String> {
        self.what.condition()?;
        match &self.said.lock().last {
            None => Some("not fetched yet".to_owned()),
            Some(Err(why)) => Some(why.clone()),
            Some(Ok(_)) => None,
        }
    }

    /// From now on operators are told what it says.
    pub(super) fn begin(&self, readiness: &Readiness) {
        let Some(name) = self.what.condition() else { return };
        let mut said = self.said.lock();
        said.condition = Some(match said.last {
            Some(Ok(_)) => readiness.met_condition(name),
            Some(Err(_)) | None => readiness.condition(name),
        });
        self.publish(&said);
    }

    /// From now on they are not: what it is about is no more.
    fn end(&self) {
        if let Some(condition) = self.said.lock().condition.take() {
            condition.retire();
            self.expires(None);
        }
    }

    fn publish(&self, said: &Said) {
        let Some(condition) = &said.condition else { return };
        match &said.last {
            None => condition.unmet("not fetched yet"),
            Some(Err(why)) => condition.unmet(why.clone()),
            Some(Ok(time)) => {
                self.expires(*time);
                condition.met();
            }
        }
    }

    fn expires(&self, time: Option<SystemTime>) {
        match &self.what {
            What::Credentials(upstream, _) => self.metrics.set_credential_expiry(upstream, time),
            What::Keys(keys) => self.metrics.set_keys_fetched(keys.issuer(), time),
            What::Issued(_) => {}
        }
    }
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.stop.cancel();
        self.says.end();
    }
}

impl Works {
    /// Keeps something fresh from now on. Nobody is told of it before [`Says::begin`].
    pub(super) fn tend(&self, what: What) -> Tended {
        let stop = self.kill.child_token();
        let says = Says::new(what.clone(), Arc::clone(&self.live.metrics));
        let (live, told) = (Arc::clone(&self.live), Arc::clone(&says));
        let tended = what.clone();
        self.spawn_until(stop.clone(), async move {
            match what {
                What::Credentials(upstream, credentials) => {
                    let metrics = Arc::clone(&live.metrics);
                    let tell = |news| match news {
                        News::There(expires) => told.say(Ok(expires)),
                        News::Missing(why) => told.say(Err(why)),
                        News::Asked(StsAnswer::Granted) => metrics.sts_call(&upstream, StsCall::Granted),
                        News::Asked(StsAnswer::Refused) => metrics.sts_call(&upstream, StsCall::Refused),
                        News::Asked(StsAnswer::Unreachable) => metrics.sts_call(&upstream, StsCall::Unreachable),
                        News::Asked(StsAnswer::Unasked) => {}
                        News::Sessions(held) => metrics.set_sts_sessions(&upstream, held),
                    };
                    credentials.keep_fresh(&live.clock, tell).await;
                }
                What::Keys(keys) => keep_keys_fresh(&keys, &live, &told).await,
                What::Issued(keys) => {
                    let metrics = Arc::clone(&live.metrics);
                    let tell = move |look| {
                        if look == Look::Refused {
                            metrics.issued_keys_refused();
                        }
                    };
                    keys.keep_fresh(tell).await;
                }
            }
        });
        Tended { what: tended, says, stop }
    }

    /// Addresses renew themselves; idle buckets are let go.
    pub(super) fn keep_fresh(&self) {
        let proxy = self.proxy.clone();
        self.spawn(async move {
            loop {
                tokio::time::sleep(REFRESH).await;
                let snapshot = proxy.snapshot();
                for upstream in snapshot.upstreams.all() {
                    for (_, endpoint) in upstream.endpoints() {
                        endpoint.addresses.refresh_if_used().await;
                    }
                }
            }
        });
        let live = Arc::clone(&self.live);
        self.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                live.buckets.sweep(live.now());
            }
        });
    }

    /// What another process on the same ledger stops or lifts is so here, too: while one takes over from another there are two.
    pub(super) fn keep_stops_fresh(&self) {
        if !self.live.stop_book.keeps() {
            return;
        }
        let live = Arc::clone(&self.live);
        self.spawn(async move {
            let mut failing = false;
            loop {
                tokio::time::sleep(LOOK_AT_STOPS).await;
                let book = Arc::clone(&live.stop_book);
                // It waits for a disk. A panic in it is its own report.
                let Ok(looked) = tokio::task::spawn_blocking(move || book.refresh()).await else { continue };
                match &looked {
                    Ok(true) => tracing::warn!(stops = live.stops.all().len(), "what is stopped changed in the ledger"),
                    Err(error) if !failing => tracing::warn!(%error, "what is stopped can't be read from the ledger"),
                    Ok(false) | Err(_) => {}
                }
                failing = looked.is_err();
            }
        });
    }

    /// Canaries step up, and back.
    pub(super) fn promote_canaries(&self) {
        let live = Arc::clone(&self.live);
        self.spawn(async move { canaries::promote(&live).await });
    }

    /// Runs `task` until everything ends.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_until(self.kill.clone(), task);
    }

    pub(super) fn spawn_until(&self, stop: CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }
}

/// The keys of an issuer of tokens renew themselves. Only keys that were never there make the gateway unready: old ones still verify.
async fn keep_keys_fresh(keys: &Keyring, live: &crate::state::Live, says: &Says) {
    let told = |renewal| {
        let outcome = match &renewal {
            Renewal::Fresh => KeyFetch::Fresh,
            Renewal::Unreachable(_) => KeyFetch::Unreachable,
            Renewal::Unusable(_) => KeyFetch::Unusable,
        };
        live.metrics.key_fetch(keys.issuer(), outcome);
        match renewal {
            Renewal::Fresh => says.say(Ok(Some(live.clock.wall()))),
            Renewal::Unreachable(why) | Renewal::Unusable(why) if !keys.is_there() => says.say(Err(why)),
            Renewal::Unreachable(_) | Renewal::Unusable(_) => {}
        }
    };
    keys.keep_fresh(told).await;
}
