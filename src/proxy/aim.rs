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
    /// What the route chose, of what the rules allow.
    pub(super) chosen: Arc<Target>,
    /// What it may be sent to, in order; the first is aimed at.
    left: Order,
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
        let Some(target) = allowed.first().cloned() else { return Err(refusal.unwrap_or_else(nowhere)) };
        let (upstream, endpoint) = place(snapshot, &target, shot.call)?;
        let (chosen, tenant, named) = (Arc::clone(&target), Arc::clone(&principal.tenant), shot.call.model.clone());
        let mut aim = Self { target, upstream, endpoint, chosen, left: allowed, tenant, named };
        aim.name(shot)?;
        Ok(aim)
    }

    /// Whether there is something else to turn to.
    pub(super) fn has_more(&self) -> bool {
        self.left.len() > 1
    }

    /// Takes the target that is aimed at from those that are left: it was tried.
    pub(super) fn spend(&mut self) {
        if self.has_more() {
            self.left.remove(0);
        }
    }

    /// What is left, each with its place and what it calls the model.
    pub(super) fn left(&self) -> impl Iterator<Item = (usize, &Arc<Target>, Option<&str>)> {
        self.left.iter().enumerate().map(|(at, target)| (at, target, target.model(&self.tenant).or(self.named.as_deref())))
    }

    /// Aims at what is at this place, and puts it first.
    ///
    /// # Errors
    /// [`Reason::Internal`] where there is none; [`Reason::BodyMemory`] as above.
    pub(super) fn turn_to(&mut self, at: usize, snapshot: &Snapshot, shot: &mut Shot<'_>) -> Result<(), Rejection> {
        if at > 0 {
            let target = if at < self.left.len() { self.left.remove(at) } else { return Err(nowhere()) };
            self.left.insert(0, target);
        }
        let Some(target) = self.left.first() else { return Err(nowhere()) };
        if !Arc::ptr_eq(target, &self.target) {
            self.target = Arc::clone(target);
            (self.upstream, self.endpoint) = place(snapshot, &self.target, shot.call)?;
        }
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
    pub(super) fn may(&self, snapshot: &Snapshot, tenant: &str, target: &Target, shot: &mut Shot<'_>) -> Result<(), Rejection> {
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

/// The upstream of a target, and where that answers calls of this service.
pub(super) fn place(snapshot: &Snapshot, target: &Target, call: &Call) -> Result<(Arc<Upstream>, Arc<Endpoint>), Rejection> {
    let upstream = snapshot.upstreams.named(&target.upstream).cloned().ok_or_else(nowhere)?;
    let endpoint = upstream.endpoint(call.service).cloned().ok_or_else(nowhere)?;
    Ok((upstream, endpoint))
}

fn nowhere() -> Rejection {
    Rejection::new(Reason::Internal, "the route leads to no upstream")
}
