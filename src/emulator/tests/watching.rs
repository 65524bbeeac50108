//! What the emulator sees and refuses, and how it listens.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject;

use super::*;

#[tokio::test]
async fn a_request_is_remembered_byte_for_byte() {
    let emulator = emulator().await;
    let mut peer = Peer::to(&emulator).await;
    peer.ask(&signed("POST", "/x%2Fy/a:b;c", &[], "hello")).await.unwrap();
    peer.ask(&signed("GET", "/x?b=%20&a=1", &[], "")).await.unwrap();
    let [first, second] = <[SeenRequest; 2]>::try_from(emulator.requests()).unwrap();
    assert_eq!((first.path.as_str(), first.query.as_deref()), ("/x%2Fy/a:b;c", None));
    assert_eq!((second.path.as_str(), second.query.as_deref()), ("/x", Some("b=%20&a=1")));
    assert_eq!((first.number, first.connection, first.on_connection), (1, 1, 1));
    assert_eq!((second.number, second.connection, second.on_connection), (2, 1, 2));
    let names: Vec<_> = first.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..3], ["host", "content-type", "content-length"]);
    let body = first.body.unwrap();
    assert_eq!(first.headers.last().unwrap().0, "authorization");
    assert_eq!((body.length, body.start.as_ref()), (5, &b"hello"[..]));
    assert_eq!(body.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_eq!((first.outcome, second.outcome), (Outcome::Completed, Outcome::Completed));
}

#[tokio::test]
async fn a_peer_that_breaks_off_its_request_has_left() {
    let emulator = emulator().await;
    let mut peer = Peer::to(&emulator).await;
    peer.0.write_all(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345").await.unwrap();
    drop(peer);
    let all = emulator.requests_until(|all| all.last().is_some_and(|last| last.outcome != Outcome::Open)).await;
    assert_eq!((all[0].outcome, all[0].body.is_none()), (Outcome::PeerLeft, true));
}

#[tokio::test]
async fn no_more_requests_are_remembered_than_the_ring_holds() {
    let emulator = Emulator::start(Options { verify: false, ..Options::default() }).await.unwrap();
    let mut peer = Peer::to(&emulator).await;
    for _ in 0..=REMEMBERED {
        peer.ask("GET /x HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    }
    let all = emulator.requests();
    assert_eq!((all.len(), all[0].number), (REMEMBERED, 2));
}

#[tokio::test]
async fn an_unsigned_wrongly_signed_or_altered_request_is_refused_as_aws_refuses_it() {
    let emulator = emulator().await;
    let signed = signed("POST", "/model/x/converse", &[], CONVERSE);
    for (request, kind, says) in [
        ("GET /x HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), "MissingAuthenticationTokenException", "Missing Authentication Token"),
        ("GET /x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer x\r\n\r\n".to_owned(), "MissingAuthenticationTokenException", "Missing"),
        (
            signed.replace("three", "seven"),
            "InvalidSignatureException",
            "The Canonical String for this request should have been\n'POST\n/model/x/converse\n",
        ),
        (signed.replace("AKIDEXAMPLE", "AKIDANOTHER"), "UnrecognizedClientException", "security token"),
        (signed.replace("us-east-1/bedrock", "eu-west-1/bedrock"), "InvalidSignatureException", "valid region, not 'eu-west-1'"),
        (signed.replace("x-amz-date: 20", "x-amz-date: 19"), "InvalidSignatureException", "valid date"),
    ] {
        let answer = Peer::to(&emulator).await.ask(&request).await.unwrap();
        assert_eq!(answer.status, 403);
        assert!(answer.head.contains(&format!("x-amzn-errortype: {kind}\r\n")), "{} {:?}", answer.head, answer.json());
        assert!(answer.json()["message"].as_str().unwrap().contains(says), "{}", answer.json());
    }
}

#[tokio::test]
async fn what_a_gateway_must_strip_is_refused_by_name() {
    let emulator = emulator().await;
    for name in [
        "Cookie",
        "X-Tollgate-Tenant",
        "aws-endpoint-prefix",
        "X-Forwarded-For",
        "Forwarded",
        "Proxy-Authorization",
        "X-Api-Key",
        "TE",
        "Upgrade",
    ] {
        let answer = Peer::to(&emulator).await.ask(&signed("POST", "/x", &[(name, "x")], "{}")).await.unwrap();
        assert_eq!(answer.status, 400, "{name}");
        assert!(answer.json()["message"].as_str().unwrap().contains(&name.to_lowercase()), "{name}");
    }
    for target in ["/a/../b", "/x?a=b,c", "/x?a=%2f", "/x?&a=1", "/x?X-Amz-Signature=1"] {
        let answer = Peer::to(&emulator).await.ask(&signed("GET", target, &[], "")).await.unwrap();
        assert_eq!(answer.status, 400, "{target}");
    }
    let lenient = Emulator::start(Options { strict: false, ..Options::default() }).await.unwrap();
    let answer = Peer::to(&lenient).await.ask(&signed("POST", "/x", &[("Cookie", "x")], "{}")).await.unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_body_past_the_limit_is_refused_whether_or_not_its_length_is_told() {
    let emulator = Emulator::start(Options { max_body: 10, verify: false, ..Options::default() }).await.unwrap();
    let told = "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n";
    assert_eq!(Peer::to(&emulator).await.ask(told).await.unwrap().status, 413);
    let untold = "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n6\r\n123456\r\n6\r\n123456\r\n";
    assert_eq!(Peer::to(&emulator).await.ask(untold).await.unwrap().status, 413);
}

pub(super) fn http2(uri: &str) -> (Client<HttpConnector, Full<Bytes>>, http::Request<Full<Bytes>>) {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    (client, http::Request::post(uri).body(Full::from("{}")).unwrap())
}

#[tokio::test]
async fn http2_is_heard_on_the_plain_port_and_a_peer_that_leaves_a_stream_is_noticed() {
    let emulator = Emulator::start(Options { verify: false, ..Options::default() }).await.unwrap();
    let (client, request) = http2(&format!("http://{}/x", emulator.address()));
    let answer = client.request(request).await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(emulator.requests()[0].header("host"), Some(emulator.address().to_string().as_str()));

    let (_, mut request) = http2(&format!("http://{}/model/x/converse-stream", emulator.address()));
    *request.body_mut() = Full::from(CONVERSE);
    request.headers_mut().insert("x-emulator-fault", "gated".parse().unwrap());
    let mut answer = client.request(request).await.unwrap();
    emulator.release(1);
    answer.body_mut().frame().await.unwrap().unwrap();
    drop(answer);
    emulator.requests_until(|all| all[1].outcome == Outcome::PeerLeft).await;

    let (_, mut request) = http2(&format!("http://{}/model/x/converse-stream", emulator.address()));
    *request.body_mut() = Full::from(CONVERSE);
    request.headers_mut().insert("x-emulator-fault", "cut-mid-frame".parse().unwrap());
    let answer = client.request(request).await.unwrap();
    assert!(answer.into_body().collect().await.is_err());
    assert_eq!(emulator.connections(), 1);
}

#[tokio::test]
async fn tls_speaks_http2_and_http1_as_alpn_says() {
    let tls = TlsOptions::self_signed(&["localhost"]).unwrap();
    let emulator = Emulator::start(Options { tls: Some(tls.clone()), verify: false, ..Options::default() }).await.unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(tls.certificate_pem.as_bytes()).unwrap()).unwrap();
    for (offered, chosen) in [(vec!["h2", "http/1.1"], "h2"), (vec!["http/1.1"], "http/1.1")] {
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = offered.into_iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(emulator.tls_address().unwrap()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(chosen.as_bytes()));
        if chosen == "http/1.1" {
            stream.write_all(b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"));
        }
    }
}

#[tokio::test]
async fn dropping_the_emulator_ends_its_connections() {
    let emulator = Emulator::start(Options { verify: false, ..Options::default() }).await.unwrap();
    let mut peer = Peer::to(&emulator).await;
    peer.ask("GET /x HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let address = emulator.address();
    drop(emulator);
    assert!(peer.ask("GET /x HTTP/1.1\r\nhost: x\r\n\r\n").await.is_err());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_quick_emulator_answers_converse_with_a_text_of_the_size_asked_for() {
    let emulator = Emulator::start(Options { quick: Some(1_500), ..Options::default() }).await.unwrap();
    let mut peer = Peer::to(&emulator).await;
    for _ in 0..2 {
        let answer = peer.ask("POST /model/x/converse HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        assert_eq!(answer.json()["output"]["message"]["content"][0]["text"].as_str().unwrap().len(), 1_500);
    }
    assert!(emulator.requests().is_empty());
}

#[tokio::test]
async fn bytes_that_are_no_http_do_not_end_the_emulator() {
    let emulator = Emulator::start(Options { verify: false, ..Options::default() }).await.unwrap();
    for bytes in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff",
        b"GET \xff HTTP/1.1\r\n\r\n",
        b"* * *\r\n\r\n",
    ] {
        let mut peer = Peer::to(&emulator).await;
        peer.0.write_all(bytes).await.unwrap();
        peer.0.shutdown().await.unwrap();
        let mut rest = Vec::new();
        peer.0.read_to_end(&mut rest).await.unwrap_or_default();
    }
    assert_eq!(Peer::to(&emulator).await.ask("OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap().status, 200);
}
