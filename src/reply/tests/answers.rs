//! Estimates, times, and what counts for nothing.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::super::{Ended, Meter};
use super::{ASKED, FRAMES, JSON, SSE, chunks, estimated, events, frames, meter, read, reported, shapes, tokens};
use crate::domain::{Asked, Basis, Tokens, Usage};
use crate::emulator::eventstream;

const DELTA: &str = r#"{"contentBlockIndex":0,"delta":{"text":"four"},"p":"abcd"}"#;
const METADATA: &str = r#"{"usage":{"inputTokens":12,"outputTokens":5,"totalTokens":17},"metrics":{"latencyMs":1}}"#;

fn deltas(count: usize) -> Vec<u8> {
    frames(&[&[("messageStart", r#"{"role":"assistant"}"#)][..], &[("contentBlockDelta", DELTA)].repeat(count)].concat())
}

fn is_send<T: Send>() {}

#[test]
fn a_meter_is_small_where_nothing_is_read() {
    assert!(size_of::<Meter>() <= 56, "{}", size_of::<Meter>());
    assert!(size_of::<super::super::Reading>() <= 1_280, "{}", size_of::<super::super::Reading>());
    is_send::<Meter>();
}

#[test]
fn a_refusal_uses_nothing_whatever_it_says() {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(JSON));
    headers.insert("x-amzn-bedrock-input-token-count", HeaderValue::from_static("5"));
    for status in [199, 300, 400, 429, 500] {
        let mut meter = Meter::begin(status, &headers);
        meter.read(br#"{"usage":{"inputTokens":1,"outputTokens":2}}"#, Duration::ZERO);
        assert_eq!(meter.measured(Some(&ASKED), Ended::Whole).usage, None, "{status}");
    }
    assert_eq!(Meter::default().measured(Some(&ASKED), Ended::Early).usage, None);
}

#[test]
fn a_stream_that_breaks_off_is_estimated_from_what_it_delivered() {
    for (count, most, output) in [(0, None, 0), (1, None, 4), (3, None, 12), (3, Some(7), 7), (3, Some(2), 3), (3, Some(100), 12)] {
        let asked = Asked { max_tokens: most, ..ASKED };
        let measured = read(FRAMES, &deltas(count), Some(&asked), Ended::Early);
        assert_eq!(measured.usage, Some(estimated(10, output)), "{count} {most:?}");
    }
}

#[test]
fn images_and_documents_are_estimated_too() {
    let asked = Asked { text_bytes: 31, media: 2, ..Asked::default() };
    assert_eq!(read(FRAMES, &deltas(1), Some(&asked), Ended::Early).usage, Some(estimated(11 + 3_200, 4)));
}

#[test]
fn an_estimate_keeps_what_was_told_before() {
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":25,"cache_read_input_tokens":7,"output_tokens":1}}}"#;
    let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#;
    let expected = Tokens { input: 25, cache_read: 7, output: 1 + 5 + 5, ..Tokens::default() };
    for (kind, body) in [(SSE, events(&[start, delta, delta])), (FRAMES, chunks(&[start, delta, delta]))] {
        for ended in [Ended::Early, Ended::Whole] {
            let usage = read(kind, &body, Some(&ASKED), ended).usage;
            assert_eq!(usage, Some(Usage { basis: Basis::Estimated, ..reported(expected) }), "{kind} {ended:?}");
        }
    }
}

#[test]
fn a_stream_that_told_its_usage_before_it_broke_off_is_reported() {
    let mut body = deltas(2);
    body.extend(frames(&[("metadata", METADATA)]));
    assert_eq!(read(FRAMES, &body, Some(&ASKED), Ended::Early).usage, Some(reported(tokens(12, 5))));
    let less = &body[..body.len() - 60];
    let usage = read(FRAMES, less, Some(&ASKED), Ended::Early).usage.unwrap();
    assert_eq!(usage.basis, Basis::Estimated);
}

#[test]
fn usage_that_comes_with_text_is_what_it_is_so_far() {
    let chunk = r#"{"choices":[{"delta":{"content":"hello"}}],"usage":{"prompt_tokens":9,"completion_tokens":3}}"#;
    let usage = read(SSE, &events(&[chunk]), Some(&ASKED), Ended::Early).usage;
    assert_eq!(usage, Some(estimated(9, 3)));
    assert_eq!(read(SSE, &events(&[chunk]), Some(&ASKED), Ended::Whole).usage, Some(reported(tokens(9, 3))));
}

#[test]
fn wherever_a_stream_is_cut_its_usage_is_at_least_what_was_delivered() {
    for answer in shapes::all().iter().filter(|answer| answer.kind != JSON && answer.usage.is_some_and(|usage| usage.tokens.output > 0)) {
        let mut before = 0;
        for at in 0..answer.body.len() {
            let measured = answer.measured([&answer.body[..at]], Ended::Early);
            let usage = measured.usage.unwrap_or(estimated(0, 0));
            if usage.basis == Basis::Estimated && !answer.name.contains("usage") {
                assert!(usage.tokens.output >= u64::from(measured.first_token.is_some()), "{} at {at}", answer.name);
                // Of an estimate, only a figure that is told makes less.
                assert!(usage.tokens.output >= before.min(1), "{} at {at}", answer.name);
            }
            before = usage.tokens.output;
        }
    }
}

#[test]
fn an_exception_before_anything_was_said_uses_nothing() {
    for failure in
        [eventstream::exception("throttlingException", b"{\"message\":\"slow down\"}"), eventstream::error("InternalFailure", "x")]
    {
        let measured = read(FRAMES, &failure, Some(&ASKED), Ended::Whole);
        assert!(measured.failed && measured.streamed);
        assert_eq!(measured.usage, None);
        let later = [&deltas(2)[..], &failure].concat();
        let measured = read(FRAMES, &later, Some(&ASKED), Ended::Whole);
        assert!(measured.failed);
        assert_eq!(measured.usage, Some(estimated(10, 8)));
    }
}

#[test]
fn an_answer_that_is_whole_and_tells_nothing_is_estimated_where_a_model_wrote_it() {
    let asked = |body: &str| read(JSON, body.as_bytes(), Some(&ASKED), Ended::Whole).usage;
    assert_eq!(asked(r#"{"outputs":[{"text":"hello"}]}"#), Some(estimated(10, 5)));
    assert_eq!(asked(r#"{"embeddings":[[0.5,0.25]]}"#), Some(estimated(10, 0)));
    assert_eq!(asked(r#"{"images":["iVBORw0KGgo="]}"#), None);
    assert_eq!(asked(r#"{"jobArn":"arn:aws:bedrock:us-east-1:1:job/x"}"#), None);
    let unasked = read(JSON, br#"{"outputs":[{"text":"hello"}]}"#, None, Ended::Whole).usage;
    assert_eq!(unasked, None);
}

#[test]
fn an_answer_that_breaks_off_before_it_says_anything_used_its_input() {
    for (kind, body) in [(JSON, &b""[..]), (JSON, b"{\"output\":{"), (FRAMES, b""), (SSE, b": hello\n")] {
        assert_eq!(read(kind, body, Some(&ASKED), Ended::Early).usage, Some(estimated(10, 0)), "{kind}");
        assert_eq!(read(kind, body, None, Ended::Early).usage, None, "{kind}");
    }
}

#[test]
fn a_tools_arguments_count_as_they_stand() {
    let body = r#"{"output":{"message":{"content":[{"toolUse":{"toolUseId":"x","name":"n","input":{"a":[1,"b"],"c":{"d":null}}}}]}}}"#;
    let written = r#"{"a":[1,"b"],"c":{"d":null}}"#.len() as u64;
    assert_eq!(read(JSON, body.as_bytes(), Some(&ASKED), Ended::Whole).usage, Some(estimated(10, written)));
    let string = r#"{"choices":[{"message":{"tool_calls":[{"function":{"name":"n","arguments":"{\"a\":1}"}}]}}]}"#;
    assert_eq!(read(JSON, string.as_bytes(), Some(&ASKED), Ended::Whole).usage, Some(estimated(10, 7)));
}

#[test]
fn what_a_model_was_given_is_not_what_it_said() {
    let body = r#"{"citation":{"retrievedReferences":[{"content":{"text":"a long document"}}]},"output":{"text":"ok"}}"#;
    assert_eq!(read(JSON, body.as_bytes(), Some(&ASKED), Ended::Whole).usage, Some(estimated(10, 2)));
}

#[test]
fn the_first_and_the_last_token_have_their_time() {
    let mut meter = meter(FRAMES, &[]);
    let at = Duration::from_millis;
    meter.read(&frames(&[("messageStart", r#"{"role":"assistant"}"#)]), at(10));
    meter.read(&frames(&[("contentBlockDelta", r#"{"delta":{"text":""}}"#)]), at(15));
    meter.read(&frames(&[("contentBlockDelta", DELTA)]), at(20));
    meter.read(&frames(&[("contentBlockDelta", DELTA)]), at(30));
    meter.read(&frames(&[("messageStop", r#"{"stopReason":"end_turn"}"#), ("metadata", METADATA)]), at(40));
    let measured = meter.measured(Some(&ASKED), Ended::Whole);
    assert_eq!((measured.first_token, measured.last_token), (Some(at(20)), Some(at(30))));
    assert!(measured.streamed && !measured.failed);
}

#[test]
fn an_answer_that_comes_as_a_whole_has_no_tokens_time() {
    let measured = read(JSON, br#"{"outputs":[{"text":"hello"}]}"#, Some(&ASKED), Ended::Whole);
    assert_eq!((measured.first_token, measured.last_token, measured.streamed), (None, None, false));
}

#[test]
fn a_compressed_answer_is_told_by_its_head_alone() {
    let headers = [("content-encoding", "gzip"), ("x-amzn-bedrock-input-token-count", "3"), ("x-amzn-bedrock-output-token-count", "4")];
    let mut meter = meter(JSON, &headers);
    meter.read(b"{\"usage\":{\"inputTokens\":99,\"outputTokens\":99}}", Duration::ZERO);
    assert_eq!(meter.measured(Some(&ASKED), Ended::Whole).usage, Some(reported(tokens(3, 4))));
}
