use super::*;

#[tokio::test]
async fn a_signed_converse_call_is_echoed_with_its_usage() {
    let emulator = emulator().await;
    let answer = ask(&emulator, "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse", "", CONVERSE).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["output"]["message"]["content"][0]["text"], "echo: one two three");
    assert_eq!(body["usage"]["inputTokens"], 3);
    assert_eq!(body["usage"]["outputTokens"], 4);
    let billed = emulator.bill()["anthropic.claude-3-haiku-20240307-v1:0"];
    assert_eq!(billed, Billed { calls: 1, usage: Usage { input: 3, output: 4, ..Usage::default() } });
}
