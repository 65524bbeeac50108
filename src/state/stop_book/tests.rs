use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::config::Config;
use crate::domain::ManualClock;
use crate::state::Live;

/// A directory that goes with its test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static DIRS: AtomicU32 = AtomicU32::new(0);
        let dir = std::env::temp_dir().join(format!("tollgate-stops-{}-{}", std::process::id(), DIRS.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn live(record: &str, dir: &Path) -> Live {
    let text = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nidentity: [anonymous: {{ tenant: public }}]\nupstreams: {{ primary: {{ region: us-east-1 }} }}\nrecord: {record}\n"
    );
    let config = Config::parse(&text, &dir.join("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"));
    Live::build(&config, Clock::Manual(ManualClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_millis(7_900)))).unwrap()
}

const WITHOUT: &str = "{ access_log: off }";
const WITH: &str = "{ access_log: off, ledger: ledger.sqlite }";

fn what(name: &str) -> Stopped {
    Stopped::Tenant(name.into())
}

fn stopped(book: &StopBook) -> Vec<String> {
    book.stops.all().iter().map(|stop| stop.what.to_string()).collect()
}

fn stop(book: &StopBook, what: Stopped) -> Made {
    book.stop(what, "why".to_owned(), String::new()).unwrap()
}

#[test]
fn without_a_ledger_a_stop_is_in_force_and_said_not_to_be_kept() {
    let dir = Dir::new();
    let live = live(WITHOUT, &dir.0);
    let book = &live.stop_book;
    let made = stop(book, what("acme"));
    assert!(made.is_new && matches!(made.kept, Err(LedgerError::Absent)), "{made:?}");
    assert_eq!(made.stop.since, SystemTime::UNIX_EPOCH + Duration::from_secs(7), "as a ledger would have it");
    assert_eq!((stopped(book), book.keeps()), (vec!["tenant `acme`".to_owned()], false));
    assert_eq!(book.all(), [(made.stop.clone(), false)]);
    assert!(!book.refresh().unwrap(), "nothing says otherwise");
    assert!(live.metrics.render(SystemTime::UNIX_EPOCH).contains("tollgate_stops{kind=\"tenant\"} 1\n"));
    assert_eq!(book.lift(&what("acme")).unwrap(), Some(made.stop));
    assert_eq!((book.lift(&what("acme")).unwrap(), stopped(book)), (None, vec![]));
    assert!(live.metrics.render(SystemTime::UNIX_EPOCH).contains("tollgate_stops{kind=\"tenant\"} 0\n"));
}

#[test]
fn with_a_ledger_a_stop_is_there_again_and_one_that_was_lifted_is_not() {
    let dir = Dir::new();
    let first = live(WITH, &dir.0);
    for name in ["acme", "beta"] {
        assert!(stop(&first.stop_book, what(name)).kept.is_ok());
    }
    let key = Stopped::Key { key: "k".into(), tenant: Some("acme".into()) };
    assert!(stop(&first.stop_book, key.clone()).kept.is_ok());
    assert!(stop(&first.stop_book, Stopped::Key { key: "k".into(), tenant: None }).is_new, "of every tenant");
    assert!(first.stop_book.lift(&what("beta")).unwrap().is_some());
    let before = first.stop_book.all();
    assert!(!first.stop_book.refresh().unwrap(), "what is in force is what the ledger has");
    drop(first);
    let second = live(WITH, &dir.0);
    assert_eq!(second.stop_book.all(), before);
    assert_eq!(stopped(&second.stop_book), ["tenant `acme`", "key `k`", "key `k` of tenant `acme`"]);
    assert!(second.stop_book.lift(&key).unwrap().is_some());
    assert_eq!(stopped(&second.stop_book), ["tenant `acme`", "key `k`"]);
}

#[test]
fn what_is_stopped_again_stays_so_since_it_was_for_the_new_reason() {
    let dir = Dir::new();
    let live = live(WITH, &dir.0);
    let first = stop(&live.stop_book, what("acme"));
    if let Clock::Manual(hands) = &live.clock {
        hands.advance(Duration::from_mins(1));
    }
    let again = live.stop_book.stop(what("acme"), "another".to_owned(), "call us".to_owned()).unwrap();
    assert!(!again.is_new && again.stop.since == first.stop.since);
    assert_eq!((again.stop.reason.as_str(), again.stop.message.as_str()), ("another", "call us"));
    assert!(!live.stop_book.refresh().unwrap());
    assert_eq!(live.stop_book.all(), [(again.stop, true)]);
}

#[test]
fn two_that_have_one_ledger_agree() {
    let dir = Dir::new();
    let live = live(WITH, &dir.0);
    // Another process, as the predecessor of an upgrade is: it has the ledger to read.
    let stops = Arc::<Stops>::default();
    let other = StopBook::new(Arc::clone(&live.recorder), Arc::clone(&stops), Arc::default(), live.clock.clone());
    assert!(!other.refresh().unwrap());
    let mut changes = stops.changes();
    stop(&live.stop_book, what("acme"));
    assert!(other.refresh().unwrap() && changes.has_changed().unwrap());
    assert_eq!(stopped(&other), ["tenant `acme`"]);
    changes.mark_unchanged();
    assert!(!other.refresh().unwrap() && !changes.has_changed().unwrap());
    assert!(other.lift(&what("acme")).unwrap().is_some());
    assert!(live.stop_book.refresh().unwrap());
    assert_eq!(stopped(&live.stop_book), [""; 0]);
}

#[test]
fn a_stop_that_the_disk_does_not_take_is_in_force_and_stays_so_until_it_is_lifted() {
    let dir = Dir::new();
    let live = live(WITH, &dir.0);
    let book = &live.stop_book;
    assert!(stop(book, what("kept")).kept.is_ok());
    let somebody = rusqlite::Connection::open(dir.0.join("ledger.sqlite")).unwrap();
    somebody.execute_batch("BEGIN IMMEDIATE").unwrap();
    let made = stop(book, what("acme"));
    assert!(made.kept.is_err(), "{made:?}");
    assert_eq!(stopped(book), ["tenant `acme`", "tenant `kept`"]);
    assert!(!book.refresh().unwrap(), "what the ledger has not is in force all the same");
    assert_eq!(book.all().iter().map(|(_, kept)| *kept).collect::<Vec<_>>(), [false, true]);
    // What the ledger has would be back with the next look.
    assert!(book.lift(&what("kept")).is_err());
    assert_eq!(stopped(book), ["tenant `acme`", "tenant `kept`"]);
    assert!(book.lift(&what("acme")).unwrap().is_some());
    assert_eq!(stopped(book), ["tenant `kept`"]);
    somebody.execute_batch("COMMIT").unwrap();
    assert!(stop(book, what("acme")).kept.is_ok(), "asked again, it is kept");
    assert!(book.lift(&what("kept")).unwrap().is_some());
}

#[test]
fn there_are_only_so_many_and_so_many_patterns() {
    let dir = Dir::new();
    let live = live(WITHOUT, &dir.0);
    let book = &live.stop_book;
    for n in 0..MOST_PATTERNS {
        stop(book, Stopped::Model(format!("*{n}").into()));
    }
    let full = book.stop(Stopped::Model("*x".into()), String::new(), String::new()).unwrap_err().to_string();
    assert!(full.starts_with("100 patterns of models are stopped already"), "{full}");
    assert!(stop(book, Stopped::Model("exact".into())).is_new);
    {
        let mut held = book.held.lock();
        for n in held.all().count()..MOST_STOPS {
            let one = Stop { what: what(&n.to_string()), since: SystemTime::UNIX_EPOCH, reason: String::new(), message: String::new() };
            held.loose.insert(one.what.clone(), one);
        }
    }
    let full = book.stop(what("x"), String::new(), String::new()).unwrap_err().to_string();
    assert!(full.starts_with("10000 tenants, keys, models and routes are stopped already"), "{full}");
    assert!(!stop(book, Stopped::Model("exact".into())).is_new, "what is there has room");
}
