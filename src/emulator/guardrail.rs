//! Guardrails by themselves: `ApplyGuardrail` and `InvokeGuardrailChecks`. They cost text units by policy, of up to 1,000 characters each, and no tokens.

use serde_json::{Value, json};

use super::answer::{Knobs, with};
use super::reply::{Failure, Reply};
use super::runtime::parse;

/// A text that holds this word is what the emulated guardrail stops.
const FORBIDDEN: &str = "forbidden";
/// What a stopped text becomes.
const STOPPED: &str = "Sorry, the emulated guardrail stopped this.";
/// The checks that can be asked for inline.
const CHECKS: [&str; 3] = ["contentFilter", "promptAttack", "sensitiveInformation"];

/// Stops a text that holds the word `forbidden`; lets any other pass.
pub(super) fn apply(body: &[u8], knobs: Knobs) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let content = body.get("content").and_then(Value::as_array).ok_or_else(|| Failure::validation("`content` is missing."))?;
    let texts: Vec<&str> = content.iter().filter_map(|block| block.pointer("/text/text")?.as_str()).collect();
    let stopped = texts.iter().any(|text| text.contains(FORBIDDEN));
    let characters: usize = texts.iter().map(|text| text.chars().count()).sum();
    let (action, reason) = if stopped { ("GUARDRAIL_INTERVENED", "Guardrail blocked.") } else { ("NONE", "No action.") };
    let outputs = if stopped { vec![json!({"text": STOPPED})] } else { Vec::new() };
    let words = json!({"customWords": [{"match": FORBIDDEN, "action": "BLOCKED", "detected": true}], "managedWordLists": []});
    let assessments = if stopped { vec![json!({"wordPolicy": words})] } else { Vec::new() };
    Ok(Reply::json(&json!({
        "usage": usage(characters, knobs),
        "action": action,
        "actionReason": reason,
        "outputs": outputs,
        "assessments": assessments,
        "guardrailCoverage": {"textCharacters": {"guarded": characters, "total": characters}},
    })))
}

/// By default the one policy there is, that of words (which AWS gives away); or what a fault sets of the others.
fn usage(characters: usize, knobs: Knobs) -> Value {
    let units = knobs.units.unwrap_or_default();
    let usage = json!({
        "topicPolicyUnits": units.topic, "contentPolicyUnits": units.content, "wordPolicyUnits": characters.div_ceil(1_000),
        "sensitiveInformationPolicyUnits": units.sensitive_information, "sensitiveInformationPolicyFreeUnits": 0,
        "contextualGroundingPolicyUnits": units.contextual_grounding,
    });
    let told = |units: u64| (units > 0).then(|| json!(units));
    let usage = with(usage, "contentPolicyImageUnits", told(units.content_image));
    let usage = with(usage, "automatedReasoningPolicyUnits", told(units.automated_reasoning));
    with(usage, "automatedReasoningPolicies", told(units.automated_reasoning.min(1)))
}

/// Finds nothing, for each check that is asked for.
pub(super) fn checks(body: &[u8]) -> Result<Reply, Failure> {
    let body = parse(body)?;
    let messages = body.get("messages").and_then(Value::as_array).ok_or_else(|| Failure::validation("`messages` is missing."))?;
    let blocks = messages.iter().filter_map(|message| message.get("content")?.as_array()).flatten();
    let characters: usize = blocks.filter_map(|block| Some(block.get("text")?.as_str()?.chars().count())).sum();
    let (mut results, mut usage) = (json!({}), json!({}));
    for check in CHECKS.iter().filter(|check| body.pointer(&format!("/checks/{check}")).is_some()) {
        results = with(results, check, Some(json!({"results": []})));
        usage = with(usage, check, Some(json!({"textUnits": characters.div_ceil(1_000)})));
    }
    Ok(Reply::json(&json!({"results": results, "usage": usage})))
}
