//! Calls that wait, each at its own stage. A call is polled when it was woken, and at no other time: one that is not woken in time waits for ever.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::config::limits::Wait;
use crate::domain::Glob;

pub(super) type Outcome = Result<Admission, Box<Refused>>;

/// A gateway's calls, each at its own stage.
pub(super) struct World {
    pub(super) limits: Arc<Limits>,
    pub(super) clock: ManualClock,
    pub(super) calls: Vec<Waiter>,
    /// Those who were admitted, in order.
    pub(super) admitted: Vec<usize>,
}

pub(super) struct Waiter {
    pub(super) tenant: String,
    pub(super) future: Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    pub(super) woken: Arc<Woken>,
    pub(super) polls: usize,
    pub(super) outcome: Option<Outcome>,
}

pub(super) struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl World {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let clock = ManualClock::starting_at(SystemTime::UNIX_EPOCH);
        let buckets = buckets(Clock::Manual(clock.clone()).monotonic());
        let limits = Limits::build(rules, buckets, Arc::default(), Arc::new(Nobody));
        Self { limits, clock, calls: Vec::new(), admitted: Vec::new() }
    }

    pub(super) fn reload(&mut self, rules: &[Rule]) {
        self.limits = Limits::build(rules, Arc::clone(&self.limits.buckets), Arc::default(), Arc::new(Nobody));
    }

    /// A call comes, and goes as far as it gets at once; returns its place among all.
    pub(super) fn comes(&mut self, tenant: &str) -> usize {
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

    pub(super) fn poll(&mut self, at: usize) {
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
    pub(super) fn run(&mut self) {
        while let Some(at) = self.calls.iter().position(|call| call.future.is_some() && call.woken.0.load(Ordering::SeqCst)) {
            self.poll(at);
        }
    }

    pub(super) fn turn(&mut self, by: Duration) {
        self.clock.advance(by);
        self.run();
    }

    /// An admitted call ends, or one that waits is given up.
    pub(super) fn ends(&mut self, at: usize) {
        self.stops(at);
        self.run();
    }

    /// The same, and nobody has noticed yet.
    pub(super) fn stops(&mut self, at: usize) {
        self.calls[at].future = None;
        if let Some(Ok(admission)) = self.calls[at].outcome.take() {
            admission.settle(None, Now::of(&Clock::Manual(self.clock.clone())));
        }
    }

    pub(super) fn waits(&self, at: usize) -> bool {
        self.calls[at].future.is_some()
    }

    pub(super) fn runs(&self, at: usize) -> bool {
        matches!(self.calls[at].outcome, Some(Ok(_)))
    }

    pub(super) fn refused(&self, at: usize) -> &Refused {
        self.calls[at].outcome.as_ref().unwrap().as_ref().unwrap_err()
    }

    pub(super) fn running(&self) -> Vec<usize> {
        (0..self.calls.len()).filter(|at| self.runs(*at)).collect()
    }

    pub(super) fn waiting(&self) -> Vec<usize> {
        (0..self.calls.len()).filter(|at| self.waits(*at)).collect()
    }

    /// Ends the calls under way, one after the other, until none is; tells the tenants in the order of their admission since `from`.
    pub(super) fn drains(&mut self, from: usize) -> String {
        while let Some(at) = self.running().first().copied() {
            self.ends(at);
        }
        self.admitted[from..].iter().map(|at| self.calls[*at].tenant.as_str()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.limits.waiting() == 0 && self.limits.buckets.queues.is_empty() && self.limits.buckets.dump().values().all(|b| b.held == 0)
    }
}

pub(super) fn request() -> Call {
    Call { service: Service::BEDROCK_RUNTIME, path: "/".into(), query: "".into(), model: None, asked: Asked::default() }
}

pub(super) fn asks<'a>(principal: &'a Principal, call: &'a Call) -> Ask<'a> {
    Ask { principal, call, route: "everything", address: None, price: &|_| Cost::Nothing }
}

pub(super) fn waits(queue: u32) -> Wait {
    Wait { time: 2 * SECOND, queue, shares: vec![(Glob::new("c*"), 3)] }
}

/// So many calls at once, and others wait.
pub(super) fn at_once(name: &str, max: u64, per: &[Dimension], queue: u32) -> Rule {
    Rule { per: per.into(), wait: Some(waits(queue)), ..Rule::new(name, Count::Concurrency, Bound::Max(max)) }
}

pub(super) fn global(max: u64, queue: u32) -> Rule {
    at_once("all", max, &[], queue)
}
