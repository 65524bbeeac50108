//! The ledger beside AWS's logs.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::*;
use crate::record::entry::Tried;
use crate::record::labels::Attempt;

/// A line of a log, as Bedrock writes it.
fn line(id: &str, seconds: u64, counts: [u64; 4]) -> Value {
    let at = time::OffsetDateTime::from(now() + Duration::from_secs(seconds));
    json!({
        "schemaType": "ModelInvocationLog", "schemaVersion": "1.0", "requestId": id, "modelId": "arn:m", "operation": "Converse",
        "timestamp": at.format(&time::format_description::well_known::Rfc3339).unwrap(),
        "input": {
            "inputTokenCount": counts[0], "cacheReadInputTokenCount": counts[2], "cacheWriteInputTokenCount": counts[3],
            "inputBodyJson": { "messages": "a word that was spoken" },
        },
        "output": { "outputTokenCount": counts[1], "outputBodyJson": "a word that was answered" },
    })
}

fn write(dir: &Dir, name: &str, lines: &[Value]) {
    let path = dir.0.join("logs").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut gzip = GzEncoder::new(std::fs::File::create(path).unwrap(), Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap();
    } else {
        std::fs::write(path, text).unwrap();
    }
}

/// A ledger of four exchanges, a second apart: `a`, `b` (estimated), `c` and `d`.
fn ledger(dir: &Dir) {
    let (ledger, _) = start(&dir.file());
    let id = RequestId::random();
    let ada = principal("acme", None);
    let usage =
        Usage { tokens: Tokens { input: 10, output: 4, cache_read: 3, cache_write_5m: 2, cache_write_1h: 1, reasoning: 0 }, ..used(0, 0) };
    let estimate = Usage { basis: Basis::Estimated, ..usage };
    for (nth, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let began = now() + Duration::from_secs(nth as u64);
        let usage = if name == "b" { &estimate } else { &usage };
        ledger.note(&Entry { began, upstream_request_id: Some(name.as_bytes()), ..answered(&id, &ada, usage) });
    }
    assert!(ledger.flush(PATIENCE));
}

const SAME: [u64; 4] = [10, 4, 3, 3];

fn compare(dir: &Dir) -> Result<Reconciliation, ReconcileError> {
    reconcile(&dir.file(), &dir.0.join("logs"), None, None)
}

#[test]
fn where_all_is_the_same_nothing_drifts() {
    let dir = Dir::new();
    ledger(&dir);
    write(&dir, "2026/11/22/13/one.json.gz", &[line("a", 0, SAME), line("b", 1, SAME), line("a", 0, SAME)]);
    write(&dir, "2026/11/22/13/two.json", &[line("c", 2, SAME), line("d", 3, SAME), json!({ "messages": [] })]);
    write(&dir, "2026/11/22/13/notes.txt", &[json!("not looked at")]);
    let found = compare(&dir).unwrap();
    let logs = InvocationLogs { files: 2, invocations: 5, duplicates: 1, other: 1, malformed: 0, too_long: 0 };
    assert_eq!(found.logs, logs);
    let counted = |calls| Counted { calls, input: 10 * calls, output: 4 * calls, cache_read: 3 * calls, cache_write: 3 * calls };
    let row =
        |estimated, calls| Compared { tenant: "acme".into(), model: "m".into(), estimated, ledger: counted(calls), aws: counted(calls) };
    assert_eq!(found.compared, [row(false, 3), row(true, 1)]);
    assert!(found.only_aws.is_empty() && found.only_ledger.is_empty() && !found.drifts(0));
}

#[test]
fn a_try_that_was_given_up_is_a_request_of_its_own_as_it_is_in_the_log_of_aws() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let (id, ada, usage, of_try) = (RequestId::random(), principal("acme", None), used(10, 4), used(10, 1));
    let tried = Tried {
        target: "first".into(),
        upstream: "use1".into(),
        model: None,
        outcome: Attempt::Exception,
        status: Some(200),
        upstream_request_id: Some(b"tried".as_slice().into()),
        began: Duration::ZERO,
        took: Duration::from_secs(1),
        usage: Some(of_try),
        cost: Cost::Nothing,
    };
    ledger.note(&Entry { tried: &[tried], upstream_request_id: Some(b"answered"), ..answered(&id, &ada, &usage) });
    assert!(ledger.flush(PATIENCE));
    write(&dir, "l.json", &[line("tried", 0, [10, 1, 0, 0]), line("answered", 0, [10, 4, 0, 0])]);
    let found = compare(&dir).unwrap();
    let both = Counted { calls: 2, input: 20, output: 5, ..Counted::default() };
    assert_eq!((found.compared.len(), found.compared[0].ledger, found.compared[0].aws), (1, both, both));
    assert!(found.only_aws.is_empty() && found.only_ledger.is_empty() && !found.drifts(0));
}

#[test]
fn drift_is_told_by_kind_and_an_estimate_is_no_drift() {
    let dir = Dir::new();
    ledger(&dir);
    write(&dir, "l.json", &[line("a", 0, [10, 5, 3, 3]), line("b", 1, [1000, 1, 0, 0]), line("c", 2, SAME), line("d", 3, SAME)]);
    let found = compare(&dir).unwrap();
    assert_eq!((found.compared[0].ledger.output, found.compared[0].aws.output), (12, 13));
    assert!(found.compared[1].estimated && found.compared[1].aws.input == 1000);
    assert!(found.drifts(0) && found.drifts(76_923) && !found.drifts(76_924), "one of thirteen");

    let dir = Dir::new();
    ledger(&dir);
    write(&dir, "l.json", &[line("a", 0, SAME), line("b", 1, [1000, 1, 0, 0]), line("c", 2, SAME), line("d", 3, SAME)]);
    assert!(!compare(&dir).unwrap().drifts(0));
}

#[test]
fn what_only_one_side_has_is_drift_within_the_time_that_both_have() {
    let dir = Dir::new();
    ledger(&dir);
    // `a` came before the logs begin, `d` after they end; `x` went around the gateway, `y` failed.
    write(&dir, "l.json", &[line("x", 1, [7, 0, 0, 0]), line("y", 1, [0; 4]), line("c", 2, SAME), line("z", 900, SAME)]);
    let found = compare(&dir).unwrap();
    let names =
        |found: &Reconciliation| found.only_ledger.iter().map(|(.., estimated, counted)| (*estimated, counted.calls)).collect::<Vec<_>>();
    assert_eq!(names(&found), [(false, 1), (true, 1)], "d, and b");
    assert_eq!(found.only_aws, [("arn:m".to_owned(), Counted { calls: 1, input: 7, ..Counted::default() })]);
    assert_eq!(found.only_aws_without_tokens, 1);
    assert!(found.drifts(0));

    let whole = reconcile(&dir.file(), &dir.0.join("logs"), Some(now()), Some(now() + Duration::from_hours(1))).unwrap();
    assert_eq!(names(&whole), [(false, 2), (true, 1)]);
    assert_eq!(whole.only_aws[0].1.calls, 2);
}

#[test]
fn what_cannot_be_compared_is_an_error_and_not_a_drift() {
    let dir = Dir::new();
    ledger(&dir);
    std::fs::create_dir(dir.0.join("logs")).unwrap();
    assert!(matches!(compare(&dir), Err(ReconcileError::NoInvocations(_))));
    write(&dir, "l.json", &[line("a", 100_000, SAME)]);
    assert!(matches!(compare(&dir), Err(ReconcileError::Apart)));
    // A gzip that was cut off.
    write(&dir, "whole.json.gz", &[line("a", 0, SAME)]);
    let path = dir.0.join("logs").join("whole.json.gz");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    let error = compare(&dir).unwrap_err();
    assert!(matches!(&error, ReconcileError::Log(UnreadableLog { file, .. }) if *file == path), "{error}");
    assert!(!error.to_string().contains("spoken"));

    let empty = Dir::new();
    drop(start(&empty.file()));
    write(&empty, "l.json", &[line("a", 0, SAME)]);
    assert!(matches!(compare(&empty), Err(ReconcileError::NoExchanges(_))));
}
