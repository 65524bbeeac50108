//! Refusals are answered as AWS answers, are written down, and give nothing away.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tollgate::demo::Issuer;

use crate::client::{Answer, PATIENCE, Raw, call as raw_call, converse, post, whole};
use crate::downstream::{Ask, Client, Way, call};
use crate::scripted::Scripted;
use crate::world::{World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";

fn ask(world: &World) -> Ask {
    Ask::post(CONVERSE, converse("one two")).token(&world.token)
}

/// Asserts that `answer` has AWS's shape in every part that any client reads.
#[track_caller]
fn is_refused(answer: &Answer, status: u16, kind: &str, code: &str) {
    assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("x-amzn-errortype"), Some(kind));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("x-amzn-requestid").is_some_and(|id| id.len() >= 32), "{:?}", answer.headers);
    assert_eq!(answer.header("server"), None, "it does not say what it is made of");
    let body = answer.json();
    let message = body["message"].as_str().unwrap();
    assert!(!message.is_empty());
    assert_eq!(body["__type"], kind);
    assert_eq!(
        (&body["error"]["message"], &body["error"]["type"], &body["error"]["code"]),
        (&Value::from(message), &Value::from(kind), &Value::from(code))
    );
}

/// An exchange is counted a little after its client knows.
async fn refusals(world: &World, reason: &str) -> f64 {
    world.until_idle().await;
    world.metric(&format!("tollgate_refusals_total{{reason=\"{reason}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_credential_is_refused_and_costs_the_upstream_nothing() {
    let world = world("").await;
    let answer = raw_call(world.plain, "GET /inference-profiles HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    is_refused(&answer, 401, "UnrecognizedClientException", "unauthenticated");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    assert_eq!(world.emulator.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_caller_is_answered() {
    let world = world("").await;
    let answer = raw_call(world.plain, post(CONVERSE, &world.token, "", &converse("one two"))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["usage"]["inputTokens"], 2);
    world.until_idle().await;
    assert_eq!(world.metric("tollgate_requests_total{service=\"bedrock-runtime\",status_class=\"2xx\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_expired_altered_foreign_or_no_token_is_refused() {
    let world = world("").await;
    let hour = Duration::from_hours(1);
    let foreign = Issuer::new().unwrap().token("demo", "alice", std::time::SystemTime::now() + hour).unwrap();
    let (head, rest) = world.token.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    let other = world.token_with(&json!({ "tenant": "other", "sub": "mallory" }));
    let other_claims = other.split('.').nth(1).unwrap();
    // The first character of a part holds six whole bits of it.
    let altered: String = [if signature.starts_with('A') { 'B' } else { 'A' }].into_iter().chain(signature.chars().skip(1)).collect();
    let none = "eyJhbGciOiJub25lIn0";
    for way in Way::ALL {
        for token in [
            world.expired_token.clone(),
            foreign.clone(),
            format!("{head}.{claims}.{altered}"),
            format!("{head}.{other_claims}.{signature}"),
            format!("{head}.{claims}."),
            format!("{head}.{claims}"),
            format!("{none}.{claims}."),
            world.token_with(&json!({ "sub": "alice" })),
            "dummy".to_owned(),
            String::new(),
        ] {
            let answer = call(&world, way, &Ask::post(CONVERSE, converse("one")).token(&token)).await;
            is_refused(&answer, 401, "UnrecognizedClientException", "unauthenticated");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert!(token.len() < 10 || !String::from_utf8_lossy(&answer.body).contains(&token));
        }
    }
    assert_eq!((refusals(&world, "unauthenticated").await, world.emulator.connections()), (40.0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_service_is_a_404_that_names_the_services() {
    let world = world("").await;
    for way in Way::ALL {
        for ask in [Ask::get("/no/such/thing"), Ask::get("/model/x/converse").header("aws-endpoint-prefix", "s3")] {
            let answer = call(&world, way, &ask.token(&world.token)).await;
            is_refused(&answer, 404, "ResourceNotFoundException", "unknown_service");
            let message = answer.json()["message"].as_str().unwrap().to_owned();
            assert!(
                ["bedrock", "bedrock-runtime", "bedrock-agent-runtime"].iter().all(|name| message.contains(&format!("`{name}`"))),
                "{message}"
            );
        }
    }
    assert_eq!((refusals(&world, "unknown_service").await, world.emulator.connections()), (8.0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_two_readers_may_read_in_two_ways_is_refused() {
    let world = world("").await;
    for way in Way::ALL {
        for path in [
            "/model/../guardrails",
            "/model/./x/converse",
            "/model//converse",
            "/model/%2e%2e/converse",
            "/model/x%2f..%2fy/converse",
            "/model/%zz/converse",
            "/model/x%00/converse",
        ] {
            let answer = call(&world, way, &Ask::post(path, converse("one")).token(&world.token)).await;
            is_refused(&answer, 400, "ValidationException", "malformed");
        }
    }
    assert_eq!(world.emulator.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_past_the_limit_is_a_413_that_names_the_limit() {
    let world = world("firewall: { max_body: 1KB }").await;
    for way in Way::ALL {
        let answer = call(&world, way, &Ask::post(CONVERSE, vec![b'x'; 1001]).token(&world.token)).await;
        is_refused(&answer, 413, "ValidationException", "body_too_large");
        assert!(answer.json()["message"].as_str().unwrap().contains("1000"), "{}", answer.json());
    }
    let chunked = format!(
        "POST {CONVERSE} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
        world.token,
        "x".repeat(1001)
    );
    is_refused(&raw_call(world.plain, chunked).await, 413, "ValidationException", "body_too_large");
    assert_eq!(world.emulator.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_on_and_on_still_reads_why_it_was_refused() {
    let world = world("firewall: { max_body: 1MB }").await;
    // More than all socket buffers hold: it is read to the end, or the client could not finish and would see a reset in place of its answer.
    let body = Bytes::from(vec![b'x'; 12_000_000]);
    for (ask, status) in [(Ask::post(CONVERSE, body.clone()).token(&world.token), 413), (Ask::post(CONVERSE, body.clone()), 401)] {
        for way in Way::ALL {
            assert_eq!(call(&world, way, &ask).await.status, status, "{way:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_of_unknown_length_over_http2_is_a_411() {
    let world = world("").await;
    for way in [Way::H2c, Way::TlsHttp2] {
        let Client::Http2(mut send) = Client::connect(&world, way).await else { panic!("{way:?}") };
        let request = http::Request::post(format!("http://gateway{CONVERSE}")).header("authorization", format!("Bearer {}", world.token));
        let (response, mut stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
        let mut left = 80_000;
        let sending = async {
            while left > 0 {
                stream.reserve_capacity(16_000);
                let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                let size = room.min(left);
                left -= size;
                if stream.send_data(Bytes::from(vec![b'x'; size]), left == 0).is_err() {
                    return;
                }
            }
        };
        let (response, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(response, sending) }).await.unwrap();
        is_refused(&whole(response.unwrap()).await.unwrap(), 411, "ValidationException", "length_required");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_in_time_is_a_408() {
    let world = world("firewall: { body_timeout: 300ms }").await;
    for way in [Way::Http1, Way::TlsHttp1] {
        let Client::Http1(mut raw) = Client::connect(&world, way).await else { panic!("{way:?}") };
        raw.send(format!(
            "POST {CONVERSE} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\ncontent-length: 100\r\n\r\nhalf",
            world.token
        ))
        .await;
        is_refused(&raw.answer().await, 408, "RequestTimeoutException", "request_timeout");
        assert!(raw.is_ended().await, "what is left of the body would be taken for a request");
    }
    for way in [Way::H2c, Way::TlsHttp2] {
        let Client::Http2(mut send) = Client::connect(&world, way).await else { panic!("{way:?}") };
        let request = http::Request::post(format!("http://gateway{CONVERSE}"))
            .header("authorization", format!("Bearer {}", world.token))
            .header("content-length", "100");
        let (response, mut stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
        is_refused(&whole(response).await.unwrap(), 408, "RequestTimeoutException", "request_timeout");
        assert_eq!(Client::Http2(send).call(&ask(&world)).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_says_when_the_call_would_pass_and_then_it_does() {
    for way in Way::ALL {
        let world = world("limits: [{ name: rps, count: requests, rate: 2/second, burst: 1 }]").await;
        let mut client = Client::connect(&world, way).await;
        let refused = loop {
            let answer = client.call(&ask(&world)).await;
            if answer.status != 200 {
                break answer;
            }
        };
        is_refused(&refused, 429, "ThrottlingException", "rate_limited");
        let told = |name| refused.header(name).unwrap().parse::<u64>().unwrap();
        let wait = told("x-amz-retry-after");
        assert!((1..=500).contains(&wait), "{wait}");
        assert_eq!((told("retry-after-ms"), told("retry-after")), (wait, 1));
        assert!(refused.json()["message"].as_str().unwrap().contains("2 requests a second"), "{}", refused.json());
        let others = Ask::post(CONVERSE, converse("one"))
            .token(&world.issuer.token("other", "bob", std::time::SystemTime::now() + Duration::from_mins(1)).unwrap());
        assert_eq!(client.call(&others).await.status, 200, "another tenant is not held back");
        // What a client is told to wait, and not a millisecond more.
        tokio::time::sleep(Duration::from_millis(wait)).await;
        assert_eq!(client.call(&ask(&world)).await.status, 200, "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_address_is_held_back_before_anyone_is_asked_who_they_are() {
    let world = world("firewall: { flood: { rate: 5/second, per: address } }").await;
    let mut refused = 0;
    for at in 0..20 {
        // Not even a credential is looked at: it would be a 401.
        let answer = call(&world, Way::ALL[at % 4], &Ask::get("/inference-profiles")).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            is_refused(&answer, 429, "ThrottlingException", "flood");
            assert!(answer.header("retry-after").is_some() && answer.header("x-amz-retry-after").is_some());
            refused += 1;
        } else {
            assert_eq!(answer.status, 401);
        }
    }
    // At most the fives of the seconds that the calls took.
    assert!(refused >= 5, "{refused} of 20");
    assert_eq!(refusals(&world, "flood").await, f64::from(refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_memory_for_bodies_is_taken_calls_are_refused_for_now() {
    let world = world("firewall: { max_body: 100KB, body_memory: 100KB }").await;
    let mut first = Raw::connect(world.plain).await;
    let large = [&br#"{"messages":[{"role":"user","content":[{"text":"x"}]}],"pad":""#[..], &vec![b'x'; 99_000], b"\"}"].concat();
    let wire = post(CONVERSE, &world.token, "", &large);
    let (most, last) = wire.split_at(wire.len() - 10);
    first.send(most).await;
    let taken = async {
        while world.metric("tollgate_bodies_held_bytes") == 0.0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("the first body's memory taken");
    let big = Ask::post(CONVERSE, vec![b'x'; 5_000]).token(&world.token);
    for way in Way::ALL {
        let answer = call(&world, way, &big).await;
        is_refused(&answer, 503, "ServiceUnavailableException", "body_memory");
        assert!(answer.header("retry-after").is_some() && answer.header("x-amz-retry-after").is_some());
    }
    first.send(last).await;
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    assert_eq!(world.metric("tollgate_bodies_held_bytes"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_on_after_a_refusal() {
    let world = world("").await;
    for way in Way::ALL {
        let mut client = Client::connect(&world, way).await;
        let body = vec![b'x'; 50_000];
        for (ask, status) in [
            (Ask::get("/inference-profiles"), 401),
            (Ask::post(CONVERSE, converse("one")), 401),
            // The body of the refused call is read and forgotten.
            (Ask::post(CONVERSE, body.clone()), 401),
            (Ask::post("/no/such/thing", body.clone()).token(&world.token), 404),
            (Ask::get("/a//b").token(&world.token), 400),
        ] {
            assert_eq!(client.call(&ask).await.status, status, "{way:?}");
            assert_eq!(client.call(&self::ask(&world)).await.status, 200, "{way:?} after {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asked_before_sending_its_body_is_refused_too() {
    let world = world("limits: [{ name: rph, count: requests, rate: 1/hour }]").await;
    let body = converse("one");
    let head = |token: &str| {
        let length = body.len();
        format!(
            "POST {CONVERSE} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    // Told at once, and nothing of its body is waited for.
    let mut stranger = Raw::connect(world.plain).await;
    stranger.send(head("none")).await;
    let answer = stranger.answer().await;
    is_refused(&answer, 401, "UnrecognizedClientException", "unauthenticated");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(stranger.is_ended().await);
    // Told to go on, and refused for what comes after the body: by a limit, or by an upstream that breaks.
    let mut caller = Raw::connect(world.plain).await;
    for (status, kind) in [(200, None), (429, Some("ThrottlingException"))] {
        caller.send(head(&world.token)).await;
        assert_eq!(caller.head().await.unwrap().0, 100);
        caller.send(&body).await;
        let answer = caller.answer().await;
        assert_eq!((answer.status.as_u16(), answer.header("x-amzn-errortype")), (status, kind));
    }
    let other = world.issuer.token("other", "bob", std::time::SystemTime::now() + Duration::from_mins(1)).unwrap();
    // On the kept connection, and again on a fresh one.
    world.emulator.inject("close".parse().unwrap(), 2);
    caller.send(head(&other)).await;
    assert_eq!(caller.head().await.unwrap().0, 100);
    caller.send(&body).await;
    is_refused(&caller.answer().await, 502, "ServiceUnavailableException", "upstream_broken");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_breaks_after_hints_is_still_a_502() {
    for way in Way::ALL {
        let upstream = Scripted::start("").await;
        let client = Client::connect(&upstream.world, way).await;
        let opening = client.send(&ask(&upstream.world)).await;
        let mut peer = upstream.accept().await;
        peer.request().await;
        peer.say("HTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\n").await;
        drop(peer);
        let incoming = opening.head().await;
        assert_eq!(incoming.status, StatusCode::BAD_GATEWAY, "{way:?}");
        assert_eq!(incoming.headers["x-amzn-errortype"], "ServiceUnavailableException", "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refusal_of_a_head_request_has_no_body() {
    let world = world("").await;
    let mut raw = Raw::connect(world.plain).await;
    for _ in 0..2 {
        raw.send("HEAD /inference-profiles HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
        let (status, headers) = raw.head().await.unwrap();
        assert_eq!((status, headers["x-amzn-errortype"].to_str().unwrap()), (StatusCode::UNAUTHORIZED, "UnrecognizedClientException"));
        assert!(headers["content-length"].to_str().unwrap().parse::<u32>().unwrap() > 0);
    }
    // A body would have been read as the head of this answer.
    raw.send(ask(&world).wire()).await;
    assert_eq!(raw.answer().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_models_answer_is_weighed_and_nothing_else() {
    let world = world("limits: [{ name: tiny, count: tokens, rate: 1/hour, per: global }]").await;
    let prefix = |name: &str| format!("aws-endpoint-prefix: {name}\r\n");
    let status = async |path: &str, service: &str, body: &str| {
        raw_call(world.plain, post(path, &world.token, &prefix(service), body.as_bytes())).await.status.as_u16()
    };
    let question = r#"{"inputText":"a question"}"#;
    assert_eq!(status(CONVERSE, "bedrock-runtime", &String::from_utf8(converse("one two")).unwrap()).await, 400);
    assert_eq!(
        status("/agents/A/agentAliases/B/sessions/C/text", "bedrock-agent-runtime", question).await,
        400,
        "an agent's models read it"
    );
    assert_eq!(refusals(&world, "asks_too_much").await, 2.0);
    // What is set up under a model's name uses none.
    let batch = r#"{"modelId":"amazon.nova-lite-v1:0","jobName":"a name of some length"}"#;
    status("/model-invocation-job", "bedrock", batch).await;
    status("/agents/", "bedrock-agent", question).await;
    assert_eq!(refusals(&world, "asks_too_much").await, 2.0);
}
