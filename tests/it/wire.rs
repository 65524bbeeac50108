//! Raw bytes on real sockets: nothing that two readers could read in two ways gets through, and what gets through is what was sent.

use std::fmt::Write;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use tollgate::emulator::SeenRequest;

use crate::client::{Answer, Raw, h2_call, h2c};
use crate::headers::hygienic;
use crate::world::{World, world};

/// The emulator echoes it, whatever comes behind it.
pub(crate) const ECHO: &str = "/bedrock-agent-runtime/echo";

/// What becomes of one request.
#[derive(Debug, PartialEq)]
enum Fate {
    /// It reaches Bedrock once, with this body; the connection is kept.
    Passes(&'static str),
    /// Likewise, and the connection ends.
    PassesAndEnds(&'static str),
    /// It is refused with this status, and the connection ends.
    Refused(u16),
    /// It is refused with this status; where it ends is beyond doubt, so the connection is kept.
    RefusedKept(u16),
    /// The connection ends without an answer.
    Cut,
}
use Fate::{Cut, Passes, PassesAndEnds, Refused, RefusedKept};

/// Sends `request`, with `TOKEN` in it replaced, behind it a second one, and tells what became of the first. A second one that is answered, or that
/// Bedrock sees, after the connection should have ended fails the test.
async fn fate(world: &World, request: &[u8]) -> (u16, bool, Vec<SeenRequest>) {
    let before = world.emulator.requests().len();
    let mut raw = Raw::connect(world.plain).await;
    let request = replace(request, b"TOKEN", world.token.as_bytes());
    raw.try_send(&request).await;
    let Some(answer) = raw.try_answer().await else { return (0, true, world.emulator.requests().split_off(before)) };
    let kept = answer.header("connection") == Some("keep-alive");
    if kept {
        raw.send(format!("GET {ECHO}/second HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n\r\n", world.token)).await;
        let second = raw.answer().await;
        assert_eq!(second.status, StatusCode::OK);
        assert_eq!(second.json()["path"], "/echo/second");
    } else {
        assert!(raw.is_ended().await);
    }
    let mut seen = world.emulator.requests().split_off(before);
    if kept {
        assert_eq!(seen.pop().unwrap().path, "/echo/second");
    }
    (answer.status.as_u16(), !kept, seen)
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match bytes.windows(from.len()).position(|window| window == from) {
        Some(at) => [&bytes[..at], to, &bytes[at + from.len()..]].concat(),
        None => bytes.to_vec(),
    }
}

async fn check(world: &World, what: &str, request: &[u8], expected: Fate) {
    let (status, ended, seen) = fate(world, request).await;
    let bodies: Vec<_> =
        seen.iter().map(|seen| String::from_utf8_lossy(&seen.body.as_ref().expect("a whole body").start).into_owned()).collect();
    let (wanted_status, wanted_end, wanted_bodies) = match expected {
        Passes(body) => (200, false, vec![body]),
        PassesAndEnds(body) => (200, true, vec![body]),
        Refused(status) => (status, true, vec![]),
        RefusedKept(status) => (status, false, vec![]),
        Cut => (0, true, vec![]),
    };
    assert_eq!((status, ended, bodies), (wanted_status, wanted_end, wanted_bodies.into_iter().map(str::to_owned).collect()), "{what}");
}

/// A POST of `rest`: more headers, the blank line, the body.
fn post(rest: &str) -> Vec<u8> {
    format!("POST {ECHO}/x HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer TOKEN\r\n{rest}").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_end_two_readers_could_see_in_two_places_goes_nowhere() {
    let world = world("").await;
    for (what, rest, expected) in [
        (
            "both lengths: chunks count, and nothing may follow",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            PassesAndEnds("abc"),
        ),
        ("two lengths that differ", "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", Refused(400)),
        ("two lengths that agree", "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", Passes("abc")),
        ("a list of lengths", "Content-Length: 2, 2\r\n\r\nab", Refused(400)),
        ("a list of lengths that differ", "Content-Length: 2, 3\r\n\r\nabc", Refused(400)),
        ("a signed length", "Content-Length: +2\r\n\r\nab", Refused(400)),
        ("a negative length", "Content-Length: -2\r\n\r\nab", Refused(400)),
        ("a hexadecimal length", "Content-Length: 0x2\r\n\r\nab", Refused(400)),
        ("an empty length", "Content-Length: \r\n\r\n", Refused(400)),
        ("a length past all numbers", "Content-Length: 18446744073709551617\r\n\r\na", Refused(400)),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Refused(400)),
        ("a coding before chunked", "Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Refused(400)),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Refused(400)),
        ("chunked, then something else", "Transfer-Encoding: chunked, identity\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Refused(400)),
        ("chunked in other letters", "Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Passes("abc")),
        ("chunk extensions", "Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n", Passes("abc")),
        ("trailers", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n", Passes("abc")),
        ("a space before the colon", "Content-Length : 3\r\n\r\nabc", Refused(400)),
        ("a folded header", "X-Folded: a\r\n b\r\nContent-Length: 3\r\n\r\nabc", Refused(400)),
        ("a folded coding", "Transfer-Encoding:\r\n chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Refused(400)),
        ("a NUL", "X-Nul: a\0b\r\nContent-Length: 3\r\n\r\nabc", Refused(400)),
        ("a bare carriage return", "X-Cr: a\rb\r\nContent-Length: 3\r\n\r\nabc", Refused(400)),
        ("a header without a colon", "Nothing\r\nContent-Length: 3\r\n\r\nabc", Refused(400)),
        ("a second Host", "Host: other\r\nContent-Length: 3\r\n\r\nabc", Refused(400)),
    ] {
        check(&world, what, &post(rest), expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_lines_and_heads_out_of_the_ordinary_are_refused_or_read_as_one_request() {
    let world = world("").await;
    let line = |line: &str, rest: &str| format!("{line}\r\nAuthorization: Bearer TOKEN\r\n{rest}").into_bytes();
    let many = |n: usize| (0..n).fold(String::new(), |all, n| all + &format!("x-{n}: 1\r\n"));
    for (what, request, expected) in [
        ("HTTP/1.0", line(&format!("GET {ECHO}/x HTTP/1.0"), "Host: gateway\r\n\r\n"), PassesAndEnds("")),
        ("HTTP/1.0 kept", line(&format!("GET {ECHO}/x HTTP/1.0"), "Host: gateway\r\nConnection: keep-alive\r\n\r\n"), Passes("")),
        (
            "HTTP/1.0 with a coding",
            line(&format!("POST {ECHO}/x HTTP/1.0"), "Host: gateway\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            Refused(400),
        ),
        ("HTTP/1.0 without a Host", line(&format!("GET {ECHO}/x HTTP/1.0"), "\r\n"), PassesAndEnds("")),
        ("a client that closes", line(&format!("GET {ECHO}/x HTTP/1.1"), "Host: gateway\r\nConnection: close\r\n\r\n"), PassesAndEnds("")),
        ("an absolute target for another host", line(&format!("GET http://other{ECHO}/x HTTP/1.1"), "Host: gateway\r\n\r\n"), Refused(400)),
        // RFC 9112, section 3.2.2 would have it taken; only clients of a forward proxy send it, and of one path there is one spelling here.
        ("an absolute target", line(&format!("GET http://gateway{ECHO}/x HTTP/1.1"), "Host: gateway\r\n\r\n"), RefusedKept(400)),
        ("a tunnel", line("CONNECT gateway:443 HTTP/1.1", "Host: gateway:443\r\n\r\n"), Refused(405)),
        ("an asterisk", line("OPTIONS * HTTP/1.1", "Host: gateway\r\n\r\n"), RefusedKept(400)),
        (
            "bytes that are no UTF-8",
            [b"GET /model/\xff\xfe HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer TOKEN\r\n\r\n".to_vec()].concat(),
            Refused(400),
        ),
        ("a request line of one word", b"GET\r\n\r\n".to_vec(), Refused(400)),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS on the plain port".to_vec(), Refused(400)),
        ("250 headers", line(&format!("GET {ECHO}/x HTTP/1.1"), &format!("Host: gateway\r\n{}\r\n", many(90))), Passes("")),
        ("257 headers", line(&format!("GET {ECHO}/x HTTP/1.1"), &format!("Host: gateway\r\n{}\r\n", many(255))), Refused(400)),
        (
            "a head of 65 KB",
            line(&format!("GET {ECHO}/x HTTP/1.1"), &format!("Host: gateway\r\nx-large: {}\r\n\r\n", "a".repeat(66_000))),
            RefusedKept(400),
        ),
        (
            "a head of 300 KB",
            line(&format!("GET {ECHO}/x HTTP/1.1"), &format!("Host: gateway\r\nx-large: {}\r\n\r\n", "a".repeat(300_000))),
            Cut,
        ),
    ] {
        check(&world, what, &request, expected).await;
    }
    // Lines that end in a bare LF are read as one request (RFC 9112, section 2.2 allows it); what goes upstream is written anew.
    let bare = format!("POST {ECHO}/x HTTP/1.1\nHost: gateway\nAuthorization: Bearer TOKEN\nContent-Length: 3\n\nabc");
    check(&world, "bare LF", bare.as_bytes(), Passes("abc")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_one_after_the_other() {
    let world = world("").await;
    let one = |n: usize, framing: &str| {
        format!("POST {ECHO}/{n} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n{framing}", world.token)
    };
    let wire = [
        one(1, "Content-Length: 3\r\n\r\nabc"),
        one(2, "Transfer-Encoding: chunked\r\n\r\n4\r\ndefg\r\n0\r\n\r\n"),
        one(3, "Content-Length: 0\r\n\r\n"),
        one(4, "Content-Length: 5\r\n\r\nhijkl"),
    ];
    for pieces in [vec![wire.concat()], wire.to_vec()] {
        let before = world.emulator.requests().len();
        let mut raw = Raw::connect(world.plain).await;
        for piece in pieces {
            raw.send(piece).await;
        }
        for (at, body) in ["abc", "defg", "", "hijkl"].into_iter().enumerate() {
            let answer = raw.answer().await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.json()["path"], format!("/echo/{}", at + 1));
            assert_eq!(answer.json()["bodyLength"], body.len());
        }
        assert_eq!(world.emulator.requests().len() - before, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_an_ambiguous_request_is_never_served() {
    let world = world("").await;
    let hidden = format!("GET {ECHO}/hidden HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n\r\n", world.token);
    let large = format!("Transfer-Encoding: chunked\r\n\r\n186a0\r\n{}\r\n0\r\n\r\n", "a".repeat(100_000));
    for (status, first) in [
        // Behind more than 64 KiB in chunks, what was read ahead is lost (src/proxy/body.rs): the client is told, and asks again.
        (200, post(&large)),
        (200, post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")),
        (400, post("Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")),
        (400, post("Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")),
    ] {
        let mut raw = Raw::connect(world.plain).await;
        raw.try_send([replace(&first, b"TOKEN", world.token.as_bytes()), hidden.clone().into_bytes()].concat()).await;
        let answer = raw.answer().await;
        assert_eq!((answer.status.as_u16(), answer.header("connection")), (status, Some("close")), "{}", String::from_utf8_lossy(&first));
        assert!(raw.is_ended().await, "{}", String::from_utf8_lossy(&first));
    }
    assert!(world.emulator.requests().iter().all(|seen| seen.path != "/echo/hidden"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_requests_body_is_not_taken_for_a_request() {
    let world = world("").await;
    let request = |path: &str| format!("GET {ECHO}/{path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n\r\n", world.token);
    let hidden = request("hidden");
    let refused = format!("POST {ECHO}/x HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n\r\n", hidden.len());
    let mut raw = Raw::connect(world.plain).await;
    raw.send(refused + &hidden + &request("behind")).await;
    assert_eq!(raw.answer().await.status, 401);
    assert_eq!(raw.answer().await.json()["path"], "/echo/behind");
    assert_eq!(world.emulator.requests().len(), 1);
}

/// One request over both versions.
pub(crate) async fn both(world: &World, method: &Method, path: &str, headers: &[(&str, &str)], body: &str) -> [Answer; 2] {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n", world.token);
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    if !body.is_empty() {
        write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    let mut raw = Raw::connect(world.plain).await;
    raw.send(head + "\r\n" + body).await;
    let http1 = if *method == Method::HEAD {
        let (status, headers) = raw.head().await.unwrap();
        Answer { status, headers, body: Vec::new() }
    } else {
        raw.answer().await
    };

    let mut request =
        Request::builder().method(method).uri(format!("http://gateway{path}")).header("authorization", format!("Bearer {}", world.token));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if !body.is_empty() {
        request = request.header("content-length", body.len());
    }
    let mut h2 = h2c(world.plain).await;
    let http2 = h2_call(&mut h2, request.body(()).unwrap(), Bytes::from(body.to_owned())).await;
    [http1, http2]
}

/// The last two that the emulator saw.
pub(crate) fn last_two(world: &World) -> [SeenRequest; 2] {
    let mut seen = world.emulator.requests();
    seen.split_off(seen.len() - 2).try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_paths_bytes_reach_bedrock_as_they_came() {
    let world = world("").await;
    for path in [
        "/echo/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.anthropic.claude-v1%3A0",
        "/echo/arn:aws:bedrock:us-east-1:123456789012:inference-profile%2fus.anthropic.claude-v1:0",
        "/echo/a%2Fb%2fc",
        "/echo/trailing/",
        "/echo/%7e~%41A",
        "/echo/caf%C3%A9/%20/%25/%252F",
        "/echo/!$&'()*+,;=@",
        "/echo/...",
    ] {
        for answer in both(&world, &Method::GET, &format!("/bedrock-agent-runtime{path}"), &[], "").await {
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&answer.body));
        }
        for seen in last_two(&world) {
            assert_eq!(seen.path, path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_could_mean_another_path_are_refused() {
    let world = world("").await;
    for path in [
        "/model/../x",
        "/model/./x",
        "/model/..",
        "/model/.",
        "/model/%2e%2e/x",
        "/model/%2E./x",
        "/model/.%2e",
        "/model/%2e",
        "//model/x",
        "/model//x",
        "/model/x//",
        "/model/a%2f..%2fb",
        "/model/%zz",
        "/model/%",
        "/model/%00",
        "/model/%0d%0a",
    ] {
        for answer in both(&world, &Method::GET, path, &[], "").await {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(answer.header("x-amzn-errortype"), Some("ValidationException"), "{path}");
        }
    }
    assert_eq!(world.emulator.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_reaches_bedrock_strictly_encoded() {
    let world = world("").await;
    for answer in both(&world, &Method::GET, &format!("{ECHO}/x?a=b:c&d=1+2&X-Amz-Signature=forged&e"), &[], "").await {
        assert_eq!(answer.json()["query"], "a=b%3Ac&d=1%2B2&e");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_of_an_api_is_proxied() {
    let world = world("").await;
    for (method, body) in [
        (Method::GET, ""),
        (Method::HEAD, ""),
        (Method::DELETE, ""),
        (Method::OPTIONS, ""),
        (Method::POST, ""),
        (Method::POST, "abc"),
        (Method::PUT, "abc"),
        (Method::PATCH, "abc"),
        (Method::DELETE, "abc"),
        (Method::GET, "abc"),
    ] {
        for answer in both(&world, &method, &format!("{ECHO}/x"), &[], body).await {
            assert_eq!(answer.status, StatusCode::OK, "{method} {body}");
        }
        for seen in last_two(&world) {
            assert_eq!((&seen.method, seen.body.unwrap().length), (&method, body.len()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_head_has_no_body_and_keeps_the_connection() {
    let world = world("").await;
    let mut raw = Raw::connect(world.plain).await;
    for token in [&world.token, &world.expired_token, &world.token] {
        raw.send(format!("HEAD {ECHO}/x HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n")).await;
        let (status, headers) = raw.head().await.unwrap();
        assert_eq!(status, if token == &world.token { StatusCode::OK } else { StatusCode::UNAUTHORIZED });
        assert!(headers["content-length"].to_str().unwrap().parse::<usize>().unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_tunnels_and_large_heads_are_refused_and_other_streams_go_on() {
    let world = world("").await;
    let mut h2 = h2c(world.plain).await;
    let tunnel = Request::builder().method(Method::CONNECT).uri("gateway:443").body(()).unwrap();
    assert_eq!(h2_call(&mut h2, tunnel, Bytes::new()).await.status, StatusCode::METHOD_NOT_ALLOWED);
    let bearer = format!("Bearer {}", world.token);
    let mut large = Request::get(format!("http://gateway{ECHO}/x")).header("authorization", &bearer);
    for n in 0..20 {
        large = large.header(format!("x-{n}"), "a".repeat(4_000));
    }
    let answer = h2_call(&mut h2, large.body(()).unwrap(), Bytes::new()).await;
    assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let next = Request::get(format!("http://gateway{ECHO}/x")).header("authorization", &bearer).header("te", "trailers").body(()).unwrap();
    assert_eq!(h2_call(&mut h2, next, Bytes::new()).await.status, StatusCode::OK);
    assert_eq!(world.emulator.requests().len(), 1);
    hygienic(&world, "te", &world.emulator.requests()[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_is_refused_for_it_would_show_the_signature() {
    let world = world("").await;
    for answer in both(&world, &Method::TRACE, &format!("{ECHO}/x"), &[], "").await {
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(world.emulator.connections(), 0);
}
