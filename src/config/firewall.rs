//! `firewall`: what is refused before anyone is asked who they are.

use std::time::Duration;

/// Bounds on what any client may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firewall {
    /// The largest request body, in bytes. Default 25,000,000: Bedrock's own bound for InvokeModel.
    pub max_body: u64,
    /// All request bodies held at once, in bytes. Default 1,000,000,000; never less than `max_body`.
    pub body_memory: u64,
    /// The time for a request's head, from its first byte, and for a new connection's first byte. Default 10 s.
    pub header_timeout: Duration,
    /// The time for a whole request body. Default 60 s.
    pub body_timeout: Duration,
    /// Requests per address; none means no bound.
    pub flood: Option<Flood>,
}

/// A cheap guard against floods, by client address, counted before identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Requests that one address may send in one second (any `rate` is converted; at least 1).
    pub per_second: u32,
}
