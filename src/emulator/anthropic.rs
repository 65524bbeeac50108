//! Anthropic's Messages API: under `/anthropic/v1`, and as the body of InvokeModel for Anthropic's models
//! (<https://docs.anthropic.com/en/api/messages>, <https://docs.anthropic.com/en/api/messages-streaming>).

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Knobs, Usage, anthropic_usage, with};
use super::reply::{Event, Failure, Reply, sse};
use super::runtime::{conversation, parse};

/// `POST /anthropic/v1/messages`.
pub(super) fn messages(body: &[u8], knobs: Knobs) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let model = super::openai::model_of(&body)?;
    let answer = answer(&body, knobs)?;
    let reply = if body.get("stream") == Some(&Value::Bool(true)) {
        Reply::sse(events(&answer, &model).into_iter().map(named).collect())
    } else {
        Reply::json(&message(&answer, &model))
    };
    Ok(reply.costing(answer.cost, &model))
}

/// `POST /anthropic/v1/messages/count_tokens`.
pub(super) fn count_tokens(body: &[u8]) -> Result<Reply, Failure> {
    let body = parse(body)?;
    Ok(Reply::json(&json!({"input_tokens": conversation(&body)?.words})))
}

/// What the model says; `max_tokens` is required by the API.
pub(super) fn answer(body: &Value, knobs: Knobs) -> Result<Answer, Failure> {
    let max_tokens = body.get("max_tokens").and_then(Value::as_u64).ok_or_else(|| Failure::validation("max_tokens: Field required"))?;
    Ok(Answer::to(&conversation(body)?, Some(max_tokens), knobs))
}

/// The whole answer.
pub(super) fn message(answer: &Answer, model: &str) -> Value {
    let mut message = shell(model);
    message = with(message, "content", Some(json!([{"type": "text", "text": answer.text()}])));
    message = with(message, "stop_reason", Some(json!(answer.ended("end_turn", "max_tokens"))));
    with(message, "usage", answer.usage.map(anthropic_usage))
}

/// The answer's stream. Each event is one JSON object, with its name under `type`.
pub(super) fn events(answer: &Answer, model: &str) -> Vec<Event<Value>> {
    // The first event knows what went in; what comes out is reported in the last but one.
    let begun = answer.usage.map(|usage| anthropic_usage(Usage { output: 1, ..usage }));
    let ended = answer.usage.map(anthropic_usage);
    let stopped = json!({"type": "message_delta", "delta": {"stop_reason": answer.ended("end_turn", "max_tokens"), "stop_sequence": null}});
    let mut events = vec![
        Event::frame(json!({"type": "message_start", "message": with(shell(model), "usage", begun)})),
        Event::frame(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
    ];
    let delta =
        |text: &String| Event::token(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}));
    events.extend(answer.pieces.iter().map(delta));
    events.push(Event::frame(json!({"type": "content_block_stop", "index": 0})));
    events.push(Event::usage(with(stopped, "usage", ended)));
    events.push(Event::frame(json!({"type": "message_stop"})));
    events
}

fn shell(model: &str) -> Value {
    json!({
        "id": "msg_bdrk_0123456789abcdef", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null,
    })
}

fn named(event: Event<Value>) -> Event<Bytes> {
    event.map(|event| sse(event.get("type").and_then(Value::as_str), &event))
}
