//! Who is calling.

use std::sync::Arc;

/// The caller, as `identity` found them. Cheap to clone: every field is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The tenant that the call is counted and isolated under; never empty.
    pub tenant: Arc<str>,
    /// The person or workload within the tenant, where the credential names one.
    pub user: Option<Arc<str>>,
    /// Groups that the credential asserts; empty where it asserts none.
    pub groups: Arc<[Arc<str>]>,
    /// How the caller proved it.
    pub method: Method,
    /// The public name of the key or credential, where it has one: never the key itself.
    pub key_id: Option<Arc<str>>,
}

/// How a caller proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// A signed token (RFC 7519) from a configured issuer.
    Jwt,
    /// A client certificate (X.509), shown when the connection began.
    ClientCertificate,
    /// Nobody asked: authorization is off.
    Anonymous,
}

impl Method {
    /// The word for it in logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ClientCertificate => "client_certificate",
            Self::Anonymous => "anonymous",
        }
    }
}
