//! Whatever story of arrivals, ends and leaves: nobody waits for what is there.

use proptest::prelude::*;

use super::waiters::*;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Comes(u8),
    Ends(usize),
    Leaves(usize),
    Passes(u64),
    /// With these bounds, or the same as at first.
    Reload(Option<(u64, u64)>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_u8..4).prop_map(Step::Comes),
        4 => (0_usize..64).prop_map(Step::Ends),
        1 => (0_usize..64).prop_map(Step::Leaves),
        2 => (1_u64..700).prop_map(Step::Passes),
        1 => prop_oneof![Just(None), (1_u64..4, 1_u64..3).prop_map(Some)].prop_map(Step::Reload),
    ];
    prop::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn nobody_waits_for_what_is_there_and_nothing_is_given_twice(
        (all, each, rate) in (1_u64..4, 1_u64..3, 1_u64..40), queue in 1_u32..12, steps in steps(),
    ) {
        let rules = |all, each| {
            let slow = Rule { wait: Some(waits(queue)), ..rule("slow", rate, SECOND, 5, &[]) };
            [global(all, queue), at_once("each", each, &[Dimension::Tenant], queue), slow]
        };
        let mut world = World::new(&rules(all, each));
        let (mut most_all, mut most_each, mut stands) = (all, each, true);
        let mut came = Vec::new();
        for step in steps {
            match step {
                Step::Comes(tenant) => {
                    came.push(Clock::Manual(world.clock.clone()).monotonic());
                    world.comes(&format!("{}", char::from(b'a' + tenant)));
                    world.run();
                }
                Step::Ends(n) => {
                    let running = world.running();
                    if !running.is_empty() {
                        world.ends(running[n % running.len()]);
                    }
                }
                Step::Leaves(n) => {
                    let waiting = world.waiting();
                    if !waiting.is_empty() {
                        world.ends(waiting[n % waiting.len()]);
                    }
                }
                Step::Passes(millis) => world.turn(Duration::from_millis(millis)),
                Step::Reload(changed) => {
                    // Those who wait keep their rules: the highest of all counts.
                    let (all, each) = changed.unwrap_or((all, each));
                    (most_all, most_each) = (most_all.max(all), most_each.max(each));
                    stands &= changed.is_none();
                    world.reload(&rules(all, each));
                }
            }
            let running = world.running();
            prop_assert!(running.len() as u64 <= most_all);
            for tenant in ["a", "b", "c", "d"] {
                let own = running.iter().filter(|at| world.calls[**at].tenant == tenant).count();
                prop_assert!(own as u64 <= most_each);
            }
            let waiting = world.waiting();
            prop_assert_eq!(waiting.len() as u64, world.limits.waiting());
            let now = Now::of(&Clock::Manual(world.clock.clone()));
            for at in waiting {
                prop_assert!(now.monotonic < came[at] + 2 * SECOND, "it has waited long enough");
                if stands {
                    let (caller, call) = (caller(&world.calls[at].tenant, None), request());
                    prop_assert!(world.limits.admit(&asks(&caller, &call), now).is_err(), "it waits, and there is room for it");
                }
            }
        }
        for at in 0..world.calls.len() {
            world.ends(at);
        }
        prop_assert!(world.is_empty());
    }
}
