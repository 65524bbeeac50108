//! Calls that wait for their turn, on the wire: who is served before whom, and what becomes of a client that leaves.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::client::{Answer, PATIENCE, Raw, converse, eventually, post};
use crate::downstream::{Ask, Client, Incoming, Way, call, open};
use crate::record::{LOGGED, log};
use crate::world::{World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const OTHER: &str = "/model/amazon.nova-micro-v1:0/converse";
const STREAM: &str = "/model/amazon.nova-pro-v1:0/converse-stream";

/// Two calls at once, and others wait.
async fn two_at_once(more: &str) -> World {
    world(&format!("limits: [{{ name: in-flight, count: concurrency, max: 2, per: global, {more} }}]\n{LOGGED}")).await
}

fn token(world: &World, tenant: &str) -> String {
    world.token_with(&json!({ "tenant": tenant, "sub": "someone" }))
}

fn waiting(world: &World) -> u64 {
    world.gateway.live().buckets.waiting()
}

/// Two streams that go on until the emulator's gate is opened.
async fn hold_both(world: &World) -> [Incoming; 2] {
    let ask = Ask::post(STREAM, converse("one two")).token(&world.token).fault("gated");
    [open(world, Way::Http1, &ask).await, open(world, Way::Http1, &ask).await]
}

/// Lets them end.
async fn let_go(world: &World, held: [Incoming; 2]) {
    world.emulator.release(1_000);
    for mut stream in held {
        stream.rest().await.1.unwrap();
    }
}

/// A call of a length that it does not tell.
fn in_chunks(world: &World, body: &[u8]) -> Vec<u8> {
    let (token, length) = (&world.token, body.len());
    let mut wire = format!(
        "POST {CONVERSE} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n"
    )
    .into_bytes();
    wire.extend_from_slice(body);
    wire.extend_from_slice(b"\r\n0\r\n\r\n");
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_fills_its_part_of_the_queue_and_another_tenants_calls_have_every_second_turn() {
    // One at a time: the emulator sees them in the order of their turns.
    let rule = "limits: [{ name: in-flight, count: concurrency, max: 1, per: global, wait: 60s, queue: 20 }]";
    let world = world(&format!("{rule}\n{LOGGED}")).await;
    let mut held = open(&world, Way::Http1, &Ask::post(STREAM, converse("one")).token(&world.token).fault("gated")).await;
    let ask = |tenant, path| Ask::post(path, converse("one")).token(&token(&world, tenant));
    let mut flood = Vec::new();
    for _ in 0..50 {
        let client = Client::connect(&world, Way::Http1).await;
        flood.push(client.send(&ask("flood", CONVERSE)).await);
    }
    let refused = r#"tollgate_refusals_total{reason="rate_limited"}"#;
    eventually("twenty wait, and thirty are refused", || waiting(&world) == 20 && world.metric(refused) == 30.0).await;
    let mut small = Vec::new();
    for _ in 0..5 {
        let client = Client::connect(&world, Way::H2c).await;
        small.push(client.send(&ask("small", OTHER)).await);
    }
    eventually("five of the flood make room", || waiting(&world) == 20 && world.metric(refused) == 35.0).await;
    world.emulator.release(1_000);
    held.rest().await.1.unwrap();
    for opening in small {
        assert_eq!(opening.head().await.status, 200);
    }
    let mut statuses = Vec::new();
    for opening in flood {
        statuses.push(opening.head().await.status.as_u16());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 15);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 35);
    let seen: Vec<String> = world.emulator.requests().into_iter().map(|seen| seen.path).collect();
    let turns = [[CONVERSE, OTHER].repeat(5), vec![CONVERSE; 10]].concat();
    assert_eq!(seen[1..], turns);
    assert_eq!(waiting(&world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_longer_than_the_limit_lets_is_refused() {
    let world = two_at_once("wait: 50ms").await;
    let _held = hold_both(&world).await;
    for way in Way::ALL {
        let answer = call(&world, way, &Ask::post(CONVERSE, converse("one")).token(&world.token)).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-amzn-errortype")), (429, Some("ThrottlingException")), "{way:?}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("limit `in-flight` reached: 2 requests at once"), "{message}");
    }
    assert_eq!(world.emulator.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_it_waits_is_forgotten() {
    for way in Way::ALL {
        let world = two_at_once("wait: 60s").await;
        let held = hold_both(&world).await;
        let ask = Ask::post(CONVERSE, converse("one")).token(&world.token);
        let leaving = Client::connect(&world, way).await.send(&ask).await;
        eventually("it waits", || waiting(&world) == 1).await;
        let staying = Client::connect(&world, way).await.send(&ask).await;
        eventually("so does another", || waiting(&world) == 2).await;
        let connection = leaving.leave();
        assert_eq!(connection.is_some(), way.is_http2());
        eventually("its place is free", || waiting(&world) == 1).await;
        eventually("it is over", || world.metric("tollgate_in_flight") == 3.0).await;
        let_go(&world, held).await;
        assert_eq!(staying.head().await.status, 200, "{way:?}");
        world.until_idle().await;
        assert_eq!((world.emulator.requests().len(), waiting(&world)), (3, 0), "{way:?}: two streams, and who stayed");
        let lines = log(&world).await;
        let left: Vec<_> = lines.iter().filter(|line| line["client_left"] == true).collect();
        assert_eq!(left.len(), 1, "{lines:?}");
        assert!(left[0]["status"].is_null() && left[0]["reason"].is_null() && left[0]["upstream"].is_null(), "{}", left[0]);
        assert_eq!(left[0]["complete"], false);
        assert_eq!(world.metric(r#"tollgate_clients_left_total{answer="cancelled"}"#), 1.0);
        drop(connection);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_behind_one_that_waits_is_neither_lost_nor_taken_for_a_leave() {
    let words = |n: usize| converse(&vec!["word"; n].join(" "));
    for (framing, n) in [("length", 1), ("length", 30_000), ("chunks", 1)] {
        let world = two_at_once("wait: 60s").await;
        let held = hold_both(&world).await;
        let with_length = |n| post(CONVERSE, &world.token, "", &words(n));
        let first = if framing == "length" { with_length(n) } else { in_chunks(&world, &words(n)) };
        let mut raw = Raw::connect(world.plain).await;
        raw.send(first).await;
        eventually("it waits", || waiting(&world) == 1).await;
        // In pieces, so that some of it comes while the gateway looks at the client.
        let behind = [with_length(2), with_length(3)].concat();
        let (piece, rest) = behind.split_at(behind.len() / 3);
        raw.send(piece).await;
        assert_eq!(waiting(&world), 1);
        raw.send(rest).await;
        let_go(&world, held).await;
        let answers: [Answer; 3] = [raw.answer().await, raw.answer().await, raw.answer().await];
        assert!(answers.iter().all(|answer| answer.status == 200));
        assert_eq!((&answers[1].json()["usage"]["inputTokens"], &answers[2].json()["usage"]["inputTokens"]), (&2.into(), &3.into()));
        world.until_idle().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_read_whole_is_whole_after_the_wait() {
    let body = converse(&vec!["word"; 30_000].join(" "));
    assert!(body.len() > 128 * 1024);
    for way in Way::ALL {
        let world = two_at_once("wait: 60s").await;
        let held = hold_both(&world).await;
        // Larger than the window of HTTP/2: it is sent while its answer is waited for.
        let ask = Ask::post(CONVERSE, body.clone()).token(&world.token);
        let mut client = Client::connect(&world, way).await;
        let answer = async { client.call(&ask).await };
        let release = async {
            eventually("it waits", || waiting(&world) == 1).await;
            let_go(&world, held).await;
        };
        let (answer, ()) = tokio::join!(answer, release);
        assert_eq!((answer.status.as_u16(), &answer.json()["usage"]["inputTokens"]), (200, &30_000.into()), "{way:?}");
    }
    // In chunks, and more than Pingora's own buffer takes.
    let world = two_at_once("wait: 60s").await;
    let held = hold_both(&world).await;
    let mut raw = Raw::connect(world.plain).await;
    raw.send(in_chunks(&world, &body)).await;
    eventually("it waits", || waiting(&world) == 1).await;
    let_go(&world, held).await;
    let answer = raw.answer().await;
    assert_eq!((answer.status.as_u16(), &answer.json()["usage"]["inputTokens"]), (200, &30_000.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_serves_who_waits_and_its_end_refuses_them() {
    for grace in [PATIENCE, Duration::ZERO] {
        let world = two_at_once("wait: 60s").await;
        let held = hold_both(&world).await;
        let mut waits = Raw::connect(world.plain).await;
        waits.send(post(CONVERSE, &world.token, "", &converse("one"))).await;
        let ask = Ask::post(CONVERSE, converse("one")).token(&world.token);
        let waits_too = Client::connect(&world, Way::H2c).await.send(&ask).await;
        eventually("both wait", || waiting(&world) == 2).await;
        let World { gateway, emulator, dir: _dir, .. } = world;
        let live = Arc::clone(gateway.live());
        let drained = tokio::spawn(gateway.drain(grace));
        if grace == PATIENCE {
            emulator.release(1_000);
            assert_eq!((waits.answer().await.status, waits_too.head().await.status), (http::StatusCode::OK, http::StatusCode::OK));
            drop(held);
        } else {
            let refused = waits.answer().await;
            assert_eq!((refused.status.as_u16(), refused.json()["error"]["code"].as_str()), (503, Some("draining")));
        }
        tokio::time::timeout(PATIENCE, drained).await.expect("nobody keeps the gateway").unwrap();
        assert_eq!((live.buckets.waiting(), live.metrics.under_way()), (0, 0));
    }
}
