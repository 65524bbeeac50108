//! What an operator asks the gateway: its metrics, whether it lives, whether it is ready. Served on a listener of its own.
//!
//! Invariants: no client reaches it; it answers GET and HEAD only, and changes nothing; no answer holds a secret.

mod readiness;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderValue, Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::json;

pub use self::readiness::{Condition, Readiness, Unmet};

use crate::domain::Clock;
use crate::record::Metrics;

/// The admin listener's application: give it to `pingora::services::listening::Service::new`.
pub struct Admin {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    clock: Clock,
}

impl Admin {
    /// Answers from `metrics` and `readiness`; `clock` tells how long credentials still last.
    #[must_use]
    pub const fn new(metrics: Arc<Metrics>, readiness: Readiness, clock: Clock) -> Self {
        Self { metrics, readiness, clock }
    }

    /// The answer to a request for `path`, its body included even where `method` is HEAD.
    async fn answer(&self, method: &Method, path: &str) -> Response<Vec<u8>> {
        let Some(page) = Page::ALL.into_iter().find(|page| page.path() == path) else {
            let paths = Page::ALL.map(Page::path);
            return in_json(StatusCode::NOT_FOUND, &json!({ "message": format!("nothing is at `{path}`"), "paths": paths }));
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            let message = format!("`{}` answers GET and HEAD", page.path());
            let mut answer = in_json(StatusCode::METHOD_NOT_ALLOWED, &json!({ "message": message }));
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match page {
            Page::Metrics => self.metrics().await,
            Page::Live => response(StatusCode::OK, TEXT, "ok"),
            Page::Ready => match self.readiness.check() {
                Ok(()) => response(StatusCode::OK, TEXT, "ready"),
                Err(unmet) => in_json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "message": "not ready", "unmet": unmet })),
            },
        }
    }

    /// Rendered where nobody waits: it takes milliseconds when there are many series, and these threads serve clients too.
    async fn metrics(&self) -> Response<Vec<u8>> {
        let (metrics, now) = (Arc::clone(&self.metrics), self.clock.wall());
        match tokio::task::spawn_blocking(move || metrics.render(now)).await {
            Ok(text) => response(StatusCode::OK, Metrics::CONTENT_TYPE, text),
            Err(_) => in_json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "message": "the metrics could not be written; see the log" })),
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let head = request.method == Method::HEAD;
        let mut answer = self.answer(&request.method, request.uri.path()).await;
        if !session.is_body_empty() {
            // A body means nothing here. Kept alive, the connection would first have to be read to its end.
            session.set_keepalive(None);
        }
        if head {
            answer.body_mut().clear();
        }
        answer
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// What there is.
#[derive(Clone, Copy)]
enum Page {
    Metrics,
    /// The process answers: what an orchestrator restarts it by.
    Live,
    /// It should be sent traffic: what a load balancer asks.
    Ready,
}

impl Page {
    const ALL: [Self; 3] = [Self::Metrics, Self::Live, Self::Ready];

    const fn path(self) -> &'static str {
        match self {
            Self::Metrics => "/metrics",
            Self::Live => "/livez",
            Self::Ready => "/readyz",
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn in_json(status: StatusCode, body: &serde_json::Value) -> Response<Vec<u8>> {
    response(status, "application/json", body.to_string())
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<String>) -> Response<Vec<u8>> {
    let body = body.into().into_bytes();
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
