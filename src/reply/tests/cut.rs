//! What a stream used by now, where its events end, and what ends it.

use std::time::Duration;

use aws_smithy_eventstream::frame::read_message_from;
use bytes::Bytes;
use proptest::prelude::*;

use super::super::{Ended, Ending};
use super::{ASKED, FRAMES, JSON, SSE, chunks, events, frames, meter, shapes, tokens};
use crate::domain::{Asked, Tokens};

const DELTA: &str = r#"{"contentBlockIndex":0,"delta":{"text":"four"},"p":"abcd"}"#;
const LONG: &str = r#"{"contentBlockIndex":0,"delta":{"text":"four and twenty blackbirds, baked in a pie"}}"#;
const METADATA: &str = r#"{"usage":{"inputTokens":12,"outputTokens":5,"totalTokens":17},"metrics":{"latencyMs":1}}"#;

fn converse(deltas: &[&'static str]) -> Vec<u8> {
    let mut all = vec![("messageStart", r#"{"role":"assistant"}"#)];
    all.extend(deltas.iter().map(|delta| ("contentBlockDelta", *delta)));
    all.extend([("messageStop", r#"{"stopReason":"end_turn"}"#), ("metadata", METADATA)]);
    frames(&all)
}

/// What was used at the end of each event, and where that was.
fn followed<'a>(kind: &'static str, pieces: impl IntoIterator<Item = &'a [u8]>, asked: &Asked) -> Vec<(usize, Tokens)> {
    let mut meter = meter(kind, &[]);
    let (mut ends, mut before) = (Vec::new(), 0);
    for piece in pieces {
        let mut read = 0;
        while let Some(length) = piece.get(read..).filter(|rest| !rest.is_empty()).and_then(|rest| meter.read_event(rest, Duration::ZERO)) {
            read += length;
            ends.push((before + read, meter.so_far(Some(asked)).unwrap()));
        }
        before += piece.len();
    }
    ends
}

/// What a client is sent of a stream that is cut where more than `most` tokens are used.
fn cut<'a>(kind: &'static str, pieces: impl IntoIterator<Item = &'a [u8]>, most: u64) -> Vec<u8> {
    let mut meter = meter(kind, &[]);
    let mut sent = Vec::new();
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            let Some(length) = meter.read_event(rest, Duration::ZERO) else { break };
            sent.extend_from_slice(&rest[..length]);
            rest = &rest[length..];
            if meter.so_far(Some(&ASKED)).unwrap().total() > most && !meter.is_over() {
                sent.extend_from_slice(&meter.exception(Ending::Spent, "enough").unwrap());
                return sent;
            }
        }
        sent.extend_from_slice(rest);
    }
    sent
}

fn split<'a>(mut rest: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

#[test]
fn a_stream_has_used_what_it_delivered_at_four_bytes_or_an_event_a_token() {
    let body = converse(&[DELTA, DELTA, LONG]);
    let used: Vec<u64> = followed(FRAMES, [&*body], &ASKED).iter().map(|(_, tokens)| tokens.output).collect();
    // 42 bytes and twice 4 are 12 tokens; at the end it tells.
    assert_eq!(used, [0, 1, 2, 12, 12, 5]);
    let used = followed(FRAMES, [&*body], &Asked { max_tokens: Some(9), ..ASKED });
    assert_eq!(used[3].1, tokens(10, 9), "it can't have more than was asked for");
    assert_eq!(used[5].1, tokens(12, 5));
    let used = followed(FRAMES, [&*converse(&[DELTA; 7])], &Asked { max_tokens: Some(3), ..ASKED });
    assert_eq!(used[7].1.output, 7, "nor less than an event each");
}

#[test]
fn what_a_stream_tells_counts_as_soon_as_it_is_told() {
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":25,"cache_read_input_tokens":7,"output_tokens":1}}}"#;
    let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"four"}}"#;
    let end = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#;
    let documents = [start, delta, delta, end];
    for (kind, body) in [(SSE, events(&documents)), (FRAMES, chunks(&documents))] {
        let used: Vec<Tokens> = followed(kind, [&*body], &ASKED).into_iter().map(|(_, tokens)| tokens).collect();
        let of = |output| Tokens { input: 25, cache_read: 7, output, ..Tokens::default() };
        assert_eq!(used, [of(1), of(2), of(3), of(9)], "{kind}");
    }
}

#[test]
fn a_stream_that_has_told_all_is_over() {
    let mut meter = meter(FRAMES, &[]);
    let body = converse(&[DELTA]);
    let mut over = Vec::new();
    let mut rest = &body[..];
    while let Some(length) = meter.read_event(rest, Duration::ZERO) {
        over.push(meter.is_over());
        rest = &rest[length..];
        if rest.is_empty() {
            break;
        }
    }
    assert_eq!(over, [false, false, false, true]);
}

#[test]
fn an_event_ends_behind_its_blank_line_whatever_ends_its_lines() {
    for (body, ends) in [
        ("data: {}\n\ndata: {}\n\n", &[10, 20][..]),
        ("data: {}\r\n\r\ndata: {}\r\n\r\n", &[12, 24]),
        // The last may go on with a line feed.
        ("data: {}\r\rdata: {}\r\r", &[10]),
        (": ping\n\nevent: a\ndata: {}\n\n", &[8, 27]),
    ] {
        for size in 1..=body.len() {
            let found: Vec<usize> = followed(SSE, body.as_bytes().chunks(size), &ASKED).into_iter().map(|(end, _)| end).collect();
            assert_eq!(found, ends, "{body:?} by {size}");
        }
    }
}

#[test]
fn what_is_no_stream_that_can_be_read_has_no_end_and_no_exception() {
    let body = converse(&[DELTA]);
    for (kind, headers) in [(JSON, &[][..]), ("", &[]), (FRAMES, &[("content-encoding", "gzip")])] {
        let mut meter = meter(kind, headers);
        assert_eq!(meter.read_event(&body, Duration::ZERO), None, "{kind}");
        assert_eq!(meter.exception(Ending::Spent, "enough"), None, "{kind}");
    }
    let mut broken = body.clone();
    broken[9] ^= 1;
    assert_eq!(meter(FRAMES, &[]).read_event(&broken, Duration::ZERO), None);
}

#[test]
fn an_exception_is_decoded_by_the_sdk_whatever_its_message() {
    let long = "é".repeat(5_000);
    for message in ["enough", "with \"quotes\" and\nlines", &long, ""] {
        let frame = meter(FRAMES, &[]).exception(Ending::Spent, message).unwrap();
        let decoded = read_message_from(frame).unwrap();
        let json: serde_json::Value = serde_json::from_slice(decoded.payload()).unwrap();
        assert!(message.starts_with(json["message"].as_str().unwrap()));
        let names: Vec<_> = decoded.headers().iter().map(|header| header.name().as_str()).collect();
        assert_eq!(names, [":exception-type", ":content-type", ":message-type"]);
        let event = meter(SSE, &[]).exception(Ending::Spent, message).unwrap();
        let event = std::str::from_utf8(&event).unwrap();
        assert!(event.ends_with("\n\n") && event.lines().count() == 3, "{event}");
    }
}

#[test]
fn what_was_used_when_a_limit_ended_the_stream_is_what_the_limit_counted() {
    let body = converse(&[LONG, DELTA, LONG]);
    let ends = followed(FRAMES, [&*body], &ASKED);
    let mut meter = meter(FRAMES, &[]);
    meter.read(&body[..ends[3].0], Duration::ZERO);
    assert_eq!(meter.measured(Some(&ASKED), Ended::Cut).usage.unwrap().tokens, ends[3].1);
    assert!(meter.measured(Some(&ASKED), Ended::Early).usage.unwrap().tokens.output > ends[3].1.output);
}

#[test]
fn bytes_of_another_coding_or_kind_are_opaque_and_what_tells_nothing_is_not() {
    let of = |kind, headers: &[_], body: &[u8], ended| {
        let mut meter = meter(kind, headers);
        meter.read(body, Duration::ZERO);
        meter.measured(Some(&ASKED), ended).opaque
    };
    let gzip = [("content-encoding", "gzip")];
    for (kind, body) in [(FRAMES, &b"\x1f\x8b"[..]), (SSE, b"\x1f\x8b"), (JSON, b"\x1f\x8b")] {
        assert!(of(kind, &gzip, body, Ended::Whole) && of(kind, &gzip, body, Ended::Early), "{kind}");
    }
    assert!(of("image/png", &[], b"\x89PNG", Ended::Whole));
    assert!(of(FRAMES, &[], &[7; 40], Ended::Whole), "out of step");
    let told = [("content-encoding", "gzip"), ("x-amzn-bedrock-input-token-count", "3"), ("x-amzn-bedrock-output-token-count", "4")];
    assert!(!of(JSON, &told, b"\x1f\x8b", Ended::Whole), "its head told");
    assert!(!of(JSON, &[], br#"{"inputTokens":5}"#, Ended::Whole), "it counts tokens");
    assert!(!of(JSON, &[], br#"{"images":[]}"#, Ended::Whole));
    assert!(!of(JSON, &[], b"", Ended::Whole));
    assert!(!of(FRAMES, &[], &converse(&[DELTA]), Ended::Whole));
    assert!(!meter(FRAMES, &gzip).measured(None, Ended::Whole).opaque, "no model was asked");
}

proptest! {
    #[test]
    fn any_split_is_cut_at_the_same_byte(sizes in prop::collection::vec(1_usize..90, 1..12), most in 0_u64..60) {
        for answer in shapes::all().into_iter().filter(|answer| [FRAMES, SSE].contains(&answer.kind) && answer.headers.is_empty()) {
            let whole = cut(answer.kind, [&*answer.body], most);
            prop_assert_eq!(&cut(answer.kind, split(&answer.body, &sizes), most), &whole, "{}", answer.name);
            if answer.kind == FRAMES {
                let mut rest = Bytes::from(whole);
                while !rest.is_empty() {
                    prop_assert!(read_message_from(&mut rest).is_ok(), "{}", answer.name);
                }
            }
        }
    }
}
