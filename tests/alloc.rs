//! What the hot path allocates. A binary of its own, for the allocator that counts is the process's.

#![cfg(test)]

use std::alloc::System;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tollgate::domain::Asked;
use tollgate::emulator::eventstream;
use tollgate::reply::{Ended, Meter};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The fewest allocations that a run of `work` made: the test harness has a thread of its own, which may allocate meanwhile.
fn allocations(mut work: impl FnMut()) -> usize {
    let run = |work: &mut dyn FnMut()| {
        let region = Region::new(ALLOCATOR);
        work();
        let change = region.change();
        change.allocations + change.reallocations
    };
    (0..5).map(|_| run(&mut work)).min().unwrap()
}

fn meter(kind: &'static str) -> Meter {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(kind));
    Meter::begin(200, &headers)
}

/// One test: two at once would count each other's.
#[test]
fn reading_an_answer_and_weighing_a_body_allocate_nothing() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1_u8]))) > 0, "the counter does not count");

    let delta =
        eventstream::event("contentBlockDelta", br#"{"contentBlockIndex":0,"delta":{"text":"hello \u00fc \"you\""},"p":"abcdefgh"}"#);
    let step = br#"{"trace":{"orchestrationTrace":{"modelInvocationOutput":{"metadata":{"usage":{"inputTokens":1,"outputTokens":2}}}}}}"#;
    let metadata =
        br#"{"usage":{"inputTokens":1,"outputTokens":2,"cacheDetails":[{"ttl":"1h","inputTokens":3}]},"serviceTier":{"type":"flex"}}"#;
    let chunk = br#"{"bytes":"eyJ0eXBlIjoiY29udGVudF9ibG9ja19kZWx0YSIsImRlbHRhIjp7InRleHQiOiJoaSJ9fQ==","p":"abc"}"#;
    let frames = [
        ("deltas", delta),
        ("steps", eventstream::event("trace", step)),
        ("metadata", eventstream::event("metadata", metadata)),
        ("chunks", eventstream::event("chunk", chunk)),
        ("exceptions", eventstream::exception("throttlingException", b"{\"message\":\"m\"}")),
        ("garbage", Bytes::from_static(&[0xff; 300])),
    ];
    for (name, frame) in frames {
        for size in [1, 7, frame.len()] {
            let mut meter = meter("application/vnd.amazon.eventstream");
            let read = || {
                for piece in frame.chunks(size).cycle().take(1_000) {
                    meter.read(piece, Duration::from_millis(5));
                }
            };
            assert_eq!(allocations(read), 0, "{name} in pieces of {size}");
            assert_eq!(allocations(|| assert!(meter.measured(Some(&Asked::default()), Ended::Early).streamed)), 0, "{name}, measured");
        }
    }

    let event = b"event: x\ndata: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}],\"usage\":null}\n\n";
    let mut sse = meter("text/event-stream");
    assert_eq!(allocations(|| (0..1_000).for_each(|_| sse.read(event, Duration::ZERO))), 0, "server-sent events");

    let body = br#"{"output":{"message":{"content":[{"text":"hello"}]}},"usage":{"inputTokens":1,"outputTokens":2}}"#;
    let mut json = meter("application/json");
    assert_eq!(allocations(|| json.read(body, Duration::ZERO)), 0, "a body");
    assert!(json.measured(None, Ended::Whole).usage.is_some());

    let asks = br#"{"messages":[{"role":"user","content":[{"text":"hello"}]}],"inferenceConfig":{"maxTokens":5}}"#;
    let call = tollgate::call::read(&http::HeaderMap::new(), None, "/model/amazon.nova-lite-v1:0/converse", "").expect("a call");
    assert_eq!(allocations(|| assert_eq!(tollgate::call::weigh(&call, asks).max_tokens, Some(5))), 0, "weighing");
}
