//! What operators granted beyond the limits, and took back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::LedgerError;
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

/// What is to be done to the grants.
#[derive(Debug)]
pub(super) enum Order {
    /// Make this one, whose id the ledger gives, for a rule that counts so.
    Make(Grant, &'static str),
    /// Take this one back.
    Revoke(u64),
}

/// What became of an order.
#[derive(Debug)]
pub(super) enum Done {
    /// This is how the grant is now.
    Kept(KeptGrant),
    /// There is no such grant.
    Unknown,
    /// There are too many.
    Full,
}

/// An order, and who waits for its end.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) order: Order,
    pub(super) claim: Claim,
    pub(super) answer: SyncSender<Result<Done, LedgerError>>,
}

/// The right to do an order, or to call it off: whoever comes first has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Whether nobody had it.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

impl Order {
    /// Does it, in a transaction of its own: once this returns, it is on the disk.
    pub(super) fn execute(&self, connection: &mut Connection, now: SystemTime) -> rusqlite::Result<Done> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let id = match self {
            Self::Make(grant, count) => {
                let kept: u32 = transaction.query_row("SELECT count(*) FROM grants", [], |row| row.get(0))?;
                if kept >= MOST {
                    return Ok(Done::Full);
                }
                let Grant { id: _, rule, tenant, user, more, until, made, note } = grant;
                let more = i64::try_from(*more).unwrap_or(i64::MAX);
                let user = user.as_deref().unwrap_or_default();
                transaction.execute(
                    "INSERT INTO grants (rule, count, tenant, user, more, until, made, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    params![&**rule, count, &**tenant, user, more, seconds(*until), seconds(*made), note],
                )?;
                transaction.last_insert_rowid()
            }
            Self::Revoke(id) => {
                let id = i64::try_from(*id).unwrap_or(i64::MAX);
                transaction.execute("UPDATE grants SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL", params![id, seconds(now)])?;
                id
            }
        };
        let kept = transaction.query_row(&format!("SELECT {COLUMNS} FROM grants WHERE id = ?1"), [id], kept).optional()?;
        transaction.commit()?;
        Ok(kept.map_or(Done::Unknown, Done::Kept))
    }
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
