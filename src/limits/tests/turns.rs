//! Calls that wait for their turn. A call is polled when it was woken, and at no other time: one that is not woken in time waits for ever.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use proptest::prelude::*;

use super::*;
use crate::config::limits::{Calendar, Every, Wait, Zone};
use crate::domain::Glob;

type Outcome = Result<Admission, Box<Refused>>;

/// A gateway's calls, each at its own stage.
struct World {
    limits: Arc<Limits>,
    clock: ManualClock,
    calls: Vec<Waiter>,
    /// Those who were admitted, in order.
    admitted: Vec<usize>,
}

struct Waiter {
    tenant: String,
    future: Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    woken: Arc<Woken>,
    polls: usize,
    outcome: Option<Outcome>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl World {
    fn new(rules: &[Rule]) -> Self {
        let clock = ManualClock::starting_at(SystemTime::UNIX_EPOCH);
        let buckets = buckets(Clock::Manual(clock.clone()).monotonic());
        let limits = Limits::build(rules, buckets, Arc::default(), Arc::new(Nobody));
        Self { limits, clock, calls: Vec::new(), admitted: Vec::new() }
    }

    fn reload(&mut self, rules: &[Rule]) {
        self.limits = Limits::build(rules, Arc::clone(&self.limits.buckets), Arc::default(), Arc::new(Nobody));
    }

    /// A call comes, and goes as far as it gets at once; returns its place among all.
    fn comes(&mut self, tenant: &str) -> usize {
        let (limits, clock, name) = (Arc::clone(&self.limits), Clock::Manual(self.clock.clone()), tenant.to_owned());
        let future = async move {
            let (caller, call) = (caller(&name, None), request());
            limits.admit_in_turn(&asks(&caller, &call), &clock).await
        };
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.calls.push(Waiter { tenant: tenant.to_owned(), future: Some(Box::pin(future)), woken, polls: 0, outcome: None });
        self.poll(self.calls.len() - 1);
        self.calls.len() - 1
    }

    fn poll(&mut self, at: usize) {
        let call = &mut self.calls[at];
        call.woken.0.store(false, Ordering::SeqCst);
        let Some(future) = &mut call.future else { return };
        call.polls += 1;
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&call.woken)))) {
            if outcome.is_ok() {
                self.admitted.push(at);
            }
            (call.future, call.outcome) = (None, Some(outcome));
        }
    }

    /// Everyone who was woken goes as far as they get.
    fn run(&mut self) {
        while let Some(at) = self.calls.iter().position(|call| call.future.is_some() && call.woken.0.load(Ordering::SeqCst)) {
            self.poll(at);
        }
    }

    fn turn(&mut self, by: Duration) {
        self.clock.advance(by);
        self.run();
    }

    /// An admitted call ends, or one that waits is given up.
    fn ends(&mut self, at: usize) {
        self.stops(at);
        self.run();
    }

    /// The same, and nobody has noticed yet.
    fn stops(&mut self, at: usize) {
        self.calls[at].future = None;
        if let Some(Ok(admission)) = self.calls[at].outcome.take() {
            admission.settle(None, Now::of(&Clock::Manual(self.clock.clone())));
        }
    }

    fn waits(&self, at: usize) -> bool {
        self.calls[at].future.is_some()
    }

    fn runs(&self, at: usize) -> bool {
        matches!(self.calls[at].outcome, Some(Ok(_)))
    }

    fn refused(&self, at: usize) -> &Refused {
        self.calls[at].outcome.as_ref().unwrap().as_ref().unwrap_err()
    }

    fn running(&self) -> Vec<usize> {
        (0..self.calls.len()).filter(|at| self.runs(*at)).collect()
    }

    fn waiting(&self) -> Vec<usize> {
        (0..self.calls.len()).filter(|at| self.waits(*at)).collect()
    }

    /// Ends the calls under way, one after the other, until none is; tells the tenants in the order of their admission since `from`.
    fn drains(&mut self, from: usize) -> String {
        while let Some(at) = self.running().first().copied() {
            self.ends(at);
        }
        self.admitted[from..].iter().map(|at| self.calls[*at].tenant.as_str()).collect()
    }

    fn is_empty(&self) -> bool {
        self.limits.waiting() == 0 && self.limits.buckets.queues.is_empty() && self.limits.buckets.dump().values().all(|b| b.held == 0)
    }
}

fn request() -> Call {
    Call { service: Service::BEDROCK_RUNTIME, path: "/".into(), query: "".into(), model: None, asked: Asked::default() }
}

fn asks<'a>(principal: &'a Principal, call: &'a Call) -> Ask<'a> {
    Ask { principal, call, route: "everything", address: None, price: &|_| Cost::Nothing }
}

fn waits(queue: u32) -> Wait {
    Wait { time: 2 * SECOND, queue, shares: vec![(Glob::new("c*"), 3)] }
}

/// So many calls at once, and others wait.
fn at_once(name: &str, max: u64, per: &[Dimension], queue: u32) -> Rule {
    Rule { per: per.into(), wait: Some(waits(queue)), ..Rule::new(name, Count::Concurrency, Bound::Max(max)) }
}

fn global(max: u64, queue: u32) -> Rule {
    at_once("all", max, &[], queue)
}

#[test]
fn a_call_that_fits_does_not_wait_and_one_that_does_not_waits_until_it_does() {
    let mut world = World::new(&[global(1, 10)]);
    let (first, second) = (world.comes("a"), world.comes("a"));
    assert!(world.runs(first) && world.waits(second));
    assert_eq!((world.limits.waiting(), world.calls[first].polls), (1, 1));
    world.ends(first);
    assert!(world.runs(second));
    world.ends(second);
    assert!(world.is_empty());
}

#[test]
fn a_tenants_burst_does_not_starve_another_tenant() {
    let mut world = World::new(&[global(2, 1_000)]);
    for _ in 0..500 {
        world.comes("f");
    }
    let before = world.admitted.len();
    for _ in 0..3 {
        let small = world.comes("s");
        // One of the flood at most has its turn before it.
        for _ in 0..2 {
            let oldest = world.running()[0];
            world.ends(oldest);
        }
        assert!(world.runs(small));
        world.ends(small);
    }
    assert!(world.admitted.len() - before <= 9);
    world.drains(before);
    assert_eq!(world.admitted.len(), 503);
    assert!(world.is_empty());
}

#[test]
fn tenants_take_turns_each_as_many_in_a_row_as_they_have_shares() {
    let mut world = World::new(&[global(1, 100)]);
    world.comes("x");
    for tenant in ["a", "a", "a", "a", "b", "b", "c", "c", "c", "c", "c"] {
        world.comes(tenant);
    }
    assert_eq!(world.drains(1), "abcccabccaa");
    assert!(world.is_empty());
}

#[test]
fn within_a_tenant_it_is_first_come_first_served() {
    let mut world = World::new(&[global(1, 100)]);
    let came: Vec<usize> = (0..20).map(|n| world.comes(if n % 2 == 0 { "a" } else { "b" })).collect();
    world.drains(0);
    assert_eq!(world.admitted, came);
}

#[test]
fn nobody_passes_those_who_wait_though_there_is_room() {
    let slow = Rule { wait: Some(waits(10)), ..rule("slow", 1, SECOND, 1, &[]) };
    let mut world = World::new(&[slow]);
    let (first, second) = (world.comes("a"), world.comes("a"));
    assert!(world.runs(first) && world.waits(second));
    // It refills, and before the one who waits so much as notices, another comes.
    world.clock.advance(SECOND);
    let third = world.comes("b");
    assert!(world.waits(third));
    world.run();
    assert!(world.runs(second) && world.waits(third));
    world.turn(SECOND);
    assert!(world.runs(third), "it waits a second more, as it would have been told");
    assert!(world.is_empty());
}

#[test]
fn who_a_rule_is_not_for_does_not_wait_in_its_queue() {
    let mut own = at_once("own", 1, &[], 10);
    own.of.tenants = vec![Glob::new("a")];
    let mut world = World::new(&[own, at_once("each", 5, &[Dimension::Tenant], 10)]);
    let (first, second) = (world.comes("a"), world.comes("a"));
    let other = world.comes("b");
    assert!(world.runs(first) && world.waits(second) && world.runs(other));
}

#[test]
fn only_the_first_of_a_queue_is_woken() {
    let mut world = World::new(&[global(1, 1_000)]);
    let first = world.comes("a");
    let came: Vec<usize> = (0..100).map(|n| world.comes(&format!("t{n}"))).collect();
    world.ends(first);
    assert!(world.runs(came[0]));
    assert_eq!(world.calls[came[0]].polls, 2);
    assert!(world.calls[came[1]].polls <= 2, "it has become the first");
    assert!(came[2..].iter().all(|at| world.calls[*at].polls == 1));
}

#[test]
fn all_that_was_given_back_at_once_is_taken_at_once() {
    let mut world = World::new(&[global(3, 100)]);
    let first: Vec<usize> = (0..3).map(|_| world.comes("a")).collect();
    let then: Vec<usize> = (0..5).map(|_| world.comes("a")).collect();
    for at in &first {
        world.stops(*at);
    }
    // Three times the one first was called; it passes the turn on.
    world.run();
    assert_eq!(world.running(), then[..3]);
}

#[test]
fn the_time_to_wait_ends_with_a_refusal_and_not_before() {
    let mut world = World::new(&[global(1, 10)]);
    let first = world.comes("a");
    let (second, third) = (world.comes("a"), world.comes("b"));
    world.turn(just_under(2 * SECOND));
    assert!(world.waits(second) && world.waits(third));
    let late = world.comes("b");
    world.turn(Duration::from_nanos(1));
    for at in [second, third] {
        let refused = world.refused(at);
        assert_eq!((refused.rejection.reason, refused.rejection.retry_after), (Reason::RateLimited, Some(SECOND)));
        assert_eq!(&*refused.rule, "all");
    }
    assert!(world.waits(late));
    world.ends(first);
    assert!(world.runs(late));
}

#[test]
fn who_has_waited_in_vain_is_told_when_the_call_would_pass_now() {
    let slow = Rule { wait: Some(waits(10)), ..rule("slow", 1, 10 * SECOND, 1, &[]) };
    let mut world = World::new(&[slow]);
    world.comes("a");
    let (first, second) = (world.comes("a"), world.comes("a"));
    world.turn(2 * SECOND);
    assert_eq!(world.refused(first).rejection.retry_after, Some(8 * SECOND));
    assert_eq!(world.refused(second).rejection.retry_after, Some(8 * SECOND));
    assert!(world.is_empty());
}

#[test]
fn who_leaves_is_forgotten_and_the_turn_passes_on() {
    let mut world = World::new(&[global(1, 10)]);
    let first = world.comes("a");
    let waiting: Vec<usize> = (0..5).map(|_| world.comes("a")).collect();
    // The first of the queue, one in its middle, and one that is called in the very moment.
    world.ends(waiting[0]);
    world.ends(waiting[2]);
    assert_eq!(world.limits.waiting(), 3);
    world.stops(first);
    world.ends(waiting[1]);
    assert!(world.runs(waiting[3]) && world.waits(waiting[4]));
    world.drains(0);
    assert!(world.is_empty());
}

#[test]
fn a_full_queue_refuses_whoever_has_their_part_of_it() {
    let mut world = World::new(&[global(1, 10)]);
    world.comes("a");
    for _ in 0..10 {
        assert!(matches!(world.comes("a"), at if world.waits(at)));
    }
    let eleventh = world.comes("a");
    assert_eq!(world.refused(eleventh).rejection.reason, Reason::RateLimited);
    assert_eq!(world.limits.waiting(), 10);
}

#[test]
fn a_full_queue_has_room_for_a_tenant_that_has_less_than_their_part() {
    let mut world = World::new(&[global(1, 10)]);
    let first = world.comes("a");
    let flood: Vec<usize> = (0..10).map(|_| world.comes("a")).collect();
    let others: Vec<usize> = (0..6).map(|_| world.comes("b")).collect();
    world.run();
    assert_eq!(others.iter().filter(|at| world.waits(**at)).count(), 5, "half of it, and not more");
    assert!(flood[..5].iter().all(|at| world.waits(*at)), "who came first stays");
    assert!(flood[5..].iter().all(|at| world.refused(*at).rejection.reason == Reason::RateLimited));
    // Three shares of five.
    let favoured: Vec<usize> = (0..10).map(|_| world.comes("c")).collect();
    world.run();
    assert_eq!(favoured.iter().filter(|at| world.waits(**at)).count(), 6);
    assert_eq!(world.limits.waiting(), 10);
    world.ends(first);
    world.drains(0);
    assert!(world.is_empty());
}

#[test]
fn all_queues_together_are_bounded() {
    let world = World::new(&[global(1, 1_000_000)]);
    let (caller, call) = (caller("a", None), request());
    let ask = asks(&caller, &call);
    let now = Now::of(&Clock::Manual(world.clock.clone()));
    let _first = world.limits.admit(&ask, now).unwrap();
    let waiting: Vec<_> = std::iter::from_fn(|| world.limits.admit_or_wait(&ask, now).ok()).take(100_001).collect();
    assert_eq!((waiting.len(), world.limits.waiting()), (100_000, 100_000));
    drop(waiting);
    assert_eq!(world.limits.waiting(), 0);
    assert!(world.limits.buckets.queues.is_empty());
}

#[test]
fn a_call_that_another_bucket_keeps_waits_there_and_lets_others_pass() {
    let mut world = World::new(&[global(2, 10), at_once("each", 1, &[Dimension::Tenant], 10)]);
    let (first, second) = (world.comes("x"), world.comes("a"));
    // The gateway is full; then there is room, but tenant `a` has its one call under way.
    let (third, fourth) = (world.comes("a"), world.comes("b"));
    assert!(world.waits(third) && world.waits(fourth));
    world.ends(first);
    assert!(world.waits(third) && world.runs(fourth));
    // Its time is counted from its arrival, wherever it waits.
    world.turn(SECOND);
    world.ends(second);
    assert!(world.runs(third));
    world.ends(fourth);
    let fifth = world.comes("a");
    world.turn(SECOND);
    world.turn(SECOND);
    assert_eq!(&*world.refused(fifth).rule, "each");
    world.drains(0);
    assert!(world.is_empty());
}

#[test]
fn what_no_wait_would_change_is_refused_at_once() {
    let budget = Bound::Quota { limit: 2, calendar: Calendar { every: Every::Day, starts_on: 1, zone: Zone::UTC } };
    let rules = [global(2, 10), Rule::new("budget", Count::Requests, budget), per_user("fast", 2, HOUR, 2)];
    let mut world = World::new(&rules);
    for tenant in ["a", "b"] {
        world.comes(tenant);
    }
    let waiting = world.comes("a");
    assert!(world.waits(waiting), "it is only the gateway that is full");
    world.comes("a");
    world.ends(0);
    assert!(world.runs(waiting));
    let spent = world.comes("a");
    assert_eq!(world.refused(spent).rejection.reason, Reason::BudgetSpent, "others wait, and this one need not");
}

#[test]
fn a_rule_that_lets_nobody_wait_refuses_whose_turn_has_come() {
    let mut world = World::new(&[global(1, 10), per_tenant(1, HOUR, 2)]);
    let first = world.comes("a");
    let (second, third, other) = (world.comes("a"), world.comes("a"), world.comes("b"));
    assert!(world.waits(second) && world.waits(third) && world.waits(other));
    world.ends(first);
    assert!(world.runs(second));
    world.ends(second);
    world.drains(0);
    assert_eq!(&*world.refused(third).rule, "rpm");
    assert_eq!(world.admitted.len(), 3);
    assert!(world.is_empty());
}

#[test]
fn a_call_of_the_rules_before_a_reload_wakes_one_of_those_after_it() {
    let mut world = World::new(&[global(1, 10)]);
    let first = world.comes("a");
    let second = world.comes("a");
    world.reload(&[per_tenant(100, SECOND, 100), global(1, 10)]);
    let third = world.comes("a");
    assert!(world.waits(second) && world.waits(third));
    world.ends(first);
    assert!(world.runs(second));
    world.ends(second);
    assert!(world.runs(third));
}

#[test]
fn what_was_never_sent_wakes_who_waits_for_it() {
    let slow = Rule { wait: Some(waits(10)), ..rule("slow", 1, HOUR, 1, &[]) };
    let mut world = World::new(&[slow]);
    let (first, second) = (world.comes("a"), world.comes("a"));
    drop(world.calls[first].outcome.take());
    world.run();
    assert!(world.runs(second));
}

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
            prop_assert_eq!(waiting.len(), world.limits.waiting());
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
