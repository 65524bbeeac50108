//! How much the configured bounds allow, all together.

use crate::config::Config;
use crate::proxy::IDLE_UPSTREAM;

/// Connections of operators at once. The bound is theirs alone: however many clients there are, the admin listener answers.
pub(super) const ADMIN_CONNECTIONS: u64 = 1_000;

/// What a process has open beside connections: sockets that listen, the ledger, logs, resolvers, files that are read again.
const BESIDE: u64 = 256;

/// The open files that the bounds of `config` may come to, on a runtime of `threads` workers: every client's connection, one to Bedrock for each request
/// under way, and those that are kept idle.
#[must_use]
pub fn files_needed(config: &Config, threads: usize) -> u64 {
    let clients = config.listeners.iter().fold(ADMIN_CONNECTIONS, |sum, listener| sum.saturating_add(listener.max_connections));
    let idle = u64::try_from(IDLE_UPSTREAM.saturating_mul(threads)).unwrap_or(u64::MAX);
    clients.saturating_add(config.firewall.max_requests).saturating_add(idle).saturating_add(BESIDE)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_bound_counts_once() {
        let text = "listeners: [{ address: '127.0.0.1:0', max_connections: 10 }, { address: '127.0.0.1:0', max_connections: 7 }]\n\
                    identity: [anonymous: { tenant: public }]\nupstreams: { use1: { region: us-east-1 } }\nfirewall: { max_requests: 100 }";
        let config = Config::parse(text, Path::new("gateway.yaml")).unwrap();
        assert_eq!(files_needed(&config, 2), 10 + 7 + 1_000 + 100 + 2 * 256 + 256);
    }
}
