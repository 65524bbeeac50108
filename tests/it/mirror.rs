//! Copies of calls go to a mirror, and nobody but the record hears of them.

mod bounds;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tollgate::emulator::{Emulator, Fault, Outcome, SeenRequest};
use tollgate::record::{By, UsageQuery, usage};

use crate::client::{Raw, converse, eventually};
use crate::downstream::{Ask, Client, Way, call, open};
use crate::record::log;
use crate::world::{Setting, World};

const NOVA: &str = "amazon.nova-lite-v1:0";
const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const STREAM: &str = "/model/amazon.nova-lite-v1:0/converse-stream";
const LOGGED: &str = "record: { access_log: { to: access.log } }";

/// A route whose mirror is the upstream `second`: `more` is of the mirror.
async fn mirrored(more: &str, yaml: &str) -> World {
    let route =
        format!("{{ name: all, to: [{{ upstream: emulator }}], mirror: {{ upstream: second, {more} }}, timeouts: {{ first_byte: 2s }} }}");
    routed(&route, yaml).await
}

async fn routed(route: &str, yaml: &str) -> World {
    World::build(Setting { yaml: format!("routes: [{route}]\n{yaml}"), second: true, ..Setting::default() }).await
}

fn second(world: &World) -> &Emulator {
    world.second.as_ref().unwrap()
}

fn ask(world: &World) -> Ask {
    Ask::post(CONVERSE, converse("one two")).token(&world.token)
}

fn under_way(world: &World) -> usize {
    world.gateway.live().mirrors.under_way()
}

/// Waits until no copy is under way: one is from before its call is answered.
async fn until_mirrored(world: &World) {
    world.until_idle().await;
    eventually("no copy under way", || under_way(world) == 0).await;
}

fn count(world: &World, outcome: &str) -> f64 {
    world.metric(&format!("tollgate_mirrored_total{{outcome=\"{outcome}\"}}"))
}

fn counts(world: &World) -> [f64; 5] {
    ["answered", "failed", "not_allowed", "no_room", "ended"].map(|outcome| count(world, outcome))
}

/// The lines of calls, and those of copies.
async fn lines(world: &World) -> (Vec<Value>, Vec<Value>) {
    until_mirrored(world).await;
    log(world).await.into_iter().partition(|line| line["mirror"] != true)
}

/// What the bodies were that came.
fn bodies(seen: &[SeenRequest]) -> Vec<(String, usize)> {
    seen.iter().map(|seen| seen.body.as_ref().map(|body| (body.sha256.clone(), body.length)).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_every_call_goes_to_the_mirror_signed_for_it_and_byte_for_byte() {
    for way in Way::ALL {
        let world = mirrored("share: 100%", LOGGED).await;
        let large = "many words ".repeat(8_000);
        for (path, text) in
            [(CONVERSE, "one two"), (STREAM, "one two three"), (CONVERSE, &large), ("/model/amazon.nova-lite-v1%3A0/converse", "x")]
        {
            let answer = call(&world, way, &Ask::post(path, converse(text)).token(&world.token)).await;
            assert_eq!(answer.status, 200, "{way:?} {path}");
            until_mirrored(&world).await;
        }
        let (seen, copies) = (world.emulator.requests(), second(&world).requests());
        assert_eq!(bodies(&seen), bodies(&copies), "{way:?}");
        assert!(copies.iter().zip(&seen).all(|(copy, seen)| copy.path == seen.path && copy.outcome == Outcome::Completed));
        for copy in &copies {
            assert!(copy.header("authorization").unwrap().contains("/us-west-2/bedrock/"), "{copy:?}");
        }
        // What is not signed right is a 403.
        assert_eq!(counts(&world), [4.0, 0.0, 0.0, 0.0, 0.0], "{way:?}");
        let (calls, copies) = lines(&world).await;
        for (call, copy) in calls.iter().zip(&copies) {
            assert_eq!(
                (&copy["mirror_of"], &copy["status"], &copy["complete"]),
                (&call["request_id"], &200.into(), &true.into()),
                "{copy}"
            );
            assert_ne!(copy["request_id"], call["request_id"]);
            assert_eq!((&copy["upstream"], &copy["target"], &copy["tenant"]), (&"second".into(), &"mirror".into(), &"demo".into()));
            for same in ["path", "model", "usage", "input_tokens", "output_tokens", "streamed", "bytes_in", "bytes_out"] {
                assert_eq!(copy[same], call[same], "{same} of {copy}");
            }
            assert!(copy["upstream_us"].is_u64() && copy["total_us"].is_u64(), "{copy}");
        }
        assert_eq!((calls.len(), copies.len()), (4, 4));
        assert_eq!(world.gateway.live().mirrors.bodies.held(), 0, "their bodies are forgotten");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_mirror_are_kept() {
    let world = mirrored("share: 100%", "").await;
    for _ in 0..5 {
        assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
        until_mirrored(&world).await;
    }
    assert_eq!((count(&world, "answered"), second(&world).connections()), (5.0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_of_calls_that_are_mirrored_is_the_routes() {
    // Of 1,000 calls at 30 %, four standard deviations either way.
    for (share, least, most) in [("0%", 0.0, 0.0), ("30%", 242.0, 358.0), ("100%", 1_000.0, 1_000.0)] {
        let world = mirrored(&format!("share: {share}"), "").await;
        let (mut client, ask) = (Client::connect(&world, Way::Http1).await, ask(&world));
        for _ in 0..1_000 {
            assert_eq!(client.call(&ask).await.status, 200);
            eventually("room for more", || under_way(&world) < 100).await;
        }
        until_mirrored(&world).await;
        let answered = count(&world, "answered");
        assert!((least..=most).contains(&answered), "{share}: {answered}");
        assert_eq!(counts(&world).iter().sum::<f64>(), answered);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_has_the_mirrors_own_name_in_path_and_body() {
    let pro = "us.amazon.nova-pro-v1:0";
    for (to, mirror) in [("", pro), (NOVA, pro), (NOVA, "sonnet")] {
        let to = if to.is_empty() {
            "to: [{ upstream: emulator }]".to_owned()
        } else {
            format!("to: [{{ upstream: emulator, model: '{to}' }}]")
        };
        let world = routed(&format!("{{ name: all, {to}, mirror: {{ upstream: second, model: '{mirror}', share: 100% }} }}"), LOGGED).await;
        let chat = json!({ "model": "sonnet", "messages": [{ "role": "user", "content": "one two" }] }).to_string();
        let path = Ask::post("/model/sonnet/converse", converse("one two")).token(&world.token);
        let body = Ask::post("/openai/v1/chat/completions", chat.clone()).token(&world.token);
        for ask in [path, body] {
            assert_eq!(call(&world, Way::TlsHttp2, &ask).await.status, 200);
            until_mirrored(&world).await;
        }
        let copies = second(&world).requests();
        assert_eq!(copies[0].path, format!("/model/{}/converse", mirror.replace(':', "%3A")));
        let got = copies[1].body.as_ref().unwrap();
        assert_eq!(got.start, chat.replace("sonnet", mirror).as_bytes());
        assert_eq!(copies[1].header("content-length").unwrap(), got.length.to_string());
        assert_eq!(counts(&world), [2.0, 0.0, 0.0, 0.0, 0.0], "signed for what was sent");
        let (calls, copies) = lines(&world).await;
        for (call, copy) in calls.iter().zip(&copies) {
            assert_eq!(copy["model"], mirror);
            assert_eq!(copy["alias"], if mirror == "sonnet" { Value::Null } else { "sonnet".into() });
            assert_ne!(copy["model"], call["model"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_silent_slow_or_broken_costs_the_client_nothing() {
    for way in [Way::Http1, Way::H2c] {
        for (fault, outcome, reason) in [
            (Fault::Hang, "failed", "upstream_timeout"),
            (Fault::Stall(1), "failed", "upstream_timeout"),
            (Fault::Gated, "answered", ""),
            (Fault::Close, "failed", "upstream_broken"),
            (Fault::Reset, "failed", "upstream_broken"),
            ("cut-mid-frame-1".parse().unwrap(), "failed", "upstream_broken"),
            ("exception-throttlingException".parse().unwrap(), "failed", ""),
            (Fault::Status { status: 503, times: None }, "failed", ""),
            (Fault::Status { status: 429, times: None }, "failed", ""),
            (Fault::EarlyHints, "answered", ""),
        ] {
            let route = "{ name: all, to: [{ upstream: emulator }], mirror: { upstream: second, share: 100% }, timeouts: { first_byte: 300ms, idle: 300ms } }";
            let world = routed(route, LOGGED).await;
            second(&world).inject(fault.clone(), 1);
            let mut incoming = open(&world, way, &Ask::post(STREAM, converse("one two")).token(&world.token)).await;
            assert_eq!(incoming.status, 200, "{fault:?}");
            let (got, end) = incoming.rest().await;
            assert!(end.is_ok() && !got.is_empty(), "{fault:?}");
            if fault == Fault::Gated {
                // The client has it all, and its copy has not begun to be answered.
                assert_eq!(under_way(&world), 1);
                second(&world).release(1_000);
            }
            until_mirrored(&world).await;
            assert_eq!(count(&world, outcome), 1.0, "{fault:?}\n{:?}", counts(&world));
            let (calls, copies) = lines(&world).await;
            assert_eq!(
                (&calls[0]["status"], &calls[0]["complete"], &calls[0]["attempts"]),
                (&200.into(), &true.into(), &1.into()),
                "{fault:?}"
            );
            assert_eq!(copies[0]["reason"].as_str().unwrap_or_default(), reason, "{fault:?} {}", copies[0]);
            assert_eq!(second(&world).requests().len(), 1, "{fault:?}: it is sent once");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_can_not_be_reached_costs_the_client_nothing() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let world = World::build(Setting {
        yaml: format!(
            "upstreams:
  dead: {{ region: us-east-1, endpoint: 'http://{dead}', credentials: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: secret }} }}
  live: {{ region: us-east-1, endpoint: 'http://bedrock.invalid', credentials: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: secret }} }}
routes: [{{ name: all, to: [{{ upstream: live }}], mirror: {{ upstream: dead, share: 100% }} }}]
{LOGGED}"
        ),
        ..Setting::default()
    })
    .await;
    // Of a call that is never sent there is no copy.
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 502);
    until_mirrored(&world).await;
    assert_eq!(counts(&world), [0.0; 5]);
    let yaml = world.yaml.replace("http://bedrock.invalid", &format!("http://{}", world.emulator.address()));
    world.reload(&yaml).await.unwrap();
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    until_mirrored(&world).await;
    assert_eq!(counts(&world), [0.0, 1.0, 0.0, 0.0, 0.0]);
    let (_, copies) = lines(&world).await;
    assert_eq!(
        (&copies[0]["reason"], &copies[0]["attempts"], &copies[0]["upstream"]),
        (&"upstream_unreachable".into(), &1.into(), &"dead".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_limits_metrics_and_ledger_know_nothing_of_copies() {
    let yaml = "limits: [{ name: three, count: requests, rate: 3/hour, burst: 3, per: [tenant] }]\nrecord: { access_log: off, ledger: ledger.sqlite }";
    let world = mirrored("share: 100%", yaml).await;
    for status in [200, 200, 200, 429] {
        assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, status);
        until_mirrored(&world).await;
    }
    assert_eq!(second(&world).requests().len(), 3, "what is refused is not mirrored");
    for series in
        ["tollgate_requests_total{status_class=\"2xx\",", "tollgate_tokens_total{type=\"input\",", "tollgate_tokens_total{type=\"output\","]
    {
        let [demo, mirror] = ["demo", "(mirror)"].map(|tenant| world.metric(&format!("{series}tenant=\"{tenant}\"}}")));
        assert!(demo >= 3.0, "{series} {demo}");
        assert_eq!(demo, mirror, "{series}");
    }
    let [billed, copied] = [&world.emulator, second(&world)].map(|emulator| emulator.bill()[NOVA]);
    assert_eq!((billed.calls, copied), (3, billed));
    let live = Arc::clone(world.gateway.live());
    tokio::task::spawn_blocking(move || live.recorder.flush()).await.unwrap();
    let (since, until) = (SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_hours(1));
    let rows = usage(&world.dir.join("ledger.sqlite"), &UsageQuery { tenant: None, by: Some(By::Tenant), since, until }).unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.keys[0].1.as_str(), row.calls - row.refused, row.tokens.output)).collect();
    assert_eq!(rows, [("(mirror)", 3, copied.usage.output), ("demo", 3, billed.usage.output)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_mirrored_only_where_they_may_go() {
    let policy = "policy: [{ name: home, tenants: [demo], regions: { allow: [us-east-1] } }]";
    let world = mirrored("share: 100%", policy).await;
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    until_mirrored(&world).await;
    assert_eq!((counts(&world), second(&world).requests().len()), ([0.0, 0.0, 1.0, 0.0, 0.0], 0));
    let other = world.token_with(&json!({ "tenant": "other", "sub": "someone" }));
    assert_eq!(call(&world, Way::Http1, &Ask::post(CONVERSE, converse("one")).token(&other)).await.status, 200);
    until_mirrored(&world).await;
    assert_eq!((counts(&world), second(&world).requests().len()), ([1.0, 0.0, 1.0, 0.0, 0.0], 1));

    // By the name of the model, as it would be there.
    let policy = "policy: [{ name: small, tenants: [demo], models: { deny: ['*opus*'] } }]";
    let world = mirrored("share: 100%, model: anthropic.claude-opus-4-1-20250805-v1:0", policy).await;
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    until_mirrored(&world).await;
    assert_eq!((counts(&world), second(&world).requests().len()), ([0.0, 0.0, 1.0, 0.0, 0.0], 0));

    // A rule in shadow says what it would do.
    let policy = format!("policy: [{{ name: home, shadow: true, tenants: [demo], regions: {{ allow: [us-east-1] }} }}]\n{LOGGED}");
    let world = mirrored("share: 100%", &policy).await;
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    let (calls, copies) = lines(&world).await;
    assert_eq!((&calls[0]["shadow_policy"], &copies[0]["shadow_policy"]), (&Value::Null, &"home".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_reads_or_begins_a_job_is_not_mirrored() {
    let world = mirrored("share: 100%", "").await;
    let job = json!({ "modelId": NOVA, "modelInput": {}, "outputDataConfig": { "s3OutputDataConfig": { "s3Uri": "s3://x" } } }).to_string();
    let tuning = json!({ "model": NOVA, "training_file": "x" }).to_string();
    for ask in [
        Ask::get("/foundation-models"),
        Ask::get(&format!("/foundation-models/{NOVA}")),
        Ask::post("/async-invoke", job.clone()),
        Ask::post("/model-invocation-job", job),
        Ask::post("/openai/v1/fine_tuning/jobs", tuning.clone()),
        Ask::post("/openai/v1/batches", tuning),
        Ask::post("/guardrail/g/version/1/apply", "{}"),
    ] {
        for way in [Way::Http1, Way::H2c] {
            drop(call(&world, way, &ask.clone().token(&world.token)).await);
        }
    }
    until_mirrored(&world).await;
    assert_eq!((counts(&world), second(&world).requests().len()), ([0.0; 5], 0));
    assert_eq!(world.emulator.requests().len(), 14, "they reached their own upstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_tried_again_is_mirrored_once() {
    let route = "{ name: all, to: [{ upstream: emulator }], failover: [second], mirror: { upstream: second, model: us.amazon.nova-pro-v1:0, share: 100% } }";
    let world = routed(route, "").await;
    world.emulator.inject(Fault::Status { status: 503, times: None }, 1);
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    until_mirrored(&world).await;
    assert_eq!((world.emulator.requests().len(), second(&world).requests().len()), (1, 2), "the second try, and the copy");
    assert_eq!(counts(&world), [1.0, 0.0, 0.0, 0.0, 0.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_of_no_trace_of_its_callers() {
    let world = mirrored("share: 100%", LOGGED).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = ask(&world)
        .header("traceparent", trace)
        .header("tracestate", "a=b")
        .header("x-amzn-trace-id", "Root=1-2-3")
        .header("baggage", "who=me");
    assert_eq!(call(&world, Way::Http1, &traced).await.status, 200);
    until_mirrored(&world).await;
    let (call, copy) = (&world.emulator.requests()[0], &second(&world).requests()[0]);
    assert_eq!((call.header("traceparent"), call.header("tracestate")), (Some(trace), Some("a=b")));
    for header in ["tracestate", "x-amzn-trace-id", "baggage"] {
        assert_eq!(copy.header(header), None);
    }
    let (_, copies) = lines(&world).await;
    let own = copies[0]["trace_id"].as_str().unwrap();
    assert!(copy.header("traceparent").unwrap().contains(own), "one of its own");
    assert!(!trace.contains(own));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_keeps_the_rules_that_it_began_with() {
    let world = mirrored("share: 100%", LOGGED).await;
    second(&world).inject(Fault::Gated, 1);
    assert_eq!(call(&world, Way::Http1, &Ask::post(STREAM, converse("one two")).token(&world.token)).await.status, 200);
    assert_eq!(under_way(&world), 1);
    world.reload(&world.yaml.replace("share: 100%", "share: 0%")).await.unwrap();
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    assert_eq!(under_way(&world), 1);
    second(&world).release(1_000);
    until_mirrored(&world).await;
    assert_eq!(counts(&world), [1.0, 0.0, 0.0, 0.0, 0.0]);
    world.reload(&world.yaml).await.unwrap();
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    until_mirrored(&world).await;
    assert_eq!((counts(&world), second(&world).connections()), ([2.0, 0.0, 0.0, 0.0, 0.0], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_chunks_is_copied_with_its_length() {
    let world = mirrored("share: 100%", "").await;
    let body = converse(&"some words ".repeat(10_000));
    let head = format!(
        "POST {CONVERSE} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n",
        world.token
    );
    let mut raw = Raw::connect(world.plain).await;
    raw.send(head).await;
    assert_eq!(raw.head().await.unwrap().0, 100);
    for piece in body.chunks(30_000) {
        raw.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).await;
    }
    raw.send("0\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 200);
    until_mirrored(&world).await;
    let copies = second(&world).requests();
    assert_eq!((bodies(&copies), counts(&world)), (bodies(&world.emulator.requests()), [1.0, 0.0, 0.0, 0.0, 0.0]));
    assert_eq!((copies[0].header("transfer-encoding"), copies[0].header("expect")), (None, None));
}
