//! gateway.yaml: one file here for each top-level key, of the same name.
//!
//! Configuration is data: no locks, sockets or counters in it. It is read whole, every fault at once, into the final types; what reads well here is valid.

pub mod admin;
pub mod firewall;
pub mod identity;
pub mod limits;
pub mod listeners;
pub mod record;
pub mod routes;
pub mod upstreams;

/// A whole gateway.yaml, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// At least one.
    pub listeners: Vec<listeners::Listener>,
    /// The operators' listener.
    pub admin: admin::Admin,
    /// Bounds on what any client may send.
    pub firewall: firewall::Firewall,
    /// At least one, tried in order.
    pub identity: Vec<identity::Method>,
    /// All that match must admit.
    pub limits: Vec<limits::Rule>,
    /// At least one; names are unique.
    pub upstreams: Vec<upstreams::Upstream>,
    /// At least one; each names an upstream that exists. Default: one route `everything` to the only upstream.
    pub routes: Vec<routes::Route>,
    /// What is written down.
    pub record: record::Record,
}
