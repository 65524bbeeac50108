//! The file: whose it is, of which version, and who may read it.

use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;

use super::super::schema::{STEPS, migrate, open_to_write};
use super::*;

#[test]
fn a_third_writer_is_refused_and_the_others_go_on() {
    let dir = Dir::new();
    let both = [start(&dir.file()).0, start(&dir.file()).0];
    let third = Ledger::start(&config(dir.file()), faults(), clock()).err().unwrap();
    assert!(matches!(third, LedgerError::Taken(_)), "{third}");
    for ledger in &both {
        ledger.note(&answered(&RequestId::random(), &principal("acme", None), &used(1, 1)));
        assert!(ledger.flush(PATIENCE));
    }
    assert_eq!(calls(&dir.file()), 2);
    let [first, second] = both;
    drop(first);
    let third = start(&dir.file()).0;
    third.note(&answered(&RequestId::random(), &principal("acme", None), &used(1, 1)));
    assert!(third.flush(PATIENCE) && second.flush(PATIENCE));
    assert_eq!(calls(&dir.file()), 3);
}

#[test]
fn a_successor_has_the_file_once_the_writer_is_gone_and_adds_to_it() {
    let dir = Dir::new();
    let (id, ada, usage) = (RequestId::random(), principal("acme", None), used(1, 1));
    for _ in 0..3 {
        let (ledger, _) = start(&dir.file());
        ledger.note(&answered(&id, &ada, &usage));
        assert!(ledger.flush(PATIENCE));
    }
    assert_eq!(calls(&dir.file()), 3);
}

#[test]
fn the_file_is_not_for_everyone_to_read() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    ledger.note(&answered(&RequestId::random(), &principal("acme", None), &used(1, 1)));
    assert!(ledger.flush(PATIENCE));
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "ledger.sqlite.lock"] {
        let mode = std::fs::metadata(dir.0.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{name}: {mode:o}");
    }
}

#[test]
fn an_older_file_is_brought_up_to_date_and_keeps_its_rows() {
    let dir = Dir::new();
    // Version 1, by hand: as `sqlite3` would have made it.
    let mut connection = Connection::open(dir.file()).unwrap();
    connection.execute_batch(STEPS[0]).unwrap();
    connection.execute_batch("PRAGMA application_id = 1953459308; PRAGMA user_version = 1").unwrap();
    connection.execute("INSERT INTO batches VALUES ('w', 7, 0)", []).unwrap();

    let broken = [STEPS[0], "ALTER TABLE batches ADD COLUMN host TEXT; CREATE TABLE batches (x)"];
    assert!(matches!(migrate(&mut connection, &dir.file(), &broken), Err(LedgerError::Sqlite { .. })));
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM pragma_table_info('batches')"), 3, "all of a step or nothing");
    assert_eq!(number(&dir.file(), "PRAGMA user_version"), 1);

    let steps = [STEPS[0], STEPS[1], "ALTER TABLE batches ADD COLUMN host TEXT", "UPDATE batches SET host = 'h' || seq"];
    migrate(&mut connection, &dir.file(), &steps).unwrap();
    migrate(&mut connection, &dir.file(), &steps).unwrap();
    assert_eq!(number(&dir.file(), "PRAGMA user_version"), 4);
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM batches WHERE host = 'h7'"), 1);
}

#[test]
fn a_gateway_goes_on_with_a_file_that_its_successor_brought_up_to_date_and_one_that_comes_back_takes_it() {
    let dir = Dir::new();
    let (old, _) = start(&dir.file());
    let note = |ledger: &Ledger| {
        ledger.note(&answered(&RequestId::random(), &principal("acme", None), &used(1, 1)));
        assert!(ledger.flush(PATIENCE));
    };
    note(&old);
    let next = [&STEPS[..], &["CREATE TABLE more (x); ALTER TABLE usage ADD COLUMN y INTEGER NOT NULL DEFAULT 7"]].concat();
    migrate(&mut Connection::open(dir.file()).unwrap(), &dir.file(), &next).unwrap();
    note(&old);
    assert_eq!(calls(&dir.file()), 2, "what it opens anew is not refused");
    drop(old);
    let (back, _) = start(&dir.file());
    note(&back);
    assert_eq!(calls(&dir.file()), 3);
    drop(back);
    assert_eq!(number(&dir.file(), "PRAGMA user_version"), i64::try_from(next.len()).unwrap(), "it does not become older");
    migrate(&mut Connection::open(dir.file()).unwrap(), &dir.file(), &next).unwrap();
}

#[test]
fn a_file_of_another_hundred_of_versions_is_refused() {
    let dir = Dir::new();
    drop(open_to_write(&dir.file()).unwrap());
    Connection::open(dir.file()).unwrap().execute_batch("PRAGMA user_version = 100").unwrap();
    for error in [open_to_write(&dir.file()).err().unwrap(), usage(&dir.file(), &all(By::Day)).unwrap_err()] {
        assert!(matches!(error, LedgerError::Newer { found: 100, .. }), "{error}");
    }
    let text = Ledger::start(&config(dir.file()), faults(), clock()).err().unwrap().to_string();
    assert!(text.contains("version 100"), "{text}");
    assert_eq!(number(&dir.file(), "PRAGMA user_version"), 100);
}

#[test]
fn what_is_no_ledger_is_left_alone() {
    let dir = Dir::new();
    Connection::open(dir.file()).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
    assert!(matches!(open_to_write(&dir.file()).err().unwrap(), LedgerError::Foreign(_)));
    assert!(matches!(usage(&dir.file(), &all(By::Day)).unwrap_err(), LedgerError::Foreign(_)));
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM sqlite_schema"), 1);

    let text = dir.0.join("text");
    std::fs::write(&text, "not a database, and longer than the hundred bytes that a header has: ".repeat(20)).unwrap();
    assert!(matches!(open_to_write(&text).err().unwrap(), LedgerError::Sqlite { .. }));

    let nowhere = dir.0.join("nowhere").join("ledger.sqlite");
    assert!(matches!(usage(&nowhere, &all(By::Day)).unwrap_err(), LedgerError::File { .. }));
    assert!(matches!(Ledger::start(&config(nowhere), faults(), clock()).err().unwrap(), LedgerError::File { .. }));
    // A reader makes no file.
    let absent = dir.0.join("absent");
    assert!(usage(&absent, &all(By::Day)).is_err() && !absent.exists());
    std::fs::write(&absent, "").unwrap();
    assert!(matches!(usage(&absent, &all(By::Day)).unwrap_err(), LedgerError::Older { found: 0, .. }));
}

#[test]
fn readers_see_whole_batches_while_the_writer_writes() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let (id, ada, usage) = (RequestId::random(), principal("acme", None), used(1, 2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..50 {
                // One batch, of two models.
                let mut queue = ledger.shared.queue.lock();
                for model in ["m", "n"] {
                    let entry = Entry { model: Some(model), ..answered(&id, &ada, &usage) };
                    queue.waiting.add(Names::of(&entry).unwrap(), &entry, true, Bounds::USUAL);
                }
                drop(queue);
                assert!(ledger.flush(PATIENCE));
            }
        });
        let mut seen = 0;
        while seen < 100 {
            let rows = rows(&dir.file(), By::Model);
            assert!(rows.windows(2).all(|pair| pair[0].1.calls == pair[1].1.calls), "{rows:?}");
            let calls = rows.iter().map(|(_, row)| row.calls).sum();
            assert!(calls >= seen);
            seen = calls;
        }
    });
}

#[test]
fn the_contract_names_every_column_and_its_queries_run() {
    let dir = Dir::new();
    let connection = open_to_write(&dir.file()).unwrap();
    let contract = include_str!("../../../../docs/ledger.md");
    let mut statement = connection
        .prepare(
            "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
        )
        .unwrap();
    let columns: Vec<(String, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    assert!(columns.len() > 40, "{columns:?}");
    for (table, column) in columns {
        let (_, section) = contract.split_once(&format!("\n`{table}` has a row for each")).unwrap_or_else(|| panic!("no table {table}"));
        let section = section.split("` has a row for each").next().unwrap();
        assert!(section.contains(&format!("`{column}`")), "{table}.{column}");
    }
    let queries: Vec<&str> = contract.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(queries.len() >= 3);
    for query in queries {
        connection.prepare(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    }
    assert!(contract.contains(&format!("`PRAGMA user_version` is {}.", STEPS.len())));
}
