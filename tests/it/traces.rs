//! Spans, as a collector gets them, and the trace headers that go upstream.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use parking_lot::Mutex;
use prost::Message as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::net::TcpListener;
use tollgate::domain::Trace;
use tollgate::emulator::SeenRequest;

use crate::binary::Binary;
use crate::client::{Transport, call as raw_call, converse};
use crate::downstream::{Ask, Way, call, open};
use crate::record::log;
use crate::world::{World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector: OTLP's one method (opentelemetry-proto, `TraceService/Export`), over gRPC as far as it goes.
struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Vec<ResourceSpans>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self { address: listener.local_addr().unwrap(), received: Arc::default() };
        let received = Arc::clone(&collector.received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(collect(stream, Arc::clone(&received)));
            }
        });
        collector
    }

    /// With the certificate for `localhost` that a world has in its directory.
    async fn start_tls(dir: &Path) -> Self {
        let certificates = CertificateDer::pem_file_iter(dir.join("tls.pem")).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(dir.join("tls-key.pem")).unwrap();
        let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self { address: listener.local_addr().unwrap(), received: Arc::default() };
        let received = Arc::clone(&collector.received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(collect(stream, Arc::clone(&received)));
                }
            }
        });
        collector
    }

    /// A world whose spans come here.
    async fn world(&self, sample: &str) -> World {
        let traces = format!("traces: {{ otlp: 'http://{}', sample: {sample} }}", self.address);
        world(&format!("record: {{ access_log: {{ to: access.log }}, {traces} }}")).await
    }

    fn spans(&self) -> Vec<Span> {
        let received = self.received.lock();
        let scopes = received.iter().flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.iter().cloned()).collect()
    }
}

/// Answers every call of one connection, and keeps what came.
async fn collect(stream: impl Transport, received: Arc<Mutex<Vec<ResourceSpans>>>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let received = Arc::clone(&received);
        tokio::spawn(async move {
            assert_eq!(request.uri().path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
            let mut body = request.into_body();
            let mut message = BytesMut::new();
            while let Some(piece) = body.data().await {
                let piece = piece.unwrap();
                body.flow_control().release_capacity(piece.len()).unwrap();
                message.extend_from_slice(&piece);
            }
            // One message: not compressed, its length, itself.
            let message = message.freeze();
            assert_eq!(
                (message[0], usize::try_from(u32::from_be_bytes(message[1..5].try_into().unwrap())).unwrap()),
                (0, message.len() - 5)
            );
            received.lock().extend(ExportTraceServiceRequest::decode(message.slice(5..)).unwrap().resource_spans);
            let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut answer = respond.send_response(head, false).unwrap();
            answer.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
            answer.send_trailers([("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect()).unwrap();
        });
    }
}

/// Waits until what was recorded has gone out.
async fn exported(world: &World) {
    world.until_idle().await;
    let live = Arc::clone(world.gateway.live());
    tokio::task::spawn_blocking(move || live.recorder.flush()).await.unwrap();
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|pair| (&*pair.key, text(pair.value.as_ref().unwrap().value.as_ref().unwrap()))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The values that a header came with.
fn all<'a>(seen: &'a SeenRequest, name: &str) -> Vec<&'a str> {
    seen.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| std::str::from_utf8(value).unwrap()).collect()
}

fn ask(world: &World) -> Ask {
    Ask::post(CONVERSE, converse("zebra quagga")).token(&world.token)
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no `{name}` in {spans:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_hangs_under_its_callers_span_and_its_upstream_under_ours() {
    for way in Way::ALL {
        let collector = Collector::start().await;
        let world = collector.world("0%").await;
        let traced = ask(&world).header("traceparent", &format!("00-{TRACE}-{PARENT}-01")).header("tracestate", "vendor=1");
        let answer = call(&world, way, &traced).await;
        assert_eq!(answer.status, 200);
        exported(&world).await;

        let spans = collector.spans();
        assert_eq!(spans.len(), 4, "{spans:#?}");
        assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
        let root = named(&spans, "chat amazon.nova-lite-v1:0");
        assert_eq!((hex(&root.parent_span_id).as_str(), root.kind), (PARENT, SpanKind::Server as i32));
        let [admit, upstream, stream] = ["admit", "upstream", "stream"].map(|name| named(&spans, name));
        for child in [admit, upstream, stream] {
            assert_eq!(child.parent_span_id, root.span_id);
            assert!(root.start_time_unix_nano <= child.start_time_unix_nano && child.end_time_unix_nano <= root.end_time_unix_nano);
        }
        assert_eq!(upstream.kind, SpanKind::Client as i32);
        assert!(
            admit.end_time_unix_nano <= upstream.start_time_unix_nano + 1 && upstream.end_time_unix_nano == stream.start_time_unix_nano
        );

        let seen = &world.emulator.requests()[0];
        assert_eq!(all(seen, "traceparent"), [format!("00-{TRACE}-{}-01", hex(&upstream.span_id))], "one, and it names our call");
        assert_eq!(all(seen, "tracestate"), ["vendor=1"]);

        let told = texts(&root.attributes);
        let id = answer.header("x-amzn-requestid").unwrap();
        for (name, value) in [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.request.model", "amazon.nova-lite-v1:0"),
            ("gen_ai.provider.name", "aws.bedrock"),
            ("http.response.status_code", "200"),
            ("http.request.method", "POST"),
            ("client.address", "127.0.0.1"),
            ("tollgate.tenant", "demo"),
            ("tollgate.user", "alice"),
        ] {
            assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!format!("{spans:?}").contains("zebra"), "a word that was spoken");
        assert_eq!(texts(&upstream.attributes)["aws.request_id"], id);
        assert_eq!(texts(&upstream.attributes)["tollgate.upstream"], "emulator");
        let line = &log(&world).await[0];
        assert_eq!((&line["trace_id"], &line["operation"]), (&json!(TRACE), &json!("converse")));

        let resource = collector.received.lock()[0].resource.clone().unwrap();
        let resource = texts(&resource.attributes);
        assert_eq!((&*resource["service.name"], &*resource["service.version"]), ("tollgate", env!("CARGO_PKG_VERSION")));
        assert_eq!(resource["service.instance.id"].len(), 36);
        assert_eq!(world.metric("tollgate_traces_dropped_total"), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_taken_of_traces_that_begin_here_and_callers_decide_for_theirs() {
    let caller = |flag: &str| format!("00-{TRACE}-{PARENT}-{flag}");
    for (sample, traceparent, expected) in
        [("0%", None, false), ("100%", None, true), ("0%", Some(caller("01")), true), ("100%", Some(caller("00")), false)]
    {
        let case = format!("{sample} {traceparent:?}");
        let collector = Collector::start().await;
        let world = collector.world(sample).await;
        let ask = match &traceparent {
            Some(header) => ask(&world).header("traceparent", header),
            None => ask(&world),
        };
        assert_eq!(call(&world, Way::Http1, &ask).await.status, 200, "{case}");
        exported(&world).await;
        let spans = collector.spans();
        assert_eq!(spans.len(), if expected { 4 } else { 0 }, "{case}");
        let seen = &world.emulator.requests()[0];
        let told = all(seen, "traceparent");
        assert!(told.len() == 1 && told[0].ends_with(if expected { "-01" } else { "-00" }), "{case}: {told:?}");
        let trace_id = log(&world).await[0]["trace_id"].as_str().unwrap().to_owned();
        assert!(told[0].starts_with(&format!("00-{trace_id}-")), "{case}: {told:?}");
        if traceparent.is_none() {
            assert!(spans.iter().filter(|span| span.kind == SpanKind::Server as i32).all(|root| root.parent_span_id.is_empty()), "{case}");
            assert_ne!(trace_id, TRACE, "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_no_trace_goes_no_further_and_nor_does_the_state_beside_it() {
    let collector = Collector::start().await;
    let world = collector.world("100%").await;
    let good = format!("00-{TRACE}-{PARENT}-01");
    let cases: [&[&str]; 5] = [
        &["nonsense"],
        &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
        &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        &[&good, "00-11111111111111111111111111111111-2222222222222222-01"],
        &[],
    ];
    for headers in cases {
        let asked = headers.iter().fold(ask(&world).header("tracestate", "vendor=1"), |ask, value| ask.header("traceparent", value));
        for way in [Way::Http1, Way::H2c] {
            assert_eq!(call(&world, way, &asked).await.status, 200);
            let seen = world.emulator.requests().pop().unwrap();
            let [told] = all(&seen, "traceparent")[..] else { panic!("{headers:?}: {:?}", seen.headers) };
            assert!(!told.contains(TRACE) && told.len() == 55 && told.ends_with("-01"), "{headers:?}: {told}");
            assert_eq!(seen.header("tracestate"), None, "{headers:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_spans_a_callers_trace_headers_pass_as_they_came_and_without_them_a_trace_begins() {
    let world = world("").await;
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    let traced = ask(&world).header("traceparent", &format!("00-{TRACE}-{PARENT}-01")).header("tracestate", "vendor=1");
    assert_eq!(call(&world, Way::Http1, &traced).await.status, 200);
    let seen = world.emulator.requests();
    let [begun] = all(&seen[0], "traceparent")[..] else { panic!("{:?}", seen[0].headers) };
    assert!(Trace::take_up(Some(begun.as_bytes())).sampled, "{begun}");
    assert_eq!(all(&seen[1], "traceparent"), [format!("00-{TRACE}-{PARENT}-01")]);
    assert_eq!(all(&seen[1], "tracestate"), ["vendor=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_broken_streams_are_told_apart() {
    let collector = Collector::start().await;
    let world = collector.world("100%").await;
    assert_eq!(call(&world, Way::Http1, &Ask::post(CONVERSE, converse("one"))).await.status, 401);
    exported(&world).await;
    let stream = Ask::post("/model/amazon.nova-lite-v1%3A0/converse-stream", converse("one two")).token(&world.token);
    let (_, end) = open(&world, Way::Http1, &stream.fault("close-between-frames")).await.rest().await;
    assert!(end.is_err());
    exported(&world).await;
    assert_eq!(call(&world, Way::Http1, &ask(&world).fault("close")).await.status, 502);
    exported(&world).await;

    let spans = collector.spans();
    let status = |span: &Span| span.status.as_ref().map_or(0, |status| status.code);
    let roots: Vec<_> = spans.iter().filter(|span| span.kind == SpanKind::Server as i32).collect();
    let [refused, broken, failed] = roots[..] else { panic!("{spans:#?}") };
    assert_eq!((&*refused.name, status(refused)), ("POST", StatusCode::Unset as i32));
    assert_eq!(texts(&refused.attributes)["tollgate.reason"], "unauthenticated");
    assert_eq!(spans.iter().filter(|span| span.trace_id == refused.trace_id).count(), 1);
    assert_eq!((&*broken.name, status(broken)), ("chat amazon.nova-lite-v1:0", StatusCode::Error as i32));
    let broken: Vec<_> = spans.iter().filter(|span| span.trace_id == broken.trace_id).cloned().collect();
    assert_eq!(status(named(&broken, "stream")), StatusCode::Error as i32);
    assert_eq!(status(named(&broken, "upstream")), StatusCode::Unset as i32, "AWS had answered");
    assert_eq!((status(failed), &*texts(&failed.attributes)["error.type"]), (StatusCode::Error as i32, "upstream_broken"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_gone_costs_spans_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = Collector { address: listener.local_addr().unwrap(), received: Arc::default() };
    drop(listener);
    let world = collector.world("100%").await;
    for _ in 0..5 {
        assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    }
    exported(&world).await;
    assert_eq!(world.metric("tollgate_traces_dropped_total"), 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_over_tls_is_one_of_whom_the_systems_roots_vouch() {
    let world = world("").await;
    let yaml = |port: u16| {
        format!(
            "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\n{}\n{}\n\
             record: {{ access_log: off, traces: {{ otlp: 'https://localhost:{port}', sample: 100% }} }}",
            crate::world::jwt(),
            crate::scripted::upstream(&format!("http://{}", world.emulator.address()), ""),
        )
    };
    let ca = world.dir.join("ca.pem").display().to_string();
    let collector = Collector::start_tls(&world.dir).await;
    let binary = Binary::run(&world.dir, &yaml(collector.address.port()), &[("SSL_CERT_FILE", &ca)]).await;
    assert_eq!(raw_call(binary.listeners[0], ask(&world).wire()).await.status, 200);
    binary.stop().await;
    assert_eq!(collector.spans().len(), 4, "a shutdown waits for them");

    // Another's root: the collector is not trusted, and the gateway serves and ends all the same.
    let other = tollgate::demo::Authority::new().unwrap();
    std::fs::write(world.dir.join("other.pem"), other.pem()).unwrap();
    let other = world.dir.join("other.pem").display().to_string();
    let stranger = Collector::start_tls(&world.dir).await;
    let binary = Binary::run(&world.dir, &yaml(stranger.address.port()), &[("SSL_CERT_FILE", &other)]).await;
    assert_eq!(raw_call(binary.listeners[0], ask(&world).wire()).await.status, 200);
    let said = binary.stop().await;
    assert!(stranger.spans().is_empty());
    assert!(said.contains("spans could not be exported"), "{said}");
}
