//! `routes`: which upstream answers. The first that matches.

use std::sync::Arc;
use std::time::Duration;

/// One route. It matches every call: conditions come with later keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name in logs; unique.
    pub name: Arc<str>,
    /// The key of an upstream.
    pub to: Arc<str>,
    /// How long each step may take.
    pub timeouts: Timeouts,
}

/// How long each step of an upstream call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS together. Default 3 s.
    pub connect: Duration,
    /// From the request sent to the answer's head. Default 3600 s: a model may think for an hour (the Nova guide asks clients to wait as long).
    pub first_byte: Duration,
    /// Between two reads of the answer. Default 3600 s.
    pub idle: Duration,
    /// The whole exchange. Default 3600 s.
    pub total: Duration,
}
