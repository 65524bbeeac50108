use std::collections::BTreeMap;
use std::net::TcpListener;

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{SpanId, TraceId};
use proptest::prelude::*;

use super::*;
use crate::domain::{Cost, Reason, RequestId};
use crate::record::entry::Tried;
use crate::record::labels::Attempt;
use crate::record::tests::{bare, full, given_up, principal};

fn counter() -> IntCounter {
    IntCounter::new("dropped", "d").unwrap()
}

/// An address where connections are taken and nothing is ever said: a collector that hangs. It hangs up when it is dropped.
fn hanging() -> (TcpListener, Config) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let otlp = format!("http://{}", listener.local_addr().unwrap());
    (listener, Config { otlp, sample: 0 })
}

fn sampling(sample: u32) -> Traces {
    let (_listener, config) = hanging();
    Traces::start(&Config { sample, ..config }, counter()).unwrap()
}

fn begun(trace_id: u128) -> Trace {
    Trace { trace_id, parent: None, span_id: 1, sampled: false }
}

#[test]
fn a_trace_that_begins_here_is_sampled_by_its_id_alone() {
    let (none, some, all) = (sampling(0), sampling(10_000), sampling(1_000_000));
    let mut random = fastrand::Rng::with_seed(7);
    let traces: Vec<_> = (0..100_000).map(|_| begun(random.u128(1..))).collect();
    assert!(!traces.iter().any(|trace| none.samples(trace)));
    assert!(traces.iter().all(|trace| all.samples(trace)));
    assert!(all.samples(&begun(u128::MAX)) && !none.samples(&begun(1 << 64)));
    let sampled: Vec<_> = traces.iter().filter(|trace| some.samples(trace)).collect();
    assert!((900..1_100).contains(&sampled.len()), "{} of 100,000 are not one in a hundred", sampled.len());
    let other_instance = sampling(10_000);
    assert!(sampled.iter().all(|trace| other_instance.samples(trace)));
    // OpenTelemetry's rule: the last 64 bits count, less the lowest.
    assert!(some.samples(&begun((u128::MAX << 64) | 0x0147_ae14_7ae1_47ad)), "just below a hundredth of 2^64");
    assert!(!some.samples(&begun(0x028f_5c28_f5c2_8f5e)), "just above it");
}

#[test]
fn a_caller_decides_for_its_own_trace() {
    let (none, all) = (sampling(0), sampling(1_000_000));
    let called = |sampled| Trace { parent: Some(7), sampled, ..begun(1) };
    assert!(none.samples(&called(true)) && !all.samples(&called(false)));
}

#[test]
fn a_collector_that_hangs_costs_spans_and_no_time() {
    let (_listener, config) = hanging();
    let dropped = counter();
    let traces = Traces::start_with(&config, dropped.clone(), 8).unwrap();
    let id = RequestId::random();
    // 512 may be in the exporter's hands, and 8 wait.
    (0..600).for_each(|_| traces.export(&bare(&id)));
    assert!(dropped.get() >= 80, "{}", dropped.get());
    assert!(!traces.flush(Duration::from_millis(1)), "nobody takes them");
}

#[test]
fn a_collector_that_is_not_there_costs_spans_and_is_counted() {
    let (listener, config) = hanging();
    drop(listener);
    let dropped = counter();
    let traces = Traces::start(&config, dropped.clone()).unwrap();
    let id = RequestId::random();
    (0..3).for_each(|_| traces.export(&bare(&id)));
    assert!(traces.flush(Duration::from_secs(30)), "it has failed, and is done with");
    assert_eq!(dropped.get(), 3);
}

/// The attributes by name, as text.
fn attributes(span: &SpanData) -> BTreeMap<&str, String> {
    let pairs = span.attributes.iter().map(|pair| (pair.key.as_str(), pair.value.to_string()));
    let all: BTreeMap<_, _> = pairs.collect();
    assert_eq!(all.len(), span.attributes.len(), "an attribute stands there once");
    all
}

#[test]
fn an_exchange_is_a_tree_of_four_spans() {
    let id = RequestId::random();
    let principal = principal("acme", Some("ada"));
    let trace = Trace { parent: Some(7), ..*full(&id, &principal).trace };
    let entry = Entry {
        trace: &trace,
        status: Some(200),
        reason: None,
        client_left: false,
        first_token: Some(Duration::from_micros(812_500)),
        ..full(&id, &principal)
    };
    let spans = spans::of(&entry);
    let [root, admit, upstream, stream] = spans.as_slice() else { panic!("{spans:#?}") };
    assert!(spans.iter().all(|span| span.span_context.trace_id() == TraceId::from(trace.trace_id) && span.span_context.is_sampled()));
    assert_eq!((root.parent_span_id, root.parent_span_is_remote), (SpanId::from(7), true));
    let below = [admit, upstream, stream];
    assert!(below.iter().all(|span| span.parent_span_id == root.span_context.span_id() && !span.parent_span_is_remote));
    assert_eq!(upstream.span_context.span_id(), SpanId::from(trace.span_id), "what the upstream was told");
    let mut ids: Vec<_> = spans.iter().map(|span| span.span_context.span_id().to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);

    let after = |micros: u64| entry.began + Duration::from_micros(micros);
    for (span, name, kind, from, to) in [
        (root, "chat amazon.nova-lite-v1:0", SpanKind::Server, 0, 815_250),
        (admit, "admit", SpanKind::Internal, 0, 50),
        (upstream, "upstream", SpanKind::Client, 50, 812_090),
        (stream, "stream", SpanKind::Internal, 812_090, 815_250),
    ] {
        assert_eq!((&*span.name, &span.span_kind, span.start_time, span.end_time), (name, &kind, after(from), after(to)));
        assert_eq!(span.status, Status::Unset, "{name}");
    }
    assert_eq!(stream.events.iter().map(|event| &*event.name).collect::<Vec<_>>(), ["first token", "last token"]);
    assert_eq!(stream.events[0].timestamp, after(812_500));

    let told = attributes(root);
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "aws.bedrock"),
        ("gen_ai.request.model", "amazon.nova-lite-v1:0"),
        ("gen_ai.usage.input_tokens", "6267"),
        ("gen_ai.usage.output_tokens", "340"),
        ("gen_ai.usage.cache_read.input_tokens", "5000"),
        ("gen_ai.usage.cache_creation.input_tokens", "67"),
        ("gen_ai.usage.reasoning.output_tokens", "90"),
        ("gen_ai.response.time_to_first_chunk", "0.8125"),
        ("http.response.status_code", "200"),
        ("tollgate.tenant", "acme"),
        ("tollgate.user", "ada"),
        ("tollgate.cost_usd", "0.0125"),
        ("tollgate.usage", "reported"),
        ("tollgate.request_id", id.as_str()),
    ] {
        assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
    }
    let told = attributes(upstream);
    assert_eq!((&*told["aws.request_id"], &*told["tollgate.upstream"], &*told["http.request.resend_count"]), ("7e9d2f4a", "primary", "1"));
}

#[test]
fn every_try_that_was_given_up_is_a_span_between_admission_and_the_last() {
    let id = RequestId::random();
    let principal = principal("acme", None);
    let unreachable = Tried {
        target: "second".into(),
        model: None,
        outcome: Attempt::Unreachable,
        status: None,
        upstream_request_id: None,
        began: Duration::from_micros(40_100),
        took: Duration::from_millis(3),
        usage: None,
        cost: Cost::Nothing,
        ..given_up()
    };
    let tried = [given_up(), unreachable];
    let entry = Entry { status: Some(200), reason: None, client_left: false, tried: &tried, attempts: 3, ..full(&id, &principal) };
    let spans = spans::of(&entry);
    let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names[1..], ["admit", "upstream", "upstream", "upstream", "stream"]);
    let after = |micros: u64| entry.began + Duration::from_micros(micros);
    let times: Vec<_> = spans[2..5].iter().map(|span| (span.start_time, span.end_time)).collect();
    assert_eq!(times, [(after(50), after(40_050)), (after(40_100), after(43_100)), (after(43_100), after(812_090))]);
    assert!(spans[1..].iter().all(|span| span.parent_span_id == spans[0].span_context.span_id()));
    let [first, second, last] = [2, 3, 4].map(|at| attributes(&spans[at]));
    for (told, name, value) in [
        (&first, "tollgate.upstream", "use1"),
        (&first, "tollgate.target", "first"),
        (&first, "tollgate.outcome", "exception"),
        (&first, "error.type", "exception"),
        (&first, "gen_ai.request.model", "eu.amazon.nova-lite-v1:0"),
        (&first, "gen_ai.usage.output_tokens", "340"),
        (&first, "tollgate.cost_usd", "0.0125"),
        (&first, "aws.request_id", "9c0ffee0"),
        (&first, "http.response.status_code", "200"),
        (&second, "tollgate.outcome", "unreachable"),
        (&second, "http.request.resend_count", "1"),
        (&second, "gen_ai.request.model", "amazon.nova-lite-v1:0"),
        (&last, "http.request.resend_count", "2"),
        (&last, "tollgate.target", "canary"),
    ] {
        assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!second.contains_key("gen_ai.usage.output_tokens") && !first.contains_key("http.request.resend_count"));
    let failed: Vec<_> = spans.iter().map(|span| span.status != Status::Unset).collect();
    assert_eq!(failed, [false, false, true, true, false, false], "the client was answered well");
    assert_eq!(attributes(&spans[0])["gen_ai.usage.output_tokens"], "340", "the answer's alone");
    let many = vec![given_up(); 100];
    assert_eq!(spans::of(&Entry { tried: &many, ..entry }).len(), 4 + 16);
}

#[test]
fn a_refusal_is_one_span_and_a_failure_only_where_it_is_ours() {
    let id = RequestId::random();
    let refused = |status, reason| spans::of(&Entry { status: Some(status), reason: Some(reason), complete: true, ..bare(&id) });
    for (status, reason, expected) in [
        (429, Reason::RateLimited, Status::Unset),
        (503, Reason::NoCredentials, Status::error("")),
        (401, Reason::Unauthenticated, Status::Unset),
    ] {
        let spans = refused(status, reason);
        assert_eq!(spans.len(), 1);
        assert_eq!((&*spans[0].name, &spans[0].status), ("GET", &expected), "{status}");
        assert_eq!(attributes(&spans[0])["tollgate.reason"], reason.label());
        assert!(!spans[0].parent_span_is_remote && spans[0].parent_span_id == SpanId::INVALID);
    }
}

#[test]
fn a_break_upstream_is_a_failure_and_a_client_that_left_is_not() {
    let id = RequestId::random();
    let principal = principal("acme", None);
    let full = full(&id, &principal);
    let failed = |entry: Entry<'_>| spans::of(&entry).iter().map(|span| span.status != Status::Unset).collect::<Vec<_>>();
    let broken = Entry { status: Some(200), complete: false, client_left: false, ..full };
    assert_eq!(failed(broken), [true, false, false, true]);
    assert_eq!(failed(Entry { client_left: true, reason: None, ..broken }), [false; 4]);
    assert_eq!(failed(Entry { status: Some(502), head: None, complete: true, ..broken }), [true, false, true], "no answer came");
    assert_eq!(
        failed(Entry { status: Some(400), reason: None, complete: true, ..broken }),
        [false, false, true, false],
        "AWS refused the call"
    );
}

#[test]
fn what_a_caller_makes_up_names_no_span() {
    let id = RequestId::random();
    let principal = principal("acme", None);
    let entry = |status, operation, path: &'static [u8], method| Entry {
        status: Some(status),
        operation: Some(operation),
        path,
        method,
        reason: None,
        ..full(&id, &principal)
    };
    let name = |entry| spans::of(&entry)[0].name.to_string();
    assert_eq!(name(entry(404, "made-up", b"/model/x/made-up", "POST")), "POST");
    assert_eq!(name(entry(404, "made-up", b"/model/x/made-up", "INVENTED")), "HTTP");
    assert_eq!(name(entry(404, "converse", b"/model/x/converse", "POST")), "chat", "the model may be made up");
    assert_eq!(name(entry(200, "invoke", b"/model/x/invoke", "POST")), "invoke amazon.nova-lite-v1:0");
    assert_eq!(name(entry(200, "completions", b"/openai/v1/chat/completions", "POST")), "chat amazon.nova-lite-v1:0");
    assert_eq!(name(entry(200, "completions", b"/openai/v1/completions", "POST")), "text_completion amazon.nova-lite-v1:0");
    let control = Entry { model: None, ..entry(200, "foundation-models", b"/foundation-models", "GET") };
    assert_eq!(name(control), "foundation-models");
    assert!(!attributes(&spans::of(&control)[0]).keys().any(|key| key.starts_with("gen_ai.request")));
}

#[test]
fn the_contract_names_every_attribute_and_every_span() {
    let contract = include_str!("../../../docs/traces.md");
    let id = RequestId::random();
    let principal = principal("acme", Some("ada"));
    let failed = full(&id, &principal);
    let tried = [given_up(), given_up()];
    for entry in [failed, Entry { cost: Cost::Unpriced, mirror_of: Some(&id), tried: &tried, ..failed }] {
        for span in spans::of(&entry).iter().skip(1) {
            assert!(contract.contains(&format!("| `{}` |", span.name)), "{}", span.name);
        }
        let spans = spans::of(&entry);
        let keys = spans.iter().flat_map(|span| &span.attributes).map(|pair| pair.key.as_str());
        for key in keys {
            assert!(contract.contains(&format!("`{key}`")), "{key}");
        }
    }
}

#[test]
fn nothing_unpriced_is_free() {
    let id = RequestId::random();
    let told = |cost| spans::of(&Entry { cost, ..bare(&id) })[0].attributes.iter().map(|pair| pair.key.to_string()).collect::<Vec<_>>();
    assert!(told(Cost::Unpriced).iter().any(|key| key == "tollgate.unpriced"));
    assert!(!told(Cost::Nothing).iter().any(|key| key.starts_with("tollgate.cost") || key == "tollgate.unpriced"));
}

proptest! {
    #[test]
    fn spans_are_bounded_and_hold_no_query(bytes: Vec<u8>, text in ".{0,400}", query in "[A-Z]{9}") {
        let id = RequestId::random();
        let principal = principal(&text, Some(&text));
        let path = [&bytes[..], b"?", query.as_bytes()].concat();
        let entry = Entry { path: &path, user_agent: Some(&bytes), model: Some(&text), operation: Some(&text), status: Some(200), ..full(&id, &principal) };
        for span in spans::of(&entry) {
            prop_assert!(span.name.len() <= 2 * 256 + 1);
            for pair in &span.attributes {
                let value = pair.value.to_string();
                // A byte that is no UTF-8 becomes three.
                prop_assert!(value.len() <= 3 * 512);
                prop_assert!(!value.contains(&query) || text.contains(&query));
            }
        }
    }
}
