//! `tollgate reconcile`: the ledger beside Bedrock's model-invocation logs.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::period::{Moment, moment, told};
use super::table::{Align, aligned};
use super::usage::Source;
use crate::record::{Counted, Reconciliation, reconcile};

#[derive(clap::Args)]
pub(super) struct Reconcile {
    #[command(flatten)]
    source: Source,
    /// The directory of the logs, as S3 has them: every *.json and *.json.gz below it is read
    #[arg(long, value_name = "DIR")]
    invocation_logs: PathBuf,
    /// From when on: days or hours ago, or a date or time (UTC); from when both have something, if left out
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Until when; until both have nothing more, if left out. A date is its beginning
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// By how much a figure may be off, of what AWS has: 0% to 100%, with four decimals at most
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = millionths)]
    tolerance: u32,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    /// For a person
    #[default]
    Table,
    /// For a program; see docs/ledger.md
    Json,
}

/// What a comparison says.
pub(super) struct Compared {
    pub(super) answer: String,
    /// Whether something is off by more than is tolerated.
    pub(super) drifts: bool,
}

impl Reconcile {
    /// Compares, at the time `now`.
    pub(super) fn run(self, now: SystemTime) -> Result<Compared, String> {
        let (since, until) = (self.since.map(|since| since.from(now)), self.until.map(|until| until.from(now)));
        let found = reconcile(&self.source.file()?, &self.invocation_logs, since, until).map_err(|error| error.to_string())?;
        let drifts = found.drifts(self.tolerance);
        let answer = match self.format {
            Format::Table => table(&found, drifts),
            Format::Json => serde_json::to_string_pretty(&answer(&found, drifts)).map_err(|error| error.to_string())? + "\n",
        };
        Ok(Compared { answer, drifts })
    }
}

/// `0%`, `0.01%`, `100%`, as millionths.
fn millionths(text: &str) -> Result<u32, String> {
    let parsed = text.strip_suffix('%').and_then(|number| {
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 3 || decimals.len() > 4 || !digits(whole) || !digits(decimals) {
            return None;
        }
        format!("{whole}{decimals:0<4}").parse::<u32>().ok().filter(|parts| *parts <= 1_000_000)
    });
    parsed.ok_or_else(|| "0% to 100%, with four decimals at most, as in 0.01%".to_owned())
}

/// How much more the ledger has: signed.
fn drift(ledger: u64, aws: u64) -> i128 {
    i128::from(ledger) - i128::from(aws)
}

/// The same of what AWS has, in percent, cut after four decimals; none where AWS has nothing and the ledger does.
fn percent(ledger: u64, aws: u64) -> Option<String> {
    if ledger == aws {
        return Some("0".to_owned());
    }
    let millionths = (u128::from(ledger.abs_diff(aws)) * 1_000_000).checked_div(u128::from(aws))?;
    let sign = if ledger < aws { "-" } else { "" };
    Some(format!("{sign}{}.{:04}", millionths / 10_000, millionths % 10_000))
}

fn basis(estimated: bool) -> &'static str {
    if estimated { "estimated" } else { "reported" }
}

/// The kinds of tokens, with each side's count.
fn kinds(ledger: &Counted, aws: &Counted) -> impl Iterator<Item = (&'static str, u64, u64)> + use<> {
    let (ledger, aws) = (ledger.tokens(), aws.tokens());
    Counted::KINDS.into_iter().zip(ledger).zip(aws).map(|((kind, ledger), aws)| (kind, ledger, aws))
}

fn table(found: &Reconciliation, drifts: bool) -> String {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut rows = vec![words(&["TENANT", "MODEL", "BASIS", "CALLS", "KIND", "LEDGER", "AWS", "DRIFT", "PERCENT"])];
    for row in &found.compared {
        for (kind, ledger, aws) in kinds(&row.ledger, &row.aws) {
            rows.push(vec![
                row.tenant.clone(),
                row.model.clone(),
                basis(row.estimated).to_owned(),
                row.ledger.calls.to_string(),
                kind.to_owned(),
                ledger.to_string(),
                aws.to_string(),
                drift(ledger, aws).to_string(),
                percent(ledger, aws).unwrap_or_else(|| "-".to_owned()),
            ]);
        }
    }
    let mut text = format!("from {} until {}\n\n", told(found.since), told(found.until));
    let (left, right) = (Align::Left, Align::Right);
    text.push_str(&aligned(&[left, left, left, right, left, right, right, right, right], &rows));
    let mut alone = vec![words(&["ONLY IN", "TENANT", "MODEL", "BASIS", "CALLS", "INPUT", "OUTPUT", "CACHE READ", "CACHE WRITE"])];
    let mut one = |side: &str, tenant: &str, model: &str, basis: &str, counted: &Counted| {
        let figures = std::iter::once(counted.calls).chain(counted.tokens()).map(|figure| figure.to_string());
        alone.push(words(&[side, tenant, model, basis]).into_iter().chain(figures).collect());
    };
    for (model, counted) in &found.only_aws {
        one("aws", "-", model, "reported", counted);
    }
    for (tenant, model, estimated, counted) in &found.only_ledger {
        one("ledger", tenant, model, basis(*estimated), counted);
    }
    if alone.len() > 1 {
        text.push('\n');
        text.push_str(&aligned(&[left, left, left, left, right, right, right, right, right], &alone));
    }
    let logs = &found.logs;
    _ = write!(
        text,
        "\nlogs: {} files, {} invocations, {} of them told twice, {} that used nothing and are not in the ledger; passed over: {} other lines, {} malformed, {} too long\n{}\n",
        logs.files,
        logs.invocations,
        logs.duplicates,
        found.only_aws_without_tokens,
        logs.other,
        logs.malformed,
        logs.too_long,
        if drifts { "the ledger drifts from the logs" } else { "the ledger agrees with the logs" }
    );
    text
}

fn answer(found: &Reconciliation, drifts: bool) -> Value {
    let tokens = |counted: &Counted| Counted::KINDS.into_iter().zip(counted.tokens()).map(|(kind, count)| (kind.to_owned(), json!(count)));
    let counted = |counted: &Counted| json!({ "calls": counted.calls, "tokens": tokens(counted).collect::<serde_json::Map<_, _>>() });
    let compared = found.compared.iter().map(|row| {
        let kinds = kinds(&row.ledger, &row.aws).map(|(kind, ledger, aws)| {
            let drift = i64::try_from(drift(ledger, aws)).unwrap_or(i64::MAX);
            (kind.to_owned(), json!({ "ledger": ledger, "aws": aws, "drift": drift, "drift_percent": percent(ledger, aws) }))
        });
        let kinds: serde_json::Map<_, _> = kinds.collect();
        json!({ "tenant": row.tenant, "model": row.model, "basis": basis(row.estimated), "calls": row.ledger.calls, "tokens": kinds })
    });
    let with = |mut value: Value, more: Value| {
        if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
            value.extend(more);
        }
        value
    };
    let only_aws = found.only_aws.iter().map(|(model, figures)| with(counted(figures), json!({ "model": model })));
    let only_ledger = found.only_ledger.iter().map(|(tenant, model, estimated, figures)| {
        with(counted(figures), json!({ "tenant": tenant, "model": model, "basis": basis(*estimated) }))
    });
    let logs = &found.logs;
    json!({
        "since": told(found.since),
        "until": told(found.until),
        "drifts": drifts,
        "compared": compared.collect::<Vec<_>>(),
        "only_aws": only_aws.collect::<Vec<_>>(),
        "only_aws_without_tokens": found.only_aws_without_tokens,
        "only_ledger": only_ledger.collect::<Vec<_>>(),
        "logs": {
            "files": logs.files, "invocations": logs.invocations, "duplicates": logs.duplicates, "other": logs.other,
            "malformed": logs.malformed, "too_long": logs.too_long,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_is_told_of_what_aws_has() {
        for (ledger, aws, expected) in [
            (0, 0, Some("0")),
            (5, 5, Some("0")),
            (12, 13, Some("-7.6923")),
            (3, 1, Some("200.0000")),
            (1_000_001, 1_000_000, Some("0.0001")),
            (1, 0, None),
            (0, u64::MAX, Some("-100.0000")),
        ] {
            assert_eq!(percent(ledger, aws).as_deref(), expected, "{ledger} {aws}");
        }
    }

    #[test]
    fn a_tolerance_is_a_share() {
        for (text, parts) in [("0%", 0), ("0.01%", 100), ("1%", 10_000), ("100%", 1_000_000), ("0.0001%", 1)] {
            assert_eq!(millionths(text), Ok(parts), "{text}");
        }
        for wrong in ["", "1", "%", "-1%", "101%", "1e2%", "0.00001%"] {
            assert!(millionths(wrong).is_err(), "{wrong}");
        }
    }
}
