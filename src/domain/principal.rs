//! Who is calling.

use std::sync::Arc;

/// The tenant that mirrored calls are booked under. No caller has it: `identity` takes it from nobody.
pub const MIRROR_TENANT: &str = "(mirror)";

/// The caller, as `identity` found them. Cheap to clone: every field is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The tenant that the call is counted and isolated under; never empty, and never [`MIRROR_TENANT`].
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
    /// A service of the operator's own vouched for them.
    External,
    /// A random key that the gateway issued.
    ApiKeys,
    /// A signature (SigV4) by a credential that the gateway issued.
    AwsCredentials,
    /// Nobody asked: authorization is off.
    Anonymous,
}

impl Method {
    /// Every method, for configurations that name some.
    pub const ALL: [Self; 6] = [Self::Jwt, Self::ClientCertificate, Self::External, Self::ApiKeys, Self::AwsCredentials, Self::Anonymous];

    /// The word for it in logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ClientCertificate => "client_certificate",
            Self::External => "external",
            Self::ApiKeys => "api_keys",
            Self::AwsCredentials => "aws_credentials",
            Self::Anonymous => "anonymous",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_can_be_named() {
        for (at, method) in Method::ALL.into_iter().enumerate() {
            // A new method does not compile until it has its place in `ALL` too.
            let place = match method {
                Method::Jwt => 0,
                Method::ClientCertificate => 1,
                Method::External => 2,
                Method::ApiKeys => 3,
                Method::AwsCredentials => 4,
                Method::Anonymous => 5,
            };
            assert_eq!(at, place, "{}", method.label());
        }
    }
}
