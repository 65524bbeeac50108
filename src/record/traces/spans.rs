//! The spans of one exchange, made from what is known when it ends.
//!
//! ```text
//! the root, SERVER   began ............................................ total
//!   admit            began .. admitted
//!   upstream, CLIENT          began .. took               one for each try that was given up
//!   upstream, CLIENT          admitted, or the end of the last such try ... head
//!   stream                                           head ............. total
//! ```
//!
//! Names and attributes follow OpenTelemetry's conventions for HTTP and for generative AI; what is ours begins with `tollgate.`.
//! docs/traces.md is the contract. No prompt, no completion, no credential.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Event, SpanContext, SpanKind, Status, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::super::entry::{Entry, Tried};
use super::super::line::{MOST_NAME, MOST_PATH, MOST_TRIED, MOST_USER_AGENT};
use crate::domain::{Basis, Cost, Usage};

static SCOPE: LazyLock<InstrumentationScope> =
    LazyLock::new(|| InstrumentationScope::builder("tollgate").with_version(env!("CARGO_PKG_VERSION")).build());

/// Methods that a span may be named by (RFC 9110, 9; RFC 5789). Others are a caller's invention.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The spans of `entry`, the root first.
pub(super) fn of(entry: &Entry<'_>) -> Vec<SpanData> {
    let whole = Outline { entry, root: SpanId::from(fastrand::u64(1..)) };
    let mut spans = Vec::with_capacity(4 + entry.tried.len().min(MOST_TRIED));
    spans.push(whole.root());
    if let Some(admitted) = entry.admitted {
        spans.push(whole.child("admit", SpanKind::Internal, Duration::ZERO, admitted));
        spans.extend(entry.tried.iter().take(MOST_TRIED).enumerate().map(|(nth, tried)| whole.tried(nth, tried)));
        if entry.attempts > 0 {
            let begins = entry.tried.last().map_or(admitted, |last| last.began.saturating_add(last.took));
            spans.push(whole.upstream(begins));
        }
    }
    if let Some(head) = entry.head {
        spans.push(whole.stream(head));
    }
    spans
}

/// What all spans of an exchange share.
struct Outline<'a> {
    entry: &'a Entry<'a>,
    root: SpanId,
}

impl Outline<'_> {
    fn root(&self) -> SpanData {
        let entry = self.entry;
        let parent = entry.trace.parent.map_or(SpanId::INVALID, SpanId::from);
        let mut span = self.span(self.root, parent, name(entry), SpanKind::Server, Duration::ZERO, entry.total);
        span.parent_span_is_remote = entry.trace.parent.is_some();
        span.attributes = Vec::with_capacity(32);
        let attributes = &mut span.attributes;
        http(attributes, entry);
        caller(attributes, entry);
        generative_ai(attributes, entry);
        if let Some(usage) = entry.usage {
            used(attributes, usage);
        }
        paid(attributes, entry.cost);
        if broke(entry) || entry.status.is_some_and(|status| status >= 500) {
            fail(&mut span, entry);
        }
        span
    }

    /// A call of AWS that was given up for another.
    fn tried(&self, nth: usize, tried: &Tried) -> SpanData {
        let mut span = self.child("upstream", SpanKind::Client, tried.began, tried.began.saturating_add(tried.took));
        let attributes = &mut span.attributes;
        attributes.push(KeyValue::new("tollgate.upstream", text(&tried.upstream)));
        attributes.push(KeyValue::new("tollgate.target", text(&tried.target)));
        attributes.push(KeyValue::new("tollgate.outcome", tried.outcome.label()));
        if let Some(model) = self.entry.model_of(tried) {
            attributes.push(KeyValue::new("gen_ai.request.model", text(model)));
        }
        if let Some(id) = &tried.upstream_request_id {
            attributes.push(KeyValue::new("aws.request_id", lossy(id, MOST_NAME)));
        }
        if nth > 0 {
            attributes.push(KeyValue::new("http.request.resend_count", i64::try_from(nth).unwrap_or(i64::MAX)));
        }
        if let Some(status) = tried.status {
            attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        if let Some(usage) = &tried.usage {
            used(attributes, usage);
        }
        paid(attributes, tried.cost);
        // Whatever its status was, it did not do.
        attributes.push(KeyValue::new("error.type", tried.outcome.label()));
        span.status = Status::error("");
        span
    }

    /// Our call of AWS. Its id is what AWS was told, so that spans of an agent there hang under it.
    fn upstream(&self, begins: Duration) -> SpanData {
        let entry = self.entry;
        let end = entry.head.unwrap_or(entry.total);
        let id = SpanId::from(entry.trace.span_id);
        let mut span = self.span(id, self.root, "upstream".into(), SpanKind::Client, begins, end);
        let attributes = &mut span.attributes;
        if let Some(upstream) = entry.upstream {
            attributes.push(KeyValue::new("tollgate.upstream", text(upstream)));
        }
        if let Some(target) = entry.target {
            attributes.push(KeyValue::new("tollgate.target", text(target)));
        }
        if let Some(id) = entry.upstream_request_id {
            attributes.push(KeyValue::new("aws.request_id", lossy(id, MOST_NAME)));
        }
        if entry.attempts > 1 {
            attributes.push(KeyValue::new("http.request.resend_count", i64::from(entry.attempts - 1)));
        }
        if let Some(status) = entry.status.filter(|_| entry.head.is_some()) {
            attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        // A client's own fault is its server's success, and its own failure: the conventions for HTTP tell the two kinds of span apart.
        if entry.head.is_none() || entry.status.is_some_and(|status| status >= 400) {
            fail(&mut span, entry);
        }
        span
    }

    /// The answer's way to the client.
    fn stream(&self, head: Duration) -> SpanData {
        let entry = self.entry;
        let mut span = self.child("stream", SpanKind::Internal, head, entry.total);
        for (name, at) in [("first token", entry.first_token), ("last token", entry.last_token)] {
            if let Some(at) = at {
                span.events.events.push(Event::new(name, self.at(at), Vec::new(), 0));
            }
        }
        if broke(entry) {
            fail(&mut span, entry);
        }
        span
    }

    fn child(&self, name: &'static str, kind: SpanKind, from: Duration, to: Duration) -> SpanData {
        self.span(SpanId::from(fastrand::u64(1..)), self.root, name.into(), kind, from, to)
    }

    fn span(&self, id: SpanId, parent: SpanId, name: Cow<'static, str>, span_kind: SpanKind, from: Duration, to: Duration) -> SpanData {
        let trace_id = TraceId::from(self.entry.trace.trace_id);
        SpanData {
            span_context: SpanContext::new(trace_id, id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind,
            name,
            start_time: self.at(from),
            end_time: self.at(to.max(from)),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: SCOPE.clone(),
        }
    }

    fn at(&self, since: Duration) -> SystemTime {
        self.entry.began.checked_add(since).unwrap_or(self.entry.began)
    }
}

/// The root's name: of few values, since backends index it. Operation and model come from the caller, so they stand in it only once AWS has answered
/// well, and so has shown that they exist; before that, what we know by name, or the method.
fn name(entry: &Entry<'_>) -> Cow<'static, str> {
    let exists = entry.status.is_some_and(|status| (200..300).contains(&status));
    match (known(entry).or(entry.operation.filter(|_| exists)), entry.model.filter(|_| exists)) {
        (Some(operation), Some(model)) => format!("{} {}", cut(operation), cut(model)).into(),
        (Some(operation), None) => cut(operation).to_owned().into(),
        (None, _) => METHODS.into_iter().find(|method| *method == entry.method).unwrap_or("HTTP").into(),
    }
}

/// The word that the conventions have for the operation. A convenience: an operation that is not here keeps its own.
fn known(entry: &Entry<'_>) -> Option<&'static str> {
    entry.model?;
    match entry.operation? {
        "converse" | "converse-stream" | "messages" | "responses" => Some("chat"),
        "completions" if entry.path.ends_with(b"/chat/completions") => Some("chat"),
        "completions" => Some("text_completion"),
        "embeddings" => Some("embeddings"),
        _ => None,
    }
}

fn http(attributes: &mut Vec<KeyValue>, entry: &Entry<'_>) {
    let method = METHODS.into_iter().find(|method| *method == entry.method).unwrap_or("_OTHER");
    attributes.push(KeyValue::new("http.request.method", method));
    if let Some(status) = entry.status {
        attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
    }
    // A query may hold a presigned credential.
    let path = entry.path.split(|byte| *byte == b'?').next().unwrap_or_default();
    attributes.push(KeyValue::new("url.path", lossy(path, MOST_PATH)));
    attributes.push(KeyValue::new("http.request.body.size", whole(entry.bytes_in)));
    attributes.push(KeyValue::new("http.response.body.size", whole(entry.bytes_out)));
    if let Some(version) = match entry.version {
        http::Version::HTTP_10 => Some("1.0"),
        http::Version::HTTP_11 => Some("1.1"),
        http::Version::HTTP_2 => Some("2"),
        // The type is open; none of the others is served.
        _ => None,
    } {
        attributes.push(KeyValue::new("network.protocol.version", version));
    }
    if let Some(client) = entry.client {
        attributes.push(KeyValue::new("client.address", client.to_canonical().to_string()));
    }
    if let Some(agent) = entry.user_agent {
        attributes.push(KeyValue::new("user_agent.original", lossy(agent, MOST_USER_AGENT)));
    }
}

fn caller(attributes: &mut Vec<KeyValue>, entry: &Entry<'_>) {
    attributes.push(KeyValue::new("tollgate.request_id", entry.request_id.to_string()));
    attributes.push(KeyValue::new("tollgate.complete", entry.complete));
    if entry.client_left {
        attributes.push(KeyValue::new("tollgate.client_left", true));
    }
    if let Some(service) = entry.service {
        attributes.push(KeyValue::new("tollgate.service", service.prefix));
    }
    if let Some(principal) = entry.principal {
        attributes.push(KeyValue::new("tollgate.tenant", text(&principal.tenant)));
        let names = [("tollgate.user", &principal.user), ("tollgate.key_id", &principal.key_id)];
        attributes.extend(names.into_iter().filter_map(|(key, name)| Some(KeyValue::new(key, text(name.as_deref()?)))));
    }
    if let Some(reason) = entry.reason {
        attributes.push(KeyValue::new("tollgate.reason", reason.label()));
    }
    if let Some(of) = entry.mirror_of {
        attributes.push(KeyValue::new("tollgate.mirror", true));
        attributes.push(KeyValue::new("tollgate.mirror_of", of.to_string()));
    }
    let names = [("tollgate.route", entry.route), ("tollgate.alias", entry.alias)];
    attributes.extend(names.into_iter().filter_map(|(key, name)| Some(KeyValue::new(key, text(name?)))));
    if let Some(limit) = entry.limit {
        attributes.push(KeyValue::new("tollgate.limit", text(limit)));
    }
    if !entry.waited.is_zero() {
        attributes.push(KeyValue::new("tollgate.waited_us", i64::try_from(entry.waited.as_micros()).unwrap_or(i64::MAX)));
    }
    let overhead = i64::try_from(entry.overhead.as_micros()).unwrap_or(i64::MAX);
    attributes.push(KeyValue::new("tollgate.overhead_us", overhead));
}

fn generative_ai(attributes: &mut Vec<KeyValue>, entry: &Entry<'_>) {
    let Some(model) = entry.model else { return };
    if let Some(operation) = known(entry).or(entry.operation) {
        attributes.push(KeyValue::new("gen_ai.operation.name", text(operation)));
    }
    attributes.push(KeyValue::new("gen_ai.provider.name", "aws.bedrock"));
    // The name of the same before version 1.37 of the conventions; many backends still read that.
    attributes.push(KeyValue::new("gen_ai.system", "aws.bedrock"));
    attributes.push(KeyValue::new("gen_ai.request.model", text(model)));
    if entry.streamed {
        attributes.push(KeyValue::new("gen_ai.request.stream", true));
    }
    if let Some(first) = entry.first_token {
        attributes.push(KeyValue::new("gen_ai.response.time_to_first_chunk", first.as_secs_f64()));
    }
}

fn paid(attributes: &mut Vec<KeyValue>, cost: Cost) {
    match cost {
        Cost::Nothing => {}
        Cost::Priced(sum) => attributes.push(KeyValue::new("tollgate.cost_usd", sum.to_string())),
        Cost::Unpriced => attributes.push(KeyValue::new("tollgate.unpriced", true)),
    }
}

fn used(attributes: &mut Vec<KeyValue>, usage: &Usage) {
    let tokens = &usage.tokens;
    let written = tokens.cache_write_5m.saturating_add(tokens.cache_write_1h);
    // The conventions count caches in; Bedrock, and with it our log, does not.
    let input = tokens.input.saturating_add(tokens.cache_read).saturating_add(written);
    attributes.push(KeyValue::new("gen_ai.usage.input_tokens", whole(input)));
    attributes.push(KeyValue::new("gen_ai.usage.output_tokens", whole(tokens.output)));
    for (key, count) in [
        ("gen_ai.usage.cache_read.input_tokens", tokens.cache_read),
        ("gen_ai.usage.cache_creation.input_tokens", written),
        ("gen_ai.usage.reasoning.output_tokens", tokens.reasoning),
    ] {
        if count > 0 {
            attributes.push(KeyValue::new(key, whole(count)));
        }
    }
    let basis = match usage.basis {
        Basis::Reported => "reported",
        Basis::Estimated => "estimated",
    };
    attributes.push(KeyValue::new("tollgate.usage", basis));
    if let Some(tier) = usage.tier {
        attributes.push(KeyValue::new("tollgate.service_tier", tier.label()));
    }
}

/// Whether the answer broke off, and not because the client left.
fn broke(entry: &Entry<'_>) -> bool {
    entry.reason.is_some() && !entry.complete && !entry.client_left
}

/// Marks the span as failed; `error.type` is the gateway's reason, or the status.
fn fail(span: &mut SpanData, entry: &Entry<'_>) {
    span.status = Status::error("");
    let why: Option<Value> = match (entry.reason, entry.status) {
        (Some(reason), _) => Some(reason.label().into()),
        (None, Some(status)) => Some(status.to_string().into()),
        (None, None) => None,
    };
    span.attributes.extend(why.map(|why| KeyValue::new("error.type", why)));
}

/// At most [`MOST_NAME`] bytes of it.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MOST_NAME)).unwrap_or_default()
}

fn text(text: &str) -> String {
    cut(text).to_owned()
}

fn lossy(bytes: &[u8], most: usize) -> String {
    String::from_utf8_lossy(bytes.get(..most).unwrap_or(bytes)).into_owned()
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
