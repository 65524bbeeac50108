//! Where a call goes, and what its model is called there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::canary::Share;
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
pub struct Weight(Of);

#[derive(Debug)]
enum Of {
    /// As it was set last.
    Itself(AtomicU32),
    /// One of those that a canary is compared with: what it weighs, unless the canary gets everything.
    Baseline(u32, Share),
    /// A canary, beside others that weigh so much together.
    Canary(u32, Share),
}

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
    pub(super) fn new(place: &Place, weight: Weight) -> Self {
        let names = match &place.model {
            None => Names::Kept,
            Some(Model::Name(name)) => Names::One(Arc::clone(name)),
            Some(Model::ByTenant { tenants, default }) => {
                Names::ByTenant { tenants: tenants.iter().cloned().collect(), default: default.clone() }
            }
        };
        Self { name: Arc::clone(&place.name), upstream: Arc::clone(&place.upstream), weight, names }
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
    /// One that stays as it is until it is [set](Weight::set).
    pub(super) const fn new(weight: u32) -> Self {
        Self(Of::Itself(AtomicU32::new(weight)))
    }

    /// Those of the targets of a route, of which the one at `canary` has the share `share` of all, and the others the rest, in proportion to `weights`:
    /// not all 0 without it.
    ///
    /// All are multiplied by the same number, which changes nobody's target, so that the share comes out to a millionth.
    pub(super) fn beside(weights: &[u32], canary: usize, share: &Share) -> Vec<Self> {
        let others = || weights.iter().enumerate().filter(|(at, _)| *at != canary).map(|(_, weight)| *weight);
        let sum: u32 = others().fold(0, u32::saturating_add).max(1);
        // A canary has 99 times what the others have at most, and all together are not to overflow either.
        let scale = u32::MAX / 100 / sum;
        let weight = |(at, weight): (usize, &u32)| {
            Self(if at == canary { Of::Canary(sum * scale, share.clone()) } else { Of::Baseline(*weight * scale, share.clone()) })
        };
        weights.iter().enumerate().map(weight).collect()
    }

    /// It, as it is now.
    #[must_use]
    pub fn now(&self) -> u32 {
        match &self.0 {
            Of::Itself(weight) => weight.load(Ordering::Relaxed),
            Of::Baseline(weight, share) => {
                if share.is_all() {
                    0
                } else {
                    *weight
                }
            }
            Of::Canary(others, share) if share.is_all() => *others,
            Of::Canary(others, share) => {
                let share = u64::from(share.now());
                let rest = u64::from(Share::ALL).saturating_sub(share).max(1);
                u32::try_from(u64::from(*others) * share / rest).unwrap_or(u32::MAX)
            }
        }
    }

    /// Changes it. Calls that are being drawn at the moment may see either. Those of a route with a canary follow its share, and nothing else.
    pub fn set(&self, weight: u32) {
        if let Of::Itself(cell) = &self.0 {
            cell.store(weight, Ordering::Relaxed);
        }
    }
}
