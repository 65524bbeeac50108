//! `/drain`: takes the instance out of service, and puts it back. The process goes on, and so do requests; the signal that ends it comes from elsewhere.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Response, StatusCode};
use pingora::protocols::http::ServerSession;
use serde_json::json;

use super::change::Refused;
use super::readiness::{Condition, Readiness};
use super::{Admin, Page, in_json};
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
    pub(super) fn change_service(&self, session: &ServerSession) -> Result<Response<Vec<u8>>, Refused> {
        let by = self.asker(session)?;
        let nothing = || Refused(StatusCode::CONFLICT, "nothing is served here".to_owned());
        let service = self.service.as_ref().ok_or_else(nothing)?;
        let aside = session.req_header().method == Method::POST;
        service.set_aside(aside);
        if aside {
            tracing::warn!(by, "out of service: not ready, and requests are still answered");
        } else {
            tracing::info!(by, "back in service");
        }
        Ok(self.drain())
    }
}
