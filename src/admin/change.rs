//! What changes something: who may ask for it, how it is said, and how it is refused.

use std::time::Duration;

use http::{HeaderMap, Response, StatusCode, header};
use pingora::protocols::http::ServerSession;
use serde_json::json;

use super::{Admin, guard, in_json};
use crate::record::LedgerError;

/// The largest body, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// The time for a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest name, in bytes.
pub(super) const MAX_NAME: usize = 1024;
/// The longest note, in bytes.
pub(super) const MAX_NOTE: usize = 2048;

/// A refusal, for the operator.
pub(super) struct Refused(pub(super) StatusCode, pub(super) String);

impl Refused {
    /// It, as it is sent.
    pub(super) fn answer(self) -> Response<Vec<u8>> {
        in_json(self.0, &json!({ "message": self.1 }))
    }
}

impl From<LedgerError> for Refused {
    fn from(error: LedgerError) -> Self {
        let status = match error {
            LedgerError::Absent | LedgerError::ManyGrants { .. } => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

impl Admin {
    /// The address that asks for a change; no page in a browser may.
    pub(super) fn asker(&self, session: &ServerSession) -> Result<String, Refused> {
        let request = session.req_header();
        let why = guard::foreign(request, self.shown.load().address).or_else(|| guard::browser(&request.headers));
        match why {
            Some(why) => Err(Refused(StatusCode::FORBIDDEN, why)),
            None => Ok(session.client_addr().map(ToString::to_string).unwrap_or_default()),
        }
    }
}

/// The whole body of a request that says `what` in JSON: a type that no form of another site can send.
pub(super) async fn body(session: &mut ServerSession, what: &str) -> Result<Vec<u8>, Refused> {
    if !is_json(&session.req_header().headers) {
        let message = format!("say {what} as JSON, with `Content-Type: application/json`");
        return Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let whole = async {
        let mut body = Vec::new();
        loop {
            match session.read_request_body().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY => {
                    return Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has {MAX_BODY} bytes at most")));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(_) => return Err(Refused(StatusCode::BAD_REQUEST, "the body broke off".to_owned())),
            }
        }
    };
    let late = |_| Err(Refused(StatusCode::REQUEST_TIMEOUT, "the body did not come in time".to_owned()));
    tokio::time::timeout(BODY_TIMEOUT, whole).await.unwrap_or_else(late)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}
