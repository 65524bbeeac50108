//! A stock SDK signs for the emulator and understands its answers.

use aws_sdk_bedrockruntime::Client;
use aws_sdk_bedrockruntime::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_bedrockruntime::primitives::Blob;
use aws_sdk_bedrockruntime::types::{
    ContentBlock, ConversationRole, ConverseStreamOutput, ConverseTokensRequest, CountTokensInput, GuardrailContentBlock,
    GuardrailContentSource, GuardrailTextBlock, Message, ResponseStream, StopReason,
};

use super::*;

const MODEL: &str = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-haiku-20240307-v1:0";

fn client(emulator: &Emulator) -> Client {
    let config = aws_sdk_bedrockruntime::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://{}", emulator.address()))
        .credentials_provider(Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None, None, "test"))
        .build();
    Client::from_conf(config)
}

fn message() -> Message {
    Message::builder().role(ConversationRole::User).content(ContentBlock::Text("one two three".to_owned())).build().unwrap()
}

#[tokio::test]
async fn converse_and_its_stream_are_understood() {
    let emulator = emulator().await;
    let client = client(&emulator);
    let whole = client.converse().model_id(MODEL).messages(message()).send().await.unwrap();
    assert_eq!(whole.stop_reason, StopReason::EndTurn);
    assert_eq!(whole.usage.unwrap().output_tokens, 4);
    assert_eq!(whole.output.unwrap().as_message().unwrap().content[0].as_text().unwrap(), "echo: one two three");

    let mut stream = client.converse_stream().model_id(MODEL).messages(message()).send().await.unwrap().stream;
    let (mut text, mut usage) = (String::new(), None);
    while let Some(event) = stream.recv().await.unwrap() {
        match event {
            ConverseStreamOutput::ContentBlockDelta(event) => text.push_str(event.delta.unwrap().as_text().unwrap()),
            ConverseStreamOutput::Metadata(event) => usage = event.usage,
            _ => {}
        }
    }
    assert_eq!((text.as_str(), usage.unwrap().input_tokens), ("echo: one two three", 3));
}

#[tokio::test]
async fn invoke_and_its_stream_are_understood() {
    let emulator = emulator().await;
    let client = client(&emulator);
    let body =
        || Blob::new(r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens":2,"messages":[{"role":"user","content":"one two"}]}"#);
    let whole = client.invoke_model().model_id(MODEL).body(body()).content_type("application/json").send().await.unwrap();
    let whole: serde_json::Value = serde_json::from_slice(whole.body.as_ref()).unwrap();
    assert_eq!((whole["content"][0]["text"].as_str().unwrap(), whole["stop_reason"].as_str().unwrap()), ("echo: one", "max_tokens"));

    let mut stream = client.invoke_model_with_response_stream().model_id(MODEL).body(body()).send().await.unwrap().body;
    let mut events = Vec::new();
    while let Some(ResponseStream::Chunk(chunk)) = stream.recv().await.unwrap() {
        events.push(serde_json::from_slice::<serde_json::Value>(chunk.bytes.unwrap().as_ref()).unwrap());
    }
    assert_eq!(events.last().unwrap()["amazon-bedrock-invocationMetrics"]["outputTokenCount"], 2);
}

#[tokio::test]
async fn count_tokens_and_apply_guardrail_are_understood() {
    let emulator = emulator().await;
    let client = client(&emulator);
    let input = CountTokensInput::Converse(ConverseTokensRequest::builder().messages(message()).build());
    assert_eq!(client.count_tokens().model_id(MODEL).input(input).send().await.unwrap().input_tokens, 3);
    for (text, action) in [("all is well", "NONE"), ("this is forbidden", "GUARDRAIL_INTERVENED")] {
        let content = GuardrailContentBlock::Text(GuardrailTextBlock::builder().text(text).build().unwrap());
        let call = client.apply_guardrail().guardrail_identifier("g").guardrail_version("DRAFT").source(GuardrailContentSource::Input);
        assert_eq!(call.content(content).send().await.unwrap().action.as_str(), action);
    }
}

#[tokio::test]
async fn errors_and_exceptions_arrive_as_their_types() {
    let emulator = emulator().await;
    let client = client(&emulator);
    let missing = client.converse().model_id("nonexistent").messages(message()).send().await.unwrap_err().into_service_error();
    assert!(missing.is_resource_not_found_exception());
    let empty = client.converse().model_id(MODEL).send().await.unwrap_err().into_service_error();
    assert!(empty.is_validation_exception(), "{empty:?}");
    let model = "emulator.exception-throttlingException-1";
    let mut stream = client.converse_stream().model_id(model).messages(message()).send().await.unwrap().stream;
    assert!(stream.recv().await.unwrap().is_some());
    assert!(stream.recv().await.unwrap_err().into_service_error().is_throttling_exception());
}

#[tokio::test]
async fn a_throttled_call_is_tried_again_until_it_succeeds() {
    let emulator = emulator().await;
    client(&emulator).converse().model_id("emulator.503-twice").messages(message()).send().await.unwrap();
    let seen = emulator.requests();
    assert_eq!(seen.len(), 3);
    assert!(seen.windows(2).all(|pair| pair[0].header("amz-sdk-invocation-id") == pair[1].header("amz-sdk-invocation-id")));
}
