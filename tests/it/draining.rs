//! How a gateway leaves: by a signal, or out of service because an operator says so.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::oneshot;
use tollgate::server::Drain;

use crate::admin::get;
use crate::client::{Answer, PATIENCE, Raw, call, converse, post};
use crate::downstream::{Ask, Way, open};
use crate::world::{World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const STREAM: &str = "/model/amazon.nova-lite-v1:0/converse-stream";

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

async fn ask(admin: std::net::SocketAddr, method: &str, headers: &str) -> Answer {
    call(admin, format!("{method} /drain HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n")).await
}

async fn until_unready(admin: std::net::SocketAddr) {
    let unready = async { while get(admin, "/readyz").await.status == StatusCode::OK {} };
    tokio::time::timeout(PATIENCE, unready).await.expect("not ready within 30 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_its_delay_a_gateway_is_not_ready_and_answers_whoever_comes_and_a_second_signal_ends_it_at_once() {
    let world = world("").await;
    let mut kept = Raw::connect(world.plain).await;
    kept.send(post(CONVERSE, &world.token, "", &converse("one"))).await;
    assert_eq!(kept.answer().await.header("connection"), Some("keep-alive"));
    let stream = Ask::post(STREAM, converse("one two")).token(&world.token).fault("gated");
    let mut stream = open(&world, Way::Http1, &stream).await;

    let World { gateway, plain, token, dir: _dir, .. } = world;
    let (admin, (hurry, hurried)) = (gateway.admin(), oneshot::channel::<()>());
    let leaving = gateway.leave_within(Drain { delay: LONG, timeout: LONG }, async move { hurried.await.unwrap() });
    let leaving = tokio::spawn(leaving);
    until_unready(admin).await;
    let told = call(plain, post(CONVERSE, &token, "", &converse("one"))).await;
    assert_eq!((told.status, told.header("connection")), (StatusCode::OK, Some("close")));
    kept.send(post(CONVERSE, &token, "", &converse("one"))).await;
    assert_eq!(kept.answer().await.header("connection"), Some("close"), "a connection that is kept is told, too");
    assert!(kept.is_ended().await);
    assert_eq!(get(admin, "/livez").await.status, StatusCode::OK);

    hurry.send(()).unwrap();
    tokio::time::timeout(PATIENCE, leaving).await.expect("an end at once").unwrap();
    assert!(stream.rest().await.1.is_err(), "what ran is cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_when_the_time_is_over_is_told_before_it_is_cut() {
    let world = world("").await;
    let stream = Ask::post(STREAM, converse("one two")).token(&world.token).fault("gated");
    let mut stream = open(&world, Way::H2c, &stream).await;
    let live = Arc::clone(world.gateway.live());
    let World { gateway, dir: _dir, emulator: _emulator, .. } = world;
    let drained = tokio::spawn(gateway.drain(Duration::from_millis(50)));
    tokio::time::timeout(PATIENCE, live.ending.cancelled()).await.expect("the time is over");
    let (told, end) = stream.rest().await;
    assert!(end.is_ok() && String::from_utf8_lossy(&told).contains("internalServerException"), "there is time left to end well");
    tokio::time::timeout(PATIENCE, drained).await.expect("an end").unwrap();
    assert_eq!(live.metrics.under_way(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_under_way_as_the_drain_began_tells_its_client_to_close() {
    let world = world("").await;
    let mut raw = Raw::connect(world.plain).await;
    raw.send(post(CONVERSE, &world.token, "x-emulator-fault: slow-first-byte-1500\r\n", &converse("one"))).await;
    let live = Arc::clone(world.gateway.live());
    crate::client::eventually("under way", || live.metrics.under_way() == 1).await;
    let World { gateway, emulator: _emulator, dir: _dir, .. } = world;
    let admin = gateway.admin();
    let drained = tokio::spawn(gateway.drain(PATIENCE));
    until_unready(admin).await;
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (StatusCode::OK, Some("close")));
    tokio::time::timeout(PATIENCE, drained).await.expect("an end").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_takes_an_instance_out_of_service_and_puts_it_back() {
    let world = world("").await;
    let admin = world.gateway.admin();
    assert_eq!(get(admin, "/drain").await.json(), serde_json::json!({ "in_service": true, "in_flight": 0 }));
    for browser in ["origin: http://localhost:9090\r\n", "origin: null\r\n", "sec-fetch-site: same-origin\r\n"] {
        assert_eq!(ask(admin, "POST", browser).await.status, StatusCode::FORBIDDEN, "{browser}");
    }
    let foreign = call(admin, "POST /drain HTTP/1.1\r\nhost: rebound.example\r\nconnection: close\r\n\r\n").await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    assert_eq!(get(admin, "/readyz").await.status, StatusCode::OK);

    for _ in 0..2 {
        let out = ask(admin, "POST", "").await;
        assert_eq!((out.status, &out.json()["in_service"]), (StatusCode::OK, &false.into()));
    }
    let ready = get(admin, "/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json()["unmet"][0]["condition"], "in service");
    let answered = call(world.plain, post(CONVERSE, &world.token, "", &converse("one"))).await;
    assert_eq!(
        (answered.status, answered.header("connection")),
        (StatusCode::OK, Some("close")),
        "whoever comes is answered, and sent away"
    );

    let back = ask(admin, "DELETE", "").await;
    assert_eq!((back.status, &back.json()["in_service"]), (StatusCode::OK, &true.into()));
    assert_eq!(get(admin, "/readyz").await.status, StatusCode::OK);
    let answered = call(world.plain, post(CONVERSE, &world.token, "", &converse("one"))).await;
    assert_eq!((answered.status, answered.header("connection")), (StatusCode::OK, Some("keep-alive")));
    let put = ask(admin, "PUT", "").await;
    assert_eq!((put.status, put.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD, POST, DELETE")));
}
