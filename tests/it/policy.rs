//! What a policy forbids is refused before it costs anything: no body is read, no budget spent, no upstream troubled.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::binary::Binary;
use crate::client::{Answer, PATIENCE, Raw, call as raw_call, converse};
use crate::downstream::{Ask, Way, call};
use crate::scripted::upstream;
use crate::world::{World, jwt, world};

const NOVA: &str = "/model/amazon.nova-lite-v1:0/converse";

fn ask(world: &World, path: &str) -> Ask {
    Ask::post(path, converse("one two")).token(&world.token)
}

async fn status(world: &World, way: Way, path: &str) -> u16 {
    call(world, way, &ask(world, path)).await.status.as_u16()
}

/// Asserts a refusal by a policy, and gives its message.
#[track_caller]
fn forbidden(answer: &Answer) -> String {
    assert_eq!(answer.status, 403, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("x-amzn-errortype"), Some("AccessDeniedException"));
    let body = answer.json();
    assert_eq!((&body["__type"], &body["error"]["code"]), (&json!("AccessDeniedException"), &json!("forbidden")));
    body["message"].as_str().unwrap().to_owned()
}

fn token(world: &World, tenant: &str, user: &str) -> String {
    world.issuer.token(tenant, user, SystemTime::now() + Duration::from_mins(1)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_model_is_refused_by_name_and_costs_nobody_anything() {
    let world = world(
        "policy: [{ name: interns, tenants: [demo], models: { allow: ['amazon.nova-*', '*opus*'], deny: ['*opus*'] } }]\nlimits: [{ name: rph, count: requests, rate: 1/hour, burst: 1 }]",
    )
    .await;
    for way in Way::ALL {
        for path in [
            "/model/us.anthropic.claude-opus-4-v1:0/converse",
            "/model/us.anthropic.claude-opus-4-v1%3A0/converse",
            "/model/us.anthropic.claude-%6fPUS-4-v1:0/invoke",
            "/bedrock-runtime/%6dodel/anthropic.claude-opus-4-v1:0/converse-stream",
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.anthropic.claude-opus-4-v1%3A0/invoke",
            "/model/anthropic.claude-opus-4-v1:0./converse",
            "/model/amazon.nova-lite-v1:0;x=opus/converse",
            "/model/mistral.mistral-large-2402-v1:0/converse",
        ] {
            let message = forbidden(&call(&world, way, &ask(&world, path)).await);
            assert!(message.starts_with("policy `interns` does not allow the model `"), "{message}");
        }
    }
    world.until_idle().await;
    assert_eq!(world.metric("tollgate_refusals_total{reason=\"forbidden\"}"), 32.0);
    assert_eq!((world.emulator.connections(), world.metric("tollgate_limit_buckets")), (0, 0.0), "no upstream, and no bucket");
    // The one call that the hour has is still there.
    assert_eq!(status(&world, Way::Http1, NOVA).await, 200);
    assert_eq!(status(&world, Way::Http1, NOVA).await, 429);
    assert_eq!(
        forbidden(&call(&world, Way::H2c, &ask(&world, "/model/x.y/converse")).await),
        "policy `interns` does not allow the model `x.y`"
    );
    assert_eq!(world.emulator.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_head_forbids_is_refused_before_the_body_is_read() {
    let world = world("policy: [{ name: reads, operations: ['GET *'] }]").await;
    let mut raw = Raw::connect(world.plain).await;
    let head = format!(
        "POST {NOVA} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\nexpect: 100-continue\r\ncontent-length: 1000\r\n\r\n",
        world.token
    );
    raw.send(head).await;
    // No `100 Continue`: nobody waits for the thousand bytes.
    let message = forbidden(&raw.answer().await);
    assert_eq!(message, format!("policy `reads` does not allow the operation `POST {NOVA}`"));
    assert_eq!(world.metric("tollgate_bodies_held_bytes"), 0.0);
    let listing = Ask::get("/foundation-models").token(&world.token);
    assert_eq!(call(&world, Way::Http1, &listing).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_the_body_names_is_judged_too() {
    let world = world("policy: [{ name: small, models: ['openai.gpt-oss-20b*', 'amazon.nova-*'] }]").await;
    let said = |body: &str| Ask::post("/openai/v1/chat/completions", body.to_owned()).token(&world.token);
    let messages = r#""messages":[{"role":"user","content":"one two"}]"#;
    for way in Way::ALL {
        let good = said(&format!(r#"{{"model":"openai.gpt-oss-20b-1:0",{messages}}}"#));
        assert_eq!(call(&world, way, &good).await.status, 200);
        let other = call(&world, way, &said(&format!(r#"{{{messages},"model":"openai.gpt-oss-120b-1:0"}}"#))).await;
        assert_eq!(forbidden(&other), "policy `small` does not allow the model `openai.gpt-oss-120b-1:0`");
        for hidden in
            [format!("{{{messages}}}"), format!(r#"{{"model":7,{messages}}}"#), String::new(), "\u{1f}\u{8b}compressed".to_owned()]
        {
            let message = forbidden(&call(&world, way, &said(&hidden)).await);
            assert_eq!(message, "policy `small` does not allow a call that does not tell which model it is for");
        }
        for doubtful in [
            format!(r#"{{"model":"openai.gpt-oss-20b-1:0",{messages},"model":"openai.gpt-oss-120b-1:0"}}"#),
            format!(r#"{{"model":"openai.gpt-oss-20b-1:0",{messages},"mod\u0065l":"openai.gpt-oss-120b-1:0"}}"#),
            format!(r#"{{"model":"openai.gpt-oss-20b-1:0",{messages},"MODEL":"openai.gpt-oss-120b-1:0"}}"#),
            format!(r#"{{"model":"openai.gpt-oss-20b-1:0",{messages}}} {{"model":"openai.gpt-oss-120b-1:0"}}"#),
            format!("\u{feff}{{\"model\":\"openai.gpt-oss-20b-1:0\",{messages}}}"),
        ] {
            let answer = call(&world, way, &said(&doubtful)).await;
            assert_eq!((answer.status.as_u16(), answer.header("x-amzn-errortype")), (400, Some("ValidationException")), "{doubtful}");
        }
    }
    assert_eq!(world.emulator.requests().len(), Way::ALL.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_is_for_its_tenants_and_users_alone() {
    let world = world(
        "policy: [{ name: interns, tenants: ['intern-*'], services: [bedrock-runtime] }, { name: bob, users: [bob], operations: { deny: ['* /model/*'] } }, { name: nobody, methods: [anonymous], services: [nova-act] }]",
    )
    .await;
    let list = |token: &str| Ask::get("/foundation-models").token(token);
    let say = |token: &str| Ask::post(NOVA, converse("one")).token(token);
    let (intern, bob) = (token(&world, "intern-7", "ivy"), token(&world, "demo", "bob"));
    for (ask, expected) in [
        (list(&world.token), 200),
        (say(&world.token), 200),
        (list(&intern), 403),
        (say(&intern), 200),
        (list(&bob), 200),
        (say(&bob), 403),
    ] {
        assert_eq!(call(&world, Way::H2c, &ask).await.status.as_u16(), expected, "{ask:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_stays_where_the_rule_says() {
    // The upstream is in us-east-1.
    let world = world(
        "policy: [{ name: home, tenants: [demo], regions: [us-east-1] }, { name: us, tenants: [states], regions: [us] }, { name: eu, tenants: [europe], regions: ['eu-*'] }, { name: all, tenants: [world], regions: ['us-*', global] }]",
    )
    .await;
    let said = |tenant: &str, id: &str| Ask::post(&format!("/model/{id}/converse"), converse("one")).token(&token(&world, tenant, "ann"));
    for (tenant, id, expected) in [
        ("demo", "amazon.nova-lite-v1:0", 200),
        ("demo", "us.amazon.nova-lite-v1:0", 403),
        ("demo", "arn:aws:bedrock:us-east-1::foundation-model%2Famazon.nova-lite-v1:0", 200),
        ("demo", "arn:aws:bedrock:us-west-2::foundation-model%2Famazon.nova-lite-v1:0", 403),
        ("demo", "arn:aws:bedrock:us-east-1:1:application-inference-profile%2Fabcdefghijkl", 403),
        ("states", "us.amazon.nova-lite-v1:0", 403),
        ("europe", "amazon.nova-lite-v1:0", 403),
        ("world", "us.amazon.nova-lite-v1:0", 200),
        ("world", "global.amazon.nova-lite-v1:0", 200),
        ("world", "eu.amazon.nova-lite-v1:0", 403),
        ("elsewhere", "eu.amazon.nova-lite-v1:0", 200),
    ] {
        let answer = call(&world, Way::Http1, &said(tenant, id)).await;
        assert_eq!(answer.status.as_u16(), expected, "{tenant} {id}: {}", String::from_utf8_lossy(&answer.body));
    }
    let message = forbidden(&call(&world, Way::Http1, &said("europe", "amazon.nova-lite-v1:0")).await);
    assert_eq!(message, "policy `eu` does not allow the region `us-east-1`");
    let message = forbidden(&call(&world, Way::Http1, &said("demo", "us.amazon.nova-lite-v1:0")).await);
    assert_eq!(message, "policy `home` does not allow the model `us.amazon.nova-lite-v1:0`: `us.` may have it answered in `us-east-2`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_in_shadow_is_counted_and_logged_and_refuses_nothing() {
    let world = world("").await;
    let endpoint = format!("http://{}", world.emulator.address());
    let yaml = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nrecord: {{ access_log: {{ to: access.log }} }}\n{}\n{}\n{}",
        jwt(),
        upstream(&endpoint, ""),
        "policy: [{ name: trial, models: ['*nova*'], shadow: true }, { name: later, regions: [eu-west-1], shadow: true }, { name: real, models: { deny: ['*opus*'] } }]",
    );
    let binary = Binary::run(&world.dir, &yaml, &[]).await;
    for (model, status) in [("amazon.nova-lite-v1:0", 200), ("amazon.titan-text-lite-v1", 200), ("anthropic.claude-opus-4", 403)] {
        let ask = ask(&world, &format!("/model/{model}/converse"));
        assert_eq!(raw_call(binary.listeners[0], ask.wire()).await.status, status, "{model}");
    }
    // An exchange is counted a little after its client knows.
    let counted = async {
        loop {
            let metrics = raw_call(binary.admin, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
            let metrics = String::from_utf8(metrics.body).unwrap();
            if metrics.contains("tollgate_refusals_total{reason=\"forbidden\",tenant=\"demo\"} 1") {
                return metrics;
            }
        }
    };
    let metrics = tokio::time::timeout(PATIENCE, counted).await.expect("the last exchange counted");
    for line in ["tollgate_policy_shadow_total{rule=\"trial\"} 2", "tollgate_policy_shadow_total{rule=\"later\"} 3"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert!(!metrics.contains("rule=\"real\""));
    drop(binary.stop().await);
    let log = std::fs::read_to_string(world.dir.join("access.log")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Each is written a little after its client knows, and so in any order.
    for (model, shadows, reason) in [
        ("amazon.nova-lite-v1:0", "later", json!(null)),
        ("amazon.titan-text-lite-v1", "trial,later", json!(null)),
        ("anthropic.claude-opus-4", "trial,later", json!("forbidden")),
    ] {
        let line = lines.iter().find(|line| line["model"] == model).unwrap();
        assert_eq!((&line["shadow_policy"], &line["reason"], &line["tenant"]), (&json!(shadows), &reason, &json!("demo")), "{model}");
    }
}
