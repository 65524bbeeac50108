//! How is it said to AWS?
//!
//! Host names, addresses, credentials and signatures of each configured upstream. Knows no Pingora: the corridor dials and sends.

mod addresses;
mod credentials;
mod headers;
pub mod health;
mod hosts;
mod signature;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

use crate::config::upstreams::Upstream as Config;
use crate::domain::{SERVICES, Service};

pub use addresses::{Addresses, REFRESH};
pub use credentials::{CredentialError, Credentials, Keys, News, NoKeys, StsAnswer};
pub use headers::{Fate, KEPT_FROM_CLIENTS, fate};
pub use hosts::Host;
pub use signature::{Request, Signed, Signer};

/// Why an upstream can't be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// A credential file can't be used.
    #[error("upstream `{upstream}`: {source}")]
    Credentials {
        /// The upstream's key.
        upstream: Arc<str>,
        /// Which file, and why.
        source: CredentialError,
    },
    /// The CA bundle can't be read.
    #[error("upstream `{upstream}`: can't read `{}`: {source}", file.display())]
    Ca {
        /// The upstream's key.
        upstream: Arc<str>,
        /// The bundle.
        file: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The CA bundle holds no certificate.
    #[error("upstream `{upstream}`: `{}` holds no PEM certificate: {source}", file.display())]
    CaPem {
        /// The upstream's key.
        upstream: Arc<str>,
        /// The bundle.
        file: PathBuf,
        /// What the parser says.
        source: pem::Error,
    },
}

/// Every configured upstream, by name. Immutable; the credentials and addresses in it renew themselves.
#[derive(Debug)]
pub struct Upstreams(HashMap<Arc<str>, Arc<Upstream>>);

/// One region of one account.
#[derive(Debug)]
pub struct Upstream {
    /// Its key in the configuration.
    pub name: Arc<str>,
    /// Its AWS region.
    pub region: Arc<str>,
    /// The gateway's own credentials there.
    pub credentials: Arc<Credentials>,
    /// What its servers' certificates must chain to (DER), where not the system's roots.
    pub ca: Option<Vec<Vec<u8>>>,
    endpoints: HashMap<&'static str, Arc<Endpoint>>,
    /// What it was built from.
    config: Config,
}

/// One service of one upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// Where to connect.
    pub host: Host,
    /// The `Host` header that goes with it.
    pub host_header: Box<str>,
    /// The addresses behind the host; shared by the services of an upstream with a fixed endpoint.
    pub addresses: Arc<Addresses>,
    /// Signs for this service.
    pub signer: Signer,
}

impl Upstreams {
    /// Builds the upstreams of a checked configuration.
    ///
    /// # Errors
    /// Where a credential file or CA bundle can't be used.
    pub fn build(upstreams: &[Config]) -> Result<Self, UpstreamError> {
        Self::rebuild(upstreams, None)
    }

    /// The same in place of `before`: an upstream that would be the same is the same, addresses and credentials included, and one of which only something
    /// else changed keeps its credentials. Files are read anew, and what they hold counts.
    ///
    /// # Errors
    /// Where a credential file or CA bundle can't be used.
    pub fn rebuild(upstreams: &[Config], before: Option<&Self>) -> Result<Self, UpstreamError> {
        let built = upstreams.iter().map(|config| {
            let fresh = Upstream::build(config)?;
            let upstream = match before.and_then(|before| before.named(&config.name)) {
                Some(known) => fresh.in_place_of(known),
                None => Arc::new(fresh),
            };
            Ok((Arc::clone(&config.name), upstream))
        });
        Ok(Self(built.collect::<Result<_, _>>()?))
    }

    /// The upstream called `name`.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.0.get(name)
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.0.values()
    }
}

impl Upstream {
    fn build(config: &Config) -> Result<Self, UpstreamError> {
        let credentials = Credentials::build(config)
            .map(Arc::new)
            .map_err(|source| UpstreamError::Credentials { upstream: Arc::clone(&config.name), source })?;
        let mut addresses: HashMap<Host, Arc<Addresses>> = HashMap::new();
        let endpoints = SERVICES.iter().map(|service| {
            let host = Host::of(config, service);
            let addresses = addresses.entry(host.clone()).or_insert_with(|| Arc::new(Addresses::of(host.clone())));
            let endpoint = Endpoint {
                host_header: host.header().into(),
                addresses: Arc::clone(addresses),
                signer: Signer::new(&config.region, service.signing_name),
                host,
            };
            (service.prefix, Arc::new(endpoint))
        });
        Ok(Self {
            name: Arc::clone(&config.name),
            region: config.region.as_str().into(),
            credentials,
            ca: ca(config)?,
            endpoints: endpoints.collect(),
            config: config.clone(),
        })
    }

    /// What lives on of `known` when this takes its place: all of it, its credentials, or nothing.
    fn in_place_of(self, known: &Arc<Self>) -> Arc<Self> {
        let (config, before) = (&self.config, &known.config);
        // STS's host follows from all of these.
        let asks = |config: &Config| (config.credentials.clone(), config.region.clone(), config.fips, config.dual_stack);
        let same_keys = asks(config) == asks(before) && self.credentials.reads_as(&known.credentials);
        if same_keys && config == before && self.ca == known.ca {
            return Arc::clone(known);
        }
        let credentials = if same_keys { Arc::clone(&known.credentials) } else { Arc::clone(&self.credentials) };
        Arc::new(Self { credentials, ..self })
    }

    /// When it is left alone for a while.
    #[must_use]
    pub const fn health(&self) -> &crate::config::upstreams::Health {
        &self.config.health
    }

    /// Where its calls to `service` go.
    #[must_use]
    pub fn endpoint(&self, service: &Service) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(service.prefix)
    }

    /// Every service's prefix and endpoint, in no order.
    pub fn endpoints(&self) -> impl Iterator<Item = (&'static str, &Arc<Endpoint>)> {
        self.endpoints.iter().map(|(service, endpoint)| (*service, endpoint))
    }
}

fn ca(config: &Config) -> Result<Option<Vec<Vec<u8>>>, UpstreamError> {
    let Some(file) = &config.ca else { return Ok(None) };
    let upstream = || Arc::clone(&config.name);
    let pem = fs::read(file).map_err(|source| UpstreamError::Ca { upstream: upstream(), file: file.clone(), source })?;
    let bundle = CertificateDer::pem_slice_iter(&pem)
        .map(|certificate| certificate.map(|certificate| certificate.to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .and_then(|bundle| if bundle.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(bundle) })
        .map_err(|source| UpstreamError::CaPem { upstream: upstream(), file: file.clone(), source })?;
    Ok(Some(bundle))
}
