//! Every shape of section "Usage" in docs/usage.md, as the APIs write it.

use super::{Answer, FRAMES, JSON, SSE, answer, chunks, estimated, events, frames, reported, tokens};
use crate::domain::{GuardrailUnits, Tier, Tokens, Usage};

const CACHED: Tokens = Tokens { input: 12, output: 5, cache_read: 100, cache_write_5m: 20, cache_write_1h: 30, reasoning: 0 };

/// The answers, each with its usage.
pub(super) fn all() -> Vec<Answer> {
    let mut all = converse();
    all.extend(invoke());
    all.extend(invoke_streams());
    all.extend(openai());
    all.extend(anthropic());
    all.extend(agents());
    all.extend(guardrails());
    all.extend(nothing());
    all
}

fn converse() -> Vec<Answer> {
    let usage = r#""usage":{"inputTokens":12,"outputTokens":5,"totalTokens":167,"cacheReadInputTokens":100,"cacheWriteInputTokens":50,"cacheDetails":[{"ttl":"5m","inputTokens":20},{"inputTokens":30,"ttl":"1h"}]}"#;
    let body = format!(
        r#"{{"metrics":{{"latencyMs":321}},"output":{{"message":{{"content":[{{"text":"Hi \"there\" \\"}}],"role":"assistant"}}}},"stopReason":"end_turn",{usage},"serviceTier":{{"type":"flex"}}}}"#
    );
    let metadata = format!(r#"{{"metrics":{{"latencyMs":321}},"p":"abcdef",{usage},"serviceTier":{{"type":"flex"}}}}"#);
    let flex = Usage { tier: Some(Tier::Flex), ..reported(CACHED) };
    let stream = frames(&[
        ("messageStart", r#"{"p":"abc","role":"assistant"}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"Hel"},"p":"abcdefgh"}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"lo \u00fc\n"},"p":"abcd"}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":0,"p":"ab"}"#),
        ("messageStop", r#"{"p":"abcdefghijklm","stopReason":"end_turn"}"#),
        ("metadata", &metadata),
    ]);
    let forged = r#"{"output":{"message":{"content":[{"toolUse":{"input":{"usage":{"inputTokens":1,"outputTokens":1},"x":[{"metadata":{"usage":{"outputTokens":2}}}]},"name":"t","toolUseId":"1"}}],"role":"assistant"}},"stopReason":"tool_use","usage":{"inputTokens":7,"outputTokens":9,"totalTokens":16}}"#;
    let argued = r#"{"output":{"message":{"content":[{"toolUse":{"toolUseId":"x","name":"n","input" : {"a":[1,"b"],"c":{"d":null}}}}]}}}"#;
    let total = r#"{"output":{},"usage":{"inputTokens":1,"outputTokens":2,"totalTokens":10,"cacheWriteInputTokens":7}}"#;
    vec![
        Answer { usage: Some(flex), ..answer("Converse", JSON, body, CACHED) },
        Answer { usage: Some(flex), ..answer("ConverseStream", FRAMES, stream, CACHED) },
        answer("Converse, a tool's arguments that look like usage", JSON, forged, tokens(7, 9)),
        Answer { usage: Some(estimated(10, 28)), ..answer("Converse, a tool's arguments and no usage", JSON, argued, tokens(0, 0)) },
        answer("Converse, writes of no told time", JSON, total, Tokens { cache_write_5m: 7, ..tokens(1, 2) }),
        answer(
            "InvokeHarness",
            FRAMES,
            frames(&[
                ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"hm"}}}"#),
                ("metadata", r#"{"usage":{"inputTokens":3,"outputTokens":4,"totalTokens":7,"cacheReadInputTokens":2},"metrics":{}}"#),
            ]),
            Tokens { cache_read: 2, ..tokens(3, 4) },
        ),
    ]
}

fn invoke() -> Vec<Answer> {
    let headers = vec![
        ("x-amzn-bedrock-input-token-count", "14"),
        ("x-amzn-bedrock-output-token-count", "36"),
        ("x-amzn-bedrock-invocation-latency", "926"),
    ];
    let cached = [
        ("x-amzn-bedrock-input-token-count", "12"),
        ("x-amzn-bedrock-output-token-count", "5"),
        ("x-amzn-bedrock-cache-read-input-token-count", "100"),
        ("x-amzn-bedrock-cache-write-input-token-count", "50"),
        ("x-amzn-bedrock-service-tier", "priority"),
    ];
    let anthropic = r#"{"id":"msg_1","type":"message","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":12,"cache_creation_input_tokens":50,"cache_read_input_tokens":100,"cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":30},"output_tokens":5,"service_tier":"standard"}}"#;
    let nova = r#"{"output":{"message":{"content":[{"text":"hi"}],"role":"assistant"}},"stopReason":"end_turn","usage":{"inputTokens":3,"outputTokens":4,"totalTokens":7,"cacheReadInputTokenCount":1,"cacheWriteInputTokenCount":2}}"#;
    vec![
        Answer {
            headers: headers.clone(),
            ..answer("Mistral, headers only", JSON, r#"{"outputs":[{"text":"hello","stop_reason":"stop"}]}"#, tokens(14, 36))
        },
        Answer { headers: headers.clone(), ..answer("a body that is no JSON, headers", "", "hello", tokens(14, 36)) },
        Answer {
            headers: vec![("x-amzn-bedrock-input-token-count", "6")],
            ..answer("an embedding's header", JSON, r#"{"embedding":[0.1,-2e5,3],"inputTextTokenCount":6}"#, tokens(6, 0))
        },
        Answer {
            headers: cached.to_vec(),
            usage: Some(Usage { tier: Some(Tier::Priority), ..reported(CACHED) }),
            ..answer("Anthropic, headers beside a body that splits writes", "", anthropic, CACHED)
        },
        answer("Anthropic, body alone", "application/octet-stream", anthropic, CACHED),
        answer("Nova", JSON, nova, Tokens { cache_read: 1, cache_write_5m: 2, ..tokens(3, 4) }),
        answer(
            "Titan text",
            JSON,
            r#"{"inputTextTokenCount":5,"results":[{"tokenCount":55,"outputText":"hi","completionReason":"FINISH"}]}"#,
            tokens(5, 55),
        ),
        answer("Titan embed", JSON, r#"{"embedding":[0.5,1],"inputTextTokenCount":8}"#, tokens(8, 0)),
        answer(
            "Llama",
            JSON,
            r#"{"generation":"hi","prompt_token_count":25,"generation_token_count":12,"stop_reason":"stop"}"#,
            tokens(25, 12),
        ),
        answer(
            "Cohere embed",
            JSON,
            r#"{"id":"1","texts":["a"],"embeddings":[[0.5]],"meta":{"api_version":{"version":"1"},"billed_units":{"input_tokens":9}}}"#,
            tokens(9, 0),
        ),
        answer(
            "Cohere command, second version",
            JSON,
            r#"{"message":{"role":"assistant","content":[{"type":"text","text":"x"}]},"usage":{"billed_units":{"input_tokens":5,"output_tokens":6},"tokens":{"input_tokens":70,"output_tokens":80}}}"#,
            tokens(5, 6),
        ),
    ]
}

fn invoke_streams() -> Vec<Answer> {
    let metrics = r#""amazon-bedrock-invocationMetrics":{"inputTokenCount":12,"outputTokenCount":5,"invocationLatency":1798,"firstByteLatency":1507,"cacheReadInputTokenCount":100,"cacheWriteInputTokenCount":50}"#;
    let plain = r#""amazon-bedrock-invocationMetrics":{"inputTokenCount":10,"outputTokenCount":15,"invocationLatency":1798,"firstByteLatency":1507}"#;
    let start = r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"usage":{"input_tokens":12,"cache_creation_input_tokens":50,"cache_read_input_tokens":100,"cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":30},"output_tokens":1}}}"#;
    let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hello"}}"#;
    let stop = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#;
    let ended = format!(r#"{{"type":"message_stop",{metrics}}}"#);
    let titan = format!(
        r#"{{"outputText":"hi","index":0,"totalOutputTextTokenCount":15,"completionReason":"FINISH","inputTextTokenCount":10,{plain}}}"#
    );
    let llama = format!(r#"{{"generation":"","prompt_token_count":null,"generation_token_count":15,"stop_reason":"stop",{plain}}}"#);
    let nova = r#"{"metadata":{"usage":{"inputTokens":3,"outputTokens":4,"cacheReadInputTokenCount":1,"cacheWriteInputTokenCount":2},"metrics":{},"trace":{}}}"#;
    let mistral = format!(r#"{{"outputs":[{{"text":"","stop_reason":"stop"}}],{plain}}}"#);
    vec![
        answer("Anthropic's stream, invoked", FRAMES, chunks(&[start, delta, delta, stop, &ended]), CACHED),
        answer("Anthropic's stream, invoked, without metrics", FRAMES, chunks(&[start, delta, stop, r#"{"type":"message_stop"}"#]), CACHED),
        answer("Titan's stream", FRAMES, chunks(&[&titan]), tokens(10, 15)),
        answer(
            "Llama's stream",
            FRAMES,
            chunks(&[r#"{"generation":"a","prompt_token_count":10,"generation_token_count":1}"#, &llama]),
            tokens(10, 15),
        ),
        answer("Mistral's stream", FRAMES, chunks(&[r#"{"outputs":[{"text":"hello"}]}"#, &mistral]), tokens(10, 15)),
        answer(
            "Nova's stream, without metrics",
            FRAMES,
            chunks(&[r#"{"contentBlockDelta":{"delta":{"text":"hi"},"contentBlockIndex":0}}"#, nova]),
            Tokens { cache_read: 1, cache_write_5m: 2, ..tokens(3, 4) },
        ),
        answer(
            "Sonic",
            FRAMES,
            chunks(&[
                r#"{"event":{"usageEvent":{"details":{"delta":{"input":{"textTokens":9}}},"totalInputTokens":9,"totalOutputTokens":1,"totalTokens":10}}}"#,
                r#"{"event":{"audioOutput":{"content":"UklGRg=="}}}"#,
                r#"{"event":{"textOutput":{"content":"hi","role":"ASSISTANT"}}}"#,
                r#"{"event":{"usageEvent":{"totalInputTokens":20,"totalOutputTokens":11,"totalTokens":31}}}"#,
            ]),
            tokens(20, 11),
        ),
    ]
}

fn openai() -> Vec<Answer> {
    let chat = Tokens { input: 15, output: 7, cache_read: 80, cache_write_5m: 5, reasoning: 3, ..Tokens::default() };
    let usage = r#""usage":{"prompt_tokens":100,"completion_tokens":7,"total_tokens":107,"prompt_tokens_details":{"cached_tokens":80,"cache_write_tokens":5},"completion_tokens_details":{"reasoning_tokens":3}}"#;
    let body = format!(
        r#"{{"id":"c","choices":[{{"index":0,"message":{{"role":"assistant","content":"hi","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"service_tier":"default",{usage}}}"#
    );
    let last = format!(r#"{{"id":"c","choices":[],{usage}}}"#);
    let delta = r#"{"id":"c","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}],"usage":null}"#;
    let answered = r#"{"input_tokens":100,"output_tokens":7,"total_tokens":107,"input_tokens_details":{"cached_tokens":80,"cache_write_tokens":5},"output_tokens_details":{"reasoning_tokens":3}}"#;
    let response = format!(
        r#"{{"id":"r","object":"response","output":[{{"type":"message","content":[{{"type":"output_text","text":"hello"}}]}}],"metadata":{{"usage":"1"}},"usage":{answered}}}"#
    );
    let completed = format!(r#"{{"type":"response.completed","response":{response}}}"#);
    let default = Usage { tier: Some(Tier::Default), ..reported(chat) };
    vec![
        Answer { usage: Some(default), ..answer("a chat completion", JSON, body, chat) },
        answer("chat completions, streamed", SSE, events(&[delta, delta, &last, "[DONE]"]), chat),
        answer("chat completions, invoked as a stream", FRAMES, chunks(&[delta, &last]), chat),
        Answer {
            usage: Some(estimated(10, 4)),
            ..answer("chat completions, streamed without usage", SSE, events(&[delta, delta, "[DONE]"]), chat)
        },
        answer("a response", JSON, response, chat),
        answer(
            "a response, streamed",
            SSE,
            events(&[
                r#"{"type":"response.created","response":{"id":"r","usage":null}}"#,
                r#"{"type":"response.output_text.delta","delta":"hel"}"#,
                r#"{"type":"response.output_text.delta","delta":"lo"}"#,
                r#"{"type":"response.output_text.done","text":"hello"}"#,
                &completed,
            ]),
            chat,
        ),
    ]
}

fn anthropic() -> Vec<Answer> {
    let stream = "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":12,\"cache_creation_input_tokens\":50,\"cache_read_input_tokens\":100,\"output_tokens\":1,\"cache_creation\":{\"ephemeral_5m_input_tokens\":20,\"ephemeral_1h_input_tokens\":30}}}}\r\n\r\n\
                  : a comment\r\nevent: ping\r\ndata: {\"type\": \"ping\"}\r\n\r\n\
                  event: content_block_delta\r\nid: 7\r\ndata:{\"type\":\"content_block_delta\",\r\ndata: \"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\r\n\r\n\
                  event: message_delta\r\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":5}}\r\n\r\n\
                  event: message_stop\r\ndata: {\"type\":\"message_stop\"}\r\n\r\n";
    vec![
        answer("Anthropic's stream", SSE, stream, CACHED),
        answer("Anthropic's stream, its lines ended by a return", SSE, stream.replace("\r\n", "\r"), CACHED),
        answer("Anthropic's stream, its lines ended by a line feed", SSE, stream.replace("\r\n", "\n"), CACHED),
    ]
}

fn agents() -> Vec<Answer> {
    let step = |input: u64, output: u64| {
        format!(
            r#"{{"agentId":"A","trace":{{"orchestrationTrace":{{"modelInvocationOutput":{{"metadata":{{"usage":{{"inputTokens":{input},"outputTokens":{output}}}}},"rawResponse":{{"content":"{{\"usage\":1}}"}},"traceId":"t"}}}}}}}}"#
        )
    };
    let observed = r#"{"trace":{"orchestrationTrace":{"observation":{"finalResponse":{"text":"done","metadata":{"usage":{"inputTokens":999,"outputTokens":999}}}}}}}"#;
    let in_flow = format!(r#"{{"trace":{{"nodeDependencyTrace":{{"nodeName":"n","traceElements":{{"agentTraces":[{}]}}}}}}}}"#, step(4, 5));
    // The text of an agent that says JSON.
    let said = r#"{"usage":{"inputTokens":0,"outputTokens":0}}"#;
    let mut body = chunks(&[said]);
    for traced in [&step(100, 20), &step(300, 40), observed] {
        body.extend(frames(&[("trace", traced)]));
    }
    let headers = vec![("x-amz-bedrock-agent-session-id", "s")];
    vec![
        Answer { headers: headers.clone(), ..answer("an agent, traced", FRAMES, body, tokens(400, 60)) },
        Answer { headers, usage: Some(estimated(10, 44)), ..answer("an agent, not traced", FRAMES, chunks(&[said]), tokens(0, 0)) },
        answer("a flow, traced", FRAMES, frames(&[("flowTraceEvent", &in_flow)]), tokens(4, 5)),
    ]
}

fn guardrails() -> Vec<Answer> {
    let usage = r#""usage":{"topicPolicyUnits":1,"contentPolicyUnits":2,"wordPolicyUnits":9,"sensitiveInformationPolicyUnits":3,"sensitiveInformationPolicyFreeUnits":9,"contextualGroundingPolicyUnits":4,"contentPolicyImageUnits":5,"automatedReasoningPolicyUnits":6,"automatedReasoningPolicies":2}"#;
    let units = GuardrailUnits {
        topic: 1,
        content: 2,
        content_image: 5,
        sensitive_information: 3,
        contextual_grounding: 4,
        automated_reasoning: 12,
    };
    let twice = GuardrailUnits {
        topic: 2,
        content: 4,
        content_image: 10,
        sensitive_information: 6,
        contextual_grounding: 8,
        automated_reasoning: 24,
    };
    let applied = format!(
        r#"{{{usage},"action":"NONE","outputs":[],"assessments":[{{"invocationMetrics":{{"guardrailProcessingLatency":1,{usage}}}}}]}}"#
    );
    let traced = format!(
        r#"{{"output":{{}},"usage":{{"inputTokens":1,"outputTokens":2}},"trace":{{"guardrail":{{"inputAssessment":{{"gr-1":{{"invocationMetrics":{{{usage}}}}}}},"outputAssessments":{{"gr-1":[{{"invocationMetrics":{{{usage}}}}}]}}}}}}}}"#
    );
    vec![
        Answer {
            usage: Some(Usage { guardrail: units, ..reported(Tokens::default()) }),
            ..answer("ApplyGuardrail", JSON, applied, Tokens::default())
        },
        Answer {
            usage: Some(Usage { guardrail: twice, ..reported(tokens(1, 2)) }),
            ..answer("Converse, its guardrail traced", JSON, traced, tokens(1, 2))
        },
    ]
}

fn nothing() -> Vec<Answer> {
    let none = |name, kind, body: &str| Answer { usage: None, ..answer(name, kind, body, Tokens::default()) };
    vec![
        none("CountTokens", JSON, r#"{"inputTokens":42}"#),
        none("Anthropic's count", JSON, r#"{"input_tokens":42}"#),
        none(
            "StartAsyncInvoke",
            JSON,
            r#"{"invocationArn":"arn:aws:bedrock:us-east-1:123456789012:async-invoke/abcdefghijklmnopqrstuvwxyz"}"#,
        ),
        none("a list of models", JSON, r#"{"modelSummaries":[{"modelId":"a","modelName":"b"}]}"#),
        none("no body", "", ""),
        none("text", "text/plain", "hello"),
    ]
}
