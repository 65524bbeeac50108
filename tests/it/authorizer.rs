//! An authorizer of the operator's own says who is calling: what it is told, what its answers do, and what happens when it has none.

mod server;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tollgate::domain::ManualClock;

use self::server::{Authorizer, Say};
use crate::client::{Answer, PATIENCE, converse};
use crate::downstream::{Ask, Way, call};
use crate::world::{Setting, World, jwt};

const NOVA: &str = "/model/amazon.nova-lite-v1%3A0/converse";

async fn world(authorizer: &str, more: &str, behind: &str, yaml: &str) -> World {
    let yaml = format!("identity:\n- external: {{ url: '{authorizer}', timeout: 10s, {more} }}\n{behind}\n{yaml}");
    World::build(Setting { yaml, ..Setting::default() }).await
}

fn ask(token: &str) -> Ask {
    Ask::post(NOVA, converse("zebra quagga")).token(token)
}

async fn answered(world: &World, ask: &Ask) -> (u16, String) {
    let answer = call(world, Way::Http1, ask).await;
    let message = if answer.status == 200 { String::new() } else { answer.json()["message"].as_str().unwrap().to_owned() };
    (answer.status.as_u16(), message)
}

fn kind(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status.as_u16(), answer.header("x-amzn-errortype"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorizer_is_told_the_head_and_names_the_caller_and_never_sees_a_body() {
    let authorizer = Authorizer::saying(Say::This(
        200,
        json!({ "principal": { "tenant": "acme", "user": "ann", "groups": ["devs"], "key_id": "k-7" }, "group": "gold" }),
    ))
    .await;
    let world = world(
        &authorizer.url,
        "headers: [x-team, X-Env]",
        "",
        "policy: [{ name: gold, groups: [gold], methods: [external], users: [ann], tenants: [acme], operations: { deny: ['POST *stream'] } }]",
    )
    .await;
    for (way, asked) in Way::ALL.into_iter().zip(1..) {
        let team = format!("red-{asked}");
        let ask =
            ask("a token").header("x-team", &team).header("x-team", "blue").header("x-other", "not told").header("cookie", "biscuit=1");
        assert_eq!(call(&world, way, &ask).await.status, 200);
        let told = authorizer.asked().pop().unwrap();
        assert_eq!(
            told,
            json!({
                "method": "POST", "path": NOVA, "service": "bedrock-runtime", "model": "amazon.nova-lite-v1:0", "address": "127.0.0.1",
                "headers": { "x-team": format!("{team}, blue") }, "credential": "a token",
            })
        );
    }
    // Who it is reaches the rules that come after.
    let (status, message) = answered(&world, &Ask::post("/model/m.m/converse-stream", converse("zebra")).token("a token")).await;
    assert_eq!((status, message.contains("policy `gold`")), (403, true), "{message}");
    let asked = authorizer.asked.lock();
    assert!(asked.iter().all(|(head, body)| !format!("{head}{body}").contains("zebra") && !head.contains("a token")));
    assert!(
        asked.iter().all(|(head, _)| head.starts_with("post /authorize http/1.1\r\n") && head.contains("content-type: application/json"))
    );
    assert_eq!(authorizer.connections.load(Ordering::Relaxed), 1, "connections are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_found_where_clients_put_it() {
    let authorizer = Authorizer::knowing(json!({ "tenant": "acme" })).await;
    let everyone = world(&authorizer.url, "cache: off, headers: [x-team]", "", "").await;
    let bare = || Ask::post(NOVA, converse("one"));
    for (ask, credential) in [
        (bare().token("bearer"), json!("bearer")),
        (bare().header("x-api-key", "key"), json!("key")),
        (bare().header("x-tollgate-token", "ours").header("authorization", "AWS4-HMAC-SHA256 Credential=x, Signature=y"), json!("ours")),
        (bare().header("x-team", "red"), json!(null)),
        (bare().header("x-team", "red").header("authorization", "AWS4-HMAC-SHA256 Credential=x, Signature=y"), json!(null)),
    ] {
        assert_eq!(call(&everyone, Way::Http1, &ask).await.status, 200, "{ask:?}");
        assert_eq!(authorizer.asked().pop().unwrap()["credential"], credential, "{ask:?}");
    }
    let asked = authorizer.asked().len();
    for (ask, status) in [
        (bare(), 401),
        (bare().token(""), 401),
        (bare().header("x-api-key", ""), 401),
        (bare().header("authorization", "AWS4-HMAC-SHA256 Credential=x, Signature=y"), 401),
        (bare().header("x-api-key", "a").header("x-api-key", "b"), 401),
        (bare().token("a").token("b"), 401),
    ] {
        assert_eq!(call(&everyone, Way::Http1, &ask).await.status, status, "{ask:?}");
    }
    assert_eq!(authorizer.asked().len(), asked, "there was nothing to ask");
    let chosen = world(&authorizer.url, "token_from: authorization", "", "").await;
    assert_eq!(call(&chosen, Way::Http1, &bare().header("authorization", "Basic abc")).await.status, 200);
    assert_eq!(authorizer.asked().pop().unwrap()["credential"], "Basic abc", "all of the header");
    assert_eq!(call(&chosen, Way::Http1, &bare().header("x-api-key", "key")).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_nothing_to_judge_the_next_method_is_tried() {
    let authorizer = Authorizer::saying(Say::This(401, json!({}))).await;
    let behind = format!(
        "{}\n- anonymous: {{ tenant: public }}",
        jwt().trim_start_matches("identity: [").trim_end_matches(']').replace("jwt:", "- jwt:")
    );
    let world = world(&authorizer.url, "", &behind, "").await;
    assert_eq!(call(&world, Way::Http1, &Ask::post(NOVA, converse("one"))).await.status, 200, "anonymous");
    assert_eq!(authorizer.asked().len(), 0);
    // One that is there is its to judge, whatever another method would say of it.
    let answer = call(&world, Way::Http1, &ask(&world.token)).await;
    assert_eq!(kind(&answer), (401, Some("UnrecognizedClientException")));
    assert_eq!(world.emulator.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_says_why_and_nothing_is_read_or_spent() {
    let authorizer = Authorizer::saying(Say::HangUp).await;
    let world = world(&authorizer.url, "", "", "limits: [{ name: rph, count: requests, rate: 1/hour, burst: 1 }]").await;
    let long = "x".repeat(500);
    for (say, kind_of, message) in [
        (
            Say::This(200, json!({ "deny": "not on\r\n Sundays\u{1b}[31m" })),
            (403, "AccessDeniedException"),
            "the authorizer denies the call: not on Sundays[31m".to_owned(),
        ),
        (
            Say::This(200, json!({ "deny": long })),
            (403, "AccessDeniedException"),
            format!("the authorizer denies the call: {}", "x".repeat(200)),
        ),
        (Say::This(403, json!({ "deny": "no" })), (403, "AccessDeniedException"), "the authorizer denies the call: no".to_owned()),
        (Say::This(403, json!("whatever")), (403, "AccessDeniedException"), "the authorizer denies the call".to_owned()),
        (Say::This(401, json!({})), (401, "UnrecognizedClientException"), "the authorizer does not accept the credential".to_owned()),
    ] {
        authorizer.say(say);
        for way in Way::ALL {
            let answer = call(&world, way, &ask("a token")).await;
            assert_eq!(kind(&answer), (kind_of.0, Some(kind_of.1)));
            assert_eq!(answer.json()["message"], message.as_str());
        }
    }
    assert_eq!((world.emulator.connections(), world.metric("tollgate_limit_buckets")), (0, 0.0));
    // A denial is not kept: the next question may have another answer.
    authorizer.say(Say::This(200, json!({ "principal": { "tenant": "acme" } })));
    assert_eq!(answered(&world, &ask("a token")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorizer_that_breaks_down_is_a_refusal_that_sdks_try_again() {
    let authorizer = Authorizer::saying(Say::HangUp).await;
    let world = world(&authorizer.url, "", "", "").await;
    let nonsense = [
        Say::HangUp,
        Say::Raw("not json"),
        Say::Raw(""),
        Say::Raw("[]"),
        Say::Raw(r#"{"principal":{"tenant":"a"},"principal":{"tenant":"b"}}"#),
        Say::This(200, json!({})),
        Say::This(200, json!({ "principal": { "tenant": "acme" }, "deny": "no" })),
        Say::This(200, json!({ "principal": { "tenant": "acme" }, "denied": true })),
        Say::This(200, json!({ "principal": { "user": "ann" } })),
        Say::This(200, json!({ "principal": { "tenant": "" } })),
        Say::This(200, json!({ "principal": { "tenant": "(mirror)" } })),
        Say::This(200, json!({ "principal": { "tenant": "a\nb" } })),
        Say::This(200, json!({ "principal": { "tenant": "x".repeat(257) } })),
        Say::This(200, json!({ "principal": { "tenant": "acme", "groups": vec!["g"; 65] } })),
        Say::This(200, json!({ "principal": { "tenant": "acme" }, "pad": "x".repeat(100_000) })),
        Say::This(201, json!({ "principal": { "tenant": "acme" } })),
        Say::This(302, json!({ "principal": { "tenant": "acme" } })),
        Say::This(500, json!({ "principal": { "tenant": "acme" } })),
    ];
    let count = nonsense.len();
    for say in nonsense {
        authorizer.say(say);
        let answer = call(&world, Way::H2c, &ask("a token")).await;
        assert_eq!(kind(&answer), (503, Some("ServiceUnavailableException")));
        assert_eq!((answer.header("retry-after"), answer.header("x-amz-retry-after")), (Some("1"), Some("1000")));
        assert_eq!(answer.json()["message"], "the authorizer can't be asked at the moment");
    }
    world.until_idle().await;
    let refusals = world.metric("tollgate_refusals_total{reason=\"authorizer_unavailable\"}");
    assert_eq!((refusals, world.emulator.connections()), (f64::from(u32::try_from(count).unwrap()), 0));
    // Nobody has to wait for it to be forgotten.
    authorizer.say(Say::This(200, json!({ "principal": { "tenant": "acme" } })));
    assert_eq!(answered(&world, &ask("a token")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorizer_that_is_silent_or_gone_is_waited_for_no_longer_than_told() {
    let authorizer = Authorizer::saying(Say::Silence).await;
    let silent = World::build(Setting {
        yaml: format!("identity: [external: {{ url: '{}', timeout: 100ms }}]", authorizer.url),
        ..Setting::default()
    })
    .await;
    assert_eq!(call(&silent, Way::Http1, &ask("a token")).await.status, 503);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for insecure in ["", "insecure: { on_error: allow, tenant: unchecked }"] {
        let gone = world(
            &format!("http://{closed}/"),
            insecure,
            "",
            "policy: [{ name: r, tenants: [unchecked], operations: ['POST *converse'] }]",
        )
        .await;
        let expected = if insecure.is_empty() { [503, 503] } else { [200, 403] };
        for (path, expected) in [NOVA, "/model/m.m/invoke"].into_iter().zip(expected) {
            assert_eq!(answered(&gone, &Ask::post(path, converse("one")).token("a token")).await.0, expected, "{insecure}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_for_the_very_same_question_and_for_its_time() {
    let authorizer = Authorizer::knowing(json!({ "tenant": "acme" })).await;
    let clock = ManualClock::starting_at(SystemTime::now());
    let yaml = format!("identity: [external: {{ url: '{}', timeout: 10s, cache: 30s, headers: [x-team] }}]", authorizer.url);
    let world = World::build(Setting { yaml, clock: Some(clock.clone()), ..Setting::default() }).await;
    let mut expected = 0;
    let mut told = async |ask: Ask, more: usize, why: &str| {
        for _ in 0..3 {
            assert_eq!(call(&world, Way::Http1, &ask).await.status, 200);
        }
        expected += more;
        assert_eq!(authorizer.asked().len(), expected, "{why}");
    };
    told(ask("a"), 1, "once, and then it is known").await;
    told(ask("a").header("x-other", "z"), 0, "what it is not told makes no difference").await;
    told(ask("b"), 1, "another credential").await;
    told(ask("a").header("x-team", "red"), 1, "another header").await;
    told(Ask::post("/model/amazon.nova-pro-v1:0/converse", converse("one")).token("a"), 1, "another path").await;
    told(Ask::get("/inference-profiles").token("a"), 1, "another service and method").await;
    clock.advance(Duration::from_secs(29));
    told(ask("a"), 0, "still").await;
    clock.advance(Duration::from_secs(1));
    told(ask("a"), 1, "no more").await;
    authorizer.say(Say::This(200, json!({ "principal": { "tenant": "acme" }, "ttl": 100 })));
    told(ask("c"), 1, "it may say for how long").await;
    clock.advance(Duration::from_secs(99));
    told(ask("c"), 0, "and so it is").await;
    authorizer.say(Say::This(200, json!({ "principal": { "tenant": "acme" }, "ttl": 0 })));
    told(ask("d"), 3, "or that it does not count at all").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_ask_the_same_at_once_are_one_question() {
    let told = Arc::new(Notify::new());
    let authorizer = Authorizer::saying(Say::Later(Arc::clone(&told))).await;
    let world = world(&authorizer.url, "", "", "").await;
    let question = ask("a token");
    let calls = futures_util::future::join_all((0..50).map(|_| call(&world, Way::Http1, &question)));
    let release = async {
        while world.metric("tollgate_in_flight") < 50.0 || authorizer.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        told.notify_one();
    };
    let (answers, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(calls, release) }).await.expect("fifty answers");
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(authorizer.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_deploy_serves_a_gateway() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/authorizer/authorizer.py");
    let dir = crate::world::Dir::new();
    let hash = |key: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
        digest
            .as_ref()
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|nibble| char::from_digit(nibble.into(), 16).unwrap())
            .collect::<String>()
    };
    let keys = json!({
        hash("anns-key"): { "tenant": "acme", "user": "ann", "groups": ["devs"] },
        hash("readers-key"): { "tenant": "acme", "methods": ["GET"] },
    });
    std::fs::write(dir.join("keys.json"), keys.to_string()).unwrap();
    let started = tokio::process::Command::new("python3")
        .arg(script)
        .arg(dir.join("keys.json"))
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut example) = started else {
        println!("no python3 here");
        return;
    };
    let mut line = String::new();
    BufReader::new(example.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    let address = line.trim().strip_prefix("listening on ").expect(&line);
    let world = world(&format!("http://{address}/"), "", "", "").await;
    for (ask, expected) in [
        (ask("anns-key"), (200, String::new())),
        (Ask::post(NOVA, converse("one")).header("x-api-key", "anns-key"), (200, String::new())),
        (ask("a-guess"), (401, "the authorizer does not accept the credential".to_owned())),
        (ask("readers-key"), (403, "the authorizer denies the call: this key is not for POST".to_owned())),
        (Ask::get("/inference-profiles").token("readers-key"), (200, String::new())),
    ] {
        assert_eq!(answered(&world, &ask).await, expected, "{ask:?}");
    }
    example.kill().await.unwrap();
}
