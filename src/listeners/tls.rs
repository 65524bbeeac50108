//! TLS on a listener: rustls with aws-lc-rs, TLS 1.2 and 1.3, certificates chosen by the name the client asks for.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

use crate::config::listeners::{Certificate, Tls};

/// A certificate file is a few KiB; more than this is not one.
const FILE_MAX: u64 = 1024 * 1024;

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
        /// `certificate` or `private key`.
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
    /// The provider refuses the configuration.
    #[error("TLS can't be set up: {0}")]
    Provider(rustls::Error),
}

/// Reads the certificates of one listener.
pub(super) fn acceptor(config: &Tls) -> Result<TlsAcceptor, TlsError> {
    let certificates = config.certificates.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Provider)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(certificates)));
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Stateless tickets: resumption costs no memory a client, and the key changes by itself every six hours.
    server.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Provider)?;
    Ok(TlsAcceptor::from(Arc::new(server)))
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

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let bounded = || {
        if fs::metadata(file)?.len() > FILE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is larger than 1 MiB"));
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
