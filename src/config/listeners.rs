//! `listeners`: how requests arrive.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::reader::{Checked, FromValue, Map, Value, suggest};

/// Connections that one listener holds unless told otherwise: at some 50 KB each, a gigabyte.
const MAX_CONNECTIONS: u64 = 20_000;

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens; port 0 lets the system choose.
    pub address: SocketAddr,
    /// TLS, or plain HTTP/1.1 and HTTP/2 (prior knowledge) on one port.
    pub tls: Option<Tls>,
    /// Whoever connects comes from one of these and says for whom (PROXY protocol v2). Empty: the protocol is not spoken.
    pub proxy_protocol: Vec<IpNet>,
    /// Whose `X-Forwarded-For` is believed. Empty: nobody's.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections held at once; one more is closed at once. At least 1; default 20,000.
    pub max_connections: u64,
    /// The same for one client address (an IPv6 one is known by its /64); none means no bound. Trusted proxies are not counted.
    pub max_connections_per_address: Option<u64>,
}

/// TLS on a listener: 1.2 and 1.3, ALPN `h2` and `http/1.1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// At least one; the first answers where no other name fits.
    pub certificates: Vec<Certificate>,
    /// What clients' certificates are judged by, where they are asked for one.
    pub clients: Option<Clients>,
}

/// A certificate chain and its key, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// Client certificates: who issues them, and which are revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// `client_ca`: the authorities that may have issued one, as a PEM bundle.
    pub ca: PathBuf,
    /// `client_crl`: lists of what they revoked (RFC 5280, section 5), in PEM.
    pub crl: Option<PathBuf>,
    /// `client_revoked`: fingerprints (SHA-256) and serial numbers that are revoked, one a line.
    pub revoked: Option<PathBuf>,
    /// `client_certificate`: whether a client may come without one.
    pub presence: Presence,
}

/// Whether a client may come without a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It may, and prove itself in another way. The default.
    Optional,
    /// It may not: the handshake fails.
    Required,
}

impl Listener {
    /// A listener without TLS on `address`, with the defaults of everything else.
    #[must_use]
    pub const fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            proxy_protocol: Vec::new(),
            trusted_proxies: Vec::new(),
            max_connections: MAX_CONNECTIONS,
            max_connections_per_address: None,
        }
    }
}

/// Reads `listeners`: at least one, on addresses that neither another one nor `admin` has.
pub(super) fn read(map: &mut Map<'_>, admin: Option<SocketAddr>) -> Checked<Vec<Listener>> {
    map.required_by("listeners", "[{ address: 127.0.0.1:8080 }]", |value| {
        let mut taken: Vec<(String, SocketAddr)> = admin.map(|address| ("admin".to_owned(), address)).into_iter().collect();
        let listeners: Vec<Checked<Listener>> = value.some_items("listener")?.iter().map(|item| listener(item, &mut taken)).collect();
        listeners.into_iter().collect()
    })
}

fn listener(value: &Value<'_>, taken: &mut Vec<(String, SocketAddr)>) -> Checked<Listener> {
    let mut map = value.map()?;
    let address = map.required_by("address", "127.0.0.1:8080", |address| free_address(address, taken));
    let tls = map.optional("tls");
    let proxy_protocol = map.value("proxy_protocol").map_or(Ok(Vec::new()), |value| proxy_protocol(&value));
    let trusted_proxies = map.value("trusted_proxies").map_or(Ok(Vec::new()), |value| believed(&value));
    let max_connections = map.value("max_connections").map_or(Ok(MAX_CONNECTIONS), |value| connections(&value));
    let per_address = map.value("max_connections_per_address").map(|value| connections(&value)).transpose();
    map.finish()?;
    Ok(Listener {
        address: address?,
        tls: tls?,
        proxy_protocol: proxy_protocol?,
        trusted_proxies: trusted_proxies?,
        max_connections: max_connections?,
        max_connections_per_address: per_address?,
    })
}

fn free_address(value: &Value<'_>, taken: &mut Vec<(String, SocketAddr)>) -> Checked<SocketAddr> {
    let address = SocketAddr::from_value(value)?;
    if let Some((owner, other)) = taken.iter().find(|(_, other)| overlap(address, *other)) {
        let help = if owner == "admin" {
            "clients must not reach `admin`: give one of the two another port"
        } else {
            "give one of the two another port"
        };
        return value.refuse_with(format!("`{address}` is where `{owner}` listens ({other})"), help);
    }
    let owner = value.path().trim_end_matches(".address");
    taken.push((owner.to_owned(), address));
    Ok(address)
}

/// Whether both can't be listened on, or one would take the other's connections. Port 0 never overlaps: the system chooses a free one.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && same_host
}

/// A switch would believe everyone who can reach the port: the balancers are named, or the protocol is not spoken.
fn proxy_protocol(value: &Value<'_>) -> Checked<Vec<IpNet>> {
    if value.is_switch() {
        return value.refuse_with(
            "whoever reaches the port could claim any address",
            "name those whose PROXY header (version 2) is believed: `proxy_protocol: [10.0.0.0/8]`; or remove the key",
        );
    }
    believed(value)
}

/// Networks whose word is taken for a client's address: not all of them.
fn believed(value: &Value<'_>) -> Checked<Vec<IpNet>> {
    let items: Vec<Checked<IpNet>> = value
        .some_items("network")?
        .iter()
        .map(|item| match IpNet::from_value(item)? {
            network if network.prefix_len() == 0 => {
                item.refuse_with(format!("{} is everyone, who could then claim any address", item.quoted()), "name the proxies' networks")
            }
            network => Ok(network),
        })
        .collect();
    items.into_iter().collect()
}

fn connections(value: &Value<'_>) -> Checked<u64> {
    match u64::from_value(value)? {
        0 => value.refuse("must be at least 1"),
        number => Ok(number),
    }
}

impl FromValue for Tls {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let certificates = map.required_by("certificates", "[{ certificate: tls.pem, key: tls-key.pem }]", |value| {
            value.some_items("certificate")?;
            Vec::from_value(value)
        });
        let ca = map.optional("client_ca");
        let (crl, revoked) = (map.optional("client_crl"), map.optional("client_revoked"));
        let presence = map.optional("client_certificate");
        let stray = ["client_crl", "client_revoked", "client_certificate"].into_iter().find_map(|key| map.value(key));
        map.finish()?;
        let (crl, revoked, presence) = (crl?, revoked?, presence?.unwrap_or(Presence::Optional));
        let clients = match (ca?, stray) {
            (Some(ca), _) => Some(Clients { ca, crl, revoked, presence }),
            (None, Some(stray)) => {
                return stray.refuse_key("means nothing where no client is asked for a certificate", "add `client_ca: clients-ca.pem`");
            }
            (None, None) => None,
        };
        Ok(Self { certificates: certificates?, clients })
    }
}

impl FromValue for Certificate {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let certificate = map.required("certificate", "tls.pem");
        let key = map.required("key", "tls-key.pem");
        map.finish()?;
        Ok(Self { certificate: certificate?, key: key? })
    }
}

impl FromValue for Presence {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        const NAMES: [&str; 2] = ["optional", "required"];
        match value.text()? {
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            other => value.refuse_with(format!("{} is neither of the two", value.quoted()), suggest(other, &NAMES)),
        }
    }
}
