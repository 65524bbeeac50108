//! Where failover meets everything else that a call can do.

use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tollgate::domain::{Clock, ManualClock, Stopped};
use tollgate::emulator::{Emulator, Fault, Options, Outcome};

use crate::client::{PATIENCE, Raw, converse, eventually, post};
use crate::downstream::{Ask, Client, Way, call};
use crate::inbound::{ask as signed_ask, signed_for};
use crate::record::log;
use crate::scripted::Peer;
use crate::streams::{events, reference};
use crate::world::{ISSUED, Setting, World};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const STREAM: &str = "/model/amazon.nova-lite-v1:0/converse-stream";
const RETRIES: &str = "retries: { budget: 100%, min: 100000/second }";

async fn pair(route: &str, more: &str) -> World {
    let yaml = format!(
        "routes: [{{ name: all, to: [{{ upstream: emulator }}], failover: [second], {RETRIES}, {route} }}]\nrecord: {{ access_log: {{ to: access.log }} }}\n{more}"
    );
    let emulator = Options { region: Some("us-east-1".to_owned()), ..Options::default() };
    World::build(Setting { yaml, second: true, emulator, upstream: "health: off".to_owned(), ..Setting::default() }).await
}

fn second(world: &World) -> &Emulator {
    world.second.as_ref().unwrap()
}

fn asked(world: &World) -> (usize, usize) {
    (world.emulator.requests().len(), second(world).requests().len())
}

fn status(status: u16) -> Fault {
    Fault::Status { status, times: None }
}

async fn until_over(world: &World, outcome: Outcome) {
    let over = world.emulator.requests_until(|all| !all.is_empty() && all.iter().all(|seen| seen.outcome == outcome));
    tokio::time::timeout(PATIENCE, over).await.unwrap_or_else(|_| panic!("{outcome:?} within 30 s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_turns_whose_head_and_first_event_come_together_with_its_end() {
    let reference = reference().await;
    let whole = events(&reference, &Ask::post(STREAM, converse("one two"))).await;
    for way in Way::ALL {
        let listeners = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let upstream = |at: usize| {
            let address = listeners[at].local_addr().unwrap();
            format!(
                "u{at}: {{ region: us-east-{}, endpoint: 'http://{address}', health: off, credentials: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: secret }} }}",
                at + 1
            )
        };
        let yaml = format!(
            "upstreams: {{ {}, {} }}\nroutes: [{{ name: all, to: [{{ upstream: u0 }}], failover: [u1], {RETRIES} }}]",
            upstream(0),
            upstream(1)
        );
        let world = World::build(Setting { yaml, ..Setting::default() }).await;
        let opening = Client::connect(&world, way).await.send(&Ask::post(STREAM, converse("one two")).token(&world.token)).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n";
        let said = |event: &[u8]| [format!("{:x}\r\n", event.len()).as_bytes(), event, b"\r\n"].concat();
        let mut first = Peer::accept(&listeners[0]).await;
        first.request().await;
        // A last chunk that is none: the fault is there as soon as the event is.
        first.say([head.as_bytes(), &said(&whole[0]), b"no chunk\r\n"].concat()).await;
        let mut next = Peer::accept(&listeners[1]).await;
        next.request().await;
        next.say([head.as_bytes(), &said(&whole.concat()), b"0\r\n\r\n"].concat()).await;
        assert_eq!(opening.head().await.rest().await, (whole.concat(), Ok(())), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_client_that_left_no_other_region_is_asked() {
    for (way, rule, outcome) in [(Way::Http1, "drain", Outcome::Completed), (Way::TlsHttp2, "cancel", Outcome::PeerLeft)] {
        let world = pair(&format!("on_disconnect: {rule}"), "").await;
        // Its first event says nothing, so it is held; the next is an exception.
        let ask = Ask::post(STREAM, converse("one")).token(&world.token).fault("gated,exception-throttlingException-1");
        let opening = Client::connect(&world, way).await.send(&ask).await;
        world.emulator.release(1);
        tokio::time::timeout(PATIENCE, world.emulator.requests_until(|all| all.len() == 1 && all[0].body.is_some())).await.unwrap();
        let _connection = opening.leave();
        if rule == "drain" {
            eventually("the gateway knows", || world.metric("tollgate_answers_draining") == 1.0).await;
        } else {
            until_over(&world, Outcome::PeerLeft).await;
        }
        world.emulator.release(10);
        until_over(&world, outcome).await;
        world.until_idle().await;
        assert_eq!(asked(&world), (1, 0), "{rule}");
        let line = &log(&world).await[0];
        assert_eq!(
            (&line["client_left"], &line["attempts"], &line["tried"]),
            (&true.into(), &1.into(), &serde_json::Value::Null),
            "{line}"
        );
        assert_eq!(world.metric("tollgate_upstream_attempts_total"), 1.0, "{rule}");
        assert_eq!(world.metric("tollgate_bodies_held_bytes"), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sixteen_tries_the_last_refusal_is_the_clients_and_every_try_is_told_once() {
    let models: Vec<String> = (1..=16).map(|at| format!("{{ upstream: second, model: m{at}, name: n{at} }}")).collect();
    let yaml = format!(
        "routes: [{{ name: all, to: [{{ upstream: emulator }}], failover: [{}], {RETRIES} }}]\nrecord: {{ access_log: {{ to: access.log }} }}",
        models.join(", ")
    );
    let world = World::build(Setting { yaml, second: true, upstream: "health: off".to_owned(), ..Setting::default() }).await;
    let answer = call(&world, Way::Http1, &Ask::post(CONVERSE, converse("one")).token(&world.token).fault("503")).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-amzn-errortype")), (503, Some("ServiceUnavailableException")));
    assert!(String::from_utf8_lossy(&answer.body).contains("The emulator was asked for this"), "Bedrock's own");
    assert_eq!(asked(&world), (1, 15));
    world.until_idle().await;
    let line = &log(&world).await[0];
    assert_eq!((&line["attempts"], line["tried"].as_array().unwrap().len()), (&16.into(), 15), "{line}");
    assert_eq!(world.metric("tollgate_upstream_attempts_total{outcome=\"server_error\"}"), 16.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_clients_turn_too_and_their_streams_are_not_held_and_what_names_no_model_stays() {
    let world = pair("timeouts: { idle: 5s }", "").await;
    let old = |path: &str, fault: &str| {
        let request = post(path, &world.token, &format!("x-emulator-fault: {fault}\r\n"), &converse("one two"));
        String::from_utf8(request).unwrap().replace(" HTTP/1.1\r\n", " HTTP/1.0\r\n")
    };
    world.emulator.inject(status(503), 1);
    let mut raw = Raw::connect(world.plain).await;
    raw.send(old(CONVERSE, "words-2")).await;
    assert_eq!(raw.answer().await.status, 200);
    assert_eq!(asked(&world), (1, 1));
    let mut raw = Raw::connect(world.plain).await;
    raw.send(old(STREAM, "exception-throttlingException")).await;
    let answer = raw.answer().await;
    assert!(answer.status == 200 && String::from_utf8_lossy(&answer.body).contains("throttlingException"));
    assert_eq!(asked(&world), (2, 1));
    // What names no model stays in its region.
    world.emulator.inject(status(503), 1);
    let mut raw = Raw::connect(world.plain).await;
    raw.send(format!(
        "HEAD /foundation-models HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
        world.token
    ))
    .await;
    assert_eq!(raw.head().await.unwrap().0, 503);
    assert!(raw.rest().await.is_empty());
    assert_eq!(asked(&world), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_as_good_behind_a_failover_as_behind_any_answer() {
    let world = pair("on_disconnect: drain, timeouts: { first_byte: 500ms }", "").await;
    let exception = "exception-throttlingException";
    for way in Way::ALL {
        let mut client = Client::connect(&world, way).await;
        for (path, fault) in
            [(CONVERSE, "500"), (STREAM, "500"), (STREAM, exception), (STREAM, "cut-between-frames-0"), (STREAM, "stall-0")]
        {
            world.emulator.inject(fault.parse().unwrap(), 1);
            let answer = client.call(&Ask::post(path, converse("one")).token(&world.token)).await;
            assert_eq!(answer.status, 200, "{way:?} {fault}");
            assert!(String::from_utf8_lossy(&answer.body).contains("usage"), "{way:?} {fault}");
        }
    }
    assert_eq!(asked(&world), (20, 20));
    // Two calls in one write, of which the first turns and is held.
    for fault in [status(500), exception.parse().unwrap(), "cut-between-frames-1".parse().unwrap()] {
        world.emulator.inject(fault, 1);
        let ask = post(STREAM, &world.token, "", &converse("one"));
        let last = post(CONVERSE, &world.token, "connection: close\r\n", &converse("two"));
        let mut raw = Raw::connect(world.plain).await;
        raw.send([ask, last].concat()).await;
        let (first, second) = (raw.answer().await, raw.answer().await);
        assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
        assert!(
            String::from_utf8_lossy(&first.body).contains("messageStop") && String::from_utf8_lossy(&second.body).contains("echo: two")
        );
        assert!(raw.is_ended().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_and_waits_for_leave_to_send_are_said_once_and_the_answer_too() {
    let world = pair("", "limits: [{ name: rpm, count: requests, rate: 1000/hour, burst: 1000 }]").await;
    let body = converse("one two");
    for (path, fault) in [(CONVERSE, "early-hints,503"), (STREAM, "early-hints,exception-throttlingException")] {
        let before = asked(&world).1;
        let mut raw = Raw::connect(world.plain).await;
        let extra = format!("expect: 100-continue\r\nx-emulator-fault-us-east-1: {fault}\r\n");
        let whole = String::from_utf8(post(path, &world.token, &extra, &body)).unwrap();
        let (head, sent) = whole.split_once("\r\n\r\n").unwrap();
        raw.send(format!("{head}\r\n\r\n")).await;
        assert_eq!(raw.head().await.unwrap().0, 100);
        raw.send(sent).await;
        let (mut status, mut headers) = raw.head().await.unwrap();
        while status.is_informational() {
            (status, headers) = raw.head().await.unwrap();
        }
        assert_eq!(status, 200, "{fault}");
        assert!(headers.contains_key("x-ratelimit-remaining-requests"), "{fault}");
        assert_eq!(asked(&world).1, before + 1, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_call_for_an_alias_turns_to_what_the_next_region_calls_it() {
    let yaml = format!(
        "identity:\n{ISSUED}routes: [{{ name: sonnet, to: [{{ upstream: emulator, model: a }}], failover: [{{ upstream: second, model: 'a-name-that-is-longer:0' }}], {RETRIES} }}]"
    );
    let world = World::build(Setting { yaml, second: true, upstream: "health: off".to_owned(), ..Setting::default() }).await;
    for way in Way::ALL {
        let chat = br#"{"model":"sonnet","messages":[{"role":"user","content":"one"}]}"#;
        for (path, body) in [("/model/sonnet/converse", converse("one two")), ("/openai/v1/chat/completions", chat.to_vec())] {
            world.emulator.inject(status(500), 1);
            let before = asked(&world);
            let answer = call(&world, way, &signed_ask(path, &signed_for(&world, path, &body), &body)).await;
            assert_eq!(answer.status, 200, "{way:?} {path} {}", String::from_utf8_lossy(&answer.body));
            assert_eq!(asked(&world), (before.0 + 1, before.1 + 1));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_ends_at_once_when_an_operator_stops_it() {
    for way in Way::ALL {
        let world = pair("", "").await;
        let ask = Ask::post(STREAM, converse("one")).token(&world.token).fault("gated");
        let opening = Client::connect(&world, way).await.send(&ask).await;
        world.emulator.release(1);
        tokio::time::timeout(PATIENCE, world.emulator.requests_until(|all| all.len() == 1 && all[0].body.is_some())).await.unwrap();
        world.gateway.live().stop_book.stop(Stopped::Tenant("demo".into()), String::new(), "Ask ops.".to_owned()).unwrap();
        let incoming = opening.head().await;
        assert_eq!(incoming.status, 403, "{way:?}");
        until_over(&world, Outcome::PeerLeft).await;
        world.until_idle().await;
        assert_eq!(asked(&world), (1, 0), "nobody else is asked for it");
        assert_eq!(world.metric("tollgate_bodies_held_bytes"), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_leaves_says_so_with_streams_that_were_under_way() {
    let world = pair("", "").await;
    let ask = Ask::post(STREAM, converse("one")).token(&world.token).fault("gated");
    let opening = Client::connect(&world, Way::Http1).await.send(&ask).await;
    tokio::time::timeout(PATIENCE, world.emulator.requests_until(|all| all.len() == 1 && all[0].body.is_some())).await.unwrap();
    world.gateway.live().leaving.for_good();
    world.emulator.release(100);
    let mut incoming = opening.head().await;
    assert_eq!(incoming.headers["connection"], "close");
    assert!(incoming.rest().await.1.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_no_model_passes_event_by_event_though_there_is_another_region() {
    let world = pair("", "").await;
    let reference = reference().await;
    let path = "/bedrock-agent-runtime/agents/AGENT12345/agentAliases/ALIAS12345/sessions/s1/text";
    let ask = Ask::post(path, r#"{"inputText":"one two three","enableTrace":true}"#);
    let direct = Ask::post(path.trim_start_matches("/bedrock-agent-runtime"), r#"{"inputText":"one two three","enableTrace":true}"#);
    let events = events(&reference, &direct).await;
    for way in Way::ALL {
        let opening = Client::connect(&world, way).await.send(&ask.clone().token(&world.token).fault("gated")).await;
        world.emulator.release(1);
        let mut incoming = opening.head().await;
        assert_eq!(incoming.exactly(events[0].len()).await, events[0], "{way:?}");
        for event in &events[1..] {
            world.emulator.release(1);
            assert_eq!(&incoming.exactly(event.len()).await, event, "{way:?}");
        }
        assert_eq!(incoming.rest().await, (Vec::new(), Ok(())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_turned_waits_for_the_next_accounts_quota_and_no_time_of_the_last_try_ends_it() {
    let clock = ManualClock::starting_at(SystemTime::now());
    let yaml = format!(
        "routes: [{{ name: all, to: [{{ upstream: emulator, model: a }}], failover: [{{ upstream: second, model: b }}], timeouts: {{ first_byte: 300ms }}, {RETRIES} }}]"
    );
    let world = World::build(Setting {
        yaml,
        second: true,
        upstream: "health: off, quotas: [{ models: [b], rpm: 1, headroom: 0%, wait: 30s }]".to_owned(),
        emulator: Options { clock: Clock::Manual(clock.clone()), ..Options::default() },
        clock: Some(clock.clone()),
        ..Setting::default()
    })
    .await;
    for way in [Way::Http1, Way::TlsHttp2] {
        let ask = Ask::post(STREAM, converse("one two")).token(&world.token);
        world.emulator.inject(status(500), 1);
        assert_eq!(call(&world, way, &ask).await.status, 200, "{way:?}");
        world.emulator.inject("stall-0".parse().unwrap(), 1);
        let waits = async {
            eventually("it waits", || world.gateway.live().buckets.waiting() == 1).await;
            // Longer than a first byte may take.
            tokio::time::sleep(Duration::from_millis(400)).await;
            clock.advance(Duration::from_mins(1));
        };
        let (answer, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(call(&world, way, &ask), waits) }).await.unwrap();
        assert_eq!(answer.status, 200, "{way:?} {}", String::from_utf8_lossy(&answer.body));
        clock.advance(Duration::from_mins(1));
    }
    assert_eq!(asked(&world), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_answer_that_breaks_off_is_refused_to_nobody_and_booked() {
    for way in [Way::Http1, Way::TlsHttp2] {
        let world = pair("on_disconnect: drain, timeouts: { first_byte: 400ms }", "").await;
        let ask = Ask::post(CONVERSE, converse("one two")).token(&world.token).fault("stall-0");
        let opening = Client::connect(&world, way).await.send(&ask).await;
        tokio::time::timeout(PATIENCE, world.emulator.requests_until(|all| all.len() == 1 && all[0].body.is_some())).await.unwrap();
        let _connection = opening.leave();
        until_over(&world, Outcome::PeerLeft).await;
        world.until_idle().await;
        let line = &log(&world).await[0];
        assert_eq!((&line["client_left"], &line["usage"], &line["complete"]), (&true.into(), &"estimated".into(), &false.into()), "{line}");
    }
}
