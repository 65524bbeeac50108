//! Where to?
//!
//! The first route that matches a call gives its targets, in the order to try them, and how long each step may take. Knows names of upstreams, nothing
//! of hosts; and names of models, nothing of requests.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use smallvec::SmallVec;
use tokio::sync::Semaphore;

use crate::config::routes::{Drain, OnDisconnect, Route as Config, Timeouts};
use crate::domain::{Call, Principal, Reason, Rejection};

/// What a route is found by.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// Who calls.
    pub principal: &'a Principal,
    /// For what. Its model is as the client named it.
    pub call: &'a Call,
    /// The stage that the path began with, as [`Routes::stage`] found it.
    pub stage: Option<&'a str>,
    /// The `Host` header, or HTTP/2's `:authority`.
    pub host: Option<&'a str>,
    /// The head's fields.
    pub headers: &'a HeaderMap,
}

/// The targets of one call, in the order to try them: never none.
pub type Order = SmallVec<[Arc<Target>; 2]>;

/// One place to send a call, and what its model is called there.
#[derive(Debug)]
pub struct Target {
    /// Its name in logs and metrics; unique within its route.
    pub name: Arc<str>,
    /// The key of the upstream in `upstreams`.
    pub upstream: Arc<str>,
}

impl Target {
    /// What the model of a call of `tenant` is called there; none where it keeps the name that the client gave it.
    #[must_use]
    pub const fn model(&self, _tenant: &str) -> Option<&str> {
        None
    }
}

/// A route, ready to send by.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How the answer outlives its client; none where it ends with it.
    pub outlive: Option<Outlive>,
    target: Arc<Target>,
}

impl Route {
    /// The targets of a call, in the order to try them: the one that weights, stickiness and a tester's header choose, and then those to fail over to.
    #[must_use]
    pub fn order(&self, _asking: &Asking<'_>) -> Order {
        smallvec::smallvec![Arc::clone(&self.target)]
    }

    /// Where a copy of this call goes, of which the answer is dropped: for the share of calls that are to be mirrored.
    #[must_use]
    pub const fn mirror(&self) -> Option<Arc<Target>> {
        None
    }
}

/// How answers outlive their clients.
#[derive(Debug)]
pub struct Outlive {
    /// For so long.
    pub time: Duration,
    /// So many at once, over all calls of the route.
    pub places: Arc<Semaphore>,
}

impl Outlive {
    fn of(rule: OnDisconnect) -> Option<Self> {
        match rule {
            OnDisconnect::Cancel => None,
            OnDisconnect::Drain(Drain { time, max }) => {
                Some(Self { time, places: Arc::new(Semaphore::new(usize::try_from(max).unwrap_or(Semaphore::MAX_PERMITS))) })
            }
        }
    }
}

/// The routes, in their order. Immutable.
#[derive(Debug)]
pub struct Routes(Vec<Arc<Route>>);

impl Routes {
    /// Builds the routes of a checked configuration.
    #[must_use]
    pub fn build(routes: &[Config]) -> Self {
        let route = |route: &Config| Route {
            name: Arc::clone(&route.name),
            timeouts: route.timeouts,
            outlive: Outlive::of(route.on_disconnect),
            target: Arc::new(Target { name: Arc::clone(&route.to), upstream: Arc::clone(&route.to) }),
        };
        Self(routes.iter().map(route).map(Arc::new).collect())
    }

    /// The stage that a raw path begins with, where it is one of the configuration's, and the path without it; else the path as it is.
    #[must_use]
    pub const fn stage<'p>(&self, path: &'p str) -> (Option<&Arc<str>>, &'p str) {
        (None, path)
    }

    /// Whether some route gives this model, as a client named it, another name: whether it is allowed is told then by the name it gets.
    #[must_use]
    pub const fn is_alias(&self, _model: &str) -> bool {
        false
    }

    /// The first route that matches.
    ///
    /// # Errors
    /// [`Reason::UnknownService`] where none does.
    pub fn find(&self, _asking: &Asking<'_>) -> Result<&Arc<Route>, Rejection> {
        self.0.first().ok_or_else(|| Rejection::new(Reason::UnknownService, "no route matches this call"))
    }
}
