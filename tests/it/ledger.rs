//! The ledger in a gateway that lives and dies, and the commands that read it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tollgate::config::record::{Ledger, Record};
use tollgate::domain::{Basis, Cost, GuardrailUnits, Method, Principal, RequestId, Tokens, Trace, Usage, Usd};
use tollgate::record::{By, Entry, Metrics, Recorder, UsageQuery, usage};

use crate::binary::{Binary, text, tollgate};
use crate::client::{PATIENCE, Raw, converse};
use crate::downstream::Ask;
use crate::world::{Dir, World, world};

const CALLERS: usize = 4;

fn yaml(world: &World) -> String {
    format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nrecord: {{ access_log: off, ledger: ledger.sqlite }}\n{}\n{}",
        crate::world::jwt(),
        crate::scripted::upstream(&format!("http://{}", world.emulator.address()), ""),
    )
}

/// Calls one after the other until the gateway is no more, and tells of each answer.
async fn keep_calling(address: std::net::SocketAddr, wire: Vec<u8>, answered: UnboundedSender<Instant>) {
    let mut connection = Raw::connect(address).await;
    while connection.try_send(&wire).await {
        let Some(answer) = connection.try_answer().await else { return };
        assert_eq!(answer.status, 200);
        if answered.send(Instant::now()).is_err() {
            return;
        }
    }
}

fn calls(file: &Path) -> usize {
    let query = UsageQuery {
        tenant: Some("demo".into()),
        by: Some(By::User),
        since: SystemTime::UNIX_EPOCH,
        until: SystemTime::now() + Duration::from_hours(1),
    };
    let rows = usage(file, &query).unwrap();
    assert!(rows.len() <= 1 && rows.iter().all(|row| row.keys[1].1 == "alice" && row.failed + row.refused == 0), "{rows:?}");
    rows.iter().map(|row| usize::try_from(row.calls).unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_has_counted_all_but_the_last_moments_and_nothing_twice() {
    let world = world("").await;
    let file = world.dir.join("ledger.sqlite");
    let wire = Ask::post("/model/amazon.nova-lite-v1:0/converse", converse("one two")).token(&world.token).wire();
    // A second is promised. A machine that runs eight test suites at once is given three.
    let (moments, load) = (Duration::from_secs(3), Duration::from_secs(4));
    let mut before = 0;
    for round in 0..2 {
        let binary = Binary::run(&world.dir, &yaml(&world), &[]).await;
        let (sender, mut answers) = unbounded_channel();
        let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(keep_calling(binary.listeners[0], wire.clone(), sender.clone()))).collect();
        drop(sender);
        let began = Instant::now();
        let mut seen = Vec::new();
        while began.elapsed() < load {
            seen.push(tokio::time::timeout(PATIENCE, answers.recv()).await.expect("an answer in 30 s").unwrap());
        }
        let killed = Instant::now();
        binary.kill().await;
        for caller in callers {
            tokio::time::timeout(PATIENCE, caller).await.expect("the end of a connection").unwrap();
        }
        while let Some(answer) = answers.recv().await {
            seen.push(answer);
        }
        let old = seen.iter().filter(|answer| **answer + moments <= killed).count();
        let counted = calls(&file) - before;
        assert!(old > 0, "the load was none");
        assert!(counted >= old, "round {round}: {counted} of {old} that were old");
        assert!(counted <= seen.len() + CALLERS, "round {round}: {counted} of {} answered", seen.len());
        before += counted;
    }

    // One that is stopped well loses nothing.
    let binary = Binary::run(&world.dir, &yaml(&world), &[]).await;
    assert_eq!(calls(&file), before, "what was there is there, once");
    for _ in 0..10 {
        assert_eq!(crate::client::call(binary.listeners[0], wire.clone()).await.status, 200);
    }
    binary.stop().await;
    assert_eq!(calls(&file), before + 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_disk_is_full_serves_on_and_tells() {
    const MODELS: usize = 400;
    let world = world("").await;
    let binary = Binary::run_with_small_files(120, &world.dir, &yaml(&world)).await;
    let mut connection = Raw::connect(binary.listeners[0]).await;
    let mut call = async |nth: usize| {
        let path = format!("/model/model-{nth:0>200}/converse");
        connection.send(Ask::post(&path, converse("one")).token(&world.token).wire()).await;
        assert_eq!(connection.answer().await.status, 200);
    };
    for nth in 0..MODELS {
        call(nth).await;
    }
    let told = async {
        loop {
            let scraped = crate::client::call(binary.admin, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
            let errors = text(&scraped.body).lines().find_map(|line| line.strip_prefix("tollgate_ledger_errors_total ").map(str::to_owned));
            if errors.is_some_and(|errors| errors != "0") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("an error that is counted");
    call(0).await;
    let said = binary.stop().await;
    assert!(said.contains("the ledger could not be written"), "{said}");
    assert!(said.contains("the ledger did not take the last exchanges in time"), "{said}");

    // What is there is whole, and the next gateway goes on from it.
    let file = world.dir.join("ledger.sqlite");
    let check = rusqlite::Connection::open(&file).unwrap().query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    assert_eq!(check.unwrap(), "ok");
    let before = calls(&file);
    assert!(before < MODELS);
    let binary = Binary::run(&world.dir, &yaml(&world), &[]).await;
    let ask = Ask::post("/model/m/converse", converse("one")).token(&world.token);
    assert_eq!(crate::client::call(binary.listeners[0], ask.wire()).await.status, 200);
    binary.stop().await;
    assert_eq!(calls(&file), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_shown_while_the_gateway_runs_and_a_third_gateway_is_refused_the_file() {
    let world = world("").await;
    let binary = Binary::run(&world.dir, &yaml(&world), &[]).await;
    let ask = Ask::post("/model/amazon.nova-lite-v1:0/converse", converse("one two")).token(&world.token);
    assert_eq!(crate::client::call(binary.listeners[0], ask.wire()).await.status, 200);
    let shown = async {
        loop {
            let shown = tollgate(&world.dir, &["usage", "--config", "binary.yaml", "--format", "json", "--since", "1h"]).await;
            assert!(shown.status.success(), "{}", text(&shown.stderr));
            let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
            if shown["total"]["calls"] == 1 {
                return shown;
            }
        }
    };
    let shown = tokio::time::timeout(PATIENCE, shown).await.expect("a call in the ledger");
    assert_eq!(shown["rows"][0]["tenant"], "demo");
    assert_eq!(shown["rows"][0]["model"], "amazon.nova-lite-v1:0");
    let scraped = crate::client::call(binary.admin, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(text(&scraped.body).contains("tollgate_ledger_lag_seconds 0\n"), "{}", text(&scraped.body));

    let second = Binary::run(&world.dir, &yaml(&world), &[]).await;
    let third = tollgate(&world.dir, &["run", "--config", "binary.yaml"]).await;
    assert!(!third.status.success());
    assert!(text(&third.stderr).contains("two gateways write it"), "{}", text(&third.stderr));
    second.stop().await;
    binary.stop().await;
    for (by, row) in [("day", "demo"), ("tenant", "demo"), ("operation", "converse")] {
        let table = tollgate(&world.dir, &["usage", "--ledger", "ledger.sqlite", "--by", by]).await;
        assert_eq!(text(&table.stdout).lines().count(), 3, "{}", text(&table.stdout));
        assert!(by == "day" || text(&table.stdout).contains(row));
    }
    let wrong = tollgate(&world.dir, &["usage", "--ledger", "absent.sqlite"]).await;
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("absent.sqlite"));
    assert!(!world.dir.join("absent.sqlite").exists());
}

/// A ledger with one exchange of tenant `acme`, that AWS calls `aws-1`.
fn one_exchange(dir: &Path) -> SystemTime {
    let ledger = Ledger { file: dir.join("ledger.sqlite"), keep: Duration::from_hours(24), keep_exchanges: Duration::from_hours(24) };
    let config = Record { access_log: None, ledger: Some(ledger), ..Record::default() };
    let recorder = Recorder::build(&config, Arc::new(Metrics::new())).unwrap();
    let (request_id, trace, began) = (RequestId::random(), Trace::take_up(None), SystemTime::now());
    let principal = Principal { tenant: "acme".into(), user: None, groups: [].into(), method: Method::Jwt, key_id: None };
    let tokens = Tokens { input: 100, output: 20, ..Tokens::default() };
    let usage = Usage { tokens, guardrail: GuardrailUnits::default(), basis: Basis::Reported, tier: None };
    recorder.record(&Entry {
        principal: Some(&principal),
        method: "POST",
        path: b"/model/m/converse",
        model: Some("m"),
        operation: Some("converse"),
        status: Some(200),
        upstream: Some("use1"),
        upstream_request_id: Some(b"aws-1"),
        attempts: 1,
        bytes_in: 1,
        bytes_out: 1,
        complete: true,
        usage: Some(&usage),
        cost: Cost::Priced(Usd::from_picos(12_500_000_000)),
        ..Entry::begun(&request_id, &trace, began)
    });
    recorder.flush();
    began
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_says_by_its_exit_code_whether_the_logs_agree_and_never_shows_a_prompt() {
    const SPOKEN: &str = "zebra quagga";
    let dir = Dir::new();
    let began = one_exchange(&dir);
    let logs = dir.join("logs");
    fs::create_dir(&logs).unwrap();
    let at = time::OffsetDateTime::from(began).format(&time::format_description::well_known::Rfc3339).unwrap();
    let log = |output: u64| {
        let line = json!({
            "schemaType": "ModelInvocationLog", "timestamp": at, "requestId": "aws-1", "modelId": "m", "operation": "Converse",
            "input": { "inputTokenCount": 100, "inputBodyJson": { "text": SPOKEN } },
            "output": { "outputTokenCount": output, "outputBodyJson": SPOKEN },
        });
        fs::write(logs.join("log.json"), format!("{line}\n{{\"broken\":\"{SPOKEN}\n")).unwrap();
    };
    let compare = |more: &[&'static str]| {
        let arguments = [&["reconcile", "--ledger", "ledger.sqlite", "--invocation-logs", "logs"], more].concat();
        let dir = &dir;
        async move { tollgate(dir, &arguments).await }
    };
    let none = compare(&[]).await;
    assert_eq!(none.status.code(), Some(2), "{}", text(&none.stderr));

    log(20);
    let same = compare(&[]).await;
    assert_eq!(same.status.code(), Some(0), "{}{}", text(&same.stdout), text(&same.stderr));
    log(21);
    let drifted = compare(&["--format", "json"]).await;
    assert_eq!(drifted.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&drifted.stdout).unwrap();
    assert_eq!(told["compared"][0]["tokens"]["output"], json!({ "ledger": 20, "aws": 21, "drift": -1, "drift_percent": "-4.7619" }));
    assert_eq!((&told["compared"][0]["tenant"], &told["compared"][0]["basis"]), (&json!("acme"), &json!("reported")));
    assert_eq!(told["logs"]["malformed"], 1);
    assert_eq!(compare(&["--tolerance", "5%"]).await.status.code(), Some(0));
    for output in [none, same, drifted] {
        let said = [output.stdout, output.stderr].concat();
        assert!(!text(&said).contains("zebra"), "{}", text(&said));
    }
    let table = tollgate(&dir, &["usage", "--ledger", "ledger.sqlite", "--tenant", "acme"]).await;
    let words: Vec<_> = text(&table.stdout).lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words, ["acme", "m", "1", "0", "0", "0", "100", "20", "0", "0", "0", "0", "0.0125", "0"]);
}
