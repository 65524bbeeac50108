//! Where calls go when upstreams are ill, or their accounts at the end of their quotas.

use std::time::{Duration, SystemTime};

use tollgate::domain::ManualClock;
use tollgate::emulator::{Emulator, Fault};

use crate::client::{Answer, converse};
use crate::downstream::{Ask, Way, call};
use crate::record::log;
use crate::world::{Setting, World};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";

async fn pair(upstream: &str) -> (World, ManualClock) {
    let clock = ManualClock::starting_at(SystemTime::now());
    let routes = "routes: [{ name: all, to: [{ upstream: emulator }], failover: [second] }]";
    let yaml = format!("{routes}\nrecord: {{ access_log: {{ to: access.log }} }}");
    let setting = Setting { yaml, upstream: upstream.to_owned(), clock: Some(clock.clone()), second: true, ..Setting::default() };
    (World::build(setting).await, clock)
}

fn second(world: &World) -> &Emulator {
    world.second.as_ref().unwrap()
}

async fn ask(world: &World) -> Answer {
    call(world, Way::Http1, &Ask::post(CONVERSE, converse("one")).token(&world.token)).await
}

/// How often each region was asked.
fn asked(world: &World) -> (usize, usize) {
    (world.emulator.requests().len(), second(world).requests().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ill_region_is_left_alone_until_a_probe_finds_it_well() {
    let (world, clock) = pair("health: { failures: 3, error_rate: off, eject: 10s }").await;
    world.emulator.inject(Fault::Status { status: 500, times: None }, 3);
    for tried in 1..=3 {
        assert_eq!(ask(&world).await.status, 200);
        assert_eq!(asked(&world), (tried, tried));
    }
    assert_eq!(world.metric(r#"tollgate_upstream_ejected{upstream="emulator"}"#), 1.0);
    for more in 1..=5 {
        assert_eq!(ask(&world).await.status, 200);
        assert_eq!(asked(&world), (3, 3 + more), "ejected");
    }
    // The probe fails: it is ejected for twice as long.
    clock.advance(Duration::from_secs(10));
    world.emulator.inject(Fault::Status { status: 500, times: None }, 1);
    assert_eq!(ask(&world).await.status, 200);
    assert_eq!(asked(&world), (4, 9));
    clock.advance(Duration::from_secs(10));
    assert_eq!(ask(&world).await.status, 200);
    assert_eq!(asked(&world), (4, 10));
    // The next does not.
    clock.advance(Duration::from_secs(10));
    for more in 1..=2 {
        assert_eq!(ask(&world).await.status, 200);
        assert_eq!(asked(&world), (4 + more, 10), "well again");
    }
    assert_eq!(world.metric(r#"tollgate_upstream_ejected{upstream="emulator"}"#), 0.0);
    assert_eq!(world.metric(r#"tollgate_upstream_ejections_total{upstream="emulator",why="failures"}"#), 1.0);
    assert_eq!(world.metric(r#"tollgate_upstream_ejections_total{upstream="emulator",why="probe"}"#), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_region_is_asked_though_it_is_ill() {
    let (world, _clock) = pair("health: { failures: 1, error_rate: off }").await;
    for region in [&world.emulator, second(&world)] {
        region.inject(Fault::Status { status: 500, times: None }, 1);
    }
    assert_eq!(ask(&world).await.status, 500);
    assert_eq!(ask(&world).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_model_is_left_alone_there_and_another_is_not() {
    let (world, clock) = pair("").await;
    world.emulator.inject(Fault::Status { status: 429, times: None }, 1);
    assert_eq!(ask(&world).await.status, 200);
    assert_eq!(ask(&world).await.status, 200);
    assert_eq!(asked(&world), (1, 2));
    let other = Ask::post("/model/amazon.nova-pro-v1:0/converse", converse("one")).token(&world.token);
    assert_eq!(call(&world, Way::Http1, &other).await.status, 200);
    assert_eq!(asked(&world), (2, 2));
    clock.advance(Duration::from_secs(1));
    assert_eq!(ask(&world).await.status, 200);
    assert_eq!(asked(&world), (3, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_account_would_throttle_goes_to_the_next_and_is_refused_where_none_has_any_left() {
    let (world, clock) = pair("quotas: [{ models: ['*'], rpm: 3, headroom: 0% }]").await;
    for call in 1_usize..=6 {
        assert_eq!(ask(&world).await.status, 200, "{call}");
        assert_eq!(asked(&world), (call.min(3), call.saturating_sub(3)), "the first as long as it has any left");
    }
    let refused = ask(&world).await;
    assert_eq!(refused.status, 429, "{}", String::from_utf8_lossy(&refused.body));
    let after: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
    assert_eq!(asked(&world), (3, 3));
    assert!(!world.metrics().contains("tollgate_failovers_total{"), "nobody was tried in vain");
    clock.advance(Duration::from_millis(after));
    assert_eq!(ask(&world).await.status, 200, "as it was told");
    world.until_idle().await;
    let lines = log(&world).await;
    let limits: Vec<_> = lines.iter().filter_map(|line| line["limit"].as_str()).collect();
    assert_eq!(limits.len(), 1, "{limits:?}");
    assert!(limits[0].starts_with("upstream ") && lines.iter().all(|line| line["tried"].is_null()), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_not_doubled_by_retries() {
    let (world, _clock) = pair("health: off").await;
    let all = 300;
    world.emulator.inject(Fault::Status { status: 503, times: None }, all);
    let mut turned = 0;
    for _ in 0..all {
        turned += usize::from(ask(&world).await.status == 200);
    }
    // 20 % of them, and 10 a second over ten seconds.
    assert_eq!((turned, asked(&world)), (160, (300, 160)));
    assert_eq!(world.metric("tollgate_retry_budget_exhausted_total"), 140.0);
}
