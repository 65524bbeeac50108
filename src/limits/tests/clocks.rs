//! Quotas, and clocks that are wrong.

use super::world::*;
use super::*;

/// How many calls of one request each pass.
fn passes(world: &World, tries: usize) -> usize {
    (0..tries).filter(|_| world.call(SMALL).map(|admission| world.settle(admission, 10, 90)).is_ok()).count()
}

fn world() -> World {
    World::new(&[daily("calls", Count::Requests, 10)], 100)
}

#[test]
fn a_clock_that_jumps_back_refills_nothing() {
    for back in [1, 3_600, DAY / 2 + 1, DAY, 2 * DAY, 40 * DAY] {
        let mut world = world();
        assert_eq!(passes(&world, 20), 10);
        world.wall -= back;
        assert_eq!(passes(&world, 5), 0, "{back} s");
        world.buckets.sweep(world.now().monotonic);
        assert_eq!(passes(&world, 5), 0, "{back} s, swept");
        assert_eq!(passes(&world.restart(), 5), 0, "{back} s, restarted");
    }
}

#[test]
fn a_period_that_a_clock_comes_to_twice_is_handed_out_once() {
    for ahead in [DAY / 2, DAY, DAY + DAY / 3] {
        for swept in [false, true] {
            let mut world = world();
            assert_eq!(passes(&world, 6), 6);
            // For a moment, the clock is in a day to come.
            world.wall += ahead;
            world.at += 1;
            assert_eq!(passes(&world, 7), 7);
            world.wall -= ahead;
            if swept {
                world.buckets.sweep(world.now().monotonic);
            }
            let mut passed = passes(&world, 20);
            world.wait(Duration::from_secs(DAY / 2));
            world.buckets.sweep(world.now().monotonic);
            passed += passes(&world, 20);
            assert_eq!(6 + 7 + passed, 16, "two days' worth less what was left of the first");
        }
    }
}

#[test]
fn a_clock_that_was_wrong_by_years_closes_no_budget_for_longer_than_the_next_period() {
    let mut world = world();
    world.wall += 3_650 * DAY;
    assert_eq!(passes(&world, 20), 10);
    world.wall -= 3_650 * DAY;
    assert_eq!(passes(&world, 20), 0);
    world.wait(Duration::from_secs(DAY));
    assert_eq!(passes(&world, 20), 0);
    world.wait(Duration::from_secs(DAY));
    assert_eq!(passes(&world, 20), 10);
}

#[test]
fn no_sweep_forgets_a_quota_whose_period_runs() {
    let mut world = world();
    assert_eq!(passes(&world, 20), 10);
    // The monotonic clock runs fast: it is a day on, and the calendar a minute short of midnight.
    world.at += DAY * 1_000_000_000;
    world.wall = SUNDAY + DAY - 60;
    assert_eq!(world.buckets.sweep(world.now().monotonic), 0);
    assert_eq!(passes(&world, 5), 0);
    // The wall clock is a day on, and comes back.
    world.at += 1;
    world.buckets.wall(SystemTime::UNIX_EPOCH + Duration::from_secs(SUNDAY + DAY + 60));
    assert_eq!(world.buckets.sweep(world.now().monotonic), 0);
    world.wait(Duration::from_mins(2));
    assert_eq!(world.buckets.sweep(world.now().monotonic), 1, "by both clocks");
    assert_eq!(passes(&world, 20), 10);
}

#[test]
fn what_is_under_way_when_the_period_ends_counts_in_the_one_that_it_ends_in() {
    let mut world = World::new(&[daily("daily", Count::Tokens, 300_000), daily("calls", Count::Requests, 3)], 100);
    let [one, two, unsent] = [(); 3].map(|()| world.call(SMALL).unwrap());
    assert_eq!(world.ledger.sum(SUNDAY), 300_000 + 3);
    world.call(SMALL).unwrap_err();
    world.wait(Duration::from_secs(DAY));
    assert_eq!(world.held(), 300_000);
    world.settle(one, 10, 50);
    assert_eq!((world.ledger.sum(SUNDAY), world.ledger.sum(SUNDAY + DAY)), (200_003, 60_000));
    two.settle(None, world.now());
    drop(unsent);
    assert_eq!((world.ledger.sum(SUNDAY), world.ledger.sum(SUNDAY + DAY)), (2, 160_000));
    assert_eq!(world.held(), 0);
    world.call(Asks { output: 131, ..SMALL }).unwrap_err();
    drop(world.call(Asks { output: 130, ..SMALL }).unwrap());
}

#[test]
fn after_a_kill_the_ledgers_sums_refuse_what_was_refused_before() {
    let rules = [
        Rule { per: vec![Dimension::Tenant, Dimension::User, Dimension::Model], ..daily("daily", Count::Tokens, 250_000) },
        Rule { per: Vec::new(), ..daily("all", Count::Usd, 7_500) },
    ];
    let world = World::new(&rules, 100);
    let callers = ["ann", "bob", "eve"].map(|user| caller("acme", Some(user)));
    let mut under_way = Vec::new();
    for (turn, who) in callers.iter().cycle().take(20).enumerate() {
        match world.call_for(who, ["amazon.nova-lite", "amazon.nova-pro"][turn % 2], SMALL) {
            Ok(admission) if turn % 4 == 0 => under_way.push(admission),
            Ok(admission) => world.settle(admission, 10, 70),
            Err(_) => {}
        }
    }
    // Killed: nobody settles what is under way, and what it held counts.
    let new = world.restart();
    assert_eq!(new.used(), world.used() + world.held());
    for who in callers.iter().chain([&caller("acme", None), &caller("other", Some("ann"))]) {
        for (model, output) in
            ["amazon.nova-lite", "amazon.nova-pro"].into_iter().flat_map(|model| (0..250).step_by(5).map(move |n| (model, n)))
        {
            let asks = Asks { output, ..SMALL };
            let (old, new) = (world.call_for(who, model, asks), new.call_for(who, model, asks));
            assert_eq!(old.is_ok(), new.is_ok(), "{who:?} {model} {output}");
        }
    }
}

#[test]
fn many_thousand_quotas_are_restored_within_the_bound() {
    let rules = [Rule { per: vec![Dimension::User], ..daily("daily", Count::Tokens, 100_000) }];
    let row = |n: usize, starts| Quota {
        rule: "daily".into(),
        count: "tokens".into(),
        subject: Subject { tenant: Some("acme".into()), user: Some(n.to_string().into()), ..Subject::default() },
        starts,
        used: 60_000,
    };
    let rows: Vec<_> = (0..20_000).flat_map(|n| [row(n, SUNDAY - DAY), row(n, SUNDAY)]).collect();
    let world = World::new(&rules, 10_000);
    world.limits.restore(&rows, world.now());
    assert_eq!((world.buckets.len(), world.buckets.overflowed()), (10_001, 10_000));
    assert_eq!(world.used(), 60_000 * 20_000, "nothing is lost");
    let call = |n: &str, output| world.call_for(&caller("acme", Some(n)), "m", Asks { output, ..SMALL });
    call("7", 31).unwrap_err();
    drop(call("7", 30).unwrap());
    call("new", 1).unwrap_err();
}
