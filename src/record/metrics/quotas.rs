//! What upstreams' accounts have left of their quotas at Bedrock.

use std::sync::Arc;

use super::{LimitLevel, Metrics};

pub(super) type Read = dyn Fn() -> Vec<QuotaLevel> + Send;

/// Where an upstream's account stands under one of its quotas, with one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaLevel {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The model.
    pub model: Box<str>,
    /// Where it stands; its `limit` is the name that refusals tell.
    pub level: LimitLevel,
}

impl Metrics {
    /// Has `read` asked where the upstreams' accounts stand, from now on, at each scrape. It must not block, and bounds how many there are.
    pub fn upstream_quotas(&self, read: impl Fn() -> Vec<QuotaLevel> + Send + 'static) {
        *self.quotas.lock() = Some(Box::new(read));
    }
}
