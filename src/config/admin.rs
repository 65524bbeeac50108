//! `admin`: the listener for operators, never one that clients reach.

use std::net::SocketAddr;

/// The admin listener: `/metrics`, `/livez`, `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens. Default `127.0.0.1:9090`.
    pub address: SocketAddr,
}
