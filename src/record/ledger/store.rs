//! Batches into the file, and old rows out of it.
//!
//! Invariant: a batch is in the file once or not at all. It is one transaction, and in it is noted that it was written: one whose commit seemed to
//! fail is looked for before it is tried again.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rusqlite::types::{Null, ToSql};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params, params_from_iter};

use super::LedgerError;
use super::batch::Batch;
use super::beside::{self, Heard};
use super::lock::Held;
use super::orders::{Done, Order};
use super::query::seconds;
use super::schema::open_to_write;
use super::sums::{COLUMNS, MOST};
use super::{grants, quotas};
use crate::domain::{Cost, RequestId};

/// Single exchanges deleted in one transaction: some tens of milliseconds of the writer's time.
const STEP: u32 = 10_000;

/// The notes of writers that are long gone are deleted.
const KEEP_NOTES: Duration = Duration::from_hours(30 * 24);

/// How the file is opened: at the start, and anew after every failure.
pub(super) type Open = Box<dyn FnMut() -> Result<Connection, LedgerError> + Send>;

/// Opens `file` to be written.
pub(super) fn opener(file: PathBuf) -> Open {
    Box::new(move || open_to_write(&file))
}

/// The file, as one of its writers has it.
pub(super) struct Store {
    pub(super) file: PathBuf,
    open: Open,
    connection: Option<Connection>,
    /// This writer's name in `batches`.
    writer: String,
    upsert: String,
    keep: Duration,
    keep_exchanges: Duration,
    /// The right to write it; the last to go. None in tests of the store alone.
    pub(super) held: Option<Held>,
}

impl Store {
    /// Opens the file.
    pub(super) fn new(file: PathBuf, mut open: Open, keep: Duration, keep_exchanges: Duration) -> Result<Self, LedgerError> {
        let connection = Some(open()?);
        Ok(Self { file, open, connection, writer: RequestId::random().to_string(), upsert: upsert(), keep, keep_exchanges, held: None })
    }

    /// Writes a batch, the `seq`th of this writer; nothing where it is there already.
    pub(super) fn write(&mut self, batch: &Batch, seq: i64, now: SystemTime) -> Result<(), LedgerError> {
        let (writer, upsert, held) = (self.writer.clone(), self.upsert.clone(), self.held.take());
        let written = self.with_connection(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let last = transaction.query_row("SELECT seq FROM batches WHERE writer = ?1", [&writer], |row| row.get::<_, i64>(0));
            if last.optional()?.is_some_and(|last| last >= seq) {
                return Ok(());
            }
            insert(&transaction, batch, &upsert)?;
            batch.quotas.write(&transaction, now)?;
            // Looked at within the transaction: see there.
            if !batch.quotas.is_empty() && held.as_ref().is_some_and(Held::is_beside) {
                beside::tell(&transaction, &writer, &batch.quotas)?;
            }
            transaction.execute(
                "INSERT INTO batches (writer, seq, at) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET seq = excluded.seq, at = excluded.at",
                params![writer, seq, seconds(now)],
            )?;
            transaction.commit()
        });
        self.held = held;
        written
    }

    /// Whether another process writes the file now.
    pub(super) fn is_beside(&self) -> bool {
        self.held.as_ref().is_some_and(Held::is_beside)
    }

    /// What the other process told of quotas after the change `last`.
    pub(super) fn hear(&mut self, last: i64) -> Result<Heard, LedgerError> {
        let writer = self.writer.clone();
        self.with_connection(|connection| beside::hear(connection, &writer, last))
    }

    /// There is no other process any more: what was told to it is deleted.
    pub(super) fn alone(&mut self) -> Result<(), LedgerError> {
        self.with_connection(|connection| beside::clear(connection).map(drop))
    }

    /// Deletes some of what is too old. Returns whether there is more.
    pub(super) fn prune(&mut self, now: SystemTime) -> Result<bool, LedgerError> {
        let before = |kept| now.checked_sub(kept).unwrap_or(SystemTime::UNIX_EPOCH);
        let (hours, notes) = (seconds(before(self.keep)), seconds(before(KEEP_NOTES)));
        let exchanges = millis(before(self.keep_exchanges));
        let writer = self.writer.clone();
        self.with_connection(|connection| {
            // An hour at a time. An hour ends 3,600 s after it begins.
            let deleted =
                connection.execute("DELETE FROM usage WHERE hour = (SELECT min(hour) FROM usage) AND hour + 3600 <= ?1", [hours])?;
            let single = connection.execute(
                "DELETE FROM exchanges WHERE id IN (SELECT id FROM exchanges WHERE at < ?1 ORDER BY at LIMIT ?2)",
                params![exchanges, STEP],
            )?;
            connection.execute("DELETE FROM batches WHERE at < ?1 AND writer <> ?2", params![notes, writer])?;
            let quotas = quotas::prune(connection, now, STEP)?;
            grants::prune(connection, now)?;
            Ok(deleted + single + quotas > 0)
        })
    }

    /// Does what an operator asked for.
    pub(super) fn order(&mut self, order: &Order, now: SystemTime) -> Result<Done, LedgerError> {
        self.with_connection(|connection| order.execute(connection, now))
    }

    /// A connection that failed is not used again: after a full disk, a new one finds its way out of what the old one left.
    fn with_connection<T>(&mut self, act: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => (self.open)()?,
        };
        let done = act(&mut connection).map_err(LedgerError::sqlite(&self.file))?;
        self.connection = Some(connection);
        Ok(done)
    }
}

fn insert(transaction: &Transaction<'_>, batch: &Batch, upsert: &str) -> rusqlite::Result<()> {
    let rows = batch.rows();
    let mut statement = transaction.prepare(upsert)?;
    for (names, sums) in &rows {
        let counts = sums.0.map(u64::cast_signed);
        let keys: [&dyn ToSql; 6] = [&names.hour, &names.tenant, &names.user, &names.model, &names.upstream, &names.operation];
        statement.execute(params_from_iter(keys.into_iter().chain(counts.iter().map(|count| -> &dyn ToSql { count }))))?;
    }
    let mut statement = transaction.prepare(
        "INSERT INTO exchanges (at, upstream_request_id, request_id, tenant, user, model, upstream, operation,
            input, output, cache_read, cache_write_5m, cache_write_1h, reasoning, estimated, cost_picos)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    for exchange in batch.exchanges() {
        let Some((names, _)) = rows.get(exchange.key) else { continue };
        let tokens = exchange.usage.tokens;
        let cost: &dyn ToSql = match exchange.cost {
            Cost::Priced(usd) => &fitting(usd.picos()),
            Cost::Nothing => &0_i64,
            Cost::Unpriced => &Null,
        };
        statement.execute(params![
            millis(exchange.began),
            exchange.upstream_request_id(),
            exchange.request_id.as_str(),
            names.tenant,
            names.user,
            names.model,
            names.upstream,
            names.operation,
            fitting(tokens.input),
            fitting(tokens.output),
            fitting(tokens.cache_read),
            fitting(tokens.cache_write_5m),
            fitting(tokens.cache_write_1h),
            fitting(tokens.reasoning),
            exchange.is_estimated(),
            cost,
        ])?;
    }
    Ok(())
}

/// Adds counts to a row, or makes it. A sum stops at what the column holds: beyond, `SQLite` would go on in floating point.
fn upsert() -> String {
    let values = (1..=6 + COLUMNS.len()).map(|nth| format!("?{nth}")).collect::<Vec<_>>().join(", ");
    let sums = COLUMNS
        .map(|count| format!("{count} = CASE WHEN {count} > {MOST} - excluded.{count} THEN {MOST} ELSE {count} + excluded.{count} END"));
    format!(
        "INSERT INTO usage (hour, tenant, user, model, upstream, operation, {}) VALUES ({values}) ON CONFLICT DO UPDATE SET {}",
        COLUMNS.join(", "),
        sums.join(", ")
    )
}

/// As much of it as a column holds.
fn fitting(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970, from 0 on.
pub(super) fn millis(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
