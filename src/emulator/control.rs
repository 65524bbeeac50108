//! A few read operations of the control plane (`bedrock`), and the list of models in OpenAI's shape.

use serde_json::{Value, json};

use super::reply::{Failure, Reply};

/// The models that are listed; any other id is answered too.
const MODELS: [(&str, &str); 10] = [
    ("anthropic.claude-sonnet-4-20250514-v1:0", "Anthropic"),
    ("anthropic.claude-3-haiku-20240307-v1:0", "Anthropic"),
    ("amazon.nova-lite-v1:0", "Amazon"),
    ("amazon.titan-text-express-v1", "Amazon"),
    ("amazon.titan-embed-text-v2:0", "Amazon"),
    ("meta.llama3-8b-instruct-v1:0", "Meta"),
    ("mistral.mistral-7b-instruct-v0:2", "Mistral AI"),
    ("cohere.command-r-v1:0", "Cohere"),
    ("cohere.embed-english-v3", "Cohere"),
    ("openai.gpt-oss-120b-1:0", "OpenAI"),
];
/// When everything in here was made.
const CREATED: &str = "2026-01-15T12:34:56Z";

fn model_arn(id: &str) -> String {
    format!("arn:aws:bedrock:us-east-1::foundation-model/{id}")
}

fn model(id: &str, provider: &str) -> Value {
    let output = if id.contains("embed") { "EMBEDDING" } else { "TEXT" };
    json!({
        "modelArn": model_arn(id),
        "modelId": id,
        "modelName": id,
        "providerName": provider,
        "inputModalities": ["TEXT"],
        "outputModalities": [output],
        "responseStreamingSupported": output == "TEXT",
        "customizationsSupported": [],
        "inferenceTypesSupported": ["ON_DEMAND"],
        "modelLifecycle": {"status": "ACTIVE"},
    })
}

pub(super) fn foundation_models() -> Reply {
    let models: Vec<_> = MODELS.iter().map(|(id, provider)| model(id, provider)).collect();
    Reply::json(&json!({"modelSummaries": models}))
}

pub(super) fn foundation_model(asked: &str) -> Result<Reply, Failure> {
    let found = MODELS.iter().find(|(id, _)| *id == asked || model_arn(id) == asked);
    let (id, provider) = found.ok_or_else(|| Failure::not_found(format!("Could not find the model `{asked}`.")))?;
    Ok(Reply::json(&json!({"modelDetails": model(id, provider)})))
}

fn profile(id: &str) -> Value {
    json!({
        "inferenceProfileName": format!("US {id}"),
        "description": format!("Routes requests to {id} in us-east-1 and us-west-2."),
        "createdAt": CREATED,
        "updatedAt": CREATED,
        "inferenceProfileArn": format!("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{id}"),
        "models": [{"modelArn": model_arn(id)}],
        "inferenceProfileId": format!("us.{id}"),
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
    })
}

pub(super) fn inference_profiles() -> Reply {
    let profiles: Vec<_> = MODELS.iter().map(|(id, _)| profile(id)).collect();
    Reply::json(&json!({"inferenceProfileSummaries": profiles}))
}

/// A profile by its id or ARN.
pub(super) fn inference_profile(asked: &str) -> Result<Reply, Failure> {
    let id = asked.rsplit('/').next().unwrap_or(asked);
    let found = MODELS.iter().find(|(known, _)| id.strip_prefix("us.") == Some(*known));
    let (id, _) = found.ok_or_else(|| Failure::not_found(format!("Could not find the inference profile `{asked}`.")))?;
    Ok(Reply::json(&profile(id)))
}

/// In OpenAI's shape.
pub(super) fn models() -> Reply {
    let models: Vec<_> =
        MODELS.iter().map(|(id, owner)| json!({"id": id, "object": "model", "created": 1_768_480_496, "owned_by": owner})).collect();
    Reply::json(&json!({"object": "list", "data": models}))
}
