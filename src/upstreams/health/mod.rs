//! Is this upstream well?
//!
//! What becomes of tries is told here, and whoever chooses a target asks here. An upstream that fails is ejected for a growing, bounded time, until a try
//! that was sent after the ejection comes out well; a model that AWS throttles is left alone at that upstream alone. Both are advice: whether a target is
//! tried all the same, because there is no better one, is up to [`order`]. Asking takes one atomic load while all is well, and no lock.

mod budget;
mod healths;
mod illness;
mod order;
mod throttled;
mod window;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub use self::budget::RetryBudget;
pub use self::healths::{HealthLevel, Healths};
pub use self::order::{choose, order};

use self::illness::{By, Illness, Place};
use self::throttled::Throttled;
use self::window::Window;
use crate::config::upstreams::{Health as Config, HealthRule};
use crate::domain::Ejection;

/// What is counted in a window: all tries, those that failed, those whose first byte was late.
const TRIES: usize = 0;
const FAILED: usize = 1;
const SLOW: usize = 2;

/// The health of one upstream, judged by one rule. Others may judge the same health by other rules, while a new configuration takes over.
#[derive(Debug)]
pub struct Health {
    rule: Config,
    window: Arc<Window<3>>,
    standing: Arc<Standing>,
}

/// How an upstream stands.
#[derive(Debug, Default)]
struct Standing {
    /// Zero while it is not ejected and no model of it is remembered as throttled. Written under the lock.
    concerns: AtomicUsize,
    /// Failures in a row.
    streak: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    illness: Illness,
    throttled: Throttled,
}

/// Whether a try may go to an upstream now.
#[derive(Debug)]
pub enum Verdict {
    /// It may.
    Fit,
    /// It may, to find out whether an upstream that was ejected is well again.
    Probe(Probe),
    /// Not if there is a better one: it is ejected.
    Ejected {
        /// When a probe may go there; that may be past, while one is under way.
        until: Instant,
    },
    /// Not if there is a better one: AWS throttles the model there.
    Throttled {
        /// When it may be tried again.
        until: Instant,
    },
}

/// The one try that finds out whether an ejected upstream is well again. Dropped without having been told anything, it leaves its place to the next.
#[derive(Debug)]
pub struct Probe {
    health: Arc<Health>,
    /// Of the ejection that it is about.
    number: u64,
}

/// What a try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream answered. An exception as the first event of a stream is told as the status that it stands for.
    Answered {
        /// The answer's status.
        status: u16,
        /// From sending the call to the answer's first byte.
        first_byte: Duration,
    },
    /// 429, or an exception that says the same.
    Throttled {
        /// When to ask again, where AWS says so.
        retry_after: Option<Duration>,
    },
    /// No connection could be made.
    Unreachable,
    /// No answer came in time.
    TimedOut,
    /// The connection broke before an answer, or the answer made no sense.
    Broken,
}

/// What became of an upstream, by what it was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is left alone.
    Ejected {
        /// Why.
        why: Ejection,
        /// For how long; then a probe may go there.
        lasts: Duration,
    },
    /// It is used again.
    Readmitted,
}

/// What an outcome says of an upstream's health.
enum Judged {
    Well,
    Slow,
    Failed,
    Throttled(Option<Duration>),
}

impl Health {
    /// May a try of `model`, as the upstream gets it, go there now?
    #[must_use]
    pub fn ask(self: &Arc<Self>, model: Option<&str>, now: Instant) -> Verdict {
        if self.standing.concerns.load(Ordering::Acquire) == 0 {
            return Verdict::Fit;
        }
        let mut state = self.standing.state.lock();
        state.throttled.forget(now);
        // Before the probe's place is taken: what is throttled finds out nothing.
        let verdict = match state.throttled.until(model, now) {
            Some(until) if !state.illness.is_ejected() => Verdict::Throttled { until },
            Some(throttled) => Verdict::Ejected { until: state.illness.until().map_or(throttled, |until| until.max(throttled)) },
            None => match state.illness.ask(now) {
                Place::Fit => Verdict::Fit,
                Place::Probe(number) => Verdict::Probe(Probe { health: Arc::clone(self), number }),
                Place::Ejected(until) => Verdict::Ejected { until },
            },
        };
        self.standing.note(&state);
        verdict
    }

    /// What a try came to, and what that changes. What a [`Probe`] came to is told to the probe; [`Verdict::told`] knows which.
    #[must_use = "a change is to be logged"]
    pub fn told(&self, model: Option<&str>, outcome: Outcome, now: Instant) -> Option<Change> {
        let sent = match outcome {
            Outcome::Answered { first_byte, .. } => now.checked_sub(first_byte),
            Outcome::Throttled { .. } | Outcome::Unreachable | Outcome::TimedOut | Outcome::Broken => None,
        };
        self.hear(By::Another(sent), model, outcome, now)
    }

    fn hear(&self, by: By, model: Option<&str>, outcome: Outcome, now: Instant) -> Option<Change> {
        let Config::On(rule) = &self.rule else { return None };
        let judged = Judged::of(outcome, rule);
        if matches!(judged, Judged::Well) && self.standing.concerns.load(Ordering::Acquire) == 0 {
            self.count_well(now);
            return None;
        }
        let mut state = self.standing.state.lock();
        state.throttled.forget(now);
        let change = match judged {
            Judged::Well => {
                state.throttled.answered(model, now);
                self.recover(&mut state, by, now)
            }
            Judged::Throttled(retry_after) => {
                state.throttled.park(model, retry_after, rule.max_eject, now);
                // That there is no quota left is no illness, and no sign of good health either, but from a probe: it answers.
                if matches!(by, By::Probe(_)) { self.readmit(&mut state, by, now) } else { None }
            }
            Judged::Slow | Judged::Failed => self.worsen(&mut state, rule, &judged, by, now),
        };
        self.standing.note(&state);
        change
    }

    /// A try came out well.
    fn recover(&self, state: &mut State, by: By, now: Instant) -> Option<Change> {
        if !state.illness.is_ejected() {
            self.count_well(now);
            return None;
        }
        self.readmit(state, by, now)
    }

    fn readmit(&self, state: &mut State, by: By, now: Instant) -> Option<Change> {
        state.illness.readmit(by, now).then(|| {
            self.forget();
            Change::Readmitted
        })
    }

    /// A try failed, or was slow.
    fn worsen(&self, state: &mut State, rule: &HealthRule, judged: &Judged, by: By, now: Instant) -> Option<Change> {
        let why = if state.illness.is_ejected() {
            state.illness.fails_by(by).then_some(Ejection::Probe)?
        } else {
            self.window.add(TRIES, now);
            match judged {
                Judged::Slow => {
                    self.window.add(SLOW, now);
                    self.standing.streak.store(0, Ordering::Relaxed);
                }
                Judged::Failed => {
                    self.window.add(FAILED, now);
                    self.standing.streak.fetch_add(1, Ordering::Relaxed);
                }
                Judged::Well | Judged::Throttled(_) => {}
            }
            self.verdict_on(rule, now)?
        };
        let lasts = state.illness.eject(rule, why, now);
        self.forget();
        Some(Change::Ejected { why, lasts })
    }

    /// Why it is to be ejected, if it is.
    fn verdict_on(&self, rule: &HealthRule, now: Instant) -> Option<Ejection> {
        let streak = self.standing.streak.load(Ordering::Relaxed);
        if rule.failures.is_some_and(|failures| streak >= failures) {
            return Some(Ejection::Failures);
        }
        let [tries, failed, slow] = self.window.sums(now);
        let reaches = |part: u64, percent: u8| part.saturating_mul(100) >= tries.saturating_mul(percent.into());
        if tries < u64::from(rule.min_requests) {
            None
        } else if rule.error_rate.is_some_and(|percent| reaches(failed, percent)) {
            Some(Ejection::ErrorRate)
        } else {
            (rule.first_byte.is_some() && reaches(slow, rule.slow_rate)).then_some(Ejection::FirstByte)
        }
    }

    fn count_well(&self, now: Instant) {
        self.window.add(TRIES, now);
        // Read first: a store would take the line from every other core, each time.
        if self.standing.streak.load(Ordering::Relaxed) != 0 {
            self.standing.streak.store(0, Ordering::Relaxed);
        }
    }

    /// What was before an ejection is not held against an upstream after it.
    fn forget(&self) {
        self.window.clear();
        self.standing.streak.store(0, Ordering::Relaxed);
    }
}

impl Verdict {
    /// Tells what the try that followed this verdict of `health` came to, and hands back what that changes.
    #[must_use = "a change is to be logged"]
    pub fn told(self, health: &Health, model: Option<&str>, outcome: Outcome, now: Instant) -> Option<Change> {
        match self {
            Self::Probe(probe) => probe.told(model, outcome, now),
            Self::Fit | Self::Ejected { .. } | Self::Throttled { .. } => health.told(model, outcome, now),
        }
    }
}

impl Probe {
    /// What the probe came to: the upstream is readmitted, or ejected for longer. Any answer counts as well that is no failure and not slow.
    #[must_use = "a change is to be logged"]
    pub fn told(self, model: Option<&str>, outcome: Outcome, now: Instant) -> Option<Change> {
        self.health.hear(By::Probe(self.number), model, outcome, now)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.health.standing.state.lock().illness.probed();
    }
}

impl Standing {
    /// Lets those who ask know whether there is anything to know.
    fn note(&self, state: &State) {
        self.concerns.store(state.throttled.len() + usize::from(state.illness.is_ejected()), Ordering::Release);
    }
}

impl Judged {
    const fn of(outcome: Outcome, rule: &HealthRule) -> Self {
        match outcome {
            Outcome::Throttled { retry_after } => Self::Throttled(retry_after),
            Outcome::Answered { status: 429, .. } => Self::Throttled(None),
            // 501 and 505 say something of the request (RFC 9110, sections 15.6.2 and 15.6.6).
            Outcome::Answered { status: 500 | 502..=504 | 506.., .. } | Outcome::Unreachable | Outcome::TimedOut | Outcome::Broken => {
                Self::Failed
            }
            Outcome::Answered { first_byte, .. } => match rule.first_byte {
                Some(bound) if first_byte.as_nanos() > bound.as_nanos() => Self::Slow,
                Some(_) | None => Self::Well,
            },
        }
    }
}

/// Up to a fifth shorter, so that those who were told the same at once don't come back at once.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(fastrand::f64().mul_add(-0.2, 1.0))
}

/// `now` and `time` later; now, where no clock goes that far.
fn after(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).unwrap_or(now)
}
