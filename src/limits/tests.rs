//! The room as its callers see it, on a clock that stands still unless it is turned.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::domain::{Clock, ManualClock, Method};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

fn start() -> Instant {
    Clock::Manual(ManualClock::starting_at(SystemTime::UNIX_EPOCH)).monotonic()
}

fn caller(tenant: &str, user: Option<&str>) -> Principal {
    Principal { tenant: tenant.into(), user: user.map(Into::into), groups: [].into(), method: Method::Jwt }
}

fn rule(name: &str, events: u64, period: Duration, burst: u64, per: &[Dimension]) -> Rule {
    Rule { name: name.into(), count: Count::Requests, rate: Rate { events, period }, burst, per: per.into(), tenants: Vec::new() }
}

fn per_tenant(events: u64, period: Duration, burst: u64) -> Rule {
    rule("rpm", events, period, burst, &[Dimension::Tenant])
}

fn per_user(name: &str, events: u64, period: Duration, burst: u64) -> Rule {
    rule(name, events, period, burst, &[Dimension::User])
}

fn buckets(start: Instant) -> Arc<Buckets> {
    Buckets::new(Buckets::DEFAULT_CAPACITY, start)
}

/// How many of `tries` are admitted at `now`.
fn admitted(limits: &Limits, caller: &Principal, now: Instant, tries: usize) -> usize {
    (0..tries).filter(|_| limits.admit(caller, now).is_ok()).count()
}

/// A nanosecond less.
fn just_under(wait: Duration) -> Duration {
    wait.checked_sub(Duration::from_nanos(1)).unwrap()
}

#[test]
fn without_rules_everyone_is_admitted() {
    let now = start();
    let limits = Limits::build(&[], buckets(now));
    assert_eq!(limits.admit(&caller("acme", None), now).unwrap().tightest(), None);
}

#[test]
fn a_full_bucket_admits_its_burst_and_not_one_more() {
    let now = start();
    for burst in [1, 2, 100, 1000] {
        let limits = Limits::build(&[per_tenant(600, MINUTE, burst)], buckets(now));
        assert_eq!(admitted(&limits, &caller("acme", None), now, 2000) as u64, burst);
    }
}

#[test]
fn a_refused_request_passes_exactly_at_retry_after_and_not_a_nanosecond_before() {
    let start = start();
    for rule in [per_tenant(600, MINUTE, 5), per_tenant(7, SECOND, 3), per_tenant(1, HOUR, 1), per_tenant(1_000_000_000, SECOND, 1)] {
        let limits = Limits::build(std::slice::from_ref(&rule), buckets(start));
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
        let limits = Limits::build(&[rule], buckets(now));
        drop(limits.admit(&caller("acme", Some("ann")), now).unwrap());
        assert_eq!(limits.admit(&caller("acme", Some("ann")), now).unwrap_err().message, message);
    }
}

#[test]
fn of_several_refusals_the_longest_wait_is_told() {
    let now = start();
    let limits = Limits::build(&[per_tenant(1, SECOND, 1), per_user("slow", 1, MINUTE, 1), per_user("fast", 10, SECOND, 1)], buckets(now));
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
    let limits = Limits::build(&[per_tenant(600, MINUTE, 100), per_user("user", 10, SECOND, 3)], buckets(now));
    let ann = caller("acme", Some("ann"));
    let standing = limits.admit(&ann, now).unwrap().tightest().unwrap().clone();
    assert_eq!(standing, Standing { rule: "user".into(), limit: 3, remaining: 2, reset: Duration::from_millis(100) });
    for n in 0..50 {
        let other = caller("acme", Some(&n.to_string()));
        assert_eq!(&*limits.admit(&other, now).unwrap().tightest().unwrap().rule, "user");
    }
    let standing = limits.admit(&ann, now + Duration::from_millis(50)).unwrap().tightest().unwrap().clone();
    assert_eq!(standing, Standing { rule: "user".into(), limit: 3, remaining: 1, reset: Duration::from_millis(150) });
}

#[test]
fn a_refusal_by_one_rule_takes_nothing_from_the_others() {
    let now = start();
    let limits = Limits::build(&[per_tenant(1, HOUR, 10), per_user("user", 1, HOUR, 1)], buckets(now));
    drop(limits.admit(&caller("acme", Some("ann")), now).unwrap());
    let before = limits.buckets.dump();
    assert_eq!(admitted(&limits, &caller("acme", Some("ann")), now, 1000), 0);
    assert_eq!(limits.buckets.dump(), before);
    let others: usize = (0..20).map(|n| admitted(&limits, &caller("acme", Some(&n.to_string())), now, 1)).sum();
    assert_eq!(others, 9, "the tenant had nine left");
    assert_eq!(limits.buckets.len(), 11, "a refused newcomer has no bucket");
}

#[test]
fn callers_are_told_apart_and_no_two_run_together() {
    let now = start();
    let limits = Limits::build(&[per_user("user", 1, HOUR, 1)], buckets(now));
    let all = [
        caller("a", None),
        caller("b", None),
        caller("a", Some("")),
        caller("a", Some("b")),
        caller("ab", Some("")),
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
    assert_eq!(limits.buckets.len(), all.len());
}

#[test]
fn callers_without_a_user_share_their_tenants_bucket() {
    let now = start();
    let limits = Limits::build(&[per_user("user", 1, HOUR, 3)], buckets(now));
    assert_eq!(admitted(&limits, &caller("acme", None), now, 2) + admitted(&limits, &caller("acme", None), now, 2), 3);
}

#[test]
fn a_dimension_named_twice_still_tells_callers_apart() {
    let now = start();
    let limits = Limits::build(&[rule("r", 1, HOUR, 1, &[Dimension::Tenant, Dimension::Tenant])], buckets(now));
    assert_eq!(admitted(&limits, &caller("a", None), now, 2), 1);
    assert_eq!(admitted(&limits, &caller("b", None), now, 2), 1);
}

#[test]
fn a_reload_keeps_the_buckets_of_a_rule_that_stands() {
    let now = start();
    let buckets = buckets(now);
    let acme = caller("acme", None);
    let before = Limits::build(&[per_tenant(1, HOUR, 10)], Arc::clone(&buckets));
    assert_eq!(admitted(&before, &acme, now, 4), 4);
    let after = Limits::build(&[per_user("new", 1, HOUR, 8), per_tenant(1, HOUR, 10)], Arc::clone(&buckets));
    assert_eq!(admitted(&after, &acme, now, 100), 6);
    let renamed = Limits::build(&[rule("other", 1, HOUR, 10, &[Dimension::Tenant])], buckets);
    assert_eq!(admitted(&renamed, &acme, now, 100), 10, "another name is another rule");
}

#[test]
fn a_changed_rate_applies_to_what_is_left() {
    let now = start();
    let acme = caller("acme", None);
    for (events, period) in [(10, SECOND), (1, SECOND), (1, MINUTE), (1, HOUR), (3, HOUR)] {
        let buckets = buckets(now);
        let before = Limits::build(&[per_tenant(1, SECOND, 100)], Arc::clone(&buckets));
        assert_eq!(admitted(&before, &acme, now, 60), 60);
        let after = Limits::build(&[per_tenant(events, period, 100)], buckets);
        assert_eq!(admitted(&after, &acme, now, 100), 40);
        let refused = after.admit(&acme, now).unwrap_err().retry_after.unwrap();
        assert_eq!(refused, period / u32::try_from(events).unwrap());
        after.admit(&acme, now + just_under(refused)).unwrap_err();
        drop(after.admit(&acme, now + refused).unwrap());
    }
}

#[test]
fn a_lowered_burst_leaves_an_empty_bucket_that_refills_at_the_rate() {
    let now = start();
    let (buckets, acme) = (buckets(now), caller("acme", None));
    let before = Limits::build(&[per_tenant(1, SECOND, 100)], Arc::clone(&buckets));
    assert_eq!(admitted(&before, &acme, now, 100), 100);
    let after = Limits::build(&[per_tenant(1, SECOND, 10)], buckets);
    assert_eq!(after.admit(&acme, now).unwrap_err().retry_after, Some(SECOND));
    assert_eq!(admitted(&after, &acme, now + SECOND, 5), 1);
    assert_eq!(admitted(&after, &acme, now + SECOND * 100, 50), 10);
}

#[test]
fn a_rate_that_changes_while_the_bucket_is_empty_holds_from_the_next_call() {
    let now = start();
    let (buckets, acme) = (buckets(now), caller("acme", None));
    let before = Limits::build(&[per_tenant(1, HOUR, 10)], Arc::clone(&buckets));
    assert_eq!(admitted(&before, &acme, now, 100), 10);
    let after = Limits::build(&[per_tenant(1, SECOND, 10)], buckets);
    assert_eq!(after.admit(&acme, now).unwrap_err().retry_after, Some(SECOND));
    after.admit(&acme, now + SECOND / 2).unwrap_err();
    assert_eq!(admitted(&after, &acme, now + SECOND, 5), 1);
}

#[test]
fn full_buckets_are_forgotten_and_nobody_gains_by_it() {
    let start = start();
    let buckets = buckets(start);
    let limits = Limits::build(&[per_user("user", 1, SECOND, 10)], Arc::clone(&buckets));
    for n in 0..100 {
        assert_eq!(admitted(&limits, &caller("acme", Some(&n.to_string())), start, n % 11), n % 11);
    }
    let (users, used) = (buckets.len(), buckets.footprint());
    assert_eq!(users, 90);
    for seconds in 0..=10 {
        buckets.sweep(start + SECOND * seconds);
        let expected = (0..100).filter(|n| n % 11 > seconds).count();
        assert_eq!(buckets.len(), expected, "after {seconds} s");
    }
    assert!(buckets.is_empty());
    assert!(buckets.footprint() < used);
    assert_eq!(admitted(&limits, &caller("acme", Some("10")), start + SECOND * 10, 20), 10);
}

#[test]
fn a_caller_held_up_on_the_way_gains_nothing_by_a_sweep() {
    let start = start();
    let buckets = buckets(start);
    let limits = Limits::build(&[per_tenant(1, SECOND, 10)], Arc::clone(&buckets));
    let acme = caller("acme", None);
    assert_eq!(admitted(&limits, &acme, start, 10), 10);
    assert_eq!(buckets.sweep(start + SECOND * 10), 1);
    let held_up = admitted(&limits, &acme, start + SECOND * 5, 3);
    assert_eq!(held_up + admitted(&limits, &acme, start + SECOND * 10, 20), 10);
}

#[test]
fn at_the_bound_idle_buckets_go_first_and_then_newcomers_share_one() {
    let start = start();
    for capacity in [1, 10, 1000, 5000] {
        let buckets = Buckets::new(capacity, start);
        let limits = Limits::build(&[per_user("user", 1, SECOND, 2)], Arc::clone(&buckets));
        let user = |n: usize| caller("acme", Some(&n.to_string()));
        for n in 0..capacity {
            drop(limits.admit(&user(n), start).unwrap());
        }
        assert_eq!((buckets.len(), buckets.overflowed()), (capacity, 0));
        // Nobody is idle: two newcomers empty the bucket that they share, and a third gets nothing. Those who were here have their own.
        drop(limits.admit(&user(capacity), start).unwrap());
        drop(limits.admit(&user(capacity + 1), start).unwrap());
        limits.admit(&user(capacity + 2), start).unwrap_err();
        assert_eq!((buckets.len(), buckets.overflowed()), (capacity + 1, 3));
        assert_eq!(admitted(&limits, &user(0), start, 5), 1);
        // All are idle now but the first and the shared one: as many newcomers as there is room for have buckets of their own.
        let later = start + SECOND;
        for n in 0..capacity.saturating_sub(2) {
            assert_eq!(admitted(&limits, &user(10_000 + n), later, 3), 2, "newcomer {n} of {capacity}");
        }
        assert_eq!(buckets.overflowed(), 3);
        assert!(buckets.len() <= capacity + 1);
    }
}

#[test]
fn the_bucket_that_newcomers_share_is_its_rules_own() {
    let start = start();
    let buckets = Buckets::new(2, start);
    let limits = Limits::build(&[per_tenant(1, HOUR, 10), per_user("user", 1, HOUR, 3)], Arc::clone(&buckets));
    drop(limits.admit(&caller("acme", Some("ann")), start).unwrap());
    // `user` overflows; `rpm` has the tenant's bucket still.
    let newcomers: usize = (0..20).map(|n| admitted(&limits, &caller("acme", Some(&n.to_string())), start, 1)).sum();
    assert_eq!(newcomers, 3);
    assert_eq!(admitted(&limits, &caller("acme", Some("ann")), start, 5), 2);
    assert_eq!(admitted(&limits, &caller("other", None), start, 20), 0, "`user` is spent for newcomers, so nothing is taken from `rpm`");
    assert_eq!(buckets.len(), 3);
    let rpm = Limits::build(&[per_tenant(1, HOUR, 10)], buckets);
    assert_eq!(admitted(&rpm, &caller("acme", None), start, 20), 4, "3 newcomers and 3 of ann's");
    assert_eq!(admitted(&rpm, &caller("other", None), start, 20), 10);
}

#[test]
fn a_million_keys_take_less_than_100_megabytes_and_no_key_more() {
    let start = start();
    let buckets = buckets(start);
    let limits = Limits::build(&[per_user("user", 1, HOUR, 1)], Arc::clone(&buckets));
    let mut user = caller("acme", None);
    for n in 0..1_000_000_u32 {
        user.user = Some(n.to_string().into());
        drop(limits.admit(&user, start).unwrap());
    }
    assert_eq!((buckets.len(), buckets.overflowed()), (1_000_000, 0));
    let bytes = buckets.footprint();
    println!("a million buckets take {bytes} bytes");
    assert!(bytes < 100_000_000, "{bytes}");
    for n in 0..1_000 {
        limits.admit(&caller("other", Some(&n.to_string())), start).err();
    }
    assert_eq!((buckets.len(), buckets.overflowed()), (1_000_001, 1_000));
    assert_eq!(buckets.footprint(), bytes);
    assert_eq!(buckets.sweep(start + HOUR), 1_000_001);
    assert!(buckets.footprint() < 200_000);
}

#[test]
fn eight_threads_on_one_bucket_admit_exactly_the_burst() {
    let now = start();
    let limits = Limits::build(&[per_tenant(1, HOUR, 10_000), per_user("user", 1, HOUR, 20_000)], buckets(now));
    let total: usize = std::thread::scope(|scope| {
        let hammer = || admitted(&limits, &caller("acme", Some("ann")), now, 5_000);
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(hammer)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(total, 10_000);
}

#[test]
fn threads_that_cross_at_the_bound_neither_lock_up_nor_lose_count() {
    let start = start();
    let buckets = Buckets::new(500, start);
    let rules = [per_tenant(10, SECOND, 50), per_user("user", 5, SECOND, 3), rule("all", 1000, SECOND, 400, &[])];
    let limits = Limits::build(&rules, Arc::clone(&buckets));
    let millis = AtomicU64::new(0);
    let admitted: usize = std::thread::scope(|scope| {
        let work = |thread: u64| {
            let mut random = fastrand::Rng::with_seed(thread);
            let (limits, buckets, millis, rules) = (&limits, &buckets, &millis, &rules);
            move || {
                let mut admitted = 0;
                for turn in 0..4_000 {
                    let now = start + Duration::from_millis(millis.fetch_add(1, Ordering::Relaxed) / 8);
                    let who = caller(&random.u8(0..60).to_string(), Some(&random.u8(0..30).to_string()));
                    admitted += usize::from(limits.admit(&who, now).is_ok());
                    assert!(buckets.len() <= 500 + rules.len());
                    if turn % 500 == 0 {
                        buckets.sweep(now);
                    }
                }
                admitted
            }
        };
        let threads: Vec<_> = (0..8).map(|thread| scope.spawn(work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(buckets.len(), buckets.dump().len(), "room taken is buckets there");
    assert!(admitted <= 400 + 4_000, "burst and four seconds of the rule for all: {admitted}");
    assert!(admitted > 1_000, "{admitted}");
}

#[test]
fn no_rate_no_burst_and_no_time_panics() {
    let start = start();
    let periods = [Duration::ZERO, Duration::from_nanos(1), SECOND, HOUR, Duration::MAX];
    for (period, events, burst) in periods
        .into_iter()
        .flat_map(|period| [0, 1, 1_000_000_000, u64::MAX].map(|events| (period, events)))
        .flat_map(|(period, events)| [0, 1, 10_000, u64::MAX].map(|burst| (period, events, burst)))
    {
        let buckets = buckets(start);
        let limits = Limits::build(&[per_tenant(events, period, burst)], Arc::clone(&buckets));
        let acme = caller("acme", None);
        let later = [Duration::from_nanos(1), HOUR, HOUR * 24 * 365 * 200].map(|after| start.checked_add(after));
        for now in [start.checked_sub(SECOND), Some(start)].into_iter().chain(later).flatten() {
            let count = admitted(&limits, &acme, now, 10);
            assert!(count >= 1 || burst <= 1 || period == Duration::MAX, "{period:?} {events} {burst}");
            buckets.sweep(now);
        }
        let faster = Limits::build(&[per_tenant(u64::MAX, SECOND, u64::MAX)], buckets);
        assert_eq!(admitted(&faster, &acme, start, 10), 10);
    }
}

/// A step of a story: so many nanoseconds pass, then one of a few callers asks.
fn steps() -> impl Strategy<Value = Vec<(u64, u8, u8)>> {
    let pause = prop_oneof![4 => Just(0), 2 => 0..2_000_000_u64, 2 => 0..300_000_000_u64, 1 => 0..5_000_000_000_u64];
    prop::collection::vec((pause, 0_u8..3, 0_u8..3), 1..120)
}

fn terms() -> impl Strategy<Value = (u64, Duration, u64)> {
    let rate = (1_u64..2_000, prop::sample::select(vec![SECOND, MINUTE, HOUR]));
    (rate, prop_oneof![Just(1), 1..12_u64, Just(u64::MAX)]).prop_map(|((events, period), burst)| (events, period, burst))
}

fn name(n: u8) -> String {
    format!("n{n}")
}

/// A bucket as the textbook has it: whole tokens by exact fractions, in units of one nanosecond's refill.
#[derive(Clone)]
struct Textbook {
    level: u128,
    seen: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_window_of_any_story_sees_more_than_burst_and_rate(
        (events, period, burst) in terms(),
        steps in steps(),
        sweeps in any::<u64>(),
        capacity in prop::sample::select(vec![2_usize, 1_000]),
    ) {
        let start = start();
        let buckets = Buckets::new(capacity, start);
        let limits = Limits::build(&[per_tenant(events, period, burst)], Arc::clone(&buckets));
        let mut clock = 0;
        let mut passed: HashMap<u8, Vec<u64>> = HashMap::new();
        for (at, (pause, tenant, _)) in steps.into_iter().enumerate() {
            clock += pause;
            let now = start + Duration::from_nanos(clock);
            // Two tenants have buckets of their own at any capacity.
            let tenant = tenant % 2;
            if limits.admit(&caller(&name(tenant), None), now).is_ok() {
                passed.entry(tenant).or_default().push(clock);
            }
            if sweeps >> (at % 64) & 1 == 1 {
                buckets.sweep(now);
            }
        }
        for times in passed.values() {
            for (first, from) in times.iter().enumerate() {
                for (count, to) in times[first..].iter().enumerate() {
                    // count + 1 - burst <= rate * t, in whole numbers.
                    let above = (count as u128 + 1).saturating_sub(u128::from(burst));
                    prop_assert!(above * period.as_nanos() <= u128::from(events) * u128::from(to - from));
                }
            }
        }
    }

    #[test]
    fn every_story_goes_as_the_textbook_has_it_for_all_rules_or_none(
        tenants in terms(), users in terms(), steps in steps(), sweeps in any::<u64>(),
    ) {
        let start = start();
        let buckets = Buckets::new(1_000, start);
        let rules = [per_tenant(tenants.0, tenants.1, tenants.2), per_user("user", users.0, users.1, users.2)];
        let limits = Limits::build(&rules, Arc::clone(&buckets));
        let mut model: HashMap<String, Textbook> = HashMap::new();
        let mut clock = 0;
        for (at, (pause, tenant, user)) in steps.into_iter().enumerate() {
            clock += pause;
            let now = start + Duration::from_nanos(clock);
            let keys = [(name(tenant), tenants), (format!("{tenant}/{user}"), users)];
            let mut all = true;
            let mut longest = 0;
            for (key, (events, period, burst)) in &keys {
                let token = period.as_nanos().div_ceil(u128::from(*events));
                let full = token * u128::from(*burst);
                let bucket = model.entry(key.clone()).or_insert(Textbook { level: full, seen: clock });
                bucket.level = (bucket.level + u128::from(clock - bucket.seen)).min(full);
                bucket.seen = clock;
                all &= bucket.level >= token;
                longest = longest.max(token.saturating_sub(bucket.level));
            }
            let before = buckets.dump();
            match limits.admit(&caller(&name(tenant), Some(&name(user))), now) {
                Ok(admission) => {
                    prop_assert!(all, "admitted against the book");
                    let mut fewest = u128::MAX;
                    for (key, (events, period, burst)) in &keys {
                        let token = period.as_nanos().div_ceil(u128::from(*events));
                        let bucket = model.get_mut(key).unwrap();
                        bucket.level -= token;
                        if *burst < u64::MAX {
                            fewest = fewest.min(bucket.level / token);
                        }
                    }
                    if fewest < u128::MAX {
                        prop_assert_eq!(u128::from(admission.tightest().unwrap().remaining), fewest);
                    }
                }
                Err(refused) => {
                    prop_assert!(!all, "refused against the book");
                    prop_assert_eq!(refused.retry_after.unwrap().as_nanos(), longest);
                    prop_assert_eq!(buckets.dump(), before, "a refusal moves nothing");
                }
            }
            if sweeps >> (at % 64) & 1 == 1 {
                buckets.sweep(now);
            }
        }
    }

    #[test]
    fn rules_do_not_touch_each_other(one in terms(), other in terms(), steps in steps()) {
        let start = start();
        let alone = Limits::build(&[per_tenant(one.0, one.1, one.2)], buckets(start));
        let shared = buckets(start);
        let mine = Limits::build(&[per_tenant(one.0, one.1, one.2)], Arc::clone(&shared));
        let theirs = Limits::build(&[rule("theirs", other.0, other.1, other.2, &[Dimension::Tenant])], shared);
        let mut now = start;
        for (pause, tenant, times) in steps {
            now += Duration::from_nanos(pause);
            let who = caller(&name(tenant), None);
            admitted(&theirs, &who, now, times.into());
            prop_assert_eq!(alone.admit(&who, now).is_ok(), mine.admit(&who, now).is_ok());
        }
    }
}
