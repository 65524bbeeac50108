//! Asks other people's HTTP servers, with bounds on all that they may do to us: 10 s, 1 MiB, three redirects within one origin.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

use crate::domain::causes;

/// For one answer, redirects included: DNS, TCP, TLS, head and body.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest body.
const MAX_BODY: usize = 1024 * 1024;
/// How often an answer may point elsewhere.
const MAX_REDIRECTS: usize = 3;
/// A connection is kept for the request that follows at once, not for the next round in ten minutes.
const KEPT: Duration = Duration::from_secs(15);

/// An HTTP/1.1 client, over TLS where the URL says so. Its connections belong to the runtime that it is used on.
pub(super) struct Fetcher(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

/// An answer with status 200.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) headers: HeaderMap,
    /// At most 1 MiB.
    pub(super) body: Bytes,
}

/// A bundle of roots that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The file can't be read.
    #[error("can't be read: {0}")]
    Unreadable(#[source] io::Error),
    /// It holds no certificate.
    #[error("holds no PEM certificate: {0}")]
    Pem(#[source] pem::Error),
    /// A certificate in it is none that could be a root.
    #[error("holds a certificate that is no root: {0}")]
    Root(#[source] rustls::Error),
    /// The library has no protocol version in common with itself.
    #[error("TLS can't be set up: {0}")]
    Tls(#[source] rustls::Error),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("`{url}` can't be asked: {why}")]
    Unreachable { url: Uri, why: String },
    #[error("`{url}` did not answer within {} s", TIMEOUT.as_secs())]
    TimedOut { url: Uri },
    #[error("`{url}` answered {status}, not 200")]
    Status { url: Uri, status: StatusCode },
    #[error("`{url}` points elsewhere: a redirect is followed {MAX_REDIRECTS} times, to the same host, port and scheme only")]
    Redirect { url: Uri },
    #[error("the answer of `{url}` breaks off or is longer than {MAX_BODY} bytes: {why}")]
    Body { url: Uri, why: String },
}

impl Fetcher {
    /// A client that trusts the roots in `ca`; the system's where there is none.
    ///
    /// # Errors
    /// Where `ca` can't be used.
    pub(super) fn build(ca: Option<&PathBuf>) -> Result<Self, CaError> {
        let tls = tls(ca)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(KEPT).build(connector);
        Ok(Self(client))
    }

    /// The answer to a GET of `url`.
    pub(super) async fn get(&self, url: &Uri) -> Result<Fetched, FetchError> {
        let answer = tokio::time::timeout(TIMEOUT, self.follow(url.clone())).await;
        answer.unwrap_or_else(|_| Err(FetchError::TimedOut { url: url.clone() }))
    }

    async fn follow(&self, mut url: Uri) -> Result<Fetched, FetchError> {
        for _ in 0..=MAX_REDIRECTS {
            let request = Request::get(&url)
                .header(header::ACCEPT, "application/json, application/jwk-set+json")
                .header(header::USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
                .body(Empty::new())
                .map_err(|error| FetchError::Unreachable { url: url.clone(), why: error.to_string() })?;
            let answer =
                self.0.request(request).await.map_err(|error| FetchError::Unreachable { url: url.clone(), why: causes(&error) })?;
            let (head, body) = answer.into_parts();
            match head.status {
                StatusCode::OK => {
                    let body = Limited::new(body, MAX_BODY).collect().await;
                    let body = body.map_err(|error| FetchError::Body { url, why: causes(&*error) })?.to_bytes();
                    return Ok(Fetched { headers: head.headers, body });
                }
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    url = same_origin(&url, &head.headers).ok_or(FetchError::Redirect { url })?;
                }
                status => return Err(FetchError::Status { url, status }),
            }
        }
        Err(FetchError::Redirect { url })
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").finish_non_exhaustive()
    }
}

/// Where an answer from `url` points, if that is the same scheme, host and port.
fn same_origin(url: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    // Not `//host/…`, which is another host. A path that does not begin at the root is not worth the rules of RFC 3986, section 5.2.
    let target: Uri = if location.starts_with('/') && !location.starts_with("//") {
        Uri::builder().scheme(url.scheme()?.clone()).authority(url.authority()?.clone()).path_and_query(location).build().ok()?
    } else {
        location.parse().ok()?
    };
    (target.scheme() == url.scheme() && target.authority() == url.authority()).then_some(target)
}

/// TLS that trusts the roots in `ca`; the system's where there is none.
///
/// # Errors
/// Where `ca` can't be used.
pub(super) fn tls(ca: Option<&PathBuf>) -> Result<ClientConfig, CaError> {
    let roots = match ca {
        Some(file) => bundle(file)?,
        None => system(),
    };
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(CaError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(tls)
}

fn bundle(file: &Path) -> Result<RootCertStore, CaError> {
    let text = fs::read(file).map_err(CaError::Unreadable)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        roots.add(certificate.map_err(CaError::Pem)?).map_err(CaError::Root)?;
    }
    if roots.is_empty() { Err(CaError::Pem(pem::Error::NoItemsFound)) } else { Ok(roots) }
}

/// Those of the system's roots that can be read; without any, no server is trusted, and each fetch says so.
fn system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
