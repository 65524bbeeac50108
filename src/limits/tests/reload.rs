//! What a changed configuration makes of the buckets that are there.

use super::*;

#[test]
fn a_reload_keeps_the_buckets_of_a_rule_that_stands() {
    let now = start();
    let buckets = buckets(now);
    let acme = caller("acme", None);
    let before = Room::build(&[per_tenant(1, HOUR, 10)], Arc::clone(&buckets));
    assert_eq!(admitted(&before, &acme, now, 4), 4);
    let after = Room::build(&[per_user("new", 1, HOUR, 8), per_tenant(1, HOUR, 10)], Arc::clone(&buckets));
    assert_eq!(admitted(&after, &acme, now, 100), 6);
    let renamed = Room::build(&[rule("other", 1, HOUR, 10, &[Dimension::Tenant])], buckets);
    assert_eq!(admitted(&renamed, &acme, now, 100), 10, "another name is another rule");
}

#[test]
fn a_changed_rate_applies_to_what_is_left() {
    let now = start();
    let acme = caller("acme", None);
    for (events, period) in [(10, SECOND), (1, SECOND), (1, MINUTE), (1, HOUR), (3, HOUR)] {
        let buckets = buckets(now);
        let before = Room::build(&[per_tenant(1, SECOND, 100)], Arc::clone(&buckets));
        assert_eq!(admitted(&before, &acme, now, 60), 60);
        let after = Room::build(&[per_tenant(events, period, 100)], buckets);
        assert_eq!(admitted(&after, &acme, now, 100), 40);
        let refused = after.admit(&acme, now).unwrap_err().retry_after.unwrap();
        assert_eq!(refused, period / u32::try_from(events).unwrap());
        after.admit(&acme, now + just_under(refused)).unwrap_err();
        drop(after.admit(&acme, now + refused).unwrap());
    }
}

#[test]
fn a_lowered_burst_lets_what_was_used_drain_first_at_the_rate() {
    let now = start();
    let (buckets, acme) = (buckets(now), caller("acme", None));
    let before = Room::build(&[per_tenant(1, SECOND, 100)], Arc::clone(&buckets));
    assert_eq!(admitted(&before, &acme, now, 100), 100);
    // Forgiving the 90 beyond would let 101 pass in a second, which neither configuration allows.
    let after = Room::build(&[per_tenant(1, SECOND, 10)], buckets);
    assert_eq!(after.admit(&acme, now).unwrap_err().retry_after, Some(SECOND * 91));
    after.admit(&acme, now + just_under(SECOND * 91)).unwrap_err();
    assert_eq!(admitted(&after, &acme, now + SECOND * 91, 5), 1);
    assert_eq!(admitted(&after, &acme, now + SECOND * 200, 50), 10);
}

#[test]
fn a_rate_that_changes_while_the_bucket_is_empty_holds_from_the_next_call() {
    let now = start();
    let (buckets, acme) = (buckets(now), caller("acme", None));
    let before = Room::build(&[per_tenant(1, HOUR, 10)], Arc::clone(&buckets));
    assert_eq!(admitted(&before, &acme, now, 100), 10);
    let after = Room::build(&[per_tenant(1, SECOND, 10)], buckets);
    assert_eq!(after.admit(&acme, now).unwrap_err().retry_after, Some(SECOND));
    after.admit(&acme, now + SECOND / 2).unwrap_err();
    assert_eq!(admitted(&after, &acme, now + SECOND, 5), 1);
}
