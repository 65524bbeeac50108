//! The process: sockets, rooms and background tasks put together, changed while it runs, and taken apart again without losing a request.

mod bounds;
mod canaries;
mod drain;
mod entrances;
mod follow;
mod handover;
pub mod notify;
mod reload;
mod sockets;
mod tasks;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::bounds::files_needed;
pub use self::drain::Drain;
pub use self::follow::Source;
pub use self::reload::{Changes, ReloadError};
pub use self::sockets::{Sockets, SocketsError};

use self::entrances::Doors;
use self::reload::InForce;
use self::tasks::{Tended, What};
use crate::admin::{Admin, Asked, Condition, Readiness};
use crate::config::Config;
use crate::config::identity::Method;
use crate::config::limits::Bound;
use crate::config::listeners::Listener as ListenerConfig;
use crate::domain::Clock;
use crate::limits::{Now, Standing};
use crate::listeners::{Entrance, ListenError, Listener, Prepared};
use crate::proxy::Proxy;
use crate::record::{LimitLevel, QuotaLevel};
use crate::state::{self, BuildError, Live, Snapshot};

/// Exchanges that are cut are over at once; where one is not, its record is not waited for any longer.
const FALL: Duration = Duration::from_secs(2);

/// The condition that the gateway serves, and why it does not at its end.
const SERVING: &str = "serving";
const DRAINING: &str = "draining";

/// How often is looked whether all is over.
const LOOK: Duration = Duration::from_millis(5);

/// So many may ask for a reload while one goes on; more wait with their question.
const ASKING: usize = 8;

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration can't be put to work.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A socket can't be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A socket was passed that is not wanted.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
}

/// A gateway that runs. Dropping it ends its tasks at once; [`Running::leave`] ends them well.
pub struct Running {
    works: Arc<Works>,
}

/// What a gateway runs by, for itself and for its tasks.
struct Works {
    live: Arc<Live>,
    readiness: Readiness,
    serving: Condition,
    proxy: Proxy,
    page: Admin,
    admin: Entrance,
    doors: Arc<Mutex<Doors>>,
    sockets: Mutex<Sockets>,
    /// What follows from the configuration in force. Held while it changes: one reload at a time.
    in_force: tokio::sync::Mutex<InForce>,
    /// Where the configuration is from, once it is known.
    source: OnceLock<Source>,
    reloads: mpsc::Sender<Asked>,
    /// Ends the accepting of connections.
    stop: CancellationToken,
    /// Ends connections that have sent nothing yet.
    quit: CancellationToken,
    /// Ends everything: [`Live::over`].
    kill: CancellationToken,
    /// Tells operators' connections that no further request is wanted.
    shut: watch::Sender<bool>,
    connections: TaskTracker,
    background: TaskTracker,
}

impl Running {
    /// Builds every room, binds every socket, and begins to serve on the current runtime.
    ///
    /// # Errors
    /// [`StartError`]: nothing is served then.
    pub fn start(config: &Config, clock: Clock) -> Result<Self, StartError> {
        Self::start_on(Sockets::none(), config, clock)
    }

    /// The same with `sockets` in place of those that would be bound at their addresses.
    ///
    /// # Errors
    /// [`StartError`]; also where a socket has an address that the configuration has no listener at.
    pub fn start_on(sockets: Sockets, config: &Config, clock: Clock) -> Result<Self, StartError> {
        Self::begin(sockets, None, config, clock)
    }

    /// The same of the configuration that was loaded from `source`, which is loaded anew when it changes, and when that is asked for.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start_from(source: Source, sockets: Sockets, config: &Config, clock: Clock) -> Result<Self, StartError> {
        let file = source.file.clone();
        let running = Self::begin(sockets, Some(source), config, clock)?;
        running.works.watch(file);
        Ok(running)
    }

    fn begin(mut sockets: Sockets, source: Option<Source>, config: &Config, clock: Clock) -> Result<Self, StartError> {
        let live = Arc::new(Live::build(config, clock)?);
        let snapshot = Arc::new(Snapshot::build(config, &live)?);
        snapshot.restore(&live)?;
        let header_timeout = config.firewall.header_timeout;
        let mut listener = |config: &ListenerConfig| {
            let prepared = Prepared::read(config, header_timeout, None).map_err(ListenError::from)?;
            Listener::on(sockets.take(config.address)?, prepared)
        };
        let listeners = config.listeners.iter().map(|config| Ok((config.clone(), listener(config)?)));
        let listeners = listeners.collect::<Result<Vec<_>, ListenError>>()?;
        let admin = ListenerConfig { max_connections: bounds::ADMIN_CONNECTIONS, ..ListenerConfig::plain(config.admin.address) };
        let admin = listener(&admin)?;
        sockets.are_claimed()?;

        let readiness = Readiness::new();
        let serving = readiness.condition(SERVING);
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        let (reloads, asked) = mpsc::channel(ASKING);
        let page = Admin::new(&live, readiness.clone(), config).reloading(reloads.clone()).leaving(Arc::clone(&live));
        let works = Arc::new(Works {
            proxy: Proxy::new(Arc::clone(&snapshot), Arc::clone(&live), threads),
            readiness,
            serving,
            page: page.clone(),
            admin: admin.entrance().clone(),
            doors: Arc::default(),
            sockets: Mutex::new(sockets),
            in_force: tokio::sync::Mutex::new(InForce::new(config.clone(), Arc::clone(&snapshot))),
            // Known before anyone can ask for it.
            source: source.map_or_else(OnceLock::new, OnceLock::from),
            reloads,
            stop: CancellationToken::new(),
            quit: live.over.child_token(),
            kill: live.over.clone(),
            live,
            shut: watch::Sender::new(false),
            connections: TaskTracker::new(),
            background: TaskTracker::new(),
        });
        works.show(config, &snapshot);
        works.sample();
        works.keep_fresh();
        works.keep_stops_fresh();
        works.promote_canaries();
        works.listen_to_the_other();
        let tended: Vec<Tended> = What::all(&snapshot).into_iter().map(|what| works.tend(what)).collect();
        for tended in &tended {
            tended.says.begin(&works.readiness);
        }
        // Nobody else knows of it yet.
        if let Ok(mut in_force) = works.in_force.try_lock() {
            in_force.tended = tended;
        }
        works.accept_admin(page, admin);
        for (config, listener) in listeners {
            let open = works.accept(config, listener);
            works.doors.lock().open.push(open);
        }
        works.answer_reloads(asked);
        warn_of(config, &works.live);
        works.serving.met();
        Ok(Self { works })
    }

    /// Where clients are served, in the order of the configuration.
    #[must_use]
    pub fn listeners(&self) -> Vec<SocketAddr> {
        self.works.doors.lock().addresses()
    }

    /// Where operators are served.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.works.admin.address()
    }

    /// What must hold before traffic is sent here.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.works.readiness
    }

    /// What lives on: counts and time.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.works.live
    }

    /// How many tasks run in the background; connections are not among them.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.works.background.len()
    }

    /// Opens the access log anew, after a rotation.
    pub fn reopen_log(&self) {
        self.works.live.recorder.reopen();
    }

    /// Puts `config` in force in place of the one that is. Requests under way keep the rules that they began with, and what did not change lives on.
    ///
    /// # Errors
    /// [`ReloadError`]: nothing has changed then.
    pub async fn reload(&self, config: &Config) -> Result<Changes, ReloadError> {
        self.works.reload(config).await
    }

    /// From now on `file` is what the configuration is from: it is loaded anew when it changes, and when that is asked for.
    pub fn follow(&self, file: &Path) {
        if self.works.source.set(Source::file(file)).is_ok() {
            self.works.watch(file.to_path_buf());
        }
    }

    /// Asks for the file to be loaded anew, and does not wait for it.
    pub fn ask_reload(&self) {
        self.works.ask_reload();
    }
}

impl Works {
    /// Lets operators see which configuration is served, and how much its limits leave each caller.
    fn show(&self, config: &Config, snapshot: &Snapshot) {
        let live = &self.live;
        snapshot.policy.shadows().for_each(|rule| live.metrics.policy_shadow(rule));
        for rule in &config.limits {
            live.metrics.limit(&rule.name, rule.shadow, rule.cut, &rule.warn_at);
        }
        live.limits.store(Some(Arc::clone(&snapshot.limits)));
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
        live.canaries.follow(&snapshot.routes, live.now(), live.clock.wall());
        live.healths.follow(&config.upstreams);
        live.metrics.config_loaded(&config.version, live.clock.wall());
        self.page.show(config);
    }
}

/// Says what an operator should not overlook in a configuration that is served from now on.
fn warn_of(config: &Config, live: &Live) {
    if config.identity.iter().any(|method| matches!(method, Method::Anonymous(_))) {
        tracing::warn!("authorization is off for callers without a credential: `identity` has `anonymous`");
    }
    if !live.recorder.has_ledger() && config.limits.iter().any(|rule| matches!(rule.bound, Bound::Quota { .. })) {
        tracing::warn!("quotas begin anew at each start: name a file for them in gateway.yaml as `record.ledger`");
    }
    for route in config.routes.iter().filter(|_| !live.recorder.has_ledger()) {
        if route.places.to.iter().any(|target| target.promote.is_some()) {
            let route = &*route.name;
            tracing::warn!(
                route,
                "the canary begins anew at each start, even if it was stepped back: name a file for it as `record.ledger`"
            );
        }
    }
    match live.stops.all().len() {
        0 => {}
        stops => tracing::warn!(stops, "calls are stopped: `tollgate stop list` tells which"),
    }
}

/// Where someone stands, as the metrics have it.
fn level(Standing { rule, count, limit, used, held, reset, ends }: Standing) -> LimitLevel {
    LimitLevel { limit: rule, count: count.label(), scale: count.scale(), capacity: limit, used, held, reset, ends }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.works.stop.cancel();
        self.works.kill.cancel();
    }
}
