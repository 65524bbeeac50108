//! Connections from their first byte to their last: slow clients, TLS, HTTP/2 and HTTP/1.1 side by side, and the drain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tollgate::demo::Authority;
use tollgate::emulator::Outcome;

use crate::client::{PATIENCE, Raw, call, converse, eventually, h2_call, h2_over, h2c, post, whole};
use crate::record::LOGGED;
use crate::world::{Dir, World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const STREAM: &str = "/model/amazon.nova-lite-v1:0/converse-stream";

/// Short, for real time passes here; everything beside it must work within it.
const HASTY: &str = "firewall: { header_timeout: 400ms }";
const HEADER_TIMEOUT: Duration = Duration::from_millis(400);

/// A busy machine may take so much longer.
const LATE: Duration = Duration::from_secs(10);

/// Waits for the end of the connection (HTTP/2 says something first), and checks that it came in time: not before the header timeout, and not long after it.
async fn is_cut(raw: &mut Raw, since: Instant, what: &str) {
    raw.rest().await;
    let after = since.elapsed();
    assert!(after >= HEADER_TIMEOUT * 3 / 4 && after < HEADER_TIMEOUT + LATE, "{what}: cut after {after:?}");
}

/// Sends a head byte by byte, each well within any timeout by itself, until the connection ends.
async fn trickle(raw: &mut Raw, what: &str) {
    let began = Instant::now();
    let head = format!("GET /model HTTP/1.1\r\nHost: gateway\r\nX-Slow: {}", "a".repeat(10_000));
    for byte in head.as_bytes() {
        if !raw.try_send([*byte]).await || raw.is_ended_within(Duration::from_millis(20)).await {
            let after = began.elapsed();
            assert!(after >= HEADER_TIMEOUT * 3 / 4 && after < HEADER_TIMEOUT + LATE, "{what}: cut after {after:?}");
            return;
        }
    }
    panic!("{what}: never cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_trickles_is_cut_at_the_header_timeout_in_total() {
    let world = world(HASTY).await;
    let client = tls_client(&world, &rustls::version::TLS13, &[b"http/1.1"]);
    let plain = async { trickle(&mut Raw::connect(world.plain).await, "plain").await };
    let tls = async { trickle(&mut Raw::over(connect(&world, &client, "localhost").await), "TLS").await };
    let second = async {
        let mut raw = Raw::connect(world.plain).await;
        raw.send(post(CONVERSE, &world.token, "", &converse("one"))).await;
        assert_eq!(raw.answer().await.status, StatusCode::OK);
        trickle(&mut raw, "the second request of a connection").await;
    };
    tokio::join!(plain, tls, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_new_connection_is_cut_at_the_header_timeout() {
    let world = world(HASTY).await;
    let began = Instant::now();
    let client = |alpn: &'static [u8]| tls_client(&world, &rustls::version::TLS13, &[alpn]);
    let mut plain = Raw::connect(world.plain).await;
    let mut part = Raw::connect(world.plain).await;
    part.send("PRI * HTTP/2.0\r\n").await;
    let mut no_hello = Raw::connect(world.tls).await;
    let mut after_hello = Raw::over(connect(&world, &client(b"http/1.1"), "localhost").await);
    let mut h2_part = Raw::over(connect(&world, &client(b"h2"), "localhost").await);
    h2_part.send("PRI * HTTP/2.0\r\n").await;
    let mut h2_silent = Raw::over(connect(&world, &client(b"h2"), "localhost").await);
    is_cut(&mut plain, began, "nothing").await;
    is_cut(&mut part, began, "part of the HTTP/2 preface").await;
    is_cut(&mut no_hello, began, "no TLS handshake").await;
    is_cut(&mut after_hello, began, "nothing after the TLS handshake").await;
    is_cut(&mut h2_silent, began, "nothing of HTTP/2 after the TLS handshake").await;
    is_cut(&mut h2_part, began, "part of the HTTP/2 preface over TLS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_an_idle_connection_nor_a_slow_answer_is_cut_at_the_header_timeout() {
    let world = world(HASTY).await;
    let mut kept = Raw::connect(world.plain).await;
    kept.send(post(CONVERSE, &world.token, "", &converse("one"))).await;
    assert_eq!(kept.answer().await.status, StatusCode::OK);
    let mut h2 = h2c(world.plain).await;
    let mut stream = gated(&world).await;

    assert!(!kept.is_ended_within(HEADER_TIMEOUT * 3).await);

    world.emulator.release(10_000);
    while stream.chunk().await.expect("a whole chunk").is_some() {}
    kept.send(post(CONVERSE, &world.token, "", &converse("one"))).await;
    assert_eq!(kept.answer().await.status, StatusCode::OK);
    let answer = h2_call(&mut h2, h2_converse(&world, CONVERSE, ""), Bytes::from(converse("one"))).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_shorter_than_the_http2_preface_is_answered() {
    let world = world("").await;
    for request in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "P / HTTP/1.0\r\n\r\n", "PRI / HTTP/1.0\r\n\r\n"] {
        assert!(request.len() < 24);
        assert_eq!(call(world.plain, request).await.status, StatusCode::UNAUTHORIZED, "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_and_http1_share_the_plain_port() {
    let world = world("").await;
    let mut h2 = h2c(world.plain).await;
    let mut raw = Raw::connect(world.plain).await;
    for _ in 0..3 {
        raw.send(post(CONVERSE, &world.token, "", &converse("one two"))).await;
        assert_eq!(raw.answer().await.json()["usage"]["inputTokens"], 2);
        let answer = h2_call(&mut h2, h2_converse(&world, CONVERSE, ""), Bytes::from(converse("one two three"))).await;
        assert_eq!(answer.json()["usage"]["inputTokens"], 3);
    }
    // The preface may come in pieces.
    let mut raw = Raw::connect(world.plain).await;
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        raw.send([*byte]).await;
    }
    raw.send(b"\0\0\0\x04\0\0\0\0\0").await;
    assert_eq!(&raw.bytes(9).await[3..5], b"\x04\0", "the server's SETTINGS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_use_one_connection_on_either_side() {
    let world = world("").await;
    let mut raw = Raw::connect(world.plain).await;
    for _ in 0..100 {
        raw.send(post(CONVERSE, &world.token, "", &converse("one"))).await;
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (StatusCode::OK, Some("keep-alive")));
    }
    assert_eq!(world.emulator.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_streams_run_at_once_on_one_http2_connection() {
    const STREAMS: usize = 200;
    let world = world("").await;
    let mut h2 = h2c(world.plain).await;
    let mut answers = Vec::new();
    for _ in 0..STREAMS {
        h2 = tokio::time::timeout(PATIENCE, h2.ready()).await.unwrap().unwrap();
        let (response, mut stream) = h2.send_request(h2_converse(&world, STREAM, "gated"), false).unwrap();
        stream.send_data(Bytes::from(converse("one two three")), true).unwrap();
        answers.push(response);
    }
    eventually("all are at the emulator", || world.emulator.requests().len() == STREAMS).await;
    assert_eq!(world.metric("tollgate_in_flight"), 200.0);
    world.emulator.release(100_000);
    let mut reading = tokio::task::JoinSet::new();
    for answer in answers {
        reading.spawn(async move { whole(answer.await.unwrap()).await.unwrap() });
    }
    let answers = tokio::time::timeout(PATIENCE, reading.join_all()).await.expect("all answers in 30 s");
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    let bodies: Vec<_> = answers.iter().map(|answer| answer.body.len()).collect();
    assert!(bodies.iter().all(|len| *len > 100 && *len == bodies[0]), "{bodies:?}");
    eventually("all have ended", || world.metric("tollgate_in_flight") == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_and_1_3_carry_either_version_of_http() {
    let world = world("").await;
    for (version, expected) in [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)] {
        let h2 = tls_client(&world, version, &[b"h2", b"http/1.1"]);
        let stream = connect(&world, &h2, "localhost").await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "h2 is preferred");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        let (mut send, _) = h2_over(stream).await;
        let answer = h2_call(&mut send, h2_converse(&world, CONVERSE, ""), Bytes::from(converse("one"))).await;
        assert_eq!(answer.status, StatusCode::OK);

        for alpn in [&[&b"http/1.1"[..]][..], &[]] {
            let mut raw = Raw::over(connect(&world, &tls_client(&world, version, alpn), "localhost").await);
            for size in [1, 50_000] {
                raw.send(post(CONVERSE, &world.token, "", &converse(&"a ".repeat(size)))).await;
                assert_eq!(raw.answer().await.json()["usage"]["inputTokens"], size);
            }
        }
    }
    let other = tls_client(&world, &rustls::version::TLS13, &[b"spdy/3"]);
    let stream = TcpStream::connect(world.tls).await.unwrap();
    let refused = TlsConnector::from(other).connect("localhost".try_into().unwrap(), stream).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_returning_client_resumes_its_session() {
    let world = world("").await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = tls_client(&world, version, &[b"http/1.1"]);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let stream = connect(&world, &client, "localhost").await;
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected), "{version:?}");
            let mut raw = Raw::over(stream);
            // TLS 1.3 hands out its tickets with the first bytes.
            raw.send(post(CONVERSE, &world.token, "", &converse("one"))).await;
            assert_eq!(raw.answer().await.status, StatusCode::OK);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_that_the_client_asks_for_chooses_the_certificate() {
    let (dir, authority) = (Dir::new(), Authority::new().unwrap());
    let mut listed = Vec::new();
    let mut leaves = Vec::new();
    for (file, names) in
        [("first", ["first.example", "localhost"]), ("exact", ["a.wild.example", "b.example"]), ("wild", ["*.wild.example", "c.example"])]
    {
        let issued = authority.issue(&names).unwrap();
        leaves.push(CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap());
        std::fs::write(dir.join(format!("{file}.pem")), issued.certificate).unwrap();
        std::fs::write(dir.join(format!("{file}-key.pem")), issued.key).unwrap();
        listed.push(format!("{{ certificate: {0}/{file}.pem, key: {0}/{file}-key.pem }}", dir.display()));
    }
    let yaml = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}, {{ address: '127.0.0.1:0', tls: {{ certificates: [{}] }} }}]",
        listed.join(", ")
    );
    let world = world(&yaml).await;
    let client = client_config(&authority.pem(), &rustls::version::TLS13, &[b"http/1.1"]);
    for (name, leaf) in [
        ("first.example", 0),
        ("localhost", 0),
        ("a.wild.example", 1),
        ("b.example", 1),
        ("B.EXAMPLE", 1),
        ("x.wild.example", 2),
        ("c.example", 2),
    ] {
        let stream = connect(&world, &client, name).await;
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], leaves[leaf], "{name}");
    }
    // No certificate fits: the first is shown, and the client refuses it.
    for name in ["y.x.wild.example", "wild.example", "elsewhere.example"] {
        let stream = TcpStream::connect(world.tls).await.unwrap();
        let refused = TlsConnector::from(Arc::clone(&client)).connect(name.try_into().unwrap(), stream).await.unwrap_err();
        assert!(refused.to_string().contains("NotValidForName") || refused.to_string().contains("not valid for name"), "{name}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_streams_end_and_takes_nothing_new() {
    let world = world("").await;
    let mut stream = gated(&world).await;
    let mut idle = Raw::connect(world.plain).await;
    idle.send(post(CONVERSE, &world.token, "", &converse("one"))).await;
    assert_eq!(idle.answer().await.status, StatusCode::OK);
    let mut silent = Raw::connect(world.plain).await;
    let (mut h2_idle, h2_idle_end) = h2_over(TcpStream::connect(world.plain).await.unwrap()).await;
    assert_eq!(h2_call(&mut h2_idle, h2_converse(&world, CONVERSE, ""), Bytes::from(converse("one"))).await.status, StatusCode::OK);
    let (mut h2_busy, h2_busy_end) = h2_over(TcpStream::connect(world.plain).await.unwrap()).await;
    let (h2_stream, mut h2_body) = h2_busy.send_request(h2_converse(&world, STREAM, "gated"), false).unwrap();
    h2_body.send_data(Bytes::from(converse("one two")), true).unwrap();
    let h2_stream = tokio::time::timeout(PATIENCE, h2_stream).await.unwrap().unwrap();
    let admin = world.gateway.admin();
    assert_eq!(call(admin, "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await.status, StatusCode::OK);

    let World { gateway, emulator, plain, tls, .. } = world;
    let drained = tokio::spawn(gateway.drain(PATIENCE));
    assert!(idle.is_ended().await, "an idle connection is closed");
    assert!(silent.is_ended().await, "and so is one that has said nothing");
    drop(h2_idle);
    tokio::time::timeout(PATIENCE, h2_idle_end).await.unwrap().unwrap().expect("GOAWAY without an error");
    assert!(TcpStream::connect(plain).await.is_err() && TcpStream::connect(tls).await.is_err(), "no new connection is taken");
    let ready = call(admin, "GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8_lossy(&ready.body).contains("draining"));
    assert_eq!(call(admin, "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.status, StatusCode::OK);
    assert!(!drained.is_finished(), "streams are under way");

    emulator.release(10_000);
    let mut events = 0;
    while stream.chunk().await.expect("the stream ends as it should").is_some() {
        events += 1;
    }
    assert!(events > 0);
    assert!(stream.is_ended().await);
    assert!(!whole(h2_stream).await.expect("the HTTP/2 stream ends as it should").body.is_empty());
    drop(h2_busy);
    tokio::time::timeout(PATIENCE, h2_busy_end).await.unwrap().unwrap().expect("GOAWAY without an error");
    tokio::time::timeout(PATIENCE, drained).await.expect("the drain ends with the last stream").unwrap();
    assert!(emulator.requests().iter().all(|seen| seen.outcome == Outcome::Completed));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlives_the_grace_is_told_so_and_recorded() {
    for rule in ["cancel", "drain"] {
        let routes = format!("routes: [{{ name: everything, to: [{{ upstream: emulator }}], on_disconnect: {rule} }}]");
        let world = world(&format!("{LOGGED}\n{routes}")).await;
        let mut stream = gated(&world).await;
        let mut h2 = h2c(world.plain).await;
        let (h2_stream, mut h2_body) = h2.send_request(h2_converse(&world, STREAM, "gated"), false).unwrap();
        h2_body.send_data(Bytes::from(converse("one two")), true).unwrap();
        let h2_stream = tokio::time::timeout(PATIENCE, h2_stream).await.unwrap().unwrap();

        let World { gateway, emulator, dir, .. } = world;
        tokio::time::timeout(PATIENCE, gateway.drain(Duration::from_millis(200))).await.expect("the drain ends with its grace");
        let mut told = Vec::new();
        while let Some(chunk) = stream.chunk().await.expect("the stream ends well") {
            told.extend_from_slice(&chunk);
        }
        for told in [told, whole(h2_stream).await.expect("the HTTP/2 stream ends well").body] {
            assert!(String::from_utf8_lossy(&told).contains("internalServerException"));
        }
        let left = |seen: &[tollgate::emulator::SeenRequest]| seen.iter().all(|seen| seen.outcome == Outcome::PeerLeft);
        tokio::time::timeout(PATIENCE, emulator.requests_until(left)).await.expect("the upstream calls end too");
        let log = std::fs::read_to_string(dir.join("access.log")).unwrap();
        assert_eq!(log.lines().filter(|line| line.contains(r#""complete":false"#)).count(), 2, "{rule}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_gets_a_stream_without_chunks() {
    let world = world("").await;
    let request = String::from_utf8(post(STREAM, &world.token, "", &converse("one two"))).unwrap();
    let chunked = call(world.plain, &request).await;
    assert_eq!(chunked.header("transfer-encoding"), Some("chunked"));
    for asked in ["", "Connection: keep-alive\r\n"] {
        let old = request.replace("HTTP/1.1\r\n", &format!("HTTP/1.0\r\n{asked}"));
        let plain = call(world.plain, old).await;
        assert_eq!((plain.status, plain.header("transfer-encoding"), plain.header("connection")), (StatusCode::OK, None, Some("close")));
        assert_eq!(plain.body.len(), chunked.body.len(), "it ends with the connection");
    }
}

/// A stream whose head has come, and whose events wait.
async fn gated(world: &World) -> Raw {
    let mut raw = Raw::connect(world.plain).await;
    raw.send(post(STREAM, &world.token, "x-emulator-fault: gated\r\n", &converse("one two"))).await;
    let (status, _) = raw.head().await.unwrap();
    assert_eq!(status, StatusCode::OK);
    raw
}

fn h2_converse(world: &World, path: &str, fault: &str) -> Request<()> {
    let mut request = Request::post(format!("https://gateway{path}")).header("authorization", format!("Bearer {}", world.token));
    if !fault.is_empty() {
        request = request.header("x-emulator-fault", fault);
    }
    request.header("content-type", "application/json").body(()).unwrap()
}

fn tls_client(world: &World, version: &'static SupportedProtocolVersion, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    client_config(&world.ca_pem, version, alpn)
}

pub(crate) fn client_config(ca: &str, version: &'static SupportedProtocolVersion, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

pub(crate) async fn connect(world: &World, client: &Arc<ClientConfig>, name: &str) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(world.tls).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio::time::timeout(PATIENCE, TlsConnector::from(Arc::clone(client)).connect(name, stream)).await.unwrap().unwrap()
}
