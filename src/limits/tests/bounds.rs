//! The bounds: of memory, of time, of numbers, and many threads at them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

#[test]
fn full_buckets_are_forgotten_and_nobody_gains_by_it() {
    let start = start();
    let buckets = buckets(start);
    let limits = Room::build(&[per_user("user", 1, SECOND, 10)], Arc::clone(&buckets));
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
    let limits = Room::build(&[per_tenant(1, SECOND, 10)], Arc::clone(&buckets));
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
        let limits = Room::build(&[per_user("user", 1, SECOND, 2)], Arc::clone(&buckets));
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
    let limits = Room::build(&[per_tenant(1, HOUR, 10), per_user("user", 1, HOUR, 3)], Arc::clone(&buckets));
    drop(limits.admit(&caller("acme", Some("ann")), start).unwrap());
    // `user` overflows; `rpm` has the tenant's bucket still.
    let newcomers: usize = (0..20).map(|n| admitted(&limits, &caller("acme", Some(&n.to_string())), start, 1)).sum();
    assert_eq!(newcomers, 3);
    assert_eq!(admitted(&limits, &caller("acme", Some("ann")), start, 5), 2);
    assert_eq!(admitted(&limits, &caller("other", None), start, 20), 0, "`user` is spent for newcomers, so nothing is taken from `rpm`");
    assert_eq!(buckets.len(), 3);
    let rpm = Room::build(&[per_tenant(1, HOUR, 10)], buckets);
    assert_eq!(admitted(&rpm, &caller("acme", None), start, 20), 4, "3 newcomers and 3 of ann's");
    assert_eq!(admitted(&rpm, &caller("other", None), start, 20), 10);
}

#[test]
fn a_million_keys_take_less_than_100_megabytes_and_no_key_more() {
    let start = start();
    let buckets = buckets(start);
    let limits = Room::build(&[per_user("user", 1, HOUR, 1)], Arc::clone(&buckets));
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
    let limits = Room::build(&[per_tenant(1, HOUR, 10_000), per_user("user", 1, HOUR, 20_000)], buckets(now));
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
    let limits = Room::build(&rules, Arc::clone(&buckets));
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
        let limits = Room::build(&[per_tenant(events, period, burst)], Arc::clone(&buckets));
        let acme = caller("acme", None);
        let later = [Duration::from_nanos(1), HOUR, HOUR * 24 * 365 * 200].map(|after| start.checked_add(after));
        for now in [start.checked_sub(SECOND), Some(start)].into_iter().chain(later).flatten() {
            let count = admitted(&limits, &acme, now, 10);
            assert!(count >= 1 || burst <= 1 || period == Duration::MAX, "{period:?} {events} {burst}");
            buckets.sweep(now);
        }
        let faster = Room::build(&[per_tenant(u64::MAX, SECOND, u64::MAX)], buckets);
        assert_eq!(admitted(&faster, &acme, start, 10), 10);
    }
}
