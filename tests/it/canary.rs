//! A canary steps up on schedule, and back to nothing by itself; both over reloads and restarts.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::{Value, json};
use tollgate::config::Config;
use tollgate::domain::{Clock, ManualClock};
use tollgate::emulator::{Emulator, Fault, Options};
use tollgate::server::Running;

use crate::admin::get;
use crate::binary::{text, tollgate};
use crate::client::{Answer, call as raw_call, converse, eventually};
use crate::downstream::{Ask, Client, Way};
use crate::world::{Setting, World};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const STREAM: &str = "/model/amazon.nova-lite-v1:0/converse-stream";
const EVERY: Duration = Duration::from_mins(10);
const USERS: usize = 200;

/// Two regions, and a gateway, by the same clock: signatures are of their time.
async fn by(clock: &ManualClock, yaml: String) -> World {
    let emulator = Options { clock: Clock::Manual(clock.clone()), ..Options::default() };
    // Nothing but the canary's rule is to keep calls from it.
    let upstream = "health: off".to_owned();
    World::build(Setting { yaml, emulator, upstream, second: true, clock: Some(clock.clone()), ..Setting::default() }).await
}

fn routes(promote: &str) -> String {
    format!(
        "routes:\n  - name: chat\n    to: [{{ name: stable, upstream: emulator }}, {{ name: new, upstream: second, promote: {{ {promote} }} }}]\n    \
         sticky: user\n    failover: [stable]\n    override: x-tollgate-target\n    testers: everyone\n"
    )
}

const PROMOTE: &str = "steps: [20%, 50%, 100%], every: 10m, window: 5m, min_requests: 20";

fn second(world: &World) -> &Emulator {
    world.second.as_ref().unwrap()
}

/// Calls of many users, one each.
struct Users(Vec<Ask>);

impl Users {
    fn of(world: &World, path: &str) -> Self {
        let ask = |user| {
            Ask::post(path, converse("one"))
                .token(&world.token_with(&json!({ "tenant": "acme", "sub": format!("user-{user}"), "exp": 4_000_000_000_u64 })))
        };
        Self((0..USERS).map(ask).collect())
    }

    /// Has the first so many call once, each of whom is answered. Returns those whose calls reached the second region.
    async fn call(&self, world: &World, number: usize) -> BTreeSet<usize> {
        let mut client = Client::connect(world, Way::Http1).await;
        let mut there = BTreeSet::new();
        for (user, ask) in self.0.iter().enumerate().take(number) {
            let before = second(world).requests().len();
            let answer = client.call(ask).await;
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            if second(world).requests().len() > before {
                there.insert(user);
            }
        }
        world.until_idle().await;
        there
    }
}

fn share(world: &World) -> f64 {
    world.metric(r#"tollgate_canary_share{route="chat",target="new"}"#)
}

fn steps(world: &World, direction: &str) -> f64 {
    world.metric(&format!("tollgate_canary_steps_total{{direction=\"{direction}\",route=\"chat\"}}"))
}

async fn until(world: &World, wanted: f64) {
    eventually("the share", || share(world) == wanted).await;
}

/// What the ledger has of the one canary: its step, and -1 where it was stepped back.
fn kept(world: &World) -> Option<i64> {
    let connection =
        rusqlite::Connection::open_with_flags(world.dir.join("ledger.sqlite"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.query_row("SELECT ifnull(step, -1) FROM canaries WHERE route = 'chat'", [], |row| row.get(0)).ok()
}

async fn reset(world: &World, headers: &str, body: &str) -> Answer {
    let head = format!("POST /canaries HTTP/1.1\r\nhost: localhost\r\n{headers}content-type: application/json");
    raw_call(world.gateway.admin(), format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_steps_up_on_schedule_and_back_when_it_fails_and_stays_there_over_reloads_and_restarts() {
    let clock = ManualClock::starting_at(SystemTime::now());
    let yaml = format!("{}record: {{ access_log: off, ledger: ledger.sqlite }}\n", routes(PROMOTE));
    let world = by(&clock, yaml).await;
    let users = Users::of(&world, CONVERSE);
    assert_eq!((share(&world), steps(&world, "up"), steps(&world, "back")), (0.2, 0.0, 0.0));
    let first = users.call(&world, USERS).await;
    assert!((25..=55).contains(&first.len()), "{} of {USERS} at 20 %", first.len());
    assert_eq!(users.call(&world, 50).await, first.iter().copied().filter(|user| *user < 50).collect(), "everyone stays");
    eventually("the ledger has it", || kept(&world) == Some(0)).await;

    // When the time is over there are calls to go by, and not before: it grows.
    clock.advance(Duration::from_secs(539));
    users.call(&world, USERS).await;
    assert_eq!(share(&world), 0.2);
    clock.advance(Duration::from_secs(61));
    until(&world, 0.5).await;
    let half = users.call(&world, USERS).await;
    assert!((80..=120).contains(&half.len()) && half.is_superset(&first), "{} of {USERS} at 50 %", half.len());

    // A reload that changes the route, and not its canary.
    world.reload(&world.yaml.replace("sticky: user", "sticky: user\n    timeouts: { connect: 2s }")).await.unwrap();
    assert_eq!(share(&world), 0.5);
    assert_eq!(users.call(&world, USERS).await, half, "everyone stays");

    // Its clients don't even notice: it fails, and calls fail over.
    second(&world).inject(Fault::Status { status: 503, times: None }, 40);
    assert!(users.call(&world, USERS).await.is_subset(&half));
    until(&world, 0.0).await;
    assert_eq!(users.call(&world, USERS).await, BTreeSet::new());
    assert_eq!((steps(&world, "up"), steps(&world, "back")), (1.0, 1.0));
    clock.advance(EVERY * 3);
    users.call(&world, USERS).await;
    world.reload(&world.yaml).await.unwrap();
    assert_eq!(share(&world), 0.0);

    // Another process at the same ledger finds it so.
    eventually("the ledger has it", || kept(&world) == Some(-1)).await;
    let config = Config::parse(&world.yaml, &world.dir.join("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"));
    let successor = Running::start(&config, Clock::Manual(clock.clone())).unwrap();
    let level = || successor.live().canaries.levels(successor.live().now()).remove(0);
    assert!(level().share == 0 && level().is_back);

    // An operator has it begin anew, and so it does in both.
    // It is well again by then: what is left of the faults strikes testers, who reach it all the same.
    let testers = Users(users.0.iter().map(|ask| ask.clone().header("x-tollgate-target", "new")).collect());
    assert_eq!(testers.call(&world, 40).await.len(), 40);
    clock.advance(Duration::from_secs(1));
    let told = reset(&world, "", r#"{"route":"chat"}"#).await;
    assert_eq!((told.status, &told.json()["share"]), (StatusCode::OK, &json!(0.2)));
    eventually("the successor has it too", || level().share == 200_000).await;
    assert_eq!(users.call(&world, USERS).await, first, "the same as at the beginning");

    // Another rule is another canary.
    world.reload(&world.yaml.replace("20%, 50%", "30%, 50%")).await.unwrap();
    assert_eq!((share(&world), steps(&world, "back")), (0.3, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_of_every_call_is_compared_with_what_the_baseline_was() {
    let clock = ManualClock::starting_at(SystemTime::now());
    let rule = "steps: [50%, 100%], every: 10m, window: 5m, min_requests: 20";
    let world = by(&clock, routes(rule)).await;
    let users = Users::of(&world, CONVERSE);
    clock.advance(Duration::from_secs(599));
    users.call(&world, 100).await;
    clock.advance(Duration::from_secs(1));
    until(&world, 1.0).await;
    assert_eq!(users.call(&world, 50).await.len(), 50);
    second(&world).inject(Fault::Close, 10_000);
    users.call(&world, 100).await;
    until(&world, 0.0).await;
    assert_eq!(users.call(&world, 100).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_whose_first_token_takes_longer_is_stepped_back() {
    let rule = "steps: [50%], window: 5m, min_requests: 30";
    let world = World::build(Setting { yaml: routes(rule), second: true, ..Setting::default() }).await;
    let users = Users::of(&world, STREAM);
    second(&world).inject(Fault::SlowFirstByte(Duration::from_millis(100)), 10_000);
    users.call(&world, 120).await;
    until(&world, 0.0).await;
    let (_, told) = canaries(&world).await;
    let (canary, baseline) = (&told["canaries"][0]["canary"], &told["canaries"][0]["baseline"]);
    assert_eq!((&canary["failed"], &told["canaries"][0]["stepped_back"]), (&json!(0), &json!(true)), "{told}");
    assert!(canary["first_token"].as_f64().unwrap() >= 0.1 && baseline["first_token"].as_f64().unwrap() < 0.1, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_of_the_clients_making_or_the_gateways_is_nothing_against_a_canary() {
    let rule = "steps: [50%], window: 5m, min_requests: 20";
    let limits = "limits: [{ name: none, count: requests, rate: 1/hour, burst: 40, tenants: [acme] }]\n";
    let world = World::build(Setting { yaml: format!("{}{limits}", routes(rule)), second: true, ..Setting::default() }).await;
    second(&world).inject(Fault::Status { status: 400, times: None }, 10_000);
    let users = Users::of(&world, CONVERSE);
    let mut client = Client::connect(&world, Way::Http1).await;
    let mut statuses = Vec::new();
    for ask in &users.0 {
        statuses.push(client.call(ask).await.status.as_u16());
    }
    world.until_idle().await;
    let of = |status| statuses.iter().filter(|told| **told == status).count();
    assert!(of(400) > 10 && of(429) > 100, "{statuses:?}");
    let (_, told) = canaries(&world).await;
    let [canary, baseline] = ["canary", "baseline"].map(|side| &told["canaries"][0][side]);
    assert_eq!((&canary["failed"], &baseline["failed"]), (&json!(0), &json!(0)), "{told}");
    assert_eq!(canary["calls"].as_u64().unwrap() + baseline["calls"].as_u64().unwrap(), 40, "what was refused here went nowhere: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_is_spared_because_its_upstream_is_ill_is_stepped_back_all_the_same() {
    let rule = "steps: [50%], window: 5m, min_requests: 20";
    let world = World::build(Setting { yaml: routes(rule), second: true, ..Setting::default() }).await;
    let users = Users::of(&world, CONVERSE);
    second(&world).inject(Fault::Status { status: 503, times: None }, 10_000);
    assert!(users.call(&world, 150).await.len() < 20, "it is left alone after a few failures");
    until(&world, 0.0).await;
}

async fn canaries(world: &World) -> (StatusCode, Value) {
    let answer = get(world.gateway.admin(), "/canaries").await;
    (answer.status, answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_canaries_and_no_browser_has_one_begin_anew() {
    let world = World::build(Setting { yaml: routes(PROMOTE), second: true, ..Setting::default() }).await;
    let (status, told) = canaries(&world).await;
    assert_eq!(status, StatusCode::OK);
    let canary = &told["canaries"][0];
    assert_eq!(
        (&canary["route"], &canary["target"], &canary["share"], &canary["next"]),
        (&json!("chat"), &json!("new"), &json!(0.2), &json!(0.5))
    );
    let live = get(world.gateway.admin(), "/live.json").await.json();
    assert_eq!(live["canaries"], told["canaries"]);
    for (headers, body, status) in [
        ("origin: http://localhost\r\n", r#"{"route":"chat"}"#, 403),
        ("sec-fetch-site: none\r\n", r#"{"route":"chat"}"#, 403),
        ("", r#"{"route":"chta"}"#, 404),
        ("", r#"{"rout":"chat"}"#, 400),
        ("", r#"{"route":"chat"}"#, 200),
    ] {
        assert_eq!(reset(&world, headers, body).await.status.as_u16(), status, "{headers} {body}");
    }
    let admin = format!("http://{}", world.gateway.admin());
    let listed = tollgate(&world.dir, &["canary", "--admin", &admin]).await;
    assert!(text(&listed.stdout).contains("chat   new       20%   50%"), "{}", text(&listed.stdout));
    let anew = tollgate(&world.dir, &["canary", "reset", "--admin", &admin, "chat"]).await;
    assert_eq!(text(&anew.stdout), "the canary `new` of route `chat` begins anew at 20%\n");
}
