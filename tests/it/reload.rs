//! A configuration takes the place of another while requests go on.

mod listeners;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tollgate::config::Config;
use tollgate::demo::ISSUER;
use tollgate::domain::{Clock, ManualClock};
use tollgate::server::{ReloadError, Running};

use crate::admin::get;
use crate::client::{PATIENCE, Raw, call, converse, eventually, h2_call, h2c, post, whole};
use crate::world::{Dir, World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const STREAM: &str = "/model/amazon.nova-lite-v1:0/converse-stream";

/// The gateway.yaml of a world, with `from` in place of `to`.
fn with(world: &World, from: &str, to: &str) -> String {
    assert!(world.yaml.contains(from), "no {from} in {}", world.yaml);
    world.yaml.replace(from, to)
}

/// The gateway.yaml of a world, and more.
fn and(world: &World, more: &str) -> String {
    format!("{}{more}\n", world.yaml)
}

/// The same with one more way to prove who is calling.
fn with_api_keys(yaml: &str) -> String {
    let line = yaml.lines().find(|line| line.starts_with("identity: [")).unwrap();
    let method = line.strip_prefix("identity: [").and_then(|rest| rest.strip_suffix("]")).unwrap();
    yaml.replace(line, &format!("identity:\n- {method}\n- api_keys: {{ file: keys.yaml }}"))
}

async fn status(world: &World) -> StatusCode {
    call(world.plain, post(CONVERSE, &world.token, "", &converse("one"))).await.status
}

fn h2_post(world: &World, path: &str, fault: &str) -> Request<()> {
    let request = Request::post(format!("http://gateway{path}")).header("authorization", format!("Bearer {}", world.token));
    let request = if fault.is_empty() { request } else { request.header("x-emulator-fault", fault) };
    request.header("content-type", "application/json").body(()).unwrap()
}

async fn gated(world: &World) -> Raw {
    let mut raw = Raw::connect(world.plain).await;
    raw.send(post(STREAM, &world.token, "x-emulator-fault: gated\r\n", &converse("one two"))).await;
    assert_eq!(raw.head().await.expect("a head").0, 200);
    raw
}

/// How many are left of a stream, to its proper end.
async fn events(raw: &mut Raw) -> usize {
    let mut events = 0;
    while raw.chunk().await.expect("a proper end").is_some() {
        events += 1;
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_reloads_under_load_lose_no_request_and_no_stream() {
    let world = world("").await;
    let other = and(
        &world,
        "firewall: { header_timeout: 7s, flood: { rate: 1000000/second, per: address } }\nlimits: [{ name: rpm, count: requests, rate: 1000000/second }]\npolicy: [{ name: all, models: { allow: ['*'] } }]",
    );
    let mut stream = gated(&world).await;
    let mut h2 = h2c(world.plain).await;
    let (response, mut body) = h2.send_request(h2_post(&world, STREAM, "gated"), false).unwrap();
    body.send_data(converse("one two").into(), true).unwrap();
    let (done, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let over_http1 = async |close: &str| {
        let mut raw = Raw::connect(world.plain).await;
        while !done.load(Ordering::Relaxed) {
            raw.send(post(CONVERSE, &world.token, close, &converse("one"))).await;
            assert_eq!(raw.answer().await.status, 200);
            answered.fetch_add(1, Ordering::Relaxed);
            if !close.is_empty() {
                raw = Raw::connect(world.plain).await;
            }
        }
    };
    let over_http2 = async |mut h2: h2::client::SendRequest<bytes::Bytes>| {
        while !done.load(Ordering::Relaxed) {
            assert_eq!(h2_call(&mut h2, h2_post(&world, CONVERSE, ""), converse("one").into()).await.status, 200);
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    let reloads = async {
        for turn in 0..50 {
            // Some calls between any two.
            let before = answered.load(Ordering::Relaxed);
            while answered.load(Ordering::Relaxed) < before + 3 {
                tokio::task::yield_now().await;
            }
            let changes = world.reload(if turn % 2 == 0 { &other } else { &world.yaml }).await.unwrap();
            assert!(changes.changed && changes.fates.upstreams.is_same(), "{changes:?}");
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(reloads, over_http1(""), over_http1(""), over_http1("Connection: close\r\n"), over_http2(h2.clone()));
    world.emulator.release(1000);
    assert!(events(&mut stream).await > 0);
    assert!(!whole(response.await.unwrap()).await.unwrap().body.is_empty());
    world.until_idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_put_to_work_changes_nothing_and_is_told() {
    let world = world("").await;
    let file = world.dir.join("gateway.yaml");
    std::fs::write(&file, &world.yaml).unwrap();
    world.gateway.follow(&file);
    let admin = world.gateway.admin();
    let version = get(admin, "/reload").await.json()["version"].clone();
    let reload = || call(admin, format!("POST /reload HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
    let anyone = "policy: [{ name: nobody, models: { deny: ['*'] } }]\n";
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    for (faulty, expected, told) in [
        ("a: [".to_owned(), 422, "gateway.yaml:"),
        (and(&world, "polici: []"), 422, "did you mean `policy`?"),
        (and(&world, &format!("{anyone}prices: none.yaml")), 422, "none.yaml: can't be read"),
        (with(&world, "tls: { certificates: [{ certificate: tls.pem", "tls: { certificates: [{ certificate: none.pem"), 422, "none.pem"),
        (with(&world, "secret_access_key_file: secret", "secret_access_key_file: gone"), 422, "gone"),
        (format!("{anyone}{}", with(&world, "listeners: [", &format!("listeners: [{{ address: '{address}' }}, "))), 422, "can't listen on"),
        (
            format!("{anyone}{}", with(&world, "admin: { address: '127.0.0.1:0' }", "admin: { address: '127.0.0.1:1' }")),
            409,
            "admin.address",
        ),
        (format!("{anyone}{}", with(&world, "access_log: off", "access_log: { to: log }")), 409, "record.access_log"),
    ] {
        let before = world.metric("tollgate_config_reloads_total{outcome=\"refused\"}");
        std::fs::write(&file, faulty).unwrap();
        let answer = reload().await;
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!((answer.status.as_u16(), text.contains(told)), (expected, true), "{told}: {text}");
        assert!(world.metric("tollgate_config_reloads_total{outcome=\"refused\"}") > before);
        assert_eq!(world.metric("tollgate_config_last_reload_success"), 0.0);
        let ready = get(admin, "/readyz").await;
        let lines = String::from_utf8(ready.body).unwrap();
        assert!(ready.status == 200 && lines.starts_with("ready\nthe last reload was refused, and"), "{lines}");
        assert_eq!(get(admin, "/reload").await.json()["version"], version);
        assert_eq!(status(&world).await, 200);
        assert_eq!(world.gateway.listeners().len(), 2);
    }
    drop(held);
    std::fs::write(&file, and(&world, anyone)).unwrap();
    let answer = reload().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["differences"][0]["path"], "policy[nobody]", "{answer:?}");
    assert_eq!(status(&world).await, 403);
    assert_eq!(world.metric("tollgate_config_last_reload_success"), 1.0);
    assert_eq!(get(admin, "/readyz").await.body, b"ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_browser_reloads_and_where_there_is_no_file_nobody_does() {
    let world = world("").await;
    let admin = world.gateway.admin();
    for origin in ["Origin: https://evil.example", "Sec-Fetch-Site: same-origin", "Host: evil.example"] {
        let host = if origin.starts_with("Host") { String::new() } else { format!("Host: {admin}\r\n") };
        let answer =
            call(admin, format!("POST /reload HTTP/1.1\r\n{host}{origin}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(answer.status, 403, "{origin}");
    }
    let answer = call(admin, format!("POST /reload HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")).await;
    assert_eq!(answer.status, 409);
    assert!(String::from_utf8(answer.body).unwrap().contains("not started from a file"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_keeps_the_rules_that_it_began_with() {
    let world = world("").await;
    let mut stream = gated(&world).await;
    world.reload(&and(&world, "policy: [{ name: nobody, models: { deny: ['*'] } }]")).await.unwrap();
    assert_eq!(status(&world).await, 403);
    world.emulator.release(1000);
    assert!(events(&mut stream).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_keep_what_is_used_and_a_changed_bound_counts_at_once() {
    let world = world("limits: [{ name: rpm, count: requests, rate: 1/hour, burst: 3 }]").await;
    assert_eq!([status(&world).await, status(&world).await], [200, 200]);
    let changes = world.reload(&and(&world, "policy: [{ name: all, models: { allow: ['*'] } }]")).await.unwrap();
    assert_eq!(changes.fates.limits.kept, ["rpm"]);
    assert_eq!([status(&world).await, status(&world).await], [200, 429]);
    world.reload(&with(&world, "burst: 3", "burst: 5")).await.unwrap();
    assert_eq!([status(&world).await, status(&world).await, status(&world).await], [200, 200, 429]);
    let changes = world.reload(&with(&world, "burst: 3", "burst: 5, per: [user]")).await.unwrap();
    assert_eq!(changes.fates.limits.changed, ["rpm"]);
    assert_eq!(status(&world).await, 200, "it counts otherwise, and begins anew");
}

/// A gateway by a ledger, in `dir`.
fn ledgered(dir: &Dir, emulator: SocketAddr, limits: &str) -> Config {
    let text = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nidentity: [anonymous: {{ tenant: demo }}]\n\
         record: {{ access_log: off, ledger: ledger.sqlite }}\n{limits}\n{}\n",
        crate::scripted::upstream(&format!("http://{emulator}"), "")
    );
    Config::parse(&text, &dir.join("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_of_a_quota_is_known_to_a_rule_that_a_reload_brings() {
    const DAILY: &str = "limits: [{ name: daily, count: requests, quota: 10/day }]";
    let (dir, emulator) = (Dir::new(), crate::streams::reference().await);
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    std::fs::write(dir.join("secret"), tollgate::demo::SECRET_ACCESS_KEY).unwrap();
    let clock = || Clock::Manual(ManualClock::starting_at(SystemTime::UNIX_EPOCH + std::time::Duration::from_hours(500_000)));
    let start = |limits: &str| Running::start(&ledgered(&dir, emulator.address(), limits), clock()).unwrap();
    let admitted = async |gateway: &Running, tries: usize| {
        let mut admitted = 0;
        for _ in 0..tries {
            admitted += usize::from(call(gateway.listeners()[0], post(CONVERSE, "", "", &converse("one"))).await.status == 200);
        }
        admitted
    };
    let gateway = start(DAILY);
    assert_eq!(admitted(&gateway, 4).await, 4);
    gateway.drain(PATIENCE).await;

    let gateway = start("");
    assert_eq!(admitted(&gateway, 3).await, 3);
    let (without, with) = (ledgered(&dir, emulator.address(), ""), ledgered(&dir, emulator.address(), DAILY));
    gateway.reload(&with).await.unwrap();
    assert_eq!(admitted(&gateway, 2).await, 2, "of the six that are left");
    // Gone for a while, it comes back to the bucket that it left, and to no more than that.
    gateway.reload(&without).await.unwrap();
    gateway.reload(&with).await.unwrap();
    assert_eq!(admitted(&gateway, 9).await, 4);
    gateway.drain(PATIENCE).await;
}

/// An issuer's key set at a URL, which counts how often it is asked for. It is down when the flag is.
async fn key_set(jwks: String) -> (SocketAddr, Arc<AtomicU64>, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked, up) = (listener.local_addr().unwrap(), Arc::<AtomicU64>::default(), Arc::new(AtomicBool::new(true)));
    let (counter, is_up) = (Arc::clone(&asked), Arc::clone(&up));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (jwks, counter, up) = (jwks.clone(), Arc::clone(&counter), is_up.load(Ordering::Relaxed));
            tokio::spawn(async move {
                let mut stream = stream;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|n| n > 0) {}
                if up {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let length = jwks.len();
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{jwks}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, asked, up)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_issuer_live_on_while_it_is_down_and_are_not_fetched_again() {
    let mut world = world("").await;
    let (address, asked, up) = key_set(world.issuer.jwks().to_string()).await;
    let by_url = world.yaml.replace("jwks_file: jwks.json", &format!("jwks_url: 'http://{address}/keys'"));
    // What is new is had before it serves: no call meets a gateway without keys.
    world.reload(&by_url).await.unwrap();
    assert_eq!((status(&world).await, asked.load(Ordering::Relaxed)), (StatusCode::OK, 1));
    up.store(false, Ordering::Relaxed);
    world.yaml = by_url;
    for turn in 0..5 {
        let more = format!("limits: [{{ name: rpm, count: requests, rate: {}/second }}]", 1000 + turn);
        world.reload(&and(&world, &more)).await.unwrap();
        assert_eq!(status(&world).await, 200);
        // The room is another, its keys are not.
        world.reload(&with_api_keys(&world.yaml)).await.unwrap();
        assert_eq!(status(&world).await, 200);
        assert!(world.gateway.readiness().check().is_ok());
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // An issuer that can't be reached is not taken up.
    let other = with(&world, ISSUER, "http://127.0.0.1:1/none");
    let error = world.reload(&other).await.unwrap_err();
    assert!(matches!(&error, ReloadError::Cold { what, .. } if what == "keys of issuer `http://127.0.0.1:1/none`"), "{error}");
    assert!(world.gateway.readiness().check().is_ok());
    assert_eq!(status(&world).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_connections_are_used_again_after_a_reload() {
    let world = world("").await;
    assert_eq!(status(&world).await, 200);
    world.until_idle().await;
    let before = world.emulator.connections();
    for max in [1, 2] {
        world.reload(&and(&world, &format!("limits: [{{ name: rpm, count: requests, rate: {max}000/second }}]"))).await.unwrap();
        assert_eq!(status(&world).await, 200);
        world.until_idle().await;
    }
    // What is said of the upstream is other, and it is at the same place.
    let changes = world.reload(&with(&world, "region: us-east-1,", "region: us-east-1, dual_stack: true,")).await.unwrap();
    assert_eq!(changes.fates.upstreams.changed, ["emulator"]);
    assert_eq!(status(&world).await, 200);
    assert_eq!(world.emulator.connections(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_a_file_are_read_anew_though_nothing_else_is_different() {
    let world = world("").await;
    std::fs::write(world.dir.join("secret"), "another").unwrap();
    assert_eq!(status(&world).await, 200);
    let changes = world.reload(&world.yaml).await.unwrap();
    assert!(changes.changed && changes.differences.is_empty(), "{changes:?}");
    assert_eq!(status(&world).await, 403, "the emulator knows no such secret");
    std::fs::write(world.dir.join("secret"), tollgate::demo::SECRET_ACCESS_KEY).unwrap();
    assert!(world.reload(&world.yaml).await.unwrap().changed);
    assert_eq!(status(&world).await, 200);
    assert!(!world.reload(&world.yaml).await.unwrap().changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_reloads_leave_no_task_no_condition_and_no_series_behind() {
    let world = world("").await;
    let other = with(
        &world,
        "emulator: {",
        "another: { region: eu-west-1, credentials: { access_key_id: A, secret_access_key_file: secret } }, emulator: {",
    );
    let other = format!(
        "{}routes: [{{ name: all, to: [{{ upstream: emulator }}] }}]\nlimits: [{{ name: rpm, count: requests, rate: 9/second }}]\n",
        other.replace("tls-key.pem }] } }]", "tls-key.pem }] } }, { address: '127.0.0.1:0' }]")
    );
    let other = with_api_keys(&other);
    let figures = || (world.gateway.tasks(), world.gateway.readiness().conditions(), world.metrics().lines().count());
    for _ in 0..2 {
        world.reload(&other).await.unwrap();
        world.reload(&world.yaml).await.unwrap();
    }
    let settled = || world.gateway.tasks();
    let tasks = settled();
    let before = figures();
    for turn in 0..1000 {
        world.reload(if turn % 2 == 0 { &other } else { &world.yaml }).await.unwrap();
    }
    eventually("tasks of what is gone end", || settled() <= tasks).await;
    let after = figures();
    assert_eq!((&after.1, after.2), (&before.1, before.2));
    assert_eq!(status(&world).await, 200);
}
