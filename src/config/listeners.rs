//! `listeners`: how requests arrive.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::reader::{Checked, FromValue, Map, Value};

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens; port 0 lets the system choose.
    pub address: SocketAddr,
    /// TLS, or plain HTTP/1.1 and HTTP/2 (prior knowledge) on one port.
    pub tls: Option<Tls>,
}

/// TLS on a listener: 1.2 and 1.3, ALPN `h2` and `http/1.1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// At least one; the first answers where no other name fits.
    pub certificates: Vec<Certificate>,
}

/// A certificate chain and its key, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
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
    map.finish()?;
    Ok(Listener { address: address?, tls: tls? })
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

impl FromValue for Tls {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let certificates = map.required_by("certificates", "[{ certificate: tls.pem, key: tls-key.pem }]", |value| {
            value.some_items("certificate")?;
            Vec::from_value(value)
        });
        map.finish()?;
        Ok(Self { certificates: certificates? })
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
