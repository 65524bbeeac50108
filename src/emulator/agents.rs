//! Agents: `InvokeAgent`, `InvokeInlineAgent`, `Retrieve` and `RetrieveAndGenerate` of bedrock-agent-runtime, `InvokeHarness` of `AgentCore`.
//!
//! An emulated agent asks its model twice, once to plan and once to answer, and **each** of the two calls uses what a direct call would. Both are on the
//! bill; they are told in trace events only, where the caller asked for them. `RetrieveAndGenerate` asks its model once and tells nothing.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Knobs, Prompt, Usage, with};
use super::eventstream;
use super::reply::{Event, Failure, Mark, Reply};
use super::runtime::{LATENCY_MS, conversation, converse_events, parse};

/// The model of an agent or a harness that names none in the request.
const MODEL: &str = "anthropic.claude-3-haiku-20240307-v1:0";
/// When everything in a trace happened: a constant, so that answers can be compared.
const TIME: &str = "2026-01-15T12:34:56Z";

/// `POST /agents/{agentId}/agentAliases/{agentAliasId}/sessions/{sessionId}/text`; `name` is what is between `/agents/` and `/text`.
pub(super) fn invoke_agent(name: &str, body: &[u8], knobs: Knobs) -> Result<Reply, Failure> {
    let mut ids = name.split('/').step_by(2);
    let mut id = || ids.next().unwrap_or_default();
    let (agent, alias, session) = (id(), id(), id());
    let about = json!({"agentId": agent, "agentAliasId": alias, "agentVersion": "1", "sessionId": session, "eventTime": TIME});
    run(about, session, MODEL, &parse(body)?, knobs)
}

/// `POST /agents/{sessionId}`: the agent is in the body.
pub(super) fn invoke_inline_agent(session: &str, body: &[u8], knobs: Knobs) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let model = body.get("foundationModel").and_then(Value::as_str);
    let model = model.ok_or_else(|| Failure::validation("`foundationModel` is missing."))?;
    run(json!({"sessionId": session, "eventTime": TIME}), session, model, &body, knobs)
}

fn run(about: Value, session: &str, model: &str, body: &Value, knobs: Knobs) -> Result<Reply, Failure> {
    let part = |name: &str| body.get(name).unwrap_or(&Value::Null);
    let answer = Answer::to(&Prompt::of(&[part("instruction"), part("inputText")]), None, knobs);
    let traced = part("enableTrace") == &Value::Bool(true);
    let streamed = body.pointer("/streamingConfigurations/streamFinalResponse") == Some(&Value::Bool(true));
    let said = u64::try_from(answer.pieces.len()).unwrap_or(u64::MAX);

    let mut events = Vec::new();
    if traced {
        events.push(Event::frame(trace(&about, invocation_input("call-1", model))));
        // The plan was generated before it is told.
        events.push(Event { data: trace(&about, invocation_output("call-1", &answer)), mark: Mark { tokens: said, settles: false } });
        events.push(Event::frame(trace(&about, invocation_input("call-2", model))));
    }
    let chunk = |text: &str| eventstream::event("chunk", json!({"bytes": BASE64_STANDARD.encode(text)}).to_string().as_bytes());
    let first = events.len();
    if streamed {
        events.extend(answer.pieces.iter().map(|piece| Event::token(chunk(piece))));
    } else {
        events.push(Event { data: chunk(&answer.text()), mark: Mark { tokens: said, settles: false } });
    }
    if traced {
        events.push(Event::usage(trace(&about, invocation_output("call-2", &answer))));
    } else if let Some(chunk) = events.get_mut(first) {
        chunk.mark.tokens += said;
    }
    let cost = Usage { input: 2 * answer.cost.input, output: 2 * answer.cost.output, ..Usage::default() };
    let header = http::HeaderValue::from_str(session).map_err(|_| Failure::validation("`sessionId` is no header value."))?;
    let reply = Reply::event_stream(events).costing(cost, model).header("x-amz-bedrock-agent-session-id", header);
    Ok(reply.header("x-amzn-bedrock-agent-content-type", http::HeaderValue::from_static("application/json")))
}

fn trace(about: &Value, step: Value) -> Bytes {
    let event = with(about.clone(), "trace", Some(json!({"orchestrationTrace": step})));
    eventstream::event("trace", event.to_string().as_bytes())
}

fn invocation_input(id: &str, model: &str) -> Value {
    json!({"modelInvocationInput": {"traceId": id, "type": "ORCHESTRATION", "foundationModel": model}})
}

fn invocation_output(id: &str, answer: &Answer) -> Value {
    let usage = answer.usage.map(|usage| json!({"inputTokens": usage.input, "outputTokens": usage.output}));
    let metadata = json!({"clientRequestId": id, "startTime": TIME, "endTime": TIME, "totalTimeMs": LATENCY_MS});
    let output = json!({"traceId": id, "rawResponse": {"content": answer.text()}});
    json!({"modelInvocationOutput": with(output, "metadata", Some(with(metadata, "usage", usage)))})
}

/// `POST /harnesses/invoke?harnessArn=…`: Converse's events, and usage without the lifetimes of what was cached.
pub(super) fn invoke_harness(body: &[u8], knobs: Knobs) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let config = body.get("model").and_then(Value::as_object).and_then(|model| model.values().next());
    let setting = |name: &str| config.and_then(|config| config.get(name));
    let mut prompt = conversation(&body)?;
    prompt.words += Prompt::of(&[body.get("systemPrompt").unwrap_or(&Value::Null)]).words;
    let answer = Answer::to(&prompt, setting("maxTokens").and_then(Value::as_u64), knobs);
    let usage = |usage: Usage| {
        json!({
            "inputTokens": usage.input, "outputTokens": usage.output, "totalTokens": usage.total(),
            "cacheReadInputTokens": usage.cache_read, "cacheWriteInputTokens": usage.cache_write(),
        })
    };
    let metadata = with(json!({"metrics": {"latencyMs": LATENCY_MS}}), "usage", answer.usage.map(usage));
    let model = setting("modelId").and_then(Value::as_str).unwrap_or(MODEL);
    Ok(Reply::event_stream(converse_events(&answer, metadata)).costing(answer.cost, model))
}

/// `POST /knowledgebases/{knowledgeBaseId}/retrieve`: one document, which says what was asked.
pub(super) fn retrieve(body: &[u8]) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let query = body.pointer("/retrievalQuery/text").and_then(Value::as_str).unwrap_or_default();
    let location = json!({"type": "S3", "s3Location": {"uri": "s3://emulator/document.txt"}});
    let found = json!({"content": {"type": "TEXT", "text": query}, "location": location, "score": 1.0, "metadata": {}});
    Ok(Reply::json(&json!({"retrievalResults": [found]})))
}

/// `POST /retrieveAndGenerate`.
pub(super) fn retrieve_and_generate(body: &[u8], knobs: Knobs) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let input = body.pointer("/input/text").ok_or_else(|| Failure::validation("`input` must hold a `text`."))?;
    let configuration = ["knowledgeBaseConfiguration", "externalSourcesConfiguration"];
    let pointers = configuration.map(|name| format!("/retrieveAndGenerateConfiguration/{name}/modelArn"));
    let model = pointers.iter().find_map(|pointer| body.pointer(pointer)?.as_str()).unwrap_or(MODEL);
    let answer = Answer::to(&Prompt::of(&[input]), None, knobs);
    let reply = Reply::json(&json!({"sessionId": "session-0123456789", "output": {"text": answer.text()}, "citations": []}));
    Ok(reply.costing(answer.cost, model))
}
