//! Random histories against a model that is written another way: it keeps every event, and counts anew each time.

use proptest::prelude::*;

use super::super::{Change, Probe, Verdict};
use super::*;
use crate::domain::Ejection;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Well,
    Slow,
    Failed,
    Throttled,
}

#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Ask,
    /// A try that is no probe, and how many milliseconds it took.
    Told(Kind, u64),
    ProbeTold(Kind),
    ProbeDropped,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![4 => Just(Kind::Well), 1 => Just(Kind::Slow), 5 => Just(Kind::Failed), 1 => Just(Kind::Throttled)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0_u64..500).prop_map(Event::Wait),
        1 => (0_u64..20_000).prop_map(Event::Wait),
        3 => Just(Event::Ask),
        8 => (kind(), 0_u64..15_000).prop_map(|(kind, took)| Event::Told(kind, took)),
        2 => kind().prop_map(Event::ProbeTold),
        1 => Just(Event::ProbeDropped),
    ]
}

fn rule() -> impl Strategy<Value = HealthRule> {
    let rates = (proptest::option::of(1_u8..=100), proptest::bool::ANY, 1_u8..=100);
    (proptest::option::of(1_u32..6), rates, 1_u64..20, 1_u32..12, 1_u64..8, 1_u64..40).prop_map(
        |(failures, (error_rate, bound, slow_rate), window, min_requests, eject, times)| HealthRule {
            failures,
            error_rate,
            first_byte: bound.then_some(BOUND),
            slow_rate,
            window: seconds(window),
            min_requests,
            eject: seconds(eject),
            max_eject: seconds(eject * times),
        },
    )
}

/// Longer than anything that is well takes.
const BOUND: Duration = seconds(20);

struct Model {
    rule: HealthRule,
    begin: Instant,
    now: Instant,
    /// When the first try was counted: tenths of the window begin there.
    first: Option<Instant>,
    counted: Vec<(Instant, Kind)>,
    /// Since and until.
    ejected: Option<(Instant, Instant)>,
    /// Which ejection it is.
    number: u32,
    row: u32,
    last: Duration,
    readmitted: Option<Instant>,
}

impl Model {
    /// The tenth of the window that `at` is in.
    fn tenth(&self, at: Instant) -> u128 {
        (at - self.first.unwrap_or(at)).as_nanos() / (self.rule.window / 10).as_nanos()
    }

    fn why(&self) -> Option<Ejection> {
        let row = self.counted.iter().rev().take_while(|(_, kind)| *kind == Kind::Failed).count();
        let rule = &self.rule;
        if rule.failures.is_some_and(|most| row >= most as usize) {
            return Some(Ejection::Failures);
        }
        let window: Vec<Kind> =
            self.counted.iter().filter(|(at, _)| self.tenth(*at) + 10 > self.tenth(self.now)).map(|(_, kind)| *kind).collect();
        let share = |kind: Kind| window.iter().filter(|counted| **counted == kind).count() * 100;
        let reaches = |kind: Kind, percent: u8| share(kind) >= usize::from(percent) * window.len();
        if window.len() < rule.min_requests as usize {
            return None;
        }
        if rule.error_rate.is_some_and(|percent| reaches(Kind::Failed, percent)) {
            return Some(Ejection::ErrorRate);
        }
        (rule.first_byte.is_some() && reaches(Kind::Slow, rule.slow_rate)).then_some(Ejection::FirstByte)
    }

    /// The full length of the next ejection, before it is made a little shorter.
    fn length(&mut self, why: Ejection) -> Duration {
        let forgiven = match (why, self.readmitted) {
            (Ejection::Probe, _) | (_, None) => 0,
            (_, Some(since)) => (self.now - since).as_nanos() / self.last.as_nanos(),
        };
        self.row = self.row.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX)) + 1;
        let grown = |row: u32| self.rule.eject * 2_u32.pow(row - 1);
        // Beyond the first that is as long as any may be, more in a row are no more.
        self.row = (1..=self.row).find(|row| grown(*row) >= self.rule.max_eject).unwrap_or(self.row);
        grown(self.row).min(self.rule.max_eject)
    }

    /// What the change must be: none, or why, or readmitted.
    fn expect(&mut self, kind: Kind, decides_well: bool, decides_failed: bool) -> Option<Result<Ejection, ()>> {
        let slow_is_bad = self.rule.first_byte.is_some();
        let kind = if kind == Kind::Slow && !slow_is_bad { Kind::Well } else { kind };
        match (self.ejected, kind) {
            (Some(_), Kind::Well | Kind::Throttled) => decides_well.then_some(Err(())),
            (Some(_), Kind::Slow | Kind::Failed) => decides_failed.then_some(Ok(Ejection::Probe)),
            (None, Kind::Throttled) => None,
            (None, _) => {
                self.first.get_or_insert(self.now);
                self.counted.push((self.now, kind));
                // Only what is bad can make it worse.
                if kind == Kind::Well { None } else { self.why().map(Ok) }
            }
        }
    }

    fn check(&mut self, expected: Option<Result<Ejection, ()>>, change: Option<Change>) -> Result<(), TestCaseError> {
        match (expected, change) {
            (None, None) => {}
            (Some(Err(())), Some(Change::Readmitted)) => {
                self.ejected = None;
                self.readmitted = Some(self.now);
                self.counted.clear();
            }
            (Some(Ok(expected)), Some(Change::Ejected { why, lasts })) => {
                prop_assert_eq!(expected, why);
                let full = self.length(why);
                prop_assert!(full.mul_f64(0.79) <= lasts && lasts <= full && lasts <= self.rule.max_eject, "{lasts:?} of {full:?}");
                self.ejected = Some((self.now, self.now + lasts));
                self.number += 1;
                self.last = lasts;
                self.counted.clear();
            }
            (expected, change) => prop_assert!(false, "{change:?} where {expected:?} should be, at {:?}", self.now - self.begin),
        }
        Ok(())
    }
}

fn outcome(kind: Kind, took: Duration) -> Outcome {
    match kind {
        Kind::Well => Outcome::Answered { status: 200, first_byte: took },
        Kind::Slow => Outcome::Answered { status: 200, first_byte: took.max(BOUND + Duration::from_millis(1)) },
        Kind::Failed => Outcome::Answered { status: 500, first_byte: took },
        Kind::Throttled => Outcome::Throttled { retry_after: None },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn health_is_what_a_model_says_at_every_step(rule in rule(), events in proptest::collection::vec(event(), 0..300)) {
        // Far enough from the beginning of time for every try to have been sent.
        let begin = start() + seconds(3600);
        let health = health(rule.clone());
        let mut model = Model {
            rule, begin, now: begin, first: None, counted: Vec::new(), ejected: None, number: 0, row: 0, last: seconds(1), readmitted: None,
        };
        // The probe, and the ejection that it is of.
        let mut probe: Option<(Probe, u32)> = None;
        for event in events {
            match event {
                Event::Wait(time) => model.now += Duration::from_millis(time),
                Event::Ask => match (health.ask(Some("asked"), model.now), model.ejected) {
                    (Verdict::Fit, None) => {}
                    (Verdict::Ejected { until }, Some((_, expected))) => {
                        prop_assert_eq!(until, expected);
                        prop_assert!(model.now < until || probe.is_some(), "a probe is due, and nobody may");
                    }
                    (Verdict::Probe(guard), Some((_, until))) => {
                        prop_assert!(model.now >= until && probe.is_none(), "never too soon, never two");
                        probe = Some((guard, model.number));
                    }
                    (verdict, ejected) => prop_assert!(false, "{verdict:?} while {ejected:?}"),
                },
                Event::Told(kind, took) => {
                    let took = Duration::from_millis(took);
                    // What is throttled or fails decides nothing.
                    let took = if kind == Kind::Slow { BOUND + Duration::from_millis(1) } else { took };
                    let decides = kind != Kind::Throttled && model.ejected.is_some_and(|(since, _)| since + took < model.now);
                    let expected = model.expect(kind, decides, false);
                    let change = health.told(Some("throttled"), outcome(kind, took), model.now);
                    model.check(expected, change)?;
                }
                Event::ProbeTold(kind) => {
                    let Some((guard, number)) = probe.take() else { continue };
                    let decides = number == model.number;
                    let expected = model.expect(kind, decides, decides);
                    let change = guard.told(Some("throttled"), outcome(kind, Duration::ZERO), model.now);
                    model.check(expected, change)?;
                }
                Event::ProbeDropped => probe = None,
            }
            let levels_agree = health.standing.state.lock().illness.is_ejected() == model.ejected.is_some();
            prop_assert!(levels_agree);
        }
        // Whatever was before: once nobody probes and the time is over, someone may.
        drop(probe);
        let late = model.now + seconds(3600);
        prop_assert!(matches!((health.ask(Some("asked"), late), model.ejected), (Verdict::Fit, None) | (Verdict::Probe(_), Some(_))));
    }
}
