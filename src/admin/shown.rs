//! What is shown of a configuration, worked out once when it is put in force.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::config::Config;

/// What follows from the configuration in force.
#[derive(Debug)]
pub(super) struct Shown {
    /// All of it, without secrets, in YAML.
    pub(super) yaml: String,
    /// Which one it is.
    pub(super) version: String,
    /// Its limits, as gateway.yaml would say them.
    pub(super) limits: Value,
    /// Its upstreams, by name.
    pub(super) upstreams: Vec<Arc<str>>,
    /// Its routes, by name.
    pub(super) routes: Vec<String>,
    /// Where the ledger is; none where there is none.
    pub(super) ledger: Option<PathBuf>,
    /// Where the admin listener was told to listen.
    pub(super) address: SocketAddr,
}

impl Shown {
    pub(super) fn of(config: &Config) -> Self {
        let yaml = config.effective();
        // It was written a moment ago: it reads.
        let mut read: Value = serde_yaml::from_str(&yaml).unwrap_or_default();
        Self {
            limits: read.get_mut("limits").map(Value::take).unwrap_or_default(),
            version: config.version.clone(),
            upstreams: config.upstreams.iter().map(|upstream| Arc::clone(&upstream.name)).collect(),
            routes: config.routes.iter().map(|route| route.name.to_string()).collect(),
            ledger: config.record.ledger.as_ref().map(|ledger| ledger.file.clone()),
            address: config.admin.address,
            yaml: format!("# Configuration {}, served by Tollgate {}. Secrets are ***.\n{yaml}", config.version, env!("CARGO_PKG_VERSION")),
        }
    }
}
