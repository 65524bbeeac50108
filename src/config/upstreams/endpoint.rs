//! `upstreams.*.endpoint`: where calls go instead of the region's own hosts.

use std::net::IpAddr;

use super::super::reader::{Checked, FromValue, Value, suggest};
use crate::domain::{SERVICES, Service};

/// Where the services of an upstream are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Endpoints {
    /// At the region's own hosts.
    #[default]
    Regional,
    /// All at one place.
    One(Endpoint),
    /// Each of these at a place of its own, by its prefix; the others at the region's hosts. A VPC endpoint is for one service.
    ByService(Vec<(&'static str, Endpoint)>),
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

impl Endpoints {
    /// Where the calls to `service` go instead of the region's host.
    #[must_use]
    pub fn of(&self, service: &Service) -> Option<&Endpoint> {
        match self {
            Self::Regional => None,
            Self::One(endpoint) => Some(endpoint),
            Self::ByService(endpoints) => endpoints.iter().find(|(prefix, _)| *prefix == service.prefix).map(|(_, endpoint)| endpoint),
        }
    }
}

/// A URL for all, or a map from services to URLs.
impl FromValue for Endpoints {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        if !value.is_mapping() {
            return Endpoint::from_value(value).map(Self::One);
        }
        let map = value.map()?;
        if map.named().is_empty() {
            return value.refuse_with(
                "names no service",
                "as in `{ bedrock-runtime: \"https://…\" }`; without the key, all are at the region's hosts",
            );
        }
        let endpoints: Vec<Checked<_>> = map.named().iter().map(|(service, value)| by_service(service, value)).collect();
        endpoints.into_iter().collect::<Checked<_>>().map(Self::ByService)
    }
}

fn by_service(name: &str, value: &Value<'_>) -> Checked<(&'static str, Endpoint)> {
    let service = SERVICES.iter().find(|service| service.prefix == name).map_or_else(
        || {
            let prefixes: Vec<&str> = SERVICES.iter().map(|service| service.prefix).collect();
            value.refuse_key("unknown service", &suggest(name, &prefixes))
        },
        |service| Ok(service.prefix),
    );
    let endpoint = Endpoint::from_value(value);
    Ok((service?, endpoint?))
}

impl Endpoint {
    /// Whether nothing that is said to it leaves this machine.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// It, as it would be written: `http(s)://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        let Self { tls, host, port } = self;
        let scheme = if *tls { "https" } else { "http" };
        // An IPv6 address stands in brackets.
        if host.contains(':') { format!("{scheme}://[{host}]:{port}") } else { format!("{scheme}://{host}:{port}") }
    }
}

impl FromValue for Endpoint {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        const SHAPE: &str = "as in `https://vpce-0abc.bedrock-runtime.us-east-1.vpce.amazonaws.com` or `http://127.0.0.1:4566`";
        let text = value.text()?;
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return value.refuse_with(format!("{} begins with neither `https://` nor `http://`", value.quoted()), SHAPE),
        };
        let (authority, beyond) = rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len())).unwrap_or((rest, ""));
        if authority.contains('@') {
            return value.refuse_with("an endpoint holds no user and password", "see `credentials`");
        }
        if !matches!(beyond, "" | "/") {
            return value.refuse_with("an endpoint has neither path nor query", "the path is the client's own");
        }
        let default_port = if tls { 443 } else { 80 };
        match host_and_port(authority, default_port) {
            Some((host, port)) => Ok(Self { tls, host, port }),
            None => value.refuse_with(format!("{} names no host, or no port of 1 to 65535", value.quoted()), SHAPE),
        }
    }
}

/// Splits `host[:port]`; IPv6 addresses stand in brackets (RFC 3986, section 3.2.2).
fn host_and_port(authority: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None => default_port,
        Some(digits) if digits.starts_with('+') => return None,
        Some(digits) => digits.parse().ok().filter(|port| *port != 0)?,
    };
    (host.parse::<IpAddr>().is_ok() || is_dns_name(host)).then(|| (host.to_ascii_lowercase(), port))
}

fn is_dns_name(host: &str) -> bool {
    let label = |label: &str| {
        matches!(label.len(), 1..=63)
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits only would be taken for an IPv4 address (WHATWG URL, 3.5).
    let numeric = host.rsplit('.').next().is_some_and(|last| last.chars().all(|c| c.is_ascii_digit()));
    host.len() <= 253 && host.split('.').all(label) && !numeric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        let read = |authority| host_and_port(authority, 443);
        let is = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(read("Example.COM"), is("example.com", 443));
        assert_eq!(read("a_b.example.com:8443"), is("a_b.example.com", 8443));
        assert_eq!(read("127.0.0.1:1"), is("127.0.0.1", 1));
        assert_eq!(read("[::1]"), is("::1", 443));
        assert_eq!(read("[2001:DB8::1]:65535"), is("2001:db8::1", 65535));
        for wrong in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:b",
            "a..b",
            "-a",
            "a-",
            "a b",
            "::1",
            "[::1",
            "[a]",
            "[::1]x",
            "1.2.3",
            "1.2.3.400",
            "ä.de",
            "a%20b",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
