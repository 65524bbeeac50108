//! Open files: every connection is one, and the system's bound on them is often made for programs of another kind.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::server::files_needed;

/// Raises the bound on open files to the most that the process may have, and warns where that is less than what the configured bounds may come to.
pub(super) fn raise(config: &Config) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None: without a bound.
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the bound on open files could not be raised");
    }
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    let (limit, needed) = (getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), files_needed(config, threads));
    if limit < needed {
        tracing::warn!(
            limit,
            needed,
            "the bounds on connections and requests allow more open files than the system: raise `LimitNOFILE`, or lower `max_connections` and \
             `firewall.max_requests`"
        );
    }
}
