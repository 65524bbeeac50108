//! `limits`: how much each caller may ask for. Every rule that matches must admit.

use std::time::Duration;

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name in logs, metrics and refusals; unique.
    pub name: String,
    /// What is counted.
    pub count: Count,
    /// How fast it refills.
    pub rate: Rate,
    /// How many may come at once when the bucket is full: at least 1. Default: what `rate` gives in one second, at least 1.
    pub burst: u64,
    /// Who has a bucket of their own; at least one.
    pub per: Vec<Dimension>,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Calls admitted.
    Requests,
}

/// So many in such a time, as in `600/minute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub events: u64,
    /// A second, a minute or an hour.
    pub period: Duration,
}

/// By what callers are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// By tenant.
    Tenant,
    /// By user within the tenant; callers without a user share their tenant's.
    User,
}
