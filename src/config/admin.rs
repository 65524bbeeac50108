//! `admin`: the listener for operators, never one that clients reach; and how the gateway leaves, which is begun there or by a signal.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::reader::{Checked, FromValue, Value};

/// The admin listener: docs/admin.md says what it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens. Default `127.0.0.1:9090`.
    pub address: SocketAddr,
    /// For how long a gateway that was told to end still takes connections, so that load balancers notice that it is not ready. Default none.
    pub drain_delay: Duration,
    /// For how long it then lets answers that are under way end. Default 5 minutes.
    pub drain_timeout: Duration,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
            drain_delay: Duration::ZERO,
            // As long as an NLB waits by default for connections of a target that it takes out.
            drain_timeout: Duration::from_mins(5),
        }
    }
}

impl FromValue for Admin {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let default = Self::default();
        let mut map = value.map()?;
        let address = map.or("address", default.address);
        let drain_delay = map.value("drain_delay").map_or(Ok(default.drain_delay), |value| delay(&value));
        let drain_timeout = map.or("drain_timeout", default.drain_timeout);
        map.finish()?;
        Ok(Self { address: address?, drain_delay: drain_delay?, drain_timeout: drain_timeout? })
    }
}

/// A duration, or none: where nobody looks at `/readyz` there is nothing to wait for.
fn delay(value: &Value<'_>) -> Checked<Duration> {
    if value.is_false() || matches!(value.as_text(), Some("off" | "0s")) {
        return Ok(Duration::ZERO);
    }
    Duration::from_value(value)
}
