//! Any story of calls goes as the textbook has it.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

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

/// A bucket as the textbook has it, by exact fractions: in units of a request in so many nanoseconds as the period has.
#[derive(Clone, Default)]
struct Textbook {
    used: u128,
    seen: u64,
    /// What rounding may have kept from draining: a nanosecond's worth for each change.
    slack: u128,
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
        let limits = Room::build(&[per_tenant(events, period, burst)], Arc::clone(&buckets));
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
        let limits = Room::build(&rules, Arc::clone(&buckets));
        let mut model: HashMap<String, Textbook> = HashMap::new();
        let mut clock = 0;
        for (at, (pause, tenant, user)) in steps.into_iter().enumerate() {
            clock += pause;
            let now = start + Duration::from_nanos(clock);
            let keys = [(name(tenant), tenants), (format!("{tenant}/{user}"), users)];
            // Whether all have room, exactly; whether all have room whatever rounding did; the longest wait, at least and at most.
            let (mut room, mut ample, mut least, mut most) = (true, true, 0, 0);
            for (key, (events, period, burst)) in &keys {
                let bucket = model.entry(key.clone()).or_default();
                bucket.used = bucket.used.saturating_sub(u128::from(clock - bucket.seen) * u128::from(*events));
                bucket.seen = clock;
                let free = period.as_nanos() * u128::from(burst - 1);
                room &= bucket.used <= free;
                ample &= bucket.used + bucket.slack <= free;
                least = least.max(bucket.used.saturating_sub(free).div_ceil(u128::from(*events)));
                most = most.max((bucket.used + bucket.slack).saturating_sub(free).div_ceil(u128::from(*events)));
            }
            let before = buckets.dump();
            match limits.admit(&caller(&name(tenant), Some(&name(user))), now) {
                Ok(admission) => {
                    prop_assert!(room, "admitted against the book");
                    let mut fewest = (u128::MAX, u128::MAX);
                    for (key, (events, period, burst)) in &keys {
                        let bucket = model.get_mut(key).unwrap();
                        bucket.used += period.as_nanos();
                        bucket.slack += u128::from(*events);
                        let left = |used: u128| u128::from(*burst) - used.div_ceil(period.as_nanos()).min(u128::from(*burst));
                        fewest = (fewest.0.min(left(bucket.used + bucket.slack)), fewest.1.min(left(bucket.used)));
                    }
                    let remaining = u128::from(admission.requests.unwrap().remaining());
                    prop_assert!((fewest.0..=fewest.1).contains(&remaining), "{remaining} of {fewest:?}");
                }
                Err(refused) => {
                    prop_assert!(!ample, "refused against the book");
                    let wait = refused.retry_after.unwrap().as_nanos();
                    prop_assert!((least.max(1)..=most).contains(&wait), "{wait} of {least} to {most}");
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
        let alone = Room::build(&[per_tenant(one.0, one.1, one.2)], buckets(start));
        let shared = buckets(start);
        let mine = Room::build(&[per_tenant(one.0, one.1, one.2)], Arc::clone(&shared));
        let theirs = Room::build(&[rule("theirs", other.0, other.1, other.2, &[Dimension::Tenant])], shared);
        let mut now = start;
        for (pause, tenant, times) in steps {
            now += Duration::from_nanos(pause);
            let who = caller(&name(tenant), None);
            admitted(&theirs, &who, now, times.into());
            prop_assert_eq!(alone.admit(&who, now).is_ok(), mine.admit(&who, now).is_ok());
        }
    }
}
