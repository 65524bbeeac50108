//! Whatever way a call ends, what it held is given back or used, once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::world::*;
use super::*;
use crate::domain::{LimitWarning, QuotaChange, Usd};

const TOKEN: u64 = 1_000;

fn rules() -> Vec<Rule> {
    let rate = |count, amount| Rule::new(format!("rate-{count:?}"), count, Bound::Rate { amount, period: HOUR, burst: amount });
    vec![
        rate(Count::Requests, 10),
        rate(Count::Tokens, 1_000 * TOKEN),
        in_flight(3),
        daily("budget", Count::Usd, 10_000),
        daily("daily", Count::Tokens, 1_000 * TOKEN),
        daily("calls", Count::Requests, 10),
    ]
}

#[test]
fn a_call_that_was_never_sent_gives_back_everything() {
    let world = World::new(&rules(), 100);
    let admission = world.call(SMALL).unwrap();
    assert_eq!((world.held(), world.used()), (2 * 100 * TOKEN + 1 + 1_000, 2));
    drop(admission);
    assert_eq!((world.held(), world.used()), (0, 0));
    assert!(world.ledger.sums.lock().values().all(|sum| *sum == 0));
    assert_eq!(world.buckets.sweep(world.now().monotonic), 6, "nothing is left of any");
}

#[test]
fn a_call_that_was_sent_and_torn_off_keeps_the_request_and_nothing_else() {
    let world = World::new(&rules(), 100);
    let mut admission = world.call(SMALL).unwrap();
    admission.sent();
    drop(admission);
    assert_eq!((world.held(), world.used()), (0, 2), "one of each rule of requests");
    assert_eq!(world.ledger.sum(SUNDAY), 1);
}

#[test]
fn a_call_that_was_never_sent_gives_back_nothing_of_what_others_used() {
    let mut world = World::new(&[rule("rps", 1, SECOND, 2, &[Dimension::Tenant])], 100);
    let unsent = world.call(SMALL).unwrap();
    world.wait(Duration::from_millis(900));
    world.settle(world.call(SMALL).unwrap(), 10, 90);
    drop(unsent);
    // A tenth of one request has drained.
    world.wait(Duration::from_millis(100));
    world.settle(world.call(SMALL).unwrap(), 10, 90);
    let refused = world.call(SMALL).unwrap_err();
    assert_eq!(refused.rejection.retry_after, Some(Duration::from_millis(900)));
}

#[test]
fn a_panic_gives_back_what_the_call_held() {
    let world = World::new(&rules(), 100);
    let fell = catch_unwind(AssertUnwindSafe(|| {
        let _admission = world.call(SMALL).unwrap();
        panic!("in the middle of a call");
    }));
    assert!(fell.is_err());
    assert_eq!((world.held(), world.used()), (0, 0));
    let fell = catch_unwind(AssertUnwindSafe(|| {
        let mut admission = world.call(SMALL).unwrap();
        admission.grow(&tokens(10, 500), || panic!("no price"), world.now()).ok();
    }));
    assert!(fell.is_err());
    assert_eq!((world.held(), world.used()), (0, 0), "a price that panics loses no hold");
}

/// Panics at one of the things that it is told, once.
struct Fragile(AtomicUsize);

impl Observer for Fragile {
    fn quota(&self, _change: QuotaChange) {
        assert!(self.0.fetch_sub(1, Ordering::Relaxed) != 0, "told once too often");
    }

    fn warn(&self, _warning: LimitWarning) {}
}

#[test]
fn an_observer_that_panics_loses_no_hold() {
    let mut fell = 0;
    for notice in 0..20 {
        let mut world = World::new(&rules(), 100);
        world.limits = Limits::build(&rules(), Arc::clone(&world.buckets), Arc::default(), Arc::new(Fragile(AtomicUsize::new(notice))));
        let story = || {
            let mut admission = world.call(SMALL).unwrap();
            world.grow(&mut admission, 10, 500).unwrap();
            world.settle(admission, 10, 600);
        };
        fell += usize::from(catch_unwind(AssertUnwindSafe(story)).is_err());
        assert_eq!(world.held(), 0, "notice {notice}");
    }
    assert_eq!(fell, 7, "three quotas begin, two grow, and two end");
}

#[test]
fn what_a_stream_grows_by_is_counted_once() {
    let world = World::new(&rules(), 100);
    let mut admission = world.call(SMALL).unwrap();
    for output in [50, 90, 200, 150, 300] {
        world.grow(&mut admission, 10, output).unwrap();
        let most = output.max(if output == 150 { 200 } else { 90 });
        assert_eq!(world.held(), 1 + (2 * TOKEN + 10) * (10 + most), "{output}");
    }
    world.settle(admission, 10, 400);
    assert_eq!((world.held(), world.used()), (0, 2 + (2 * TOKEN + 10) * 410));
    assert_eq!(world.ledger.sum(SUNDAY), 1 + i128::from((TOKEN + 10) * 410));
}

#[test]
fn a_call_that_nobody_can_tell_the_usage_of_counts_as_it_was_reserved() {
    let world = World::new(&rules(), 100);
    world.call(SMALL).unwrap().settle(None, world.now());
    assert_eq!((world.held(), world.used()), (0, 2 + (2 * TOKEN + 10) * 100));
}

#[test]
fn a_stream_that_can_be_cut_begins_with_what_is_left_and_ends_where_it_is_used_up() {
    let cut = Rule { cut: true, ..daily("daily", Count::Tokens, 150 * TOKEN) };
    let world = World::new(&[cut], 100);
    let stream = Asks { streamed: true, ..SMALL };
    let mut first = world.call(stream).unwrap();
    let mut second = world.call(stream).unwrap();
    assert_eq!(world.held(), 150 * TOKEN, "the second gets the 50 that are left");
    world.call(stream).unwrap_err();
    world.grow(&mut first, 10, 90).unwrap();
    world.grow(&mut second, 10, 40).unwrap();
    assert_eq!(&*world.grow(&mut second, 10, 41).unwrap_err().rule, "daily");
    world.settle(second, 10, 41);
    assert!(world.grow(&mut first, 10, 90).is_ok(), "what is reserved is there");
    world.settle(first, 10, 39);
    assert_eq!((world.held(), world.used()), (0, 100 * TOKEN));
    drop(world.call(Asks { output: 300, ..stream }).unwrap());
    world.settle(world.call(Asks { input: 39, ..stream }).unwrap(), 39, 0);
    assert_eq!(world.used(), 139 * TOKEN);
    world.call(Asks { input: 11, ..stream }).unwrap_err();
    drop(world.call(stream).unwrap());
    assert_eq!(world.held(), 0);
}

#[test]
fn a_rule_in_shadow_takes_what_it_would_admit_and_refuses_nobody() {
    let shadow = Rule { shadow: true, cut: true, ..daily("shy", Count::Tokens, 250 * TOKEN) };
    let world = World::new(&[shadow, in_flight(10)], 100);
    let mut calls: Vec<_> = (0..4).map(|_| world.call(SMALL).unwrap()).collect();
    let shadowed: Vec<_> = calls.iter().map(|call| call.shadows().len()).collect();
    assert_eq!(shadowed, [0, 0, 1, 1]);
    assert_eq!(world.held(), 200 * TOKEN + 4);
    assert!(world.grow(&mut calls[0], 10, 10_000).is_ok(), "nor does it cut");
    for call in calls {
        world.settle(call, 10, 90);
    }
    assert_eq!((world.held(), world.used()), (0, 200 * TOKEN));
}

#[test]
fn a_model_without_a_price_is_told_by_a_shadow_and_refused_by_a_rule() {
    let rule = daily("budget", Count::Usd, 1_000);
    for shadow in [false, true] {
        let world = World::new(&[Rule { shadow, ..rule.clone() }], 100);
        let acme = caller("acme", None);
        let asked = Asked { max_tokens: Some(1), ..Asked::default() };
        let call = Call { service: Service::BEDROCK_RUNTIME, path: "/".into(), query: "".into(), model: Some("m".into()), asked };
        let ask = Ask { principal: &acme, call: &call, route: "r", address: None, price: &|_| Cost::Unpriced };
        match world.limits.admit(&ask, world.now()) {
            Ok(admission) => assert_eq!((shadow, admission.shadows().len()), (true, 1)),
            Err(refused) => assert_eq!((shadow, refused.rejection.reason), (false, Reason::Unpriced)),
        }
        assert_eq!(world.held(), 0);
    }
}

#[test]
fn what_a_call_took_under_other_terms_is_given_back_whole() {
    let mut rules = rules();
    let mut world = World::new(&rules, 100);
    world.grants.set(vec![grant("in-flight", "acme", 2, SUNDAY + DAY)]);
    let calls: Vec<_> = (0..5).map(|_| world.call(SMALL).unwrap()).collect();
    world.call(SMALL).unwrap_err();
    world.grants.set(Vec::new());
    rules.retain(|rule| rule.count != Count::Usd);
    world.reload(&rules);
    world.wait(HOUR);
    for (at, call) in calls.into_iter().enumerate() {
        if at % 2 == 0 { world.settle(call, 10, 20) } else { drop(call) }
    }
    assert_eq!(world.held(), 0);
    assert_eq!(world.ledger.sum(SUNDAY), 3 + 3 * i128::from(30 * (TOKEN + 10)));
}

#[test]
fn what_overflowed_is_given_back_to_the_bucket_that_newcomers_share() {
    let per_user = Rule { per: vec![Dimension::User], ..in_flight(2) };
    let world = World::new(&[per_user], 1);
    let call = |user: &str| world.call_for(&caller("acme", Some(user)), "m", SMALL);
    let first = call("ann").unwrap();
    let others: Vec<_> = ["bob", "eve"].into_iter().map(|user| call(user).unwrap()).collect();
    call("joe").unwrap_err();
    drop(others);
    drop((call("joe").unwrap(), call("bob").unwrap()));
    drop(first);
    assert_eq!(world.held(), 0);
    assert_eq!(world.buckets.sweep(world.now().monotonic), 2);
    assert!(world.buckets.is_empty());
}

#[test]
fn of_several_refusals_the_one_that_lasts_longest_is_told() {
    let world = World::new(&[in_flight(1), daily("daily", Count::Tokens, 500 * TOKEN), rule("slow", 1, HOUR, 2, &[])], 100);
    let first = world.call(SMALL).unwrap();
    assert_eq!(&*world.call(SMALL).unwrap_err().rule, "in-flight");
    drop(first);
    world.settle(world.call(SMALL).unwrap(), 10, 390);
    let held = world.call(SMALL).unwrap();
    assert_eq!(&*world.call(SMALL).unwrap_err().rule, "slow", "how long calls under way take, nobody knows");
    world.settle(held, 10, 90);
    let spent = world.call(SMALL).unwrap_err();
    assert_eq!((&*spent.rule, spent.rejection.reason), ("daily", Reason::BudgetSpent));
    let too_much = world.call(Asks { output: 5_000, ..SMALL }).unwrap_err();
    assert_eq!((&*too_much.rule, too_much.rejection.reason), ("daily", Reason::AsksTooMuch));
}

#[test]
fn a_model_whose_input_alone_has_a_price_is_reserved_and_settled_by_it_unless_output_is_asked_for() {
    let world = World::new(&[daily("budget", Count::Usd, 1_000)], 100);
    let acme = caller("acme", None);
    let price = |tokens: &Tokens| if tokens.output > 0 { Cost::Unpriced } else { Cost::Priced(Usd::from_picos(tokens.input)) };
    let embed = |max_tokens| {
        let asked = Asked { text_bytes: 30, max_tokens, ..Asked::default() };
        let call = Call { service: Service::BEDROCK_RUNTIME, path: "/".into(), query: "".into(), model: Some("m".into()), asked };
        world.limits.admit(&Ask { principal: &acme, call: &call, route: "r", address: None, price: &price }, world.now())
    };
    let admission = embed(None).unwrap();
    assert_eq!(world.held(), 10);
    admission.settle(Some((&tokens(7, 0), Cost::Priced(Usd::from_picos(7)))), world.now());
    assert_eq!((world.held(), world.used()), (0, 7));
    assert_eq!(embed(Some(5)).unwrap_err().rejection.reason, Reason::Unpriced);
}
