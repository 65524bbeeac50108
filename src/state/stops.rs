//! What operators stopped. Every call is held against it before it is admitted, and every running stream whenever it changes.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::domain::{Call, Glob, Principal, Reason, Rejection, STOP_KINDS, Stop, Stopped, fold_model, model_name, rfc3339};
use crate::policy::names_to_deny;

/// The stops in force, in the order of what is stopped. It is read without a lock, and outlives reloads.
#[derive(Default)]
pub struct Stops {
    /// Whether there are any: mostly there are none, and that is all that a call then looks at.
    any: AtomicBool,
    set: ArcSwap<Set>,
    /// How often the set has changed.
    generation: watch::Sender<u64>,
}

/// What a call is of, as far as that is known: what is not known is not stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Who calls.
    pub tenant: Option<&'a str>,
    /// The public name of the key or credential they call with.
    pub key: Option<&'a str>,
    /// The model that is asked for: as the client has it, and as the upstream gets it.
    pub models: [Option<&'a str>; 2],
    /// The name of the route.
    pub route: Option<&'a str>,
}

/// Stops, each found by what it stops.
#[derive(Default)]
struct Set {
    tenants: HashMap<Box<str>, Arc<Stop>>,
    /// By the key's name: of one tenant each, or of all.
    keys: HashMap<Box<str>, Vec<Arc<Stop>>>,
    routes: HashMap<Box<str>, Arc<Stop>>,
    models: HashMap<Box<str>, Arc<Stop>>,
    patterns: Vec<(Glob, Arc<Stop>)>,
    all: Vec<Arc<Stop>>,
}

impl<'a> Subject<'a> {
    /// Of whom, what and by which route, as far as is known.
    #[must_use]
    pub fn of(principal: Option<&'a Principal>, call: Option<&'a Call>, route: Option<&'a str>) -> Self {
        Self {
            tenant: principal.map(|principal| &*principal.tenant),
            key: principal.and_then(|principal| principal.key_id.as_deref()),
            models: [call.and_then(|call| call.model.as_deref()), None],
            route,
        }
    }

    /// The same, where the model has another name for the upstream.
    #[must_use]
    pub const fn renamed(mut self, model: Option<&'a str>) -> Self {
        self.models = [self.models[0], model];
        self
    }
}

impl Stops {
    /// Whether a call may go on. With nothing stopped that is one load and a branch.
    ///
    /// # Errors
    /// [`Reason::Stopped`]: the message says what is stopped and since when, and what the operator wants callers to be told.
    pub fn check(&self, subject: &Subject<'_>) -> Result<(), Rejection> {
        if !self.any.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.set.load().find(subject) {
            Some(stop) => Err(refusal(stop)),
            None => Ok(()),
        }
    }

    /// Tells of changes: whoever runs on awaits the next, and then asks [`Stops::check`] again. Only what changes after this call is told: so ask for it
    /// first, and check then.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Returns once a call is stopped, for whatever waits or runs on: the refusal that [`Stops::check`] gives then.
    pub async fn stopped(&self, subject: &Subject<'_>) -> Rejection {
        let mut changes = self.changes();
        loop {
            if let Err(rejection) = self.check(subject) {
                return rejection;
            }
            // It fails where the sender is gone, which is as old as this.
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// The stops in force, in the order of what is stopped.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Stop>> {
        self.set.load().all.clone()
    }

    /// How many stops of each of [`STOP_KINDS`] are in force.
    pub(super) fn counts(&self) -> [usize; STOP_KINDS.len()] {
        let set = self.set.load();
        STOP_KINDS.map(|kind| set.all.iter().filter(|stop| stop.what.kind() == kind).count())
    }

    /// From now on these are in force, each of something else. Returns whether they are others than before: only then anyone is told.
    pub fn set(&self, mut stops: Vec<Stop>) -> bool {
        stops.sort_unstable_by(|one, other| one.what.cmp(&other.what));
        if self.set.load().all.iter().map(|stop| &**stop).eq(&stops) {
            return false;
        }
        let any = !stops.is_empty();
        self.set.store(Arc::new(Set::of(stops)));
        self.any.store(any, Ordering::Release);
        self.generation.send_modify(|generation| *generation += 1);
        true
    }
}

impl Set {
    fn of(stops: Vec<Stop>) -> Self {
        let mut set = Self::default();
        for stop in stops.into_iter().map(Arc::new) {
            let made = Arc::clone(&stop);
            match &stop.what {
                Stopped::Tenant(name) => drop(set.tenants.insert(name.clone(), made)),
                Stopped::Key { key, .. } => set.keys.entry(key.clone()).or_default().push(made),
                Stopped::Route(name) => drop(set.routes.insert(name.clone(), made)),
                Stopped::Model(pattern) if pattern.contains('*') => set.patterns.push((Glob::new(pattern.clone()), made)),
                Stopped::Model(name) => drop(set.models.insert(name.clone(), made)),
            }
            set.all.push(stop);
        }
        set
    }

    /// What stops a call, if anything does.
    fn find(&self, subject: &Subject<'_>) -> Option<&Stop> {
        let of_tenant = |stop: &&Arc<Stop>| stop.what.tenant_of_key().is_none_or(|tenant| Some(tenant) == subject.tenant);
        let by_tenant = || subject.tenant.and_then(|tenant| self.tenants.get(tenant));
        let by_key = || subject.key.and_then(|key| self.keys.get(key)?.iter().find(of_tenant));
        let by_route = || subject.route.and_then(|route| self.routes.get(route));
        let by_model = || subject.models.into_iter().flatten().find_map(|model| self.model(model));
        by_tenant().or_else(by_key).or_else(by_route).or_else(by_model).map(|stop| &**stop)
    }

    /// What stops a model, by any name that it may be known by: what only might be that model is stopped, too.
    fn model(&self, sent: &str) -> Option<&Arc<Stop>> {
        if self.models.is_empty() && self.patterns.is_empty() {
            return None;
        }
        let folded = fold_model(sent).unwrap_or_else(|| sent.to_ascii_lowercase().into());
        let is = |name: &str| {
            let by_pattern = || self.patterns.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, stop)| stop);
            self.models.get(name).or_else(by_pattern)
        };
        names_to_deny(&folded).find_map(is).or_else(|| is(&model_name(&folded)))
    }
}

fn refusal(stop: &Stop) -> Rejection {
    let mut message = format!("{} is stopped by the operator since {}", stop.what, rfc3339(stop.since));
    if !stop.message.is_empty() {
        message.push_str(": ");
        message.push_str(&stop.message);
    }
    Rejection::new(Reason::Stopped, message)
}

impl fmt::Debug for Stops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stops").field("all", &self.set.load().all).finish_non_exhaustive()
    }
}
