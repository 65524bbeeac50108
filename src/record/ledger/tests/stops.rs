//! Stops in the file: on the disk when whoever asked is answered, and told to whoever looks.

use rusqlite::Connection;

use super::super::schema::STEPS;
use super::*;
use crate::domain::{Stop, Stopped};

fn stop(kind: &str, name: &str, tenant: Option<&str>) -> Stop {
    // Whole seconds are kept.
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(BEGAN.as_secs());
    Stop { what: Stopped::of(kind, name, tenant).unwrap(), since, reason: "a leak".to_owned(), message: "call us".to_owned() }
}

#[test]
fn a_stop_is_on_the_disk_when_it_is_told_and_until_it_is_lifted() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let mut watch = ledger.watch_stops();
    assert_eq!(watch.look().unwrap(), Some(vec![]), "the first look tells what there is");
    assert_eq!(watch.look().unwrap(), None);
    let all = [stop("key", "k", None), stop("key", "k", Some("acme")), stop("model", "*opus*", None), stop("tenant", "acme", None)];
    for one in &all {
        ledger.stop(one.clone()).unwrap();
    }
    assert_eq!(watch.look().unwrap().as_deref(), Some(&all[..]));
    assert_eq!(watch.look().unwrap(), None);

    ledger.stop(Stop { reason: "another".to_owned(), ..all[3].clone() }).unwrap();
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM stops"), 4, "in place of the same");
    assert!(ledger.lift(all[0].what.clone()).unwrap());
    assert!(!ledger.lift(all[0].what.clone()).unwrap());
    drop(ledger);
    let (ledger, _) = start(&dir.file());
    let kept = ledger.watch_stops().look().unwrap().unwrap();
    assert_eq!(kept, [all[1].clone(), all[2].clone(), Stop { reason: "another".to_owned(), ..all[3].clone() }]);
}

#[test]
fn whoever_looks_learns_what_another_process_wrote() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let mut watch = ledger.watch_stops();
    watch.look().unwrap();
    let other = Connection::open(dir.file()).unwrap();
    other
        .execute("INSERT INTO stops VALUES ('route', 'main', '', 7, '', ''), ('nothing known', 'x', '', 9223372036854775807, '', '')", [])
        .unwrap();
    let told = watch.look().unwrap().unwrap();
    assert_eq!(told.iter().map(|stop| stop.what.to_string()).collect::<Vec<_>>(), ["route `main`"]);
}

#[test]
fn a_file_of_version_2_gets_stops_and_keeps_what_it_has() {
    let dir = Dir::new();
    let old = Connection::open(dir.file()).unwrap();
    old.execute_batch(&STEPS[..2].concat()).unwrap();
    old.execute_batch(
        "PRAGMA application_id = 1953459308; PRAGMA user_version = 2;
         INSERT INTO grants VALUES (4, 'r', 'usd', 't', '', 1, 4000000000, 0, '', NULL)",
    )
    .unwrap();
    drop(old);
    let (ledger, _) = start(&dir.file());
    ledger.stop(stop("tenant", "acme", None)).unwrap();
    assert_eq!(number(&dir.file(), "PRAGMA user_version"), 3);
    assert_eq!(ledger.grants().unwrap().len(), 1);
}
