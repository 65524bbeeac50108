//! Asks one HTTP server, over connections that are kept.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::fetch::{self, CaError};
use crate::domain::causes;

/// The longest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// A connection is kept so long for the next question.
const KEPT: Duration = Duration::from_mins(1);
/// So many idle connections are kept.
const KEPT_CONNECTIONS: usize = 32;

/// A client of one URL. Its connections belong to the runtime that it is used on, and end with it.
pub(super) struct Poster {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
}

impl Poster {
    /// A client that trusts the roots in `ca`; the system's where there is none.
    ///
    /// # Errors
    /// Where `ca` can't be used.
    pub(super) fn build(url: Uri, ca: Option<&PathBuf>) -> Result<Self, CaError> {
        let tls = fetch::tls(ca)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT)
            .pool_max_idle_per_host(KEPT_CONNECTIONS)
            .build(connector);
        Ok(Self { client, url })
    }

    /// The status and body of the answer to a POST of `json`. It is sent anew, once, where a connection broke: asking twice does no harm. Redirects are
    /// answers.
    ///
    /// # Errors
    /// Where there is no whole answer: why, in words that hold nothing of what was sent.
    pub(super) async fn post(&self, json: Bytes) -> Result<(StatusCode, Bytes), String> {
        match self.once(json.clone()).await {
            Err(_) => self.once(json).await,
            answer => answer,
        }
    }

    async fn once(&self, json: Bytes) -> Result<(StatusCode, Bytes), String> {
        let request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(json))
            .map_err(|error| error.to_string())?;
        let (head, body) = self.client.request(request).await.map_err(|error| causes(&error))?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| causes(&*error))?;
        Ok((head.status, body.to_bytes()))
    }
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poster").field("url", &self.url).finish_non_exhaustive()
    }
}
