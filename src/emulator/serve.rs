//! One request, from its head to the first byte of its answer.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use serde_json::json;

use super::answer::Knobs;
use super::faults::{self, Fault};
use super::reply::{Failure, Reply};
use super::requests::{self, Outcome, REMEMBERED_BODY, SeenBody, SeenRequest, Watch};
use super::route::{Operation, Route};
use super::script::ReplyBody;
use super::state::State;
use super::verify::{Expected, Received, Unhashed, verify};
use super::wire::{Connection, Ending};
use super::{anthropic, canonical, control, invoke, openai, runtime};
use crate::domain::RequestId;

type Answered = Result<Response<ReplyBody>, Infallible>;

/// A request whose body has come.
struct Asked<'a> {
    head: &'a Parts,
    headers: Vec<(String, Bytes)>,
    body: Bytes,
    sha256: String,
}

/// Answers one request. The future is dropped where the peer leaves before the answer has begun.
pub(super) async fn serve(state: Arc<State>, connection: Arc<Connection>, request: Request<Incoming>) -> Answered {
    let (head, body) = request.into_parts();
    let on_connection = connection.count_request(head.version);
    if let Some(canned) = state.quick.as_ref().filter(|_| head.uri.path().ends_with("/converse")) {
        return Ok(quick(canned, body).await);
    }
    let headers = requests::headers(&head.headers, head.uri.authority().map(http::uri::Authority::as_str));
    let mut watch = state.requests.open(SeenRequest {
        number: 0,
        connection: connection.number,
        on_connection,
        version: head.version,
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: headers.clone(),
        body: None,
        outcome: Outcome::Open,
    });
    if let Some(status) = early(&head) {
        return Ok(finish(&state, &connection, Failure::asked_for(status).reply(), &[], watch));
    }
    let (body, sha256) = match read(body, state.max_body, &mut watch).await {
        Ok(read) => read,
        Err(failure) => return Ok(finish(&state, &connection, failure.reply(), &[], watch)),
    };
    // Copied: a slice would keep the whole body in memory.
    let start = body.get(..REMEMBERED_BODY).unwrap_or(&body);
    watch.body(SeenBody { length: body.len(), sha256: sha256.clone(), start: Bytes::copy_from_slice(start) });

    let asked = Asked { head: &head, headers, body, sha256 };
    let route = Route::of(&head.method, head.uri.path());
    let faults = match admit(&state, &asked).and_then(|()| all_faults(&state, &asked, &route, on_connection)) {
        Ok(faults) => faults,
        Err(failure) => return Ok(finish(&state, &connection, failure.reply(), &[], watch)),
    };
    let watch = before_the_answer(&connection, &faults, on_connection, watch).await;
    let reply = match status_fault(&state, &asked, &faults) {
        Some(failure) => failure.reply(),
        None => answer(&state, &asked, &route, Knobs::of(&faults)).unwrap_or_else(|failure| failure.reply()),
    };
    Ok(finish(&state, &connection, reply, &faults, watch))
}

async fn quick(canned: &Bytes, mut body: Incoming) -> Response<ReplyBody> {
    while let Some(Ok(_)) = body.frame().await {}
    let mut response = Response::new(ReplyBody::whole(canned.clone(), None));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The status that is asked for before the body is read.
fn early(head: &Parts) -> Option<u16> {
    let specs = head.headers.get("x-emulator-fault")?.to_str().ok()?;
    specs.split(',').find_map(|spec| spec.parse().ok().and_then(|fault| if let Fault::Early(status) = fault { Some(status) } else { None }))
}

/// The whole body and its SHA-256 in hex.
async fn read(mut body: Incoming, most: usize, watch: &mut Watch) -> Result<(Bytes, String), Failure> {
    let too_large =
        || Failure { status: 413, kind: "ValidationException", message: format!("The request body is larger than {most} bytes.").into() };
    if body.size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            // Whatever it may still read of the answer.
            watch.peer_left();
            Failure::validation("The request body broke off.")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        hash.update(&data);
        if first.len() + rest.len() + data.len() > most {
            return Err(too_large());
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    let sha256 = canonical::hex(hash.finish().as_ref());
    if rest.is_empty() {
        return Ok((first, sha256));
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok((whole.freeze(), sha256))
}

/// Whether the request may be answered: nothing in it that had to be stripped, and its signature is right.
fn admit(state: &State, asked: &Asked<'_>) -> Result<(), Failure> {
    if state.strict {
        super::strict::check(asked.head)?;
    }
    if !state.verify {
        return Ok(());
    }
    let headers: Vec<(&str, &[u8])> = asked.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
    let received = Received {
        method: asked.head.method.as_str(),
        path: asked.head.uri.path(),
        query: asked.head.uri.query().unwrap_or_default(),
        headers: &headers,
        body_sha256: &asked.sha256,
    };
    let expected = Expected {
        credentials: &state.credentials,
        region: state.region.as_deref(),
        now: state.clock.wall().into(),
        unhashed: Unhashed::Refuse,
    };
    verify(&received, &expected).map_err(|e| Failure { status: 403, kind: e.error_type(), message: Cow::Owned(e.to_string()) })
}

fn all_faults(state: &State, asked: &Asked<'_>, route: &Route, on_connection: u64) -> Result<Vec<Fault>, Failure> {
    let unknown = |e: faults::UnknownFault| Failure::validation(e.to_string());
    let mut all = Vec::new();
    for value in asked.head.headers.get_all("x-emulator-fault") {
        let specs = value.to_str().map_err(|_| Failure::validation("`x-emulator-fault` is not text."))?;
        all.extend(faults::in_header(specs).map_err(unknown)?);
    }
    let in_body = openai::model_in(route.operation, &asked.body);
    all.extend(faults::in_model(in_body.as_deref().unwrap_or(&route.name)).map_err(unknown)?);
    all.extend(state.take_injected(on_connection));
    Ok(all)
}

/// The faults that strike before there is an answer; some never let it come.
async fn before_the_answer(connection: &Arc<Connection>, faults: &[Fault], on_connection: u64, watch: Watch) -> Watch {
    for fault in faults {
        match fault {
            Fault::Hang => return std::future::pending().await,
            Fault::Close => return never(connection, Ending::Close, watch).await,
            Fault::Reset => return never(connection, Ending::Reset, watch).await,
            Fault::CloseOnReuse if on_connection > 1 => return never(connection, Ending::Close, watch).await,
            Fault::SlowFirstByte(pause) => tokio::time::sleep(*pause).await,
            Fault::EarlyHints => {
                connection.write_ahead(Bytes::from_static(b"HTTP/1.1 103 Early Hints\r\nlink: </>; rel=preload\r\n\r\n"));
            }
            _ => {}
        }
    }
    watch
}

/// Ends the connection. What it returns never comes: the future is dropped with the connection.
async fn never(connection: &Connection, how: Ending, mut watch: Watch) -> Watch {
    watch.broken();
    connection.end(how);
    std::future::pending().await
}

fn status_fault(state: &State, asked: &Asked<'_>, faults: &[Fault]) -> Option<Failure> {
    faults.iter().find_map(|fault| match fault {
        Fault::Status { status, times: None } | Fault::Early(status) => Some(Failure::asked_for(*status)),
        Fault::Status { status, times: Some(times) } => {
            let invocation = asked.head.headers.get("amz-sdk-invocation-id").map_or(&b""[..], HeaderValue::as_bytes);
            let key = format!("{status}-{times}x {}", String::from_utf8_lossy(invocation));
            state.strikes(key, *times).then(|| Failure::asked_for(*status))
        }
        _ => None,
    })
}

fn answer(state: &State, asked: &Asked<'_>, route: &Route, knobs: Knobs) -> Result<Reply, Failure> {
    let body = &asked.body;
    let model = &route.name;
    if model.contains("nonexistent") {
        return Err(Failure::not_found(format!("Could not find the resource `{model}`.")));
    }
    let (reply, cost, model) = match route.operation {
        Operation::Converse => with_model(runtime::converse(body, knobs)?, model),
        Operation::ConverseStream => with_model(runtime::converse_stream(body, knobs)?, model),
        Operation::InvokeModel => with_model(invoke::invoke(model, body, knobs)?, model),
        Operation::InvokeModelWithResponseStream => with_model(invoke::invoke_stream(model, body, knobs)?, model),
        Operation::ChatCompletions => openai::chat_completions(body, knobs)?,
        Operation::Responses => openai::responses(body, knobs)?,
        Operation::Messages => anthropic::messages(body, knobs)?,
        Operation::CountMessageTokens => return anthropic::count_tokens(body),
        Operation::CountTokens => return runtime::count_tokens(body),
        Operation::ApplyGuardrail => return runtime::apply_guardrail(body),
        Operation::ListFoundationModels => return Ok(control::foundation_models()),
        Operation::GetFoundationModel => return control::foundation_model(model),
        Operation::ListInferenceProfiles => return Ok(control::inference_profiles()),
        Operation::GetInferenceProfile => return control::inference_profile(model),
        Operation::Models => return Ok(control::models()),
        Operation::Echo => return Ok(echo(asked)),
    };
    state.bill.add(&model, cost);
    Ok(reply)
}

fn with_model((reply, cost): (Reply, super::answer::Usage), model: &str) -> (Reply, super::answer::Usage, String) {
    (reply, cost, model.to_owned())
}

/// What came, for any operation that the emulator does not know.
fn echo(asked: &Asked<'_>) -> Reply {
    let headers: Vec<_> = asked.headers.iter().map(|(name, value)| json!([name, String::from_utf8_lossy(value)])).collect();
    Reply::json(&json!({
        "method": asked.head.method.as_str(),
        "path": asked.head.uri.path(),
        "query": asked.head.uri.query(),
        "headers": headers,
        "bodyLength": asked.body.len(),
        "bodySha256": asked.sha256,
    }))
}

fn respond(reply: Reply) -> (http::response::Parts, super::reply::Content) {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = reply.status;
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    if let Ok(id) = HeaderValue::from_str(RequestId::random().as_str()) {
        parts.headers.insert(HeaderName::from_static("x-amzn-requestid"), id);
    }
    parts.headers.extend(reply.headers);
    (parts, reply.content)
}

/// The response, as `faults` want its body.
fn finish(state: &State, connection: &Arc<Connection>, reply: Reply, faults: &[Fault], watch: Watch) -> Response<ReplyBody> {
    let (parts, content) = respond(reply);
    Response::from_parts(parts, ReplyBody::played(content, faults, watch, connection, &state.gate))
}
