//! Where to?
//!
//! The first route that matches gives the plan: where the call goes, and how long each step may take. Knows names of upstreams, nothing of hosts.

use std::sync::Arc;

use crate::config::routes::{Route, Timeouts};
use crate::domain::{Call, Reason, Rejection, Target};

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The route that matched.
    pub route: Arc<str>,
    /// The place.
    pub target: Target,
    /// How long each step may take.
    pub timeouts: Timeouts,
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
