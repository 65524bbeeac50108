//! Which of the caller's headers reach Bedrock, on both HTTP versions: nothing that says who calls or belongs to one hop, and all that Bedrock reads.

use http::{Method, StatusCode};
use tollgate::emulator::SeenRequest;

use crate::client::Raw;
use crate::scripted::Scripted;
use crate::wire::{ECHO, both, last_two};
use crate::world::{World, world};

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
        "x-amz-source-account",
        "x-amzn-bedrock-agentcore-runtime-user-id",
        "x-amzn-bedrock-agentcore-payments-user-id",
        "x-amzn-oidc-data",
        "x-amzn-oidc-accesstoken",
        "x-amzn-mtls-clientcert-subject",
        "sec-websocket-protocol",
        "x-api-key",
        "forwarded",
        "x-real-ip",
        "http2-settings",
        "accept-encoding",
        "x-tollgate-tags",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-forwarded-client-cert",
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
pub(crate) fn hygienic(world: &World, name: &str, seen: &SeenRequest) {
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
        ("baggage", "a=b", false),
        ("x-amzn-bedrock-agentcore-runtime-session-id", "0123456789abcdef0123456789abcdef0", false),
        ("x-amzn-bedrock-agentcore-runtime-custom-team", "blue", false),
        ("mcp-protocol-version", "2025-06-18", false),
        ("mcp-method", "tools/call", false),
        ("mcp-name", "n", false),
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

/// A caller's signature in the query is no more its business upstream than one in a header.
#[tokio::test(flavor = "multi_thread")]
async fn what_presigns_a_request_never_reaches_bedrock() {
    let world = world("").await;
    let names = ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature", "Security-Token", "Region-Set"]
        .map(|n| format!("X-Amz-{n}"));
    for name in names {
        for spelled in [name.clone(), name.to_ascii_lowercase(), name.replace('-', "%2D")] {
            let path = format!("{ECHO}/x?a=1&{spelled}={MARK}&b=2");
            for answer in both(&world, &Method::GET, &path, &[], "").await {
                assert_eq!(answer.status, StatusCode::OK, "{spelled}: {}", String::from_utf8_lossy(&answer.body));
            }
            assert!(last_two(&world).iter().all(|seen| seen.query.as_deref() == Some("a=1&b=2")), "{spelled}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_that_would_bypass_the_gateway_is_kept_from_the_client() {
    let upstream = Scripted::start("").await;
    let world = &upstream.world;
    let answering = async {
        // A pooled connection that is put back while the next is asked for is let go: then there is another.
        loop {
            let mut peer = upstream.accept().await;
            while peer.next_request().await.is_some() {
                peer.say(
                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nMcp-Session-Id: s\r\nX-Amzn-Bedrock-AgentCore-Runtime-Session-Id: i\r\n\
                     X-Amzn-Bedrock-AgentCore-Runtime-Session-Endpoint-Url: https://direct.example/\r\n\r\nok",
                )
                .await;
            }
        }
    };
    let path = format!("{ECHO}/x");
    let asking = both(world, &Method::POST, &path, &[], "abc");
    let answers = tokio::select! {
        answers = asking => answers,
        never = answering => never,
    };
    for answer in answers {
        assert_eq!((answer.status, answer.header("mcp-session-id")), (StatusCode::OK, Some("s")));
        assert_eq!(answer.header("x-amzn-bedrock-agentcore-runtime-session-id"), Some("i"));
        assert!(!answer.headers.keys().any(|name| name.as_str().contains("endpoint")), "{:?}", answer.headers);
    }
}
