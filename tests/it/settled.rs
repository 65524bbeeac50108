//! What a call took of the limits is free before its client can know that it has ended.

use tollgate::emulator::Outcome;

use crate::client::{PATIENCE, converse, eventually};
use crate::downstream::{Ask, Client, Way, call, open};
use crate::streams::streams;
use crate::world::{World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const STREAM: &str = "/model/amazon.nova-lite-v1:0/converse-stream";

const ONE_AT_A_TIME: &str = "limits: [{ name: in-flight, count: concurrency, max: 1 }]";
const TOKENS: &str = "limits: [{ name: tokens, count: tokens, quota: 10000/day, reserve: 500 }]";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_calls_one_at_a_time_is_never_refused_for_its_own_last_call() {
    let routes = "routes: [{ name: all, to: [{ upstream: emulator }], on_disconnect: drain }]";
    for yaml in ["", routes] {
        let world = world(&format!("{ONE_AT_A_TIME}\n{yaml}")).await;
        let asks = [CONVERSE, STREAM].map(|path| Ask::post(path, converse("one two three")).token(&world.token));
        for way in Way::ALL {
            let mut client = Client::connect(&world, way).await;
            for at in 0..200 {
                let answer = client.call(&asks[at % 2]).await;
                assert_eq!(answer.status, 200, "{way:?}, call {at}: {}", String::from_utf8_lossy(&answer.body));
            }
            // Neither where Bedrock refuses, nor where it has nothing to say.
            for fault in ["424", "500", "429"] {
                for _ in 0..20 {
                    let answer = client.call(&asks[0].clone().fault(fault)).await;
                    assert_eq!(answer.status.as_str(), fault, "{way:?}: {}", String::from_utf8_lossy(&answer.body));
                    assert!(!String::from_utf8_lossy(&answer.body).contains("in-flight"));
                }
            }
        }
        assert_eq!(world.metric(r#"tollgate_refusals_total{reason="rate_limited"}"#), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_is_over_when_its_client_is_told() {
    let world = world(ONE_AT_A_TIME).await;
    let ask = Ask::post(CONVERSE, converse("one")).token(&world.token);
    for way in Way::ALL {
        for _ in 0..20 {
            assert_eq!(call(&world, way, &ask.clone().fault("close")).await.status, 502, "{way:?}");
        }
    }
    for (stream, _) in streams() {
        for way in Way::ALL {
            let broken = stream.clone().token(&world.token).fault("close-between-frames");
            for _ in 0..5 {
                assert!(open(&world, way, &broken).await.rest().await.1.is_err());
                assert_eq!(call(&world, way, &ask).await.status, 200, "{way:?}");
            }
        }
    }
    assert_eq!(world.metric(r#"tollgate_refusals_total{reason="rate_limited"}"#), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_are_one_too_many_until_the_first_has_left() {
    for way in Way::ALL {
        let world = world(ONE_AT_A_TIME).await;
        let (first, second) =
            (Ask::post(STREAM, converse("one")).token(&world.token), Ask::post(CONVERSE, converse("one")).token(&world.token));
        let mut stream = open(&world, way, &first.fault("gated")).await;
        assert_eq!(call(&world, way, &second).await.status, 429, "{way:?}");
        world.emulator.release(1);
        stream.piece().await.unwrap().unwrap();
        assert_eq!(call(&world, way, &second).await.status, 429, "{way:?}");
        let _connection = stream.leave();
        let gone = world.emulator.requests_until(|all| all.last().is_some_and(|last| last.outcome == Outcome::PeerLeft));
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
        world.until_idle().await;
        assert_eq!(call(&world, way, &second).await.status, 200, "{way:?}");
    }
}

/// What is left of a limit that the tenant has for itself.
fn left(world: &World) -> f64 {
    world.metric(r#"tollgate_limit_remaining{tenant="demo",limit="tokens"}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_settles_at_what_it_used_whatever_became_of_it() {
    for way in Way::ALL {
        let world = world(TOKENS).await;
        let ask = |path: &str| Ask::post(path, converse("one two three")).token(&world.token);
        let mut expected = 10_000.0;
        // 13 bytes are 5 tokens, where nobody tells.
        for (path, fault, used) in [
            (CONVERSE, "usage-21-9", 30.0),
            (STREAM, "usage-21-9", 30.0),
            (CONVERSE, "424", 0.0),
            (CONVERSE, "429", 0.0),
            (CONVERSE, "close", 0.0),
            ("/model/amazon.nova-lite-v1:0/count-tokens", "", 0.0),
            (STREAM, "exception-throttlingException", 0.0),
        ] {
            let request = if path.ends_with("count-tokens") {
                let body = serde_json::json!({ "input": { "converse": { "messages": [{ "role": "user", "content": [{ "text": "one two" }] }] } } });
                Ask::post(path, body.to_string()).token(&world.token)
            } else {
                ask(path).fault(fault)
            };
            drop(call(&world, way, &request).await);
            world.until_idle().await;
            expected -= used;
            assert_eq!(left(&world), expected, "{way:?} {path} {fault}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reserved_is_held_while_the_call_is_under_way() {
    let world = world(TOKENS).await;
    let ask = |path, fault| Ask::post(path, converse("one two three")).token(&world.token).fault(fault);
    // The metrics know a tenant that has called.
    call(&world, Way::Http1, &ask(CONVERSE, "424")).await;
    world.until_idle().await;
    let mut stream = open(&world, Way::Http1, &ask(STREAM, "gated")).await;
    assert_eq!(left(&world), 10_000.0 - 505.0);
    world.emulator.release(100);
    assert_eq!(stream.rest().await.1, Ok(()));
    eventually("it has settled", || left(&world) > 9_990.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_hears_of_again_counts_for_what_was_reserved_and_a_stream_whose_client_left_for_its_input() {
    let routes = "routes: [{ name: all, to: [{ upstream: emulator }], timeouts: { first_byte: 100ms } }]";
    let of = |world: &World, path| Ask::post(path, converse("one two three")).token(&world.token).fault("slow-first-byte-2000");
    let ask = |world: &World| of(world, CONVERSE);
    let impatient = world(&format!("{TOKENS}\n{routes}")).await;
    assert_eq!(call(&impatient, Way::Http1, &ask(&impatient)).await.status, 504);
    impatient.until_idle().await;
    assert_eq!(left(&impatient), 10_000.0 - 505.0, "the model may have said all that it was allowed to");
    let world = world(TOKENS).await;
    let mut before = 10_000.0;
    for way in Way::ALL {
        for (path, counts) in [(CONVERSE, 505.0), (STREAM, 5.0)] {
            let seen = world.emulator.requests().len();
            let opening = Client::connect(&world, way).await.send(&of(&world, path)).await;
            let arrived = world.emulator.requests_until(|all| all.len() > seen);
            tokio::time::timeout(PATIENCE, arrived).await.unwrap();
            let _connection = opening.leave();
            world.until_idle().await;
            before -= counts;
            assert_eq!(left(&world), before, "{way:?} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_up_read_or_deleted_under_a_models_name_takes_no_tokens_and_no_money() {
    // Of either nothing is left for any call of a model: not even for its first token.
    let world = world(
        "limits:\n- { name: tokens, count: tokens, quota: 1/day, reserve: 500 }\n- { name: money, count: usd, quota: 0.000001/day, reserve: 500 }",
    )
    .await;
    let body = r#"{"jobName":"j","roleArn":"r","modelId":"amazon.nova-lite-v1:0"}"#;
    let unpriced = r#"{"jobName":"j","roleArn":"r","modelId":"nobody.knows-v1:0"}"#;
    for way in Way::ALL {
        for ask in [
            Ask::post("/model-invocation-job", body),
            Ask::post("/model-invocation-job", unpriced),
            Ask::post("/bedrock/model/nobody.knows-v1:0/agreement", "{}"),
            Ask::get("/model/amazon.nova-lite-v1:0/converse"),
            Ask::get("/model/nobody.knows-v1:0/converse"),
        ] {
            let answer = call(&world, way, &ask.clone().token(&world.token)).await;
            let refused = world.metric(r#"tollgate_limit_refusals_total{limit="tokens"}"#)
                + world.metric(r#"tollgate_limit_refusals_total{limit="money"}"#);
            assert_eq!(refused, 0.0, "{way:?} {ask:?}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
    }
    world.until_idle().await;
    assert_eq!(left(&world), 1.0);
    assert_eq!(call(&world, Way::Http1, &Ask::post(CONVERSE, converse("one")).token(&world.token)).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_run_no_model_counts_for_nothing_where_nobody_hears_of_it_again() {
    let routes = "routes: [{ name: all, to: [{ upstream: emulator }], timeouts: { first_byte: 100ms } }]";
    let world = world(&format!("{TOKENS}\n{routes}")).await;
    let body = r#"{"source":"INPUT","content":[{"text":{"text":"one two three"}}]}"#;
    let ask = Ask::post("/guardrail/abc/version/1/apply", body).token(&world.token).fault("slow-first-byte-2000");
    assert_eq!(call(&world, Way::Http1, &ask).await.status, 504);
    world.until_idle().await;
    assert_eq!(left(&world), 10_000.0);
}
