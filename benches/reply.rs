//! Reading what an answer used, an event at a time, and weighing what a request asks for: at most 1 us an event is the aim, and 1.5 us for 1.5 KB.
#![expect(clippy::expect_used, reason = "a bench that can't be set up has nothing to tell")]

use std::hint::black_box;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use criterion::Criterion;
use http::{HeaderMap, HeaderValue};
use tollgate::domain::Asked;
use tollgate::emulator::eventstream;
use tollgate::reply::{Ended, Meter};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn meter(kind: &'static str) -> Meter {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(kind));
    Meter::begin(200, &headers)
}

fn events() -> [(&'static str, Bytes); 4] {
    let delta = br#"{"contentBlockIndex":0,"delta":{"text":" a few words of it"},"p":"abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"}"#;
    let metadata = br#"{"metrics":{"latencyMs":1321},"p":"abcdefgh","usage":{"cacheDetails":[{"inputTokens":20,"ttl":"5m"}],"cacheReadInputTokens":100,"cacheWriteInputTokens":20,"inputTokens":12,"outputTokens":500,"totalTokens":632}}"#;
    let inner = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" a few words of it"}}"#;
    let last = r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":10,"outputTokenCount":15,"invocationLatency":1798,"firstByteLatency":1507}}"#;
    let chunk = |inner: &str| {
        let payload = format!(r#"{{"bytes":"{}","p":"abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"}}"#, BASE64_STANDARD.encode(inner));
        eventstream::event("chunk", payload.as_bytes())
    };
    [
        ("reply/a delta of ConverseStream", eventstream::event("contentBlockDelta", delta)),
        ("reply/its metadata", eventstream::event("metadata", metadata)),
        ("reply/a chunk of InvokeModel", chunk(inner)),
        ("reply/its last chunk", chunk(last)),
    ]
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, event) in events() {
        let mut meter = meter("application/vnd.amazon.eventstream");
        criterion.bench_function(name, |bench| bench.iter(|| meter.read(black_box(&event), Duration::from_millis(5))));
        assert!(meter.measured(Some(&Asked::default()), Ended::Early).usage.is_some(), "nothing was read");
    }

    let sse = b"data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1768480496,\"model\":\"openai.gpt-oss-20b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" a few words of it\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
    let mut events = meter("text/event-stream");
    criterion.bench_function("reply/a server-sent event", |bench| bench.iter(|| events.read(black_box(sse), Duration::from_millis(5))));

    let text = "All the words that a model says. ".repeat(40);
    let body = format!(
        r#"{{"metrics":{{"latencyMs":321}},"output":{{"message":{{"content":[{{"text":"{text}"}}],"role":"assistant"}}}},"stopReason":"end_turn","usage":{{"inputTokens":12,"outputTokens":500,"totalTokens":512}}}}"#
    );
    criterion.bench_function("reply/a body of Converse, 1.5 KB, from head to usage", |bench| {
        bench.iter(|| {
            let mut meter = meter("application/json");
            meter.read(black_box(body.as_bytes()), Duration::from_millis(5));
            meter.measured(None, Ended::Whole).usage.expect("usage")
        });
    });

    for (name, messages) in [("weigh/1.5 KB", 15), ("weigh/100 KB", 1_000)] {
        let message = r#"{"role":"user","content":[{"text":"A question, or an answer that was given, and so on."}]}"#;
        let request = format!(r#"{{"messages":[{}],"inferenceConfig":{{"maxTokens":512}}}}"#, vec![message; messages].join(","));
        let call = tollgate::call::read(&http::HeaderMap::new(), None, "/model/anthropic.claude-v1%3A0/converse", "").expect("a call");
        assert_eq!(tollgate::call::weigh(&call, request.as_bytes()).max_tokens, Some(512));
        criterion.bench_function(name, |bench| bench.iter(|| tollgate::call::weigh(black_box(&call), black_box(request.as_bytes()))));
    }
    criterion.final_summary();
}
