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
use crate::domain::{Reason, Rejection};

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
        signals.begin_anew();
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

/// Keeps the time of one call.
pub(super) struct Watch {
    timeouts: Timeouts,
    sent: Instant,
    /// When the answer's body was heard last.
    heard: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// Why it is to end, once it is.
    due: Option<(Why, Instant)>,
}

/// Why a call ends before its upstream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NoFirstByte,
    Idle,
    Total,
}

impl Watch {
    /// Begins with a try that is sent now.
    pub(super) fn new(timeouts: Timeouts) -> Self {
        let sent = Instant::now();
        let timer = Box::pin(sleep_until(sent + timeouts.first_byte.min(timeouts.total)));
        Self { timeouts, sent, heard: None, timer, due: None }
    }

    /// Another try is sent now.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::new(self.timeouts);
    }

    /// Something came of the answer's body.
    pub(super) fn heard(&mut self) {
        self.heard = Some(Instant::now());
    }

    /// Returns once the call is to end: not in the middle of an event that is about to.
    ///
    /// It is dropped and called again at every event, so the timer is only looked at when it has run.
    pub(super) async fn ends(&mut self, signals: &Signals) -> Rejection {
        loop {
            let (why, at) = match self.due {
                Some((why, at)) if Instant::now() >= at => return self.rejection(why),
                Some((why, _)) if !signals.is_within_event() => return self.rejection(why),
                Some(due) => due,
                None => self.deadline(),
            };
            if self.timer.deadline() > at || self.timer.is_elapsed() {
                if Instant::now() >= at {
                    self.due = Some((why, Instant::now() + WITHIN));
                    continue;
                }
                self.timer.as_mut().reset(at);
            }
            self.timer.as_mut().await;
        }
    }

    /// When the call is too long silent, or takes too long.
    fn deadline(&self) -> (Why, Instant) {
        let Timeouts { first_byte, idle, total, .. } = self.timeouts;
        let silent = self.heard.map_or((Why::NoFirstByte, self.sent + first_byte), |heard| (Why::Idle, heard + idle));
        let all = (Why::Total, self.sent + total);
        if silent.1 <= all.1 { silent } else { all }
    }

    fn rejection(&self, why: Why) -> Rejection {
        let Timeouts { first_byte, idle, total, .. } = self.timeouts;
        let message = match why {
            Why::NoFirstByte => format!("Bedrock sent no event within {first_byte:?}"),
            Why::Idle => format!("Bedrock sent no event for {idle:?}"),
            Why::Total => format!("the answer took longer than {total:?}"),
        };
        Rejection::new(Reason::UpstreamTimeout, message)
    }
}
