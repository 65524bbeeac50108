//! How far canaries have come.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Transaction, params};

use super::store::millis;
use crate::domain::KeptCanary;

/// Made whatever the version of the file, which it does not raise: an older gateway passes it over, so that one may go back to that.
pub(super) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS canaries (
        route TEXT PRIMARY KEY,
        rule TEXT NOT NULL,
        step INTEGER,
        since INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// So many are kept; then the oldest goes.
pub(super) const MOST: u32 = 1_000;

/// Keeps how far a canary has come; where two processes tell of one rule, the later.
pub(super) fn keep(transaction: &Transaction<'_>, canary: &KeptCanary) -> rusqlite::Result<()> {
    let KeptCanary { route, rule, step, since } = canary;
    transaction.execute(
        "INSERT INTO canaries (route, rule, step, since) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET rule = excluded.rule, step = excluded.step, since = excluded.since
         WHERE excluded.rule <> rule OR excluded.since >= since",
        params![route, rule, step, millis(*since)],
    )?;
    transaction
        .execute("DELETE FROM canaries WHERE route NOT IN (SELECT route FROM canaries ORDER BY since DESC LIMIT ?1)", [MOST])
        .map(drop)
}

/// All, the latest first.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Vec<KeptCanary>> {
    let mut statement = connection.prepare("SELECT route, rule, step, since FROM canaries ORDER BY since DESC, route")?;
    let canary = |row: &rusqlite::Row<'_>| {
        let since = Duration::from_millis(u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0));
        Ok(KeptCanary {
            route: row.get::<_, String>(0)?.into(),
            rule: row.get::<_, String>(1)?.into(),
            step: row.get(2)?,
            since: SystemTime::UNIX_EPOCH + since,
        })
    };
    statement.query_map([], canary)?.collect()
}
