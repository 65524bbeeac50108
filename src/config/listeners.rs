//! `listeners`: how requests arrive.

use std::net::SocketAddr;
use std::path::PathBuf;

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
