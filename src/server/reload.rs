//! A configuration in place of another, while requests go on.
//!
//! Everything that can fail comes first, and changes nothing: files are read, rooms are built, addresses are bound, and what is new proves that it can be
//! had (credentials, the keys of an issuer). Then all of it takes its place at once, and nothing of that can fail.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::tasks::{Tended, What};
use super::{Works, warn_of};
use crate::config::listeners::Listener as ListenerConfig;
use crate::config::{AllFates, Config, Difference, Fates, Faults};
use crate::domain::Quota;
use crate::limits::Now;
use crate::listeners::{Entrance, ListenError, Listener, Prepared};
use crate::record::RecordError;
use crate::state::{Before, BuildError, Snapshot};

/// So long may it take to have what is new. AWS's default provider chain asks its sources one after another, each for a second or two.
const WARM: Duration = Duration::from_secs(5);

/// How often is looked whether it is there.
const LOOK: Duration = Duration::from_millis(10);

/// Why a configuration was not put in force. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file has faults.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// Something is different that can't change while the gateway runs.
    #[error("these can't change while the gateway runs; restart it: {}", .0.join(", "))]
    Restart(Vec<String>),
    /// The configuration can't be put to work.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A socket or its certificates can't be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// What is new could not be had in time.
    #[error("{what} can't be had: {why}")]
    Cold {
        /// The credentials of an upstream, or the keys of an issuer.
        what: String,
        /// Why.
        why: String,
    },
    /// The gateway is about to end.
    #[error("the gateway drains, and reloads no more")]
    Draining,
    /// The gateway's configuration is from no file.
    #[error("the gateway was not started from a file, so there is none to load anew")]
    NoFile,
    /// A thread that was to build something panicked.
    #[error("the reload broke off; see the log")]
    Broken,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Which configuration is in force: the first twelve digits of its SHA-256.
    pub version: String,
    /// Whether it says anything else than the one before, or was put together of other files.
    pub changed: bool,
    /// What it says otherwise than the one before.
    pub differences: Vec<Difference>,
    /// What became of everything that has a name.
    #[serde(flatten)]
    pub fates: AllFates,
}

/// What follows from the configuration in force.
pub(super) struct InForce {
    pub(super) config: Arc<Config>,
    snapshot: Arc<Snapshot>,
    pub(super) tended: Vec<Tended>,
}

impl InForce {
    pub(super) fn new(config: Config, snapshot: Arc<Snapshot>) -> Self {
        Self { config: Arc::new(config), snapshot, tended: Vec::new() }
    }
}

/// All that a configuration needs, not in force yet.
struct Built {
    config: Arc<Config>,
    snapshot: Arc<Snapshot>,
    /// For each listener of the configuration.
    ways: Vec<Way>,
    admin: Prepared,
    /// What had been used of quotas whose rules are new.
    lost: Vec<Quota>,
}

/// How a listener comes to be.
enum Way {
    /// By the one at this place, which is told how to receive from now on; nothing where it goes on untouched.
    Known(usize, Option<Prepared>),
    New(Listener),
}

impl Works {
    pub(super) async fn reload(self: &Arc<Self>, config: &Config) -> Result<Changes, ReloadError> {
        let mut in_force = self.in_force.lock().await;
        if self.stop.is_cancelled() {
            return Err(ReloadError::Draining);
        }
        let frozen = in_force.config.frozen(config);
        if !frozen.is_empty() {
            return Err(ReloadError::Restart(frozen));
        }
        let (works, old, snapshot) = (Arc::clone(self), Arc::clone(&in_force.config), Arc::clone(&in_force.snapshot));
        let new = Arc::new(config.clone());
        // Disks are waited for.
        let built = tokio::task::spawn_blocking(move || works.build(new, &Before { config: &old, snapshot: &snapshot }));
        let built = built.await.map_err(|_panic| ReloadError::Broken)??;

        let is_known = |what: &What| in_force.tended.iter().any(|tended| tended.what.is(what));
        let fresh = What::all(&built.snapshot).into_iter().filter(|what| !is_known(what)).map(|what| self.tend(what)).collect::<Vec<_>>();
        warm(&fresh).await?;
        if let Some(book) = self.live.grant_book.clone() {
            let config = Arc::clone(&built.config);
            let opened = tokio::task::spawn_blocking(move || book.open(&config.limits)).await.map_err(|_panic| ReloadError::Broken)?;
            opened.map_err(|error| BuildError::from(RecordError::from(error)))?;
        }
        Ok(self.put_in_force(&mut in_force, built, fresh))
    }

    /// Builds all that `config` needs. Nothing is changed by it.
    fn build(&self, config: Arc<Config>, before: &Before<'_>) -> Result<Built, ReloadError> {
        let snapshot = Arc::new(Snapshot::rebuild(&config, &self.live, *before)?);
        let lost = Snapshot::lost(&config, &self.live, before.config)?;
        let header_timeout = config.firewall.header_timeout;
        let same_timeout = header_timeout == before.config.firewall.header_timeout;
        let (old, new) = (before.config.addresses(), config.addresses());
        let entrances: Vec<(ListenerConfig, Entrance)> =
            self.doors.lock().open.iter().map(|open| (open.config.clone(), open.entrance.clone())).collect();
        let way = |(listener, name): (&ListenerConfig, &String)| {
            let known = old.iter().position(|known| known == name).and_then(|at| Some((at, entrances.get(at)?)));
            match known {
                Some((at, (before, _))) if before == listener && same_timeout => Ok(Way::Known(at, None)),
                Some((at, (_, entrance))) => Ok(Way::Known(at, Some(Prepared::read(listener, header_timeout, Some(entrance))?))),
                None => {
                    let prepared = Prepared::read(listener, header_timeout, None)?;
                    let socket = self.sockets.lock().take(listener.address)?;
                    Ok(Way::New(Listener::on(socket, prepared)?))
                }
            }
        };
        let ways = config.listeners.iter().zip(&new).map(way).collect::<Result<Vec<_>, ListenError>>()?;
        let admin = Prepared::read(&ListenerConfig::plain(config.admin.address), header_timeout, None).map_err(ListenError::from)?;
        Ok(Built { config, snapshot, ways, admin, lost })
    }

    /// From here on nothing fails.
    fn put_in_force(&self, in_force: &mut InForce, built: Built, fresh: Vec<Tended>) -> Changes {
        let Built { config, snapshot, ways, admin, lost } = built;
        let changes = changes(in_force, &config, &snapshot);

        snapshot.limits.restore_new(lost, Now::of(&self.live.clock));
        self.live.bodies.set_bound(config.firewall.body_memory);
        self.live.mirrors.set_body_memory(config.firewall.body_memory);
        self.live.requests.set_bound(config.firewall.max_requests);
        self.proxy.swap(Arc::clone(&snapshot));

        let all = What::all(&snapshot);
        // Before what is new is told of: it may go by the same name.
        in_force.tended.retain(|tended| all.iter().any(|what| what.is(&tended.what)));
        for tended in &fresh {
            tended.says.begin(&self.readiness);
        }
        in_force.tended.extend(fresh);

        drop(self.admin.change(admin, |_| {}));
        let mut doors = self.doors.lock();
        let mut open: Vec<_> = doors.open.drain(..).map(Some).collect();
        for (listener, way) in config.listeners.iter().zip(ways) {
            let next = match way {
                Way::New(new) => Some(self.accept(listener.clone(), new)),
                Way::Known(at, prepared) => {
                    let mut known = open.get_mut(at).and_then(Option::take);
                    if let (Some(known), Some(prepared)) = (&mut known, prepared) {
                        self.change(known, listener.clone(), prepared);
                    }
                    known
                }
            };
            doors.open.extend(next);
        }
        for gone in open.into_iter().flatten() {
            doors.leave(gone);
        }
        drop(doors);

        self.show(&config, &snapshot);
        warn_of(&config, &self.live);
        (in_force.config, in_force.snapshot) = (config, snapshot);
        changes
    }
}

/// Waits until all of it is there.
async fn warm(fresh: &[Tended]) -> Result<(), ReloadError> {
    let lacking = || fresh.iter().find_map(|tended| Some((tended.what.condition()?, tended.says.lacks()?)));
    let there = async {
        while lacking().is_some() {
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(WARM, there).await {
        Ok(()) => Ok(()),
        Err(_) => lacking().map_or(Ok(()), |(what, why)| Err(ReloadError::Cold { what, why })),
    }
}

fn changes(in_force: &InForce, config: &Config, snapshot: &Snapshot) -> Changes {
    let (old, before) = (&*in_force.config, &*in_force.snapshot);
    let mut fates = old.fates(config);
    let names = |config: &Config| config.upstreams.iter().map(|upstream| upstream.name.to_string()).collect::<Vec<_>>();
    let (old_names, new_names) = (names(old), names(config));
    // What its files say counts, too.
    fates.upstreams = Fates::of(&old_names, &new_names, |_, at| {
        let of = |snapshot: &Snapshot| new_names.get(at).and_then(|name| snapshot.upstreams.named(name).cloned());
        of(before).zip(of(snapshot)).is_some_and(|(one, other)| Arc::ptr_eq(&one, &other))
    });
    let differences = old.differences(config);
    let same_files = fates.upstreams.is_same() && Arc::ptr_eq(&before.identity, &snapshot.identity);
    Changes { version: config.version.clone(), changed: !differences.is_empty() || !same_files, differences, fates }
}
