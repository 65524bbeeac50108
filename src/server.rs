//! The process: sockets, rooms and background tasks put together, and taken apart again without losing a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::ServerApp;
use pingora::apps::http_app::HttpServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, Condition, Readiness, credentials_of};
use crate::config::Config;
use crate::config::identity::Method;
use crate::config::limits::Bound;
use crate::config::listeners::Listener as ListenerConfig;
use crate::domain::Clock;
use crate::identity::{IssuedKeys, Look};
use crate::identity::{Keyring, Renewal};
use crate::limits::{Now, Standing};
use crate::listeners::{Connection, ListenError, Listener, Slots};
use crate::proxy::Proxy;
use crate::record::{KeyFetch, Level, LimitLevel, QuotaLevel};
use crate::state::{self, BuildError, Live, Snapshot};
use crate::upstreams::{Addresses, REFRESH, Upstream};

/// Exchanges that are cut are over at once; where one is not, its record is not waited for any longer.
const FALL: Duration = Duration::from_secs(2);

/// How often is looked whether all is over.
const LOOK: Duration = Duration::from_millis(5);

/// Idle full buckets are looked for so often.
const SWEEP: Duration = Duration::from_secs(10);

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration can't be put to work.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A socket can't be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// A gateway that runs. Dropping it ends its tasks at once; [`Running::drain`] ends them well.
pub struct Running {
    listeners: Vec<SocketAddr>,
    admin: SocketAddr,
    live: Arc<Live>,
    readiness: Readiness,
    serving: Condition,
    proxy: Proxy,
    /// Ends the accepting of connections.
    stop: CancellationToken,
    /// Ends everything: [`Live::over`].
    kill: CancellationToken,
    /// Tells connections that no further request is wanted.
    shutdown: watch::Sender<bool>,
    connections: TaskTracker,
    background: TaskTracker,
}

impl Running {
    /// Builds every room, binds every socket, and begins to serve on the current runtime.
    ///
    /// # Errors
    /// [`StartError`]: nothing is served then.
    pub fn start(config: &Config, clock: Clock) -> Result<Self, StartError> {
        let live = Arc::new(Live::build(config, clock)?);
        let snapshot = Snapshot::build(config, &live)?;
        snapshot.restore(&live)?;
        let header_timeout = config.firewall.header_timeout;
        let bind = |listener| Listener::bind(listener, header_timeout);
        let listeners = config.listeners.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let admin = bind(&ListenerConfig::plain(config.admin.address))?;

        let readiness = Readiness::new();
        let serving = readiness.condition("serving");
        let (shutdown, watch) = watch::channel(false);
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        let upstreams: Vec<_> = snapshot.upstreams.all().cloned().collect();
        let issued: Vec<_> = snapshot.identity.issued().cloned().collect();
        let keyrings: Vec<_> = snapshot.identity.keyrings().cloned().collect();
        Self::show(config, &snapshot, &live);
        let running = Self {
            listeners: listeners.iter().map(Listener::address).collect(),
            admin: admin.address(),
            proxy: Proxy::new(snapshot, Arc::clone(&live), threads),
            readiness,
            serving,
            stop: CancellationToken::new(),
            kill: live.over.clone(),
            live,
            shutdown,
            connections: TaskTracker::new(),
            background: TaskTracker::new(),
        };
        running.sample(listeners.iter().map(|listener| Arc::clone(listener.slots())).collect());
        running.keep_fresh(&upstreams);
        running.keep_issued_keys_fresh(issued);
        for keys in keyrings {
            running.keep_keys_fresh(keys);
        }
        running.accept_admin(admin, config, watch.clone());
        for listener in listeners {
            running.accept(listener, watch.clone());
        }
        if config.identity.iter().any(|method| matches!(method, Method::Anonymous(_))) {
            tracing::warn!("authorization is off for callers without a credential: `identity` has `anonymous`");
        }
        if !running.live.recorder.has_ledger() && config.limits.iter().any(|rule| matches!(rule.bound, Bound::Quota { .. })) {
            tracing::warn!("quotas begin anew at each start: name a file for them in gateway.yaml as `record.ledger`");
        }
        running.serving.met();
        Ok(running)
    }

    /// Where clients are served, in the order of the configuration.
    #[must_use]
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// Where operators are served.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What must hold before traffic is sent here.
    #[must_use]
    pub const fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// What lives on: counts and time.
    #[must_use]
    pub const fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Opens the access log anew, after a rotation.
    pub fn reopen_log(&self) {
        self.live.recorder.reopen();
    }

    /// Stops accepting, lets what is under way end for at most `grace`, and cuts what is left.
    pub async fn drain(self, grace: Duration) {
        self.serving.unmet("draining");
        self.stop.cancel();

        self.shutdown.send_replace(true);
        self.proxy.close_idle().await;
        self.connections.close();
        if tokio::time::timeout(grace, self.idle()).await.is_err() {
            let (connections, exchanges) = (self.connections.len(), self.live.metrics.under_way());
            tracing::warn!(connections, exchanges, "cut what outlived the drain");
        }
        self.kill.cancel();
        self.background.close();
        self.background.wait().await;
        // What was cut is recorded as it falls.
        drop(tokio::time::timeout(FALL, self.idle()).await);
        let live = Arc::clone(&self.live);
        // It waits for a disk. A panic in it is its own report.
        drop(tokio::task::spawn_blocking(move || live.recorder.flush()).await);
    }

    /// Waits until no connection and no exchange is left: answers may outlive their clients' connections.
    async fn idle(&self) {
        self.connections.wait().await;
        while self.live.metrics.under_way() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Lets the metrics tell which configuration is served, and how much its limits leave each caller.
    fn show(config: &Config, snapshot: &Snapshot, live: &Live) {
        for rule in &config.limits {
            live.metrics.limit(&rule.name, rule.shadow, rule.cut, &rule.warn_at);
        }
        let (limits, clock) = (Arc::clone(&snapshot.limits), live.clock.clone());
        live.metrics.limits(move |subject| limits.standing(subject, Now::of(&clock)).into_iter().map(level).collect());
        for limit in snapshot.quotas.names() {
            live.metrics.limit(limit, false, false, &[]);
        }
        let (quotas, clock) = (snapshot.quotas.clone(), live.clock.clone());
        live.metrics.upstream_quotas(move || {
            let shown = |of: state::QuotaLevel| QuotaLevel { upstream: of.upstream, model: of.model, level: level(of.standing) };
            quotas.levels(Now::of(&clock)).into_iter().map(shown).collect()
        });
        live.metrics.config_loaded(&config.version, live.clock.wall());
    }

    fn sample(&self, listeners: Vec<Arc<Slots>>) {
        self.live.metrics.sample(Level::ClientConnections, move || listeners.iter().map(|slots| slots.open()).sum());
        let bodies = Arc::clone(&self.live.bodies);
        self.live.metrics.sample(Level::BodiesHeld, move || bodies.held());
        let buckets = Arc::clone(&self.live.buckets);
        self.live.metrics.sample(Level::LimitBuckets, move || u64::try_from(buckets.len()).unwrap_or(u64::MAX));
        let buckets = Arc::clone(&self.live.buckets);
        self.live.metrics.sample(Level::LimitOverflow, move || buckets.overflowed());
        let buckets = Arc::clone(&self.live.buckets);
        self.live.metrics.sample(Level::LimitWaiting, move || buckets.waiting());
    }

    /// Runs `task` until everything ends.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let kill = self.kill.clone();
        self.background.spawn(async move {
            tokio::select! {
                () = kill.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Files of issued keys are read again when they change.
    fn keep_issued_keys_fresh(&self, files: Vec<Arc<IssuedKeys>>) {
        for keys in files {
            let metrics = Arc::clone(&self.live.metrics);
            self.spawn(keys.keep_fresh(move |look| {
                if look == Look::Refused {
                    metrics.issued_keys_refused();
                }
            }));
        }
    }

    /// Credentials and addresses renew themselves; idle buckets are let go.
    fn keep_fresh(&self, upstreams: &[Arc<Upstream>]) {
        for upstream in upstreams {
            let credentials = self.readiness.condition(credentials_of(&upstream.name));
            credentials.unmet("not fetched yet");
            let (live, upstream) = (Arc::clone(&self.live), Arc::clone(upstream));
            self.spawn(async move {
                let told = |found| match found {
                    Ok(expiry) => {
                        live.metrics.set_credential_expiry(&upstream.name, expiry);
                        credentials.met();
                    }
                    Err(why) => credentials.unmet(why),
                };
                upstream.credentials.keep_fresh(&live.clock, told).await;
            });
        }
        let addresses: Vec<Arc<Addresses>> =
            upstreams.iter().flat_map(|upstream| upstream.endpoints()).map(|(_, endpoint)| Arc::clone(&endpoint.addresses)).collect();
        self.spawn(async move {
            loop {
                tokio::time::sleep(REFRESH).await;
                for addresses in &addresses {
                    addresses.refresh_if_used().await;
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

    /// The keys of an issuer of tokens renew themselves. Only keys that were never there make the gateway unready: old ones still verify.
    fn keep_keys_fresh(&self, keys: Arc<Keyring>) {
        let remote = keys.is_remote().then(|| self.readiness.condition(format!("keys of issuer `{}`", keys.issuer())));
        if let Some(condition) = &remote {
            condition.unmet("not fetched yet");
        }
        let live = Arc::clone(&self.live);
        self.spawn(async move {
            let told = |renewal| {
                let outcome = match &renewal {
                    Renewal::Fresh => KeyFetch::Fresh,
                    Renewal::Unreachable(_) => KeyFetch::Unreachable,
                    Renewal::Unusable(_) => KeyFetch::Unusable,
                };
                live.metrics.key_fetch(keys.issuer(), outcome);
                match (renewal, &remote) {
                    (Renewal::Fresh, Some(condition)) => {
                        live.metrics.set_keys_fetched(keys.issuer(), Some(live.clock.wall()));
                        condition.met();
                    }
                    (Renewal::Unreachable(why) | Renewal::Unusable(why), Some(condition)) if !keys.is_there() => condition.unmet(why),
                    _ => {}
                }
            };
            keys.keep_fresh(told).await;
        });
    }

    fn accept(&self, mut listener: Listener, shutdown: watch::Receiver<bool>) {
        let live = Arc::clone(&self.live);
        if let Some(fresh) = listener.keep_fresh(move |what| live.metrics.certificates(what)) {
            self.spawn(fresh);
        }
        let (proxy, kill) = (self.proxy.clone(), self.kill.clone());
        let handle = move |connection: Connection| {
            let (proxy, shutdown, kill) = (proxy.clone(), shutdown.clone(), kill.clone());
            async move {
                tokio::select! {
                    () = proxy.serve(connection, &shutdown) => {}
                    () = kill.cancelled() => {}
                }
            }
        };
        tracing::info!(address = %listener.address(), tls = listener.is_tls(), "listening");
        let live = Arc::clone(&self.live);
        let tell = move |why| live.metrics.turned_away(why);
        self.background.spawn(listener.serve(Arc::new(handle), tell, self.connections.clone(), self.stop.clone()));
    }

    /// The admin listener answers until the very end, so that a drain can be watched.
    fn accept_admin(&self, listener: Listener, config: &Config, shutdown: watch::Receiver<bool>) {
        let admin = Admin::new(Arc::clone(&self.live.metrics), self.readiness.clone(), self.live.clock.clone(), config)
            .granting(self.live.grant_book.clone());
        let (app, kill) = (Arc::new(HttpServer::new_app(admin)), self.kill.clone());
        let handle = move |connection: Connection| {
            let (app, shutdown, kill) = (Arc::clone(&app), shutdown.clone(), kill.clone());
            async move {
                tokio::select! {
                    _ = app.process_new(Box::new(connection), &shutdown) => {}
                    () = kill.cancelled() => {}
                }
            }
        };
        tracing::info!(address = %listener.address(), "admin listening");
        self.background.spawn(listener.serve(Arc::new(handle), |_| {}, self.background.clone(), self.kill.clone()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        self.kill.cancel();
    }
}

/// Where someone stands, as the metrics have it.
fn level(Standing { rule, count, limit, used, held, reset, ends }: Standing) -> LimitLevel {
    LimitLevel { limit: rule, count: count.label(), scale: count.scale(), capacity: limit, used, held, reset, ends }
}
