//! What operators granted beyond the limits, and took back.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::query::seconds;
use crate::domain::Grant;

/// Grants are told, and kept, so long after their end.
const KEEP: Duration = Duration::from_hours(30 * 24);
/// So many are kept at most, those that have ended included.
pub(super) const MOST: u32 = 10_000;

/// A grant as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptGrant {
    /// The grant.
    pub grant: Grant,
    /// What its rule counted when it was made: its units are of that.
    pub count: String,
    /// When it was taken back.
    pub revoked: Option<SystemTime>,
}

/// Makes a grant, whose id the ledger gives, for a rule that counts so. None where there are too many.
pub(super) fn make(transaction: &Transaction<'_>, grant: &Grant, count: &str) -> rusqlite::Result<Option<KeptGrant>> {
    let kept: u32 = transaction.query_row("SELECT count(*) FROM grants", [], |row| row.get(0))?;
    if kept >= MOST {
        return Ok(None);
    }
    let Grant { id: _, rule, tenant, user, more, until, made, note } = grant;
    let more = i64::try_from(*more).unwrap_or(i64::MAX);
    let user = user.as_deref().unwrap_or_default();
    transaction.execute(
        "INSERT INTO grants (rule, count, tenant, user, more, until, made, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![&**rule, count, &**tenant, user, more, seconds(*until), seconds(*made), note],
    )?;
    one(transaction, transaction.last_insert_rowid())
}

/// Takes a grant back. None where there is no such; one that is revoked already stays as it is.
pub(super) fn revoke(transaction: &Transaction<'_>, id: u64, now: SystemTime) -> rusqlite::Result<Option<KeptGrant>> {
    let id = i64::try_from(id).unwrap_or(i64::MAX);
    transaction.execute("UPDATE grants SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL", params![id, seconds(now)])?;
    one(transaction, id)
}

fn one(transaction: &Transaction<'_>, id: i64) -> rusqlite::Result<Option<KeptGrant>> {
    transaction.query_row(&format!("SELECT {COLUMNS} FROM grants WHERE id = ?1"), [id], kept).optional()
}

const COLUMNS: &str = "id, rule, count, tenant, user, more, until, made, note, revoked";

fn kept(row: &Row<'_>) -> rusqlite::Result<KeptGrant> {
    let number = |column| row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or(0));
    let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let text = |column| row.get::<_, String>(column);
    let revoked = row.get::<_, Option<i64>>(9)?.map(|seconds| time(u64::try_from(seconds).unwrap_or(0)));
    let grant = Grant {
        id: number(0)?,
        rule: text(1)?.into(),
        tenant: text(3)?.into(),
        user: Some(text(4)?).filter(|user| !user.is_empty()).map(Into::into),
        more: number(5)?,
        until: time(number(6)?),
        made: time(number(7)?),
        note: text(8)?,
    };
    Ok(KeptGrant { grant, count: text(2)?, revoked })
}

/// Every grant that counts at `now`, or has ended lately, in the order in which they were made.
pub(super) fn read(connection: &Connection, now: SystemTime) -> rusqlite::Result<Vec<KeptGrant>> {
    let sql = format!("SELECT {COLUMNS} FROM grants WHERE min(ifnull(revoked, until), until) >= ?1 ORDER BY id");
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([seconds(long_ago(now))], kept)?;
    rows.collect()
}

/// Deletes the grants that have ended long ago.
pub(super) fn prune(connection: &Connection, now: SystemTime) -> rusqlite::Result<usize> {
    connection.execute("DELETE FROM grants WHERE min(ifnull(revoked, until), until) < ?1", [seconds(long_ago(now))])
}

fn long_ago(now: SystemTime) -> SystemTime {
    now.checked_sub(KEEP).unwrap_or(SystemTime::UNIX_EPOCH)
}
