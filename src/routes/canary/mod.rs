//! Is the canary as good as its baseline?
//!
//! A canary's share of its route's calls grows step by step, and falls to nothing by itself where more of its calls fail than of the baseline's, or its
//! first token takes longer, by more than the rule's margin and beyond chance ([`verdict`]). There it stays until its configuration changes, or an
//! operator has it begin anew. Time is an argument; a call takes one short lock at its end, and only where its route has a canary.

mod book;
mod figures;
#[cfg(test)]
mod tests;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest;
use parking_lot::Mutex;

pub use self::book::Canaries;
pub use self::figures::{Figures, Outcome, Side};
pub use self::verdict::Why;

use self::figures::Window;
use crate::config::routes::{Model, Promote, Route as Config};
use crate::domain::{KeptCanary, hex};

/// A canary's share of its route's calls, in parts of a million. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Share(Arc<AtomicU32>);

impl Share {
    /// Every call.
    pub const ALL: u32 = 1_000_000;

    /// It, as it is now.
    #[must_use]
    pub fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether it is every call.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.now() >= Self::ALL
    }

    fn set(&self, share: u32) {
        self.0.store(share, Ordering::Relaxed);
    }
}

/// The canary of a route, at all its stages.
#[derive(Debug)]
pub struct Canary {
    /// The route's name.
    pub route: Arc<str>,
    /// The target's, as it is written.
    pub target: Arc<str>,
    rule: Promote,
    /// The hash of all that is configured of it.
    hash: Box<str>,
    share: Share,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Which step it is at; none where it was stepped back.
    step: Option<usize>,
    /// Since when; none before it begins.
    since: Option<Instant>,
    since_wall: SystemTime,
    window: Window,
    /// The baseline as it was when it got calls last: it gets none any more.
    last: Option<Figures>,
    /// How often it was stepped up and back, by this process.
    ups: u64,
    backs: u64,
}

/// A canary's share has changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The route's name.
    pub route: Arc<str>,
    /// The canary's.
    pub target: Arc<str>,
    /// What its share was, in parts of a million.
    pub from: u32,
    /// What it is.
    pub to: u32,
    /// Why it was stepped back to nothing; none where it was stepped up.
    pub why: Option<Why>,
    /// What was seen of it,
    pub canary: Figures,
    /// and of its baseline.
    pub baseline: Figures,
}

/// How a canary stands.
#[derive(Clone, Debug, PartialEq)]
pub struct CanaryLevel {
    /// The route's name.
    pub route: Arc<str>,
    /// The canary's.
    pub target: Arc<str>,
    /// Its share of the route's calls, in parts of a million.
    pub share: u32,
    /// Its next share; none where it is at its last, or was stepped back.
    pub next: Option<u32>,
    /// Whether it was stepped back.
    pub is_back: bool,
    /// Since when it has this share.
    pub since: SystemTime,
    /// What was seen of it in the window,
    pub canary: Figures,
    /// and of its baseline.
    pub baseline: Figures,
    /// How often this process stepped it up,
    pub ups: u64,
    /// and back.
    pub backs: u64,
}

impl Canary {
    /// The canary of a route, as it was kept where that is of the same; none where the route has none.
    fn new(route: &Config, kept: Option<&KeptCanary>) -> Option<Self> {
        let target = route.places.to.iter().find(|target| target.promote.is_some())?;
        let rule = target.promote.clone()?;
        let hash = hash(route)?;
        let kept = kept.filter(|kept| kept.rule == hash);
        let step =
            kept.map_or(Some(0), |kept| Some(usize::try_from(kept.step?).unwrap_or(usize::MAX).min(rule.steps.len().saturating_sub(1))));
        let state = State {
            step,
            since: None,
            since_wall: kept.map_or(SystemTime::UNIX_EPOCH, |kept| kept.since),
            window: Window::new(rule.window),
            last: None,
            ups: 0,
            backs: 0,
        };
        let share = Share::default();
        share.set(share_at(&rule, step));
        let target = Arc::clone(&target.place.name);
        Some(Self { route: Arc::clone(&route.name), target, rule, hash, share, state: Mutex::new(state) })
    }

    /// Its share of the route's calls.
    #[must_use]
    pub const fn share(&self) -> &Share {
        &self.share
    }

    /// It serves from now on, where it did not. What was kept has been going on since it says.
    fn begin(&self, now: Instant, wall: SystemTime) {
        let mut state = self.state.lock();
        if state.since.is_some() {
            return;
        }
        if state.since_wall == SystemTime::UNIX_EPOCH {
            state.since_wall = whole_millis(wall);
        }
        // A clock that jumped back has it begin the step anew.
        let gone = wall.duration_since(state.since_wall).unwrap_or_default();
        state.since = Some(now.checked_sub(gone).unwrap_or(now));
    }

    /// A try at it, or at one of its baseline's targets, came to this.
    pub fn saw(&self, side: Side, outcome: Outcome, now: Instant) {
        // Stepped back: there is nothing to compare any more.
        if self.share.now() > 0 {
            self.state.lock().window.add(side, outcome, now);
        }
    }

    /// Looks whether its share is to change, and changes it: to be asked every second or so.
    pub fn tick(&self, now: Instant, wall: SystemTime) -> Option<Step> {
        let mut state = self.state.lock();
        let at = state.step?;
        let [canary, seen] = state.window.sums(now);
        let baseline = if self.share.is_all() { state.last } else { Some(seen) };
        let is_over = state.since.is_some_and(|since| now.saturating_duration_since(since) >= self.rule.every);
        // Of every call it has nothing to be compared with but what the baseline was before: that is out of date after a step's time.
        let compared = baseline.filter(|_| !(self.share.is_all() && is_over));
        if let Some(baseline) = compared
            && let Some(why) = verdict::worse(&self.rule, &canary, &baseline)
        {
            state.backs += 1;
            return Some(self.turn(&mut state, None, Some(why), (canary, baseline), now, wall));
        }
        if !is_over || at + 1 >= self.rule.steps.len() || !verdict::says_something(&self.rule, &canary, &seen) {
            return None;
        }
        state.ups += 1;
        state.last = Some(seen);
        Some(self.turn(&mut state, Some(at + 1), None, (canary, seen), now, wall))
    }

    /// Begins anew at its first step, and forgets what was seen. Returns what its share was.
    fn reset(&self, now: Instant, wall: SystemTime) -> u32 {
        let mut state = self.state.lock();
        state.window = Window::new(self.rule.window);
        state.last = None;
        let none = (Figures::default(), Figures::default());
        self.turn(&mut state, Some(0), None, none, now, wall).from
    }

    fn turn(
        &self,
        state: &mut State,
        step: Option<usize>,
        why: Option<Why>,
        (canary, baseline): (Figures, Figures),
        now: Instant,
        wall: SystemTime,
    ) -> Step {
        let (from, to) = (self.share.now(), share_at(&self.rule, step));
        // No two steps are at the same time: the later one counts, wherever both are known.
        let since_wall = whole_millis(wall).max(state.since_wall + Duration::from_millis(1));
        (state.step, state.since, state.since_wall) = (step, Some(now), since_wall);
        self.share.set(to);
        Step { route: Arc::clone(&self.route), target: Arc::clone(&self.target), from, to, why, canary, baseline }
    }

    /// Takes over what another process has done, where that is of the same rule, and later. Returns whether the share is another now.
    fn adopt(&self, kept: &KeptCanary, now: Instant) -> bool {
        let mut state = self.state.lock();
        if kept.rule != self.hash || kept.since <= state.since_wall {
            return false;
        }
        let step = kept.step.map(|step| usize::try_from(step).unwrap_or(usize::MAX).min(self.rule.steps.len().saturating_sub(1)));
        (state.step, state.since, state.since_wall) = (step, Some(now), kept.since);
        let (from, to) = (self.share.now(), share_at(&self.rule, step));
        self.share.set(to);
        from != to
    }

    /// What of it is to outlive the process; none before it begins.
    fn to_keep(&self) -> Option<KeptCanary> {
        let state = self.state.lock();
        state.since?;
        let step = state.step.map(|step| u32::try_from(step).unwrap_or(u32::MAX));
        Some(KeptCanary { route: (&*self.route).into(), rule: self.hash.clone(), step, since: state.since_wall })
    }

    /// How it stands.
    #[must_use]
    pub fn level(&self, now: Instant) -> CanaryLevel {
        let mut state = self.state.lock();
        let [canary, baseline] = state.window.sums(now);
        CanaryLevel {
            route: Arc::clone(&self.route),
            target: Arc::clone(&self.target),
            share: self.share.now(),
            next: state.step.and_then(|step| self.rule.steps.get(step + 1).copied()),
            is_back: state.step.is_none(),
            since: state.since_wall,
            canary,
            baseline,
            ups: state.ups,
            backs: state.backs,
        }
    }
}

fn share_at(rule: &Promote, step: Option<usize>) -> u32 {
    step.and_then(|step| rule.steps.get(step)).copied().unwrap_or(0)
}

/// As the ledger has it.
fn whole_millis(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()) + Duration::from_millis(u64::from(since.subsec_millis()))
}

/// The hash of all that is configured of the canary of a route; none where it has none. It is kept for months: what it is made of does not change.
fn hash(route: &Config) -> Option<Box<str>> {
    let target = route.places.to.iter().find(|target| target.promote.is_some())?;
    let Promote { steps, every, errors, first_token, window, min_requests } = target.promote.as_ref()?;
    let mut whole = digest::Context::new(&digest::SHA256);
    let mut part = |text: &str| {
        whole.update(text.as_bytes());
        whole.update(&[0]);
    };
    part(&target.place.name);
    part(&target.place.upstream);
    match &target.place.model {
        None => part("kept"),
        Some(Model::Name(name)) => {
            part("named");
            part(name);
        }
        Some(Model::ByTenant { tenants, default }) => {
            part("by tenant");
            tenants.iter().flat_map(|(tenant, name)| [tenant, name]).for_each(|name| part(name));
            part("default");
            part(default.as_deref().unwrap_or_default());
        }
    }
    part(&format!("{steps:?} {} {errors} {first_token:?} {} {min_requests}", every.as_millis(), window.as_millis()));
    // The first half is enough: nobody gains by another rule of the same hash.
    Some(hex(whole.finish().as_ref().get(..16)?).into())
}
