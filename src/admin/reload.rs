//! `/reload`: the configuration is loaded anew, as on SIGHUP.

use http::request::Parts;
use http::{Method, Response, StatusCode};
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::change::Refused;
use super::{Admin, Page, TEXT, in_json, response};

/// Someone who asks for a reload, and is told what came of it.
pub type Asked = oneshot::Sender<Result<Reloaded, NotReloaded>>;

/// What a reload changed, as JSON.
#[derive(Clone, Debug)]
pub struct Reloaded(pub Value);

/// Why a reload was refused. Nothing has changed then.
#[derive(Clone, Debug)]
pub enum NotReloaded {
    /// The configuration has these faults, as `tollgate check` tells them, or can't be put to work.
    Faulty(String),
    /// It is in order, but this process can't take it up as it is now.
    Impossible(String),
}

/// Whether a request asks for a reload.
pub(super) fn is_reload(request: &Parts) -> bool {
    request.method == Method::POST && request.uri.path() == Page::Reload.path()
}

impl Admin {
    /// Reloads, for what [`is_reload`] says asks for it. The body means nothing.
    pub(super) async fn reload(&self, session: &mut ServerSession) -> Result<Response<Vec<u8>>, Refused> {
        self.asker(session)?;
        let (told, answer) = oneshot::channel();
        let is_heard = if let Some(reloads) = &self.reloads {
            reloads.send(told).await.is_ok()
        } else {
            drop(told);
            false
        };
        Ok(match answer.await {
            Ok(Ok(Reloaded(changes))) => in_json(StatusCode::OK, &changes),
            Ok(Err(NotReloaded::Faulty(message))) => response(StatusCode::UNPROCESSABLE_ENTITY, TEXT, message),
            Ok(Err(NotReloaded::Impossible(message))) => response(StatusCode::CONFLICT, TEXT, message),
            Err(_) if is_heard => in_json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "message": "the reload broke off; see the log" })),
            Err(_) => response(StatusCode::CONFLICT, TEXT, "nothing here can be reloaded\n"),
        })
    }
}
