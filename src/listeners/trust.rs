//! Which client certificates are good: issued by an authority of ours, in their time, not revoked.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::certificate;
use super::tls::{TlsError, read};
use crate::config::listeners::{Clients, Presence};
use crate::domain::ClientCertificate;

/// Tells one [`Trust`] from the next. 0 is none.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// What client certificates are judged by: immutable, built whole from its files, and swapped when they change.
#[derive(Debug)]
pub(super) struct Trust {
    /// Which of all that ever were.
    pub(super) generation: u64,
    issued: Arc<dyn ClientCertVerifier>,
    /// Fingerprints and serial numbers, as [`certificate`] writes them. The two can't meet: their lengths differ.
    revoked: HashSet<Box<str>>,
}

impl Trust {
    pub(super) fn load(clients: &Clients) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let unusable = |source| TlsError::Pem { file: clients.ca.clone(), what: "certificate", source };
        for root in CertificateDer::pem_slice_iter(&read(&clients.ca)?) {
            let root = root.map_err(unusable)?;
            roots.add(root).map_err(|error| TlsError::Authorities { file: clients.ca.clone(), fault: error.to_string() })?;
        }
        if roots.is_empty() {
            return Err(unusable(pem::Error::NoItemsFound));
        }
        let mut lists = Vec::new();
        if let Some(file) = &clients.crl {
            let unusable = |source| TlsError::Pem { file: file.clone(), what: "revocation list", source };
            lists = CertificateRevocationListDer::pem_slice_iter(&read(file)?).collect::<Result<Vec<_>, _>>().map_err(unusable)?;
            if lists.is_empty() {
                return Err(unusable(pem::Error::NoItemsFound));
            }
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_crls(lists);
        let builder = if clients.presence == Presence::Optional { builder.allow_unauthenticated() } else { builder };
        let fault = |error: rustls::server::VerifierBuilderError| TlsError::Authorities {
            file: clients.crl.clone().unwrap_or_else(|| clients.ca.clone()),
            fault: error.to_string(),
        };
        let revoked = clients.revoked.as_ref().map_or(Ok(HashSet::new()), |file| {
            let text = read(file)?;
            revocations(&String::from_utf8_lossy(&text)).map_err(|line| TlsError::Revoked { file: file.clone(), line })
        })?;
        Ok(Self { generation: GENERATION.fetch_add(1, Ordering::Relaxed), issued: builder.build().map_err(fault)?, revoked })
    }

    /// Whether a certificate is good at `now`, with the chain that came with it.
    pub(super) fn judge(&self, leaf: &ClientCertificate, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        self.verify_client_cert(&CertificateDer::from(&*leaf.der), chain, now).map(|_| ())
    }
}

/// Reads one fingerprint (64 hexadecimal digits) or serial number (up to 40) a line; colons, blank lines and what follows a `#` are skipped.
///
/// # Errors
/// The number of the first line that is neither.
fn revocations(text: &str) -> Result<HashSet<Box<str>>, usize> {
    let mut revoked = HashSet::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let digits: String = line.chars().filter(|c| !c.is_whitespace() && *c != ':').map(|c| c.to_ascii_lowercase()).collect();
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        match digits.len() {
            0 => {}
            64 if is_hex => _ = revoked.insert(digits.into()),
            1..=40 if is_hex => {
                let significant = digits.trim_start_matches('0');
                let padding = if significant.len().is_multiple_of(2) { "" } else { "0" };
                revoked.insert(format!("{padding}{significant}").into());
            }
            _ => return Err(index + 1),
        }
    }
    Ok(revoked)
}

impl ClientCertVerifier for Trust {
    fn offer_client_auth(&self) -> bool {
        self.issued.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.issued.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.issued.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.issued.verify_client_cert(leaf, chain, now)?;
        if !self.revoked.is_empty() {
            let read = certificate::read(leaf).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
            if self.revoked.contains(&read.fingerprint) || self.revoked.contains(&read.serial) {
                return Err(Error::InvalidCertificate(CertificateError::Revoked));
            }
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issued.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_and_serial_numbers_are_read_as_openssl_prints_them() {
        let fingerprint = "ab".repeat(32);
        let colons = (0..32).map(|_| "AB").collect::<Vec<_>>().join(":");
        let text = format!("# gone\n\n{colons}\r\n0A:1B # lost laptop\n00ff\n7\n");
        let revoked = revocations(&text).unwrap();
        let expected: HashSet<Box<str>> = [fingerprint.as_str(), "0a1b", "ff", "07"].map(Box::from).into();
        assert_eq!(revoked, expected);
        assert!(revocations("").unwrap().is_empty());
    }

    #[test]
    fn a_line_that_is_neither_refuses_the_file() {
        for (text, line) in [("xyz", 1), ("ab\nab cd zz", 2), (&*"a".repeat(41), 1), (&*"a".repeat(65), 1), ("a\n\n0x12", 3)] {
            assert_eq!(revocations(text), Err(line), "{text}");
        }
    }
}
