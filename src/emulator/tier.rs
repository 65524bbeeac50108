//! The service tier that a call asks for, which its answer names again: in a header (InvokeModel and its stream), or in the body (Converse).

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::reply::{Failure, Reply};
use crate::domain::Tier;

const HEADER: HeaderName = HeaderName::from_static("x-amzn-bedrock-service-tier");

/// Names the tier that the head asks for in the answer's head.
pub(super) fn echo(asked: &HeaderMap, mut reply: Reply) -> Result<Reply, Failure> {
    if let Some(word) = asked.get(HEADER) {
        let tier = named(word.to_str().unwrap_or_default())?;
        reply.headers.push((HEADER, HeaderValue::from_static(tier.label())));
    }
    Ok(reply)
}

/// What a Converse body asks for, as its answer says it.
pub(super) fn in_body(body: &Value) -> Result<Option<Value>, Failure> {
    let Some(word) = body.pointer("/serviceTier/type") else { return Ok(None) };
    let tier = named(word.as_str().unwrap_or_default())?;
    Ok(Some(json!({"type": tier.label()})))
}

fn named(word: &str) -> Result<Tier, Failure> {
    Tier::named(word).ok_or_else(|| Failure::validation("The service tier must be one of `priority`, `default`, `flex` and `reserved`."))
}
