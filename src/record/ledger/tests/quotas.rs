//! How much of quotas is used, across processes that end and clocks that jump.

use rusqlite::Connection;

use super::super::batch::Batch;
use super::super::quotas::Key;
use super::super::schema::STEPS;
use super::super::store::opener;
use super::*;
use crate::domain::Subject;

const DAY: u64 = 86_400;
/// The beginning of the day that these tests live in.
const TODAY: u64 = 1_795_305_600;

fn of(tenant: &str) -> Subject {
    Subject { tenant: Some(tenant.into()), ..Subject::default() }
}

fn change(tenant: &str, starts: u64, delta: i64) -> QuotaChange {
    QuotaChange { rule: "daily".into(), count: "tokens", subject: of(tenant), starts, delta }
}

/// What is used of whose, and of the period that begins so long after today.
fn used_of(ledger: &Ledger) -> Vec<(String, i64, u64)> {
    assert!(ledger.flush(PATIENCE));
    let quotas = ledger.quotas().unwrap();
    assert!(quotas.iter().all(|quota| quota.rule == "daily" && quota.count == "tokens"));
    let day = |starts: u64| (i64::try_from(starts).unwrap() - i64::try_from(TODAY).unwrap()) / 86_400;
    quotas.into_iter().map(|quota| (quota.subject.tenant.unwrap().to_string(), day(quota.starts), quota.used)).collect()
}

#[test]
fn changes_of_one_period_add_up_whatever_batch_they_come_in() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    for delta in [100, -100, 80, 7] {
        ledger.quota(&change("acme", TODAY, delta));
    }
    ledger.quota(&change("beta", TODAY, 5));
    assert_eq!(used_of(&ledger), [("acme".into(), 0, 87), ("beta".into(), 0, 5)]);
    ledger.quota(&change("acme", TODAY, 13));
    ledger.quota(&change("beta", TODAY, -9));
    assert_eq!(used_of(&ledger), [("acme".into(), 0, 100)], "nothing is used less than not at all");
    drop(ledger);
    let (ledger, _) = start(&dir.file());
    ledger.quota(&change("acme", TODAY, i64::MAX));
    assert_eq!(used_of(&ledger), [("acme".into(), 0, i64::MAX.cast_unsigned())], "a sum stops where the column does");
}

#[test]
fn a_newer_period_takes_the_place_of_an_older_one_and_what_comes_late_is_over() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    ledger.quota(&change("acme", TODAY - DAY, 100));
    assert_eq!(used_of(&ledger), [("acme".into(), -1, 100)]);
    // In one batch, in no order.
    ledger.quota(&change("acme", TODAY, 3));
    ledger.quota(&change("acme", TODAY - DAY, 50));
    assert_eq!(used_of(&ledger), [("acme".into(), 0, 3)]);
    ledger.quota(&change("acme", TODAY - DAY, -150));
    assert_eq!(used_of(&ledger), [("acme".into(), 0, 3)]);
}

#[test]
fn every_name_is_told_apart_and_read_back_as_it_was() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let name = |text: &str| Some(text.into());
    let subjects = [
        Subject::default(),
        of("acme"),
        Subject { user: name("ada"), ..of("acme") },
        Subject { group: name("ada"), ..of("acme") },
        Subject { model: name("ada"), ..of("acme") },
        Subject { key: name("ada"), ..of("acme") },
        Subject { address: name("2001:db8::/64"), ..Subject::default() },
    ];
    for (nth, subject) in (1..).zip(&subjects) {
        ledger.quota(&QuotaChange { subject: subject.clone(), ..change("", TODAY, nth) });
    }
    // A caller without a user has an empty one; the limits know both as one.
    ledger.quota(&QuotaChange { subject: Subject { user: name(""), ..of("acme") }, ..change("", TODAY, 40) });
    assert!(ledger.flush(PATIENCE));
    let mut read: Vec<_> = ledger.quotas().unwrap().into_iter().map(|quota| (quota.used, quota.subject)).collect();
    read.sort_by_key(|(used, _)| *used);
    let mut expected: Vec<_> = (1..).zip(subjects).collect();
    expected[1].0 += 40;
    expected.sort_by_key(|(used, _)| *used);
    assert_eq!(read, expected);
}

#[test]
fn a_batch_of_quotas_that_is_there_already_is_not_written_again() {
    let dir = Dir::new();
    let mut store = Store::new(dir.file(), opener(dir.file()), Duration::MAX, Duration::MAX).unwrap();
    let mut batch = Batch::default();
    let change = change("acme", TODAY, 100);
    assert!(batch.quotas.add(Key::of(&change), change.delta, usize::MAX) && !batch.is_empty());
    for seq in [1, 1, 2, 2] {
        store.write(&batch, seq, now()).unwrap();
    }
    assert_eq!(number(&dir.file(), "SELECT used FROM quotas"), 200);
}

#[test]
fn what_was_used_under_a_clock_that_was_ahead_is_used_of_the_present_period() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    ledger.quota(&change("acme", TODAY + 300 * DAY, 100));
    assert_eq!(used_of(&ledger), [("acme".into(), 300, 100)]);
    // The clock is set right; the call that began under it ends.
    ledger.quota(&change("acme", TODAY, 7));
    ledger.quota(&change("acme", TODAY + 300 * DAY, -100));
    assert_eq!(used_of(&ledger), [("acme".into(), 0, 107)]);
    // One that is ahead by less is waited for, and what comes late is of a period that is over.
    ledger.quota(&change("beta", TODAY + DAY, 100));
    ledger.quota(&change("beta", TODAY, -50));
    assert_eq!(used_of(&ledger)[1], ("beta".into(), 1, 100));
    ledger.quota(&change("beta", TODAY, 5));
    assert_eq!(used_of(&ledger)[1], ("beta".into(), 1, 105), "what is used before it comes is used of it");
}

#[test]
fn only_periods_that_may_still_run_are_read_and_those_long_over_are_deleted() {
    let dir = Dir::new();
    let mut store = Store::new(dir.file(), opener(dir.file()), Duration::MAX, Duration::MAX).unwrap();
    let mut batch = Batch::default();
    for (tenant, age) in [("a", 0), ("b", 30), ("c", 33), ("d", 61), ("e", 63), ("f", 400)] {
        let change = change(tenant, TODAY - age * DAY, 1);
        batch.quotas.add(Key::of(&change), 1, usize::MAX);
    }
    store.write(&batch, 1, now()).unwrap();
    while store.prune(now()).unwrap() {}
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM quotas"), 4);
    let (ledger, _) = start(&dir.file());
    let tenants: Vec<_> = used_of(&ledger).into_iter().map(|(tenant, ..)| tenant).collect();
    assert_eq!(tenants, ["a", "b"]);
}

#[test]
fn what_was_only_held_leaves_no_row() {
    let dir = Dir::new();
    let mut store = Store::new(dir.file(), opener(dir.file()), Duration::MAX, Duration::MAX).unwrap();
    for (batch_number, delta) in [(1, 500), (2, -500)] {
        let mut batch = Batch::default();
        for tenant in ["tried", "used"] {
            let change = change(tenant, TODAY, delta + i64::from(tenant == "used"));
            batch.quotas.add(Key::of(&change), change.delta, usize::MAX);
        }
        store.write(&batch, batch_number, now()).unwrap();
    }
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM quotas"), 2);
    while store.prune(now()).unwrap() {}
    let (ledger, _) = start(&dir.file());
    assert_eq!(used_of(&ledger), [("used".into(), 0, 2)]);
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM quotas"), 1);
}

#[test]
fn beyond_the_bound_new_quotas_are_lost_and_counted_and_known_ones_go_on() {
    let dir = Dir::new();
    let faults = faults();
    let bounds = Bounds { quotas: 1_000, ..Bounds::USUAL };
    let ledger = Ledger::start_with(&config(dir.file()), opener(dir.file()), bounds, faults.clone(), clock()).unwrap();
    let mut queue = ledger.shared.queue.lock();
    let mut add = |tenant| queue.waiting.quotas.add(Key::of(&change(tenant, TODAY, 1)), 1, bounds.quotas);
    assert_eq!(["a", "b", "c", "a"].map(&mut add), [true, true, false, true]);
    assert_eq!(queue.waiting.quotas.lost(), 1);
    drop(queue);
    assert_eq!(used_of(&ledger), [("a".into(), 0, 2), ("b".into(), 0, 1)]);
    ledger.quota(&change(&"x".repeat(1_000), TODAY, 1));
    assert_eq!(faults.quotas_dropped.get(), 1);
}

#[test]
fn a_disk_that_fails_loses_no_change_and_holds_up_nobody() {
    let dir = Dir::new();
    let faults = faults();
    let ledger = Ledger::start(&config(dir.file()), faults.clone(), clock()).unwrap();
    let somebody = Connection::open(dir.file()).unwrap();
    somebody.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..10 {
        ledger.quota(&change("acme", TODAY, 10));
        assert!(!ledger.flush(Duration::from_millis(1)));
    }
    somebody.execute_batch("COMMIT").unwrap();
    assert_eq!(used_of(&ledger), [("acme".into(), 0, 100)]);
    assert_eq!(faults.quotas_dropped.get(), 0);
}

#[test]
fn a_file_of_version_1_gets_quotas_and_grants_and_keeps_what_it_has() {
    let dir = Dir::new();
    let old = Connection::open(dir.file()).unwrap();
    old.execute_batch(STEPS[0]).unwrap();
    old.execute_batch("PRAGMA application_id = 1953459308; PRAGMA user_version = 1; INSERT INTO batches VALUES ('w', 7, 0)").unwrap();
    drop(old);
    let (ledger, _) = start(&dir.file());
    ledger.quota(&change("acme", TODAY, 5));
    assert_eq!(used_of(&ledger), [("acme".into(), 0, 5)]);
    assert_eq!(number(&dir.file(), "PRAGMA user_version"), i64::try_from(STEPS.len()).unwrap());
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM grants"), 0);
}
