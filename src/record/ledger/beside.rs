//! What two processes that write one file tell each other: each change of a quota.
//!
//! The rows of `quotas` are sums, to which both add: nothing is lost or counted twice there. But each process admits calls by what it has in memory, and has
//! read the file but once. So, while there are two, each batch's changes are written a second time, singly, in the same transaction; the other reads
//! them, and counts them in memory. Whether there are two is looked at within that transaction: a successor that has taken its lock before it reads
//! the sums finds every change either in them or told after them, never both (docs/decisions/0009-two-at-one-ledger.md).

use rusqlite::{Connection, Row, Transaction, params};

use super::quotas::Changes;
use crate::domain::{QuotaElsewhere, Subject};

/// Made whatever the version of the file: it is empty but for a hand-over, and an older gateway passes it over, so that one may go back to that.
/// `AUTOINCREMENT`: a number that was read is never given again.
pub(super) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS quota_changes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        writer TEXT NOT NULL,
        rule TEXT NOT NULL,
        count TEXT NOT NULL,
        tenant TEXT NOT NULL,
        user TEXT NOT NULL,
        grp TEXT NOT NULL,
        model TEXT NOT NULL,
        key TEXT NOT NULL,
        address TEXT NOT NULL,
        starts INTEGER NOT NULL,
        delta INTEGER NOT NULL
    ) STRICT;
";

/// So many are read at once; the next are read when these are counted.
const MOST: u32 = 10_000;

/// What was read of another process's changes.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The number of the last one that was read.
    pub(super) last: i64,
    pub(super) changes: Vec<QuotaElsewhere>,
}

/// Tells the changes of a batch to the other process.
pub(super) fn tell(transaction: &Transaction<'_>, writer: &str, changes: &Changes) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare(
        "INSERT INTO quota_changes (writer, rule, count, tenant, user, grp, model, key, address, starts, delta)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for (key, delta) in changes.all() {
        let [rule, count, tenant, user, group, model, name, address] = key.names();
        let starts = i64::try_from(key.starts()).unwrap_or(i64::MAX);
        statement.execute(params![writer, rule, count, tenant, user, group, model, name, address, starts, delta])?;
    }
    Ok(())
}

/// The number of the last change that anyone told: what comes after it is in no sum that was read in the same transaction.
pub(super) fn last(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'quota_changes'", [], |row| row.get(0))
}

/// What others than `writer` told after the change `last`.
pub(super) fn hear(connection: &Connection, writer: &str, last: i64) -> rusqlite::Result<Heard> {
    let mut statement = connection.prepare(
        "SELECT id, rule, count, tenant, user, grp, model, key, address, starts, delta FROM quota_changes
         WHERE id > ?1 AND writer <> ?2 ORDER BY id LIMIT ?3",
    )?;
    let mut heard = Heard { last, changes: Vec::new() };
    for row in statement.query_map(params![last, writer, MOST], change)? {
        let (id, change) = row?;
        heard.last = id;
        heard.changes.push(change);
    }
    if heard.last > last {
        connection.execute("DELETE FROM quota_changes WHERE id <= ?1 AND writer <> ?2", params![heard.last, writer])?;
    }
    Ok(heard)
}

/// Nobody is there who would read them.
pub(super) fn clear(connection: &Connection) -> rusqlite::Result<usize> {
    connection.execute("DELETE FROM quota_changes", [])
}

fn change(row: &Row<'_>) -> rusqlite::Result<(i64, QuotaElsewhere)> {
    let name = |column| row.get::<_, String>(column).map(|name| if name.is_empty() { None } else { Some(name.into()) });
    let subject = Subject { tenant: name(3)?, user: name(4)?, group: name(5)?, model: name(6)?, key: name(7)?, address: name(8)? };
    let starts = u64::try_from(row.get::<_, i64>(9)?).unwrap_or(0);
    Ok((row.get(0)?, QuotaElsewhere { rule: row.get(1)?, count: row.get(2)?, subject, starts, delta: row.get(10)? }))
}
