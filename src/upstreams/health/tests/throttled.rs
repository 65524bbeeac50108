use std::collections::HashMap;

use proptest::prelude::*;

use super::super::Verdict;
use super::super::throttled::{MODELS, Throttled};
use super::*;

const LONGEST: Duration = seconds(300);

#[test]
fn a_retry_after_is_honoured_up_to_the_longest_time() {
    let (health, now) = (health(HealthRule::default()), start());
    for (asked, parked) in [(7, 7), (300, 300), (86_400, 300)] {
        let model = format!("m{asked}");
        assert_eq!(health.told(Some(&model), Outcome::Throttled { retry_after: Some(seconds(asked)) }, now), None);
        assert!(matches!(health.ask(Some(&model), now), Verdict::Throttled { until } if until == now + seconds(parked)));
        assert!(matches!(health.ask(Some(&model), now + seconds(parked)), Verdict::Fit));
    }
}

#[test]
fn a_call_that_names_no_model_is_left_alone_by_itself() {
    let (health, now) = (health(HealthRule::default()), start());
    assert_eq!(health.told(None, Outcome::Throttled { retry_after: None }, now), None);
    assert!(matches!(health.ask(None, now), Verdict::Throttled { .. }));
    assert!(matches!(health.ask(Some(""), now), Verdict::Fit));
}

#[test]
fn many_that_were_under_way_are_one_throttling() {
    let (health, now) = (health(HealthRule::default()), start());
    (0..1000).for_each(|_| assert_eq!(health.told(Some("m"), Outcome::Throttled { retry_after: None }, now), None));
    assert!(matches!(health.ask(Some("m"), now), Verdict::Throttled { until } if until <= now + seconds(1)));
}

#[test]
fn asking_takes_no_lock_again_once_all_throttling_is_long_over() {
    let (health, now) = (health(HealthRule::default()), start());
    let concerns = || health.standing.concerns.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(health.told(Some("m"), Outcome::Throttled { retry_after: None }, now), None);
    assert_eq!(concerns(), 1);
    assert!(matches!(health.ask(Some("n"), now + seconds(32)), Verdict::Fit));
    assert_eq!(concerns(), 0);
}

#[test]
fn the_oldest_of_too_many_models_goes() {
    let (mut throttled, now) = (Throttled::default(), start());
    let step = Duration::from_millis(1);
    let name = |n: u32| format!("m{n}");
    for n in 0..=u32::try_from(MODELS).unwrap() {
        throttled.park(Some(&name(n)), Some(seconds(60)), LONGEST, now + step * n);
    }
    assert_eq!(throttled.len(), MODELS);
    assert_eq!(throttled.until(Some("m0"), now + seconds(1)), None);
    assert!((1..=u32::try_from(MODELS).unwrap()).all(|n| throttled.until(Some(&name(n)), now + seconds(1)).is_some()));
}

#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Park(u8, Option<u64>),
    Answered(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0_u64..40_000).prop_map(Event::Wait),
        (0_u64..2_000).prop_map(Event::Wait),
        (0_u8..4, proptest::option::weighted(0.3, 0_u64..400_000)).prop_map(|(model, asked)| Event::Park(model, asked)),
        (0_u8..4).prop_map(Event::Answered),
    ]
}

proptest! {
    #[test]
    fn a_model_is_left_alone_as_long_as_it_should_be(events in proptest::collection::vec(event(), 0..300)) {
        let (mut throttled, mut now) = (Throttled::default(), start());
        // By model: until when, and how often in a row.
        let mut known: HashMap<u8, (Instant, u32)> = HashMap::new();
        let name = |model: u8| Some(["a", "b", "c", "d"][usize::from(model)]);
        for event in events {
            match event {
                Event::Wait(time) => now += Duration::from_millis(time),
                Event::Answered(model) => {
                    throttled.answered(name(model), now);
                    if known.get(&model).is_some_and(|(until, _)| *until <= now) {
                        known.remove(&model);
                    }
                }
                Event::Park(model, asked) => {
                    let before = known.get(&model).copied().filter(|(until, _)| now < *until + seconds(30));
                    throttled.park(name(model), asked.map(Duration::from_millis), LONGEST, now);
                    let until = throttled.until(name(model), now).unwrap_or(now);
                    let asked = asked.filter(|asked| *asked > 0).map(|asked| Duration::from_millis(asked).min(LONGEST));
                    let steps = match (before, asked) {
                        (Some((old, steps)), None) if now < old => {
                            prop_assert_eq!(until, old);
                            steps
                        }
                        (Some((old, steps)), Some(asked)) if now < old => {
                            prop_assert_eq!(until, old.max(now + asked));
                            steps
                        }
                        (before, asked) => {
                            let steps = before.map_or(1, |(_, steps)| (steps + 1).min(6));
                            let full = seconds([1, 2, 4, 8, 16, 30][steps as usize - 1]);
                            match asked {
                                Some(asked) => prop_assert_eq!(until, now + asked),
                                None => prop_assert!(now + full.mul_f64(0.79) <= until && until <= now + full, "{:?}", until - now),
                            }
                            steps
                        }
                    };
                    known.insert(model, (until, steps));
                }
            }
            for model in 0..4 {
                let expected = known.get(&model).map(|(until, _)| *until).filter(|until| now < *until);
                prop_assert_eq!(throttled.until(name(model), now), expected);
            }
            prop_assert!(throttled.len() <= 4 && throttled.parked(now) <= throttled.len());
        }
    }
}
