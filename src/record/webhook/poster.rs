//! The thread that posts, with a runtime of its own: its connections live and die on it, whatever requests do.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tracing::warn;

use super::super::complaints::Complaints;
use super::super::labels::Posted;
use super::{Posts, count, message};
use crate::domain::{Clock, LimitWarning, causes};

/// What the thread has.
pub(super) struct Poster {
    pub(super) url: Uri,
    /// For one try.
    pub(super) timeout: Duration,
    /// What is waited before each try.
    pub(super) pauses: [Duration; 3],
    pub(super) posts: Posts,
}

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why a try failed.
struct Failure {
    why: String,
    /// Whether another try may do better.
    again: bool,
}

impl Poster {
    /// Starts the thread; it ends when the other end of `warnings` is dropped and the last of them is out.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn start(self, warnings: Receiver<LimitWarning>, waiters: UnboundedReceiver<SyncSender<()>>) -> Result<(), String> {
        let (ready, started) = sync_channel(1);
        let work = move || {
            let made = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string());
            match made.and_then(|runtime| Ok((runtime, http()?))) {
                Ok((runtime, http)) => {
                    drop(ready.send(Ok(())));
                    runtime.block_on(self.post_until_closed(&http, warnings, waiters));
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        };
        thread::Builder::new().name("webhook".to_owned()).spawn(work).map_err(|error| error.to_string())?;
        started.recv().map_err(|error| error.to_string())?
    }

    async fn post_until_closed(&self, http: &Http, mut warnings: Receiver<LimitWarning>, mut waiters: UnboundedReceiver<SyncSender<()>>) {
        let mut complaints = Complaints::default();
        loop {
            tokio::select! {
                // Whoever waits is told when nothing is left.
                biased;
                warning = warnings.recv() => match warning {
                    Some(warning) => self.deliver(http, &warning, &mut complaints).await,
                    None => return,
                },
                // Whoever waited too long has left.
                Some(waiter) = waiters.recv() => drop(waiter.send(())),
            }
        }
    }

    /// Tries until it is taken, or tried often enough.
    async fn deliver(&self, http: &Http, warning: &LimitWarning, complaints: &mut Complaints) {
        let body = Bytes::from(message::json(warning).to_string());
        let mut last = String::new();
        for pause in self.pauses {
            tokio::time::sleep(pause).await;
            let tried = tokio::time::timeout(self.timeout, self.post(http, body.clone())).await;
            match tried.unwrap_or_else(|late| Err(Failure { why: late.to_string(), again: true })) {
                Ok(()) => return count(&self.posts, Posted::Sent),
                Err(failure) => {
                    last = failure.why;
                    if !failure.again {
                        break;
                    }
                }
            }
        }
        count(&self.posts, Posted::Failed);
        if complaints.is_due(Clock::System.monotonic()) {
            warn!(error = last, limit = &*warning.rule, "a warning could not be posted to the webhook");
        }
    }

    async fn post(&self, http: &Http, body: Bytes) -> Result<(), Failure> {
        let request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| Failure { why: error.to_string(), again: false })?;
        // Redirects are answers. Of the answer only the status counts.
        match http.request(request).await.map_err(|error| Failure { why: causes(&error), again: true })?.status() {
            status if status.is_success() => Ok(()),
            status => {
                let again = status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
                Err(Failure { why: format!("it answered {status}"), again })
            }
        }
    }
}

/// A client that trusts the system's roots. It keeps no connection: warnings are rare, and one that was kept is dead when the next comes.
fn http() -> Result<Http, String> {
    let mut roots = RootCertStore::empty();
    // Without any root no server is trusted, and each post says so.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
}
