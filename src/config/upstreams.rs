//! `upstreams`: the AWS regions and accounts that calls go to, by name.

use std::path::PathBuf;
use std::sync::Arc;

/// One region of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its key in the file.
    pub name: Arc<str>,
    /// The AWS region: in host names and in every signature's scope.
    pub region: String,
    /// Where to connect instead of the region's own hosts. It wins over `fips` and `dual_stack`.
    pub endpoint: Option<Endpoint>,
    /// Use the FIPS host names.
    pub fips: bool,
    /// Use the dual-stack host names.
    pub dual_stack: bool,
    /// Where the gateway's own credentials come from. Default: the AWS default provider chain.
    pub credentials: Credentials,
    /// A PEM bundle that server certificates must chain to, instead of the system's roots (private endpoints, tests).
    pub ca: Option<PathBuf>,
}

/// A fixed endpoint: `http(s)://host[:port]`, without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `https`.
    pub tls: bool,
    /// A DNS name or an address (IPv6 without brackets).
    pub host: String,
    /// Default 443 with TLS, else 80.
    pub port: u16,
}

/// Where credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// The AWS default provider chain: environment, profile, web identity, ECS, IMDSv2.
    DefaultChain,
    /// Fixed, for tests and for machines outside AWS.
    Static {
        /// The access key id: no secret.
        access_key_id: String,
        /// A file that holds the secret access key, and nothing else.
        secret_access_key_file: PathBuf,
        /// A file that holds the session token, and nothing else.
        session_token_file: Option<PathBuf>,
    },
}
