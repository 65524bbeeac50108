//! What the gateway does when its upstream is dead, slow, false, or back again.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tollgate::config::Config;
use tollgate::domain::{Clock, ManualClock};
use tollgate::emulator::{Credential, Emulator, Fault, Options, Outcome};
use tollgate::server::Running;

use crate::binary::Binary;
use crate::client::{Answer, PATIENCE, Raw, call as raw_call, converse};
use crate::downstream::{Ask, Broken, Client, Way, call, open};
use crate::scripted::{Scripted, header, upstream};
use crate::world::{Setting, UpstreamTls, World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";

fn ask(world: &World) -> Ask {
    Ask::post(CONVERSE, converse("one two")).token(&world.token)
}

fn is_unavailable(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("x-amzn-errortype"), Some("ServiceUnavailableException"));
    assert_eq!(answer.json()["__type"], "ServiceUnavailableException");
    assert!(answer.header("x-amzn-requestid").is_some());
}

fn attempts(world: &World, outcome: &str) -> f64 {
    world.metric(&format!("tollgate_upstream_attempts_total{{outcome=\"{outcome}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_dies_at_the_wrong_moment_costs_the_client_nothing() {
    let world = world("").await;
    for way in [Way::Http1, Way::H2c] {
        for fault in [Fault::CloseAfter, Fault::CloseOnReuse] {
            world.emulator.inject(fault, 100);
            let mut client = Client::connect(&world, way).await;
            for _ in 0..100 {
                assert_eq!(client.call(&ask(&world)).await.status, 200);
            }
        }
    }
    assert!(attempts(&world, "stale") > 50.0, "{} were dead", attempts(&world, "stale"));
    assert_eq!(attempts(&world, "answered"), 400.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_full_of_dead_connections_costs_the_client_nothing() {
    const KEPT: usize = 40;
    let world = world("").await;
    let mut openings = Vec::new();
    for _ in 0..KEPT {
        let slow = Ask::post("/model/m/converse-stream", converse("one")).token(&world.token).fault("gated");
        openings.push(Client::connect(&world, Way::Http1).await.send(&slow).await);
    }
    let all = world.emulator.requests_until(|all| all.len() == KEPT);
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    world.emulator.release(KEPT * 10);
    for opening in openings {
        assert!(opening.head().await.rest().await.1.is_ok());
    }
    assert_eq!(world.emulator.connections(), KEPT as u64);

    world.emulator.inject(Fault::CloseOnReuse, 10_000);
    for dead in (1_u32..).take(KEPT) {
        assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
        // One at most for each request: the second try takes none that was kept.
        assert!(attempts(&world, "stale") <= f64::from(dead));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_connection_that_breaks_is_a_502_and_the_request_is_sent_once() {
    for way in Way::ALL {
        for fault in ["reset", "close"] {
            let world = world("").await;
            is_unavailable(&call(&world, way, &ask(&world).fault(fault)).await, 502);
            assert_eq!((world.emulator.requests().len(), world.emulator.connections()), (1, 1), "{fault}");
            assert_eq!((attempts(&world, "broken"), attempts(&world, "stale")), (1.0, 0.0));
            assert_eq!(call(&world, way, &ask(&world)).await.status, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_breaks_inside_an_answer_is_not_tried_again() {
    let world = world("").await;
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    world.until_idle().await;
    let mut raw = Raw::connect(world.plain).await;
    raw.send(ask(&world).fault("cut-mid-frame").wire()).await;
    // The head had come: no second call that somebody pays for. The client sees its connection end inside an answer, or, where so little of it has come
    // that it was not sent off yet, before one: SDKs take both for a broken call.
    assert!(raw.unfinished_answer().await);
    assert_eq!((world.emulator.requests().len(), attempts(&world, "stale")), (2, 0.0));
    let mut incoming = open(&world, Way::H2c, &ask(&world).fault("cut-mid-frame")).await;
    assert_eq!(incoming.rest().await.1, Err(Broken::Reset));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_refuses_connections_is_a_502_at_once() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let world = world(&upstream(&format!("http://{port}"), "")).await;
    for way in Way::ALL {
        is_unavailable(&call(&world, way, &ask(&world)).await, 502);
    }
    assert_eq!(attempts(&world, "unreachable"), 2.0 * 4.0);
    assert_eq!(world.metric("tollgate_refusals_total{reason=\"upstream_unreachable\"}"), 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_whose_name_has_no_address_is_a_502() {
    // RFC 6761: `invalid` resolves nowhere.
    let world = world(&upstream("http://bedrock.invalid", "")).await;
    is_unavailable(&call(&world, Way::Http1, &ask(&world)).await, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_never_answered_ends_with_the_time_for_connecting() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let yaml = format!(
        "routes: [{{ name: all, to: [{{ upstream: scripted }}], timeouts: {{ connect: 300ms }} }}]\n{}",
        upstream(&format!("https://localhost:{}", silent.local_addr().unwrap().port()), "")
    );
    let world = world(&yaml).await;
    is_unavailable(&call(&world, Way::Http1, &ask(&world)).await, 502);
    assert_eq!(attempts(&world, "unreachable"), 2.0);
}

const IMPATIENT: &str = "routes: [{ name: all, to: [{ upstream: emulator }], timeouts: { first_byte: 500ms, idle: 500ms } }]";

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_says_nothing_is_a_504_and_is_not_asked_again() {
    let world = world(IMPATIENT).await;
    for way in Way::ALL {
        is_unavailable(&call(&world, way, &ask(&world).fault("hang")).await, 504);
    }
    // On a kept connection too: what is slow is not dead.
    assert_eq!(call(&world, Way::Http1, &ask(&world)).await.status, 200);
    is_unavailable(&call(&world, Way::Http1, &ask(&world).fault("hang")).await, 504);
    assert_eq!(attempts(&world, "timed_out"), 5.0);
    assert_eq!(world.emulator.requests().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_falls_silent_is_ended_and_its_upstream_is_let_go() {
    let world = world(IMPATIENT).await;
    for way in Way::ALL {
        let ask = Ask::post("/model/m/converse-stream", converse("one two")).token(&world.token).fault("stall-2");
        let (got, end) = open(&world, way, &ask).await.rest().await;
        assert_eq!(end, Ok(()));
        assert!(String::from_utf8_lossy(&got).contains("internalServerException"));
    }
    let left = world.emulator.requests_until(|all| all.iter().all(|seen| seen.outcome == Outcome::PeerLeft));
    tokio::time::timeout(PATIENCE, left).await.expect("the calls upstream ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstreams_certificate_is_trusted_by_its_ca_and_name_or_not_at_all() {
    for (tls, trusted) in [(UpstreamTls::Trusted, true), (UpstreamTls::Untrusted, false), (UpstreamTls::OtherName, false)] {
        let world = World::build(Setting { upstream_tls: tls, ..Setting::default() }).await;
        let answer = call(&world, Way::Http1, &ask(&world)).await;
        if trusted {
            assert_eq!(answer.status, 200);
            assert_eq!(
                world.emulator.requests()[0].header("host"),
                Some(&*format!("localhost:{}", world.emulator.tls_address().unwrap().port()))
            );
        } else {
            is_unavailable(&answer, 502);
            assert!(!String::from_utf8_lossy(&answer.body).to_lowercase().contains("cert"), "the caller is told no inner error");
            assert!(world.emulator.requests().is_empty(), "not a byte of the request goes to a stranger");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_never_given_up_for_plain_text() {
    // What is heard at the port is no TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = world(&upstream(&format!("https://localhost:{port}"), "")).await;
    let asking = tokio::spawn({
        let request = ask(&world).wire();
        let address = world.plain;
        async move { raw_call(address, request).await }
    });
    for _ in 0..2 {
        let (mut stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let mut first = [0; 3];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first).await.unwrap();
        assert_eq!(first[..2], [0x16, 0x03], "a ClientHello");
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    }
    is_unavailable(&asking.await.unwrap(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_is_signed_anew_with_the_same_body() {
    let clock = ManualClock::starting_at(SystemTime::now());
    let upstream = Scripted::build(Setting { clock: Some(clock.clone()), ..Setting::default() }).await;
    let mut client = Client::connect(&upstream.world, Way::Http1).await;
    let ask = ask(&upstream.world);
    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    let done = AtomicBool::new(false);
    let script = async {
        let (peer, first) = loop {
            let mut peer = upstream.accept().await;
            peer.request().await;
            peer.say(answer).await;
            // Pingora may lose a connection that is asked for while it is being put back (`failed to acquire reusable stream`, connectors/mod.rs 0.9.1).
            if let Some(first) = peer.next_request().await {
                break (peer, first);
            }
        };
        // A minute passes until the kept connection breaks.
        clock.advance(Duration::from_mins(1));
        drop(peer);
        let mut peer = upstream.accept().await;
        let second = peer.request().await;
        done.store(true, Ordering::Relaxed);
        peer.say(answer).await;
        (first, second)
    };
    let calls = async {
        while !done.load(Ordering::Relaxed) {
            assert_eq!(client.call(&ask).await.status, 200);
            upstream.world.until_idle().await;
        }
    };
    let ((first, second), ()) = tokio::join!(script, calls);
    let date = |head| header(head, "x-amz-date").unwrap().to_owned();
    let signature = |head| header(head, "authorization").unwrap().rsplit_once("Signature=").unwrap().1.to_owned();
    assert!(date(&first) < date(&second), "{} {}", date(&first), date(&second));
    assert_ne!(signature(&first), signature(&second));
    assert_eq!(header(&first, "content-length"), header(&second, "content-length"));
}

/// Processor time that the threads of this name have used, in seconds.
fn cpu_of_threads(name: &str) -> f64 {
    let mut ticks = 0;
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
        let (front, rest) = stat.rsplit_once(") ").unwrap();
        if front.ends_with(&format!("({name}")) {
            let fields: Vec<&str> = rest.split(' ').collect();
            // utime and stime (proc(5), fields 14 and 15), in hundredths of a second.
            ticks += fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
        }
    }
    f64::from(ticks) / 100.0
}

#[test]
fn an_upstream_that_dies_with_connections_kept_leaves_the_processor_idle_and_works_again_when_it_is_back() {
    const THREADS: &str = "dead-upstream";
    // Threads of its own, so that other tests' work is not counted.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name(THREADS).enable_all().build().unwrap();
    let start = |address: SocketAddr| Options { address, ..Options::default() };
    let emulator = runtime.block_on(runtime.spawn(Emulator::start(start("127.0.0.1:0".parse().unwrap())))).unwrap().unwrap();
    let address = emulator.address();
    let world = runtime
        .block_on(async move { tokio::spawn(async move { world(&upstream(&format!("http://{address}"), "")).await }).await.unwrap() });
    let request = ask(&world).wire();
    let plain = world.plain;
    for _ in 0..8 {
        let calls: Vec<_> = (0..8).map(|_| runtime.spawn(raw_call(plain, request.clone()))).collect();
        for call in calls {
            assert_eq!(runtime.block_on(call).unwrap().status, 200);
        }
    }
    assert!(emulator.connections() > 0);
    drop(emulator);

    let before = cpu_of_threads(THREADS);
    std::thread::sleep(Duration::from_secs(1));
    let used = cpu_of_threads(THREADS) - before;
    assert!(used < 0.2, "{used} s of processor time in an idle second");

    is_unavailable(&runtime.block_on(runtime.spawn(raw_call(plain, request.clone()))).unwrap(), 502);
    let _emulator = runtime.block_on(runtime.spawn(Emulator::start(start(address)))).unwrap().unwrap();
    assert_eq!(runtime.block_on(runtime.spawn(raw_call(plain, request))).unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_token_is_signed_and_sent() {
    let token = "FwoGZXIvYXdzEXAMPLE//token==";
    let options =
        Options { credentials: vec![Credential::new("AKIDEXAMPLE", tollgate::demo::SECRET_ACCESS_KEY, Some(token))], ..Options::default() };
    let emulator = Emulator::start(options).await.unwrap();
    let endpoint = format!("http://{}", emulator.address());
    let file = std::env::temp_dir().join(format!("tollgate-it-token-{}", std::process::id()));
    fs::write(&file, format!("{token}\n")).unwrap();
    let with = world(&upstream(&endpoint, &format!("session_token_file: {}", file.display()))).await;
    assert_eq!(call(&with, Way::Http1, &ask(&with)).await.status, 200);
    let seen = emulator.requests();
    assert_eq!(seen[0].header("x-amz-security-token"), Some(token));
    assert!(seen[0].header("authorization").unwrap().contains(";x-amz-security-token,"), "{:?}", seen[0].header("authorization"));
    fs::remove_file(&file).unwrap();

    // The emulator wants the token: without it, its 403 is passed on.
    let without = world(&upstream(&endpoint, "")).await;
    assert_eq!(call(&without, Way::Http1, &ask(&without)).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_file_that_cannot_be_read_stops_the_start_and_is_named() {
    let dir = std::env::temp_dir();
    for (file, content, why) in
        [("absent", None, "No such file"), ("empty", Some(""), "it is empty"), ("large", Some(&*"x".repeat(20_000)), "larger than 16 KiB")]
    {
        let path = dir.join(format!("tollgate-it-{file}-{}", std::process::id()));
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let yaml = format!(
            "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nidentity: [anonymous: {{ tenant: public }}]\n\
             upstreams: {{ use1: {{ region: us-east-1, credentials: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: {} }} }} }}",
            path.display()
        );
        let config = Config::parse(&yaml, &dir.join("gateway.yaml")).unwrap();
        let error = Running::start(&config, Clock::System).err().expect("no start").to_string();
        assert!(error.contains("`use1`") && error.contains(&path.display().to_string()) && error.contains(why), "{error}");
        drop(fs::remove_file(&path));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_aws_credentials_calls_are_refused_for_now_and_the_gateway_is_not_ready() {
    let world = world("").await;
    let endpoint = format!("http://{}", world.emulator.address());
    let yaml = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nidentity: [anonymous: {{ tenant: public }}]\n\
         record: {{ access_log: off }}\nupstreams: {{ use1: {{ region: us-east-1, endpoint: '{endpoint}' }} }}"
    );
    let ask = Ask::post(CONVERSE, converse("one"));
    let ready = "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let bare = Binary::run(&world.dir, &yaml, &[]).await;
    let answer = raw_call(bare.listeners[0], ask.wire()).await;
    is_unavailable(&answer, 503);
    assert_eq!((answer.header("retry-after"), answer.header("retry-after-ms")), (Some("5"), Some("5000")));
    let readiness = raw_call(bare.admin, ready).await;
    assert_eq!(readiness.status, 503);
    assert!(readiness.json()["unmet"].to_string().contains("credentials of upstream `use1`"), "{}", readiness.json());
    assert_eq!(raw_call(bare.admin, "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.status, 200);
    assert_eq!(world.emulator.connections(), 0, "no connection is made for what can't be signed");
    bare.stop().await;

    let keys = [("AWS_ACCESS_KEY_ID", tollgate::demo::ACCESS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", tollgate::demo::SECRET_ACCESS_KEY)];
    let keyed = Binary::run(&world.dir, &yaml, &keys).await;
    let until_ready = async { while raw_call(keyed.admin, ready).await.status != 200 {} };
    tokio::time::timeout(PATIENCE, until_ready).await.expect("ready within 30 s");
    assert_eq!(raw_call(keyed.listeners[0], ask.wire()).await.status, 200);
    let said = keyed.stop().await;
    assert!(!said.contains(tollgate::demo::SECRET_ACCESS_KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_aws_refuses_reaches_the_client_as_aws_said_it() {
    let world = world("").await;
    for way in Way::ALL {
        for (fault, status, kind) in
            [("429", 429, "ThrottlingException"), ("424", 424, "ModelErrorException"), ("500", 500, "InternalServerException")]
        {
            let answer = call(&world, way, &ask(&world).fault(fault)).await;
            assert_eq!((answer.status.as_u16(), answer.header("x-amzn-errortype")), (status, Some(kind)));
            assert_eq!(answer.json()["__type"], kind);
        }
    }
    // Nothing of it is tried again: the client's SDK does that, and counts.
    assert_eq!(world.emulator.requests().len(), 12);
    assert_eq!((attempts(&world, "throttled"), attempts(&world, "server_error"), attempts(&world, "answered")), (4.0, 4.0, 4.0));
    // Nor is it a refusal of the gateway's.
    assert!(!world.metrics().lines().any(|line| line.starts_with("tollgate_refusals_total") && !line.ends_with(" 0")));
}
