use super::super::{Change, Verdict, choose, order};
use super::*;
use crate::domain::Ejection;

/// Tells failures until it is ejected, and for how long.
fn eject(health: &Health, now: Instant) -> (Ejection, Duration) {
    (0..5).find_map(|_| health.told(None, Outcome::Unreachable, now)).map_or_else(
        || panic!("it is not ejected"),
        |change| match change {
            Change::Ejected { why, lasts } => (why, lasts),
            Change::Readmitted => panic!("it was never out"),
        },
    )
}

fn is_fit(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Fit)
}

#[test]
fn five_failures_in_a_row_eject_and_four_do_not() {
    let (health, now) = (health(HealthRule { error_rate: None, ..HealthRule::default() }), start());
    for bad in [Outcome::Unreachable, Outcome::TimedOut, Outcome::Broken, answered(500), answered(503)] {
        for _ in 0..4 {
            assert_eq!(health.told(None, bad, now), None);
        }
        assert_eq!(health.told(None, well(), now), None);
        assert!(is_fit(&health.ask(None, now)), "{bad:?}");
    }
    assert_eq!(eject(&health, now).0, Ejection::Failures);
}

#[test]
fn what_the_caller_did_wrong_and_what_is_throttled_is_no_illness() {
    let (health, now) = (health(HealthRule::default()), start());
    for status in [200, 302, 400, 403, 404, 408, 424, 429, 501, 505] {
        for _ in 0..100 {
            assert_eq!(health.told(Some("m"), answered(status), now), None, "{status}");
        }
    }
    assert!(is_fit(&health.ask(Some("other"), now)));
}

#[test]
fn half_of_twenty_tries_eject_and_of_nineteen_do_not() {
    let rule = HealthRule { failures: None, ..HealthRule::default() };
    let (health, now) = (health(rule), start());
    for n in 0..19 {
        let outcome = if n % 2 == 0 { answered(500) } else { well() };
        assert_eq!(health.told(None, outcome, now), None);
    }
    assert!(matches!(health.told(None, answered(500), now), Some(Change::Ejected { why: Ejection::ErrorRate, .. })));
}

#[test]
fn what_has_left_the_window_counts_no_more() {
    let rule = HealthRule { failures: None, min_requests: 10, ..HealthRule::default() };
    let (health, now) = (health(rule), start());
    (0..9).for_each(|_| assert_eq!(health.told(None, answered(500), now), None));
    assert_eq!(health.told(None, answered(500), now + seconds(31)), None, "it is the only one of its window");
}

#[test]
fn late_first_bytes_eject_where_a_bound_is_set() {
    let rule = HealthRule { first_byte: Some(seconds(60)), min_requests: 4, ..HealthRule::default() };
    let late = Outcome::Answered { status: 200, first_byte: seconds(61) };
    let on_time = Outcome::Answered { status: 200, first_byte: seconds(60) };
    let (health, now) = (health(rule), start());
    for outcome in [on_time, on_time, late] {
        assert_eq!(health.told(None, outcome, now), None);
    }
    assert!(matches!(health.told(None, late, now), Some(Change::Ejected { why: Ejection::FirstByte, .. })));
    let unbound = super::health(HealthRule { min_requests: 4, ..HealthRule::default() });
    (0..100).for_each(|_| assert_eq!(unbound.told(None, late, now), None));
}

#[test]
fn one_probe_at_a_time_readmits_or_ejects_for_twice_as_long() {
    let (health, now) = (health(HealthRule::default()), start());
    let (why, lasts) = eject(&health, now);
    assert_eq!(why, Ejection::Failures);
    assert!((seconds(8)..=seconds(10)).contains(&lasts), "{lasts:?}");
    assert!(matches!(health.ask(None, now), Verdict::Ejected { until } if until == now + lasts));

    let now = now + lasts;
    let probe = health.ask(None, now);
    assert!(matches!(probe, Verdict::Probe(_)));
    assert!(matches!(health.ask(None, now), Verdict::Ejected { .. }), "never a second");
    drop(probe);
    let probe = health.ask(None, now);
    assert!(matches!(probe, Verdict::Probe(_)), "what is given up leaves its place");

    let Some(Change::Ejected { why: Ejection::Probe, lasts }) = probe.told(&health, None, Outcome::TimedOut, now) else {
        panic!("the probe failed")
    };
    assert!((seconds(16)..=seconds(20)).contains(&lasts), "{lasts:?}");
    let now = now + lasts;
    assert_eq!(health.ask(None, now).told(&health, None, answered(404), now), Some(Change::Readmitted));
    assert!(is_fit(&health.ask(None, now)));
}

#[test]
fn a_probe_that_is_throttled_has_found_an_upstream_that_answers() {
    let (health, now) = (health(HealthRule::default()), start());
    let now = now + eject(&health, now).1;
    let throttled = Outcome::Throttled { retry_after: Some(seconds(7)) };
    assert_eq!(health.ask(Some("m"), now).told(&health, Some("m"), throttled, now), Some(Change::Readmitted));
    assert!(matches!(health.ask(Some("m"), now), Verdict::Throttled { until } if until == now + seconds(7)));
    assert!(is_fit(&health.ask(Some("n"), now)));
}

#[test]
fn what_was_sent_before_an_ejection_says_nothing_and_what_was_sent_after_it_readmits() {
    let (health, now) = (health(HealthRule::default()), start());
    let lasts = eject(&health, now).1;
    let later = now + seconds(2);
    let took = |time| Outcome::Answered { status: 200, first_byte: seconds(time) };
    assert_eq!(health.told(None, took(3), later), None);
    assert_eq!(health.told(None, took(2), later), None, "sent as it was ejected");
    (0..50).for_each(|_| assert_eq!(health.told(None, Outcome::TimedOut, later), None));
    assert!(matches!(health.ask(None, later), Verdict::Ejected { until } if until == now + lasts), "nor is it out for longer");
    assert_eq!(health.told(None, took(1), later), Some(Change::Readmitted), "the last resort turned out well");
}

#[test]
fn a_probe_decides_on_its_own_ejection_alone() {
    let (health, now) = (health(HealthRule::default()), start());
    let now = now + eject(&health, now).1;
    let old = health.ask(None, now);
    let now = now + seconds(1);
    assert_eq!(health.told(None, well(), now), Some(Change::Readmitted));
    let now = now + eject(&health, now).1;
    assert!(matches!(health.ask(None, now), Verdict::Ejected { .. }), "the old probe is still under way");
    assert_eq!(old.told(&health, None, well(), now), None);
    assert!(matches!(health.ask(None, now), Verdict::Probe(_)));
}

#[test]
fn good_health_makes_up_for_ejections_step_by_step() {
    let (health, mut now) = (health(HealthRule::default()), start());
    let mut lasts = eject(&health, now).1;
    for _ in 0..10 {
        now += lasts;
        match health.ask(None, now).told(&health, None, Outcome::Broken, now) {
            Some(Change::Ejected { lasts: next, .. }) => lasts = next,
            other => panic!("{other:?}"),
        }
    }
    assert!((seconds(240)..=seconds(300)).contains(&lasts), "never longer than `max_eject`: {lasts:?}");
    now += lasts;
    assert_eq!(health.ask(None, now).told(&health, None, well(), now), Some(Change::Readmitted));
    // The sixth step is the first of 5 min; one step less and one more is the same.
    let again = eject(&health, now + lasts).1;
    assert!((seconds(240)..=seconds(300)).contains(&again), "{again:?}");
    now += lasts + again;
    assert_eq!(health.ask(None, now).told(&health, None, well(), now), Some(Change::Readmitted));
    let third = eject(&health, now + again * 3).1;
    assert!((seconds(64)..=seconds(80)).contains(&third), "{third:?}");
    now += again * 3 + third;
    assert_eq!(health.ask(None, now).told(&health, None, well(), now), Some(Change::Readmitted));
    assert!(eject(&health, now + seconds(3600)).1 <= seconds(10));
}

#[test]
fn what_is_switched_off_is_always_fit() {
    let now = start();
    let health = Healths::new().of(&"use1".into(), &Config::Off);
    for _ in 0..100 {
        assert_eq!(health.told(Some("m"), Outcome::Unreachable, now), None);
        assert_eq!(health.told(Some("m"), Outcome::Throttled { retry_after: Some(seconds(60)) }, now), None);
    }
    assert!(is_fit(&health.ask(Some("m"), now)));
}

#[test]
fn a_changed_rule_keeps_what_is_known_and_one_that_is_gone_is_forgotten() {
    let (healths, now, name) = (Healths::new(), start(), Arc::<str>::from("use1"));
    let rule = Config::On(HealthRule::default());
    let before = healths.of(&name, &rule);
    assert!(Arc::ptr_eq(&before, &healths.of(&name, &rule)));
    eject(&before, now);
    assert_eq!(before.told(Some("m"), Outcome::Throttled { retry_after: Some(seconds(60)) }, now), None);
    let after = healths.of(&name, &Config::On(HealthRule { failures: Some(1), window: seconds(5), ..HealthRule::default() }));
    assert!(matches!(after.ask(None, now), Verdict::Ejected { .. }));
    let levels = healths.levels(now);
    let [level] = levels.as_slice() else { panic!("{levels:?}") };
    assert_eq!((&*level.upstream, level.ejected, level.throttled, level.ejections), ("use1", true, 1, [1, 0, 0, 0]));
    // Exchanges that run by the old rule tell the same health.
    assert_eq!(before.told(None, well(), now + seconds(1)), Some(Change::Readmitted));
    assert!(is_fit(&after.ask(None, now)));

    healths.retain(["usw2"]);
    assert_eq!(healths.levels(now), []);
    assert!(is_fit(&healths.of(&name, &rule).ask(Some("m"), now)));
    assert!(is_fit(&healths.of(&name, &Config::Off).ask(None, now)));
    assert_eq!(healths.levels(now), [], "of what is switched off there is nothing to tell");
}

#[test]
fn an_order_has_everyone_in_it_and_the_fit_first() {
    let now = start();
    let health = health(HealthRule::default());
    let due = now + eject(&health, now).1;
    let verdicts = || {
        [
            ("e9", Verdict::Ejected { until: now + seconds(9) }),
            ("t8", Verdict::Throttled { until: now + seconds(8) }),
            ("probe", health.ask(None, due)),
            ("e1", Verdict::Ejected { until: now + seconds(1) }),
            ("fit", Verdict::Fit),
            ("t2", Verdict::Throttled { until: now + seconds(2) }),
        ]
    };
    let names = |ordered: Vec<(&'static str, Verdict)>| ordered.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(order(verdicts())), ["probe", "fit", "t2", "t8", "e1", "e9"]);
    let chosen = |without: &[&str]| choose(verdicts().into_iter().filter(|(name, _)| !without.contains(name))).map(|(name, _)| name);
    assert_eq!(chosen(&[]), Some("probe"));
    assert_eq!(chosen(&["probe"]), Some("fit"));
    assert_eq!(chosen(&["probe", "fit"]), Some("t2"));
    assert_eq!(chosen(&["probe", "fit", "t2", "t8"]), Some("e1"), "never none, where there is one");
    assert_eq!(chosen(&["probe", "fit", "t2", "t8", "e1", "e9"]), None);
}

#[test]
fn choosing_asks_nobody_behind_the_first_that_is_fit() {
    let now = start();
    let (first, second) = (health(HealthRule::default()), health(HealthRule::default()));
    let due = now + eject(&second, now).1;
    let chosen = choose([&first, &second].into_iter().map(|health| (health, health.ask(None, due))));
    assert!(chosen.is_some_and(|(health, _)| Arc::ptr_eq(health, &first)));
    assert!(matches!(second.ask(None, due), Verdict::Probe(_)), "its probe's place is free");
}
