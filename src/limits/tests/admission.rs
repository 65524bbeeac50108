//! Who is admitted, who is refused, and what they are told.

use super::world::*;
use super::*;

#[test]
fn without_rules_everyone_is_admitted() {
    let now = start();
    let limits = Room::build(&[], buckets(now));
    assert_eq!(limits.admit(&caller("acme", None), now).unwrap().requests, None);
}

#[test]
fn a_full_bucket_admits_its_burst_and_not_one_more() {
    let now = start();
    for burst in [1, 2, 100, 1000] {
        let limits = Room::build(&[per_tenant(600, MINUTE, burst)], buckets(now));
        assert_eq!(admitted(&limits, &caller("acme", None), now, 2000) as u64, burst);
    }
}

#[test]
fn a_refused_request_passes_exactly_at_retry_after_and_not_a_nanosecond_before() {
    let start = start();
    for rule in [per_tenant(600, MINUTE, 5), per_tenant(7, SECOND, 3), per_tenant(1, HOUR, 1), per_tenant(1_000_000_000, SECOND, 1)] {
        let limits = Room::build(std::slice::from_ref(&rule), buckets(start));
        let acme = caller("acme", None);
        let mut now = start;
        for _ in 0..20 {
            let Err(refused) = limits.admit(&acme, now) else { continue };
            let wait = refused.retry_after.unwrap();
            assert_eq!(refused.reason, Reason::RateLimited);
            limits.admit(&acme, now + just_under(wait)).unwrap_err();
            drop(limits.admit(&acme, now + wait).unwrap());
            now += wait;
        }
    }
}

#[test]
fn a_wait_for_tokens_is_exact_whatever_part_of_one_has_drained() {
    for rate in [7_001, 120_014, 999_983] {
        let bound = Bound::Rate { amount: rate, period: MINUTE, burst: 150_000 };
        for nanos in (1..200).map(|n| n * 7_000_003) {
            let mut world = World::new(&[Rule::new("tpm", Count::Tokens, bound)], 100);
            world.settle(world.call(SMALL).unwrap(), 10, 90);
            world.wait(Duration::from_nanos(nanos));
            let wait = world.call(SMALL).unwrap_err().rejection.retry_after.unwrap();
            world.wait(just_under(wait));
            world.call(SMALL).unwrap_err();
            world.wait(Duration::from_nanos(1));
            drop(world.call(SMALL).unwrap());
        }
    }
}

#[test]
fn a_refusal_names_the_rule_and_the_wait() {
    let now = start();
    let messages = [
        (per_tenant(600, MINUTE, 1), "limit `rpm` reached: 600 requests a minute per tenant; try again in 100 ms"),
        (per_tenant(1, SECOND, 1), "limit `rpm` reached: 1 request a second per tenant; try again in 1.0 s"),
        (per_user("hourly", 100, HOUR, 1), "limit `hourly` reached: 100 requests an hour per user; try again in 36 s"),
        (
            rule("both", 1, Duration::from_millis(1500), 1, &[Dimension::Tenant, Dimension::User]),
            "limit `both` reached: 1 request in 1.5 s per tenant and user; try again in 1.5 s",
        ),
        (rule("all", 1_000_000_000, SECOND, 1, &[]), "limit `all` reached: 1000000000 requests a second; try again in 1 ms"),
    ];
    for (rule, message) in messages {
        let limits = Room::build(&[rule], buckets(now));
        drop(limits.admit(&caller("acme", Some("ann")), now).unwrap());
        assert_eq!(limits.admit(&caller("acme", Some("ann")), now).unwrap_err().message, message);
    }
}

#[test]
fn of_several_refusals_the_longest_wait_is_told() {
    let now = start();
    let limits = Room::build(&[per_tenant(1, SECOND, 1), per_user("slow", 1, MINUTE, 1), per_user("fast", 10, SECOND, 1)], buckets(now));
    let ann = caller("acme", Some("ann"));
    drop(limits.admit(&ann, now).unwrap());
    let refused = limits.admit(&ann, now).unwrap_err();
    assert_eq!(refused.retry_after, Some(MINUTE));
    assert!(refused.message.contains("`slow`"));
    drop(limits.admit(&ann, now + MINUTE).unwrap());
}

#[test]
fn an_admission_tells_the_standing_under_the_tightest_rule() {
    let now = start();
    let limits = Room::build(&[per_tenant(600, MINUTE, 100), per_user("user", 10, SECOND, 3)], buckets(now));
    let ann = caller("acme", Some("ann"));
    let standing = limits.admit(&ann, now).unwrap().requests.unwrap().clone();
    assert_eq!(
        standing,
        Standing { rule: "user".into(), count: Count::Requests, limit: 3, used: 1, held: 0, reset: Duration::from_millis(100), ends: None }
    );
    for n in 0..50 {
        let other = caller("acme", Some(&n.to_string()));
        assert_eq!(&*limits.admit(&other, now).unwrap().requests.unwrap().rule, "user");
    }
    let standing = limits.admit(&ann, now + Duration::from_millis(50)).unwrap().requests.unwrap().clone();
    assert_eq!(
        standing,
        Standing { rule: "user".into(), count: Count::Requests, limit: 3, used: 2, held: 0, reset: Duration::from_millis(150), ends: None }
    );
}

#[test]
fn what_a_tenant_has_left_is_told_without_taking_any_of_it() {
    let start = start();
    let mut others = per_tenant(1, Duration::from_secs(1), 9);
    (others.name, others.of.tenants) = ("theirs".into(), vec![crate::domain::Glob::new("umbrella")]);
    let limits =
        Room::build(&[per_tenant(1, Duration::from_secs(1), 5), per_user("user", 1, Duration::from_secs(1), 5), others], buckets(start));
    let acme = caller("acme", Some("ada"));
    let left = |now| -> Vec<_> { limits.standing("acme", now).into_iter().map(|at| (at.remaining(), at.limit, at.reset)).collect() };
    assert_eq!(left(start), [(5, 5, Duration::ZERO)], "of the rules per tenant that cover it");
    assert_eq!(admitted(&limits, &acme, start, 3), 3);
    for _ in 0..3 {
        assert_eq!(left(start), [(2, 5, Duration::from_secs(3))]);
    }
    assert_eq!(left(start + Duration::from_secs(2)), [(4, 5, Duration::from_secs(1))]);
    assert_eq!(admitted(&limits, &acme, start, 3), 2, "asking took nothing");
    assert_eq!(limits.standing("umbrella", start).len(), 2);
}

#[test]
fn a_refusal_by_one_rule_takes_nothing_from_the_others() {
    let now = start();
    let limits = Room::build(&[per_tenant(1, HOUR, 10), per_user("user", 1, HOUR, 1)], buckets(now));
    drop(limits.admit(&caller("acme", Some("ann")), now).unwrap());
    let before = limits.0.buckets.dump();
    assert_eq!(admitted(&limits, &caller("acme", Some("ann")), now, 1000), 0);
    assert_eq!(limits.0.buckets.dump(), before);
    let others: usize = (0..20).map(|n| admitted(&limits, &caller("acme", Some(&n.to_string())), now, 1)).sum();
    assert_eq!(others, 9, "the tenant had nine left");
    assert_eq!(limits.0.buckets.len(), 11, "a refused newcomer has no bucket");
}

#[test]
fn callers_are_told_apart_and_no_two_run_together() {
    let now = start();
    let limits = Room::build(&[per_user("user", 1, HOUR, 1)], buckets(now));
    let all = [
        caller("a", None),
        caller("b", None),
        caller("", None),
        caller("ab", None),
        caller("a", Some("b")),
        caller("a", Some("a")),
        caller("", Some("ab")),
        caller("", Some("a")),
        caller("a\0b", Some("c")),
        caller("a", Some("b\0c")),
        caller("a", Some("\0b")),
        caller("b", Some("a")),
    ];
    for who in &all {
        assert_eq!(admitted(&limits, who, now, 3), 1, "{who:?}");
    }
    assert_eq!(limits.0.buckets.len(), all.len());
}

#[test]
fn callers_without_a_user_share_their_tenants_bucket() {
    let now = start();
    let limits = Room::build(&[per_user("user", 1, HOUR, 3)], buckets(now));
    assert_eq!(admitted(&limits, &caller("acme", None), now, 2) + admitted(&limits, &caller("acme", None), now, 2), 3);
    assert_eq!(admitted(&limits, &caller("acme", Some("")), now, 1), 0, "a name of no letters is none");
    assert_eq!(admitted(&limits, &caller("other", None), now, 4), 3);
}

#[test]
fn a_dimension_named_twice_still_tells_callers_apart() {
    let now = start();
    for times in 1..=4 {
        let limits = Room::build(&[rule("r", 1, HOUR, 1, &[Dimension::Tenant].repeat(times))], buckets(now));
        assert_eq!(admitted(&limits, &caller("a", None), now, 2), 1);
        assert_eq!(admitted(&limits, &caller("b", None), now, 2), 1);
        assert_eq!(limits.standing("a", now)[0].used, 1);
    }
}
