//! Streams reach the client as they come, break where they break, and end where the client leaves.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tollgate::emulator::{Emulator, Options, Outcome};

use crate::client::{PATIENCE, Raw, converse};
use crate::downstream::{Ask, Broken, Client, Way, call, open};
use crate::scripted::Scripted;
use crate::world::{World, world};

const CONVERSE_STREAM: &str = "/model/anthropic.claude-3-haiku-20240307-v1:0/converse-stream";
const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// Every kind of stream, its events and content type.
pub(crate) fn streams() -> [(Ask, &'static str); 4] {
    let messages = json!([{ "role": "user", "content": "one two three" }]);
    let invoke = json!({ "anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": messages });
    let chat =
        json!({ "model": "openai.gpt-oss-20b-1:0", "stream": true, "stream_options": { "include_usage": true }, "messages": messages });
    let anthropic = json!({ "model": "anthropic.claude-3-haiku-20240307-v1:0", "max_tokens": 9, "stream": true, "messages": messages });
    let body = |value: serde_json::Value| Bytes::from(value.to_string());
    [
        (Ask::post(CONVERSE_STREAM, converse("one two three")), EVENT_STREAM),
        (Ask::post("/model/anthropic.claude-3-haiku-20240307-v1:0/invoke-with-response-stream", body(invoke)), EVENT_STREAM),
        (Ask::post("/openai/v1/chat/completions", body(chat)), "text/event-stream; charset=utf-8"),
        (Ask::post("/anthropic/v1/messages", body(anthropic)), "text/event-stream; charset=utf-8"),
    ]
}

/// An emulator that needs no signature: what it says is what must reach the client.
pub(crate) async fn reference() -> Emulator {
    Emulator::start(Options { verify: false, strict: false, ..Options::default() }).await.unwrap()
}

/// The events of the answer to `ask`, straight from an emulator. Each leaves it as one chunk.
pub(crate) async fn events(emulator: &Emulator, ask: &Ask) -> Vec<Vec<u8>> {
    let mut raw = Raw::connect(emulator.address()).await;
    raw.send(ask.wire()).await;
    let (status, _) = raw.head().await.unwrap();
    assert_eq!(status, 200);
    let mut events = Vec::new();
    while let Some(event) = raw.chunk().await.unwrap() {
        events.push(event);
    }
    events
}

/// Waits until the emulator's last exchange has ended so.
async fn until_last(world: &World, outcome: Outcome) {
    let last = world.emulator.requests_until(|all| all.last().is_some_and(|last| last.outcome == outcome));
    tokio::time::timeout(PATIENCE, last).await.unwrap_or_else(|_| panic!("{outcome:?} within 30 s"));
}

async fn every_event_arrives_before_the_next_is_sent(way: Way) {
    let (world, reference) = (world("").await, reference().await);
    for (ask, content_type) in streams() {
        let events = events(&reference, &ask).await;
        assert!(events.len() >= 6, "{} events", events.len());
        for framing in ["gated", "gated,content-length"] {
            let mut incoming = open(&world, way, &ask.clone().token(&world.token).fault(framing)).await;
            assert_eq!(incoming.status, 200);
            assert_eq!(incoming.headers["content-type"], content_type);
            assert_eq!(incoming.headers.contains_key("transfer-encoding"), !way.is_http2());
            assert!(!incoming.headers.contains_key("content-length"));
            for event in &events {
                world.emulator.release(1);
                // All of it is here while the next has not been sent.
                assert_eq!(&incoming.exactly(event.len()).await, event, "{way:?} {framing}");
            }
            assert_eq!(incoming.rest().await, (Vec::new(), Ok(())));
            until_last(&world, Outcome::Completed).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http1_every_event_arrives_before_the_next_is_sent() {
    every_event_arrives_before_the_next_is_sent(Way::Http1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_h2c_every_event_arrives_before_the_next_is_sent() {
    every_event_arrives_before_the_next_is_sent(Way::H2c).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_and_http1_every_event_arrives_before_the_next_is_sent() {
    every_event_arrives_before_the_next_is_sent(Way::TlsHttp1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_and_http2_every_event_arrives_before_the_next_is_sent() {
    every_event_arrives_before_the_next_is_sent(Way::TlsHttp2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_passed_on_byte_for_byte_however_it_is_cut_up() {
    let (world, reference) = (world("").await, reference().await);
    for (ask, _) in streams() {
        let whole = events(&reference, &ask).await.concat();
        for way in Way::ALL {
            for fault in ["", "split-7", "split-1", "split-7,content-length"] {
                let mut incoming = open(&world, way, &ask.clone().token(&world.token).fault(fault)).await;
                assert_eq!(incoming.rest().await, (whole.clone(), Ok(())), "{way:?} {fault}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exceptions_and_errors_inside_a_stream_are_passed_on_untouched() {
    let (world, reference) = (world("").await, reference().await);
    for (ask, _) in streams() {
        for fault in [
            "exception-throttlingException",
            "exception-modelStreamErrorException-2",
            "exception-serviceUnavailableException-9",
            "error-frame-1",
            "bad-crc",
        ] {
            let ask = ask.clone().fault(fault);
            let whole = events(&reference, &ask).await.concat();
            for way in Way::ALL {
                let mut incoming = open(&world, way, &ask.clone().token(&world.token)).await;
                assert_eq!(incoming.rest().await, (whole.clone(), Ok(())), "{way:?} {fault}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_upstream_is_broken_downstream() {
    let (world, reference) = (world("").await, reference().await);
    for (ask, _) in streams() {
        let events = events(&reference, &ask).await;
        for way in Way::ALL {
            for (fault, sent) in [
                ("cut-mid-frame", [events[..2].concat(), events[2][..events[2].len() / 2].to_vec()].concat()),
                ("cut-between-frames", events[..2].concat()),
                ("close-mid-frame-1", [events[..1].concat(), events[1][..events[1].len() / 2].to_vec()].concat()),
                ("close-between-frames", events[..2].concat()),
                ("content-length,cut-between-frames", events[..2].concat()),
                ("content-length,close-between-frames-3", events[..3].concat()),
            ] {
                let mut incoming = open(&world, way, &ask.clone().token(&world.token).fault(fault)).await;
                let (got, end) = incoming.rest().await;
                let broken = if way.is_http2() { Broken::Reset } else { Broken::NoLastChunk };
                assert_eq!(end, Err(broken), "{way:?} {fault}");
                // What came is a part of what was sent, from its beginning: all of it, unless a reset overtook it.
                assert!(sent.starts_with(&got), "{way:?} {fault}");
                assert!(fault.contains("cut") || got == sent, "{way:?} {fault}: {} of {}", got.len(), sent.len());
            }
        }
    }
    world.until_idle().await;
    assert_eq!(world.metric("tollgate_refusals_total{reason=\"upstream_broken\"}"), 4.0 * 4.0 * 6.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_early_but_cleanly_is_passed_on_as_it_came_unless_it_ends_within_an_event() {
    let (world, reference) = (world("").await, reference().await);
    for (ask, content_type) in streams() {
        for fault in ["eof-mid-frame", "eof-mid-frame-0", "eof-between-frames-3", "eof-between-frames-0"] {
            let ask = ask.clone().fault(fault);
            let whole = events(&reference, &ask).await.concat();
            for way in Way::ALL {
                let opening = Client::connect(&world, way).await.send(&ask.clone().token(&world.token)).await;
                let head = opening.try_head().await;
                let (got, end) = match head {
                    Some(mut incoming) if incoming.status == 200 => incoming.rest().await,
                    // Its head and its end came together.
                    _ => (Vec::new(), Err(Broken::Reset)),
                };
                // Of server-sent events the last may lack its blank line; half a frame is none.
                if content_type == EVENT_STREAM && fault.contains("mid-frame") {
                    assert!(end.is_err() && whole.starts_with(&got), "{way:?} {fault}");
                } else {
                    assert_eq!((got, end), (whole.clone(), Ok(())), "{way:?} {fault}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_middle_of_a_stream_ends_the_upstream_call() {
    let world = world("").await;
    for (ask, _) in streams() {
        for way in Way::ALL {
            let mut incoming = open(&world, way, &ask.clone().token(&world.token).fault("gated")).await;
            world.emulator.release(1);
            incoming.piece().await.unwrap().unwrap();
            let connection = incoming.leave();
            until_last(&world, Outcome::PeerLeft).await;
            world.until_idle().await;
            // On HTTP/2 the connection has outlived its stream.
            if let Some(send) = connection {
                let answer = Client::Http2(send).call(&Ask::get("/foundation-models").token(&world.token)).await;
                assert_eq!(answer.status, 200);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_first_byte_ends_the_upstream_call() {
    let world = world("").await;
    for (at, way) in Way::ALL.into_iter().enumerate() {
        let ask = Ask::post(CONVERSE_STREAM, converse("one")).token(&world.token).fault("hang");
        let opening = Client::connect(&world, way).await.send(&ask).await;
        let begun = world.emulator.requests_until(|all| all.len() == at + 1 && all[at].body.is_some());
        tokio::time::timeout(PATIENCE, begun).await.unwrap();
        let _connection = opening.leave();
        until_last(&world, Outcome::PeerLeft).await;
        world.until_idle().await;
    }
    assert_eq!(world.metric("tollgate_upstream_attempts_total{outcome=\"abandoned\"}"), 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_its_large_body_is_answered_ends_the_upstream_call() {
    let world = world("").await;
    for size in [100_000, 1_000_000] {
        for chunked in [false, true] {
            let mut raw = Raw::connect(world.plain).await;
            let framing = if chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {size}") };
            let body = vec![b'x'; size];
            let head = format!(
                "POST /x HTTP/1.1\r\nhost: gateway\r\naws-endpoint-prefix: bedrock-runtime\r\nauthorization: Bearer {}\r\nx-emulator-fault: hang\r\n{framing}\r\n\r\n",
                world.token
            );
            raw.send(head).await;
            if chunked {
                raw.send(format!("{size:x}\r\n")).await;
            }
            raw.send(body).await;
            if chunked {
                raw.send("\r\n0\r\n\r\n").await;
            }
            let begun =
                world.emulator.requests_until(|all| all.last().is_some_and(|last| last.outcome == Outcome::Open && last.body.is_some()));
            tokio::time::timeout(PATIENCE, begun).await.expect("the request upstream within 30 s");
            drop(raw);
            until_last(&world, Outcome::PeerLeft).await;
            world.until_idle().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_before_the_answer_do_no_harm() {
    let (world, reference) = (world("").await, reference().await);
    let ask = Ask::post(CONVERSE_STREAM, converse("one two"));
    let whole = events(&reference, &ask).await.concat();
    for way in Way::ALL {
        let ask = ask.clone().token(&world.token).fault("early-hints");
        let mut incoming = open(&world, way, &ask).await;
        assert_eq!((incoming.status, incoming.rest().await), (http::StatusCode::OK, (whole.clone(), Ok(()))), "{way:?}");
        // Kept by then, for the next.
        world.until_idle().await;
    }
    // The connection upstream is none the worse: none was found dead, and nothing was sent twice.
    assert_eq!((world.emulator.requests().len(), world.metric("tollgate_upstream_attempts_total{outcome=\"stale\"}")), (4, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_answers_arrive_byte_for_byte() {
    let (world, reference) = (world("").await, reference().await);
    let unary = Ask::post("/model/amazon.nova-lite-v1:0/converse", converse("one")).fault("huge-20");
    let mut raw = Raw::connect(reference.address()).await;
    raw.send(unary.wire()).await;
    let whole = raw.answer().await.body;
    assert!(whole.len() > 20 * 1024 * 1024);
    let stream = Ask::post(CONVERSE_STREAM, converse("one")).fault("huge-20");
    let events = events(&reference, &stream).await.concat();
    for way in Way::ALL {
        let answer = call(&world, way, &unary.clone().token(&world.token)).await;
        assert!(answer.status == 200 && answer.body == whole, "{way:?}: {} of {}", answer.body.len(), whole.len());
        let (got, end) = open(&world, way, &stream.clone().token(&world.token)).await.rest().await;
        assert!(end.is_ok() && got == events, "{way:?}: {} of {}", got.len(), events.len());
    }
}

const HEAD_CLOSE_DELIMITED: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\nconnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_only_the_connections_end_delimits_arrives_as_it_comes() {
    for way in Way::ALL {
        for (head, end) in [(HEAD_CLOSE_DELIMITED, Ok(())), (&*HEAD_CLOSE_DELIMITED.replace("1.1", "1.0"), Ok(()))] {
            let upstream = Scripted::start("").await;
            let client = Client::connect(&upstream.world, way).await;
            let opening = client.send(&Ask::post(CONVERSE_STREAM, converse("one")).token(&upstream.world.token)).await;
            let mut peer = upstream.accept().await;
            peer.request().await;
            peer.say(head).await;
            let mut incoming = opening.head().await;
            for event in ["first", "second", "third"] {
                peer.say(event).await;
                assert_eq!(incoming.exactly(event.len()).await, event.as_bytes());
            }
            drop(peer);
            assert_eq!(incoming.rest().await, (Vec::new(), end), "{way:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_inside_a_stream_that_only_the_connections_end_delimits_breaks_it() {
    for way in Way::ALL {
        let upstream = Scripted::start("").await;
        let client = Client::connect(&upstream.world, way).await;
        let opening = client.send(&Ask::post(CONVERSE_STREAM, converse("one")).token(&upstream.world.token)).await;
        let mut peer = upstream.accept().await;
        peer.request().await;
        peer.say(HEAD_CLOSE_DELIMITED).await;
        let mut incoming = opening.head().await;
        peer.say("first").await;
        assert_eq!(incoming.exactly(5).await, b"first");
        peer.reset();
        let broken = if way.is_http2() { Broken::Reset } else { Broken::NoLastChunk };
        assert_eq!(incoming.rest().await, (Vec::new(), Err(broken)), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_stalls_the_upstream_and_loses_nothing() {
    const PIECE: usize = 64 * 1024;
    /// What the buffers of four sockets may grow to, and far less than the answer.
    const HELD: usize = 64 * 1024 * 1024;
    for way in Way::ALL {
        let upstream = Scripted::start("").await;
        let client = Client::connect(&upstream.world, way).await;
        let opening = client.send(&Ask::post(CONVERSE_STREAM, converse("one")).token(&upstream.world.token)).await;
        let mut peer = upstream.accept().await;
        peer.request().await;
        peer.say("HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let mut incoming = opening.head().await;

        let mut sent = 0;
        // Until nothing has been taken for half a second.
        while let Ok(()) = tokio::time::timeout(Duration::from_millis(500), peer.say(chunk(sent, PIECE))).await {
            sent += PIECE;
            assert!(sent < HELD, "{way:?}: more than {HELD} bytes are held for a client that does not read");
        }
        drop(peer);
        let (got, end) = incoming.rest().await;
        assert!(end.is_err(), "{way:?}");
        assert!(
            got.len() <= sent + PIECE
                && got.chunks(PIECE).enumerate().all(|(at, piece)| piece.iter().all(|byte| *byte == byte_at(at * PIECE)))
        );
    }
}

/// One chunk of chunked framing, filled with what its place says.
fn chunk(at: usize, size: usize) -> Vec<u8> {
    let mut chunk = format!("{size:x}\r\n").into_bytes();
    chunk.resize(chunk.len() + size, byte_at(at));
    chunk.extend_from_slice(b"\r\n");
    chunk
}

fn byte_at(at: usize) -> u8 {
    u8::try_from(at / (64 * 1024) % 251).unwrap()
}
