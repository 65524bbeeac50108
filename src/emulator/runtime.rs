//! Bedrock runtime's own operations: Converse, its stream, `CountTokens`. Shapes are those of botocore 1.44.5's service model.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Knobs, Prompt, Usage, with};
use super::reply::{Event, Failure, Reply};
use super::{eventstream, tier};

/// The latency that every answer reports, in milliseconds: a constant, so that answers can be compared.
pub(super) const LATENCY_MS: u64 = 12;

/// A JSON body, or the refusal of one that is not.
pub(super) fn parse(body: &[u8]) -> Result<Value, Failure> {
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Failure::validation("Malformed input request: expected a JSON object, please reformat your input and try again.")),
        Err(e) => Err(Failure::validation(format!("Malformed input request: {e}, please reformat your input and try again."))),
    }
}

/// The prompt of a body with `messages` and perhaps `system`.
pub(super) fn conversation(body: &Value) -> Result<Prompt<'_>, Failure> {
    match body.get("messages") {
        Some(messages @ Value::Array(items)) if !items.is_empty() => {
            let system = body.get("system").unwrap_or(&Value::Null);
            Ok(Prompt::of(&[system, messages]))
        }
        _ => Err(Failure::validation("The conversation must have at least one message: `messages` is missing or empty.")),
    }
}

/// The output tokens that a body of any API allows at most, where it says so.
pub(super) fn max_tokens(body: &[u8]) -> Option<u64> {
    const PLACES: [&str; 9] = [
        "/inferenceConfig/maxTokens",
        "/inferenceConfig/max_new_tokens",
        "/textGenerationConfig/maxTokenCount",
        "/max_tokens",
        "/max_completion_tokens",
        "/max_output_tokens",
        "/max_tokens_to_sample",
        "/max_gen_len",
        "/maxTokens",
    ];
    let body: Value = serde_json::from_slice(body).ok()?;
    PLACES.iter().find_map(|place| body.pointer(place)?.as_u64())
}

fn converse_answer(body: &Value, knobs: Knobs) -> Result<Answer, Failure> {
    let max_tokens = body.pointer("/inferenceConfig/maxTokens").and_then(Value::as_u64);
    Ok(Answer::to(&conversation(body)?, max_tokens, knobs))
}

pub(super) fn converse(model: &str, body: &[u8], knobs: Knobs) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let answer = converse_answer(&body, knobs)?;
    let reply = json!({
        "metrics": {"latencyMs": LATENCY_MS},
        "output": {"message": {"role": "assistant", "content": [{"text": answer.text()}]}},
        "stopReason": answer.ended("end_turn", "max_tokens"),
    });
    let reply = with(reply, "serviceTier", tier::in_body(&body)?);
    Ok(Reply::json(&with(reply, "usage", answer.usage.map(converse_usage))).costing(answer.cost, model))
}

pub(super) fn converse_stream(model: &str, body: &[u8], knobs: Knobs) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let answer = converse_answer(&body, knobs)?;
    let metadata = with(json!({"metrics": {"latencyMs": LATENCY_MS}}), "usage", answer.usage.map(converse_usage));
    let metadata = with(metadata, "serviceTier", tier::in_body(&body)?);
    Ok(Reply::event_stream(converse_events(&answer, metadata)).costing(answer.cost, model))
}

/// The events of `ConverseStream`, with `metadata` as the last.
pub(super) fn converse_events(answer: &Answer, metadata: Value) -> Vec<Event<Bytes>> {
    let event = |name: &str, payload: Value| eventstream::event(name, with(payload, "p", Some(json!("abcdefgh"))).to_string().as_bytes());
    let delta = |text: &String| event("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": text}}));
    let mut events = vec![Event::frame(event("messageStart", json!({"role": "assistant"})))];
    events.extend(answer.pieces.iter().map(|text| Event::token(delta(text))));
    events.push(Event::frame(event("contentBlockStop", json!({"contentBlockIndex": 0}))));
    events.push(Event::frame(event("messageStop", json!({"stopReason": answer.ended("end_turn", "max_tokens")}))));
    events.push(Event::usage(event("metadata", metadata)));
    events
}

pub(super) fn converse_usage(usage: Usage) -> Value {
    let written = [("5m", usage.cache_write_5m), ("1h", usage.cache_write_1h)];
    let details: Vec<Value> =
        written.into_iter().filter(|(_, tokens)| *tokens > 0).map(|(ttl, tokens)| json!({"ttl": ttl, "inputTokens": tokens})).collect();
    let value = json!({
        "inputTokens": usage.input,
        "outputTokens": usage.output,
        "totalTokens": usage.total(),
        "cacheReadInputTokens": usage.cache_read,
        "cacheWriteInputTokens": usage.cache_write(),
    });
    with(value, "cacheDetails", (!details.is_empty()).then(|| json!(details)))
}

/// Counts what `input.converse` or the body in `input.invokeModel` would cost.
pub(super) fn count_tokens(body: &[u8]) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let count = if let Some(converse) = body.pointer("/input/converse") {
        conversation(converse)?.words
    } else {
        let inner = body.pointer("/input/invokeModel/body").and_then(Value::as_str);
        let inner = inner.and_then(|inner| BASE64_STANDARD.decode(inner).ok());
        let inner = inner.ok_or_else(|| Failure::validation("`input` must hold `converse` or `invokeModel` with a base64 `body`."))?;
        let inner = parse(&inner)?;
        let plain = ["system", "messages", "prompt", "inputText", "message"].map(|name| inner.get(name).unwrap_or(&Value::Null));
        Prompt::of(&plain).words
    };
    Ok(Reply::json(&json!({"inputTokens": count})))
}

/// The answer that [`super::Options::quick`] gives to every unary Converse call: a text of `size` bytes.
pub(super) fn canned(size: usize) -> Bytes {
    let usage = converse_usage(Usage { input: 10, output: 20, ..Usage::default() });
    let message = json!({"role": "assistant", "content": [{"text": "x".repeat(size)}]});
    let reply = json!({"metrics": {"latencyMs": LATENCY_MS}, "output": {"message": message}, "stopReason": "end_turn", "usage": usage});
    Bytes::from(reply.to_string())
}
