//! Who gets what, for certain and by share.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::Weight;
use super::*;
use crate::config::routes::Place;

fn choice(weights: &[(&str, u32)]) -> Choice {
    let target = |(name, weight): &(&str, u32)| {
        Arc::new(Target::new(&Place { name: (*name).into(), upstream: "use1".into(), model: None }, Weight::new(*weight)))
    };
    Choice::new("sonnet", &weights.iter().map(target).collect::<Vec<_>>())
}

fn user(name: &str) -> Key<'_> {
    Key { first: b"acme", second: name.as_bytes() }
}

/// The values are those of another implementation (in Python, checked against the vector in the hash's own paper).
#[test]
fn a_key_has_the_same_hash_on_every_instance_and_in_every_version() {
    for (route, target, first, second, hash) in [
        ("sonnet", "use1", "acme", "ann", 0xacae_8d92_4afc_a07f),
        ("sonnet", "canary", "acme", "ann", 0x5a99_ecdc_112a_44dd),
        ("sonnet", "canary", "acm", "eann", 0x8170_3820_fa3e_5567),
        ("sonnet", "canary", "acme", "", 0x6040_b972_991c_125a),
        ("opus", "canary", "acme", "ann", 0xc52e_e1bf_f8e3_79e6_u64),
    ] {
        let key = Key { first: first.as_bytes(), second: second.as_bytes() };
        assert_eq!(key.hash(hasher(route, target)), hash, "{route} {target} {first} {second}");
    }
    assert_eq!(unit(0x5a99_ecdc_112a_44dd).to_bits(), 0.353_911_212_661_082_7_f64.to_bits());
    assert!(unit(0) > 0.0 && unit(u64::MAX) < 1.0);
}

/// As above, scores included.
#[test]
fn a_fleet_agrees_on_who_gets_the_canary() {
    let choice = choice(&[("use1", 80), ("canary", 20)]);
    let lucky: Vec<usize> = (0..60).filter(|n| choice.stuck(&user(&format!("user-{n}"))) == 1).collect();
    assert_eq!(lucky, [2, 14, 19, 26, 27, 31, 32, 37, 40, 45, 49, 57]);
}

#[test]
fn keys_are_shared_out_by_weight() {
    for weights in [&[99, 1][..], &[95, 5], &[90, 10], &[50, 50], &[1, 2, 3, 4], &[10_000, 1], &[0, 3, 1]] {
        let names: Vec<String> = (0..weights.len()).map(|n| format!("t{n}")).collect();
        let pairs: Vec<(&str, u32)> = names.iter().map(|name| &**name).zip(weights.iter().copied()).collect();
        let choice = choice(&pairs);
        let mut counts = HashMap::<usize, u32>::new();
        (0..100_000).for_each(|n| *counts.entry(choice.stuck(&user(&format!("user-{n}")))).or_default() += 1);
        let all: u32 = weights.iter().sum();
        for (place, weight) in weights.iter().enumerate() {
            let got = f64::from(counts.get(&place).copied().unwrap_or(0)) / 1e5;
            let due = f64::from(*weight) / f64::from(all);
            assert!((got - due).abs() < 0.01, "{weights:?}: {place} has {got}, and is due {due}");
            // A canary of one in ten thousand is none of one in a hundred.
            assert!(due > 0.001 || got < 0.001, "{weights:?}: {place} has {got}");
        }
    }
}

#[test]
fn a_weight_that_grows_takes_keys_and_moves_no_others() {
    let choice = choice(&[("a", 60), ("b", 35), ("canary", 5)]);
    let placed = || -> Vec<usize> { (0..20_000).map(|n| choice.stuck(&user(&format!("user-{n}")))).collect() };
    let mut before = placed();
    for weight in [6, 10, 50, 1_000] {
        choice.at(2).unwrap().weight.set(weight);
        let now = placed();
        let moved: Vec<(usize, usize)> = before.iter().copied().zip(now.iter().copied()).filter(|(from, to)| from != to).collect();
        assert!(!moved.is_empty() && moved.iter().all(|(_, to)| *to == 2), "{weight}");
        before = now;
    }
    choice.at(2).unwrap().weight.set(0);
    assert!(placed().iter().all(|place| *place != 2));
}

#[test]
fn a_draw_takes_each_number_to_one_target() {
    let choice = choice(&[("a", 2), ("none", 0), ("b", 3)]);
    let drawn: Vec<usize> = (0..5)
        .map(|n| {
            choice.drawn(|all| {
                assert_eq!(all, 5);
                n
            })
        })
        .collect();
    assert_eq!(drawn, [0, 0, 2, 2, 2]);
    // What a change of weights leaves over goes to the last that can be drawn.
    assert_eq!(choice.drawn(|_| 99), 2);
    // Nothing but a change while serving brings all to 0.
    for place in [0, 2] {
        choice.at(place).unwrap().weight.set(0);
    }
    assert_eq!((choice.drawn(|_| 0), choice.stuck(&user("ann"))), (0, 0));
}

proptest! {
    #[test]
    fn growing_one_weight_moves_a_key_there_or_nowhere(
        weights in prop::collection::vec(0_u32..100, 2..6),
        grown in any::<prop::sample::Index>(),
        more in 1_u32..10_000,
        key in ".{0,20}",
    ) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let names: Vec<String> = (0..weights.len()).map(|n| format!("t{n}")).collect();
        let choice = choice(&names.iter().map(|name| &**name).zip(weights.iter().copied()).collect::<Vec<_>>());
        let grown = grown.index(weights.len());
        let before = choice.stuck(&user(&key));
        prop_assert!(weights[before] > 0);
        choice.at(grown).unwrap().weight.set(weights[grown] + more);
        let after = choice.stuck(&user(&key));
        prop_assert!(after == before || after == grown);
    }
}
