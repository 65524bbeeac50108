//! Which of its route's targets a call goes to, and under which name its model goes there.

use std::sync::Arc;

use super::body::Body;
use super::exchange::Known;
use crate::call;
use crate::domain::{Call, Principal, Reason, Rejection};
use crate::policy::Ruling;
use crate::routes::{Order, Target};
use crate::state::Snapshot;
use crate::upstreams::{Endpoint, Upstream};

/// Where a call goes, and what is left to turn to.
pub(super) struct Aim {
    pub(super) target: Arc<Target>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) endpoint: Arc<Endpoint>,
    /// What it may be failed over to, in order.
    rest: Order,
    tenant: Arc<str>,
    /// What the client called the model.
    named: Option<Box<str>>,
}

/// A call that is to be sent: what changes with the target that it is sent to.
pub(super) struct Shot<'a> {
    pub(super) call: &'a mut Arc<Call>,
    pub(super) body: &'a mut Body,
    pub(super) known: &'a mut Known,
}

impl Aim {
    /// Aims at the first of `order` that the rules allow. The others stay to be turned to.
    ///
    /// # Errors
    /// The rules' refusal of the first, where they allow none; [`Reason::BodyMemory`], where a longer name makes the body larger than there is room for.
    pub(super) fn first(
        snapshot: &Snapshot,
        principal: &Principal,
        judges: &Judges<'_>,
        order: Order,
        shot: &mut Shot<'_>,
    ) -> Result<Self, Rejection> {
        let mut refusal = None;
        let mut allowed = order;
        allowed.retain(|target| {
            let allowed = judges.may(snapshot, &principal.tenant, target, shot);
            allowed.map_err(|why| refusal.get_or_insert(why)).is_ok()
        });
        if allowed.is_empty() {
            return Err(refusal.unwrap_or_else(nowhere));
        }
        let target = allowed.remove(0);
        let (upstream, endpoint) = place(snapshot, &target, shot.call)?;
        let mut aim =
            Self { target, upstream, endpoint, rest: allowed, tenant: Arc::clone(&principal.tenant), named: shot.call.model.clone() };
        aim.name(shot)?;
        Ok(aim)
    }

    /// Whether there is something left to turn to.
    pub(super) fn has_more(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Turns to the next.
    ///
    /// # Errors
    /// [`Reason::Internal`] where there is none; [`Reason::BodyMemory`] as above.
    pub(super) fn next(&mut self, snapshot: &Snapshot, shot: &mut Shot<'_>) -> Result<(), Rejection> {
        if !self.has_more() {
            return Err(nowhere());
        }
        self.target = self.rest.remove(0);
        (self.upstream, self.endpoint) = place(snapshot, &self.target, shot.call)?;
        self.name(shot)
    }

    /// Gives the model of the call the name that the target has for it.
    fn name(&mut self, shot: &mut Shot<'_>) -> Result<(), Rejection> {
        let Some(name) = self.target.model(&self.tenant).or(self.named.as_deref()).filter(|name| shot.call.model.as_deref() != Some(name))
        else {
            return Ok(());
        };
        // Held twice, it would be copied.
        shot.known.call = None;
        let renamed = call::rename(Arc::make_mut(shot.call), shot.body.bytes.as_deref().unwrap_or_default(), name);
        shot.known.call = Some(Arc::clone(shot.call));
        shot.known.alias = self.named.clone().filter(|named| shot.call.model.as_ref() != Some(named));
        renamed.map_or(Ok(()), |renamed| shot.body.replace(&renamed.place, renamed.name.as_bytes()))
    }
}

/// What is allowed to a call.
pub(super) struct Judges<'a> {
    pub(super) rules: &'a Ruling<'a>,
    pub(super) method: &'a str,
    /// The model has not been judged yet: a route may give it another name.
    pub(super) alias: bool,
}

impl Judges<'_> {
    /// Whether the call may go there, by the name that its model has there.
    fn may(&self, snapshot: &Snapshot, tenant: &str, target: &Target, shot: &mut Shot<'_>) -> Result<(), Rejection> {
        let Self { rules, method, alias } = self;
        if rules.is_empty() {
            return Ok(());
        }
        let (upstream, _) = place(snapshot, target, shot.call)?;
        let shadowed = &mut shot.known.shadowed;
        let Some((there, here)) = target.model(tenant).zip(shot.call.model.as_deref()).filter(|(there, here)| there != here) else {
            if *alias {
                rules.body(method, shot.call, shadowed)?;
            }
            return rules.target(shot.call, &upstream.region, shadowed);
        };
        let call = Call { model: Some(there.into()), ..Call::clone(shot.call) };
        rules.renamed(method, &call, here, shadowed)?;
        rules.target(&call, &upstream.region, shadowed)
    }
}

fn place(snapshot: &Snapshot, target: &Target, call: &Call) -> Result<(Arc<Upstream>, Arc<Endpoint>), Rejection> {
    let upstream = snapshot.upstreams.named(&target.upstream).cloned().ok_or_else(nowhere)?;
    let endpoint = upstream.endpoint(call.service).cloned().ok_or_else(nowhere)?;
    Ok((upstream, endpoint))
}

fn nowhere() -> Rejection {
    Rejection::new(Reason::Internal, "the route leads to no upstream")
}
