//! Whatever history of calls under way at once, of rules of all counts and bounds: every one goes as the book has it.

use proptest::prelude::*;

use super::book::Account;
use super::history::*;
use super::world::*;
use super::*;
use crate::config::limits::{Calendar, Every, Measure, Tier, Weights, Zone};
use crate::domain::{Glob, Grant};

#[derive(Clone, Debug)]
enum Step {
    Passes(u64),
    Comes {
        who: (usize, usize),
        model: usize,
        asks: Asks,
        /// Told when to come again, it does.
        waits: bool,
    },
    /// To so many quarters of the output that it asked for.
    Grows(usize, u64),
    Ends(usize, End),
    Grants(Vec<(usize, usize, u64, u64)>),
    Sweeps,
}

fn rule() -> impl Strategy<Value = Rule> {
    let sizes = (1_u64..=9, 1_u64..=5, prop::sample::select(vec![SECOND, MINUTE, HOUR]), 0_usize..4);
    let per = prop::sample::select(vec![vec![], vec![0], vec![1], vec![0, 3], vec![3], vec![0, 1]]);
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.3), prop::bool::weighted(0.3), 0_usize..3);
    (prop::sample::select(Count::ALL.to_vec()), sizes, per, flags).prop_map(|(count, (amount, most, period, bound), per, flags)| {
        let (shadow, cut, tiers, measure) = flags;
        let unit = match count {
            Count::Requests | Count::Concurrency => 1,
            Count::Tokens => 60_007,
            Count::Usd => 601,
        };
        let calendar = Calendar { every: [Every::Day, Every::Month][bound % 2], starts_on: 1, zone: Zone::UTC };
        let times = |times: u64| match (count, bound) {
            (Count::Concurrency, _) => Bound::Max(most * times),
            (_, 0 | 1) => Bound::Quota { limit: most * unit * times, calendar },
            _ => Bound::Rate { amount: amount * unit * times, period, burst: most * unit * times },
        };
        Rule {
            per: per.into_iter().map(|at: usize| Dimension::ALL[at]).collect(),
            shadow,
            cut: cut && matches!(count, Count::Tokens | Count::Usd),
            tiers: if tiers { vec![Tier { group: Glob::new("gold"), bound: times(3) }] } else { Vec::new() },
            measure: match measure {
                0 => Measure::Weights(Weights::default()),
                1 => Measure::Weights(Weights { input: 333, output: 1_250, ..Weights::default() }),
                _ => Measure::Bedrock { burndown: vec![(Glob::new("amazon.*"), 3)] },
            },
            ..Rule::new("", count, times(1))
        }
    })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let name = |(at, rule)| Rule { name: format!("r{at}"), ..rule };
    prop::collection::vec(rule(), 1..6).prop_map(move |rules| rules.into_iter().enumerate().map(name).collect())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pause = prop_oneof![
        4 => 1..NANOS, 2 => 1..20_u64, 2 => NANOS..60 * NANOS, 1 => NANOS..3_600 * NANOS, 1 => NANOS..DAY * NANOS, 1 => Just(12 * DAY * NANOS),
    ];
    let asks = (0_u64..40, 0_u64..80, any::<bool>()).prop_map(|(input, output, streamed)| Asks { input, output, streamed });
    let comes = ((0_usize..2, 0_usize..3), 0_usize..2, asks, prop::bool::weighted(0.4));
    let end = prop_oneof![4 => (0_u64..8).prop_map(End::Settled), 1 => Just(End::Untold), 2 => Just(End::Unsent), 1 => Just(End::Torn)];
    let grants = prop::collection::vec((0_usize..5, 0_usize..4, 1_u64..100_000, 1..2 * DAY), 0..3);
    let step = prop_oneof![
        8 => pause.prop_map(Step::Passes),
        14 => comes.prop_map(|(who, model, asks, waits)| Step::Comes { who, model, asks, waits }),
        4 => (0_usize..64, 0_u64..9).prop_map(|(which, quarters)| Step::Grows(which, quarters)),
        10 => (0_usize..64, end).prop_map(|(which, end)| Step::Ends(which, end)),
        1 => grants.prop_map(Step::Grants),
        1 => Just(Step::Sweeps),
    ];
    prop::collection::vec(step, 1..80)
}

/// Of two tenants, each with two users and callers without a name. All of the one, and a user of the other, are in a tier.
fn principal((tenant, user): (usize, usize)) -> Principal {
    let groups: Arc<[Arc<str>]> = if tenant == 1 || user == 2 { [Arc::from("gold")].into() } else { [].into() };
    Principal { groups, ..caller(["acme", "umbrella"][tenant], [None, Some("ann"), Some("bob")][user]) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn every_history_goes_as_the_book_has_it_and_nothing_is_left_when_all_have_ended(rules in rules(), steps in steps()) {
        let mut history = History::new(&rules);
        for step in steps {
            match step {
                Step::Passes(nanos) => history.passes(nanos),
                Step::Comes { who, model, asks, waits } => {
                    let who = principal(who);
                    if let Some(wait) = history.comes(&who, MODELS[model], asks).filter(|_| waits) {
                        history.comes_again(&who, MODELS[model], asks, wait);
                    }
                }
                Step::Grows(which, quarters) => history.grows(which, quarters),
                Step::Ends(which, end) => history.ends(which, end),
                Step::Grants(grants) => {
                    let make = |(rule, who, more, time): (usize, usize, u64, u64)| {
                        let who = principal((who % 2, who / 2));
                        let until = history.world.wall + time;
                        let more = rules.get(rule).map_or(1, |rule| if rule.count.scale() == 1 { more % 4 } else { more });
                        Grant { user: who.user.clone(), ..grant(&format!("r{rule}"), &who.tenant, more, until) }
                    };
                    history.grants = grants.into_iter().map(make).collect();
                    history.world.grants.set(history.grants.clone());
                }
                Step::Sweeps => {
                    history.latest = history.world.at;
                    history.world.buckets.sweep(history.world.now().monotonic);
                }
            }
            history.check();
        }
        for at in 0..history.running.len() {
            history.ends(0, [End::Settled(4), End::Untold, End::Unsent, End::Torn][at % 4]);
        }
        history.check();
        prop_assert_eq!(history.world.held(), 0);
        history.book.values().for_each(Account::check_windows);
    }
}
