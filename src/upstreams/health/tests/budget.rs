use proptest::prelude::*;

use super::super::RetryBudget;
use super::*;
use crate::config::upstreams::Budget;

#[test]
fn without_traffic_there_are_the_few_of_ten_seconds() {
    let (budget, now) = (RetryBudget::new(Budget::default()), start());
    let taken = |at: Instant| (0..1000).filter(|_| budget.withdraw(at)).count();
    assert_eq!(taken(now), 100);
    assert_eq!(taken(now + seconds(9)), 0);
    assert_eq!(taken(now + seconds(10)), 100);
}

#[test]
fn a_fifth_of_the_requests_may_be_tried_again() {
    let (budget, now) = (RetryBudget::new(Budget { percent: 20, min_per_second: 0 }), start());
    assert!(!budget.withdraw(now));
    (0..4).for_each(|_| budget.deposit(now));
    assert!(!budget.withdraw(now));
    budget.deposit(now);
    assert!(budget.withdraw(now) && !budget.withdraw(now));
    (0..100).for_each(|_| budget.deposit(now));
    assert!(!budget.withdraw(now + seconds(10)), "they are too long ago");
}

#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Requests(u16),
    Retries(u16),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0_u64..3_000).prop_map(Event::Wait),
        (0_u64..15_000).prop_map(Event::Wait),
        (0_u16..200).prop_map(Event::Requests),
        (0_u16..200).prop_map(Event::Retries),
    ]
}

proptest! {
    #[test]
    fn no_more_is_tried_again_than_the_rule_says(
        percent in 0_u32..150,
        min_per_second in 0_u32..12,
        events in proptest::collection::vec(event(), 0..120),
    ) {
        let (budget, begin) = (RetryBudget::new(Budget { percent, min_per_second }), start());
        let mut time = 0_u64;
        // When, and how many.
        let (mut requests, mut retries) = (Vec::<(u64, u64)>::new(), Vec::<(u64, u64)>::new());
        let mut refused = Vec::new();
        for event in events {
            let now = begin + Duration::from_millis(time);
            match event {
                Event::Wait(wait) => time += wait,
                Event::Requests(count) => {
                    (0..count).for_each(|_| budget.deposit(now));
                    requests.push((time, count.into()));
                }
                Event::Retries(count) => {
                    let taken = (0..count).take_while(|_| budget.withdraw(now)).count();
                    retries.push((time, u64::try_from(taken).unwrap()));
                    if taken < count.into() {
                        refused.push((time, requests.len(), retries.len()));
                    }
                }
            }
        }
        let (percent, floor) = (u64::from(percent), u64::from(min_per_second) * 10);
        let within = |all: &[(u64, u64)], from: u64, to: u64| -> u64 {
            all.iter().filter(|(at, _)| (from..=to).contains(at)).map(|(_, count)| count).sum()
        };
        // Of each nine seconds that end with retries, against the ten before that.
        for (end, _) in retries.iter().filter(|(_, count)| *count > 0) {
            let tried = within(&retries, end.saturating_sub(8_999), *end);
            let asked = within(&requests, end.saturating_sub(10_000), *end);
            prop_assert!(tried * 100 <= asked * percent + floor * 100, "{tried} retries, {asked} requests until {end}");
        }
        // And of all time.
        let (tried, asked) = (within(&retries, 0, time), within(&requests, 0, time));
        prop_assert!(tried * 100 <= asked * percent + (time / 9_000 + 1) * floor * 100, "{tried} retries, {asked} requests in {time} ms");
        // Nor is one refused that fits, by a count of ten whole seconds of retries and of nine of requests.
        for (at, asked_before, tried_before) in refused {
            let asked = within(&requests[..asked_before], at.saturating_sub(8_999), at);
            let tried = within(&retries[..tried_before], at.saturating_sub(10_000), at);
            prop_assert!((tried + 1) * 100 > asked * percent + floor * 100, "{tried} retries, {asked} requests at {at}");
        }
    }
}
