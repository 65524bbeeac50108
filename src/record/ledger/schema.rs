//! The file: how it is laid out, how an older one is brought up to date, and how it is opened.
//!
//! `docs/ledger.md` is the contract of the tables: people query them by hand.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{LedgerError, beside, canaries};

/// "toll", in ASCII: tells a ledger from another program's database (`file` shows it, too).
const APPLICATION_ID: i64 = 0x746f_6c6c;

/// How long a statement waits for somebody at the file before it fails and is tried again later.
const BUSY: Duration = Duration::from_secs(2);

/// Versions up to the next hundred only add: tables, and columns with a default. So a gateway works with a file of a later one of them, too: a release can be
/// rolled back, and what drains beside its successor is not shut out of its own file.
const FAMILY: i64 = 100;

/// What brings a file from each version to the next: the first from an empty file to version 1, the second to version 2, which knows
/// quotas and grants, the third to version 3, which knows stops. A step that was released is never edited.
pub(super) const STEPS: [&str; 3] = [
    "
    CREATE TABLE usage (
        hour INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        user TEXT NOT NULL,
        model TEXT NOT NULL,
        upstream TEXT NOT NULL,
        operation TEXT NOT NULL,
        calls INTEGER NOT NULL,
        refused INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        estimated_calls INTEGER NOT NULL,
        unpriced_calls INTEGER NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cache_read INTEGER NOT NULL,
        cache_write_5m INTEGER NOT NULL,
        cache_write_1h INTEGER NOT NULL,
        reasoning INTEGER NOT NULL,
        estimated_input INTEGER NOT NULL,
        estimated_output INTEGER NOT NULL,
        guardrail_topic INTEGER NOT NULL,
        guardrail_content INTEGER NOT NULL,
        guardrail_content_image INTEGER NOT NULL,
        guardrail_sensitive_information INTEGER NOT NULL,
        guardrail_contextual_grounding INTEGER NOT NULL,
        guardrail_automated_reasoning INTEGER NOT NULL,
        cost_picos INTEGER NOT NULL,
        PRIMARY KEY (hour, tenant, user, model, upstream, operation)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE exchanges (
        id INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        upstream_request_id TEXT NOT NULL,
        request_id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        user TEXT NOT NULL,
        model TEXT NOT NULL,
        upstream TEXT NOT NULL,
        operation TEXT NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cache_read INTEGER NOT NULL,
        cache_write_5m INTEGER NOT NULL,
        cache_write_1h INTEGER NOT NULL,
        reasoning INTEGER NOT NULL,
        estimated INTEGER NOT NULL,
        cost_picos INTEGER
    ) STRICT;
    CREATE INDEX exchanges_by_upstream_request_id ON exchanges (upstream_request_id);
    CREATE INDEX exchanges_by_at ON exchanges (at);
    CREATE TABLE batches (
        writer TEXT PRIMARY KEY,
        seq INTEGER NOT NULL,
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE quotas (
        rule TEXT NOT NULL,
        count TEXT NOT NULL,
        tenant TEXT NOT NULL,
        user TEXT NOT NULL,
        grp TEXT NOT NULL,
        model TEXT NOT NULL,
        key TEXT NOT NULL,
        address TEXT NOT NULL,
        starts INTEGER NOT NULL,
        used INTEGER NOT NULL,
        PRIMARY KEY (rule, count, tenant, user, grp, model, key, address)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE grants (
        id INTEGER PRIMARY KEY,
        rule TEXT NOT NULL,
        count TEXT NOT NULL,
        tenant TEXT NOT NULL,
        user TEXT NOT NULL,
        more INTEGER NOT NULL,
        until INTEGER NOT NULL,
        made INTEGER NOT NULL,
        note TEXT NOT NULL,
        revoked INTEGER
    ) STRICT;
",
    "
    CREATE TABLE stops (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        tenant TEXT NOT NULL,
        since INTEGER NOT NULL,
        reason TEXT NOT NULL,
        message TEXT NOT NULL,
        PRIMARY KEY (kind, name, tenant)
    ) STRICT, WITHOUT ROWID;
",
];

/// Opens the file for writing: makes it where there is none, and brings it up to date where it is older.
pub(super) fn open_to_write(file: &Path) -> Result<Connection, LedgerError> {
    // Made here, for its mode: `SQLite` gives the files beside it the same.
    drop(create(file).map_err(LedgerError::file(file))?);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let told = LedgerError::sqlite(file);
    let mut connection = Connection::open_with_flags(file, flags).map_err(&told)?;
    connection.busy_timeout(BUSY).map_err(&told)?;
    migrate(&mut connection, file, &STEPS)?;
    // A killed process loses nothing that was committed, under NORMAL either. FULL also keeps it when the machine loses power, for two
    // syncs a second that no request waits for.
    connection.pragma_update(None, "journal_mode", "wal").map_err(&told)?;
    connection.pragma_update(None, "synchronous", "full").map_err(&told)?;
    Ok(connection)
}

/// Opens the file for reading, beside a gateway that writes it.
pub(super) fn open_to_read(file: &Path) -> Result<Connection, LedgerError> {
    let told = LedgerError::sqlite(file);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // It says `unable to open database file`, and no more: so the system is asked, but only then. The gateway itself reads its ledger, too, and to close
    // any handle of the file would drop the locks that its writer has on it.
    let connection = Connection::open_with_flags(file, flags).map_err(|error| match File::open(file) {
        Err(why) => LedgerError::file(file)(why),
        Ok(_) => told(error),
    })?;
    connection.busy_timeout(BUSY).map_err(&told)?;
    let (found, known) = (version(&connection, file)?, newest(&STEPS));
    if !can_use(found, known) {
        return Err(LedgerError::Newer { file: file.to_owned(), found, known });
    }
    if found < known {
        return Err(LedgerError::Older { file: file.to_owned(), found, known });
    }
    Ok(connection)
}

/// Brings a file from the version that it has to the newest, in one transaction: all steps or none. One that is newer stays so.
pub(super) fn migrate(connection: &mut Connection, file: &Path, steps: &[&str]) -> Result<(), LedgerError> {
    let told = LedgerError::sqlite(file);
    let known = newest(steps);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&told)?;
    let found = version(&transaction, file)?;
    if !can_use(found, known) {
        return Err(LedgerError::Newer { file: file.to_owned(), found, known });
    }
    for step in steps.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step).map_err(&told)?;
    }
    for table in [beside::TABLE, canaries::TABLE] {
        transaction.execute_batch(table).map_err(&told)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(&told)?;
    transaction.pragma_update(None, "user_version", known.max(found)).map_err(&told)?;
    transaction.commit().map_err(&told)
}

/// The version of a file; 0 where it is empty.
fn version(connection: &Connection, file: &Path) -> Result<i64, LedgerError> {
    let told = LedgerError::sqlite(file);
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (id, version) = (pragma("application_id").map_err(&told)?, pragma("user_version").map_err(&told)?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(&told)?;
    match (id, version, tables) {
        (APPLICATION_ID, 0.., _) | (0, 0, 0) => Ok(version),
        _ => Err(LedgerError::Foreign(file.to_owned())),
    }
}

/// Whether a gateway that knows version `known` can use a file of version `found`, once an older one is brought up to date.
const fn can_use(found: i64, known: i64) -> bool {
    found <= known || found / FAMILY == known / FAMILY
}

fn newest(steps: &[&str]) -> i64 {
    i64::try_from(steps.len()).unwrap_or(i64::MAX)
}

/// Readable by the owner and the group: who spends what is nobody else's business.
pub(super) fn create(file: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(file)
}
