//! The ledger beside what AWS logged, request by request.
//!
//! Both are joined by the request id that AWS gave. The logs may be of any size: they are put into a temporary table, on disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Row, params};

use super::LedgerError;
use super::invocations::{self, Invocation, InvocationLogs, UnreadableLog};
use super::schema::open_to_read;
use super::store::millis;

/// Why ledger and logs can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The ledger can't be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A log can't be read to its end; without it, what it told would look like drift.
    #[error(transparent)]
    Log(#[from] UnreadableLog),
    /// No line of the directory tells of an invocation.
    #[error("no line under `{}` tells of a model invocation", .0.display())]
    NoInvocations(PathBuf),
    /// No exchange is kept singly.
    #[error("ledger `{}` holds no single exchanges; see `record.ledger.keep_exchanges`", .0.display())]
    NoExchanges(PathBuf),
    /// They are of different times.
    #[error("the ledger's exchanges and the logs have no time in common")]
    Apart,
}

/// Tokens, as far as the logs tell them apart: cache writes are one kind, whatever their lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests.
    pub calls: u64,
    /// Input that no cache had.
    pub input: u64,
    /// Output.
    pub output: u64,
    /// Input read from a cache.
    pub cache_read: u64,
    /// Input written to a cache.
    pub cache_write: u64,
}

impl Counted {
    /// The words for the kinds of tokens, in the order of [`Counted::tokens`].
    pub const KINDS: [&str; 4] = ["input", "output", "cache_read", "cache_write"];

    /// The tokens by kind.
    #[must_use]
    pub const fn tokens(&self) -> [u64; 4] {
        [self.input, self.output, self.cache_read, self.cache_write]
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.tokens().into_iter().fold(0, u64::saturating_add)
    }

    fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
    }

    /// One request, from six columns: the ledger's two kinds of cache writes are one here.
    fn one(row: &Row<'_>, at: usize) -> rusqlite::Result<Self> {
        let column = |nth| row.get::<_, i64>(at + nth).map(|count| u64::try_from(count).unwrap_or(0));
        Ok(Self { calls: 1, input: column(0)?, output: column(1)?, cache_read: column(2)?, cache_write: column(3)? })
    }
}

/// What both know, of one tenant, model and basis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The tenant.
    pub tenant: String,
    /// The model, as the caller named it.
    pub model: String,
    /// Whether the ledger's tokens are estimated, at least in part.
    pub estimated: bool,
    /// What the ledger has.
    pub ledger: Counted,
    /// What AWS logged.
    pub aws: Counted,
}

/// The ledger beside the logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciliation {
    /// From when on they are compared: as asked, else from when both have something.
    pub since: SystemTime,
    /// Until when, likewise; this moment is not in it.
    pub until: SystemTime,
    /// What was found in the directory.
    pub logs: InvocationLogs,
    /// What both have, in the order of tenant, model and basis.
    pub compared: Vec<Compared>,
    /// By AWS's model id, what only AWS has: calls that went around the gateway, or that the ledger lost.
    pub only_aws: Vec<(String, Counted)>,
    /// Requests that only AWS has and that used nothing, as those that failed. They are no drift: the ledger keeps singly what is metered.
    pub only_aws_without_tokens: u64,
    /// By tenant, model and whether it is estimated, what only the ledger has: logging was off, or the log is not here yet.
    pub only_ledger: Vec<(String, String, bool, Counted)>,
}

impl Reconciliation {
    /// Whether some figure that was not estimated is off by more than `tolerance` millionths of what AWS has.
    #[must_use]
    pub fn drifts(&self, tolerance: u32) -> bool {
        let beyond = |off: u64, aws: u64| u128::from(off) * 1_000_000 > u128::from(tolerance) * u128::from(aws);
        let reported = self.compared.iter().filter(|row| !row.estimated);
        let apart = reported.flat_map(|row| row.ledger.tokens().into_iter().zip(row.aws.tokens()));
        let all = self.compared.iter().map(|row| &row.aws).chain(self.only_aws.iter().map(|(_, counted)| counted));
        let all = all.map(Counted::total).fold(0, u64::saturating_add);
        let only_aws = self.only_aws.iter().map(|(_, counted)| counted.total()).fold(0, u64::saturating_add);
        let only_ledger = self.only_ledger.iter().filter(|(_, _, estimated, _)| !estimated);
        let only_ledger = only_ledger.map(|(.., counted)| counted.total()).fold(0, u64::saturating_add);
        apart.into_iter().any(|(ledger, aws)| beyond(ledger.abs_diff(aws), aws)) || beyond(only_aws, all) || beyond(only_ledger, all)
    }
}

/// Compares the ledger `file` with the model-invocation logs under `logs`, from `since` until `until`; where they are none, in the time that both have.
/// It opens the ledger for reading only, and works while a gateway writes it. It blocks the thread.
///
/// # Errors
/// [`ReconcileError`].
pub fn reconcile(file: &Path, logs: &Path, since: Option<SystemTime>, until: Option<SystemTime>) -> Result<Reconciliation, ReconcileError> {
    let connection = open_to_read(file)?;
    let told = LedgerError::sqlite(file);
    let found = take_in(&connection, logs, file)?;
    if found.invocations == 0 {
        return Err(ReconcileError::NoInvocations(logs.to_owned()));
    }
    // The three questions that follow are answered at one moment.
    connection.execute_batch("COMMIT; BEGIN").map_err(&told)?;
    let (since, until) = period(&connection, since, until).map_err(&told)?.ok_or_else(|| ReconcileError::NoExchanges(file.to_owned()))?;
    if since >= until {
        return Err(ReconcileError::Apart);
    }
    let compared = compared(&connection, since, until).map_err(&told)?;
    let (only_aws, only_aws_without_tokens) = only_aws(&connection, since, until).map_err(&told)?;
    let only_ledger = only_ledger(&connection, since, until).map_err(&told)?;
    let time = |millis: i64| SystemTime::UNIX_EPOCH + Duration::from_millis(millis.unsigned_abs());
    Ok(Reconciliation { since: time(since), until: time(until), logs: found, compared, only_aws, only_aws_without_tokens, only_ledger })
}

/// Puts every invocation into the temporary table `logged`, each once.
fn take_in(connection: &Connection, logs: &Path, file: &Path) -> Result<InvocationLogs, ReconcileError> {
    let told = LedgerError::sqlite(file);
    connection
        .execute_batch(
            "PRAGMA temp_store = FILE;
             CREATE TEMP TABLE logged (
                request_id TEXT PRIMARY KEY, at INTEGER, model TEXT,
                input INTEGER, output INTEGER, cache_read INTEGER, cache_write INTEGER
             ) WITHOUT ROWID;
             BEGIN",
        )
        .map_err(&told)?;
    let mut insert = connection.prepare("INSERT OR IGNORE INTO temp.logged VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)").map_err(&told)?;
    let fitting = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    invocations::read(logs, &mut |one: Invocation| {
        let (input, output) = (fitting(one.input), fitting(one.output));
        let (cache_read, cache_write) = (fitting(one.cache_read), fitting(one.cache_write));
        let inserted = insert.execute(params![one.request_id, one.at, one.model, input, output, cache_read, cache_write]);
        Ok::<_, ReconcileError>(inserted.map_err(&told)? > 0)
    })
}

/// From when until when, in milliseconds: as asked, else whole seconds in which both have something. None where the ledger has nothing.
fn period(connection: &Connection, since: Option<SystemTime>, until: Option<SystemTime>) -> rusqlite::Result<Option<(i64, i64)>> {
    let ends = |table: &str| {
        let sql = format!("SELECT min(at), max(at) FROM {table}");
        connection.query_row(&sql, [], |row| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get::<_, Option<i64>>(1)?)))
    };
    let (Some(kept), Some(logged)) = (ends("main.exchanges")?, ends("temp.logged")?) else { return Ok(None) };
    let (first, last) = (kept.0.max(logged.0), kept.1.min(logged.1));
    let since = since.map_or(first - first.rem_euclid(1000), millis);
    Ok(Some((since, until.map_or(last - last.rem_euclid(1000) + 1000, millis))))
}

/// A sum of the ledger's two kinds of cache writes that can't go beyond 64 bits.
const LEDGERS: &str = "e.input, e.output, e.cache_read, min(e.cache_write_5m, 1 << 62) + min(e.cache_write_1h, 1 << 61)";

fn compared(connection: &Connection, since: i64, until: i64) -> rusqlite::Result<Vec<Compared>> {
    let sql = format!(
        "SELECT e.tenant, e.model, e.estimated, {LEDGERS}, l.input, l.output, l.cache_read, l.cache_write
         FROM main.exchanges e JOIN temp.logged l ON l.request_id = e.upstream_request_id WHERE e.at >= ?1 AND e.at < ?2"
    );
    let mut found = BTreeMap::<(String, String, bool), (Counted, Counted)>::new();
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([since, until])?;
    while let Some(row) = rows.next()? {
        let (ledger, aws) = found.entry((row.get(0)?, row.get(1)?, row.get(2)?)).or_default();
        ledger.add(Counted::one(row, 3)?);
        aws.add(Counted::one(row, 7)?);
    }
    let rows = found.into_iter().map(|((tenant, model, estimated), (ledger, aws))| Compared { tenant, model, estimated, ledger, aws });
    Ok(rows.collect())
}

/// What has no exchange at any time, by model; and how many of them used nothing.
fn only_aws(connection: &Connection, since: i64, until: i64) -> rusqlite::Result<(Vec<(String, Counted)>, u64)> {
    let mut statement = connection.prepare(
        "SELECT l.model, l.input, l.output, l.cache_read, l.cache_write FROM temp.logged l
         WHERE l.at >= ?1 AND l.at < ?2 AND NOT EXISTS (SELECT 1 FROM main.exchanges e WHERE e.upstream_request_id = l.request_id)",
    )?;
    let (mut found, mut without_tokens) = (BTreeMap::<String, Counted>::new(), 0);
    let mut rows = statement.query([since, until])?;
    while let Some(row) = rows.next()? {
        let counted = Counted::one(row, 1)?;
        if counted.total() == 0 {
            without_tokens += 1;
        } else {
            found.entry(row.get(0)?).or_default().add(counted);
        }
    }
    Ok((found.into_iter().collect(), without_tokens))
}

/// What no line of any time tells of.
fn only_ledger(connection: &Connection, since: i64, until: i64) -> rusqlite::Result<Vec<(String, String, bool, Counted)>> {
    let sql = format!(
        "SELECT e.tenant, e.model, e.estimated, {LEDGERS} FROM main.exchanges e
         WHERE e.at >= ?1 AND e.at < ?2 AND NOT EXISTS (SELECT 1 FROM temp.logged l WHERE l.request_id = e.upstream_request_id)"
    );
    let mut found = BTreeMap::<(String, String, bool), Counted>::new();
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([since, until])?;
    while let Some(row) = rows.next()? {
        found.entry((row.get(0)?, row.get(1)?, row.get(2)?)).or_default().add(Counted::one(row, 3)?);
    }
    Ok(found.into_iter().map(|((tenant, model, estimated), counted)| (tenant, model, estimated, counted)).collect())
}
