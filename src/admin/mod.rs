//! What an operator asks the gateway: its metrics, whether it lives, whether it is ready, what it does now, what was used, what is configured. Served on
//! a listener of its own, for programs and, at `/`, for people.
//!
//! Invariants: no client reaches it; it answers GET and HEAD, and changes nothing but grants ([`grants`]), what is stopped ([`stops`]), canaries that
//! begin anew ([`canaries`]), whether it is in service ([`drain`]) and the configuration ([`reload`]), which no browser may do; no answer holds a secret; what waits for a disk or takes long happens off
//! the threads that serve.

mod canaries;
mod change;
mod drain;
mod grants;
mod guard;
mod limits;
mod live;
mod page;
mod query;
mod readiness;
mod reload;
mod shown;
mod stops;
mod usage;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::json;
use tokio::sync::mpsc;

pub use self::readiness::{Condition, Readiness, Unmet, credentials_of};
pub use self::reload::{Asked, NotReloaded, Reloaded};
pub use self::usage::{moment, usage_json};

use self::change::Refused;
use self::shown::Shown;
use crate::config::Config;
use crate::domain::Clock;
use crate::record::Metrics;
use crate::state::{Canaries, GrantBook, Live, StopBook};

/// The admin listener's application: give it to `pingora::services::listening::Service::new`. Clones are the same one.
#[derive(Clone)]
pub struct Admin {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    clock: Clock,
    started: SystemTime,
    shown: Arc<ArcSwap<Shown>>,
    /// None without a ledger.
    book: Option<Arc<GrantBook>>,
    stop_book: Arc<StopBook>,
    canaries: Arc<Canaries>,
    /// Who is asked to reload; nobody where there is none.
    reloads: Option<mpsc::Sender<Asked>>,
    /// None where nothing is served.
    service: Option<drain::Service>,
}

impl Admin {
    /// Answers of what lives on, from `readiness`, and of `config`.
    #[must_use]
    pub fn new(live: &Live, readiness: Readiness, config: &Config) -> Self {
        Self {
            metrics: Arc::clone(&live.metrics),
            readiness,
            clock: live.clock.clone(),
            started: live.clock.wall(),
            shown: Arc::new(ArcSwap::from_pointee(Shown::of(config))),
            book: live.grant_book.clone(),
            stop_book: Arc::clone(&live.stop_book),
            canaries: Arc::clone(&live.canaries),
            reloads: None,
            service: None,
        }
    }

    /// The same, where `reloads` is asked to reload.
    #[must_use]
    pub fn reloading(self, reloads: mpsc::Sender<Asked>) -> Self {
        Self { reloads: Some(reloads), ..self }
    }

    /// The same, where operators take the instance that serves with `live` out of service, and put it back.
    #[must_use]
    pub fn leaving(self, live: Arc<Live>) -> Self {
        let service = Some(drain::Service::new(live, &self.readiness));
        Self { service, ..self }
    }

    /// From now on `config` is what is shown: for a reload.
    pub fn show(&self, config: &Config) {
        self.shown.store(Arc::new(Shown::of(config)));
    }

    /// The answer to a request, its body included even where the method is HEAD.
    async fn answer(&self, request: &Parts) -> Response<Vec<u8>> {
        let (path, query) = (request.uri.path(), request.uri.query());
        let Some(page) = Page::ALL.into_iter().find(|page| page.path() == path) else {
            let paths = Page::ALL.map(Page::path);
            return in_json(StatusCode::NOT_FOUND, &json!({ "message": format!("nothing is at `{path}`"), "paths": paths }));
        };
        if !matches!(request.method, Method::GET | Method::HEAD) {
            let methods = page.methods();
            let message = format!("`{}` answers {methods}", page.path());
            let mut answer = in_json(StatusCode::METHOD_NOT_ALLOWED, &json!({ "message": message }));
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
            return answer;
        }
        let shown = self.shown.load_full();
        if let Some(why) = guard::foreign(request, shown.address).filter(|_| page.tells_figures()) {
            return in_json(StatusCode::FORBIDDEN, &json!({ "message": why }));
        }
        match page {
            Page::Home => home(),
            Page::Figures => self.figures(shown).await,
            Page::Usage => self.usage(query, &shown).await,
            Page::Limits => self.limits(query, &shown),
            Page::Grants => self.grants(query).await,
            Page::Stops => self.stops(query),
            Page::Canaries => in_json(StatusCode::OK, &json!({ "canaries": self.canaries() })),
            // What asks for it by POST never comes here.
            Page::Reload => in_json(StatusCode::OK, &json!({ "version": shown.version, "refused": self.readiness.remarked().as_deref() })),
            Page::Drain => self.drain(),
            Page::Config => response(StatusCode::OK, TEXT, shown.yaml.as_str()),
            Page::Metrics => self.metrics().await,
            Page::Live => response(StatusCode::OK, TEXT, "ok"),
            Page::Ready => match self.readiness.check() {
                Ok(()) => match self.readiness.remarked() {
                    None => response(StatusCode::OK, TEXT, "ready"),
                    Some(remark) => response(StatusCode::OK, TEXT, format!("ready\n{remark}\n")),
                },
                Err(unmet) => in_json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "message": "not ready", "unmet": unmet })),
            },
        }
    }

    async fn figures(&self, shown: Arc<Shown>) -> Response<Vec<u8>> {
        let (metrics, unmet) = (Arc::clone(&self.metrics), self.readiness.check().err().unwrap_or_default());
        let (started, now) = (self.started, self.clock.wall());
        let (stopped, canaries) = (self.stopped(), self.canaries());
        apart(move || in_json(StatusCode::OK, &live::figures(&metrics, &shown, &unmet, stopped, canaries, (started, now)))).await
    }

    async fn usage(&self, query: Option<&str>, shown: &Shown) -> Response<Vec<u8>> {
        let query = match usage::read(query, self.clock.wall()) {
            Ok(query) => query,
            Err(message) => return in_json(StatusCode::BAD_REQUEST, &json!({ "message": message })),
        };
        let Some(file) = shown.ledger.clone() else {
            let message =
                "there is no ledger: name a file for it in gateway.yaml, as in `record: { ledger: /var/lib/tollgate/ledger.sqlite }`";
            return in_json(StatusCode::NOT_FOUND, &json!({ "message": message }));
        };
        apart(move || match usage::ask(&file, &query) {
            Ok(told) => in_json(StatusCode::OK, &told),
            Err(error) => in_json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "message": error.to_string() })),
        })
        .await
    }

    fn limits(&self, query: Option<&str>, shown: &Shown) -> Response<Vec<u8>> {
        match limits::told(query, &shown.limits, &self.metrics) {
            Ok(told) => in_json(StatusCode::OK, &told),
            Err(message) => in_json(StatusCode::BAD_REQUEST, &json!({ "message": message })),
        }
    }

    /// Rendered where nobody waits: it takes milliseconds when there are many series, and these threads serve clients too.
    async fn metrics(&self) -> Response<Vec<u8>> {
        let (metrics, now) = (Arc::clone(&self.metrics), self.clock.wall());
        apart(move || response(StatusCode::OK, Metrics::CONTENT_TYPE, metrics.render(now))).await
    }
}

/// Makes an answer on a thread that may wait.
async fn apart(make: impl FnOnce() -> Response<Vec<u8>> + Send + 'static) -> Response<Vec<u8>> {
    let broken = |_| in_json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "message": "the answer could not be made; see the log" }));
    tokio::task::spawn_blocking(make).await.unwrap_or_else(broken)
}

fn home() -> Response<Vec<u8>> {
    let mut answer = response(StatusCode::OK, "text/html; charset=utf-8", page::HTML);
    // Base64 and ASCII.
    if let Ok(policy) = HeaderValue::try_from(page::policy()) {
        answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    answer.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let mut answer = if grants::is_change(request) {
            self.change_grants(session).await.unwrap_or_else(Refused::answer)
        } else if stops::is_change(request) {
            self.change_stops(session).await.unwrap_or_else(Refused::answer)
        } else if canaries::is_change(request) {
            self.change_canaries(session).await.unwrap_or_else(Refused::answer)
        } else if reload::is_reload(request) {
            self.reload(session).await.unwrap_or_else(Refused::answer)
        } else if drain::is_change(request) {
            self.change_service(session).unwrap_or_else(Refused::answer)
        } else {
            self.answer(request).await
        };
        if !session.is_body_empty() {
            // A body means nothing to most pages. Kept alive, the connection would first have to be read to its end.
            session.set_keepalive(None);
        }
        if session.req_header().method == Method::HEAD {
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
    /// For people.
    Home,
    /// What it draws.
    Figures,
    /// What the ledger says.
    Usage,
    /// The limits, and what is left of them.
    Limits,
    /// What was granted beyond them.
    Grants,
    /// What is stopped.
    Stops,
    /// How far canaries have come.
    Canaries,
    /// Whether it is in service.
    Drain,
    /// What is in force.
    Config,
    /// Which configuration is in force, and whether a later one was refused; asked by POST, it is loaded anew.
    Reload,
    Metrics,
    /// The process answers: what an orchestrator restarts it by.
    Live,
    /// It should be sent traffic: what a load balancer asks.
    Ready,
}

impl Page {
    const ALL: [Self; 13] = [
        Self::Home,
        Self::Figures,
        Self::Usage,
        Self::Limits,
        Self::Grants,
        Self::Stops,
        Self::Canaries,
        Self::Drain,
        Self::Config,
        Self::Reload,
        Self::Metrics,
        Self::Live,
        Self::Ready,
    ];

    const fn path(self) -> &'static str {
        match self {
            Self::Home => "/",
            Self::Figures => "/live.json",
            Self::Usage => "/usage",
            Self::Limits => "/limits",
            Self::Grants => "/limits/grants",
            Self::Stops => "/stops",
            Self::Canaries => "/canaries",
            Self::Drain => "/drain",
            Self::Config => "/config",
            Self::Reload => "/reload",
            Self::Metrics => "/metrics",
            Self::Live => "/livez",
            Self::Ready => "/readyz",
        }
    }

    /// The methods that it answers.
    const fn methods(self) -> &'static str {
        match self {
            Self::Grants | Self::Canaries | Self::Reload => "GET, HEAD, POST",
            Self::Stops | Self::Drain => "GET, HEAD, POST, DELETE",
            _ => "GET, HEAD",
        }
    }

    /// Whether it is for operators alone: then a page of another site must not come by it through an operator's browser.
    const fn tells_figures(self) -> bool {
        match self {
            Self::Figures
            | Self::Usage
            | Self::Limits
            | Self::Grants
            | Self::Stops
            | Self::Canaries
            | Self::Drain
            | Self::Config
            | Self::Reload
            | Self::Metrics => true,
            Self::Home | Self::Live | Self::Ready => false,
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
