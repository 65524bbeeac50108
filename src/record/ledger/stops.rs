//! What operators stopped, until they lift it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Transaction, params};

use super::LedgerError;
use super::query::seconds;
use super::schema::open_to_read;
use crate::domain::{Stop, Stopped};

/// Keeps a stop, in place of one of the same.
pub(super) fn keep(transaction: &Transaction<'_>, stop: &Stop) -> rusqlite::Result<()> {
    let Stop { what, since, reason, message } = stop;
    transaction.execute(
        "INSERT INTO stops (kind, name, tenant, since, reason, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET since = excluded.since, reason = excluded.reason, message = excluded.message",
        params![what.kind(), what.name(), what.tenant_of_key().unwrap_or_default(), seconds(*since), reason, message],
    )?;
    Ok(())
}

/// Keeps it no more. Returns whether it was kept.
pub(super) fn lift(transaction: &Transaction<'_>, what: &Stopped) -> rusqlite::Result<bool> {
    let keys = params![what.kind(), what.name(), what.tenant_of_key().unwrap_or_default()];
    Ok(transaction.execute("DELETE FROM stops WHERE kind = ?1 AND name = ?2 AND tenant = ?3", keys)? > 0)
}

/// Every stop, by kind and name.
fn read(connection: &Connection) -> rusqlite::Result<Vec<Stop>> {
    let mut statement = connection.prepare("SELECT kind, name, tenant, since, reason, message FROM stops ORDER BY kind, name, tenant")?;
    let rows = statement.query_map([], |row| {
        let (kind, name, tenant): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let since = Duration::from_secs(u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0));
        // No gateway of this version writes another kind.
        let what = Stopped::of(&kind, &name, Some(&*tenant).filter(|tenant| !tenant.is_empty()));
        Ok(what.map(|what| (what, since, row.get(4), row.get(5))))
    })?;
    let mut stops = Vec::new();
    for row in rows {
        let Some((what, since, reason, message)) = row? else { continue };
        stops.push(Stop { what, since: SystemTime::UNIX_EPOCH + since, reason: reason?, message: message? });
    }
    Ok(stops)
}

/// Looks whether the stops in the file changed, by whatever process.
#[derive(Debug)]
pub struct StopsWatch {
    file: PathBuf,
    /// Kept open: a look is then a read of shared memory.
    connection: Option<Connection>,
    /// What the file was at when it was read last: `SQLite` counts what other connections commit.
    version: i64,
}

impl StopsWatch {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, connection: None, version: 0 }
    }

    /// Every stop, where something in the file changed since the last look; none where nothing did. It waits for the disk.
    ///
    /// # Errors
    /// Where the file can't be read. The next look opens it anew.
    pub fn look(&mut self) -> Result<Option<Vec<Stop>>, LedgerError> {
        let known = self.connection.take();
        let (connection, is_new) = match known {
            Some(connection) => (connection, false),
            None => (open_to_read(&self.file)?, true),
        };
        let looked = (|| {
            let version = connection.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0))?;
            let stops = if is_new || version != self.version { Some(read(&connection)?) } else { None };
            Ok((version, stops))
        })();
        let (version, stops) = looked.map_err(LedgerError::sqlite(&self.file))?;
        (self.connection, self.version) = (Some(connection), version);
        Ok(stops)
    }
}
