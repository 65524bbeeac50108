//! Who keeps the time of a call. An answer in one piece is timed by Pingora, read by read. A stream is watched by the session that stands in for its
//! client's ([`standin`](super::standin)): until its first event, between its events, and as a whole.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Version};
use pingora_proxy::Session;
use tokio::time::{Instant, Sleep, sleep_until};

use super::exchange::Exchange;
use super::failover;
use super::standin::{self, Signals};
use crate::config::routes::Timeouts;
use crate::domain::{Call, Principal, Reason, Rejection};
use crate::routes::Route;
use crate::state::{Live, Subject};

/// Pingora's own timeout of a watched call comes so much later: it would break off what can be ended well.
const LATER: Duration = Duration::from_secs(5);

/// An event whose end does not come is waited for so long before the stream is broken off within it.
const WITHIN: Duration = Duration::from_millis(500);

/// The longest silence of an upstream that Pingora is to bear.
pub(super) fn silence(timeouts: Timeouts, streamed: bool) -> Duration {
    let Timeouts { first_byte, idle, total, .. } = timeouts;
    if streamed { first_byte.max(idle).min(total).saturating_add(LATER) } else { first_byte.min(total) }
}

/// A try is sent. From here on the call costs something: where its route says so, it goes on without its client. Calls that only read cost nothing. A
/// client of HTTP/1.0 needs what only its own session can do, to end the connection behind the answer.
pub(super) fn sent(session: &mut Session, exchange: &mut Exchange) {
    if let Some(signals) = &exchange.progress.stand_in {
        signals.begin_anew(Whose::of(exchange));
        return;
    }
    let Some(admitted) = exchange.admitted.as_ref() else { return };
    let head = session.req_header();
    if head.version < Version::HTTP_11 {
        return;
    }
    let outlive = (head.method == Method::POST && admitted.route.outlive.is_some()).then(|| Arc::clone(&admitted.route));
    if outlive.is_some() || admitted.call.asked.streamed {
        standin::stand_in(session, exchange, outlive);
    }
}

/// An answer begins. A stream that nobody asked for is watched too, and one whose call may still turn is held back until it says something.
pub(super) fn answers(session: &mut Session, exchange: &mut Exchange) {
    if !exchange.progress.meter.is_streamed() || session.req_header().version < Version::HTTP_11 {
        failover::kept(exchange);
        return;
    }
    let signals = standin::stand_in(session, exchange, None);
    signals.hold(failover::may_turn(exchange));
}

/// Whose call it is, by which an operator may stop it.
pub(super) struct Whose {
    principal: Option<Arc<Principal>>,
    call: Option<Arc<Call>>,
    alias: Option<Box<str>>,
    route: Option<Arc<Route>>,
}

impl Whose {
    /// Whose `exchange` is, as it is tried now.
    pub(super) fn of(exchange: &Exchange) -> Self {
        let (known, admitted) = (&exchange.known, exchange.admitted.as_ref());
        Self {
            principal: known.principal.clone(),
            call: known.call.clone(),
            alias: known.alias.clone(),
            route: admitted.map(|admitted| Arc::clone(&admitted.route)),
        }
    }

    /// Returns once an operator ends the call: that of these names, or all.
    async fn ended(self, live: Arc<Live>) -> Rejection {
        let Self { principal, call, alias, route } = self;
        let subject =
            Subject::of(principal.as_deref(), call.as_deref(), route.as_ref().map(|route| &*route.name)).renamed(alias.as_deref());
        ended(&live, &subject).await
    }
}

/// Returns once an operator stops what is of `subject`, or the time to drain is over.
pub(super) async fn ended(live: &Live, subject: &Subject<'_>) -> Rejection {
    tokio::select! {
        biased;
        why = live.stops.stopped(subject) => why,
        () = live.ending.cancelled() => Rejection::new(Reason::Draining, "the gateway shuts down: ask again"),
    }
}

/// Keeps the time of one call, and hears of what ends it.
pub(super) struct Watch {
    timeouts: Timeouts,
    live: Arc<Live>,
    sent: Instant,
    /// When the answer's body was heard last.
    heard: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    ended: Pin<Box<dyn Future<Output = Rejection> + Send + Sync>>,
    /// Why it is to end, and by when at the latest, once it is.
    due: Option<(Rejection, Instant)>,
}

impl Watch {
    /// Begins with a try that is sent now.
    pub(super) fn new(timeouts: Timeouts, whose: Whose, live: Arc<Live>) -> Self {
        let sent = Instant::now();
        let timer = Box::pin(sleep_until(sent + timeouts.first_byte.min(timeouts.total)));
        let ended = Box::pin(whose.ended(Arc::clone(&live)));
        Self { timeouts, live, sent, heard: None, timer, ended, due: None }
    }

    /// Another try is sent now.
    pub(super) fn begin_anew(&mut self, whose: Whose) {
        *self = Self::new(self.timeouts, whose, Arc::clone(&self.live));
    }

    /// Something came of the answer's body.
    pub(super) fn heard(&mut self) {
        self.heard = Some(Instant::now());
    }

    /// Returns once the call is to end: not in the middle of an event that is about to.
    ///
    /// It is dropped and called again at every event, and so nothing in it begins anew: the timer is only set when it has run.
    pub(super) async fn ends(&mut self, signals: &Signals) -> Rejection {
        loop {
            if let Some((_, by)) = &self.due
                && (!signals.is_within_event() || Instant::now() >= *by)
                && let Some((why, _)) = self.due.take()
            {
                return why;
            }
            let (at, why) = match &self.due {
                Some((_, by)) => (*by, None),
                None => self.deadline(),
            };
            if self.timer.deadline() > at || self.timer.is_elapsed() {
                if Instant::now() >= at {
                    if let Some(why) = why {
                        self.due = Some((why.rejection(self.timeouts), Instant::now() + WITHIN));
                    }
                    continue;
                }
                self.timer.as_mut().reset(at);
            }
            tokio::select! {
                () = self.timer.as_mut() => {}
                why = self.ended.as_mut(), if self.due.is_none() => self.due = Some((why, Instant::now() + WITHIN)),
            }
        }
    }

    /// When the call is too long silent, or takes too long.
    fn deadline(&self) -> (Instant, Option<Why>) {
        let Timeouts { first_byte, idle, total, .. } = self.timeouts;
        let (at, why) = self.heard.map_or((self.sent + first_byte, Why::NoFirstByte), |heard| (heard + idle, Why::Idle));
        let all = self.sent + total;
        if at <= all { (at, Some(why)) } else { (all, Some(Why::Total)) }
    }
}

/// Which time has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NoFirstByte,
    Idle,
    Total,
}

impl Why {
    fn rejection(self, timeouts: Timeouts) -> Rejection {
        let Timeouts { first_byte, idle, total, .. } = timeouts;
        let message = match self {
            Self::NoFirstByte => format!("Bedrock sent no event within {first_byte:?}"),
            Self::Idle => format!("Bedrock sent no event for {idle:?}"),
            Self::Total => format!("the answer took longer than {total:?}"),
        };
        Rejection::new(Reason::UpstreamTimeout, message)
    }
}
