//! A session that stands in for the client's: an exchange gets one where it may go on without its client, must end before its upstream does
//! ([`cut`](super::cut)), may turn to another upstream after the head of an answer ([`failover`](super::failover)), or may be silent for long, so that
//! somebody must keep the time ([`watch`](super::watch)).
//!
//! Pingora 0.9.1 ends an exchange as soon as the client's side fails, on both HTTP versions and with no hook in between; and it has no hook that ends one
//! well. This session passes everything on while there is a client to hear it. After a client that may be outlived, it neither tells that the client left nor
//! writes. After the last word of an answer that is cut, it ends the client's body as it should end, and fails, so that the upstream is let go. Before the
//! exchange ends the client's own session is put back ([`reveal`]), so that a connection is kept as ever.

mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::{Error, Result};
use pingora_proxy::Session;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::exchange::Exchange;
use super::watch::{Watch, Whose};
use crate::config::routes::Timeouts;
use crate::record::InFlight;
use crate::routes::Route;
use crate::state::Live;

/// What an exchange and the session that stands in for its client's tell each other.
#[derive(Default)]
pub(super) struct Signals {
    left: AtomicBool,
    cut: AtomicBool,
    /// What the upstream says is held back.
    holds: AtomicBool,
    /// Another try has begun: what is held is nobody's.
    anew: Mutex<Option<Whose>>,
    /// Between two tries: nothing is waited for that takes its time.
    rests: AtomicBool,
    /// In the middle of an event.
    within: AtomicBool,
    /// The client's own session, on its way back.
    revealed: Mutex<Option<ServerSession>>,
}

impl Signals {
    /// Whether the client has left while its answer is read on.
    pub(super) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// What is written next is the end of the answer.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// From now on, or no longer, what the upstream says is held back.
    pub(super) fn hold(&self, held: bool) {
        self.holds.store(held, Ordering::Relaxed);
    }

    /// Whether what the upstream says is held back.
    pub(super) fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    /// A try was given up, and the next has not begun: it may have to wait for its turn.
    pub(super) fn rest(&self) {
        self.rests.store(true, Ordering::Relaxed);
    }

    /// Another try begins.
    pub(super) fn begin_anew(&self, whose: Whose) {
        self.rests.store(false, Ordering::Relaxed);
        self.hold(false);
        *self.anew.lock() = Some(whose);
    }

    /// Whether what was passed on ends in the middle of an event, behind which nothing else may stand.
    pub(super) fn set_within_event(&self, within: bool) {
        self.within.store(within, Ordering::Relaxed);
    }

    /// The same.
    pub(super) fn is_within_event(&self) -> bool {
        self.within.load(Ordering::Relaxed)
    }
}

/// Puts a session in place of the client's, unless there is one already. Where `outlive` is given and says so, the exchange outlives its client.
pub(super) fn stand_in(session: &mut Session, exchange: &mut Exchange, outlive: Option<Arc<Route>>) -> Arc<Signals> {
    let (live, whose) = (&exchange.live, Whose::of(exchange));
    let timeouts = exchange.admitted.as_ref().map_or_else(Timeouts::default, |admitted| admitted.route.timeouts);
    let signals = exchange.progress.stand_in.get_or_insert_with(|| {
        let signals = Arc::new(Signals::default());
        let client = std::mem::replace(&mut *session.downstream_session, ServerSession::new_custom(Box::new(())));
        let (watch, live) = (Watch::new(timeouts, whose, Arc::clone(live)), Arc::clone(live));
        let stand_in = StandIn { client, signals: Arc::clone(&signals), outlive, watch, held: Vec::new(), after: None, live };
        *session.downstream_session = ServerSession::new_custom(Box::new(stand_in));
        signals
    });
    Arc::clone(signals)
}

/// Puts the client's own session back, where [`stand_in`] took it.
pub(super) fn reveal(session: &mut Session, exchange: &Exchange) {
    let Some(signals) = exchange.progress.stand_in.as_ref().filter(|_| session.downstream_session.is_custom()) else { return };
    drop(std::mem::replace(&mut *session.downstream_session, ServerSession::new_custom(Box::new(()))));
    if let Some(client) = signals.revealed.lock().take() {
        *session.downstream_session = client;
    }
}

/// A client's session, for as long as there is a client.
struct StandIn {
    client: ServerSession,
    signals: Arc<Signals>,
    /// Says how the answer outlives its client; none where it does not.
    outlive: Option<Arc<Route>>,
    /// Ends what takes too long, or must end.
    watch: Watch,
    /// What the upstream said that the client is not to have yet: bounded by whoever holds it back.
    held: Vec<HttpTask>,
    /// From the client's leaving on.
    after: Option<After>,
    live: Arc<Live>,
}

/// The time after the client.
struct After {
    until: Instant,
    _place: OwnedSemaphorePermit,
    _counted: InFlight,
}

impl StandIn {
    /// Forgets what a try said that was given up.
    fn begin_anew(&mut self) {
        let anew = self.signals.anew.lock().take();
        if let Some(whose) = anew {
            self.held.clear();
            self.watch.begin_anew(whose);
        }
    }

    /// The client failed by `error`. Returns it, where there is no place to go on in.
    fn leaves(&mut self, error: Box<Error>) -> Result<()> {
        let Some(rule) = self.outlive.as_ref().and_then(|route| route.outlive.as_ref()) else { return Err(error) };
        let Ok(place) = Arc::clone(&rule.places).try_acquire_owned() else { return Err(error) };
        self.after = Some(After { until: Instant::now() + rule.time, _place: place, _counted: self.live.metrics.draining() });
        self.signals.left.store(true, Ordering::Relaxed);
        // What is left on the connection is nobody's.
        self.client.set_keepalive(None);
        Ok(())
    }

    /// What a write came to: a client that left is no fault.
    fn written(&mut self, written: Result<()>) -> Result<()> {
        written.or_else(|error| self.leaves(error))
    }

    async fn pass_on(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let end = tasks.iter().any(HttpTask::is_end);
        let failed = tasks.iter().any(|task| matches!(task, HttpTask::Failed(_)));
        if self.after.is_some() {
            return failure(tasks).map_or(Ok(end), Err);
        }
        if self.live.leaving.is_so() && tasks.iter().any(|task| matches!(task, HttpTask::Header(..))) {
            // Said by the head: what Pingora sets of a session that stands in, no client hears.
            self.client.set_keepalive(None);
        }
        match self.client.response_duplex_vec(tasks).await {
            // The upstream's fault, told on.
            Err(error) if failed => Err(error),
            Err(error) => self.leaves(error).map(|()| end),
            done => done,
        }
    }
}

/// The upstream's fault, where it is among these.
fn failure(tasks: Vec<HttpTask>) -> Option<Box<Error>> {
    tasks.into_iter().find_map(|task| if let HttpTask::Failed(error) = task { Some(error) } else { None })
}

/// The client's session goes back to whoever takes this one away.
impl Drop for StandIn {
    fn drop(&mut self) {
        let client = std::mem::replace(&mut self.client, ServerSession::new_custom(Box::new(())));
        *self.signals.revealed.lock() = Some(client);
    }
}
