//! A call's wait for its turn.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use tokio::sync::Notify;

use super::lanes::Waiter;
use super::{Place, Rank};
use crate::domain::Clock;
use crate::limits::buckets::Want;
use crate::limits::key::Key;
use crate::limits::{Admission, Ask, Limits, Now, Of, Refused, buckets};

/// What asking came to.
#[expect(clippy::large_enum_variant, reason = "nearly every call is admitted at once: a box would cost each an allocation")]
pub enum Turn<'a> {
    /// The call is admitted.
    Admitted(Admission),
    /// It may wait for its turn.
    Waits(Waiting<'a>),
}

/// A call that waits for its turn. Dropped, it is forgotten, and the turn passes on.
#[must_use = "who is not asked does not wait"]
pub struct Waiting<'a> {
    limits: &'a Arc<Limits>,
    ask: &'a Ask<'a>,
    place: Place<'a>,
    until: Instant,
    /// The buckets whose queue it has been the first of: it waits there no more for others, only for room.
    turns: SmallVec<[Key; 4]>,
}

/// How a try to be admitted heeds those who wait.
#[derive(Clone, Copy)]
pub(in crate::limits) enum Line<'a> {
    /// Not at all.
    Past,
    /// It stands behind whoever waits for a bucket that it needs, these buckets apart.
    Behind(&'a [Key]),
}

/// A try that came to nothing.
pub(in crate::limits) struct Stop {
    pub(in crate::limits) refused: Box<Refused>,
    /// Where the call may wait: for which bucket, of the rule at which place.
    pub(in crate::limits) queue: Option<(Key, usize)>,
}

impl From<Box<Refused>> for Stop {
    fn from(refused: Box<Refused>) -> Self {
        Self { refused, queue: None }
    }
}

impl Limits {
    /// Takes what the call may come to from every rule's bucket, or nothing from any: then it may wait, where a rule says so.
    ///
    /// # Errors
    /// [`Refused`] when a rule refuses that lets nobody wait, or for longer than a while, or whose queue is full.
    pub fn admit_or_wait<'a>(self: &'a Arc<Self>, ask: &'a Ask<'a>, now: Now) -> Result<Turn<'a>, Box<Refused>> {
        let stop = match self.attempt(ask, now, Line::Behind(&[])) {
            Ok(admission) => return Ok(Turn::Admitted(admission)),
            Err(stop) => stop,
        };
        let wait = stop.queue.and_then(|(_, rule)| self.rule(rule)?.wait.as_ref());
        let place = self.join(ask, stop.queue, self.buckets.queues.ticket(), Arc::default());
        let Some((wait, place)) = wait.zip(place) else { return Err(stop.refused) };
        Ok(Turn::Waits(Waiting { limits: self, ask, place, until: now.monotonic + wait.time, turns: SmallVec::new() }))
    }

    /// The same, and waits. Dropped, the call waits no longer.
    ///
    /// # Errors
    /// [`Refused`] too when the time to wait is over.
    pub async fn admit_in_turn(self: &Arc<Self>, ask: &Ask<'_>, clock: &Clock) -> Result<Admission, Box<Refused>> {
        match self.admit_or_wait(ask, Now::of(clock))? {
            Turn::Admitted(admission) => Ok(admission),
            Turn::Waits(waiting) => waiting.admitted(clock).await,
        }
    }

    /// How many calls wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.buckets.waiting()
    }

    /// Why a call does not even try to be admitted, where it does not.
    pub(in crate::limits) fn stops(&self, line: Line<'_>, wants: &[Want<Of<'_>>], now: Now) -> Option<Stop> {
        let Line::Behind(own) = line else { return None };
        let lets_wait = |want: &&Want<Of<'_>>| !own.contains(&want.key) && self.rule(want.of.place).is_some_and(|rule| rule.wait.is_some());
        let queued = self.buckets.queues.queued(wants.iter().filter(lets_wait).map(|want| want.key))?;
        // A refusal that would come when its turn has come, comes now.
        let refusals = wants.iter().filter_map(|want| {
            let (bucket, at) = self.buckets.look(want.key, want.terms, now.monotonic);
            let why = bucket.take(want.ask, want.terms, at).err()?;
            Some(buckets::Refusal { of: want.of, key: want.key, why, bucket })
        });
        if let Some(refusal) = refusals.max_by_key(|refusal| refusal.why) {
            return Some(self.stop(&refusal, wants, now));
        }
        let want = wants.iter().find(|want| want.key == queued)?;
        Some(Stop { refused: self.behind(want, wants, now)?, queue: Some((want.key, want.of.place)) })
    }

    fn join<'a>(&'a self, ask: &Ask<'_>, queue: Option<(Key, usize)>, ticket: u64, bell: Arc<Notify>) -> Option<Place<'a>> {
        let (key, rule) = queue?;
        let wait = self.rule(rule)?.wait.as_ref()?;
        let tenant = &ask.principal.tenant;
        let share = wait.shares.iter().find(|(glob, _)| glob.matches(tenant)).map_or(1, |(_, share)| (*share).max(1));
        let most = usize::try_from(wait.queue).unwrap_or(usize::MAX);
        self.buckets.queues.join(key, Waiter { tenant: Arc::clone(tenant), share, ticket, bell }, most)
    }
}

impl Waiting<'_> {
    /// Waits for the turn, or for the end of the time to wait for it.
    ///
    /// # Errors
    /// [`Refused`] when a rule refuses that lets nobody wait, when the time to wait is over, or when the place was given to another tenant's call.
    pub async fn admitted(mut self, clock: &Clock) -> Result<Admission, Box<Refused>> {
        let bell = Arc::clone(&self.place.waiter.bell);
        loop {
            let now = Now::of(clock);
            let mut wake_at = self.until;
            match self.place.rank() {
                // What it is told is how things are now; and where nobody waits any more it may be admitted yet.
                Rank::Out => return self.limits.attempt(self.ask, now, Line::Behind(&[])).map_err(|stop| stop.refused),
                Rank::Behind if now.monotonic >= self.until => {
                    return self.limits.attempt(self.ask, now, Line::Behind(&[])).map_err(|stop| stop.refused);
                }
                Rank::Behind => {}
                Rank::First => {
                    if !self.turns.contains(&self.place.key) {
                        self.turns.push(self.place.key);
                    }
                    let stop = match self.limits.attempt(self.ask, now, Line::Behind(&self.turns)) {
                        Ok(admission) => {
                            self.place.served();
                            return Ok(admission);
                        }
                        Err(stop) => stop,
                    };
                    match stop.queue {
                        Some((key, _)) if now.monotonic < self.until && key == self.place.key => {
                            let after = stop.refused.rejection.retry_after.unwrap_or_default();
                            wake_at = wake_at.min(now.monotonic + after);
                        }
                        // Another bucket keeps it: the others here need not wait for that.
                        Some(_) if now.monotonic < self.until => {
                            let ticket = self.place.waiter.ticket;
                            let Some(place) = self.limits.join(self.ask, stop.queue, ticket, Arc::clone(&bell)) else {
                                return Err(stop.refused);
                            };
                            self.place = place;
                            continue;
                        }
                        _ => return Err(stop.refused),
                    }
                }
            }
            tokio::select! {
                () = bell.notified() => {}
                () = sleep_until(clock, wake_at) => {}
            }
        }
    }
}

/// Returns when `clock` shows `at`.
async fn sleep_until(clock: &Clock, at: Instant) {
    match clock {
        Clock::System => tokio::time::sleep_until(at.into()).await,
        Clock::Manual(manual) => poll_fn(|cx| manual.poll_until(at, cx)).await,
    }
}

impl fmt::Debug for Waiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("until", &self.until).finish_non_exhaustive()
    }
}
