//! Where to?
//!
//! The first route that matches gives the plan: where the call goes, and how long each step may take. Knows names of upstreams, nothing of hosts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::routes::{Drain, OnDisconnect, Route, Timeouts};
use crate::domain::{Call, Reason, Rejection, Target};

/// Where a call goes.
#[derive(Debug)]
pub struct Plan {
    /// The route that matched.
    pub route: Arc<str>,
    /// The place.
    pub target: Target,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How the answer outlives its client; none where it ends with it.
    pub outlive: Option<Outlive>,
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
pub struct Routes(Vec<Arc<Plan>>);

impl Routes {
    /// Builds the routes of a checked configuration.
    #[must_use]
    pub fn build(routes: &[Route]) -> Self {
        let plan = |route: &Route| Plan {
            route: Arc::clone(&route.name),
            target: Target { upstream: Arc::clone(&route.to) },
            timeouts: route.timeouts,
            outlive: Outlive::of(route.on_disconnect),
        };
        Self(routes.iter().map(plan).map(Arc::new).collect())
    }

    /// The plan for a call.
    ///
    /// # Errors
    /// [`Reason::UnknownService`] where no route matches.
    pub fn plan(&self, _call: &Call) -> Result<Arc<Plan>, Rejection> {
        self.0.first().cloned().ok_or_else(|| Rejection::new(Reason::UnknownService, "no route matches this call"))
    }
}
