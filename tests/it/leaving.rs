//! What becomes of an answer whose client left.

use std::time::Duration;

use tollgate::emulator::{Outcome, SeenRequest};

use crate::client::{PATIENCE, Raw, converse, eventually, post};
use crate::downstream::{Ask, Way, call, open};
use crate::record::log;
use crate::world::{World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const STREAM: &str = "/model/amazon.nova-lite-v1:0/converse-stream";
const WORDS: &str = "one two three four";

fn draining(rule: &str) -> String {
    format!(
        "routes: [{{ name: everything, to: [{{ upstream: emulator }}], on_disconnect: {rule} }}]\nrecord: {{ access_log: {{ to: access.log }} }}"
    )
}

/// Opens a stream that waits before each event, lets one through, and leaves.
async fn leave_after_one_event(world: &World, way: Way) {
    world.emulator.release(1);
    leave_behind(world, way, "gated").await;
}

/// Opens a stream, reads a piece of it, and leaves.
async fn leave_behind(world: &World, way: Way, fault: &str) {
    let ask = Ask::post(STREAM, converse(WORDS)).token(&world.token).fault(fault);
    let mut stream = open(world, way, &ask).await;
    stream.piece().await.unwrap().unwrap();
    // A connection of HTTP/2 stays, so that only the stream is seen to end.
    let connection = stream.leave();
    if way.is_http2() {
        assert!(connection.is_some());
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            drop(connection);
        });
    }
}

async fn outcomes(world: &World, ended: impl Fn(&[SeenRequest]) -> bool) -> Vec<Outcome> {
    let all = tokio::time::timeout(PATIENCE, world.emulator.requests_until(|all| ended(all))).await.unwrap();
    all.into_iter().map(|seen| seen.outcome).collect()
}

fn all_over(all: &[SeenRequest]) -> bool {
    !all.is_empty() && all.iter().all(|seen| seen.outcome != Outcome::Open)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_answer_is_read_to_its_end_though_its_client_left() {
    for way in Way::ALL {
        let world = world(&draining("drain")).await;
        leave_after_one_event(&world, way).await;
        eventually("the gateway knows", || world.metric("tollgate_answers_draining") == 1.0).await;
        world.emulator.release(100);
        assert_eq!(outcomes(&world, all_over).await, [Outcome::Completed], "{way:?}");
        world.until_idle().await;
        let lines = log(&world).await;
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        assert_eq!((&line["status"], &line["complete"], &line["client_left"]), (&200.into(), &false.into(), &true.into()), "{line}");
        assert_eq!((&line["usage"], &line["output_tokens"]), (&"reported".into(), &5.into()), "{line}");
        assert_eq!(world.metric(r#"tollgate_clients_left_total{answer="drained"}"#), 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_answer_ends_with_its_client() {
    for way in Way::ALL {
        let world = world(&draining("cancel")).await;
        leave_after_one_event(&world, way).await;
        assert_eq!(outcomes(&world, all_over).await, [Outcome::PeerLeft], "{way:?}");
        world.until_idle().await;
        let lines = log(&world).await;
        assert_eq!((&lines[0]["client_left"], &lines[0]["usage"]), (&true.into(), &"estimated".into()), "{lines:?}");
        assert_eq!(world.metric(r#"tollgate_clients_left_total{answer="cancelled"}"#), 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_ends_after_its_time() {
    for way in Way::ALL {
        let world = world(&draining("{ drain: { time: 50ms } }")).await;
        leave_after_one_event(&world, way).await;
        assert_eq!(outcomes(&world, all_over).await, [Outcome::PeerLeft], "{way:?}");
        world.until_idle().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_answers_are_drained_at_once_and_the_next_are_cancelled() {
    let world = world(&draining("{ drain: { max: 2 } }")).await;
    for left in 1..=4 {
        leave_behind(&world, Way::Http1, "slow-events-500").await;
        let drained = f64::from(left.min(2));
        let settled = || world.metric("tollgate_in_flight") == drained && world.metric("tollgate_answers_draining") == drained;
        eventually("it is drained, or over", settled).await;
    }
    let mut ended = outcomes(&world, all_over).await;
    ended.sort_by_key(|outcome| format!("{outcome:?}"));
    assert_eq!(ended, [Outcome::Completed, Outcome::Completed, Outcome::PeerLeft, Outcome::PeerLeft]);
    world.until_idle().await;
    // The places are free again.
    leave_behind(&world, Way::H2c, "slow-events-10").await;
    let completed = |all: &[SeenRequest]| all.iter().filter(|seen| seen.outcome == Outcome::Completed).count() == 3;
    outcomes(&world, completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_has_not_begun_is_drained_too() {
    let world = world(&draining("drain")).await;
    let mut raw = Raw::connect(world.plain).await;
    raw.send(post(CONVERSE, &world.token, "x-emulator-fault: slow-first-byte-300\r\n", &converse(WORDS))).await;
    outcomes(&world, |all| !all.is_empty()).await;
    drop(raw);
    assert_eq!(outcomes(&world, all_over).await, [Outcome::Completed]);
    world.until_idle().await;
    let lines = log(&world).await;
    assert_eq!(lines[0]["complete"], false, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_answers_are_drained_a_client_that_stays_notices_nothing() {
    let world = world(&draining("drain")).await;
    let mut raw = Raw::connect(world.plain).await;
    for _ in 0..3 {
        raw.send(post(CONVERSE, &world.token, "", &converse(WORDS))).await;
        assert_eq!(raw.answer().await.status, 200);
    }
    assert_eq!(world.metric("tollgate_client_connections"), 1.0, "it was kept");
    for way in Way::ALL {
        let broken = Ask::post(STREAM, converse(WORDS)).token(&world.token).fault("close-between-frames");
        let (_, end) = open(&world, way, &broken).await.rest().await;
        assert!(end.is_err(), "{way:?}: what breaks upstream breaks here");
        let refused = call(&world, way, &Ask::post(CONVERSE, converse(WORDS)).token(&world.token).fault("close")).await;
        assert_eq!(refused.status, 502, "{way:?}");
    }
    tokio::time::timeout(Duration::from_secs(30), world.until_idle()).await.unwrap();
}
