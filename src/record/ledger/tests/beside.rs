//! Two that write one file: what each changes of quotas, the other hears, once.

use std::time::Instant;

use super::*;
use crate::domain::{QuotaChange, Subject};

/// The beginning of the day that these tests live in.
const TODAY: u64 = 1_795_305_600;

fn change(tenant: &str, delta: i64) -> QuotaChange {
    let subject = Subject { tenant: Some(tenant.into()), ..Subject::default() };
    QuotaChange { rule: "daily".into(), count: "tokens", subject, starts: TODAY, delta }
}

/// What the sums are at this moment; from the first time on, changes are heard.
fn sum(ledger: &Ledger) -> i64 {
    ledger.quotas().unwrap().iter().map(|quota| i64::try_from(quota.used).unwrap()).sum()
}

/// Takes in what is told until `enough`, or the time is up.
fn hears(ledger: &Ledger, known: &mut i64, enough: i64) {
    #[expect(clippy::disallowed_methods, reason = "a test's patience")]
    let begun = Instant::now();
    while *known != enough && begun.elapsed() < PATIENCE {
        *known += ledger.elsewhere().iter().map(|change| change.delta).sum::<i64>();
        thread::yield_now();
    }
    assert_eq!(*known, enough);
}

#[test]
fn what_the_one_changes_the_other_hears_and_nobody_hears_of_himself() {
    let dir = Dir::new();
    let (old, _) = start(&dir.file());
    assert_eq!(sum(&old), 0);
    old.quota(&change("acme", 100));
    assert!(old.flush(PATIENCE));
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM quota_changes"), 0, "alone, nothing is told");

    let (new, _) = start(&dir.file());
    let (mut known, mut told) = (sum(&new), 0);
    assert_eq!(known, 100);
    old.quota(&change("acme", -60));
    old.quota(&change("beta", 7));
    hears(&new, &mut known, 47);
    new.quota(&change("acme", 1000));
    hears(&old, &mut told, 1000);
    assert_eq!(number(&dir.file(), "SELECT sum(used) FROM quotas"), 1047);
    assert!(old.is_beside() && new.is_beside());

    // What it does last, in its last batch, is heard though it is gone.
    old.quota(&change("beta", -7));
    drop(old);
    hears(&new, &mut known, 40);
    #[expect(clippy::disallowed_methods, reason = "a test's patience")]
    let begun = Instant::now();
    while new.is_beside() && begun.elapsed() < PATIENCE {
        thread::yield_now();
    }
    assert!(!new.is_beside());
    new.quota(&change("acme", 5));
    assert!(new.flush(PATIENCE));
    assert!(new.elsewhere().is_empty());
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM quota_changes"), 0, "what nobody reads is not kept");
}

#[test]
fn whenever_a_successor_comes_it_knows_every_change_once() {
    let dir = Dir::new();
    let (old, _) = start(&dir.file());
    let changes = 4_000;
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..changes {
                old.quota(&change("acme", 3));
                if fastrand::u8(..) < 8 {
                    assert!(old.flush(PATIENCE));
                }
            }
            assert!(old.flush(PATIENCE));
        });
        for _ in 0..5 {
            let (new, _) = start(&dir.file());
            let before = sum(&new);
            let mut known = before;
            known += new.elsewhere().iter().map(|change| change.delta).sum::<i64>();
            assert!(known >= before);
        }
        let (new, _) = start(&dir.file());
        let mut known = sum(&new);
        hears(&new, &mut known, changes * 3);
    });
    assert_eq!(number(&dir.file(), "SELECT sum(used) FROM quotas"), changes * 3);
}
