//! Where calls went, and what became of each try. Names come from the configuration, which bounds them; so does a number, since every reload may bring new ones.

use std::collections::HashMap;

use parking_lot::RwLock;
use prometheus::{IntCounter, IntCounterVec};

use super::super::entry::Entry;
use super::super::families::Families;
use super::super::labels::{Attempt, Mirrored};
use super::super::series::OTHER;
use super::{Metrics, child};

/// So many upstreams have series of their own, those that a reload took away included; what comes beyond is `other`.
const MOST_UPSTREAMS: usize = 256;
/// So many targets of routes have, and so many ways from one to another.
pub(in super::super) const MOST_WAYS: usize = 1_000;

type Outcomes = [IntCounter; Attempt::ALL.len()];

/// What upstreams did, and which targets routes chose.
pub(super) struct Upstreams {
    attempts: IntCounterVec,
    /// The outcomes of tries, by upstream.
    outcomes: RwLock<HashMap<Box<str>, Outcomes>>,
    answered: ByRoute<1>,
    failovers: ByRoute<2>,
    mirrored: ByRoute<1>,
}

impl Upstreams {
    pub(super) fn build(families: &Families<'_>) -> Self {
        let attempts = "Tries to have a request answered upstream.";
        let answered = "Calls that a target of a route answered, whatever the answer.";
        let failovers = "Tries at one target of a route that were given up for another, before the client had a byte.";
        let mirrored = "Calls of which a copy was to go to their route's mirror.";
        Self {
            attempts: families.counters("tollgate_upstream_attempts_total", attempts, &["upstream", "outcome"]),
            outcomes: RwLock::default(),
            answered: ByRoute::new(families.counters("tollgate_route_requests_total", answered, &["route", "target"])),
            failovers: ByRoute::new(families.counters("tollgate_failovers_total", failovers, &["route", "from", "to"])),
            mirrored: ByRoute::new(families.counters("tollgate_mirrored_total", mirrored, &["route", "outcome"])),
        }
    }

    /// Counts the target that answered, and each step from one target to another. A mirrored call is nobody's choice of a target.
    pub(super) fn count(&self, entry: &Entry<'_>) {
        let (Some(route), Some(target), false) = (entry.route, entry.target, entry.is_mirror()) else { return };
        if entry.head.is_some() {
            self.answered.counter(route, [target]).inc();
        }
        let targets = entry.tried.iter().map(|tried| &*tried.target);
        for (from, to) in targets.clone().zip(targets.skip(1).chain([target])) {
            if from != to {
                self.failovers.counter(route, [from, to]).inc();
            }
        }
    }

    fn attempt(&self, upstream: &str, outcome: Attempt) {
        let known = self.outcomes.read();
        let counter = known.get(upstream).or_else(|| known.get(OTHER)).and_then(|outcomes| child(outcomes, &Attempt::ALL, &outcome));
        if let Some(counter) = counter {
            return counter.inc();
        }
        drop(known);
        let mut known = self.outcomes.write();
        let outcomes = known.entry(OTHER.into()).or_insert_with(|| self.outcomes_of(OTHER));
        if let Some(counter) = child(outcomes, &Attempt::ALL, &outcome) {
            counter.inc();
        }
    }

    fn outcomes_of(&self, upstream: &str) -> Outcomes {
        Attempt::ALL.map(|outcome| self.attempts.with_label_values(&[upstream, outcome.label()]))
    }

    /// So many tries ended so, at whichever upstream.
    pub(super) fn attempts(&self) -> [u64; Attempt::ALL.len()] {
        let mut sums = [0; Attempt::ALL.len()];
        for outcomes in self.outcomes.read().values() {
            for (sum, counter) in sums.iter_mut().zip(outcomes) {
                *sum += counter.get();
            }
        }
        sums
    }

    /// So many times a target was given up for another.
    pub(super) fn failovers(&self) -> u64 {
        self.failovers.sum()
    }
}

/// Counters by a route and names within it.
struct ByRoute<const N: usize> {
    family: IntCounterVec,
    known: RwLock<Known<N>>,
}

/// What is counted of one route: a few names each.
type OfRoute<const N: usize> = Vec<([Box<str>; N], IntCounter)>;

#[derive(Default)]
struct Known<const N: usize> {
    routes: HashMap<Box<str>, OfRoute<N>>,
    number: usize,
}

impl<const N: usize> Known<N> {
    fn find(&self, route: &str, names: [&str; N]) -> Option<&IntCounter> {
        let same = |known: &[Box<str>; N]| known.iter().zip(names).all(|(known, name)| **known == *name);
        self.routes.get(route)?.iter().find(|(known, _)| same(known)).map(|(_, counter)| counter)
    }

    /// The counter of these names, or where there is room for no more, that of `other`.
    fn settled(&self, route: &str, names: [&str; N]) -> Option<IntCounter> {
        let others = || if self.number >= MOST_WAYS { self.find(OTHER, [OTHER; N]) } else { None };
        self.find(route, names).or_else(others).cloned()
    }
}

impl<const N: usize> ByRoute<N> {
    fn new(family: IntCounterVec) -> Self {
        Self { family, known: RwLock::default() }
    }

    /// The counter of these names; made where it is new. Allocates nothing where it is not.
    fn counter(&self, route: &str, names: [&str; N]) -> IntCounter {
        if let Some(found) = self.known.read().settled(route, names) {
            return found;
        }
        let mut known = self.known.write();
        if let Some(found) = known.settled(route, names) {
            return found;
        }
        let (route, names) = if known.number < MOST_WAYS { (route, names) } else { (OTHER, [OTHER; N]) };
        let counter = self.family.with_label_values(&[&[route], &names[..]].concat());
        known.routes.entry(route.into()).or_default().push((names.map(Into::into), counter.clone()));
        known.number += 1;
        counter
    }

    fn sum(&self) -> u64 {
        self.known.read().routes.values().flatten().map(|(_, counter)| counter.get()).sum()
    }
}

impl Metrics {
    /// Shows what became of tries at `upstream`, its key in `upstreams`, from the beginning, at zero. Tries at one that was never named so are counted as `other`.
    pub fn upstream(&self, upstream: &str) {
        let mut known = self.upstreams.outcomes.write();
        if known.len() < MOST_UPSTREAMS && !known.contains_key(upstream) {
            known.insert(upstream.into(), self.upstreams.outcomes_of(upstream));
        }
    }

    /// Shows how many calls `target` of `route` answered from the beginning, at zero.
    pub fn route_target(&self, route: &str, target: &str) {
        drop(self.upstreams.answered.counter(route, [target]));
    }

    /// Shows what became of calls that `route` was to mirror from the beginning, at zero.
    pub fn mirror(&self, route: &str) {
        for outcome in Mirrored::ALL {
            drop(self.upstreams.mirrored.counter(route, [outcome.label()]));
        }
    }

    /// Counts a call that `route` was to mirror, by what became of that.
    pub fn mirrored(&self, route: &str, outcome: Mirrored) {
        self.upstreams.mirrored.counter(route, [outcome.label()]).inc();
    }

    /// Counts one try to have a request answered, by where it went and how it ended.
    pub fn attempt(&self, upstream: &str, outcome: Attempt) {
        self.upstreams.attempt(upstream, outcome);
    }
}
