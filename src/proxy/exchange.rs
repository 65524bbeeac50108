//! What is known of one exchange, from its first byte to its access-log line.
//!
//! Four rules: an exchange keeps the snapshot it began with; what admission learns is all there or not at all ([`Admitted`]); no room is ever given
//! the exchange itself; a new fact goes into the product of the room that learns it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Method};

use super::Plane;
use super::aim::Aim;
use super::body::Body;
use super::standin::Signals;
use crate::domain::{Call, Principal, Reason, RequestId, Trace};
use crate::firewall::RequestPlace;
use crate::limits::{Admission, Now, Rates};
use crate::record::{InFlight, Tried};
use crate::reply::Meter;
use crate::routes::Route;
use crate::state::Live;
use crate::upstreams::Keys;
use crate::upstreams::health::Verdict;

/// The context that Pingora carries through the hooks.
pub struct Exchange {
    /// The rules it began with.
    pub(super) plane: Arc<Plane>,
    /// What lives on.
    pub(super) live: Arc<Live>,
    /// Its name.
    pub(super) id: RequestId,
    /// Its place in a trace: begun here until the head is read.
    pub(super) trace: Trace,
    /// When its head was whole.
    pub(super) began: Instant,
    /// The same by the wall clock.
    pub(super) began_wall: SystemTime,
    /// Who calls and for what, as far as admission came: for the record, where it refuses.
    pub(super) known: Known,
    /// Everything that admission learned: all there or nothing.
    pub(super) admitted: Option<Admitted>,
    /// Why it was refused, if it was.
    pub(super) refused: Option<Reason>,
    /// How far the upstream call and its answer have come.
    pub(super) progress: Progress,
    /// It has been recorded.
    pub(super) recorded: bool,
    /// Its place among those that may be under way at once; none where it was refused for want of one.
    pub(super) place: Option<RequestPlace>,
    /// Counts it among those under way; dropped on every path.
    pub(super) _in_flight: InFlight,
}

/// What is known of a call before it is admitted. An operator must see whose call was refused.
#[derive(Default)]
pub(super) struct Known {
    /// How it is asked.
    pub(super) method: Method,
    pub(super) principal: Option<Arc<Principal>>,
    pub(super) call: Option<Arc<Call>>,
    /// What the client calls the model, where its route gave it another name.
    pub(super) alias: Option<Box<str>>,
    /// The policy rules in shadow that would have refused it.
    pub(super) shadowed: Vec<Arc<str>>,
    /// The rules of limits in shadow that would have refused it.
    pub(super) shadowed_limits: Vec<Arc<str>>,
    /// The limit that refused it, or ended its answer.
    pub(super) limit: Option<Arc<str>>,
    /// For how long it waited for its turn.
    pub(super) waited: Duration,
    /// Where the caller stands under the limits.
    pub(super) rates: Rates,
}

/// What admission hands on.
pub(super) struct Admitted {
    /// As the target gets it that is aimed at.
    pub(super) call: Arc<Call>,
    pub(super) body: Body,
    pub(super) route: Arc<Route>,
    pub(super) aim: Aim,
    /// What to sign with, of this try.
    pub(super) keys: Option<Arc<Keys>>,
    /// How the upstream was when it was chosen, until it is told what came of it.
    pub(super) verdict: Option<Verdict>,
    /// What the call took of the limits; settled when it ends, and gone then.
    pub(super) admission: Option<Admission>,
    /// What the attempt took of its upstream's quota, where that has one; settled with what the attempt used.
    pub(super) quota: Option<Admission>,
}

/// How far it has come. Times are measured from the exchange's beginning.
#[derive(Default)]
pub(super) struct Progress {
    /// Spent waiting for the client's body.
    pub(super) body_wait: Duration,
    /// Bytes of the client's body.
    pub(super) bytes_in: u64,
    /// When admission was done.
    pub(super) admitted: Option<Duration>,
    /// Connections tried or taken from the pool.
    pub(super) attempts: u32,
    /// The same, of the target that is aimed at.
    pub(super) tries: u32,
    /// The tries that were given up for another target.
    pub(super) tried: Vec<Tried>,
    /// How it stands with the last of them.
    pub(super) trial: Trial,
    /// Bytes of its answer that were held back.
    pub(super) held: usize,
    /// When a connection was asked for; this and what follows is of the last try.
    pub(super) connecting: Option<Duration>,
    /// When there was one.
    pub(super) connected: Option<Duration>,
    /// When the signed request was handed over.
    pub(super) sent: Option<Duration>,
    /// When the answer's head came.
    pub(super) head: Option<Duration>,
    /// The status the client was told.
    pub(super) status: Option<u16>,
    /// AWS's own name for the exchange.
    pub(super) upstream_request_id: Option<HeaderValue>,
    /// Reads what the answer used, beside it.
    pub(super) meter: Meter,
    /// What a session tells that stands in for the client's, where one does.
    pub(super) stand_in: Option<Arc<Signals>>,
    /// A limit has ended the answer.
    pub(super) cut: bool,
    /// Bytes of the answer's body that the client was sent.
    pub(super) bytes_out: u64,
    /// Whether the answer went out whole.
    pub(super) complete: bool,
}

/// How it stands with a try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trial {
    /// It runs, or has run; or there was none yet.
    #[default]
    Begun,
    /// It has the head of an answer, which may still turn out to be none.
    Undecided,
    /// It was given up, and the next has not begun.
    GivenUp,
}

impl Admitted {
    /// Whether anyone must know what the call uses.
    pub(super) fn counts_use(&self) -> bool {
        [&self.admission, &self.quota].into_iter().flatten().any(Admission::counts_use)
    }

    /// The request is made from now on, whatever comes of it.
    pub(super) fn sent(&mut self) {
        [&mut self.admission, &mut self.quota].into_iter().flatten().for_each(Admission::sent);
    }
}

impl Progress {
    /// From the request handed over to the answer's head: AWS's share.
    pub(super) fn upstream_time(&self) -> Option<Duration> {
        self.head.zip(self.sent).map(|(head, sent)| head.saturating_sub(sent))
    }

    /// Whether the client has left an answer that outlives it.
    pub(super) fn is_outlived(&self) -> bool {
        self.stand_in.as_ref().is_some_and(|signals| signals.has_left())
    }

    /// Ours: from the head to the request handed over, less the waits for the client's body, for a connection, and for those who failed. A refusal's is
    /// all it took.
    pub(super) fn overhead(&self, total: Duration) -> Duration {
        let elsewhere = self.tried.iter().fold(self.body_wait, |sum, tried| sum.saturating_add(tried.took));
        match (self.connecting, self.connected, self.sent) {
            (Some(connecting), Some(connected), Some(sent)) => connecting.saturating_sub(elsewhere) + sent.saturating_sub(connected),
            _ => total.saturating_sub(elsewhere),
        }
    }

    /// Begins anew, for another target.
    pub(super) fn turned(&mut self) {
        (self.trial, self.tries, self.held, self.bytes_out) = (Trial::Begun, 0, 0, 0);
        (self.connecting, self.connected, self.sent, self.head) = (None, None, None, None);
        (self.status, self.upstream_request_id, self.meter) = (None, None, Meter::default());
    }
}

impl Exchange {
    pub(super) fn begin(plane: Arc<Plane>, live: Arc<Live>) -> Self {
        Self {
            plane,
            id: RequestId::random(),
            trace: Trace::take_up(None),
            began: live.clock.monotonic(),
            began_wall: live.clock.wall(),
            known: Known::default(),
            admitted: None,
            refused: None,
            progress: Progress::default(),
            recorded: false,
            place: None,
            _in_flight: live.metrics.in_flight(),
            live,
        }
    }

    /// The time, by both clocks.
    pub(super) fn now(&self) -> Now {
        Now::of(&self.live.clock)
    }

    /// The time since its beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.live.clock.monotonic().saturating_duration_since(self.began)
    }
}
