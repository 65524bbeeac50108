//! The AWS services that the gateway stands in front of.
//!
//! The table is data from AWS's service models (botocore 1.44.5, `service-2.json` and the endpoint rule sets). It names services, never
//! operations: an operation that AWS adds to one of them tomorrow passes today.

/// One service: how it is asked for, how it is signed, and what its hosts are called.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// The endpoint prefix: the first label of its host, and the name that clients choose it by.
    pub prefix: &'static str,
    /// The service in the credential scope of a signature.
    pub signing_name: &'static str,
    /// How its host name is made.
    pub hosts: HostRule,
}

/// How a service's host name follows from its prefix and the region's partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostRule {
    /// `{prefix}[-fips].{region}.{suffix}`, with the dual-stack suffix where that is asked for.
    Standard,
    /// `{prefix}.{region}.{dual-stack suffix}`, always: the service has no other name.
    DualStackOnly,
}

macro_rules! services {
    ($($name:ident: $prefix:literal, $signing:literal, $hosts:ident;)*) => {
        impl Service {
            $(#[doc = concat!("`", $prefix, "`, signed as `", $signing, "`.")]
            pub const $name: &'static Service =
                &Service { prefix: $prefix, signing_name: $signing, hosts: HostRule::$hosts };)*
        }
        /// Every service.
        pub const SERVICES: &[&Service] = &[$(Service::$name),*];
    };
}

services! {
    BEDROCK: "bedrock", "bedrock", Standard;
    BEDROCK_RUNTIME: "bedrock-runtime", "bedrock", Standard;
    BEDROCK_AGENT: "bedrock-agent", "bedrock", Standard;
    BEDROCK_AGENT_RUNTIME: "bedrock-agent-runtime", "bedrock", Standard;
    BEDROCK_DATA_AUTOMATION: "bedrock-data-automation", "bedrock", Standard;
    BEDROCK_DATA_AUTOMATION_RUNTIME: "bedrock-data-automation-runtime", "bedrock", Standard;
    BEDROCK_AGENTCORE: "bedrock-agentcore", "bedrock-agentcore", Standard;
    BEDROCK_AGENTCORE_CONTROL: "bedrock-agentcore-control", "bedrock-agentcore", Standard;
    BEDROCK_MANTLE: "bedrock-mantle", "bedrock-mantle", DualStackOnly;
    AGENT_REGISTRY: "agent-registry", "agent-registry", DualStackOnly;
    AGENT_REGISTRY_CONTROL: "agent-registry-control", "agent-registry", DualStackOnly;
    NOVA_ACT: "nova-act", "nova-act", Standard;
}

impl Service {
    /// The service with this endpoint prefix, in any case.
    #[must_use]
    pub fn by_prefix(prefix: &str) -> Option<&'static Self> {
        SERVICES.iter().copied().find(|service| service.prefix.eq_ignore_ascii_case(prefix))
    }
}
