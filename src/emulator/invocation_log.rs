//! The log that Bedrock itself keeps of invocations, as it lies in S3, under a directory instead of a bucket.
//!
//! `AWSLogs/{account}/BedrockModelInvocationLogs/{region}/YYYY/MM/DD/HH/*.json`, one JSON object a line (AWS gzips the files; the emulator does not). Fields are
//! those of the user guide's "Monitor model invocation using CloudWatch Logs and Amazon S3", without bodies. What the guide says is logged is logged: the
//! four model operations, Chat Completions and Responses on bedrock-runtime, and nothing of bedrock-mantle; `requestMetadata` of the four operations only.
//! Token counts are those of the [`Bill`]; the hour is that of the answer's beginning.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use parking_lot::Mutex;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use super::answer::with;
use super::bill::Bill;
use super::claim::Claim;
use super::route::Operation;
use super::scope::Named;
use super::verify::Received;

/// The account that everything belongs to.
const ACCOUNT: &str = "123456789012";
/// The region, where neither the signature nor the host names one.
const REGION: &str = "us-east-1";
/// How many bytes wait for a flush.
const MOST_WAITING: usize = 1024 * 1024;

/// Records that wait, by the directory that they belong in.
#[derive(Debug)]
pub(super) struct InvocationLog {
    root: PathBuf,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: usize,
    records: BTreeMap<PathBuf, String>,
}

/// What a record tells beside the bill.
#[derive(Debug)]
pub(super) struct Record {
    begun: OffsetDateTime,
    region: String,
    arn: String,
    metadata: Option<Value>,
}

impl Record {
    /// The record of an answer that begins `now`; `None` where Bedrock logs none.
    pub(super) fn of(operation: Operation, received: &Received<'_>, body: &[u8], now: SystemTime) -> Option<Self> {
        let in_header = |name: &str| received.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
        let metadata: Option<Value> = match operation {
            Operation::Converse | Operation::ConverseStream => {
                serde_json::from_slice::<Value>(body).ok().and_then(|mut body| body.get_mut("requestMetadata").map(Value::take))
            }
            Operation::InvokeModel | Operation::InvokeModelWithResponseStream => {
                in_header("x-amzn-bedrock-request-metadata").and_then(|value| serde_json::from_slice(value).ok())
            }
            Operation::ChatCompletions | Operation::Responses => None,
            _ => return None,
        };
        let host = in_header("host").and_then(|host| std::str::from_utf8(host).ok()).unwrap_or_default();
        let named = Named::by(host, received.path);
        let (service, region, user) = match Claim::of(received) {
            Ok(claim) => (Some(claim.service), Some(claim.region), claim.key_id),
            Err(_) => (named.service.map(str::to_owned), named.region, "unsigned".to_owned()),
        };
        if service.as_deref() == Some("bedrock-mantle") {
            return None;
        }
        let region = region.filter(|region| region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        let arn = format!("arn:aws:iam::{ACCOUNT}:user/{user}");
        Some(Self { begun: now.into(), region: region.unwrap_or_else(|| REGION.to_owned()), arn, metadata })
    }

    fn line(&self, bill: &Bill) -> String {
        let usage = bill.usage;
        let timestamp = self.begun.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z")).unwrap_or_default();
        let record = json!({
            "schemaType": "ModelInvocationLog",
            "schemaVersion": "1.0",
            "timestamp": timestamp,
            "accountId": ACCOUNT,
            "identity": {"arn": self.arn},
            "region": self.region,
            "requestId": bill.request_id,
            "operation": bill.operation,
            "modelId": bill.model,
            "input": {
                "inputContentType": "application/json",
                "inputTokenCount": usage.input,
                "cacheReadInputTokenCount": usage.cache_read,
                "cacheWriteInputTokenCount": usage.cache_write(),
            },
            "output": {"outputContentType": "application/json", "outputTokenCount": usage.output},
        });
        with(record, "requestMetadata", self.metadata.clone()).to_string() + "\n"
    }

    fn directory(&self) -> PathBuf {
        let hour = self.begun.format(format_description!("[year]/[month]/[day]/[hour]")).unwrap_or_default();
        ["AWSLogs", ACCOUNT, "BedrockModelInvocationLogs", &self.region, &hour].iter().collect()
    }
}

impl InvocationLog {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, waiting: Mutex::default() }
    }

    /// Writes a record down, for the next flush. What can't be written is told and lost.
    pub(super) fn write(&self, record: &Record, bill: &Bill) {
        let line = record.line(bill);
        let mut waiting = self.waiting.lock();
        waiting.bytes += line.len();
        waiting.records.entry(record.directory()).or_default().push_str(&line);
        let full = waiting.bytes > MOST_WAITING;
        drop(waiting);
        if full {
            self.flush_or_warn();
        }
    }

    /// Writes what waits to new files, one for each region and hour.
    pub(super) fn flush(&self) -> io::Result<()> {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for (directory, lines) in waiting.records {
            let directory = self.root.join(directory);
            fs::create_dir_all(&directory)?;
            fs::write(directory.join(format!("{:016x}.json", fastrand::u64(..))), lines)?;
        }
        Ok(())
    }

    pub(super) fn flush_or_warn(&self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "the emulator's invocation log can't be written");
        }
    }
}

impl Drop for InvocationLog {
    fn drop(&mut self) {
        self.flush_or_warn();
    }
}
