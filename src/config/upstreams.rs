//! `upstreams`: the AWS regions and accounts that calls go to, by name.

mod quotas;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

pub use self::quotas::Quota;
use super::reader::{Checked, FromValue, Map, Name, Value};

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
    /// What AWS grants the account, as far as it is told.
    pub quotas: Vec<Quota>,
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

/// Reads `upstreams`: at least one, by name.
pub(super) fn read(map: &mut Map<'_>) -> Checked<Vec<Upstream>> {
    map.required_by("upstreams", "{ use1: { region: us-east-1 } }", |value| {
        let map = value.map()?;
        if map.named().is_empty() {
            return value.refuse_with("needs at least one upstream", "as in `use1: { region: us-east-1 }`");
        }
        let upstreams: Vec<Checked<Upstream>> = map.named().iter().map(|(name, value)| Upstream::from_value(name, value)).collect();
        upstreams.into_iter().collect()
    })
}

impl Upstream {
    fn from_value(name: &str, value: &Value<'_>) -> Checked<Self> {
        let well_named = if Name::is_valid(name) { Ok(()) } else { value.refuse_key("not a valid name for an upstream", Name::RULE) };
        let mut map = value.map()?;
        let region = map.required_by("region", "us-east-1", region);
        let endpoint = map.optional("endpoint");
        let fips = map.or("fips", false);
        let dual_stack = map.or("dual_stack", false);
        let credentials = map.or("credentials", Credentials::DefaultChain);
        let ca = map.optional("ca");
        let quotas = quotas::read(&mut map);
        map.finish()?;
        well_named?;
        Ok(Self {
            name: name.into(),
            region: region?,
            endpoint: endpoint?,
            fips: fips?,
            dual_stack: dual_stack?,
            credentials: credentials?,
            ca: ca?,
            quotas: quotas?,
        })
    }
}

/// A region by its shape, `us-east-1` or `us-gov-west-1`: AWS adds new ones faster than gateways are released.
fn region(value: &Value<'_>) -> Checked<String> {
    let text = value.text()?;
    if looks_like_a_region(text) {
        return Ok(text.to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let zone = lower.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let near = [lower.as_str(), zone].into_iter().find(|near| looks_like_a_region(near));
    let help = near.map_or_else(|| "as in `us-east-1` or `eu-central-1`".to_owned(), |near| format!("did you mean `{near}`?"));
    value.refuse_with(format!("{} is not an AWS region", value.quoted()), help)
}

pub(super) fn looks_like_a_region(text: &str) -> bool {
    let mut parts = text.split('-');
    let (area, number) = (parts.next().unwrap_or_default(), parts.next_back().unwrap_or_default());
    let letters = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase());
    let words: Vec<&str> = parts.collect();
    let numbered = !number.is_empty() && number.len() <= 2 && number.chars().all(|c| c.is_ascii_digit());
    area.len() >= 2 && letters(area) && !words.is_empty() && words.into_iter().all(letters) && numbered && text.len() <= 32
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

impl FromValue for Credentials {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        map.forbid(
            "secret_access_key",
            "a secret does not belong in this file",
            "put it in a file of its own and name that: `secret_access_key_file`",
        );
        map.forbid(
            "session_token",
            "a secret does not belong in this file",
            "put it in a file of its own and name that: `session_token_file`",
        );
        let access_key_id = map.required_by("access_key_id", "AKIA…", access_key_id);
        let secret_access_key_file = map.required("secret_access_key_file", "secret");
        let session_token_file = map.optional("session_token_file");
        map.finish()?;
        Ok(Self::Static {
            access_key_id: access_key_id?,
            secret_access_key_file: secret_access_key_file?,
            session_token_file: session_token_file?,
        })
    }
}

/// It goes into the `Authorization` header as it is.
fn access_key_id(value: &Value<'_>) -> Checked<String> {
    let text = value.text()?;
    let word = text.len() <= 128 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if word { Ok(text.to_owned()) } else { value.refuse("an access key id has up to 128 ASCII letters, digits and `_`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_told_by_its_shape() {
        for region in ["us-east-1", "us-gov-west-1", "us-isob-east-1", "ap-southeast-7", "eusc-de-east-1", "cn-northwest-1"] {
            assert!(looks_like_a_region(region), "{region}");
        }
        for other in [
            "",
            "-",
            "us",
            "us-1",
            "us-east",
            "us-east-1a",
            "u-east-1",
            "us--east-1",
            "-east-1",
            "us-east-",
            "us-east-123",
            "us1-east-1",
            "us.east-1",
        ] {
            assert!(!looks_like_a_region(other), "{other}");
        }
    }

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
