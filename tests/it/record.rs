//! What is written down of an exchange, and what never is.

use std::fs;

use serde_json::{Value, json};
use tollgate::demo::SECRET_ACCESS_KEY;
use tollgate::emulator::Outcome;

use crate::binary::Binary;
use crate::client::{Answer, PATIENCE, call as raw_call, converse};
use crate::downstream::{Ask, Way, call, open};
use crate::world::{World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";

fn ask(world: &World) -> Ask {
    Ask::post(CONVERSE, converse("one two")).token(&world.token)
}

/// The lines of the access log, once all that was recorded is written.
pub(crate) async fn log(world: &World) -> Vec<Value> {
    let live = std::sync::Arc::clone(world.gateway.live());
    tokio::task::spawn_blocking(move || live.recorder.flush()).await.unwrap();
    let text = fs::read_to_string(world.dir.join("access.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) const LOGGED: &str = "record: { access_log: { to: access.log } }";

/// Asserts that `line` has these fields; `null` where it must not.
#[track_caller]
fn has(line: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name} of {line}");
    }
}

/// A refusal, an answer, a stream that broke, one that the client left, and a call whose upstream broke before an answer: and what is logged of them.
async fn five_fates_and_their_lines(way: Way) {
    let world = world(LOGGED).await;
    let refused = call(&world, way, &Ask::post(CONVERSE, converse("one")).header("user-agent", "test/1")).await;
    world.until_idle().await;
    let answered = call(&world, way, &ask(&world)).await;
    world.until_idle().await;
    let stream = Ask::post("/model/amazon.nova-lite-v1%3A0/converse-stream", converse("one two")).token(&world.token);
    let (got, end) = open(&world, way, &stream.clone().fault("close-between-frames")).await.rest().await;
    assert!(end.is_err());
    world.until_idle().await;
    let mut left = open(&world, way, &stream.fault("gated")).await;
    world.emulator.release(1);
    left.piece().await.unwrap().unwrap();
    let _connection = left.leave();
    let gone = world.emulator.requests_until(|all| all.last().is_some_and(|last| last.outcome == Outcome::PeerLeft));
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    world.until_idle().await;
    assert_eq!(call(&world, way, &ask(&world).fault("close")).await.status, 502);
    world.until_idle().await;

    let lines = log(&world).await;
    let version = if way.is_http2() { "2" } else { "1.1" };
    for line in &lines {
        has(line, &json!({ "client": "127.0.0.1", "http_version": version, "method": "POST" }));
        assert!(line["total_us"].is_u64() && line["overhead_us"].is_u64() && line["time"].is_string(), "{line}");
    }
    let [refusal, answer, broken, departed, failed] = lines.as_slice() else { panic!("{lines:#?}") };
    let id = |answer: &Answer| answer.header("x-amzn-requestid").unwrap().to_owned();
    has(refusal, &json!({ "request_id": id(&refused), "status": 401, "reason": "unauthenticated", "complete": true, "attempts": 0 }));
    has(refusal, &json!({ "tenant": null, "user": null, "upstream": null, "bytes_in": 0, "bytes_out": refused.body.len() }));
    has(refusal, &json!({ "path": CONVERSE, "user_agent": "test/1" }));
    has(answer, &json!({ "status": 200, "reason": null, "complete": true, "attempts": 1, "tenant": "demo", "user": "alice" }));
    has(answer, &json!({ "identity": "jwt", "service": "bedrock-runtime", "model": "amazon.nova-lite-v1:0" }));
    has(answer, &json!({ "path": "/model/{model}/converse", "upstream": "emulator", "upstream_request_id": id(&answered) }));
    has(answer, &json!({ "bytes_in": converse("one two").len(), "bytes_out": answered.body.len() }));
    assert!(answer["upstream_us"].is_u64());
    has(broken, &json!({ "status": 200, "reason": "upstream_broken", "complete": false, "bytes_out": got.len() }));
    has(broken, &json!({ "model": "amazon.nova-lite-v1:0", "path": "/model/{model}/converse-stream" }));
    has(departed, &json!({ "status": 200, "reason": null, "complete": false, "tenant": "demo" }));
    has(failed, &json!({ "status": 502, "reason": "upstream_broken", "complete": true, "upstream": "emulator" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_tells_refusals_answers_and_broken_streams_apart() {
    for way in Way::ALL {
        Box::pin(five_fates_and_their_lines(way)).await;
    }
}

/// Words that stand in a prompt, and so in the completion that echoes it.
const SPOKEN: &str = "zebra quagga okapi";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_word_that_was_spoken_is_written_down_anywhere() {
    let world = world("").await;
    let endpoint = format!("http://{}", world.emulator.address());
    let yaml = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nrecord: {{ access_log: {{ to: access.log }} }}\n{}\n{}\n{}",
        crate::world::jwt(),
        crate::scripted::upstream(&endpoint, ""),
        "limits: [{ name: rps, count: requests, rate: 1/hour, burst: 5 }]",
    );
    // As loud as it can be.
    let binary = Binary::run(&world.dir, &yaml, &[("RUST_LOG", "trace")]).await;
    let spoken = |path: &str| Ask::post(path, converse(SPOKEN));
    let (token, expired) = (&world.token, &world.expired_token);
    let presigned = format!("{CONVERSE}?X-Amz-Credential=AKIDSECRET&X-Amz-Signature=0123456789abcdef");
    for (ask, status) in [
        (spoken(CONVERSE).token(token), 200),
        (spoken("/model/m/converse-stream").token(token), 200),
        (spoken(CONVERSE).token(token).fault("500"), 500),
        (spoken(CONVERSE).token(token).fault("close"), 502),
        (spoken(CONVERSE).token(expired), 401),
        (
            spoken(CONVERSE)
                .header("x-tollgate-token", token)
                .header("authorization", "AWS4-HMAC-SHA256 Credential=x, Signature=sickle")
                .header("cookie", "biscuit=1"),
            200,
        ),
        (spoken(CONVERSE).token(token), 429),
        (spoken(&presigned).header("x-api-key", "hatstand"), 401),
    ] {
        assert_eq!(raw_call(binary.listeners[0], ask.wire()).await.status, status);
    }
    let metrics = raw_call(binary.admin, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let metrics = String::from_utf8(metrics.body).unwrap();
    let stderr = binary.stop().await;
    let log = fs::read_to_string(world.dir.join("access.log")).unwrap();
    assert_eq!(log.lines().count(), 8);
    assert!(stderr.contains("request refused"), "it was not loud: {stderr}");

    let mut secrets: Vec<String> = SPOKEN.split(' ').map(str::to_owned).collect();
    for token in [token, expired] {
        // The head is no secret; claims and signature are.
        secrets.extend(token.split('.').skip(1).map(str::to_owned));
    }
    let signatures: Vec<String> =
        world.emulator.requests().iter().map(|seen| seen.header("authorization").unwrap().rsplit_once('=').unwrap().1.to_owned()).collect();
    // A 502 on a kept connection is one on a fresh one, too.
    assert_eq!(signatures.len(), 6);
    secrets.extend(signatures);
    secrets.extend([SECRET_ACCESS_KEY, "sickle", "biscuit", "0123456789abcdef", "AKIDSECRET", "hatstand"].map(str::to_owned));
    for (place, text) in [("the access log", &log), ("the metrics", &metrics), ("stderr", &stderr)] {
        for secret in &secrets {
            if let Some(line) = text.lines().find(|line| line.contains(secret.as_str())) {
                panic!("`{secret}` is in {place}: {line}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_whose_call_was_refused_and_for_what() {
    let limits = "limits: [{ name: rps, count: requests, rate: 1/hour, burst: 1, per: [user], tenants: [limited] }]";
    let world = world(&format!("{LOGGED}\n{limits}")).await;
    let ask = Ask::post(CONVERSE, converse("one")).token(&world.limited_token);
    assert_eq!(call(&world, Way::Http1, &ask).await.status, 200);
    assert_eq!(call(&world, Way::Http1, &ask).await.status, 429);
    world.until_idle().await;
    let lines = log(&world).await;
    let refusal = lines.iter().find(|line| line["status"] == 429).unwrap();
    has(
        refusal,
        &json!({ "reason": "rate_limited", "tenant": "limited", "user": "larry", "identity": "jwt", "service": "bedrock-runtime" }),
    );
    has(refusal, &json!({ "model": "amazon.nova-lite-v1:0", "path": "/model/{model}/converse", "upstream": null, "attempts": 0 }));
}
