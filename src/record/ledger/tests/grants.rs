//! Grants in the file: on the disk when whoever asked is answered, and not there where they were told so.

use rusqlite::Connection;

use super::super::store::opener;
use super::*;

const DAY: Duration = Duration::from_hours(24);

fn grant(tenant: &str, until: SystemTime) -> Grant {
    let (rule, user) = ("budget".into(), Some("ada".into()));
    // Whole seconds are kept.
    let made = SystemTime::UNIX_EPOCH + Duration::from_secs(BEGAN.as_secs());
    Grant { id: 0, rule, tenant: tenant.into(), user, more: 7, until, made, note: "a launch".to_owned() }
}

fn soon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(BEGAN.as_secs()) + DAY
}

#[test]
fn a_grant_is_on_the_disk_when_it_is_told_and_until_it_is_revoked() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let made = ledger.grant(grant("acme", soon()), "usd").unwrap();
    assert_eq!(made.grant, Grant { id: 1, ..grant("acme", soon()) });
    assert_eq!((made.count.as_str(), made.revoked), ("usd", None));
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM grants WHERE revoked IS NULL"), 1);
    let other = ledger.grant(Grant { user: None, ..grant("beta", soon()) }, "tokens").unwrap();
    assert_eq!((other.grant.id, &other.grant.user), (2, &None));
    assert_eq!(ledger.grants().unwrap(), [made.clone(), other.clone()]);

    let revoked = ledger.revoke(1).unwrap().unwrap();
    assert!(revoked.revoked.is_some());
    assert_eq!(ledger.revoke(1).unwrap(), Some(revoked.clone()), "it stays as it is");
    assert_eq!(ledger.revoke(3).unwrap(), None);
    assert_eq!(ledger.revoke(u64::MAX).unwrap(), None);
    drop(ledger);
    let (ledger, _) = start(&dir.file());
    assert_eq!(ledger.grants().unwrap(), [revoked, other]);
}

#[test]
fn a_grant_is_told_for_thirty_days_after_its_end_and_then_deleted() {
    let dir = Dir::new();
    let hands = ManualClock::starting_at(now());
    let ledger = Ledger::start(&config(dir.file()), faults(), Clock::Manual(hands.clone())).unwrap();
    ledger.grant(grant("expires", soon()), "usd").unwrap();
    ledger.grant(grant("is revoked", soon() + 300 * DAY), "usd").unwrap();
    ledger.grant(grant("stays", soon() + 300 * DAY), "usd").unwrap();
    ledger.revoke(2).unwrap();
    let tenants = |ledger: &Ledger| ledger.grants().unwrap().into_iter().map(|kept| kept.grant.tenant.to_string()).collect::<Vec<_>>();
    hands.advance(29 * DAY);
    assert_eq!(tenants(&ledger), ["expires", "is revoked", "stays"]);
    hands.advance(DAY + Duration::from_secs(1));
    assert_eq!(tenants(&ledger), ["expires", "stays"]);
    hands.advance(DAY);
    assert_eq!(tenants(&ledger), ["stays"]);
    drop(ledger);
    let mut store = Store::new(dir.file(), opener(dir.file()), Duration::MAX, Duration::MAX).unwrap();
    store.prune(now() + 32 * DAY).unwrap();
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM grants"), 1);
}

#[test]
fn there_are_only_so_many() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let full = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
                INSERT INTO grants SELECT i, 'r', 'usd', 't', '', 1, 4000000000, 0, '', NULL FROM n";
    Connection::open(dir.file()).unwrap().execute(full, []).unwrap();
    let error = ledger.grant(grant("acme", soon()), "usd").unwrap_err();
    assert!(matches!(error, LedgerError::ManyGrants { most: 10_000, .. }), "{error}");
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM grants"), 10_000);
}

#[test]
fn a_grant_that_could_not_be_kept_is_refused_and_never_made() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let somebody = Connection::open(dir.file()).unwrap();
    somebody.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The file is waited for, for two seconds.
    let error = ledger.grant(grant("acme", soon()), "usd").unwrap_err();
    assert!(matches!(error, LedgerError::Sqlite { .. } | LedgerError::Slow(_)), "{error}");
    somebody.execute_batch("COMMIT").unwrap();
    ledger.note(&answered(&RequestId::random(), &principal("acme", None), &used(1, 1)));
    assert!(ledger.flush(PATIENCE));
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM grants"), 0);
    assert_eq!(ledger.grant(grant("acme", soon()), "usd").unwrap().grant.id, 1);
}

#[test]
fn an_order_that_was_called_off_is_not_done() {
    let claim = Claim::default();
    let of_the_writer = claim.clone();
    assert!(claim.take());
    assert!(!of_the_writer.take());
}
