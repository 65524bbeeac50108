//! What answers tell of usage, tiers and units, and the shapes of agents.

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use base64::Engine as _;
use bytes::BytesMut;
use serde_json::{Value, json};

use super::operations::data;
use super::*;

const USED: &str = "usage-100-50-30-20-10,reasoning-7";

/// The events of a body: their types and payloads, by the SDK's decoder.
fn events(answer: &Answered) -> Vec<(String, Value)> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut decoder = MessageFrameDecoder::new();
    let mut bytes = BytesMut::from(answer.body.as_slice());
    let mut events = Vec::new();
    while let DecodedFrame::Complete(message) = decoder.decode_frame(&mut bytes).unwrap() {
        let kind = message.headers().iter().find(|header| header.name().as_str() == ":event-type").unwrap();
        let kind = kind.value().as_string().unwrap().as_str().to_owned();
        events.push((kind, serde_json::from_slice(message.payload()).unwrap()));
    }
    events
}

fn bytes_of(payload: &Value) -> Vec<u8> {
    base64::prelude::BASE64_STANDARD.decode(payload["bytes"].as_str().unwrap()).unwrap()
}

fn with_stream(body: &str) -> String {
    body.replacen('{', r#"{"stream":true,"stream_options":{"include_usage":true},"#, 1)
}

#[tokio::test]
async fn caches_and_reasoning_are_told_where_each_api_tells_them() {
    let emulator = emulator().await;
    let converse = json!({
        "inputTokens": 100, "outputTokens": 50, "totalTokens": 210, "cacheReadInputTokens": 30, "cacheWriteInputTokens": 30,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 20}, {"ttl": "1h", "inputTokens": 10}],
    });
    assert_eq!(ask(&emulator, "/model/x/converse", USED, CONVERSE).await.unwrap().json()["usage"], converse);
    let stream = events(&ask(&emulator, "/model/x/converse-stream", USED, CONVERSE).await.unwrap());
    assert_eq!((stream.last().unwrap().0.as_str(), &stream.last().unwrap().1["usage"]), ("metadata", &converse));

    let anthropic = json!({
        "input_tokens": 100, "output_tokens": 50, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
    });
    let body = r#"{"model":"claude","anthropic_version":"x","max_tokens":9,"messages":[{"role":"user","content":"one"}]}"#;
    assert_eq!(ask(&emulator, "/anthropic/v1/messages", USED, body).await.unwrap().json()["usage"], anthropic);
    let stream = data(&ask(&emulator, "/anthropic/v1/messages", USED, &with_stream(body)).await.unwrap());
    let mut begun = anthropic.clone();
    begun["output_tokens"] = json!(1);
    assert_eq!(stream[0]["message"]["usage"], begun);
    assert_eq!(stream[stream.len() - 2]["usage"], anthropic);

    let invoked = ask(&emulator, "/model/anthropic.claude/invoke", USED, body).await.unwrap();
    assert_eq!(invoked.json()["usage"], anthropic);
    for header in
        ["input-token-count: 100", "output-token-count: 50", "cache-read-input-token-count: 30", "cache-write-input-token-count: 30"]
    {
        assert!(invoked.head.contains(&format!("x-amzn-bedrock-{header}\r\n")), "{}", invoked.head);
    }
    for model in ["anthropic.claude", "amazon.nova-lite-v1:0", "openai.gpt-oss"] {
        let chunks = events(&ask(&emulator, &format!("/model/{model}/invoke-with-response-stream"), USED, body).await.unwrap());
        let last: Value = serde_json::from_slice(&bytes_of(&chunks.last().unwrap().1)).unwrap();
        let metrics = &last["amazon-bedrock-invocationMetrics"];
        let names = ["inputTokenCount", "outputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount"];
        assert_eq!(names.map(|name| metrics[name].as_u64()), [Some(100), Some(50), Some(30), Some(30)], "{model}");
    }
}

#[tokio::test]
async fn openais_input_includes_what_was_cached_and_its_output_what_was_thought() {
    let emulator = emulator().await;
    let chat = r#"{"model":"openai.gpt-oss","service_tier":"flex","messages":[{"role":"user","content":"one"}]}"#;
    let told = json!({
        "prompt_tokens": 160, "completion_tokens": 50, "total_tokens": 210,
        "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 30}, "completion_tokens_details": {"reasoning_tokens": 7},
    });
    let input = r#"{"model":"openai.gpt-oss","service_tier":"flex","input":"one"}"#;
    let responded = json!({
        "input_tokens": 160, "output_tokens": 50, "total_tokens": 210,
        "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 30}, "output_tokens_details": {"reasoning_tokens": 7},
    });
    for prefix in ["/v1", "/openai/v1"] {
        let path = format!("{prefix}/chat/completions");
        let answer = ask(&emulator, &path, USED, chat).await.unwrap().json();
        assert_eq!((&answer["usage"], &answer["service_tier"]), (&told, &json!("flex")));
        let chunks = data(&ask(&emulator, &path, USED, &with_stream(chat)).await.unwrap());
        let last = chunks.last().unwrap();
        assert_eq!((&last["usage"], &last["choices"], &last["service_tier"]), (&told, &json!([]), &json!("flex")));

        let path = format!("{prefix}/responses");
        let answer = ask(&emulator, &path, USED, input).await.unwrap().json();
        assert_eq!((&answer["usage"], &answer["service_tier"]), (&responded, &json!("flex")));
        let stream = data(&ask(&emulator, &path, USED, &with_stream(input)).await.unwrap());
        let kinds: Vec<_> = stream.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!((kinds[0], kinds[4], *kinds.last().unwrap()), ("response.created", "response.output_text.delta", "response.completed"));
        let last = &stream.last().unwrap()["response"];
        assert_eq!((&last["usage"], &last["service_tier"]), (&responded, &json!("flex")));
    }
}

#[tokio::test]
async fn a_service_tier_is_answered_where_it_was_asked_for() {
    let emulator = emulator().await;
    let tiered = CONVERSE.replacen('{', r#"{"serviceTier":{"type":"priority"},"#, 1);
    let wanted = json!({"type": "priority"});
    assert_eq!(ask(&emulator, "/model/x/converse", "", &tiered).await.unwrap().json()["serviceTier"], wanted);
    let stream = events(&ask(&emulator, "/model/x/converse-stream", "", &tiered).await.unwrap());
    assert_eq!(stream.last().unwrap().1["serviceTier"], wanted);
    assert_eq!(ask(&emulator, "/model/x/converse", "", CONVERSE).await.unwrap().json().get("serviceTier"), None);

    let body = r#"{"prompt":"one"}"#;
    for operation in ["invoke", "invoke-with-response-stream"] {
        let target = format!("/model/meta.llama3/{operation}");
        let tiered = signed("POST", &target, &[("X-Amzn-Bedrock-Service-Tier", "flex")], body);
        let answer = Peer::to(&emulator).await.ask(&tiered).await.unwrap();
        assert!(answer.head.contains("x-amzn-bedrock-service-tier: flex\r\n"), "{}", answer.head);
        assert!(!ask(&emulator, &target, "", body).await.unwrap().head.contains("service-tier"));
        let unknown = signed("POST", &target, &[("X-Amzn-Bedrock-Service-Tier", "first-class")], body);
        assert_eq!(Peer::to(&emulator).await.ask(&unknown).await.unwrap().status, 400);
    }
}

#[tokio::test]
async fn an_agent_tells_each_model_call_in_a_trace_where_traces_are_asked_for() {
    let emulator = emulator().await;
    for (target, model, body) in [
        (
            "/agents/AGENT12345/agentAliases/ALIAS12345/sessions/s-1/text",
            "anthropic.claude-3-haiku-20240307-v1:0",
            r#"{"inputText":"one two"}"#,
        ),
        ("/agents/s-1", "amazon.nova-lite-v1:0", r#"{"foundationModel":"amazon.nova-lite-v1:0","inputText":"one two"}"#),
    ] {
        let answer = ask(&emulator, target, "", body).await.unwrap();
        assert!(answer.head.contains("x-amz-bedrock-agent-session-id: s-1\r\n"), "{}", answer.head);
        assert!(answer.head.contains("x-amzn-bedrock-agent-content-type: application/json\r\n"), "{}", answer.head);
        let untraced = events(&answer);
        assert_eq!((untraced.len(), untraced[0].0.as_str(), bytes_of(&untraced[0].1)), (1, "chunk", b"echo: one two".to_vec()));

        let traced = body.replacen('{', r#"{"enableTrace":true,"streamingConfigurations":{"streamFinalResponse":true},"#, 1);
        let traced = events(&ask(&emulator, target, "", &traced).await.unwrap());
        let step = "/trace/orchestrationTrace/modelInvocationOutput/metadata/usage";
        let usages: Vec<_> = traced.iter().filter_map(|(_, payload)| payload.pointer(step)).collect();
        assert_eq!(usages, [&json!({"inputTokens": 2, "outputTokens": 3}); 2]);
        assert_eq!(traced[0].1["trace"]["orchestrationTrace"]["modelInvocationInput"]["foundationModel"], model);
        let text: Vec<u8> = traced.iter().filter(|(kind, _)| kind == "chunk").flat_map(|(_, payload)| bytes_of(payload)).collect();
        assert_eq!(text, b"echo: one two");
        // Both calls are billed, told or not.
        let billed: Vec<_> = emulator.bills().iter().filter(|bill| bill.model == model).map(|bill| (bill.usage, bill.whole)).collect();
        assert_eq!(billed, [(Usage { input: 4, output: 6, ..Usage::default() }, true); 2]);
    }
}

#[tokio::test]
async fn an_agent_that_is_cut_is_billed_for_the_calls_it_had_made() {
    let emulator = emulator().await;
    let traced = r#"{"enableTrace":true,"streamingConfigurations":{"streamFinalResponse":true},"inputText":"one two"}"#;
    let silent = r#"{"streamingConfigurations":{"streamFinalResponse":true},"inputText":"one two"}"#;
    for (body, events, output) in
        [(traced, 1, 0), (traced, 2, 3), (traced, 4, 4), (traced, 6, 6), (silent, 0, 0), (silent, 1, 4), (silent, 2, 5)]
    {
        let fault = format!("close-between-frames-{events}");
        let cut = ask(&emulator, "/agents/A/agentAliases/B/sessions/s/text", &fault, body).await;
        assert!(cut.is_err());
        let bill = emulator.bills().pop().unwrap();
        assert_eq!((bill.usage, bill.whole), (Usage { input: 4, output, ..Usage::default() }, false), "{events} events");
    }
}

#[tokio::test]
async fn a_harness_tells_its_usage_in_its_last_event_without_lifetimes() {
    let emulator = emulator().await;
    let body = r#"{"messages":[{"role":"user","content":[{"text":"one"}]}],"systemPrompt":[{"text":"be brief"}]}"#;
    let stream = events(&ask(&emulator, "/harnesses/invoke?harnessArn=x", "", body).await.unwrap());
    let kinds: Vec<_> = stream.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["messageStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"]);
    assert_eq!(stream[5].1["usage"]["inputTokens"], 3);
    let stream = events(&ask(&emulator, "/harnesses/invoke?harnessArn=x", USED, body).await.unwrap());
    let usage = json!({"inputTokens":100,"outputTokens":50,"totalTokens":210,"cacheReadInputTokens":30,"cacheWriteInputTokens":30});
    assert_eq!(stream[5].1["usage"], usage);
}

#[tokio::test]
async fn a_knowledge_base_answers_without_a_word_of_usage_though_a_model_is_billed() {
    let emulator = emulator().await;
    let found = ask(&emulator, "/knowledgebases/K/retrieve", "", r#"{"retrievalQuery":{"text":"one"}}"#).await.unwrap().json();
    assert_eq!(found["retrievalResults"][0]["content"]["text"], "one");
    let body = r#"{"input":{"text":"one two"},"retrieveAndGenerateConfiguration":{"type":"KNOWLEDGE_BASE",
        "knowledgeBaseConfiguration":{"knowledgeBaseId":"K","modelArn":"arn:x"}}}"#;
    let answer = ask(&emulator, "/retrieveAndGenerate", "", body).await.unwrap();
    assert_eq!((&answer.json()["output"]["text"], answer.json().get("usage")), (&json!("echo: one two"), None));
    assert!(!answer.head.contains("token-count"));
    assert_eq!(
        emulator.bill(),
        BTreeMap::from([("arn:x".to_owned(), Billed { calls: 1, usage: Usage { input: 2, output: 3, ..Usage::default() } })])
    );
}

#[tokio::test]
async fn a_guardrail_tells_the_units_of_each_policy_that_are_asked_for() {
    let emulator = emulator().await;
    let body = r#"{"source":"INPUT","content":[{"text":{"text":"hello"}}]}"#;
    let usage = async |fault: &str| ask(&emulator, "/guardrail/g/version/1/apply", fault, body).await.unwrap().json()["usage"].clone();
    let plain = usage("").await;
    assert_eq!((&plain["wordPolicyUnits"], &plain["topicPolicyUnits"], plain.get("contentPolicyImageUnits")), (&json!(1), &json!(0), None));
    let wanted = json!({
        "topicPolicyUnits": 1, "contentPolicyUnits": 2, "contentPolicyImageUnits": 3, "sensitiveInformationPolicyUnits": 4,
        "contextualGroundingPolicyUnits": 5, "automatedReasoningPolicyUnits": 6, "automatedReasoningPolicies": 1,
        "wordPolicyUnits": 1, "sensitiveInformationPolicyFreeUnits": 0,
    });
    assert_eq!(usage("units-1-2-3-4-5-6").await, wanted);

    let body = r#"{"messages":[{"role":"user","content":[{"text":"hello"}]}],"checks":{"promptAttack":{}}}"#;
    let checked = ask(&emulator, "/guardrail-checks/invoke", "", body).await.unwrap().json();
    assert_eq!(checked, json!({"results": {"promptAttack": {"results": []}}, "usage": {"promptAttack": {"textUnits": 1}}}));
}
