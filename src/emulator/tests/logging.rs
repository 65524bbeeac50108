//! Bedrock's own log of invocations.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::*;
use crate::domain::{Clock, ManualClock};

const HOUR: &str = "AWSLogs/123456789012/BedrockModelInvocationLogs/us-east-1/2026/01/15/12";

/// A directory of this test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn named(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tollgate-{}-emulator-{name}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// An emulator that logs to a fresh directory, at 2026-01-15T12:34:56Z, and checks no signature.
async fn logging(directory: &Path) -> Emulator {
    let clock = Clock::Manual(ManualClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_768_480_496)));
    let invocation_logs = Some(directory.to_owned());
    Emulator::start(Options { invocation_logs, clock, verify: false, ..Options::default() }).await.unwrap()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

fn records(directory: &Path) -> Vec<Value> {
    let lines = files(directory).into_iter().map(|file| std::fs::read_to_string(file).unwrap());
    lines.flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn a_record_has_bedrocks_fields_at_bedrocks_place() {
    let directory = Scratch::named("place");
    let emulator = logging(&directory.0).await;
    let body = CONVERSE.replacen('{', r#"{"requestMetadata":{"tenant":"a"},"#, 1);
    ask(&emulator, "/model/anthropic.claude%3A0/converse", "usage-100-50-30-20-10", &body).await.unwrap();
    emulator.requests_until(|all| all[0].outcome == Outcome::Completed).await;
    assert_eq!(files(&directory.0), Vec::<PathBuf>::new());
    emulator.flush_invocation_logs().unwrap();
    let [file] = <[PathBuf; 1]>::try_from(files(&directory.0)).unwrap();
    assert!(file.starts_with(directory.0.join(HOUR)) && file.extension().is_some_and(|end| end == "json"), "{}", file.display());
    let wanted = json!({
        "schemaType": "ModelInvocationLog", "schemaVersion": "1.0", "timestamp": "2026-01-15T12:34:56Z", "accountId": "123456789012",
        "identity": {"arn": "arn:aws:iam::123456789012:user/AKIDEXAMPLE"}, "region": "us-east-1",
        "requestId": emulator.bills()[0].request_id, "operation": "Converse", "modelId": "anthropic.claude:0",
        "input": {"inputContentType": "application/json", "inputTokenCount": 100, "cacheReadInputTokenCount": 30, "cacheWriteInputTokenCount": 30},
        "output": {"outputContentType": "application/json", "outputTokenCount": 50},
        "requestMetadata": {"tenant": "a"},
    });
    assert_eq!(records(&directory.0), [wanted]);
    emulator.flush_invocation_logs().unwrap();
    assert_eq!(files(&directory.0).len(), 1);
}

#[tokio::test]
async fn records_count_what_was_billed_and_dropping_the_emulator_writes_them() {
    let directory = Scratch::named("dropped");
    let emulator = logging(&directory.0).await;
    let prompt = r#"{"prompt":"one two"}"#;
    let metadata = [("X-Amzn-Bedrock-Request-Metadata", r#"{"tenant":"b"}"#)];
    Peer::to(&emulator).await.ask(&signed("POST", "/model/meta.llama3/invoke", &metadata, prompt)).await.unwrap();
    let cut = ask(&emulator, "/model/meta.llama3/invoke-with-response-stream", "close-between-frames-1", prompt).await;
    assert!(cut.is_err());
    let chat = r#"{"model":"openai.gpt-oss","messages":[{"role":"user","content":"one"}]}"#;
    ask(&emulator, "/v1/chat/completions", "", chat).await.unwrap();
    emulator.requests_until(|all| all.len() == 3 && all.iter().all(|request| request.outcome != Outcome::Open)).await;
    drop(emulator);
    let told: Vec<_> = records(&directory.0)
        .into_iter()
        .map(|record| {
            let counts = [&record["input"]["inputTokenCount"], &record["output"]["outputTokenCount"]].map(|count| count.as_u64().unwrap());
            (record["operation"].as_str().unwrap().to_owned(), counts, record["requestMetadata"].clone())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("InvokeModel".to_owned(), [2, 3], json!({"tenant": "b"})),
            ("InvokeModelWithResponseStream".to_owned(), [2, 1], Value::Null),
            ("ChatCompletions".to_owned(), [1, 2], Value::Null),
        ]
    );
}

#[tokio::test]
async fn what_bedrock_logs_none_of_is_in_no_record() {
    let directory = Scratch::named("none");
    let emulator = logging(&directory.0).await;
    let chat = r#"{"model":"openai.gpt-oss","messages":[{"role":"user","content":"one"}]}"#;
    let mantle = signed("POST", "/v1/chat/completions", &[], chat).replace("us-east-1/bedrock/", "us-east-1/bedrock-mantle/");
    assert_eq!(Peer::to(&emulator).await.ask(&mantle).await.unwrap().status, 200);
    ask(&emulator, "/agents/s", "", r#"{"foundationModel":"x","inputText":"one"}"#).await.unwrap();
    ask(&emulator, "/model/x/converse", "429", CONVERSE).await.unwrap();
    emulator.requests_until(|all| all.len() == 3 && all.iter().all(|request| request.outcome != Outcome::Open)).await;
    assert_eq!(emulator.bills().len(), 2);
    drop(emulator);
    assert_eq!(records(&directory.0), Vec::<Value>::new());
}
