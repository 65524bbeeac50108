//! Where a call goes, and what its model is called there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::config::routes::{Model, Place};

/// One place to send a call, and what its model is called there.
#[derive(Debug)]
pub struct Target {
    /// Its name in logs and metrics; unique among those of a route that calls are drawn for.
    pub name: Arc<str>,
    /// The key of the upstream in `upstreams`.
    pub upstream: Arc<str>,
    /// Its share of the route's calls; of a place that is only failed over to, 0.
    pub weight: Weight,
    names: Names,
}

/// The share of a target among the weights of its route. It may change while calls are drawn.
#[derive(Debug)]
pub struct Weight(AtomicU32);

/// What a model is called.
#[derive(Debug)]
enum Names {
    /// As the client called it.
    Kept,
    One(Arc<str>),
    ByTenant {
        tenants: HashMap<Arc<str>, Arc<str>>,
        default: Option<Arc<str>>,
    },
}

impl Target {
    pub(super) fn new(place: &Place, weight: u32) -> Self {
        let names = match &place.model {
            None => Names::Kept,
            Some(Model::Name(name)) => Names::One(Arc::clone(name)),
            Some(Model::ByTenant { tenants, default }) => {
                Names::ByTenant { tenants: tenants.iter().cloned().collect(), default: default.clone() }
            }
        };
        Self { name: Arc::clone(&place.name), upstream: Arc::clone(&place.upstream), weight: Weight(AtomicU32::new(weight)), names }
    }

    /// What the model of a call of `tenant` is called there; none where it keeps the name that the client gave it.
    #[must_use]
    pub fn model(&self, tenant: &str) -> Option<&str> {
        match &self.names {
            Names::Kept => None,
            Names::One(name) => Some(name),
            Names::ByTenant { tenants, default } => tenants.get(tenant).or(default.as_ref()).map(|name| &**name),
        }
    }

    /// Whether some tenant's models are called otherwise there.
    pub(super) const fn renames(&self) -> bool {
        !matches!(self.names, Names::Kept)
    }
}

impl Weight {
    /// It, as it is now.
    #[must_use]
    pub fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Changes it. Calls that are being drawn at the moment may see either.
    pub fn set(&self, weight: u32) {
        self.0.store(weight, Ordering::Relaxed);
    }
}
