//! Faults, seen from a socket.

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use bytes::BytesMut;

use super::*;

const STREAM: &str = "/model/anthropic.claude/converse-stream";
const UNARY: &str = "/model/anthropic.claude/converse";

/// The types of the events or exceptions in a body, by the SDK's decoder; what is left over at the end is counted, in bytes.
fn kinds(body: &[u8]) -> (Vec<String>, usize) {
    let mut kinds = Vec::new();
    let mut decoder = MessageFrameDecoder::new();
    let mut bytes = BytesMut::from(body);
    loop {
        let whole = bytes.clone();
        match decoder.decode_frame(&mut bytes).unwrap() {
            DecodedFrame::Complete(message) => {
                let kind = message
                    .headers()
                    .iter()
                    .find(|header| [":event-type", ":exception-type", ":error-code"].contains(&header.name().as_str()));
                kinds.push(kind.unwrap().value().as_string().unwrap().as_str().to_owned());
            }
            DecodedFrame::Incomplete => return (kinds, whole.len()),
        }
    }
}

/// What arrives until the connection ends, and how it ends.
async fn until_the_end(emulator: &Emulator, target: &str, fault: &str) -> (Vec<u8>, std::io::Result<usize>) {
    let mut peer = Peer::to(emulator).await;
    peer.0.write_all(signed("POST", target, &[("x-emulator-fault", fault)], CONVERSE).as_bytes()).await.unwrap();
    let mut got = Vec::new();
    let end = loop {
        match peer.0.read_buf(&mut got).await {
            Ok(0) => break Ok(0),
            Ok(_) => {}
            Err(e) => break Err(e),
        }
    };
    (got, end)
}

#[tokio::test]
async fn a_status_is_answered_in_aws_shape_always_or_so_many_times() {
    let emulator = emulator().await;
    for (status, kind) in
        [(429, "ThrottlingException"), (500, "InternalServerException"), (503, "ServiceUnavailableException"), (424, "ModelErrorException")]
    {
        let answer = ask(&emulator, UNARY, &status.to_string(), CONVERSE).await.unwrap();
        assert_eq!(answer.status, status);
        assert!(answer.head.contains(&format!("x-amzn-errortype: {kind}\r\n")), "{}", answer.head);
        assert_eq!(answer.json()["__type"], kind);
    }
    for wanted in [429, 429, 200, 429, 429, 200] {
        assert_eq!(ask(&emulator, UNARY, "429-twice", CONVERSE).await.unwrap().status, wanted);
    }
    for (invocation, wanted) in [("a", 503), ("b", 503), ("a", 200), ("b", 200)] {
        let extra = [("x-emulator-fault", "503-once"), ("amz-sdk-invocation-id", invocation)];
        assert_eq!(Peer::to(&emulator).await.ask(&signed("POST", UNARY, &extra, CONVERSE)).await.unwrap().status, wanted);
    }
}

#[tokio::test]
async fn a_fault_is_asked_for_by_model_id_and_by_the_test_itself() {
    let emulator = emulator().await;
    assert_eq!(ask(&emulator, "/model/emulator.503%3A0/converse", "", CONVERSE).await.unwrap().status, 503);
    let chat = r#"{"model":"openai.emulator.429","messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(ask(&emulator, "/openai/v1/chat/completions", "", chat).await.unwrap().status, 429);
    emulator.inject("500-once".parse().unwrap(), 2);
    emulator.inject(Fault::Early(413), 1);
    for wanted in [500, 500, 413, 200] {
        assert_eq!(ask(&emulator, UNARY, "", CONVERSE).await.unwrap().status, wanted);
    }
    let unknown = ask(&emulator, UNARY, "teapot", CONVERSE).await.unwrap();
    assert_eq!((unknown.status, unknown.head.contains("ValidationException")), (400, true));
}

#[tokio::test]
async fn a_cut_stream_is_reset_and_a_closed_one_ends_without_its_last_chunk() {
    let emulator = emulator().await;
    let whole = ask(&emulator, STREAM, "", CONVERSE).await.unwrap().body;
    let (kinds_of_whole, left) = kinds(&whole);
    assert_eq!(kinds_of_whole.len(), 8);
    assert_eq!((kinds_of_whole.first().unwrap().as_str(), kinds_of_whole.last().unwrap().as_str(), left), ("messageStart", "metadata", 0));

    let (bytes, end) = until_the_end(&emulator, STREAM, "cut-mid-frame").await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(String::from_utf8_lossy(&bytes).contains("contentBlockDelta"));
    let (_, end) = until_the_end(&emulator, UNARY, "cut-mid-frame").await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    let (bytes, end) = until_the_end(&emulator, STREAM, "close-between-frames-3").await;
    assert_eq!(end.unwrap(), 0);
    assert!(!bytes.ends_with(b"0\r\n\r\n"));

    let answer = ask(&emulator, STREAM, "eof-mid-frame-3", CONVERSE).await.unwrap();
    let (some, left) = kinds(&answer.body);
    assert_eq!((some.len(), left > 0), (3, true));
    let answer = ask(&emulator, STREAM, "eof-between-frames-0", CONVERSE).await.unwrap();
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn an_exception_is_the_first_event_or_a_later_one() {
    let emulator = emulator().await;
    let first = ask(&emulator, STREAM, "exception-throttlingException", CONVERSE).await.unwrap();
    assert_eq!(kinds(&first.body), (vec!["throttlingException".to_owned()], 0));
    let later = ask(&emulator, STREAM, "exception-modelStreamErrorException-2", CONVERSE).await.unwrap();
    assert_eq!(kinds(&later.body), (["messageStart", "contentBlockDelta", "modelStreamErrorException"].map(str::to_owned).to_vec(), 0));
    let error = ask(&emulator, STREAM, "error-frame", CONVERSE).await.unwrap();
    assert_eq!(kinds(&error.body), (vec!["InternalFailure".to_owned()], 0));
    let crc = ask(&emulator, STREAM, "bad-crc", CONVERSE).await.unwrap();
    let mut bytes = BytesMut::from(crc.body.as_slice());
    let mut decoder = MessageFrameDecoder::new();
    assert!(decoder.decode_frame(&mut bytes).is_ok());
    assert!(decoder.decode_frame(&mut bytes).is_err());
}

#[tokio::test]
async fn a_used_connection_is_closed_on_its_second_request_and_a_fresh_one_is_not() {
    let emulator = emulator().await;
    emulator.inject(Fault::CloseOnReuse, 1);
    let request = signed("POST", UNARY, &[], CONVERSE);
    let mut peer = Peer::to(&emulator).await;
    assert_eq!(peer.ask(&request).await.unwrap().status, 200);
    assert_eq!(peer.ask(&request).await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    let mut peer = Peer::to(&emulator).await;
    assert_eq!(peer.ask(&request).await.unwrap().status, 200);
    assert_eq!(peer.ask(&request).await.unwrap().status, 200);
    assert_eq!(emulator.connections(), 2);
    let outcomes: Vec<_> = emulator.requests().iter().map(|request| request.outcome).collect();
    assert_eq!(outcomes, [Outcome::Completed, Outcome::Broken, Outcome::Completed, Outcome::Completed]);
}

#[tokio::test]
async fn a_connection_ends_without_an_answer_by_fin_or_by_rst() {
    let emulator = emulator().await;
    let (bytes, end) = until_the_end(&emulator, UNARY, "close").await;
    assert_eq!((bytes.len(), end.unwrap()), (0, 0));
    let (bytes, end) = until_the_end(&emulator, UNARY, "reset").await;
    assert_eq!((bytes.len(), end.unwrap_err().kind()), (0, std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_connection_closed_after_the_answer_is_not_announced() {
    let emulator = emulator().await;
    for target in [UNARY, STREAM] {
        let (bytes, end) = until_the_end(&emulator, target, "close-after").await;
        assert_eq!(end.unwrap(), 0);
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        assert!(text.starts_with("http/1.1 200") && !text.contains("connection: close"), "{text}");
        assert!(target == UNARY || bytes.ends_with(b"0\r\n\r\n"));
    }
}

#[tokio::test]
async fn hints_come_before_the_answer_and_an_early_status_before_the_body() {
    let emulator = emulator().await;
    let mut peer = Peer::to(&emulator).await;
    let hints = peer.ask(&signed("POST", UNARY, &[("x-emulator-fault", "early-hints")], CONVERSE)).await.unwrap();
    assert_eq!(hints.status, 103);
    assert_eq!(peer.ask("").await.unwrap().status, 200);

    let mut peer = Peer::to(&emulator).await;
    let head = "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\nx-emulator-fault: early-413\r\n\r\n";
    assert_eq!(peer.ask(head).await.unwrap().status, 413);
}

#[tokio::test]
async fn a_stream_is_framed_by_its_length_or_in_small_pieces_on_request() {
    let emulator = emulator().await;
    let plain = ask(&emulator, STREAM, "", CONVERSE).await.unwrap();
    assert!(plain.head.contains("transfer-encoding: chunked"));
    let framed = ask(&emulator, STREAM, "content-length,gated", CONVERSE);
    emulator.release(8);
    let framed = framed.await.unwrap();
    assert!(framed.head.contains(&format!("content-length: {}\r\n", plain.body.len())));
    let split = ask(&emulator, STREAM, "split-7", CONVERSE).await.unwrap();
    assert!(plain.body == framed.body && plain.body == split.body);
}

#[tokio::test]
async fn a_gated_stream_emits_an_event_for_each_release_and_no_more() {
    let emulator = emulator().await;
    let mut peer = Peer::to(&emulator).await;
    let request = signed("POST", STREAM, &[("x-emulator-fault", "gated")], CONVERSE);
    peer.0.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(peer.0.read_u8().await.unwrap());
    }
    for kind in ["messageStart", "contentBlockDelta", "contentBlockDelta"] {
        let mut nothing = [0];
        assert_eq!(peer.0.try_read(&mut nothing).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        emulator.release(1);
        let chunk = peer.chunk().await.unwrap().unwrap();
        assert_eq!(kinds(&chunk), (vec![kind.to_owned()], 0));
    }
}

#[tokio::test(start_paused = true)]
async fn slowness_takes_the_time_that_was_asked_for() {
    let emulator = emulator().await;
    let start = tokio::time::Instant::now();
    ask(&emulator, STREAM, "slow-first-byte-5000,slow-events-1000", CONVERSE).await.unwrap();
    let took = start.elapsed().as_secs();
    assert!((13..14).contains(&took), "{took}");
}

#[tokio::test]
async fn a_stalled_stream_and_a_hanging_call_wait_until_the_peer_leaves() {
    let emulator = emulator().await;
    for (fault, target) in [("stall-1", STREAM), ("hang", UNARY)] {
        let mut peer = Peer::to(&emulator).await;
        peer.0.write_all(signed("POST", target, &[("x-emulator-fault", fault)], CONVERSE).as_bytes()).await.unwrap();
        if fault == "stall-1" {
            peer.0.read_u8().await.unwrap();
        } else {
            emulator.requests_until(|all| all.last().is_some_and(|last| last.body.is_some())).await;
        }
        drop(peer);
        emulator.requests_until(|all| all.last().is_some_and(|last| last.outcome == Outcome::PeerLeft)).await;
    }
}

#[tokio::test]
async fn the_answers_length_and_its_usage_can_be_set() {
    let emulator = emulator().await;
    let words = ask(&emulator, UNARY, "words-500,usage-100-50-30-20-10", CONVERSE).await.unwrap().json();
    assert_eq!(words["output"]["message"]["content"][0]["text"].as_str().unwrap().split(' ').count(), 500);
    let usage = serde_json::json!({
        "inputTokens": 100, "outputTokens": 50, "totalTokens": 210, "cacheReadInputTokens": 30, "cacheWriteInputTokens": 30,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 20}, {"ttl": "1h", "inputTokens": 10}],
    });
    assert_eq!(words["usage"], usage);
    assert_eq!(ask(&emulator, UNARY, "no-usage", CONVERSE).await.unwrap().json().get("usage"), None);
    assert!(ask(&emulator, UNARY, "huge-3", CONVERSE).await.unwrap().body.len() > 3 * 1024 * 1024);
}
