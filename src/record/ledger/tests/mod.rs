mod beside;
mod canaries;
mod failing;
mod grants;
mod keeping;
mod opening;
mod quotas;
mod reconciling;
mod stops;
mod summing;
mod tried;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use super::*;
use crate::domain::{Basis, Cost, GuardrailUnits, ManualClock, Method, Principal, Reason, RequestId, Tokens, Trace, Usage, Usd};

const PATIENCE: Duration = Duration::from_secs(20);

/// 2026-11-22T13:00:44.123Z.
const BEGAN: Duration = Duration::from_millis(1_795_352_444_123);

const TRACE: Trace = Trace { trace_id: 1, parent: None, span_id: 1, sampled: false };

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + BEGAN
}

/// A directory that goes with its test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static DIRS: AtomicU32 = AtomicU32::new(0);
        let name = format!("tollgate-ledger-{}-{}", std::process::id(), DIRS.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self) -> PathBuf {
        self.0.join("ledger.sqlite")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn config(file: PathBuf) -> Config {
    Config { file, keep: Duration::from_hours(400 * 24), keep_exchanges: Duration::from_hours(7 * 24) }
}

fn faults() -> Faults {
    let counter = |name: &str| IntCounter::new(name, "c").unwrap();
    Faults {
        usage_dropped: counter("u"),
        exchanges_dropped: counter("e"),
        quotas_dropped: counter("q"),
        folded: counter("f"),
        errors: counter("r"),
    }
}

fn start(file: &Path) -> (Ledger, Faults) {
    let faults = faults();
    (Ledger::start(&config(file.to_owned()), faults.clone(), clock()).unwrap(), faults)
}

/// The wall clock of these exchanges; a hand that stands still measures no time, and nobody here waits by it.
fn clock() -> Clock {
    Clock::Manual(ManualClock::starting_at(now()))
}

fn principal(tenant: &str, user: Option<&str>) -> Principal {
    Principal { tenant: tenant.into(), user: user.map(Into::into), groups: [].into(), method: Method::Jwt, key_id: None }
}

fn used(input: u64, output: u64) -> Usage {
    Usage {
        tokens: Tokens { input, output, ..Tokens::default() },
        guardrail: GuardrailUnits::default(),
        basis: Basis::Reported,
        tier: None,
    }
}

/// An answered call for one model.
fn answered<'a>(id: &'a RequestId, principal: &'a Principal, usage: &'a Usage) -> Entry<'a> {
    Entry {
        principal: Some(principal),
        method: "POST",
        path: b"/model/m/converse",
        model: Some("m"),
        operation: Some("converse"),
        status: Some(200),
        upstream: Some("primary"),
        upstream_request_id: Some(b"7e9d2f4a"),
        attempts: 1,
        bytes_in: 1,
        bytes_out: 1,
        complete: true,
        usage: Some(usage),
        cost: Cost::Priced(Usd::from_picos(5)),
        ..Entry::begun(id, &TRACE, now())
    }
}

fn all(by: By) -> UsageQuery {
    UsageQuery { tenant: None, by: Some(by), since: SystemTime::UNIX_EPOCH, until: SystemTime::UNIX_EPOCH + BEGAN * 2 }
}

/// Every row, and what tells it apart.
fn rows(file: &Path, by: By) -> Vec<(String, UsageRow)> {
    let name = |row: &UsageRow| row.keys.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ");
    usage(file, &all(by)).unwrap().into_iter().map(|row| (name(&row), row)).collect()
}

fn calls(file: &Path) -> u64 {
    usage(file, &all(By::Tenant)).unwrap().iter().map(|row| row.calls).sum()
}

/// One number that the file holds.
fn number(file: &Path, sql: &str) -> i64 {
    rusqlite::Connection::open(file).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}
