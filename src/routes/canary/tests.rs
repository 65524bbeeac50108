//! Up as the steps say, back when it is worse, and not by chance.

use proptest::prelude::*;

use super::super::tests::{configured, routes};
use super::super::{Canaries, Routes};
use super::*;
use crate::domain::Clock;

const HOUR: Duration = Duration::from_hours(1);
const RULE: &str = "steps: [5%, 25%, 50%, 100%], every: 1h, errors: 2%, first_token: 25%, window: 10m, min_requests: 100";

fn yaml(rule: &str) -> String {
    format!(
        "- {{ name: chat, to: [{{ name: stable, upstream: use1, weight: 70 }}, {{ upstream: usw2, weight: 25 }}, \
         {{ name: new, upstream: use1, model: us.anthropic.claude-sonnet-5, promote: {{ {rule} }} }}] }}"
    )
}

/// A canary that serves, and its time.
struct At {
    canaries: Canaries,
    routes: Routes,
    now: Instant,
    wall: SystemTime,
    random: fastrand::Rng,
}

/// What is seen of a side: so many of a thousand calls fail, and the first token takes so long, give or take.
#[derive(Clone, Copy, Debug)]
struct Like {
    failing: u32,
    first_token: f64,
}

const WELL: Like = Like { failing: 10, first_token: 0.8 };

impl At {
    fn new(rule: &str, kept: Vec<KeptCanary>) -> Self {
        Self::begun(rule, kept, SystemTime::UNIX_EPOCH + Duration::from_hours(500_000))
    }

    fn begun(rule: &str, kept: Vec<KeptCanary>, wall: SystemTime) -> Self {
        let canaries = Canaries::new(kept);
        let routes = Routes::build_among(&configured(&yaml(rule)), &canaries);
        let now = Clock::System.monotonic();
        canaries.follow(&routes, now, wall);
        Self { canaries, routes, now, wall, random: fastrand::Rng::with_seed(7) }
    }

    fn canary(&self) -> Arc<Canary> {
        Arc::clone(self.routes.canaries().next().unwrap())
    }

    fn share(&self) -> u32 {
        self.canary().share().now()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.wall += time;
    }

    fn tick(&mut self) -> Option<Step> {
        let mut steps = self.canaries.tick(self.now, self.wall);
        assert!(steps.len() < 2);
        steps.pop()
    }

    /// A call of either, by the canary's share.
    fn call(&mut self, canary: Like, baseline: Like) {
        let share = self.share();
        let side = if self.random.u32(..Share::ALL) < share { Side::Canary } else { Side::Baseline };
        let Like { failing, first_token } = if side == Side::Canary { canary } else { baseline };
        let failed = self.random.u32(..1000) < failing;
        // The sum of uniform ones is near enough to a normal one; its exponential has the long tail that models have.
        let normal = (0..12).map(|_| self.random.f64()).sum::<f64>() - 6.0;
        let first_token = (!failed).then(|| Duration::from_secs_f64(first_token * (0.6 * normal).exp()));
        self.canary().saw(side, Outcome { failed, first_token }, self.now);
    }

    /// So many seconds with so many calls each; the steps that were made.
    fn run(&mut self, seconds: u64, calls: u32, canary: Like, baseline: Like) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..seconds {
            self.pass(Duration::from_secs(1));
            (0..calls).for_each(|_| self.call(canary, baseline));
            steps.extend(self.tick());
        }
        steps
    }
}

fn shares(steps: &[Step]) -> Vec<(u32, u32)> {
    steps.iter().map(|step| (step.from, step.to)).collect()
}

#[test]
fn a_canary_that_is_as_good_gets_everything_on_schedule() {
    let mut at = At::new(RULE, Vec::new());
    assert_eq!(at.share(), 50_000);
    let steps = at.run(3 * 3600 - 1, 10, WELL, WELL);
    assert_eq!(shares(&steps), [(50_000, 250_000), (250_000, 500_000)]);
    assert_eq!(shares(&at.run(1, 10, WELL, WELL)), [(500_000, 1_000_000)]);
    // There is no baseline any more, and what it was is out of date after a step's time.
    assert_eq!(shares(&at.run(4000, 10, WELL, WELL)), []);
    let worse = Like { failing: 900, ..WELL };
    assert_eq!(shares(&at.run(4000, 10, worse, WELL)), []);
    assert_eq!(at.share(), Share::ALL);
}

#[test]
fn a_canary_that_fails_is_back_at_nothing_within_the_window_and_stays_there() {
    for at_step in 0..4 {
        let mut at = At::new(RULE, Vec::new());
        at.run(at_step * 3600 + 1200, 10, WELL, WELL);
        let from = at.share();
        let worse = Like { failing: 200, ..WELL };
        let steps = at.run(600, 10, worse, WELL);
        assert_eq!(shares(&steps), [(from, 0)], "step {at_step}");
        assert_eq!(steps[0].why, Some(Why::Errors));
        assert!(steps[0].canary.error_rate() > steps[0].baseline.error_rate() + 0.02);
        assert_eq!(shares(&at.run(2 * 3600, 10, WELL, WELL)), [], "step {at_step}");
        assert!(at.share() == 0 && at.canary().level(at.now).is_back);
    }
}

#[test]
fn a_canary_that_is_slow_is_stepped_back_unless_nobody_asks_for_its_time() {
    let slow = Like { first_token: WELL.first_token * 1.6, ..WELL };
    let mut at = At::new(RULE, Vec::new());
    at.run(3700, 10, WELL, WELL);
    let steps = at.run(600, 10, slow, WELL);
    assert_eq!((shares(&steps), steps[0].why), (vec![(250_000, 0)], Some(Why::FirstToken)));
    let mut at = At::new(&RULE.replace("25%, window", "off, window"), Vec::new());
    assert!(at.run(3 * 3600, 10, slow, WELL).iter().all(|step| step.why.is_none()));
    // Within the margin.
    let mut at = At::new(RULE, Vec::new());
    let little = Like { first_token: WELL.first_token * 1.1, ..WELL };
    assert!(at.run(3 * 3600, 10, little, WELL).iter().all(|step| step.why.is_none()));
}

/// Six calls a second, of which the canary has one in twenty at first: with so few a margin alone is exceeded all the time.
#[test]
fn sides_that_are_alike_are_told_apart_by_no_chance() {
    let mut beyond_the_margin = 0;
    for seed in 0..15 {
        for failing in [5, 30, 150] {
            let mut at = At::new(&RULE.replace("errors: 2%", "errors: 1%"), Vec::new());
            at.random = fastrand::Rng::with_seed(seed);
            let like = Like { failing, ..WELL };
            let mut steps = Vec::new();
            for _ in 0..1100 {
                at.pass(Duration::from_secs(10));
                (0..60).for_each(|_| at.call(like, like));
                steps.extend(at.tick());
                let level = at.canary().level(at.now);
                beyond_the_margin += u32::from(
                    level.canary.calls.min(level.baseline.calls) >= 100 && level.canary.error_rate() > level.baseline.error_rate() + 0.01,
                );
            }
            assert!(steps.iter().all(|step| step.why.is_none()), "{seed} {failing}: {steps:?}");
        }
    }
    assert!(beyond_the_margin > 1000, "chance was beyond the margin {beyond_the_margin} times");
}

#[test]
fn without_enough_calls_nothing_is_judged_and_nothing_grows() {
    let mut at = At::new(RULE, Vec::new());
    for _ in 0..99 {
        at.canary().saw(Side::Canary, Outcome { failed: true, first_token: None }, at.now);
    }
    (0..1000).for_each(|_| at.canary().saw(Side::Baseline, Outcome { failed: false, first_token: None }, at.now));
    assert_eq!(at.tick(), None);
    at.pass(2 * HOUR);
    assert_eq!(at.tick(), None);
    assert_eq!(at.share(), 50_000);
    (0..100).for_each(|_| at.canary().saw(Side::Canary, Outcome { failed: false, first_token: None }, at.now));
    (0..100).for_each(|_| at.canary().saw(Side::Baseline, Outcome { failed: false, first_token: None }, at.now));
    assert_eq!(at.tick().map(|step| step.to), Some(250_000), "the time was over, and now there is something to go by");
    // One failure more, within the first window, and it is the hundredth.
    let mut at = At::new(RULE, Vec::new());
    (0..100).for_each(|_| at.canary().saw(Side::Canary, Outcome { failed: true, first_token: None }, at.now));
    (0..100).for_each(|_| at.canary().saw(Side::Baseline, Outcome { failed: false, first_token: None }, at.now));
    assert_eq!(at.tick().map(|step| step.to), Some(0));
}

#[test]
fn calls_are_shared_out_by_the_step_and_only_those_that_the_canary_gains_move() {
    let principal = |user: usize| crate::domain::Principal {
        tenant: "acme".into(),
        user: Some(format!("user-{user}").into()),
        groups: [].into(),
        method: crate::domain::Method::Jwt,
        key_id: None,
    };
    let mut at = At::new(RULE, Vec::new());
    at.routes = Routes::build_among(&configured(&yaml(RULE).replace("name: chat,", "name: chat, sticky: user,")), &at.canaries);
    let call = crate::domain::Call {
        service: crate::domain::Service::BEDROCK_RUNTIME,
        path: "/model/x/converse".into(),
        query: "".into(),
        model: Some("x".into()),
        asked: crate::domain::Asked::default(),
    };
    let headers = http::HeaderMap::new();
    let users: Vec<_> = (0..100_000).map(principal).collect();
    let placed = |routes: &Routes| -> Vec<Arc<str>> {
        let of = |principal| {
            let asking = super::super::Asking { principal, method: "POST", call: &call, stage: None, host: None, headers: &headers };
            Arc::clone(&routes.routes[0].order(&asking)[0].name)
        };
        users.iter().map(of).collect()
    };
    let mut before = placed(&at.routes);
    for share in [50_000, 250_000, 500_000, 1_000_000] {
        assert_eq!(at.share(), share);
        let now = placed(&at.routes);
        let of = |name: &str| f64::from(u32::try_from(now.iter().filter(|target| ***target == *name).count()).unwrap()) / 1e5;
        let due = f64::from(share) / 1e6;
        for (name, due) in [("new", due), ("stable", (1.0 - due) * 70.0 / 95.0), ("usw2", (1.0 - due) * 25.0 / 95.0)] {
            assert!((of(name) - due).abs() < 0.01, "at {share}: {name} has {}, and is due {due}", of(name));
        }
        assert!(before.iter().zip(&now).all(|(from, to)| from == to || &**to == "new"), "at {share}");
        before = now;
        at.run(3600, 10, WELL, WELL);
    }
    // Drawn calls, too.
    let mut at = At::new(RULE, Vec::new());
    at.run(3600, 10, WELL, WELL);
    let weights: Vec<u32> = at.routes.routes[0].ways().map(|(target, _)| target.weight.now()).collect();
    let all: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    for (weight, due) in weights.iter().zip([0.75 * 70.0 / 95.0, 0.75 * 25.0 / 95.0, 0.25]) {
        assert!((f64::from(*weight) / all - due).abs() < 1e-6, "{weights:?}");
    }
}

#[test]
fn a_canary_that_was_stepped_back_is_so_after_a_reload_and_a_restart_until_it_is_another() {
    let mut at = At::new(RULE, Vec::new());
    at.run(1200, 10, Like { failing: 300, ..WELL }, WELL);
    assert_eq!(at.share(), 0);
    let again = |canaries: &Canaries, yaml: &str| {
        let routes = Routes::build_among(&configured(yaml), canaries);
        routes.canaries().next().unwrap().share().now()
    };
    let others = yaml(RULE).replace("weight: 70", "weight: 60");
    let [unkept] = at.canaries.unkept().try_into().unwrap();
    let restarted = Canaries::new(vec![unkept.clone()]);
    for canaries in [&at.canaries, &restarted] {
        assert_eq!(again(canaries, &yaml(RULE)), 0);
        assert_eq!(again(canaries, &others), 0, "what is said of others is nothing of the canary's");
        assert_eq!(again(canaries, &yaml(&RULE.replace("errors: 2%", "errors: 3%"))), 50_000);
        assert_eq!(again(canaries, &yaml(RULE).replace("sonnet-5", "sonnet-6")), 50_000);
    }
    at.canaries.keep(unkept);
    assert_eq!(at.canaries.unkept(), []);
    // Taken away, and said again.
    at.canaries.follow(&routes("- { name: chat, to: [{ upstream: use1 }] }"), at.now, at.wall);
    assert_eq!(again(&at.canaries, &yaml(RULE)), 0);
}

#[test]
fn a_step_goes_on_over_a_restart_and_an_operator_begins_anew() {
    let mut at = At::new(RULE, Vec::new());
    at.run(3600 + 1800, 10, WELL, WELL);
    let kept = at.canaries.unkept();
    let mut anew = At::begun(RULE, kept, at.wall);
    assert_eq!(anew.share(), 250_000);
    // An hour from the step, as far as the wall clock tells: half of it is over.
    assert_eq!(shares(&anew.run(1799, 10, WELL, WELL)), []);
    assert_eq!(shares(&anew.run(1, 10, WELL, WELL)), [(250_000, 500_000)]);
    anew.run(1200, 10, Like { failing: 300, ..WELL }, WELL);
    assert_eq!(anew.share(), 0);
    let (level, was) = anew.canaries.reset("chat", anew.now, anew.wall).unwrap();
    assert_eq!((level.share, was, level.is_back, level.canary.calls), (50_000, 0, false, 0));
    assert!(anew.canaries.reset("other", anew.now, anew.wall).is_none());
    assert_eq!(shares(&anew.run(3600, 10, WELL, WELL)), [(50_000, 250_000)]);
}

#[test]
fn of_two_processes_the_later_step_counts() {
    let mut one = At::new(RULE, Vec::new());
    let mut other = At::new(RULE, Vec::new());
    other.run(1200, 10, WELL, WELL);
    one.run(1300, 10, Like { failing: 300, ..WELL }, WELL);
    let (earlier, later) = (other.canaries.unkept(), one.canaries.unkept());
    assert!(one.canaries.adopt(&earlier, one.now).is_empty());
    assert_eq!(other.canaries.adopt(&later, other.now).len(), 1);
    assert_eq!((one.share(), other.share()), (0, 0));
    let another = later.into_iter().map(|kept| KeptCanary { rule: "another".into(), step: Some(1), since: kept.since + HOUR, ..kept });
    assert!(other.canaries.adopt(&another.collect::<Vec<_>>(), other.now).is_empty());
    assert_eq!(other.share(), 0);
}

/// It is kept in ledgers. The value is Python's, of the parts by hand.
#[test]
fn a_rule_has_the_same_hash_in_every_version() {
    let hash = |yaml: &str| hash(&configured(yaml)[0]).unwrap();
    assert_eq!(&*hash(&yaml(RULE)), "95c6eaf3312db7bca6837f7e11df63af");
    let tenants = yaml(RULE)
        .replace("model: us.anthropic.claude-sonnet-5", "model: { acme: us.amazon.nova-pro-v1:0, default: us.amazon.nova-lite-v1:0 }");
    assert_ne!(hash(&yaml(RULE)), hash(&tenants));
}

#[test]
fn no_more_is_remembered_than_there_is_room_for() {
    let kept = |n: u64| KeptCanary {
        route: format!("r{n}").into(),
        rule: "x".into(),
        step: Some(0),
        since: SystemTime::UNIX_EPOCH + Duration::from_secs(n),
    };
    let canaries = Canaries::new((0..2000).map(kept).collect());
    (2000..3000).for_each(|n| canaries.keep(kept(n)));
    let held = canaries.kept();
    assert_eq!(held.len(), 1000);
    assert!(held.contains(&kept(2999)) && !held.contains(&kept(0)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn shares_are_only_those_of_the_steps_one_after_another_and_nothing_is_final(
        calls in prop::collection::vec((0_u64..400, 0_u32..300, 0_u32..300, 0_u32..60, 0_u32..60), 1..120),
    ) {
        let mut at = At::new("steps: [1%, 10%, 40%], every: 5m, window: 1m, min_requests: 20", Vec::new());
        let (mut share, mut since) = (at.share(), at.now);
        let steps = [10_000, 100_000, 400_000];
        for (seconds, canary, baseline, bad, bad_baseline) in calls {
            at.pass(Duration::from_secs(seconds));
            for (side, number, bad) in [(Side::Canary, canary, bad), (Side::Baseline, baseline, bad_baseline)] {
                (0..number).for_each(|n| at.canary().saw(side, Outcome { failed: n < bad, first_token: None }, at.now));
            }
            let level = at.canary().level(at.now);
            let enough = level.canary.calls.min(level.baseline.calls) >= 20;
            let step = at.tick();
            let now = at.share();
            prop_assert_eq!(step.is_some(), now != share);
            // Far worse, whatever chance: all that failed are the canary's, and half of its calls.
            let hopeless = enough && level.baseline.failed == 0 && level.canary.failed * 2 >= level.canary.calls
                && level.canary.failed >= 20 && level.canary.calls <= level.baseline.calls;
            if hopeless {
                prop_assert_eq!(now, 0);
            }
            if let Some(step) = step {
                prop_assert_eq!((step.from, step.to), (share, now));
                prop_assert!(enough && share > 0);
                if now == 0 {
                    prop_assert!(level.canary.error_rate() > level.baseline.error_rate() + 0.01);
                } else {
                    let before = steps.iter().position(|step| *step == share).unwrap();
                    prop_assert_eq!(now, steps[before + 1]);
                    prop_assert!(at.now - since >= Duration::from_mins(5));
                }
                (share, since) = (now, at.now);
            }
        }
    }
}
