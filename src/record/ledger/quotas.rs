//! How much of each quota is used: what outlives the process, so that nothing is handed out twice.
//!
//! A row is of one period of one quota. The changes of a batch are added to it; the first of a newer period take its place, and what comes late for an
//! older one is over and done with. What is held for calls under way counts as used: a process that is killed leaves its calls at their reservations.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Transaction, params};

use super::query::seconds;
use crate::domain::{Quota, QuotaChange, Subject};

/// No period is longer, in seconds: a month of 31 days, and what time zones and the clocks in them come to.
const LONGEST: i64 = 32 * 86_400;
/// A period that begins more than so many seconds from now was told by a clock that was wrong, and is over. One that begins sooner will come.
const WRONG: i64 = 86_400;
/// Rows are deleted so long after their period began.
const KEEP: Duration = Duration::from_hours(62 * 24);
/// What a waiting change takes beside its names, in bytes: its place, and what an allocator and an `Arc` put around each name.
const BESIDE: usize = 400;
/// A map that was once larger gives its memory back.
const KEEP_PLACES: usize = 10_000;

/// One period of one quota.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    rule: Arc<str>,
    count: &'static str,
    subject: Subject,
    starts: u64,
}

impl Key {
    pub(super) fn of(change: &QuotaChange) -> Self {
        let QuotaChange { rule, count, subject, starts, delta: _ } = change;
        Self { rule: Arc::clone(rule), count, subject: subject.clone(), starts: *starts }
    }

    pub(super) fn names(&self) -> [&str; 8] {
        let Subject { tenant, user, group, model, key, address } = &self.subject;
        let [tenant, user, group, model, key, address] =
            [tenant, user, group, model, key, address].map(|name| name.as_deref().unwrap_or_default());
        [&self.rule, self.count, tenant, user, group, model, key, address]
    }

    /// When its period began, in seconds since 1970.
    pub(super) const fn starts(&self) -> u64 {
        self.starts
    }

    fn bytes(&self) -> usize {
        BESIDE + self.names().iter().map(|name| name.len()).sum::<usize>()
    }
}

/// Changes that wait to be written, added up.
#[derive(Debug, Default)]
pub(super) struct Changes {
    sums: HashMap<Key, i64>,
    /// What they take, about.
    bytes: usize,
    /// Changes for which there was no room.
    lost: u64,
}

impl Changes {
    /// Takes a change in. Returns whether it did: where the quota is not among those that wait, and they take `most` bytes already, it is lost.
    pub(super) fn add(&mut self, key: Key, delta: i64, most: usize) -> bool {
        if let Some(sum) = self.sums.get_mut(&key) {
            *sum = sum.saturating_add(delta);
            return true;
        }
        let bytes = self.bytes.saturating_add(key.bytes());
        if bytes > most {
            self.lost = self.lost.saturating_add(1);
            return false;
        }
        self.bytes = bytes;
        self.sums.insert(key, delta);
        true
    }

    /// Those that come to anything.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, i64)> {
        self.sums.iter().map(|(key, delta)| (key, *delta)).filter(|(_, delta)| *delta != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// How many quotas are in it.
    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.sums.len()).unwrap_or(u64::MAX)
    }

    /// How many changes there was no room for.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn clear(&mut self) {
        self.sums.clear();
        self.sums.shrink_to(KEEP_PLACES);
        (self.bytes, self.lost) = (0, 0);
    }

    /// Writes them, the older periods first.
    pub(super) fn write(&self, transaction: &Transaction<'_>, now: SystemTime) -> rusqlite::Result<()> {
        let mut changes: Vec<_> = self.all().collect();
        changes.sort_unstable_by_key(|(key, _)| key.starts);
        // Where the clock was wrong and was set right, the row's period is one to come; what is used of it is used of the present one. Less of a newer
        // period than of none is the end of a call that began under such a clock.
        let mut statement = transaction.prepare(
            "INSERT INTO quotas (rule, count, tenant, user, grp, model, key, address, starts, used)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, max(?10, 0))
             ON CONFLICT DO UPDATE SET
             starts = CASE WHEN ?9 < starts AND starts <= ?11 THEN starts ELSE ?9 END,
             used = CASE
                WHEN ?9 > starts THEN ?10
                WHEN ?10 > 0 AND used > 9223372036854775807 - ?10 THEN 9223372036854775807
                ELSE max(used + ?10, 0) END
             WHERE ?9 = starts OR (?9 > starts AND ?10 > 0)
                OR (?9 < starts AND starts > ?11) OR (?9 < starts AND starts > ?12 AND ?10 > 0)",
        )?;
        // Where the row's period is to come soon, what is used before counts in it, and what is given back does not: that may be of calls of a period long over.
        let (now, wrong) = (seconds(now), seconds(now).saturating_add(WRONG));
        for (key, delta) in changes {
            let [rule, count, tenant, user, group, model, name, address] = key.names();
            let starts = i64::try_from(key.starts).unwrap_or(i64::MAX);
            statement.execute(params![rule, count, tenant, user, group, model, name, address, starts, delta, wrong, now])?;
        }
        Ok(())
    }
}

/// What is used of each quota whose period may still run at `now`, or is to come: the clock was wrong then.
pub(super) fn read(connection: &Connection, now: SystemTime) -> rusqlite::Result<Vec<Quota>> {
    let mut statement = connection
        .prepare("SELECT rule, count, tenant, user, grp, model, key, address, starts, used FROM quotas WHERE starts >= ?1 AND used > 0")?;
    let rows = statement.query_map([seconds(now).saturating_sub(LONGEST)], |row| {
        let name = |column| row.get::<_, String>(column).map(|name| if name.is_empty() { None } else { Some(name.into()) });
        let number = |column| row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or(0));
        let (tenant, user, group) = (name(2)?, name(3)?, name(4)?);
        let subject = Subject { tenant, user, group, model: name(5)?, key: name(6)?, address: name(7)? };
        Ok(Quota { rule: row.get(0)?, count: row.get(1)?, subject, starts: number(8)?, used: number(9)? })
    })?;
    rows.collect()
}

/// Deletes at most `step` rows that are long over, or of which nothing is used: what callers only tried, under names that they chose, is not kept. Returns how
/// many.
pub(super) fn prune(connection: &Connection, now: SystemTime, step: u32) -> rusqlite::Result<usize> {
    const KEY: &str = "rule, count, tenant, user, grp, model, key, address";
    let before = seconds(now.checked_sub(KEEP).unwrap_or(SystemTime::UNIX_EPOCH));
    let sql = format!("DELETE FROM quotas WHERE ({KEY}) IN (SELECT {KEY} FROM quotas WHERE starts < ?1 OR used = 0 LIMIT ?2)");
    connection.execute(&sql, params![before, step])
}
