//! How far canaries have come: the later counts, and a file of another version serves as well.

use rusqlite::Connection;

use super::super::canaries::MOST;
use super::super::schema::STEPS;
use super::*;
use crate::domain::KeptCanary;

fn canary(route: &str, rule: &str, step: Option<u32>, after: u64) -> KeptCanary {
    KeptCanary { route: route.into(), rule: rule.into(), step, since: now() + Duration::from_millis(after) }
}

#[test]
fn of_one_rule_the_later_is_kept_and_another_rule_in_place_of_it() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    assert_eq!(ledger.canaries().unwrap(), []);
    for (told, kept) in [
        (canary("chat", "a", Some(0), 0), canary("chat", "a", Some(0), 0)),
        (canary("chat", "a", None, 7), canary("chat", "a", None, 7)),
        (canary("chat", "a", Some(1), 6), canary("chat", "a", None, 7)),
        (canary("chat", "b", Some(0), 5), canary("chat", "b", Some(0), 5)),
    ] {
        ledger.keep_canary(told).unwrap();
        assert_eq!(ledger.canaries().unwrap(), [kept]);
    }
    drop(ledger);
    let (ledger, _) = start(&dir.file());
    assert_eq!(ledger.canaries().unwrap(), [canary("chat", "b", Some(0), 5)]);
}

#[test]
fn the_oldest_goes_where_there_are_too_many() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let file = Connection::open(dir.file()).unwrap();
    for route in 0..=MOST {
        file.execute("INSERT INTO canaries VALUES (?1, 'a', 0, ?2)", (format!("r{route}"), i64::from(route))).unwrap();
    }
    ledger.keep_canary(canary("new", "a", Some(0), 0)).unwrap();
    let kept = ledger.canaries().unwrap();
    assert_eq!((kept.len(), &*kept[0].route), (usize::try_from(MOST).unwrap(), "new"));
    assert!(!kept.iter().any(|kept| ["r0", "r1"].contains(&&*kept.route)));
}

/// As `quota_changes`: one may go back to the release before.
#[test]
fn a_file_that_knew_no_canaries_gets_them_and_its_version_stays() {
    let dir = Dir::new();
    let old = Connection::open(dir.file()).unwrap();
    old.execute_batch(&STEPS.concat()).unwrap();
    old.execute_batch(&format!("PRAGMA application_id = 1953459308; PRAGMA user_version = {}", STEPS.len())).unwrap();
    drop(old);
    let (ledger, _) = start(&dir.file());
    ledger.keep_canary(canary("chat", "a", None, 0)).unwrap();
    assert_eq!(ledger.canaries().unwrap().len(), 1);
    assert_eq!(number(&dir.file(), "PRAGMA user_version"), i64::try_from(STEPS.len()).unwrap());
}
