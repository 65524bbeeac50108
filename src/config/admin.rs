//! `admin`: the listener for operators, never one that clients reach.

use std::net::{Ipv4Addr, SocketAddr};

use super::reader::{Checked, FromValue, Value};

/// The admin listener: docs/admin.md says what it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens. Default `127.0.0.1:9090`.
    pub address: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)) }
    }
}

impl FromValue for Admin {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let address = map.or("address", Self::default().address);
        map.finish()?;
        Ok(Self { address: address? })
    }
}
