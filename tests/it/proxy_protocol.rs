//! The PROXY protocol: for whom a balancer connects, and that nobody else can say so.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::client::{PATIENCE, Raw, eventually, h2_call, h2_over};
use crate::connections::client_config;
use crate::record::log;
use crate::wire::ECHO;
use crate::world::{World, world};

/// Connections from 127.0.0.1 are a balancer's; from anywhere else (127.0.0.2 is on this machine too) a stranger's.
const BALANCED: &str = "
record: { access_log: { to: access.log } }
firewall: { header_timeout: 500ms }
listeners:
  - { address: '127.0.0.1:0', proxy_protocol: [127.0.0.1] }
  - { address: '127.0.0.1:0', proxy_protocol: [127.0.0.1/32], tls: { certificates: [{ certificate: tls.pem, key: tls-key.pem }] } }
";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header for a client's address, with an NLB's own extension behind it.
fn header(client: &str) -> Vec<u8> {
    let client: IpAddr = client.parse().unwrap();
    let (family, mut body) = match client {
        IpAddr::V4(v4) => (0x11, [&v4.octets()[..], &[10, 0, 0, 1]].concat()),
        IpAddr::V6(v6) => (0x21, [&v6.octets()[..], &[0; 16]].concat()),
    };
    body.extend(b"\xdc\x04\x01\xbb\xea\0\x17\x01vpce-08d2bf15fac5001c9");
    [SIGNATURE, &[0x21, family, 0, u8::try_from(body.len()).unwrap()], &body].concat()
}

/// A balancer that looks in for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A connection from one of this machine's addresses.
pub(crate) async fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    let stream = socket.connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn get(world: &World, extra: &str) -> String {
    format!("GET {ECHO}/x HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n{extra}\r\n", world.token)
}

async fn clients(world: &World) -> Vec<String> {
    world.until_idle().await;
    log(world).await.iter().map(|line| line["client"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_the_headers_on_plain_and_tls_and_either_http() {
    let world = world(BALANCED).await;
    for (first, client) in [(header("192.0.2.7"), "192.0.2.7"), (header("2001:db8::7"), "2001:db8::7"), (LOCAL.to_vec(), "127.0.0.1")] {
        let mut raw = Raw::connect(world.plain).await;
        raw.send([&first[..], get(&world, "").as_bytes()].concat()).await;
        assert_eq!(raw.answer().await.status, StatusCode::OK, "in one piece");
        raw.send(get(&world, "X-Forwarded-For: 203.0.113.1\r\n")).await;
        assert_eq!(raw.answer().await.status, StatusCode::OK, "the header is for the whole connection");

        let mut raw = Raw::connect(world.plain).await;
        for byte in &first {
            raw.send([*byte]).await;
        }
        raw.send(get(&world, "")).await;
        assert_eq!(raw.answer().await.status, StatusCode::OK, "byte by byte");

        for alpn in [&b"http/1.1"[..], b"h2"] {
            let mut stream = TcpStream::connect(world.tls).await.unwrap();
            stream.write_all(&first).await.unwrap();
            let tls = TlsConnector::from(client_config(&world.ca_pem, &rustls::version::TLS13, &[alpn]));
            let stream = tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
            if alpn == b"h2" {
                let (mut send, _) = h2_over(stream).await;
                let request = Request::get(format!("https://gateway{ECHO}/x")).header("authorization", format!("Bearer {}", world.token));
                assert_eq!(h2_call(&mut send, request.body(()).unwrap(), Bytes::new()).await.status, StatusCode::OK);
            } else {
                let mut raw = Raw::over(stream);
                raw.send(get(&world, "")).await;
                assert_eq!(raw.answer().await.status, StatusCode::OK);
            }
        }
        let clients = clients(&world).await;
        assert_eq!(clients[clients.len() - 5..], [client; 5]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_from_an_address_that_is_not_listed_ends_the_connection() {
    let world = world(BALANCED).await;
    for address in [world.plain, world.tls] {
        for sent in [header("192.0.2.7"), LOCAL.to_vec(), get(&world, "").into_bytes(), Vec::new()] {
            let mut raw = Raw::over(connect_from("127.0.0.2", address).await);
            let _ = raw.try_send(&sent).await;
            assert!(raw.is_ended().await, "without a byte of an answer");
        }
    }
    eventually("all are counted", || world.metric(r#"tollgate_client_connections_turned_away_total{reason="not_a_proxy"}"#) == 8.0).await;
    assert!(world.emulator.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_without_a_header_or_with_a_wrong_one_is_not_served() {
    let world = world(BALANCED).await;
    let mut udp = header("192.0.2.7");
    udp[13] = 0x12;
    let mut short = header("192.0.2.7");
    short[15] = 4;
    for sent in [get(&world, "").into_bytes(), b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n".to_vec(), udp, short] {
        let mut raw = Raw::connect(world.plain).await;
        let _ = raw.try_send(&sent).await;
        assert!(raw.is_ended().await, "{sent:?}");
    }
    eventually("all are counted", || world.metric(r#"tollgate_client_connections_turned_away_total{reason="proxy_header"}"#) == 4.0).await;
    assert!(world.emulator.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_header_and_then_silence_is_cut_at_the_header_timeout() {
    let world = world(BALANCED).await;
    for address in [world.plain, world.tls] {
        for length in [1, 15, 16, 30] {
            let began = Instant::now();
            let mut raw = Raw::connect(address).await;
            raw.send(&header("192.0.2.7")[..length]).await;
            assert!(raw.is_ended_within(PATIENCE).await);
            assert!(began.elapsed() >= Duration::from_millis(400), "{length} bytes: cut after {:?}", began.elapsed());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_is_not_taken_where_the_protocol_is_not_spoken() {
    let world = world("record: { access_log: { to: access.log } }").await;
    let mut raw = Raw::connect(world.plain).await;
    raw.send([&header("192.0.2.7")[..], get(&world, "").as_bytes()].concat()).await;
    raw.rest().await;
    assert!(world.emulator.requests().is_empty());
    assert!(clients(&world).await.iter().all(|client| client == "127.0.0.1"));
}
