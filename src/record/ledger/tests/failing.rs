//! Disks that are full, files that others hold, and commits that nobody knows the end of.

use std::sync::atomic::AtomicBool;

use rusqlite::Connection;

use super::super::batch::Batch;
use super::super::schema::open_to_write;
use super::super::store::opener;
use super::*;

/// Waits for nobody who holds `file`.
fn impatient(file: PathBuf) -> Open {
    Box::new(move || {
        let connection = open_to_write(&file)?;
        connection.busy_timeout(Duration::ZERO).map_err(LedgerError::sqlite(&file))?;
        Ok(connection)
    })
}

/// Notes an exchange of each of `models`.
fn note(ledger: &Ledger, models: &[&str]) {
    let (id, ada, usage) = (RequestId::random(), principal("acme", Some("ada")), used(1, 1));
    for model in models {
        ledger.note(&Entry { model: Some(model), ..answered(&id, &ada, &usage) });
    }
}

#[test]
fn a_full_disk_is_waited_out_and_nothing_is_lost_or_written_twice() {
    let dir = Dir::new();
    let full = Arc::new(AtomicBool::new(true));
    let (file, is_full) = (dir.file(), Arc::clone(&full));
    let open: Open = Box::new(move || {
        let connection = open_to_write(&file)?;
        if is_full.load(Ordering::SeqCst) {
            // SQLITE_FULL, as a disk without room gives it.
            connection.pragma_update(None, "max_page_count", 1).map_err(LedgerError::sqlite(&file))?;
        }
        Ok(connection)
    });
    let faults = faults();
    let ledger = Ledger::start_with(&config(dir.file()), open, Bounds::USUAL, faults.clone(), clock()).unwrap();
    // More than the pages that the file has can take.
    let names: Vec<String> = (0..400).map(|nth| format!("model-{nth:0>200}")).collect();
    let models: Vec<&str> = names.iter().map(String::as_str).collect();
    note(&ledger, &models);
    assert!(!ledger.flush(Duration::from_millis(300)), "there is no room");
    note(&ledger, &models);
    assert!(faults.errors.get() >= 1);
    assert_eq!(calls(&dir.file()), 0, "a batch is in the file whole or not at all");

    full.store(false, Ordering::SeqCst);
    assert!(ledger.flush(PATIENCE));
    assert_eq!(calls(&dir.file()), 800);
    assert_eq!(faults.usage_dropped.get() + faults.exchanges_dropped.get(), 0);
}

#[test]
fn a_file_that_somebody_holds_costs_time_and_no_exchange() {
    let dir = Dir::new();
    let faults = faults();
    let ledger = Ledger::start_with(&config(dir.file()), impatient(dir.file()), Bounds::USUAL, faults.clone(), clock()).unwrap();
    let somebody = Connection::open(dir.file()).unwrap();
    somebody.execute_batch("BEGIN IMMEDIATE").unwrap();
    note(&ledger, &["m"]);
    assert!(!ledger.flush(Duration::from_millis(200)));
    note(&ledger, &["m"]);
    somebody.execute_batch("COMMIT").unwrap();
    assert!(ledger.flush(PATIENCE));
    assert_eq!(calls(&dir.file()), 2);
    assert!(faults.errors.get() >= 1);
    assert_eq!(faults.usage_dropped.get(), 0);
}

#[test]
fn a_batch_that_is_there_already_is_not_written_again() {
    let dir = Dir::new();
    let open = opener(dir.file());
    let mut store = Store::new(dir.file(), open, Duration::MAX, Duration::MAX).unwrap();
    let (id, ada, usage) = (RequestId::random(), principal("acme", None), used(1, 1));
    let entry = answered(&id, &ada, &usage);
    let mut batch = Batch::default();
    batch.add(Names::of(&entry).unwrap(), &entry, true, Bounds::USUAL);
    // As after a commit whose end was not told.
    store.write(&batch, 1, now()).unwrap();
    store.write(&batch, 1, now()).unwrap();
    assert_eq!(calls(&dir.file()), 1);
    store.write(&batch, 2, now()).unwrap();
    assert_eq!(calls(&dir.file()), 2);
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM exchanges"), 2);
}

#[test]
fn beyond_the_bounds_names_become_other_then_exchanges_are_lost_and_both_are_counted() {
    let dir = Dir::new();
    let open = opener(dir.file());
    let bounds = Bounds { keys: 3, keys_and_others: 5, exchanges: 4, quotas: 0 };
    let faults = faults();
    let ledger = Ledger::start_with(&config(dir.file()), open, bounds, faults.clone(), clock()).unwrap();
    let (id, usage) = (RequestId::random(), used(1, 1));
    let mut queue = ledger.shared.queue.lock();
    let mut counts = (0, 0, 0);
    for (tenant, model) in
        [("a", "1"), ("a", "2"), ("a", "3"), ("a", "4"), ("a", "5"), ("b", "1"), ("c", "1"), ("d", "1"), ("a", "1"), ("a", "6")]
    {
        let principal = principal(tenant, None);
        let entry = Entry { model: Some(model), ..answered(&id, &principal, &usage) };
        let taken = queue.waiting.add(Names::of(&entry).unwrap(), &entry, true, bounds);
        counts.0 += u32::from(taken.folded);
        counts.1 += u32::from(taken.usage_lost);
        counts.2 += u32::try_from(taken.singles_lost).unwrap();
    }
    drop(queue);
    // Folded: a4, a5, b1, a6. Lost: c1, d1.
    assert_eq!(counts, (4, 2, 4));
    assert!(ledger.flush(PATIENCE));
    let models: Vec<_> = rows(&dir.file(), By::Model).into_iter().map(|(name, row)| (name, row.calls)).collect();
    assert_eq!(models, [("1".to_owned(), 2), ("2".to_owned(), 1), ("3".to_owned(), 1), ("other".to_owned(), 4)]);
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM exchanges"), 4);
}

#[test]
fn exchanges_that_could_not_be_written_when_the_gateway_ended_are_counted() {
    let dir = Dir::new();
    let faults = faults();
    let ledger = Ledger::start_with(&config(dir.file()), impatient(dir.file()), Bounds::USUAL, faults.clone(), clock()).unwrap();
    let somebody = Connection::open(dir.file()).unwrap();
    somebody.execute_batch("BEGIN IMMEDIATE").unwrap();
    note(&ledger, &["m", "n", "m"]);
    drop(ledger);
    // The writer lets go of the file as it ends: that is what is waited for.
    let hold = || super::super::lock::hold(&dir.file());
    let _held = hold().unwrap();
    // The second place is its.
    let ended = std::iter::repeat_with(hold).take(20).any(|held| held.is_ok());
    assert!(ended);
    assert_eq!((faults.usage_dropped.get(), faults.exchanges_dropped.get()), (3, 3));
}

#[test]
fn the_lag_is_the_age_of_the_oldest_that_is_not_written() {
    let dir = Dir::new();
    let hands = ManualClock::starting_at(now());
    let ledger = Ledger::start(&config(dir.file()), faults(), Clock::Manual(hands.clone())).unwrap();
    let lag = ledger.lag();
    assert_eq!(lag(), 0);
    let somebody = Connection::open(dir.file()).unwrap();
    somebody.execute_batch("BEGIN IMMEDIATE").unwrap();
    note(&ledger, &["m"]);
    hands.advance(Duration::from_secs(90));
    assert_eq!(lag(), 90);
    somebody.execute_batch("COMMIT").unwrap();
    assert!(ledger.flush(PATIENCE));
    assert_eq!(lag(), 0);
}
