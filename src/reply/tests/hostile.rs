//! What no honest upstream sends, and that frames are seen as AWS's own reader sees them.

use std::time::Duration;

use aws_smithy_eventstream::frame::{read_message_from, write_message_to};
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use proptest::prelude::*;

use super::super::Ended;
use super::{ASKED, FRAMES, JSON, SSE, chunks, estimated, events, frames, meter, read, reported, tokens};
use crate::emulator::eventstream;

const METADATA: &str = r#"{"usage":{"inputTokens":12,"outputTokens":5}}"#;

/// The usage that `body` tells, in front of metadata that tell 12 and 5.
fn before_metadata(body: &[u8]) -> Option<crate::domain::Usage> {
    let body = [body, &frames(&[("metadata", METADATA)])].concat();
    read(FRAMES, &body, Some(&ASKED), Ended::Whole).usage
}

/// A prelude with a good checksum.
fn prelude(total: u32, headers: u32) -> Vec<u8> {
    let mut prelude = [total.to_be_bytes(), headers.to_be_bytes()].concat();
    prelude.extend(crc32fast::hash(&prelude).to_be_bytes());
    prelude
}

#[test]
fn a_frame_of_absurd_length_ends_the_reading_and_no_more() {
    assert_eq!(before_metadata(b""), Some(reported(tokens(12, 5))));
    for (total, headers) in
        [(0, 0), (15, 0), (16, 1), (100, 90), (u32::MAX, 0), (25 * 1024 * 1024, 0), (20_000_000, 200_000), (16, u32::MAX)]
    {
        assert_eq!(before_metadata(&prelude(total, headers)), Some(estimated(10, 0)), "{total} {headers}");
    }
}

#[test]
fn a_prelude_whose_checksum_is_wrong_ends_the_reading() {
    let mut frame = frames(&[("messageStart", "{}")]);
    assert_eq!(before_metadata(&frame), Some(reported(tokens(12, 5))));
    for at in 0..12 {
        frame[at] ^= 1;
        assert_eq!(before_metadata(&frame), Some(estimated(10, 0)), "byte {at}");
        frame[at] ^= 1;
    }
}

#[test]
fn headers_that_make_no_sense_end_the_reading() {
    for headers in [&b"\x00\x07\x00\x00"[..], b"\x01a\x0a", b"\x01a\x07\x00\x05ab", b"\x05ab", b"\x01a", b"\x01a\x07\x00", b"\x01a\x08\x00"]
    {
        let length = u32::try_from(headers.len()).unwrap();
        let frame = [&prelude(length + 16, length)[..], headers, b"\0\0\0\0"].concat();
        assert_eq!(before_metadata(&frame), Some(estimated(10, 0)), "{headers:?}");
    }
}

#[test]
fn a_frame_without_headers_or_payload_is_passed_over() {
    let frame = [&prelude(16, 0)[..], b"\0\0\0\0"].concat();
    assert_eq!(before_metadata(&frame), Some(reported(tokens(12, 5))));
    assert_eq!(before_metadata(&eventstream::event("heartbeat", b"")), Some(reported(tokens(12, 5))));
}

#[test]
fn a_payload_of_megabytes_is_crossed_without_being_held() {
    let long = format!(r#"{{"contentBlockIndex":0,"delta":{{"text":"{}"}}}}"#, "x".repeat(4_000_000));
    assert_eq!(before_metadata(&frames(&[("contentBlockDelta", &long)])), Some(reported(tokens(12, 5))));
}

#[test]
fn json_of_any_depth_and_keys_of_any_length_are_passed_over() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let objects = format!("{}1{}", r#"{"usage":"#.repeat(5_000), "}".repeat(5_000));
    let key = "k".repeat(100_000);
    let body = format!(r#"{{"a":{deep},"b":{objects},"{key}":1,"\u0061":2,"usage":{{"inputTokens":1,"{key}":{{}},"outputTokens":2}}}}"#);
    assert_eq!(read(JSON, body.as_bytes(), Some(&ASKED), Ended::Whole).usage, Some(reported(tokens(1, 2))));
    assert_eq!(read(JSON, deep.as_bytes(), Some(&ASKED), Ended::Whole).usage, None);
}

#[test]
fn figures_that_are_none_are_not_believed() {
    for figure in ["-1", "1.5", "1e3", "null", "\"7\"", "true", "99999999999999999999999", "1000000000001", "[3]x"] {
        let body = format!(r#"{{"usage":{{"inputTokens":3,"outputTokens":{figure} }}}}"#);
        let usage = read(JSON, body.as_bytes(), Some(&ASKED), Ended::Whole).usage.unwrap();
        let expected = if figure == "[3]x" { 3 } else { 0 };
        assert_eq!(usage.tokens.output, expected, "{figure}");
    }
}

#[test]
fn brackets_that_do_not_match_end_a_document() {
    for body in [
        r#"{"a":[1},"usage":{"inputTokens":1,"outputTokens":2}}"#,
        r#"{}{"usage":{"inputTokens":1,"outputTokens":2}}"#,
        r#"[{"usage":{"inputTokens":1,"outputTokens":2}}]"#,
    ] {
        assert_eq!(read(JSON, body.as_bytes(), None, Ended::Whole).usage, None, "{body}");
    }
    // The next event is another document.
    let body = events(&[r#"{"a":[1}"#, r#"{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#]);
    assert_eq!(read(SSE, &body, Some(&ASKED), Ended::Whole).usage, Some(reported(tokens(1, 2))));
}

#[test]
fn base64_that_is_none_is_passed_over() {
    let bad = eventstream::event("chunk", br#"{"bytes":"!!!!{\n\\\"=","p":"a"}"#);
    let good = chunks(&[r#"{"amazon-bedrock-invocationMetrics":{"inputTokenCount":1,"outputTokenCount":2}}"#]);
    let body = [&bad[..], &good].concat();
    assert_eq!(read(FRAMES, &body, Some(&ASKED), Ended::Whole).usage, Some(reported(tokens(1, 2))));
    // Some writers escape the slash, which is a digit.
    let encoded = BASE64_STANDARD.encode(r#"{"a":"???>>>","amazon-bedrock-invocationMetrics":{"inputTokenCount":1,"outputTokenCount":2}}"#);
    assert!(encoded.contains('/'));
    let frame = eventstream::event("chunk", format!(r#"{{"bytes":"{}"}}"#, encoded.replace('/', "\\/")).as_bytes());
    assert_eq!(read(FRAMES, &frame, Some(&ASKED), Ended::Whole).usage, Some(reported(tokens(1, 2))));
}

/// A header of any type, none of those that say what a frame is.
fn header() -> impl Strategy<Value = Header> {
    let value = prop_oneof![
        any::<bool>().prop_map(HeaderValue::Bool),
        any::<i8>().prop_map(HeaderValue::Byte),
        any::<i16>().prop_map(HeaderValue::Int16),
        any::<i32>().prop_map(HeaderValue::Int32),
        any::<i64>().prop_map(HeaderValue::Int64),
        prop::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| HeaderValue::ByteArray(bytes.into())),
        "[ -~]{0,80}".prop_map(|text| HeaderValue::String(text.into())),
        (0_i64..4_000_000_000).prop_map(|seconds| HeaderValue::Timestamp(aws_smithy_types::DateTime::from_secs(seconds))),
        any::<u128>().prop_map(HeaderValue::Uuid),
    ];
    ("[a-z-]{1,60}", value).prop_map(|(name, value)| Header::new(name, value))
}

/// A message of an event stream: what it is, headers beside that, the tokens it tells, bytes to fill it up.
fn message() -> impl Strategy<Value = Message> {
    let names = prop::sample::select(vec![
        ("event", "trace"),
        ("event", "messageStart"),
        ("event", "flowTraceEvent"),
        ("event", "unheardOf"),
        ("exception", "trace"),
        ("event", "tracee"),
    ]);
    (names, prop::collection::vec(header(), 0..4), 1_u64..1_000, "[a-z\\\\\"\u{e9}]{0,200}", any::<bool>()).prop_map(
        |((message_type, event_type), mut headers, tokens, filling, first)| {
            let say = |name: &'static str, value: &'static str| Header::new(name, HeaderValue::String(value.into()));
            let place = if first { 0 } else { headers.len() };
            headers.insert(place, say(":event-type", event_type));
            headers.push(say(":message-type", message_type));
            let usage = serde_json::json!({"usage": {"inputTokens": tokens, "outputTokens": 1}});
            let step = serde_json::json!({"modelInvocationOutput": {"metadata": usage}, "a": filling});
            let payload = serde_json::json!({"filling": filling, "trace": {"orchestrationTrace": step}}).to_string();
            headers.into_iter().fold(Message::new(Bytes::from(payload)), Message::add_header)
        },
    )
}

/// The text of a header, as AWS's reader sees it.
fn said<'a>(message: &'a Message, name: &str) -> &'a str {
    let header = message.headers().iter().find(|header| header.name().as_str() == name).unwrap();
    header.value().as_string().unwrap().as_str()
}

proptest! {
    #[test]
    fn frames_are_seen_as_aws_own_reader_sees_them(messages in prop::collection::vec(message(), 1..8), size in 1_usize..300) {
        let mut body = Vec::new();
        for message in &messages {
            write_message_to(message, &mut body).unwrap();
        }
        let mut rest = Bytes::from(body.clone());
        let (mut input, mut output, mut failed) = (0, 0, false);
        while !rest.is_empty() {
            let message = read_message_from(&mut rest).unwrap();
            let is_event = said(&message, ":message-type") == "event";
            failed |= !is_event;
            if is_event && matches!(said(&message, ":event-type"), "trace" | "flowTraceEvent") {
                let payload: serde_json::Value = serde_json::from_slice(message.payload()).unwrap();
                input += payload["trace"]["orchestrationTrace"]["modelInvocationOutput"]["metadata"]["usage"]["inputTokens"].as_u64().unwrap();
                output += 1;
            }
        }
        let mut meter = meter(FRAMES, &[]);
        body.chunks(size).for_each(|piece| meter.read(piece, Duration::ZERO));
        let measured = meter.measured(None, Ended::Whole);
        prop_assert_eq!(measured.failed, failed);
        prop_assert_eq!(measured.usage.map(|usage| usage.tokens), (output > 0).then_some(tokens(input, output)));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1_usize..40) {
        for kind in [JSON, SSE, FRAMES, ""] {
            let mut meter = meter(kind, &[]);
            bytes.chunks(size).for_each(|piece| meter.read(piece, Duration::ZERO));
            let _ = meter.measured(Some(&ASKED), Ended::Early);
        }
    }

    #[test]
    fn a_changed_byte_panics_nothing(at in 0_usize..10_000, byte in any::<u8>()) {
        for answer in super::shapes::all() {
            let mut body = answer.body.clone();
            if !body.is_empty() {
                let at = at % body.len();
                body[at] = byte;
            }
            answer.measured([&*body], Ended::Whole);
        }
    }

    #[test]
    fn text_is_counted_as_serde_decodes_it_or_more(text in "\\PC{0,60}") {
        let body = serde_json::json!({"outputs": [{"text": text}]}).to_string();
        let usage = read(JSON, body.as_bytes(), Some(&ASKED), Ended::Whole).usage;
        let counted = usage.map_or(0, |usage| usage.tokens.output);
        prop_assert!(counted >= text.len() as u64, "{} < {}", counted, text.len());
    }
}
