//! Raw bytes on real sockets: nothing that two readers could read in two ways gets through, and what gets through is what was sent.

use std::fmt::Write;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use tollgate::emulator::SeenRequest;

use crate::client::{Answer, Raw, h2_call, h2c};
use crate::world::{World, world};

/// The emulator echoes it, whatever comes behind it.
const ECHO: &str = "/bedrock-agent-runtime/echo";

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
async fn what_follows_an_ambiguous_or_refused_request_is_never_served() {
    let world = world("").await;
    let hidden = format!("GET {ECHO}/hidden HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n\r\n", world.token);
    for (status, first) in [
        (200, post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")),
        (400, post("Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")),
        (400, post("Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")),
        (401, format!("POST {ECHO}/x HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n\r\n", hidden.len()).into_bytes()),
    ] {
        let mut raw = Raw::connect(world.plain).await;
        raw.try_send([replace(&first, b"TOKEN", world.token.as_bytes()), hidden.clone().into_bytes()].concat()).await;
        assert_eq!(raw.answer().await.status.as_u16(), status, "{}", String::from_utf8_lossy(&first));
        assert!(raw.is_ended().await, "{}", String::from_utf8_lossy(&first));
    }
    assert!(world.emulator.requests().iter().all(|seen| seen.path != "/echo/hidden"));
}

/// One request over both versions.
async fn both(world: &World, method: &Method, path: &str, headers: &[(&str, &str)], body: &str) -> [Answer; 2] {
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
fn last_two(world: &World) -> [SeenRequest; 2] {
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

/// What no caller's header may carry to Bedrock.
const MARK: &str = "from-the-caller";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_says_of_identity_and_of_its_own_hop_never_reaches_bedrock() {
    let world = world("").await;
    for name in [
        "proxy-authorization",
        "cookie",
        "date",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-content-sha256",
        "x-amz-region-set",
        "x-amz-source-arn",
        "x-api-key",
        "forwarded",
        "x-real-ip",
        "http2-settings",
        "accept-encoding",
        "x-tollgate-tags",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ] {
        let answers = both(&world, &Method::POST, &format!("{ECHO}/x"), &[(name, MARK)], "abc").await;
        for (answer, seen) in answers.iter().zip(last_two(&world)) {
            assert_eq!(answer.status, StatusCode::OK, "{name}: {}", String::from_utf8_lossy(&answer.body));
            hygienic(&world, name, &seen);
        }
    }
    // The token may come in a header of its own, beside a signature by whatever key the caller's SDK has.
    let signature =
        format!("AWS4-HMAC-SHA256 Credential=AKID/20260115/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature={MARK}");
    let mut raw = Raw::connect(world.plain).await;
    raw.send(format!(
        "POST {ECHO}/x HTTP/1.1\r\nHost: gateway\r\nAuthorization: {signature}\r\nx-tollgate-token: {}\r\nContent-Length: 3\r\n\r\nabc",
        world.token
    ))
    .await;
    assert_eq!(raw.answer().await.status, StatusCode::OK);
    hygienic(&world, "x-tollgate-token", &world.emulator.requests().pop().unwrap());
    let scoped = "bedrock-agent-runtime";
    for answer in both(&world, &Method::GET, "/echo/x", &[("aws-endpoint-prefix", scoped)], "").await {
        assert_eq!(answer.status, StatusCode::OK);
    }
    assert!(last_two(&world).iter().all(|seen| seen.header("aws-endpoint-prefix").is_none()));
}

#[track_caller]
fn hygienic(world: &World, name: &str, seen: &SeenRequest) {
    for (header, value) in &seen.headers {
        let value = String::from_utf8_lossy(value);
        assert!(!value.contains(MARK), "{name}: {header}: {value}");
        assert!(!value.contains(&world.token), "{name}: {header} holds the caller's token");
    }
    for gone in ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect", "proxy-connection"] {
        assert_eq!(seen.header(gone), None, "{name}");
    }
    assert_eq!(seen.headers.iter().filter(|(header, _)| header == "authorization").count(), 1);
    assert!(seen.header("authorization").unwrap().starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{name}");
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!(seen.header("host"), Some(world.emulator.address().to_string().as_str()), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_hop_end_at_the_gateway() {
    let world = world("").await;
    for (headers, expected) in [
        ("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", 200),
        ("Proxy-Connection: keep-alive\r\n", 200),
        ("TE: trailers\r\nConnection: te\r\n", 200),
        ("Trailer: X-Sum\r\n", 200),
        ("Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 200),
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", 200),
        ("Connection: x-nominated\r\nX-Nominated: from-the-caller\r\n", 200),
        ("Connection: x-amzn-trace-id\r\nx-amzn-trace-id: from-the-caller\r\n", 200),
    ] {
        let before = world.emulator.requests().len();
        let mut raw = Raw::connect(world.plain).await;
        raw.send(format!("GET {ECHO}/x HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n{headers}\r\n", world.token)).await;
        let answer = raw.answer().await;
        assert_eq!(answer.status.as_u16(), expected, "{headers}: {}", String::from_utf8_lossy(&answer.body));
        let seen = world.emulator.requests().split_off(before);
        assert_eq!(seen.len(), 1);
        hygienic(&world, headers, &seen[0]);
    }
    // A client may not have headers taken off on which the gateway's own reading rests.
    for (nominated, expected) in [("authorization", 200), ("content-length", 200), ("host", 400), ("x-forwarded-for", 400)] {
        let before = world.emulator.requests().len();
        let mut raw = Raw::connect(world.plain).await;
        let head = format!("POST {ECHO}/x HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\nContent-Length: 3\r\n", world.token);
        raw.send(format!("{head}X-Forwarded-For: {MARK}\r\nConnection: {nominated}\r\n\r\nabc")).await;
        assert_eq!(raw.answer().await.status.as_u16(), expected, "{nominated}");
        for seen in world.emulator.requests().split_off(before) {
            assert_eq!(expected, 200, "{nominated}");
            hygienic(&world, nominated, &seen);
            assert_eq!(seen.body.unwrap().length, 3);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bedrock_reads_reaches_it_as_it_came() {
    let world = world("").await;
    for (name, value, signed) in [
        ("accept", "application/vnd.amazon.eventstream", false),
        ("user-agent", "Boto3/1.44.5 md/Botocore#1.44.5", false),
        ("content-type", "application/json; charset=\"utf-8\"", true),
        ("x-amzn-bedrock-guardrailidentifier", "gr-1", false),
        ("x-amzn-bedrock-accept", "*/*", false),
        ("x-amzn-trace-id", "Root=1-2-3", false),
        ("mcp-session-id", "s", false),
        ("anthropic-beta", "a,b", false),
        ("anthropic-version", "2023-06-01", false),
        ("openai-project", "p", false),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
        ("amz-sdk-invocation-id", "b1", false),
        ("amz-sdk-request", "attempt=1; max=3", false),
        ("x-amz-target", "T.Op", true),
        ("x-amz-user-agent", "aws-sdk-js/3", true),
        ("x-amz-client-token", "two  spaces", true),
    ] {
        let answers = both(&world, &Method::POST, &format!("{ECHO}/x"), &[(name, value)], "abc").await;
        for (answer, seen) in answers.iter().zip(last_two(&world)) {
            assert_eq!(answer.status, StatusCode::OK, "{name}: {}", String::from_utf8_lossy(&answer.body));
            assert_eq!(seen.header(name), Some(value));
            let authorization = seen.header("authorization").unwrap();
            let names = authorization.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
            assert_eq!(names.split(';').any(|part| part == name), signed, "{name}: {names}");
        }
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
async fn trace_is_refused_for_it_would_show_the_signature() {
    let world = world("").await;
    for answer in both(&world, &Method::TRACE, &format!("{ECHO}/x"), &[], "").await {
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(world.emulator.connections(), 0);
}
