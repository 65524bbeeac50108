//! Bodies reach Bedrock byte for byte, on every framing, or are refused while that is still cheap. The gateway reads them whole before Pingora
//! forwards any of them, which leans on one release of it (src/proxy/body.rs): every row of that matrix stands here.

use bytes::Bytes;
use http::{Request, StatusCode};
use tollgate::emulator::{Fault, Outcome, SeenRequest};

use crate::client::{Answer, PATIENCE, Raw, eventually, h2_call, h2c, whole};
use crate::world::{World, world};

/// Around one read, one retry buffer (64 KiB) and the bound.
const SIZES: [usize; 10] = [0, 1, 1_460, 4_096, 65_535, 65_536, 65_537, 100_000, 1024 * 1024, BOUND];

/// `firewall.max_body`, unless told otherwise.
const BOUND: usize = 25_000_000;

/// So much may come over HTTP/2 without a length.
const H2_UNTOLD: usize = 64 * 1024;

/// The emulator echoes it: any bytes may come.
const ECHO: &str = "/bedrock-agent-runtime/echo";

/// Bytes of which no two pieces can be exchanged unseen.
fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at % 251).unwrap() ^ u8::try_from(at / 65_536 % 256).unwrap()).collect()
}

fn sha256(body: &[u8]) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    hash.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn head(world: &World, path: &str, framing: &str) -> Vec<u8> {
    format!("POST {ECHO}/{path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n{framing}\r\n", world.token).into_bytes()
}

fn with_length(world: &World, path: &str, body: &[u8]) -> Vec<u8> {
    [head(world, path, &format!("Content-Length: {}\r\n", body.len())), body.to_vec()].concat()
}

/// In chunks of these sizes, over and over.
fn in_chunks(world: &World, path: &str, body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut wire = head(world, path, "Transfer-Encoding: chunked\r\n");
    let (mut rest, mut sizes) = (body, sizes.iter().cycle());
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
        rest = after;
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

fn over_h2(world: &World, path: &str, length: Option<usize>) -> Request<()> {
    let request = Request::post(format!("http://gateway{ECHO}/{path}")).header("authorization", format!("Bearer {}", world.token));
    let request = match length {
        Some(length) => request.header("content-length", length),
        None => request,
    };
    request.body(()).unwrap()
}

/// What the emulator saw under this path.
fn seen(world: &World, path: &str) -> Vec<SeenRequest> {
    world.emulator.requests().into_iter().filter(|request| request.path == format!("/echo/{path}")).collect()
}

#[track_caller]
fn arrived_once(world: &World, path: &str, body: &[u8], answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&answer.body));
    let seen = seen(world, path);
    assert_eq!(seen.len(), 1, "{path}");
    is(&seen[0], body);
}

#[track_caller]
fn is(seen: &SeenRequest, body: &[u8]) {
    let arrived = seen.body.as_ref().unwrap_or_else(|| panic!("{}: no body", seen.path));
    assert_eq!((arrived.length, &arrived.sha256), (body.len(), &sha256(body)), "{}", seen.path);
    assert_eq!(seen.header("content-length"), Some(body.len().to_string().as_str()), "{}: Bedrock is told the length", seen.path);
    assert_eq!(seen.header("transfer-encoding"), None, "{}", seen.path);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_size_with_a_length_arrives_on_one_kept_connection() {
    let world = world("").await;
    let mut raw = Raw::connect(world.plain).await;
    for size in SIZES {
        let (path, body) = (format!("length/{size}"), body(size));
        raw.send(with_length(&world, &path, &body)).await;
        let answer = raw.answer().await;
        assert_eq!(answer.header("connection"), Some("keep-alive"), "{size}");
        arrived_once(&world, &path, &body, &answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_size_in_odd_chunks_arrives_and_up_to_64_kib_the_connection_is_kept() {
    let world = world("").await;
    let mut raw = Raw::connect(world.plain).await;
    for size in SIZES {
        let (path, body) = (format!("chunked/{size}"), body(size));
        raw.send(in_chunks(&world, &path, &body, &[1, 7, 4_093, 16, 65_537, 33])).await;
        let answer = raw.answer().await;
        arrived_once(&world, &path, &body, &answer);
        if size <= 64 * 1024 {
            assert_eq!(answer.header("connection"), Some("keep-alive"), "{size}");
        } else {
            assert_eq!(answer.header("connection"), Some("close"), "{size}: the client is told");
            assert!(raw.is_ended().await);
            raw = Raw::connect(world.plain).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_one_byte_arrive() {
    let world = world("").await;
    let mut raw = Raw::connect(world.plain).await;
    for size in [1, 1_460, 65_537] {
        let (path, body) = (format!("bytes/{size}"), body(size));
        raw.send(in_chunks(&world, &path, &body, &[1])).await;
        arrived_once(&world, &path, &body, &raw.answer().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_size_over_http2_with_a_length_arrives_on_one_connection() {
    let world = world("").await;
    let mut h2 = h2c(world.plain).await;
    for size in SIZES {
        let (path, body) = (format!("h2/{size}"), body(size));
        let answer = h2_call(&mut h2, over_h2(&world, &path, Some(size)), Bytes::from(body.clone())).await;
        arrived_once(&world, &path, &body, &answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_without_a_length_64_kib_arrive_and_more_is_411() {
    let world = world("").await;
    let mut h2 = h2c(world.plain).await;
    for size in SIZES {
        let (path, body) = (format!("h2-untold/{size}"), body(size));
        let answer = h2_call(&mut h2, over_h2(&world, &path, None), Bytes::from(body.clone())).await;
        if size <= H2_UNTOLD {
            arrived_once(&world, &path, &body, &answer);
        } else {
            assert_eq!(answer.status, StatusCode::LENGTH_REQUIRED, "{size}");
            assert!(answer.json()["message"].as_str().unwrap().contains("Content-Length"), "{size}");
            assert!(seen(&world, &path).is_empty(), "{size}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_above_the_bound_is_413_before_any_of_the_body() {
    let world = world("").await;
    let mut raw = Raw::connect(world.plain).await;
    raw.send(head(&world, "too-large", "Content-Length: 25000001\r\n")).await;
    let answer = raw.answer().await;
    names_the_bound(&answer);
    assert_eq!(answer.header("connection"), Some("close"));

    let mut h2 = h2c(world.plain).await;
    let (response, _body) = h2.send_request(over_h2(&world, "too-large", Some(BOUND + 1)), false).unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    names_the_bound(&whole(response).await.unwrap());
    assert_eq!(world.emulator.connections(), 0);
}

/// Stock clients write the whole of a body before they read: closing on them at once would reset what they are told.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_all_of_a_refused_body_still_reads_why() {
    let world = world("").await;
    let mut raw = Raw::connect(world.plain).await;
    assert!(raw.try_send(with_length(&world, "too-large", &vec![0; BOUND + 1])).await, "the rest is read and dropped");
    names_the_bound(&raw.answer().await);
    assert!(raw.is_ended().await);

    let mut raw = Raw::connect(world.plain).await;
    assert!(raw.try_send(in_chunks(&world, "too-large", &vec![0; BOUND + 1], &[60_000])).await);
    names_the_bound(&raw.answer().await);
    assert!(raw.is_ended().await);

    let mut raw = Raw::connect(world.plain).await;
    let stranger =
        [b"POST /model/m/invoke HTTP/1.1\r\nHost: gateway\r\nContent-Length: 5000000\r\n\r\n".to_vec(), vec![0; 5_000_000]].concat();
    assert!(raw.try_send(stranger).await);
    assert_eq!(raw.answer().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.emulator.connections(), 0);
    assert_eq!(world.metric("tollgate_bodies_held_bytes"), 0.0);
}

#[track_caller]
fn names_the_bound(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.header("x-amzn-errortype"), Some("ValidationException"));
    assert!(answer.json()["message"].as_str().unwrap().contains("25000000"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_is_counted_where_no_length_is_told() {
    let world = world("firewall: { max_body: 100KB }").await;
    let mut raw = Raw::connect(world.plain).await;
    raw.send(in_chunks(&world, "counted", &body(100_000), &[9_999])).await;
    arrived_once(&world, "counted", &body(100_000), &raw.answer().await);
    let mut raw = Raw::connect(world.plain).await;
    raw.send(in_chunks(&world, "over", &body(100_001), &[9_999])).await;
    assert_eq!(raw.answer().await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let mut h2 = h2c(world.plain).await;
    let answer = h2_call(&mut h2, over_h2(&world, "over", None), Bytes::from(body(100_001))).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let answer = h2_call(&mut h2, over_h2(&world, "after", Some(3)), Bytes::from_static(b"abc")).await;
    arrived_once(&world, "after", b"abc", &answer);
    assert!(seen(&world, "over").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_closes_at_the_wrong_moment_costs_the_client_nothing() {
    let world = world("").await;
    for (size, framing) in [10, 200_000, 5_000_000].into_iter().flat_map(|size| ["length", "chunked", "h2"].map(|framing| (size, framing)))
    {
        // Once a call has ended, its connection is idle, and the next takes it. Now and then Pingora loses one that is put back while another is asked
        // for; the fault waits for a call on a used connection.
        let mut tries = Vec::new();
        for turn in 0..20 {
            if turn == 1 {
                world.emulator.inject(Fault::CloseOnReuse, 1);
            }
            let (path, body) = (format!("{framing}/{size}/{turn}"), body(size));
            let (mut h2, mut raw) = (h2c(world.plain).await, Raw::connect(world.plain).await);
            let answer = match framing {
                "h2" => h2_call(&mut h2, over_h2(&world, &path, Some(size)), Bytes::from(body)).await,
                "length" => {
                    raw.send(with_length(&world, &path, &body)).await;
                    raw.answer().await
                }
                _ => {
                    raw.send(in_chunks(&world, &path, &body, &[50_001])).await;
                    raw.answer().await
                }
            };
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&answer.body));
            // Not before is its upstream connection sure to be idle; a client that leaves sooner may take it along.
            eventually("the exchange has ended", || world.metric("tollgate_in_flight") == 0.0).await;
            tries = seen(&world, &path);
            if tries.len() > 1 {
                break;
            }
        }
        assert_eq!(tries.iter().map(|seen| seen.outcome).collect::<Vec<_>>(), [Outcome::Broken, Outcome::Completed], "{framing} {size}");
        assert_ne!(tries[0].connection, tries[1].connection);
        for seen in &tries {
            is(seen, &body(size));
            assert!(seen.header("authorization").unwrap().starts_with("AWS4-HMAC-SHA256 "));
        }
    }
}

const TIGHT: &str = "firewall: { max_body: 1MB, body_memory: 1MB }";

#[tokio::test(flavor = "multi_thread")]
async fn a_body_for_which_there_is_no_memory_is_503_until_another_is_done() {
    let world = world(TIGHT).await;
    let large = body(1_000_000);
    let mut first = Raw::connect(world.plain).await;
    let wire = with_length(&world, "first", &large);
    first.send(&wire[..wire.len() - 100_000]).await;
    eventually("900 KB are held", || world.metric("tollgate_bodies_held_bytes") == 900_000.0).await;

    let mut second = Raw::connect(world.plain).await;
    second.send(with_length(&world, "second", &body(200_000))).await;
    let refused = second.answer().await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((refused.header("retry-after"), refused.header("x-amzn-errortype")), (Some("1"), Some("ServiceUnavailableException")));
    let mut h2 = h2c(world.plain).await;
    let refused = h2_call(&mut h2, over_h2(&world, "second", Some(200_000)), Bytes::from(body(200_000))).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    // A small one has room.
    let mut small = Raw::connect(world.plain).await;
    small.send(with_length(&world, "small", b"abc")).await;
    arrived_once(&world, "small", b"abc", &small.answer().await);

    first.send(&wire[wire.len() - 100_000..]).await;
    arrived_once(&world, "first", &large, &first.answer().await);
    let mut second = Raw::connect(world.plain).await;
    second.send(with_length(&world, "second", &large)).await;
    arrived_once(&world, "second", &large, &second.answer().await);
    eventually("all memory is given back", || world.metric("tollgate_bodies_held_bytes") == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_given_back_when_clients_leave_in_the_middle_of_a_body() {
    let world = world(TIGHT).await;
    let held = || world.metric("tollgate_bodies_held_bytes");
    for turn in 0..3 {
        let mut raw = Raw::connect(world.plain).await;
        raw.send(&with_length(&world, "gone", &body(900_000))[..700_000]).await;
        eventually("a body is held", || held() > 600_000.0).await;
        drop(raw);
        eventually("it is let go", || held() == 0.0).await;

        let mut raw = Raw::connect(world.plain).await;
        raw.send(&in_chunks(&world, "gone", &body(900_000), &[1_000])[..700_000]).await;
        eventually("a chunked body is held", || held() > 600_000.0).await;
        drop(raw);
        eventually("it is let go", || held() == 0.0).await;

        let mut h2 = h2c(world.plain).await;
        let (response, mut stream) = h2.send_request(over_h2(&world, "gone", Some(900_000)), false).unwrap();
        stream.send_data(Bytes::from(body(60_000)), false).unwrap();
        eventually("a stream's body is held", || held() > 50_000.0).await;
        stream.send_reset(h2::Reason::CANCEL);
        eventually("it is let go", || held() == 0.0).await;
        drop((response, turn));
        let answer = h2_call(&mut h2, over_h2(&world, &format!("after/{turn}"), Some(3)), Bytes::from_static(b"abc")).await;
        arrived_once(&world, &format!("after/{turn}"), b"abc", &answer);
    }
    assert!(seen(&world, "gone").is_empty());
    eventually("nothing is held", || held() == 0.0).await;
    assert_eq!(world.metric("tollgate_refusals_total{reason=\"internal\"}"), 0.0, "a client that leaves is no fault of ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let world = world("").await;
    let mut raw = Raw::connect(world.plain).await;
    for (path, size) in [("expect/1", 1), ("expect/2", 100_000)] {
        let body = body(size);
        raw.send(head(&world, path, &format!("Content-Length: {size}\r\nExpect: 100-continue\r\n"))).await;
        assert_eq!(raw.answer().await.status, StatusCode::CONTINUE);
        assert!(seen(&world, path).is_empty());
        raw.send(&body).await;
        arrived_once(&world, path, &body, &raw.answer().await);
    }
    // A retry after it is as free as any.
    eventually("the last has ended", || world.metric("tollgate_in_flight") == 0.0).await;
    world.emulator.inject(Fault::CloseOnReuse, 1);
    raw.send(head(&world, "expect/again", "Content-Length: 3\r\nExpect: 100-Continue\r\n")).await;
    assert_eq!(raw.answer().await.status, StatusCode::CONTINUE);
    raw.send(b"abc").await;
    assert_eq!(raw.answer().await.status, StatusCode::OK);
    assert_eq!(seen(&world, "expect/again").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_continue_is_refused_without_it() {
    let world = world("firewall: { max_body: 100KB }").await;
    let mut raw = Raw::connect(world.plain).await;
    raw.send("POST /model/m/invoke HTTP/1.1\r\nHost: gateway\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, StatusCode::UNAUTHORIZED);
    assert!(raw.is_ended().await, "the body may follow or not: the connection can't tell");

    let mut raw = Raw::connect(world.plain).await;
    raw.send(head(&world, "expect", "Content-Length: 100001\r\nExpect: 100-continue\r\n")).await;
    assert_eq!(raw.answer().await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(raw.is_ended().await);

    // Where only counting tells, the refusal comes after it, and it comes.
    let mut raw = Raw::connect(world.plain).await;
    raw.send(head(&world, "expect", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n")).await;
    assert_eq!(raw.answer().await.status, StatusCode::CONTINUE);
    raw.send([format!("{:x}\r\n", 100_001).into_bytes(), body(100_001), b"\r\n0\r\n\r\n".to_vec()].concat()).await;
    assert_eq!(raw.answer().await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(seen(&world, "expect").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_is_not_sent_100_continue() {
    let world = world("").await;
    let mut raw = Raw::connect(world.plain).await;
    let head = String::from_utf8(head(&world, "old", "Content-Length: 3\r\nExpect: 100-continue\r\n")).unwrap();
    raw.send(head.replace("HTTP/1.1", "HTTP/1.0") + "abc").await;
    arrived_once(&world, "old", b"abc", &raw.answer().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_in_time_is_408() {
    let world = world("firewall: { body_timeout: 300ms }").await;
    let told = |answer: &Answer| {
        assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
        assert_eq!(answer.header("x-amzn-errortype"), Some("RequestTimeoutException"));
    };
    for framing in ["Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut raw = Raw::connect(world.plain).await;
        raw.send(head(&world, "slow", framing)).await;
        raw.send("3\r\nabc\r\n").await;
        told(&raw.answer().await);
        assert!(raw.is_ended().await);
    }
    let mut h2 = h2c(world.plain).await;
    let (response, mut stream) = h2.send_request(over_h2(&world, "slow", Some(10)), false).unwrap();
    stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
    told(&whole(tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap()).await.unwrap());
    let answer = h2_call(&mut h2, over_h2(&world, "after", Some(3)), Bytes::from_static(b"abc")).await;
    arrived_once(&world, "after", b"abc", &answer);
    assert_eq!(world.metric("tollgate_bodies_held_bytes"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_none_are_refused_and_end_the_connection() {
    let world = world("").await;
    for wire in ["zz\r\nabc\r\n0\r\n\r\n", "-3\r\nabc\r\n0\r\n\r\n", "3\r\nabcdef\r\n0\r\n\r\n", "ffffffffffffffffff\r\nabc"] {
        let mut raw = Raw::connect(world.plain).await;
        raw.send(head(&world, "bad", "Transfer-Encoding: chunked\r\n")).await;
        raw.send(wire).await;
        assert_eq!(raw.answer().await.status, StatusCode::BAD_REQUEST, "{wire:?}");
        assert!(raw.is_ended().await, "{wire:?}");
    }
    assert!(seen(&world, "bad").is_empty());
}
