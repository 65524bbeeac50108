//! What a service's host is called in a region (botocore 1.44.5, partitions.json and the endpoint rule sets).

use crate::config::upstreams::Upstream;
use crate::domain::{HostRule, Service};

/// A place to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// A DNS name or an address (IPv6 without brackets): what is resolved, and what the certificate must be for.
    pub name: Box<str>,
    /// The port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
}

impl Host {
    /// Where an upstream's calls to `service` go: its own `endpoint`, else the service's host in its region.
    #[must_use]
    pub fn of(upstream: &Upstream, service: &Service) -> Self {
        if let Some(endpoint) = upstream.endpoint.of(service) {
            return Self { name: endpoint.host.as_str().into(), port: endpoint.port, tls: endpoint.tls };
        }
        let partition = partition(&upstream.region);
        let dual_stack = upstream.dual_stack || service.hosts == HostRule::DualStackOnly;
        let suffix = if dual_stack { partition.dual_stack } else { partition.dns };
        let fips = if upstream.fips && service.hosts == HostRule::Standard { "-fips" } else { "" };
        let name = format!("{}{fips}.{}.{suffix}", service.prefix, upstream.region);
        Self { name: name.into(), port: 443, tls: true }
    }

    /// The `Host` header: without the port where it is the scheme's own, as SDKs send and sign it.
    #[must_use]
    pub fn header(&self) -> String {
        let name = if self.name.contains(':') { format!("[{}]", self.name) } else { self.name.to_string() };
        if self.port == if self.tls { 443 } else { 80 } { name } else { format!("{name}:{}", self.port) }
    }
}

struct Partition {
    /// What its regions begin with.
    prefix: &'static str,
    dns: &'static str,
    dual_stack: &'static str,
}

/// The longest prefixes first among those that share a beginning.
const PARTITIONS: [Partition; 7] = [
    Partition { prefix: "cn-", dns: "amazonaws.com.cn", dual_stack: "api.amazonwebservices.com.cn" },
    Partition { prefix: "eusc-", dns: "amazonaws.eu", dual_stack: "api.amazonwebservices.eu" },
    Partition { prefix: "us-iso-", dns: "c2s.ic.gov", dual_stack: "api.aws.ic.gov" },
    Partition { prefix: "us-isob-", dns: "sc2s.sgov.gov", dual_stack: "api.aws.scloud" },
    Partition { prefix: "eu-isoe-", dns: "cloud.adc-e.uk", dual_stack: "api.cloud-aws.adc-e.uk" },
    Partition { prefix: "us-isof-", dns: "csp.hci.ic.gov", dual_stack: "api.aws.hci.ic.gov" },
    // GovCloud shares its suffixes with the commercial partition.
    COMMERCIAL,
];

const COMMERCIAL: Partition = Partition { prefix: "", dns: "amazonaws.com", dual_stack: "api.aws" };

fn partition(region: &str) -> &'static Partition {
    PARTITIONS.iter().find(|partition| region.starts_with(partition.prefix)).unwrap_or(&COMMERCIAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::upstreams::{Credentials, Endpoint, Endpoints, Health};

    fn upstream(region: &str) -> Upstream {
        Upstream {
            name: "u".into(),
            region: region.into(),
            endpoint: Endpoints::Regional,
            fips: false,
            dual_stack: false,
            credentials: Credentials::default(),
            ca: None,
            health: Health::Off,
            quotas: Vec::new(),
        }
    }

    #[test]
    fn hosts_follow_the_endpoint_rules() {
        let name = |region: &str, fips, dual_stack, service| {
            let host = Host::of(&Upstream { fips, dual_stack, ..upstream(region) }, service);
            assert_eq!((host.port, host.tls), (443, true));
            host.name.to_string()
        };
        let runtime = Service::BEDROCK_RUNTIME;
        assert_eq!(name("us-east-1", false, false, runtime), "bedrock-runtime.us-east-1.amazonaws.com");
        assert_eq!(name("us-gov-west-1", true, false, runtime), "bedrock-runtime-fips.us-gov-west-1.amazonaws.com");
        assert_eq!(name("eu-west-1", false, true, runtime), "bedrock-runtime.eu-west-1.api.aws");
        assert_eq!(name("us-west-2", true, true, Service::BEDROCK), "bedrock-fips.us-west-2.api.aws");
        assert_eq!(name("cn-north-1", false, false, Service::BEDROCK_AGENT), "bedrock-agent.cn-north-1.amazonaws.com.cn");
        assert_eq!(name("eusc-de-east-1", false, false, runtime), "bedrock-runtime.eusc-de-east-1.amazonaws.eu");
        assert_eq!(name("us-iso-east-1", false, false, runtime), "bedrock-runtime.us-iso-east-1.c2s.ic.gov");
        assert_eq!(name("us-isob-east-1", false, true, runtime), "bedrock-runtime.us-isob-east-1.api.aws.scloud");
        assert_eq!(name("eu-isoe-west-1", false, false, runtime), "bedrock-runtime.eu-isoe-west-1.cloud.adc-e.uk");
        assert_eq!(name("us-isof-south-1", false, false, runtime), "bedrock-runtime.us-isof-south-1.csp.hci.ic.gov");
        assert_eq!(name("us-east-1", false, false, Service::BEDROCK_MANTLE), "bedrock-mantle.us-east-1.api.aws");
        assert_eq!(name("us-east-1", true, false, Service::BEDROCK_MANTLE), "bedrock-mantle.us-east-1.api.aws");
        assert_eq!(
            name("us-east-1", false, false, Service::BEDROCK_AGENTCORE_CONTROL),
            "bedrock-agentcore-control.us-east-1.amazonaws.com"
        );
        assert_eq!(name("us-east-1", false, false, Service::AGENT_REGISTRY), "agent-registry.us-east-1.api.aws");
    }

    #[test]
    fn an_explicit_endpoint_wins_and_its_port_is_in_the_host_header() {
        let endpoint = |host: &str, port, tls| Upstream {
            endpoint: Endpoints::One(Endpoint { tls, host: host.into(), port }),
            fips: true,
            ..upstream("us-east-1")
        };
        let header = |upstream: &Upstream| Host::of(upstream, Service::BEDROCK_RUNTIME).header();
        assert_eq!(header(&endpoint("127.0.0.1", 4566, false)), "127.0.0.1:4566");
        assert_eq!(
            header(&endpoint("vpce-0abc.bedrock-runtime.us-east-1.vpce.amazonaws.com", 443, true)),
            "vpce-0abc.bedrock-runtime.us-east-1.vpce.amazonaws.com"
        );
        assert_eq!(header(&endpoint("::1", 80, false)), "[::1]");
        assert_eq!(header(&endpoint("::1", 443, false)), "[::1]:443");
    }
}
