//! What keeps copies from being sent, and what ends them.

use std::sync::Arc;
use std::time::Duration;

use tollgate::domain::Stopped;
use tollgate::emulator::Fault;
use tollgate::state::MOST_MIRRORED;

use super::{CONVERSE, LOGGED, STREAM, ask, count, counts, lines, mirrored, routed, second, under_way, until_mirrored};
use crate::client::{PATIENCE, converse};
use crate::downstream::{Ask, Client, Way, call, open};
use crate::world::{Setting, World};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stopped_is_not_mirrored_and_copies_under_way_end_with_it() {
    let world = mirrored("share: 100%, model: us.amazon.nova-pro-v1:0", LOGGED).await;
    let book = &world.gateway.live().stop_book;
    book.stop(Stopped::Model("amazon.nova-pro-v1:0".into()), String::new(), String::new()).unwrap();
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200, "only the mirror's model is");
    until_mirrored(&world).await;
    assert_eq!((counts(&world), second(&world).requests().len()), ([0.0, 0.0, 1.0, 0.0, 0.0], 0));
    book.lift(&Stopped::Model("amazon.nova-pro-v1:0".into())).unwrap();

    second(&world).inject(Fault::Gated, 1);
    assert_eq!(call(&world, Way::Http1, &Ask::post(STREAM, converse("one")).token(&world.token)).await.status, 200);
    assert_eq!(under_way(&world), 1);
    book.stop(Stopped::Tenant("demo".into()), String::new(), String::new()).unwrap();
    until_mirrored(&world).await;
    assert_eq!(counts(&world), [0.0, 0.0, 1.0, 0.0, 1.0]);
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 403);
    let (_, copies) = lines(&world).await;
    assert_eq!((copies.len(), &copies[0]["reason"]), (1, &"stopped".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_copies_are_under_way_and_no_more_and_a_drain_waits_for_none() {
    let route = "{ name: all, to: [{ upstream: emulator }], mirror: { upstream: second, share: 100% }, timeouts: { first_byte: 10m } }";
    let world = routed(route, LOGGED).await;
    second(&world).inject(Fault::Hang, 1_000);
    let (mut client, ask) = (Client::connect(&world, Way::Http1).await, ask(&world));
    for _ in 0..MOST_MIRRORED + 2 {
        assert_eq!(client.call(&ask).await.status, 200);
    }
    world.until_idle().await;
    let all_there = second(&world).requests_until(|all| all.len() == MOST_MIRRORED);
    tokio::time::timeout(PATIENCE, all_there).await.unwrap();
    assert_eq!((under_way(&world), counts(&world)), (MOST_MIRRORED, [0.0, 0.0, 0.0, 2.0, 0.0]));
    drop(client);
    let World { gateway, dir, emulator: _emulator, second: _second, .. } = world;
    let live = Arc::clone(gateway.live());
    tokio::time::timeout(PATIENCE, gateway.drain(Duration::from_mins(10))).await.expect("it waits for no copy");
    assert_eq!((live.mirrors.under_way(), live.mirrors.bodies.held()), (0, 0));
    let text = std::fs::read_to_string(dir.join("access.log")).unwrap();
    let cut = text.lines().filter(|line| line.contains(r#""reason":"draining""#) && line.contains(r#""mirror":true"#)).count();
    assert_eq!(cut, MOST_MIRRORED, "each is written down: it may have been billed");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_memory_for_a_second_body_there_is_no_copy() {
    let world = mirrored("share: 100%", "firewall: { max_body: 64KiB, body_memory: 64KiB }").await;
    for (words, outcome) in [(8_000, "no_room"), (1_000, "answered")] {
        let body = converse(&"a word ".repeat(words * 5 / 7));
        assert_eq!(call(&world, Way::Http1, &Ask::post(CONVERSE, body).token(&world.token)).await.status, 200);
        until_mirrored(&world).await;
        assert_eq!(count(&world, outcome), 1.0, "{words}");
    }
    let live = world.gateway.live();
    assert_eq!((live.bodies.held(), live.mirrors.bodies.held()), (0, 0));

    // A mirror that holds on to what it may have takes nothing from calls.
    second(&world).inject(Fault::Hang, 1);
    let body = |words: usize| Ask::post(CONVERSE, converse(&"a word ".repeat(words))).token(&world.token);
    for (words, number) in [(1_000, 1), (1_000, 2), (9_000, 3)] {
        assert_eq!(call(&world, Way::Http1, &body(words)).await.status, 200);
        assert_eq!((under_way(&world), count(&world, "no_room")), (1, f64::from(number)));
    }
    world.until_idle().await;
    assert_eq!((live.bodies.held(), live.mirrors.bodies.held() > 7_000), (0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_takes_of_its_upstreams_quota_and_of_what_is_throttled_there_is_none() {
    let pro = "us.amazon.nova-pro-v1:0";
    let yaml = format!(
        "routes: [{{ name: direct, models: ['*nova-pro*'], to: [{{ upstream: second }}] }}, {{ name: all, to: [{{ upstream: emulator }}], mirror: {{ upstream: second, model: {pro}, share: 100% }} }}]"
    );
    let upstream = "quotas: [{ models: ['*nova-pro*'], rpm: 2, headroom: 0% }]".to_owned();
    let world = World::build(Setting { yaml: yaml.clone(), upstream, second: true, ..Setting::default() }).await;
    for _ in 0..3 {
        assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
        until_mirrored(&world).await;
    }
    assert_eq!(counts(&world), [2.0, 0.0, 0.0, 1.0, 0.0]);
    let direct = Ask::post(&format!("/model/{pro}/converse"), converse("one")).token(&world.token);
    assert_eq!(call(&world, Way::Http1, &direct).await.status, 429, "it is one quota");

    let world = World::build(Setting { yaml, second: true, ..Setting::default() }).await;
    second(&world).inject(Fault::Status { status: 429, times: None }, 1);
    let direct = Ask::post(&format!("/model/{pro}/converse"), converse("one")).token(&world.token);
    assert_eq!(call(&world, Way::Http1, &direct).await.status, 429);
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    until_mirrored(&world).await;
    assert_eq!((counts(&world), second(&world).requests().len()), ([0.0, 0.0, 0.0, 1.0, 0.0], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_leaves_begins_no_copies() {
    let world = mirrored("share: 100%", "").await;
    world.gateway.live().leaving.set_aside(true);
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    until_mirrored(&world).await;
    assert_eq!((counts(&world), second(&world).requests().len()), ([0.0, 0.0, 0.0, 0.0, 1.0], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_the_times_of_its_route() {
    // It is never silent for long, and takes ten seconds.
    let slow = "amazon.emulator.words-500.slow-events-20";
    let mirror = format!("mirror: {{ upstream: second, model: {slow}, share: 100% }}");
    let world = routed(&format!("{{ name: all, to: [{{ upstream: emulator }}], {mirror}, timeouts: {{ total: 1s }} }}"), LOGGED).await;
    assert_eq!(call(&world, Way::Http1, &Ask::post(STREAM, converse("one")).token(&world.token)).await.status, 200);
    until_mirrored(&world).await;
    assert_eq!(counts(&world), [0.0, 1.0, 0.0, 0.0, 0.0]);
    let (_, copies) = lines(&world).await;
    let late = &copies[0];
    assert_eq!(
        (&late["reason"], &late["status"], &late["usage"]),
        (&"upstream_timeout".into(), &200.into(), &"estimated".into()),
        "{late}"
    );
    assert!(late["output_tokens"].as_u64().unwrap() > 0, "what came was billed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_no_copy_with_it() {
    let world = mirrored("share: 100%", "").await;
    world.emulator.inject(Fault::Gated, 1);
    second(&world).inject(Fault::Gated, 1);
    let incoming = open(&world, Way::Http1, &Ask::post(STREAM, converse("one two")).token(&world.token)).await;
    drop(incoming.leave());
    world.until_idle().await;
    assert_eq!(under_way(&world), 1);
    second(&world).release(1_000);
    until_mirrored(&world).await;
    assert_eq!(count(&world, "answered"), 1.0);
}
