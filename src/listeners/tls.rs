//! TLS on a listener: rustls with aws-lc-rs, TLS 1.2 and 1.3, certificates chosen by the name the client asks for.
//!
//! What a connection is made by is one immutable [`Current`]. It is swapped whole when files change, and each part of it (a certificate with its key;
//! what client certificates are judged by) is replaced only by one that is good.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

use super::files::Files;
use super::trust::Trust;
use crate::config::listeners::{Certificate, Tls};

/// A certificate file is a few KiB, and a revocation list of a hundred thousand entries some 4 MB; more than this is neither.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// Why certificates can't be used. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("can't read `{}`: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("`{}` holds no usable PEM {what}: {source}", file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// `certificate`, `private key` or `revocation list`.
        what: &'static str,
        /// What the parser says.
        source: pem::Error,
    },
    /// A certificate and a key do not belong together, or are of a kind that is not supported.
    #[error("`{}` and its key can't be used together: {source}", certificate.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// Authorities or revocation lists that can't be used.
    #[error("clients' certificates can't be judged by `{}`: {fault}", file.display())]
    Authorities {
        /// The file.
        file: PathBuf,
        /// What the verifier says.
        fault: String,
    },
    /// A line of `client_revoked` means nothing.
    #[error("line {line} of `{}` is neither a SHA-256 fingerprint (64 hexadecimal digits) nor a serial number (up to 40)", file.display())]
    Revoked {
        /// The file.
        file: PathBuf,
        /// Its number, from 1.
        line: usize,
    },
    /// The provider refuses the configuration.
    #[error("TLS can't be set up: {0}")]
    Provider(rustls::Error),
}

/// The TLS of one listener, as it is and as it was configured.
pub(super) struct Shared {
    config: Tls,
    current: ArcSwap<Current>,
    /// Stateless tickets: resumption costs no memory a client, and the key changes by itself every six hours. It outlives a change of files. A ticket
    /// carries the client's certificate, which is judged anew when the session is resumed (`arrival.rs`).
    tickets: Arc<dyn ProducesTickets>,
}

/// What new connections are made by.
pub(super) struct Current {
    pub(super) acceptor: TlsAcceptor,
    /// What client certificates are judged by, where clients are asked for one.
    pub(super) trust: Option<Arc<Trust>>,
    /// As many as are configured, in their order.
    pairs: Vec<Arc<CertifiedKey>>,
}

impl Shared {
    /// Reads all files of one listener.
    pub(super) fn load(config: &Tls) -> Result<Self, TlsError> {
        let pairs = config.certificates.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        let trust = config.clients.as_ref().map(Trust::load).transpose()?.map(Arc::new);
        let tickets = aws_lc_rs::Ticketer::new().map_err(TlsError::Provider)?;
        let current = ArcSwap::from_pointee(Current::build(pairs, trust, &tickets)?);
        Ok(Self { config: config.clone(), current, tickets })
    }

    /// Whether it is what `config` asks for; the files renew themselves.
    pub(super) fn is_of(&self, config: &Tls) -> bool {
        self.config == *config
    }

    pub(super) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Reads anew what the files at `at` in [`files`] make. What was before is kept where they can't be used.
    pub(super) fn reload(&self, at: usize) -> Result<(), TlsError> {
        let current = self.current();
        let (mut pairs, mut trust) = (current.pairs.clone(), current.trust.clone());
        match (self.config.certificates.get(at), pairs.get_mut(at), &self.config.clients) {
            (Some(files), Some(pair), _) => *pair = load(files)?,
            (_, _, Some(clients)) => trust = Some(Arc::new(Trust::load(clients)?)),
            (_, _, None) => return Ok(()),
        }
        self.current.store(Arc::new(Current::build(pairs, trust, &self.tickets)?));
        Ok(())
    }
}

/// The files that are read, by what they make together: each certificate with its key, in their order; last what clients are judged by.
pub(super) fn files(config: &Tls) -> Vec<Files> {
    let pairs = config.certificates.iter().map(|pair| Files::new([&pair.certificate, &pair.key]));
    let clients = config.clients.iter().map(|clients| Files::new([&clients.ca].into_iter().chain(&clients.crl).chain(&clients.revoked)));
    pairs.chain(clients).collect()
}

impl Current {
    fn build(pairs: Vec<Arc<CertifiedKey>>, trust: Option<Arc<Trust>>, tickets: &Arc<dyn ProducesTickets>) -> Result<Self, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Provider)?;
        let builder = match &trust {
            Some(trust) => builder.with_client_cert_verifier(Arc::clone(trust) as _),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_cert_resolver(Arc::new(ByName(pairs.clone())));
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        server.ticketer = Arc::clone(tickets);
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), trust, pairs })
    }
}

fn load(files: &Certificate) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&read(&files.certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
        .map_err(|source| TlsError::Pem { file: files.certificate.clone(), what: "certificate", source })?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|source| TlsError::Pem {
        file: files.key.clone(),
        what: "private key",
        source,
    })?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map(Arc::new)
        .map_err(|source| TlsError::Pair { certificate: files.certificate.clone(), source })
}

/// A file of at most 16 MiB.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let bounded = || {
        if fs::metadata(file)?.len() > FILE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is larger than 16 MiB"));
        }
        fs::read(file)
    };
    bounded().map_err(|source| TlsError::Read { file: file.to_path_buf(), source })
}

/// The first certificate that is valid for the name the client asks for, wildcards included; else the first.
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| ServerName::try_from(name).ok()).and_then(|name| {
            self.0.iter().find(|candidate| {
                candidate
                    .cert
                    .first()
                    .and_then(|leaf| EndEntityCert::try_from(leaf).ok())
                    .is_some_and(|leaf| leaf.verify_is_valid_for_subject_name(&name).is_ok())
            })
        });
        named.or_else(|| self.0.first()).cloned()
    }
}

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByName({} certificates)", self.0.len())
    }
}
