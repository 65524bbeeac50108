//! The listeners that serve: accepting, and letting go.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pingora::apps::ServerApp;
use pingora::apps::http_app::HttpServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Works;
use crate::admin::Admin;
use crate::config::listeners::Listener as Config;
use crate::listeners::{Connection, Entrance, Idleness, Listener, Prepared, Slots};
use crate::record::{CanaryShare, Level, UpstreamLevel};
use crate::routes::CanaryLevel;
use crate::upstreams::health::HealthLevel;

/// HTTP/1.1 has no word for a connection that waits between two requests and is to end. It is kept for so long, and the next request on it is answered with
/// `Connection: close`: closed at once, it would lose the request that its client sends at that moment. Clients under load use one again within
/// milliseconds; what is idle for longer is closed, as any server's keep-alive timeout would.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// How often is looked whether a connection that is to end carries a request.
const LOOK: Duration = Duration::from_millis(250);

/// A listener that serves.
pub(super) struct Open {
    /// What it was made by.
    pub(super) config: Config,
    pub(super) entrance: Entrance,
    /// Ends the accepting of connections.
    stop: CancellationToken,
    /// Tells its connections that no further request is wanted; those that wait between two of them end after [`GRACE`].
    pub(super) shutdown: watch::Sender<bool>,
    /// Ends the reading of certificate files.
    fresh: CancellationToken,
}

/// The listeners that serve, and what is left of those that did.
#[derive(Default)]
pub(super) struct Doors {
    pub(super) open: Vec<Open>,
    /// Connections of listeners that are gone.
    leaving: Vec<(Weak<Slots>, watch::Sender<bool>)>,
}

impl Doors {
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.open.iter().map(|open| open.entrance.address()).collect()
    }

    /// Tells every connection that no further request is wanted on it.
    pub(super) fn shut(&self) {
        for shutdown in self.open.iter().map(|open| &open.shutdown).chain(self.leaving.iter().map(|(_, shutdown)| shutdown)) {
            shutdown.send_replace(true);
        }
    }

    /// Lets a listener go: it accepts no more, what its connections carry ends well, and then they do.
    pub(super) fn leave(&mut self, open: Open) {
        tracing::info!(address = %open.entrance.address(), "no longer listening");
        open.stop.cancel();
        open.fresh.cancel();
        open.shutdown.send_replace(true);
        self.leaving.retain(|(slots, _)| slots.strong_count() > 0);
        self.leaving.push((Arc::downgrade(open.entrance.slots()), open.shutdown));
    }

    fn connections(&self) -> u64 {
        let open: u64 = self.open.iter().map(|open| open.entrance.slots().open()).sum();
        open + self.leaving.iter().filter_map(|(slots, _)| slots.upgrade()).map(|slots| slots.open()).sum::<u64>()
    }
}

impl Works {
    /// Begins to serve at a listener that was made by `config`.
    pub(super) fn accept(&self, config: Config, mut listener: Listener) -> Open {
        let entrance = listener.entrance().clone();
        let (shutdown, watch) = watch::channel(false);
        let open = Open { config, stop: self.stop.child_token(), shutdown, fresh: self.kill.child_token(), entrance };
        let metrics = Arc::clone(&self.live.metrics);
        if let Some(fresh) = listener.keep_fresh(move |what| metrics.certificates(what)) {
            self.spawn_until(open.fresh.clone(), fresh);
        }
        let (proxy, kill) = (self.proxy.clone(), self.kill.clone());
        let handle = move |connection: Connection| {
            let (proxy, watch, kill) = (proxy.clone(), watch.clone(), kill.clone());
            let idleness = connection.idleness();
            async move {
                tokio::select! {
                    // First: a request that is there is seen before its connection is taken for idle.
                    biased;
                    () = proxy.serve(connection, &watch) => {}
                    () = kill.cancelled() => {}
                    () = idle_to_the_end(watch.clone(), idleness) => {}
                }
            }
        };
        tracing::info!(address = %open.entrance.address(), tls = open.entrance.is_tls(), "listening");
        let metrics = Arc::clone(&self.live.metrics);
        let tell = move |why| metrics.turned_away(why);
        self.background.spawn(listener.serve(Arc::new(handle), tell, self.connections.clone(), open.stop.clone(), self.quit.clone()));
        open
    }

    /// Has a listener receive connections by `config` from now on, on its socket.
    pub(super) fn change(&self, open: &mut Open, config: Config, prepared: Prepared) {
        let metrics = Arc::clone(&self.live.metrics);
        let other_tls = open.entrance.has_other_tls(&prepared);
        let fresh = open.entrance.change(prepared, move |what| metrics.certificates(what));
        if other_tls {
            open.fresh.cancel();
            open.fresh = self.kill.child_token();
        }
        if let Some(fresh) = fresh {
            self.spawn_until(open.fresh.clone(), fresh);
        }
        open.config = config;
    }

    /// The admin listener answers until the very end, so that a drain can be watched.
    pub(super) fn accept_admin(&self, admin: Admin, listener: Listener) {
        let (app, kill) = (Arc::new(HttpServer::new_app(admin)), self.kill.clone());
        let watch = self.shut.subscribe();
        let address = listener.entrance().address();
        let handle = move |connection: Connection| {
            let (app, watch, kill) = (Arc::clone(&app), watch.clone(), kill.clone());
            async move {
                tokio::select! {
                    _ = app.process_new(Box::new(connection), &watch) => {}
                    () = kill.cancelled() => {}
                }
            }
        };
        tracing::info!(%address, "admin listening");
        self.background.spawn(listener.serve(Arc::new(handle), |_| {}, self.background.clone(), self.kill.clone(), self.kill.clone()));
    }

    /// Has levels asked for at each scrape.
    pub(super) fn sample(&self) {
        let doors = Arc::clone(&self.doors);
        self.live.metrics.sample(Level::ClientConnections, move || doors.lock().connections());
        let bodies = Arc::clone(&self.live.bodies);
        self.live.metrics.sample(Level::BodiesHeld, move || bodies.held());
        let buckets = Arc::clone(&self.live.buckets);
        self.live.metrics.sample(Level::LimitBuckets, move || u64::try_from(buckets.len()).unwrap_or(u64::MAX));
        let buckets = Arc::clone(&self.live.buckets);
        self.live.metrics.sample(Level::LimitOverflow, move || buckets.overflowed());
        let buckets = Arc::clone(&self.live.buckets);
        self.live.metrics.sample(Level::LimitWaiting, move || buckets.waiting());
        let (healths, clock) = (Arc::clone(&self.live.healths), self.live.clock.clone());
        self.live.metrics.health(move || {
            let level = |HealthLevel { upstream, ejected, throttled, ejections }| UpstreamLevel { upstream, ejected, throttled, ejections };
            healths.levels(clock.monotonic()).into_iter().map(level).collect()
        });
        let (canaries, clock) = (Arc::clone(&self.live.canaries), self.live.clock.clone());
        self.live.metrics.canaries(move || {
            let share = |CanaryLevel { route, target, share, ups, backs, .. }| CanaryShare { route, target, share, ups, backs };
            canaries.levels(clock.monotonic()).into_iter().map(share).collect()
        });
    }
}

/// Returns once no further request is wanted on a connection, and for [`GRACE`] it has carried none.
async fn idle_to_the_end(mut shutdown: watch::Receiver<bool>, idleness: Idleness) {
    // Whose sender is gone is told nothing any more.
    if shutdown.wait_for(|shut| *shut).await.is_err() {
        return std::future::pending().await;
    }
    let mut idle = Duration::ZERO;
    while idle < GRACE {
        tokio::time::sleep(LOOK).await;
        idle = if idleness.is_idle() { idle + LOOK } else { Duration::ZERO };
    }
}
