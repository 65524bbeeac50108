//! Copies of calls, sent to their route's mirror beside the call itself: their answers are read to the end, measured, and dropped.
//!
//! A copy is made once the call's first try is sent, so of no call that was refused. From there on it is a task of its own with a connection of its own:
//! nothing of the call waits for it, and nothing that becomes of it is told to anyone but the record. It takes nothing of its caller's limits, and is booked
//! under [`MIRROR_TENANT`](crate::domain::MIRROR_TENANT). It is sent once: it is never tried again, nor anywhere else, and no upstream is judged by how it
//! ends.

mod trip;

use std::sync::Arc;

use http::Method;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use tokio::sync::OwnedSemaphorePermit;

use self::trip::Trip;
use super::Plane;
use super::aim::{Judges, Shot};
use super::body::Body;
use super::exchange::{Admitted, Exchange, Known};
use crate::call;
use crate::domain::{Call, Principal, Reason, Rejection, RequestId};
use crate::record::Mirrored;
use crate::routes::{Route, Target};
use crate::state::{Live, Subject};

/// So many idle connections of mirrors are kept, of all threads together.
const IDLE: usize = 64;

/// The connections of mirrors: none is shared with calls.
pub(super) type Connections = Arc<Connector>;

/// The connections that a process begins with: none.
pub(super) fn connections() -> Connections {
    Arc::new(Connector::new(Some(ConnectorOptions::new(IDLE))))
}

/// The first try of a call goes out with `head`: where its route has a mirror, and draws this call for it, a copy goes there.
pub(super) fn mirror(head: &RequestHeader, exchange: &mut Exchange, connections: &Connections) {
    if std::mem::replace(&mut exchange.progress.drawn, true) {
        return;
    }
    let (Some(Admitted { call, body, route, .. }), Some(principal)) = (&exchange.admitted, &exchange.known.principal) else { return };
    let Some(target) = route.mirror() else { return };
    if head.method != Method::POST || !call::may_be_copied(call) {
        return;
    }
    let live = &exchange.live;
    if live.leaving.is_so() {
        // It would be cut, and paid for all the same.
        return live.metrics.mirrored(&route.name, Mirrored::Ended);
    }
    let (Some(place), Some(body)) = (live.mirrors.place(), body.share(&live.mirrors.bodies)) else {
        return live.metrics.mirrored(&route.name, Mirrored::NoRoom);
    };
    let copy = Copied {
        of: exchange.id,
        plane: Arc::clone(&exchange.plane),
        live: Arc::clone(live),
        connections: Arc::clone(connections),
        head: head.clone(),
        principal: Arc::clone(principal),
        call: Arc::clone(call),
        named: exchange.known.alias.clone().or_else(|| call.model.clone()),
        route: Arc::clone(route),
        target,
        _place: place,
    };
    live.mirrors.run(copy.run(body));
}

/// A copy of a call.
struct Copied {
    /// The exchange of which it is one.
    of: RequestId,
    plane: Arc<Plane>,
    live: Arc<Live>,
    connections: Connections,
    head: RequestHeader,
    principal: Arc<Principal>,
    call: Arc<Call>,
    /// What the client called the model.
    named: Option<Box<str>>,
    route: Arc<Route>,
    target: Arc<Target>,
    _place: OwnedSemaphorePermit,
}

impl Copied {
    /// Sends it, and writes down what became of it.
    async fn run(mut self, mut body: Body) {
        let shadowed = match self.allow(&mut body) {
            Ok(shadowed) => shadowed,
            Err(why) => return self.not_sent(&why),
        };
        let mut trip = match Trip::begin(&self, shadowed, body.len) {
            Ok(trip) => trip,
            Err(why) => return self.not_sent(&why),
        };
        let subject = self.subject();
        let ended = tokio::select! {
            biased;
            () = self.live.over.cancelled() => Err(Reason::Draining),
            why = self.live.stops.stopped(&subject) => Err(why.reason),
            ended = trip.send(body) => ended,
        };
        trip.report(ended);
    }

    fn not_sent(&self, why: &Rejection) {
        let outcome = match why.reason {
            Reason::Forbidden | Reason::Stopped => Mirrored::NotAllowed,
            Reason::Internal => Mirrored::Failed,
            _ => Mirrored::NoRoom,
        };
        let (id, message) = (self.of.as_str(), &*why.message);
        tracing::debug!(id, route = %self.route.name, outcome = outcome.label(), message, "not mirrored");
        self.live.metrics.mirrored(&self.route.name, outcome);
    }

    /// Gives the model the name that it has at the mirror, where caller and operators allow it there. Returns the policy rules in shadow that would not.
    fn allow(&mut self, body: &mut Body) -> Result<Vec<Arc<str>>, Rejection> {
        let snapshot = &self.plane.snapshot;
        let (tenant, named) = (&*self.principal.tenant, self.named.as_deref().ok_or_else(super::unadmitted)?);
        // It is judged as the call was: by the name that the client gave the model.
        let mut known = Known::default();
        let mut asked = Arc::new(Call { model: Some(named.into()), ..Call::clone(&self.call) });
        let rules = snapshot.policy.rules_for(&self.principal);
        let judges = Judges { rules: &rules, method: self.head.method.as_str(), alias: snapshot.routes.is_alias(named) };
        judges.may(snapshot, tenant, &self.target, &mut Shot { call: &mut asked, body, known: &mut known })?;
        let name = self.target.model(tenant).unwrap_or(named);
        // The call has the name already that the target has for it which it went to.
        if self.call.model.as_deref() != Some(name)
            && let Some(renamed) = call::rename(Arc::make_mut(&mut self.call), body.bytes.as_deref().unwrap_or_default(), name)
        {
            body.replace(&renamed.place, renamed.name.as_bytes())?;
        }
        self.live.stops.check(&self.subject())?;
        Ok(known.shadowed)
    }

    /// Whose it is, by which an operator may stop it.
    fn subject(&self) -> Subject<'_> {
        Subject::of(Some(&self.principal), Some(&self.call), Some(&self.route.name)).renamed(self.named.as_deref())
    }
}
