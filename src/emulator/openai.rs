//! OpenAI's shapes: Chat Completions, and Responses, each whole or as server-sent events
//! (<https://platform.openai.com/docs/api-reference/chat>, <https://platform.openai.com/docs/api-reference/responses-streaming>).

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Knobs, Prompt, Usage, with};
use super::reply::{Event, Failure, Reply, sse};
use super::route::Operation;
use super::runtime::{conversation, parse};

/// When every answer was made: a constant, so that answers can be compared.
const CREATED: u64 = 1_768_480_496;

/// The model that a body names.
pub(super) fn model_of(body: &Value) -> Result<String, Failure> {
    body.get("model").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| Failure::validation("`model` is missing."))
}

/// The model, for operations that name it in the body.
pub(super) fn model_in(operation: Operation, body: &[u8]) -> Option<String> {
    let in_body = [Operation::ChatCompletions, Operation::Responses, Operation::Messages, Operation::CountMessageTokens];
    if !in_body.contains(&operation) {
        return None;
    }
    model_of(&parse(body).ok()?).ok()
}

fn is_true(body: &Value, pointer: &str) -> bool {
    body.pointer(pointer) == Some(&Value::Bool(true))
}

pub(super) fn chat_completions(body: &[u8], knobs: Knobs) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let model = known(model_of(&body)?)?;
    let answer = chat_answer(&body, knobs)?;
    let reply = if is_true(&body, "/stream") {
        let chunks = chat_chunks(&answer, &model, is_true(&body, "/stream_options/include_usage"));
        let chunks = chunks.into_iter().map(|chunk| chunk.map(|chunk| tiered(chunk, &body)));
        let done = Event::frame(Bytes::from_static(b"data: [DONE]\n\n"));
        Reply::sse(chunks.map(|chunk| chunk.map(|chunk| sse(None, &chunk))).chain([done]).collect())
    } else {
        Reply::json(&tiered(chat_completion(&answer, &model), &body))
    };
    Ok(reply.costing(answer.cost, &model))
}

/// With the service tier that was asked for.
fn tiered(object: Value, asked: &Value) -> Value {
    with(object, "service_tier", asked.get("service_tier").cloned())
}

fn known(model: String) -> Result<String, Failure> {
    if model.contains("nonexistent") {
        return Err(Failure::not_found(format!("The model `{model}` does not exist.")));
    }
    Ok(model)
}

/// What the model says to a chat; the limit has an old name and a new one.
pub(super) fn chat_answer(body: &Value, knobs: Knobs) -> Result<Answer, Failure> {
    let max_tokens = ["max_completion_tokens", "max_tokens"].iter().find_map(|name| body.get(*name)?.as_u64());
    Ok(Answer::to(&conversation(body)?, max_tokens, knobs))
}

/// The whole answer.
pub(super) fn chat_completion(answer: &Answer, model: &str) -> Value {
    let message = json!({"role": "assistant", "content": answer.text(), "refusal": null});
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": answer.ended("stop", "length")});
    let reply = json!({"id": "chatcmpl-0123456789", "object": "chat.completion", "created": CREATED, "model": model, "choices": [choice]});
    with(reply, "usage", answer.usage.map(|usage| chat_usage(usage, answer.reasoning)))
}

/// The answer's stream, without its final `[DONE]`.
pub(super) fn chat_chunks(answer: &Answer, model: &str, include_usage: bool) -> Vec<Event<Value>> {
    let chunk = |choices: Value| json!({"id": "chatcmpl-0123456789", "object": "chat.completion.chunk", "created": CREATED, "model": model, "choices": choices});
    let delta =
        |delta: Value, finish: Option<&str>| chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]));
    let mut chunks = vec![Event::frame(delta(json!({"role": "assistant", "content": ""}), None))];
    chunks.extend(answer.pieces.iter().map(|text| Event::token(delta(json!({"content": text}), None))));
    chunks.push(Event::frame(delta(json!({}), Some(answer.ended("stop", "length")))));
    if let Some(usage) = answer.usage.filter(|_| include_usage) {
        chunks.push(Event::usage(with(chunk(json!([])), "usage", Some(chat_usage(usage, answer.reasoning)))));
    }
    chunks
}

fn chat_usage(usage: Usage, reasoning: u64) -> Value {
    json!({
        "prompt_tokens": prompt_tokens(usage), "completion_tokens": usage.output, "total_tokens": usage.total(),
        "prompt_tokens_details": cached(usage), "completion_tokens_details": {"reasoning_tokens": reasoning},
    })
}

/// OpenAI's input tokens include those that a cache read or wrote.
const fn prompt_tokens(usage: Usage) -> u64 {
    usage.total() - usage.output
}

fn cached(usage: Usage) -> Value {
    // On bedrock-runtime what was written is told too, not for how long.
    let written = (usage.cache_write() > 0).then(|| json!(usage.cache_write()));
    with(json!({"cached_tokens": usage.cache_read}), "cache_write_tokens", written)
}

pub(super) fn responses(body: &[u8], knobs: Knobs) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let model = known(model_of(&body)?)?;
    let input = body.get("input").ok_or_else(|| Failure::validation("`input` is missing."))?;
    let prompt = Prompt::of(&[body.get("instructions").unwrap_or(&Value::Null), input]);
    let answer = Answer::to(&prompt, body.get("max_output_tokens").and_then(Value::as_u64), knobs);
    let reply = if is_true(&body, "/stream") {
        let tier = |mut event: Value| {
            if let Some(response) = event.get_mut("response") {
                *response = tiered(response.take(), &body);
            }
            event
        };
        let named = |event: Value| sse(event.get("type").and_then(Value::as_str), &event);
        Reply::sse(response_events(&answer, &model).into_iter().map(|event| event.map(tier).map(named)).collect())
    } else {
        Reply::json(&tiered(response(&answer, &model), &body))
    };
    Ok(reply.costing(answer.cost, &model))
}

fn response(answer: &Answer, model: &str) -> Value {
    let status = answer.ended("completed", "incomplete");
    let text = json!({"type": "output_text", "text": answer.text(), "annotations": []});
    let mut response = shell(model, status);
    response = with(response, "output", Some(json!([item(status, json!([text]))])));
    if answer.cut_short {
        response = with(response, "incomplete_details", Some(json!({"reason": "max_output_tokens"})));
    }
    with(response, "usage", answer.usage.map(|usage| response_usage(usage, answer.reasoning)))
}

fn shell(model: &str, status: &str) -> Value {
    json!({
        "id": "resp_0123456789", "object": "response", "created_at": CREATED, "status": status, "model": model, "output": [],
        "error": null, "incomplete_details": null, "instructions": null, "metadata": {}, "parallel_tool_calls": true,
        "tool_choice": "auto", "tools": [], "temperature": 1.0, "top_p": 1.0, "usage": null,
    })
}

fn item(status: &str, content: Value) -> Value {
    with(json!({"id": "msg_0123456789", "type": "message", "role": "assistant", "status": status}), "content", Some(content))
}

fn response_usage(usage: Usage, reasoning: u64) -> Value {
    json!({
        "input_tokens": prompt_tokens(usage), "output_tokens": usage.output, "total_tokens": usage.total(),
        "input_tokens_details": cached(usage), "output_tokens_details": {"reasoning_tokens": reasoning},
    })
}

fn response_events(answer: &Answer, model: &str) -> Vec<Event<Value>> {
    let whole = response(answer, model);
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
    let place = json!({"item_id": "msg_0123456789", "output_index": 0, "content_index": 0});
    let at = |kind: &str, name: &str, value: Value| with(with(place.clone(), "type", Some(json!(kind))), name, Some(value));
    let ended = answer.ended("completed", "incomplete");
    let mut events = vec![
        Event::frame(json!({"type": "response.created", "response": shell(model, "in_progress")})),
        Event::frame(json!({"type": "response.in_progress", "response": shell(model, "in_progress")})),
        Event::frame(json!({"type": "response.output_item.added", "output_index": 0, "item": item("in_progress", json!([]))})),
        Event::frame(at("response.content_part.added", "part", part(""))),
    ];
    let delta = |text: &String| with(at("response.output_text.delta", "delta", json!(text)), "logprobs", Some(json!([])));
    events.extend(answer.pieces.iter().map(|text| Event::token(delta(text))));
    events.push(Event::frame(with(at("response.output_text.done", "text", json!(answer.text())), "logprobs", Some(json!([])))));
    events.push(Event::frame(at("response.content_part.done", "part", part(&answer.text()))));
    let done = item(ended, json!([part(&answer.text())]));
    events.push(Event::frame(json!({"type": "response.output_item.done", "output_index": 0, "item": done})));
    events.push(Event::usage(json!({"type": format!("response.{ended}"), "response": whole})));
    let numbered = |(number, event): (usize, Event<Value>)| event.map(|event| with(event, "sequence_number", Some(json!(number))));
    events.into_iter().enumerate().map(numbered).collect()
}
