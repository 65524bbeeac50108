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

use super::answer::{Knobs, Usage};
use super::bill::{Bill, Charge};
use super::faults::{self, Fault};
use super::invocation_log::Record;
use super::quota::Reserved;
use super::reply::{Failure, Reply};
use super::requests::{self, Outcome, REMEMBERED_BODY, SeenBody, SeenRequest, Watch};
use super::route::{Operation, Route};
use super::script::{Follow, ReplyBody};
use super::state::State;
use super::verify::{Expected, Received, Unhashed, verify};
use super::wire::{Connection, Ending};
use super::{agents, anthropic, canonical, control, guardrail, invoke, openai, runtime, tier};
use crate::domain::RequestId;

type Answered = Result<Response<ReplyBody>, Infallible>;

/// A request whose body has come.
struct Asked<'a> {
    head: &'a Parts,
    headers: Vec<(String, Bytes)>,
    body: Bytes,
    sha256: String,
}

impl Asked<'_> {
    fn header_list(&self) -> Vec<(&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect()
    }

    fn received<'a>(&'a self, headers: &'a [(&'a str, &'a [u8])]) -> Received<'a> {
        Received {
            method: self.head.method.as_str(),
            path: self.head.uri.path(),
            query: self.head.uri.query().unwrap_or_default(),
            headers,
            body_sha256: &self.sha256,
        }
    }
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
        return Ok(finish(&state, &connection, Failure::asked_for(status).reply(), &[], unbilled(watch)));
    }
    let (body, sha256) = match read(body, state.max_body, &mut watch).await {
        Ok(read) => read,
        Err(failure) => return Ok(finish(&state, &connection, failure.reply(), &[], unbilled(watch))),
    };
    // Copied: a slice would keep the whole body in memory.
    let start = body.get(..REMEMBERED_BODY).unwrap_or(&body);
    watch.body(SeenBody { length: body.len(), sha256: sha256.clone(), start: Bytes::copy_from_slice(start) });

    let asked = Asked { head: &head, headers, body, sha256 };
    let route = Route::of(&head.method, head.uri.path());
    let faults = match admit(&state, &asked).and_then(|()| all_faults(&state, &asked, &route, on_connection)) {
        Ok(faults) => faults,
        Err(failure) => return Ok(finish(&state, &connection, failure.reply(), &[], unbilled(watch))),
    };
    let reply = answer(&asked, &route, Knobs::of(&faults)).unwrap_or_else(|failure| failure.reply());
    let reserved = match reserve(&state, &asked, &reply) {
        Ok(reserved) => reserved,
        Err(failure) => return Ok(finish(&state, &connection, failure.reply(), &[], unbilled(watch))),
    };
    let watch = before_the_answer(&connection, &faults, on_connection, watch).await;
    let reply = status_fault(&state, &asked, &faults).map_or(reply, |failure| failure.reply());
    let (id, mut follow) = unbilled(watch);
    follow.charge = charge(&state, &asked, route.operation, &reply, &id);
    if let Some(charge) = &mut follow.charge {
        charge.reserved = reserved;
    }
    Ok(finish(&state, &connection, reply, &faults, (id, follow)))
}

/// Reserves of the account's quota what the answer may come to, as soon as the request is there.
fn reserve(state: &State, asked: &Asked<'_>, reply: &Reply) -> Result<Option<Reserved>, Failure> {
    let Some((cost, model)) = &reply.cost else { return Ok(None) };
    let input = cost.input.saturating_add(cost.cache_read).saturating_add(cost.cache_write());
    state.accounts.begin(model, input, runtime::max_tokens(&asked.body))
}

/// How an answer that costs nothing is followed, and its request id.
fn unbilled(watch: Watch) -> (RequestId, Follow) {
    (RequestId::random(), Follow { charge: None, watch: Some(watch) })
}

/// Begins the bill of an answer that a model gave.
fn charge(state: &State, asked: &Asked<'_>, operation: Operation, reply: &Reply, id: &RequestId) -> Option<Charge> {
    let (cost, model) = reply.cost.as_ref()?;
    let headers = asked.header_list();
    let log = state.bills.log.as_ref();
    let record = log.and_then(|_| Record::of(operation, &asked.received(&headers), &asked.body, state.clock.wall()));
    let bill = Bill {
        request_id: id.as_str().to_owned(),
        model: model.clone(),
        operation: operation.name(),
        usage: Usage::default(),
        whole: false,
        ended: false,
    };
    Some(state.bills.begin(bill, *cost, reply.stream_tokens(), record))
}

async fn quick(canned: &Bytes, mut body: Incoming) -> Response<ReplyBody> {
    while let Some(Ok(_)) = body.frame().await {}
    let mut response = Response::new(ReplyBody::whole(canned.clone(), Follow::default()));
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
    let headers = asked.header_list();
    let expected = Expected {
        credentials: &state.credentials,
        region: state.region.as_deref(),
        now: state.clock.wall().into(),
        unhashed: Unhashed::Refuse,
    };
    verify(&asked.received(&headers), &expected).map_err(|e| Failure {
        status: 403,
        kind: e.error_type(),
        message: Cow::Owned(e.to_string()),
    })
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

fn answer(asked: &Asked<'_>, route: &Route, knobs: Knobs) -> Result<Reply, Failure> {
    let body = &asked.body;
    let name = &route.name;
    if name.contains("nonexistent") {
        return Err(Failure::not_found(format!("Could not find the resource `{name}`.")));
    }
    match route.operation {
        Operation::Converse => runtime::converse(name, body, knobs),
        Operation::ConverseStream => runtime::converse_stream(name, body, knobs),
        Operation::InvokeModel => tier::echo(&asked.head.headers, invoke::invoke(name, body, knobs)?),
        Operation::InvokeModelWithResponseStream => tier::echo(&asked.head.headers, invoke::invoke_stream(name, body, knobs)?),
        Operation::ChatCompletions => openai::chat_completions(body, knobs),
        Operation::Responses => openai::responses(body, knobs),
        Operation::Messages => anthropic::messages(body, knobs),
        Operation::CountMessageTokens => anthropic::count_tokens(body),
        Operation::CountTokens => runtime::count_tokens(body),
        Operation::ApplyGuardrail => guardrail::apply(body, knobs),
        Operation::InvokeGuardrailChecks => guardrail::checks(body),
        Operation::InvokeAgent => agents::invoke_agent(name, body, knobs),
        Operation::InvokeInlineAgent => agents::invoke_inline_agent(name, body, knobs),
        Operation::InvokeHarness => agents::invoke_harness(body, knobs),
        Operation::Retrieve => agents::retrieve(body),
        Operation::RetrieveAndGenerate => agents::retrieve_and_generate(body, knobs),
        Operation::ListFoundationModels => Ok(control::foundation_models()),
        Operation::GetFoundationModel => control::foundation_model(name),
        Operation::ListInferenceProfiles => Ok(control::inference_profiles()),
        Operation::GetInferenceProfile => control::inference_profile(name),
        Operation::Models => Ok(control::models()),
        Operation::Echo => Ok(echo(asked)),
    }
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

/// The response, as `faults` want its body.
fn finish(
    state: &State,
    connection: &Arc<Connection>,
    reply: Reply,
    faults: &[Fault],
    (id, follow): (RequestId, Follow),
) -> Response<ReplyBody> {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = reply.status;
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        parts.headers.insert(HeaderName::from_static("x-amzn-requestid"), id);
    }
    parts.headers.extend(reply.headers);
    Response::from_parts(parts, ReplyBody::played(reply.content, faults, follow, connection, &state.gate))
}
