//! `/canaries`: how far canaries have come; and an operator has one begin anew.

use http::request::Parts;
use http::{Method, Response, StatusCode};
use pingora::protocols::http::ServerSession;
use serde::Deserialize;
use serde_json::{Value, json};

use super::change::{self, Refused};
use super::{Admin, Page, in_json};
use crate::domain::rfc3339;
use crate::state::{CanaryFigures, CanaryLevel};

/// Which canary is to begin anew.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    route: String,
}

/// Whether a request would have a canary begin anew.
pub(super) fn is_change(request: &Parts) -> bool {
    request.uri.path() == Page::Canaries.path() && request.method == Method::POST
}

impl Admin {
    /// How each canary stands.
    pub(super) fn canaries(&self) -> Vec<Value> {
        self.canaries.levels(self.clock.monotonic()).iter().map(told).collect()
    }

    /// Has a canary begin anew: for what [`is_change`] says is one.
    pub(super) async fn change_canaries(&self, session: &mut ServerSession) -> Result<Response<Vec<u8>>, Refused> {
        let by = self.asker(session)?;
        let body = change::body(session, "which canary is to begin anew").await?;
        let wrong = |error| Refused(StatusCode::BAD_REQUEST, format!("the body names no route, as in `{{\"route\": \"chat\"}}`: {error}"));
        let Asked { route } = serde_json::from_slice(&body).map_err(wrong)?;
        let (level, was) = self
            .canaries
            .reset(&route, self.clock.monotonic(), self.clock.wall())
            .ok_or_else(|| Refused(StatusCode::NOT_FOUND, format!("no route `{route}` has a target with `promote`")))?;
        let (from, to) = (share(was), share(level.share));
        tracing::warn!(route = %level.route, target = %level.target, from, to, by, "an operator had a canary begin anew");
        Ok(in_json(StatusCode::OK, &told(&level)))
    }
}

fn told(level: &CanaryLevel) -> Value {
    let CanaryLevel { route, target, share: now, next, is_back, since, canary, baseline, ups: _, backs: _ } = level;
    json!({
        "route": &**route,
        "target": &**target,
        "share": share(*now),
        "next": next.map(share),
        "stepped_back": is_back,
        "since": rfc3339(*since),
        "canary": figures(canary),
        "baseline": figures(baseline),
    })
}

fn figures(figures: &CanaryFigures) -> Value {
    json!({ "calls": figures.calls, "failed": figures.failed, "first_token": figures.first_token() })
}

fn share(parts: u32) -> f64 {
    f64::from(parts) / 1e6
}
