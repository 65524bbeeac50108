//! What is billed: what the model generated, no more.

use http_body_util::BodyExt as _;

use super::*;

const STREAM: &str = "/model/anthropic.claude/converse-stream";
const UNARY: &str = "/model/anthropic.claude/converse";
/// What [`CONVERSE`] costs whole.
const WHOLE: Usage = Usage { input: 3, output: 4, cache_read: 0, cache_write_5m: 0, cache_write_1h: 0 };

/// Every streaming API: its path, a body that asks `one two three`, and how many events come before the first token.
const STREAMS: [(&str, &str, usize); 6] = [
    (STREAM, CONVERSE, 1),
    (
        "/model/anthropic.claude/invoke-with-response-stream",
        r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens":9,"messages":[{"role":"user","content":"one two three"}]}"#,
        2,
    ),
    (
        "/v1/chat/completions",
        r#"{"model":"anthropic.claude","stream":true,"stream_options":{"include_usage":true},"messages":[{"content":"one two three"}]}"#,
        1,
    ),
    ("/openai/v1/responses", r#"{"model":"anthropic.claude","stream":true,"input":"one two three"}"#, 4),
    (
        "/anthropic/v1/messages",
        r#"{"model":"anthropic.claude","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"one two three"}]}"#,
        2,
    ),
    (
        "/harnesses/invoke?harnessArn=x",
        r#"{"messages":[{"role":"user","content":[{"text":"one two three"}]}],"model":{"bedrockModelConfig":{"modelId":"anthropic.claude"}}}"#,
        1,
    ),
];

fn output(output: u64) -> Usage {
    Usage { output, ..WHOLE }
}

fn sum(bills: &[Bill]) -> Usage {
    let mut sum = Usage::default();
    for bill in bills {
        sum.add(bill.usage);
    }
    sum
}

/// Asks, and waits until the emulator knows how it ended; an error on the way is part of it.
async fn asked_to_its_end(emulator: &Emulator, target: &str, fault: &str, body: &str) -> (Option<Answered>, Outcome) {
    let before = emulator.requests().len();
    let answer = ask(emulator, target, fault, body).await.ok();
    let ended = |all: &[SeenRequest]| all.len() > before && all[before].outcome != Outcome::Open;
    let all = emulator.requests_until(ended).await;
    (answer, all[before].outcome)
}

#[tokio::test]
async fn an_answer_that_went_out_whole_costs_what_it_reports_and_is_found_by_its_request_id() {
    let emulator = emulator().await;
    for (at, (target, body, _)) in STREAMS.into_iter().chain([(UNARY, CONVERSE, 0)]).enumerate() {
        let (answer, outcome) = asked_to_its_end(&emulator, target, "", body).await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, outcome), (200, Outcome::Completed), "{target}");
        let bills = emulator.bills();
        let bill = bills.iter().find(|bill| answer.head.contains(&format!("x-amzn-requestid: {}\r\n", bill.request_id))).unwrap();
        assert_eq!((bill.usage, bill.whole, bill.ended), (WHOLE, true, true), "{target}");
        assert_eq!((bill.model.as_str(), bills.len()), ("anthropic.claude", at + 1), "{target}");
    }
    let operations: Vec<_> = emulator.bills().iter().map(|bill| bill.operation).collect();
    assert_eq!(
        operations,
        ["ConverseStream", "InvokeModelWithResponseStream", "ChatCompletions", "Responses", "Messages", "InvokeHarness", "Converse"]
    );
    assert_eq!(emulator.bill()["anthropic.claude"], Billed { calls: 7, usage: sum(&emulator.bills()) });
}

#[tokio::test]
async fn a_stream_that_a_fault_cuts_costs_the_tokens_that_had_gone_out() {
    let emulator = emulator().await;
    for (target, body, lead) in STREAMS {
        for tokens in 0..=4 {
            let place = if tokens % 2 == 0 { "cut-mid-frame" } else { "close-between-frames" };
            let fault = format!("{place}-{}", lead + tokens);
            let (_, outcome) = asked_to_its_end(&emulator, target, &fault, body).await;
            let bill = emulator.bills().pop().unwrap();
            let wanted = output(u64::try_from(tokens).unwrap());
            assert_eq!((outcome, bill.usage, bill.whole, bill.ended), (Outcome::Broken, wanted, false, true), "{target} {fault}");
        }
    }
    assert_eq!(emulator.bill()["anthropic.claude"], Billed { calls: 30, usage: sum(&emulator.bills()) });
}

#[tokio::test]
async fn a_stream_whose_reader_leaves_costs_what_was_generated_until_then() {
    let emulator = emulator().await;
    for (released, wanted) in [(0, 0), (1, 0), (3, 2), (6, 4)] {
        let mut peer = Peer::to(&emulator).await;
        peer.0.write_all(signed("POST", STREAM, &[("x-emulator-fault", "gated")], CONVERSE).as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(peer.0.read_u8().await.unwrap());
        }
        emulator.release(released);
        for _ in 0..released {
            peer.chunk().await.unwrap().unwrap();
        }
        let running = emulator.bills().pop().unwrap();
        assert_eq!((running.usage, running.whole, running.ended), (output(wanted), false, false), "{released} events");
        drop(peer);
        emulator.requests_until(|all| all.last().is_some_and(|last| last.outcome == Outcome::PeerLeft)).await;
        assert_eq!(emulator.bills().pop().unwrap(), Bill { ended: true, ..running }, "{released} events");
    }
    assert_eq!(emulator.bill()["anthropic.claude"], Billed { calls: 4, usage: Usage { input: 12, output: 6, ..Usage::default() } });
}

#[tokio::test]
async fn a_stream_that_is_reset_on_http2_costs_what_was_generated_until_then() {
    let emulator = Emulator::start(Options { verify: false, ..Options::default() }).await.unwrap();
    let (client, mut request) = watching::http2(&format!("http://{}{STREAM}", emulator.address()));
    *request.body_mut() = CONVERSE.into();
    request.headers_mut().insert("x-emulator-fault", "gated".parse().unwrap());
    let mut answer = client.request(request).await.unwrap();
    emulator.release(3);
    for _ in 0..3 {
        answer.body_mut().frame().await.unwrap().unwrap();
    }
    drop(answer);
    emulator.requests_until(|all| all[0].outcome == Outcome::PeerLeft).await;
    let bill = emulator.bills().pop().unwrap();
    assert_eq!((bill.usage, bill.whole, bill.ended), (output(2), false, true));
}

#[tokio::test]
async fn a_bill_is_whole_once_the_usage_has_gone_out_though_the_stream_ends_later() {
    let emulator = emulator().await;
    // Messages: `message_stop` follows the usage; chat: `[DONE]` does.
    for (target, body, lead) in [STREAMS[4], STREAMS[2]] {
        let usage_at = lead + 5;
        for (events, whole) in [(usage_at, false), (usage_at + 1, true)] {
            asked_to_its_end(&emulator, target, &format!("close-between-frames-{events}"), body).await;
            let bill = emulator.bills().pop().unwrap();
            assert_eq!((bill.usage, bill.whole), (WHOLE, whole), "{target} after {events}");
        }
    }
}

#[tokio::test]
async fn a_usage_that_was_set_is_billed_in_parts_and_its_input_and_cache_at_once() {
    let emulator = emulator().await;
    let cost = |output| Usage { input: 100, output, cache_read: 30, cache_write_5m: 20, cache_write_1h: 10 };
    for (fault, wanted) in [
        ("usage-100-50-30-20-10", cost(50)),
        ("usage-100-50-30-20-10,cut-mid-frame-0", cost(0)),
        ("usage-100-50-30-20-10,cut-mid-frame-2", cost(12)),
        ("usage-100-50-30-20-10,no-usage", cost(50)),
    ] {
        asked_to_its_end(&emulator, STREAM, fault, CONVERSE).await;
        assert_eq!(emulator.bills().pop().unwrap().usage, wanted, "{fault}");
    }
}

#[tokio::test]
async fn an_unstreamed_answer_is_billed_in_full_even_where_it_is_cut() {
    let emulator = emulator().await;
    asked_to_its_end(&emulator, UNARY, "cut-mid-frame", CONVERSE).await;
    let bill = emulator.bills().pop().unwrap();
    assert_eq!((bill.usage, bill.whole, bill.ended), (WHOLE, false, true));
}

#[tokio::test]
async fn an_exception_in_the_stream_ends_the_bill_where_it_stands() {
    let emulator = emulator().await;
    for (fault, wanted) in [("exception-throttlingException", 0), ("error-frame-3", 2)] {
        let (_, outcome) = asked_to_its_end(&emulator, STREAM, fault, CONVERSE).await;
        let bill = emulator.bills().pop().unwrap();
        assert_eq!((outcome, bill.usage, bill.whole, bill.ended), (Outcome::Completed, output(wanted), false, true), "{fault}");
    }
}

#[tokio::test]
async fn what_was_refused_never_answered_or_costs_nothing_is_on_no_bill() {
    let emulator = emulator().await;
    for fault in ["429", "early-413", "close", "reset"] {
        asked_to_its_end(&emulator, UNARY, fault, CONVERSE).await;
    }
    asked_to_its_end(&emulator, UNARY, "", "{}").await;
    asked_to_its_end(&emulator, "/anthropic/v1/messages/count_tokens", "", STREAMS[4].1).await;
    asked_to_its_end(&emulator, "/knowledgebases/K/retrieve", "", r#"{"retrievalQuery":{"text":"one"}}"#).await;
    assert_eq!((emulator.bills(), emulator.bill().len()), (Vec::new(), 0));
}

#[tokio::test]
async fn split_events_and_a_wrong_checksum_are_billed_as_whole_ones() {
    let emulator = emulator().await;
    for fault in ["split-7", "bad-crc", "content-length"] {
        asked_to_its_end(&emulator, STREAM, fault, CONVERSE).await;
        let bill = emulator.bills().pop().unwrap();
        assert_eq!((bill.usage, bill.whole), (WHOLE, true), "{fault}");
    }
    // Half of the second delta: the first counts, the second doesn't.
    asked_to_its_end(&emulator, STREAM, "split-7,cut-mid-frame-2", CONVERSE).await;
    assert_eq!(emulator.bills().pop().unwrap().usage, output(1));
}
