//! Streams end when their limit does: within one event, by an exception of their own kind, and well.

use std::time::Duration;

use aws_smithy_eventstream::frame::read_message_from;
use base64::Engine as _;
use bytes::Bytes;
use serde_json::Value;
use tollgate::emulator::{Outcome, SeenRequest};

use crate::client::{PATIENCE, eventually};
use crate::downstream::{Ask, Client, Way, call, open};
use crate::record::log;
use crate::streams::{events, reference, streams};
use crate::world::World;

/// Tokens a day.
const QUOTA: u64 = 40;

/// What the gateway takes the 13 bytes of text in each request for, until it is told.
const INPUT: u64 = 5;

const LOGGED: &str = "record: { access_log: { to: access.log } }";
const DRAINED: &str =
    "record: { access_log: { to: access.log } }\nroutes: [{ name: all, to: [{ upstream: emulator }], on_disconnect: drain }]";

/// A budget that ends streams.
fn budget(tokens: u64) -> String {
    format!("limits: [{{ name: budget, count: tokens, quota: {tokens}/day, reserve: 1, cut: true }}]")
}

async fn world(yaml: &str) -> World {
    crate::world::world(&format!("{yaml}\n{}", budget(QUOTA))).await
}

/// What an event tells or delivers: input and output told, and text.
fn content(event: &[u8], content_type: &str) -> (Option<u64>, Option<u64>, String) {
    let json: Value = if content_type.starts_with("text/") {
        let text = std::str::from_utf8(event).unwrap();
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        serde_json::from_str(data).unwrap_or(Value::Null)
    } else {
        let message = read_message_from(Bytes::copy_from_slice(event)).unwrap();
        let json: Value = serde_json::from_slice(message.payload()).unwrap();
        json["bytes"].as_str().map_or_else(
            || json.clone(),
            |wrapped| serde_json::from_slice(&base64::prelude::BASE64_STANDARD.decode(wrapped).unwrap()).unwrap(),
        )
    };
    let text = ["/delta/text", "/choices/0/delta/content"].iter().find_map(|place| json.pointer(place)?.as_str()).unwrap_or_default();
    let started = |name| json.pointer(&format!("/message/usage/{name}")).and_then(Value::as_u64);
    (started("input_tokens"), started("output_tokens"), text.to_owned())
}

/// How many events a client is sent before the one that tells of the limit: up to the one in which it was passed. And what they come to.
fn until_passed(events: &[Vec<u8>], content_type: &str, quota: u64) -> (usize, u64) {
    let (mut input, mut told, mut texts, mut bytes, mut most) = (INPUT, 0, 0, 0, u64::MAX);
    let mut used = 0;
    let passed = events.iter().position(|event| {
        let (told_input, told_output, text) = content(event, content_type);
        (input, told) = (told_input.unwrap_or(input), told_output.unwrap_or(told));
        if told_input.is_some() {
            // Those that tell are asked for so many at most.
            most = 9;
        }
        texts += u64::from(!text.is_empty());
        bytes += text.len() as u64;
        used = input + (told + bytes / 4).min(most).max(told + texts);
        used > quota
    });
    (passed.expect("a stream that passes its limit") + 1, used)
}

/// The exception at the end of a stream that was cut behind `before`.
fn last_event(got: &[u8], before: &[u8], content_type: &str) -> Value {
    assert!(got.starts_with(before), "{} bytes for {}", got.len(), before.len());
    let last = &got[before.len()..];
    if content_type.starts_with("text/") {
        let text = std::str::from_utf8(last).unwrap();
        let data = text.strip_prefix("event: error\ndata: ").and_then(|text| text.strip_suffix("\n\n")).unwrap();
        let error: Value = serde_json::from_str(data).unwrap();
        assert_eq!((&error["type"], &error["error"]["type"]), (&"error".into(), &"rate_limit_error".into()));
        assert_eq!(error["error"]["code"], "budget_spent");
        return error["error"].clone();
    }
    let mut rest = Bytes::copy_from_slice(last);
    let message = read_message_from(&mut rest).unwrap();
    assert!(rest.is_empty(), "it is the last");
    let header = |name: &str| {
        let header = message.headers().iter().find(|header| header.name().as_str() == name).unwrap();
        header.value().as_string().unwrap().as_str().to_owned()
    };
    assert_eq!(header(":message-type"), "exception");
    assert_eq!(header(":exception-type"), "throttlingException");
    assert_eq!(header(":content-type"), "application/json");
    serde_json::from_slice(message.payload()).unwrap()
}

async fn until_last(world: &World, outcome: Outcome) -> SeenRequest {
    let last = world.emulator.requests_until(|all| all.last().is_some_and(|last| last.outcome == outcome));
    tokio::time::timeout(PATIENCE, last).await.unwrap_or_else(|_| panic!("{outcome:?} within 30 s")).pop().unwrap()
}

async fn a_stream_ends_within_one_event_of_its_limit(way: Way, yaml: &str) {
    let reference = reference().await;
    for (ask, content_type) in streams() {
        let whole = events(&reference, &ask.clone().fault("words-300")).await;
        let (until, used) = until_passed(&whole, content_type, QUOTA);
        assert!((20..100).contains(&until), "{until}");
        // All at once, one by one, in pieces, with a length; and an upstream that says nothing more.
        for fault in ["words-300", "words-300,slow-events-1", "words-300,split-7", "words-300,content-length", "words-300,gated"] {
            let world = world(yaml).await;
            world.emulator.release(until);
            let mut incoming = open(&world, way, &ask.clone().token(&world.token).fault(fault)).await;
            assert_eq!(incoming.status, 200);
            let (got, end) = incoming.rest().await;
            assert_eq!(end, Ok(()), "{way:?} {fault}: it ends well");
            let message = last_event(&got, &whole[..until].concat(), content_type)["message"].as_str().unwrap().to_owned();
            assert!(message.contains("`budget`") && message.contains("40 tokens a day"), "{message}");
            let over = world.emulator.requests_until(|all| all.iter().all(|seen| seen.outcome != Outcome::Open));
            let over = tokio::time::timeout(PATIENCE, over).await.expect("the upstream is let go within 30 s");
            if fault.contains("gated") {
                // It would wait for ever, had it not been let go.
                assert_eq!(over.last().map(|seen| seen.outcome), Some(Outcome::PeerLeft));
            }
            world.until_idle().await;
            let lines = log(&world).await;
            let [line] = lines.as_slice() else { panic!("{lines:?}") };
            assert_eq!((&line["status"], &line["reason"]), (&200.into(), &"budget_spent".into()), "{line}");
            assert_eq!(line["limit"], "budget", "{line}");
            assert_eq!(
                (&line["complete"], &line["client_left"], &line["usage"]),
                (&false.into(), &Value::Null, &"estimated".into()),
                "{line}"
            );
            assert_eq!(line["bytes_out"], got.len(), "{line}");
            assert_eq!(world.metric(r#"tollgate_refusals_total{reason="budget_spent"}"#), 1.0);
            assert_eq!(world.metric(r#"tollgate_limit_remaining{tenant="demo",limit="budget"}"#), 0.0);
            let tokens = line["input_tokens"].as_u64().unwrap() + line["output_tokens"].as_u64().unwrap();
            assert_eq!(tokens, used, "{line}");
            // Words are tokens to the emulator: it billed what was delivered, and what it had sent when it was let go.
            let bill = world.emulator.bills().pop().unwrap();
            assert!(bill.ended && bill.usage.output <= 301, "{bill:?}");
            // Nobody gets more of it today.
            let next = call(&world, way, &ask.clone().token(&world.token)).await;
            assert_eq!((next.status.as_u16(), next.header("x-amzn-errortype")), (400, Some("ServiceQuotaExceededException")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http1_a_stream_ends_within_one_event_of_its_limit() {
    a_stream_ends_within_one_event_of_its_limit(Way::Http1, LOGGED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_a_stream_ends_within_one_event_of_its_limit() {
    a_stream_ends_within_one_event_of_its_limit(Way::H2c, LOGGED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_a_stream_ends_within_one_event_of_its_limit() {
    a_stream_ends_within_one_event_of_its_limit(Way::TlsHttp1, LOGGED).await;
    a_stream_ends_within_one_event_of_its_limit(Way::TlsHttp2, LOGGED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_may_outlive_its_client_ends_so_too() {
    for way in [Way::Http1, Way::H2c] {
        a_stream_ends_within_one_event_of_its_limit(way, DRAINED).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_outlives_its_client_ends_with_its_limit() {
    for way in Way::ALL {
        for (ask, _) in streams() {
            let world = world(DRAINED).await;
            world.emulator.release(2);
            let mut stream = open(&world, way, &ask.token(&world.token).fault("words-300,gated")).await;
            stream.piece().await.unwrap().unwrap();
            let _connection = stream.leave();
            eventually("the gateway knows", || world.metric("tollgate_answers_draining") == 1.0).await;
            // Of 300 words, with nobody to hear them.
            world.emulator.release(150);
            until_last(&world, Outcome::PeerLeft).await;
            world.until_idle().await;
            let line = log(&world).await.pop().unwrap();
            assert_eq!((&line["reason"], &line["client_left"]), (&"budget_spent".into(), &true.into()), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_stays_within_its_limit_is_passed_on_untouched() {
    let reference = reference().await;
    for (ask, _) in streams() {
        let whole = events(&reference, &ask).await.concat();
        for way in Way::ALL {
            for fault in ["", "split-1", "slow-events-1"] {
                let world = world(LOGGED).await;
                let mut incoming = open(&world, way, &ask.clone().token(&world.token).fault(fault)).await;
                assert_eq!(incoming.rest().await, (whole.clone(), Ok(())), "{way:?} {fault}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_tells_at_its_end_that_it_used_more_is_whole_all_the_same() {
    let reference = reference().await;
    for (ask, _) in streams() {
        // Of what it says at the end nothing can be spared any more. Anthropic's tell their input at the beginning.
        let ask = ask.fault("usage-7-300");
        let whole = events(&reference, &ask).await.concat();
        let world = world(LOGGED).await;
        let mut incoming = open(&world, Way::Http1, &ask.token(&world.token)).await;
        assert_eq!(incoming.rest().await, (whole, Ok(())));
        world.until_idle().await;
        assert_eq!(world.metric(r#"tollgate_limit_remaining{tenant="demo",limit="budget"}"#), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_after_a_cut() {
    for way in Way::ALL {
        let world = crate::world::world(&budget(QUOTA).replace("cut:", "per: [model], cut:")).await;
        let (ask, _) = streams().into_iter().next().unwrap();
        let mut client = Client::connect(&world, way).await;
        let cut = client.call(&ask.clone().token(&world.token).fault("words-300")).await;
        assert_eq!(cut.status, 200);
        // On HTTP/2 over the same connection; on HTTP/1.1 the gateway has ended it behind the answer.
        if !way.is_http2() {
            client = Client::connect(&world, way).await;
        }
        let other = Ask::post("/model/amazon.nova-lite-v1:0/converse", crate::client::converse("one")).token(&world.token);
        assert_eq!(client.call(&other).await.status, 200, "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_at_once_do_not_pass_a_limit_by_more_than_an_event_each() {
    const STREAMS: u64 = 16;
    let world = crate::world::world(&budget(1_000)).await;
    let (ask, content_type) = streams().into_iter().next().unwrap();
    let calls = Way::ALL.into_iter().cycle().zip(0..STREAMS).map(|(way, _)| {
        let (world, ask) = (&world, ask.clone().token(&world.token).fault("words-3000,slow-events-1"));
        async move { open(world, way, &ask).await.rest().await }
    });
    let answers = tokio::time::timeout(Duration::from_mins(1), futures_util::future::join_all(calls)).await.unwrap();
    let mut delivered = 0;
    for (got, end) in answers {
        assert_eq!(end, Ok(()));
        let (mut rest, mut texts, mut bytes) = (Bytes::from(got), 0, 0);
        while !rest.is_empty() {
            let whole = rest.clone();
            let message = read_message_from(&mut rest).unwrap();
            if message.headers().iter().any(|header| header.name().as_str() == ":exception-type") {
                assert!(rest.is_empty());
                continue;
            }
            let (_, _, text) = content(&whole[..whole.len() - rest.len()], content_type);
            texts += u64::from(!text.is_empty());
            bytes += text.len() as u64;
        }
        delivered += INPUT + texts.max(bytes / 4);
    }
    // An event holds three tokens at most.
    assert!((1_000 - 3 * STREAMS..=1_000 + 3 * STREAMS).contains(&delivered), "{delivered}");
}
