//! May this request be looked at at all? Whatever can be said before anyone is asked who they are.
//!
//! Everything here is sync, takes well under a microsecond, and holds memory that does not grow with clients: a flood must cost nothing.
//! The room reads raw bytes, addresses and lengths; it decodes nothing that another room goes on to use.

mod body_memory;
mod flood;
mod head;
mod requests;

use std::net::IpAddr;
use std::time::{Duration, Instant};

pub use self::body_memory::{BodyMemory, BodyPermit};
pub use self::head::{MAX_HEAD, MAX_PATH, body_fits, head_fits, method_is_safe, path_is_safe};
pub use self::requests::{RequestPlace, Requests};

use self::flood::Flood;
use crate::config::firewall::Firewall as Config;
use crate::domain::{Reason, Rejection};

/// The guards that follow from the configuration. A reload makes them anew, and the count of the second that runs begins at zero.
#[derive(Debug)]
pub struct Firewall {
    flood: Option<Flood>,
}

impl Firewall {
    /// Sets up the guards that `config` asks for: 256 KiB for floods, nothing otherwise.
    #[must_use]
    pub fn build(config: &Config) -> Self {
        Self { flood: config.flood.as_ref().map(|flood| Flood::new(flood.per_second)) }
    }

    /// Counts a request from `address` and says whether it may go on. An IPv6 client is known by its /64, since it can choose any address
    /// within it; an IPv4 address mapped into IPv6 counts as itself.
    ///
    /// It counts by whole seconds, in a sketch: an address gets `per_second` in each (and so at most twice that around a turn of the
    /// second), and with tens of thousands of other requests in the same second it may get a few less, never more.
    ///
    /// # Errors
    /// [`Reason::Flood`], to be tried again in a second.
    pub fn flood(&self, address: IpAddr, now: Instant) -> Result<(), Rejection> {
        match &self.flood {
            Some(flood) if !flood.admits(address, now) => {
                let message = "too many requests from this address; try again in a second";
                Err(Rejection::new(Reason::Flood, message).retry_after(Duration::from_secs(1)))
            }
            _ => Ok(()),
        }
    }
}
