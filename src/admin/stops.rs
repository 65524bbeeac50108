//! `/stops`: what operators stop, and lift again.

use http::request::Parts;
use http::{Method, Response, StatusCode};
use pingora::protocols::http::ServerSession;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::change::{self, MAX_NAME, MAX_NOTE, Refused};
use super::query::Parameters;
use super::{Admin, Page, apart, in_json};
use crate::domain::{STOP_KINDS, Stop, Stopped, rfc3339};
use crate::state::{Made, StopBook};

/// The longest message to callers, in bytes.
const MAX_MESSAGE: usize = 512;
/// Of so many stops `/live.json` tells.
const MOST_SHOWN: usize = 20;

const NOT_KEPT: &str = "it ends when the gateway does";

/// What is to be stopped.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    tenant: Option<String>,
    key: Option<String>,
    model: Option<String>,
    route: Option<String>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

/// Whether a request would change what is stopped.
pub(super) fn is_change(request: &Parts) -> bool {
    request.uri.path() == Page::Stops.path() && matches!(request.method, Method::POST | Method::DELETE)
}

impl Admin {
    /// What is stopped.
    pub(super) fn stops(&self, query: Option<&str>) -> Response<Vec<u8>> {
        if query.is_some_and(|query| !query.is_empty()) {
            return Refused(StatusCode::BAD_REQUEST, "this page has no parameters".to_owned()).answer();
        }
        let stops: Vec<Value> = self.stop_book.all().iter().map(|(stop, kept)| told(stop, *kept).into()).collect();
        in_json(StatusCode::OK, &json!({ "stops": stops, "outlive_the_process": self.stop_book.keeps() }))
    }

    /// Stops something, or lifts a stop: for what [`is_change`] says is one.
    pub(super) async fn change_stops(&self, session: &mut ServerSession) -> Result<Response<Vec<u8>>, Refused> {
        let by = self.asker(session)?;
        let book = self.stop_book.clone();
        if session.req_header().method == Method::DELETE {
            let what = named(session.req_header().uri.query())?;
            return Ok(apart(move || lift(&book, &what, &by).unwrap_or_else(Refused::answer)).await);
        }
        let body = change::body(session, "what is to be stopped").await?;
        let (what, reason, message) = read(&body, &self.shown.load().routes)?;
        Ok(apart(move || stop(&book, what, reason, message, &by).unwrap_or_else(Refused::answer)).await)
    }

    /// The first of what is stopped, and how many there are.
    pub(super) fn stopped(&self) -> (Vec<Value>, usize) {
        let (first, all) = self.stop_book.first(MOST_SHOWN);
        (first.iter().map(|(stop, kept)| told(stop, *kept).into()).collect(), all)
    }
}

fn stop(book: &StopBook, what: Stopped, reason: String, message: String, by: &str) -> Result<Response<Vec<u8>>, Refused> {
    let Made { stop, is_new, kept } = book.stop(what, reason, message).map_err(|error| Refused(StatusCode::CONFLICT, error.to_string()))?;
    let why = kept.as_ref().err().map(ToString::to_string);
    let (kind, name, tenant) = (stop.what.kind(), stop.what.name(), stop.what.tenant_of_key());
    let (since, reason, message) = (rfc3339(stop.since), &stop.reason, &stop.message);
    tracing::warn!(kind, name, tenant, since, ?reason, told = ?message, by, "an operator stopped calls");
    let mut answer = told(&stop, kept.is_ok());
    if let Some(why) = why {
        tracing::warn!(kind, name, tenant, why, "a stop ends with the process: it is not in the ledger");
        answer.insert("note".to_owned(), format!("{NOT_KEPT}: {why}").into());
    }
    Ok(in_json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &answer.into()))
}

fn lift(book: &StopBook, what: &Stopped, by: &str) -> Result<Response<Vec<u8>>, Refused> {
    let lifted = book.lift(what)?.ok_or_else(|| Refused(StatusCode::NOT_FOUND, format!("{what} is not stopped")))?;
    let (kind, name, tenant, since) = (what.kind(), what.name(), what.tenant_of_key(), rfc3339(lifted.since));
    tracing::warn!(kind, name, tenant, since, by, "an operator lifted a stop");
    let mut answer = told(&lifted, false);
    answer.remove("kept");
    Ok(in_json(StatusCode::OK, &answer.into()))
}

/// Reads what is to be stopped, and what is said about it. A route must be one of these.
fn read(body: &[u8], routes: &[String]) -> Result<(Stopped, String, String), Refused> {
    let wrong = |message| Refused(StatusCode::BAD_REQUEST, message);
    let Asked { tenant, key, model, route, reason, message } =
        serde_json::from_slice(body).map_err(|error| wrong(format!("the body says nothing that can be stopped: {error}")))?;
    for (what, text, most) in [("reason", &reason, MAX_NOTE), ("message", &message, MAX_MESSAGE)] {
        if text.len() > most {
            return Err(wrong(format!("`{what}` is longer than {most} bytes")));
        }
    }
    let what = one([tenant, key, model, route]).map_err(wrong)?;
    match &what {
        Stopped::Route(name) if !routes.iter().any(|route| **route == **name) => {
            let names = routes.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            Err(wrong(format!("there is no route `{name}`; there are {names}")))
        }
        _ => Ok((what, reason, message)),
    }
}

/// What a query names.
fn named(query: Option<&str>) -> Result<Stopped, Refused> {
    let wrong = |message| Refused(StatusCode::BAD_REQUEST, message);
    let parameters = Parameters::read(query, &STOP_KINDS).map_err(wrong)?;
    one(STOP_KINDS.map(|kind| parameters.value(kind).map(str::to_owned))).map_err(wrong)
}

/// The one thing that is told of these, in the order of [`STOP_KINDS`]. A tenant beside a key says whose key it is.
fn one(told: [Option<String>; 4]) -> Result<Stopped, String> {
    let of = STOP_KINDS.into_iter().zip(told).filter_map(|(kind, name)| Some((kind, name?))).collect::<Vec<_>>();
    for (kind, name) in &of {
        if name.trim().is_empty() || name.len() > MAX_NAME {
            return Err(format!("`{kind}` is empty, or longer than {MAX_NAME} bytes"));
        }
    }
    let what = match of.as_slice() {
        [("tenant", tenant), ("key", key)] => Stopped::of("key", key, Some(tenant)),
        [(kind, name)] => Stopped::of(kind, name, None),
        _ => None,
    };
    what.ok_or_else(|| "say one of `tenant`, `key`, `model` and `route`; or `key` with the `tenant` whose key it is".to_owned())
}

fn told(stop: &Stop, kept: bool) -> Map<String, Value> {
    let Stop { what, since, reason, message } = stop;
    let mut told = Map::new();
    told.insert(what.kind().to_owned(), what.name().into());
    if let Some(tenant) = what.tenant_of_key() {
        told.insert("tenant".to_owned(), tenant.into());
    }
    told.insert("since".to_owned(), rfc3339(*since).into());
    told.insert("reason".to_owned(), reason.as_str().into());
    told.insert("message".to_owned(), message.as_str().into());
    told.insert("kept".to_owned(), kept.into());
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &Value) -> Result<(Stopped, String, String), String> {
        read(body.to_string().as_bytes(), &["main".to_owned(), "beta".to_owned()]).map_err(|Refused(_, message)| message)
    }

    #[test]
    fn one_thing_is_stopped_and_a_key_may_be_one_tenants() {
        for (body, what) in [
            (json!({ "tenant": "acme" }), Stopped::Tenant("acme".into())),
            (json!({ "key": "tgk-1" }), Stopped::Key { key: "tgk-1".into(), tenant: None }),
            (json!({ "key": "tgk-1", "tenant": "acme" }), Stopped::Key { key: "tgk-1".into(), tenant: Some("acme".into()) }),
            (json!({ "model": "*Opus*" }), Stopped::Model("*opus*".into())),
            (json!({ "route": "beta" }), Stopped::Route("beta".into())),
        ] {
            assert_eq!(asked(&body), Ok((what, String::new(), String::new())), "{body}");
        }
        let told = asked(&json!({ "tenant": "acme", "reason": "leak", "message": "call us" })).unwrap();
        assert_eq!(told, (Stopped::Tenant("acme".into()), "leak".to_owned(), "call us".to_owned()));
    }

    #[test]
    fn what_is_unclear_stops_nothing() {
        for (body, message) in [
            (json!({}), "say one of"),
            (json!({ "tenant": "acme", "model": "m" }), "say one of"),
            (json!({ "tenant": "acme", "key": "k", "route": "main" }), "say one of"),
            (json!({ "tenant": " " }), "`tenant` is empty"),
            (json!({ "model": "x".repeat(1025) }), "`model` is empty, or longer than 1024 bytes"),
            (json!({ "route": "mian" }), "there is no route `mian`; there are `main`, `beta`"),
            (json!({ "tenent": "acme" }), "the body says nothing that can be stopped: unknown field `tenent`"),
            (json!({ "tenant": "acme", "reason": "x".repeat(2049) }), "`reason` is longer than 2048 bytes"),
            (json!({ "tenant": "acme", "message": "x".repeat(513) }), "`message` is longer than 512 bytes"),
        ] {
            let why = asked(&body).unwrap_err();
            assert!(why.starts_with(message), "{why}");
        }
        assert_eq!(named(Some("tenant=a%20b")).map_err(|refused| refused.1), Ok(Stopped::Tenant("a b".into())));
        assert!(named(None).is_err_and(|refused| refused.1.starts_with("say one of")));
        assert!(named(Some("id=4")).is_err_and(|refused| refused.1.starts_with("`id` is no parameter")));
    }
}
