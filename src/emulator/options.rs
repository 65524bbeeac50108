//! What an emulator is started with.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::quota::Quota;
use crate::domain::{Clock, Secret};

/// How an emulator listens, and what it asks of a request. The default is loopback, port 0, one well-known key, everything checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where plain HTTP/1.1 and HTTP/2 (prior knowledge) are heard; port 0 takes a free one.
    pub address: SocketAddr,
    /// Where TLS is heard, with ALPN `h2` and `http/1.1`.
    pub tls: Option<TlsOptions>,
    /// The keys that a request may be signed with.
    pub credentials: Vec<Credential>,
    /// The region that signatures must be scoped to; any (but the one that the Host names, if it names one) where `None`.
    pub region: Option<String>,
    /// Whether signatures are checked. Without, any request is answered.
    pub verify: bool,
    /// Whether a request is refused with 400 for carrying what a re-signing gateway must never let through: cookies, forwarding headers,
    /// hop-by-hop headers, its own headers, presigning parameters, or a path or query that two readers may read in two ways.
    pub strict: bool,
    /// For benches: unary Converse calls get a canned answer with a text of so many bytes, unverified, unrecorded and without faults.
    pub quick: Option<usize>,
    /// The largest request body, in bytes; a larger one is answered 413.
    pub max_body: usize,
    /// Where to write Bedrock's own log of model invocations, as it lies in S3: files of JSON lines under
    /// `AWSLogs/123456789012/BedrockModelInvocationLogs/{region}/YYYY/MM/DD/HH/`. They're written by
    /// [`super::Emulator::flush_invocation_logs`], when the emulator is dropped, and whenever a megabyte waits.
    pub invocation_logs: Option<PathBuf>,
    /// What the account may use of its models, each the quota of those that match and of which no other before it is: what is beyond is throttled. Calls that
    /// [`Options::quick`] answers are not.
    pub quotas: Vec<Quota>,
    /// Where the time for checking signatures comes from.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            credentials: vec![Credential::example()],
            region: None,
            verify: true,
            strict: true,
            quick: None,
            max_body: 110 * 1024 * 1024,
            invocation_logs: None,
            quotas: Vec::new(),
            clock: Clock::System,
        }
    }
}

/// An AWS access key.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The key's id, such as `AKIDEXAMPLE`.
    pub access_key_id: String,
    /// The key itself.
    pub secret_access_key: Secret<String>,
    /// The token that must come with it, for a temporary key.
    pub session_token: Option<Secret<String>>,
}

impl Credential {
    /// A key, and the session token that must come with it where it is a temporary one.
    #[must_use]
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>, session_token: Option<&str>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: Secret::new(secret_access_key.into()),
            session_token: session_token.map(|token| Secret::new(token.to_owned())),
        }
    }

    /// The pair that AWS's documentation signs its examples with: `AKIDEXAMPLE`. It opens nothing.
    #[must_use]
    pub fn example() -> Self {
        Self::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
    }
}

/// A TLS listener.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// The certificate and its chain, in PEM.
    pub certificate_pem: String,
    /// The private key, in PEM.
    pub key_pem: Secret<String>,
}

impl TlsOptions {
    /// A fresh self-signed certificate for `names`, on a free port of loopback.
    ///
    /// # Errors
    /// `InvalidInput` where a name is neither a DNS name nor an address.
    pub fn self_signed(names: &[&str]) -> io::Result<Self> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        Ok(Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            certificate_pem: made.cert.pem(),
            key_pem: Secret::new(made.signing_key.serialize_pem()),
        })
    }

    /// The provider is named here, so that no process-wide default is needed.
    pub(super) fn server_config(&self) -> io::Result<ServerConfig> {
        let invalid = |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, e.to_string());
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.expose().as_bytes()).map_err(|e| invalid(&e))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| invalid(&e))?
            .with_no_client_auth()
            .with_single_cert(chain.map_err(|e| invalid(&e))?, key)
            .map_err(|e| invalid(&e))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}
