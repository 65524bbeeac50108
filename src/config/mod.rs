//! gateway.yaml: one file here for each top-level key, of the same name.
//!
//! Configuration is data: no locks, sockets or counters in it. It is read whole, every fault at once, into the final types; what reads well here is valid.

pub mod admin;
pub mod firewall;
pub mod identity;
pub mod limits;
pub mod listeners;
pub mod policy;
pub mod prices;
pub mod record;
pub mod routes;
pub mod upstreams;

mod difference;
mod effective;
mod reader;
#[cfg(test)]
mod tests;

use std::path::Path;

use aws_lc_rs::digest;

use crate::domain::hex;

pub use self::difference::{AllFates, Difference, Fates, needs_restart};
use self::reader::{Checked, Value};
pub use self::reader::{Fault, Faults, Place};

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
    /// All that match must allow.
    pub policy: Vec<policy::Rule>,
    /// All that match must admit.
    pub limits: Vec<limits::Rule>,
    /// At least one; names are unique.
    pub upstreams: Vec<upstreams::Upstream>,
    /// At least one; each names an upstream that exists. Default: one route `everything` to the only upstream.
    pub routes: Vec<routes::Route>,
    /// What usage costs.
    pub prices: prices::Prices,
    /// What is written down.
    pub record: record::Record,
    /// The first twelve hexadecimal digits of the text's SHA-256: which configuration this is.
    pub version: String,
}

impl Config {
    /// Reads a file of at most 1 MiB. Relative paths in it start from its own directory; the files that they name are not opened here.
    ///
    /// # Errors
    /// Every fault of the file at once, with its place.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        Self::parse(&reader::text_of(path)?, path)
    }

    /// Reads the text of a file. `file` is the name that faults are shown under, and its directory is what relative paths start from.
    ///
    /// # Errors
    /// Every fault of the text at once, with its place.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Faults> {
        let config = reader::read(text, file, Self::from_value)?;
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        Ok(Self { version: hex(hash.as_ref().get(..6).unwrap_or_default()), ..config })
    }

    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let admin = map.or("admin", admin::Admin::default());
        let listeners = listeners::read(&mut map, admin.as_ref().ok().map(|admin| admin.address));
        let firewall = map.or("firewall", firewall::Firewall::default());
        let identity = identity::read(&mut map);
        let asked = identity::asked_for(&mut map, &identity, &listeners);
        let policy = map.value("policy").map_or(Ok(Vec::new()), |value| policy::read(&value));
        let limited = map.value("limits");
        let limits = limited.as_ref().map_or(Ok(Vec::new()), limits::read);
        let upstreams = upstreams::read(&mut map);
        // By name, even where one of them is faulty: a route to it is not.
        let names = map.names_in("upstreams");
        let routes = routes::read(&mut map, &names);
        let routes_exist = match (&limited, &limits, &routes) {
            (Some(limited), Ok(_), Ok(routes)) => limits::routes_exist(limited, routes),
            (None, ..) | (_, Err(_), _) | (.., Err(_)) => Ok(()),
        };
        let prices = map.or("prices", prices::Prices::default());
        let record = map.or("record", record::Record::default());
        map.finish()?;
        asked?;
        routes_exist?;
        Ok(Self {
            listeners: listeners?,
            admin: admin?,
            firewall: firewall?,
            identity: identity?,
            policy: policy?,
            limits: limits?,
            upstreams: upstreams?,
            routes: routes?,
            prices: prices?,
            record: record?,
            version: String::new(),
        })
    }
}
