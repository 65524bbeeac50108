//! `/drain`: takes the instance out of service, and puts it back. The process goes on, and so do requests; the signal that ends it comes from elsewhere.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Response, StatusCode};
use pingora::protocols::http::ServerSession;
use serde_json::json;

use super::readiness::{Condition, Readiness};
use super::{Admin, Page, guard, in_json};
use crate::state::Live;

/// Whether an instance is in service.
#[derive(Clone)]
pub(super) struct Service {
    live: Arc<Live>,
    condition: Condition,
}

impl Service {
    pub(super) fn new(live: Arc<Live>, readiness: &Readiness) -> Self {
        let condition = readiness.condition("in service");
        condition.met();
        Self { live, condition }
    }

    fn set_aside(&self, aside: bool) {
        self.live.leaving.set_aside(aside);
        if aside {
            self.condition.unmet("an operator took the instance out of service; `DELETE /drain` puts it back");
        } else {
            self.condition.met();
        }
    }
}

/// Whether a request would take the instance out of service or put it back.
pub(super) fn is_change(request: &Parts) -> bool {
    request.uri.path() == Page::Drain.path() && matches!(request.method, Method::POST | Method::DELETE)
}

impl Admin {
    /// Whether it is in service, and what is under way.
    pub(super) fn drain(&self) -> Response<Vec<u8>> {
        let aside = self.service.as_ref().is_some_and(|service| service.live.leaving.is_set_aside());
        in_json(StatusCode::OK, &json!({ "in_service": !aside, "in_flight": self.metrics.under_way() }))
    }

    /// Takes it out of service, or puts it back: for what [`is_change`] says is one.
    pub(super) fn change_service(&self, session: &ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        if let Some(why) = guard::foreign(request, self.shown.load().address).or_else(|| guard::browser(&request.headers)) {
            return in_json(StatusCode::FORBIDDEN, &json!({ "message": why }));
        }
        let Some(service) = &self.service else {
            return in_json(StatusCode::CONFLICT, &json!({ "message": "nothing is served here" }));
        };
        let aside = request.method == Method::POST;
        service.set_aside(aside);
        let by = session.client_addr().map(ToString::to_string).unwrap_or_default();
        if aside {
            tracing::warn!(by, "out of service: not ready, and requests are still answered");
        } else {
            tracing::info!(by, "back in service");
        }
        self.drain()
    }
}
