//! What an admitted call has taken, and how it is given back or turned into use.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use super::bucket::{Bucket, Terms};
use super::key::Key;
use super::standing::Rates;
use super::warned::Warning;
use super::{Limits, Now};
use crate::config::limits::Count;
use crate::domain::{Cost, LimitWarning, QuotaChange, Subject, Tokens};

/// A call that was admitted. Dropped, it gives back all that was taken and never used: [`Admission::sent`] and [`Admission::settle`] say what was.
#[must_use = "an admission is carried to the end of its exchange"]
pub struct Admission {
    limits: Arc<Limits>,
    /// One is taken out only to be given back: if that panics, the others still are.
    holds: SmallVec<[Hold; 4]>,
    rates: Rates,
    shadowed: Vec<Arc<str>>,
    /// The model in its one spelling, where a rule asks for it.
    model: Option<Arc<str>>,
    sent: bool,
}

/// What was taken of one bucket.
pub(super) struct Hold {
    /// The rule, by its place.
    pub(super) rule: usize,
    pub(super) key: Key,
    /// The caller's tier, and what was granted beyond it: what a call ends by is what it began by.
    pub(super) tier: Option<u16>,
    pub(super) more: u64,
    /// Held until the call settles.
    pub(super) held: u64,
    /// Used at once.
    pub(super) used: u64,
    /// When, in nanoseconds since the buckets' epoch.
    pub(super) at: u64,
    /// Of a quota: the beginning of the period that it was taken of.
    pub(super) starts: u64,
    /// Whose, where that is told to others: of quotas.
    pub(super) subject: Option<Box<Subject>>,
}

/// A stream must end: a budget did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The rule's name.
    pub rule: Arc<str>,
    /// What the client is told.
    pub message: String,
}

impl Admission {
    pub(super) fn new(limits: Arc<Limits>) -> Self {
        Self { limits, holds: SmallVec::new(), rates: Rates::default(), shadowed: Vec::new(), model: None, sent: false }
    }

    pub(super) fn shadowed(&mut self, rule: &Arc<str>) {
        self.shadowed.push(Arc::clone(rule));
    }

    /// Takes note of what was taken: from now on it is given back, whatever happens. `model`: the call's, in its one spelling.
    pub(super) fn took<'m>(&mut self, hold: Hold, terms: Terms, bucket: Bucket, model: impl Fn() -> Option<&'m str>) {
        if let Some(rule) = self.limits.rule(hold.rule) {
            // What refuses nobody is nothing that a client should keep to.
            if !rule.shadow {
                self.rates.note(rule, terms, bucket, hold.at);
            }
            if rule.counting.is_by_model() && self.model.is_none() {
                self.model = model().map(Into::into);
            }
        }
        self.holds.push(hold);
    }

    /// Tells others of what was taken. `used`: what the bucket of the hold at `place` had been used of before and is now.
    pub(super) fn tell(&self, place: usize, terms: Terms, used: (u64, u64)) {
        let Some(hold) = self.holds.get(place) else { return };
        self.limits.book(hold, hold.starts, i128::from(hold.held) + i128::from(hold.used));
        self.limits.warn(hold, terms, used);
    }

    /// What was taken, in the order of taking.
    pub(super) fn len(&self) -> usize {
        self.holds.len()
    }

    /// Where the caller stands under the tightest rules of requests and of tokens, right after the taking.
    #[must_use]
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The rules in shadow that would have refused the call.
    #[must_use]
    pub fn shadows(&self) -> &[Arc<str>] {
        &self.shadowed
    }

    /// From now on the request is made, whatever comes of it.
    pub const fn sent(&mut self) {
        self.sent = true;
    }

    /// Whether anything that it took is of a rule that counts tokens or money: only then it must know what is used.
    #[must_use]
    pub fn counts_use(&self) -> bool {
        let counts = |rule: &super::Judge| matches!(rule.count, Count::Tokens | Count::Usd);
        self.holds.iter().any(|hold| self.limits.rule(hold.rule).is_some_and(counts))
    }

    /// So much is used by now: what goes beyond the reservation is held too, so that nobody else is given it. `cost` is asked where money is counted.
    ///
    /// # Errors
    /// [`Cut`], where a rule that ends streams has nothing left.
    pub fn grow(&mut self, tokens: &Tokens, cost: impl Fn() -> Cost, now: Now) -> Result<(), Cut> {
        let mut cut = None;
        let limits = &self.limits;
        for hold in &mut self.holds {
            let Some(rule) = limits.rule(hold.rule).filter(|rule| matches!(rule.count, Count::Tokens | Count::Usd)) else { continue };
            let cost = if rule.count == Count::Usd { cost() } else { Cost::Nothing };
            let used = rule.counting.used(tokens, self.model.as_deref(), cost).unwrap_or(0);
            let more = used.saturating_sub(hold.held);
            if more == 0 {
                continue;
            }
            let terms = rule.terms(hold.tier, hold.more, limits.wall(now.wall));
            let grow = |bucket: Bucket, at| bucket.grow(more, terms, at);
            let (_, bucket) = limits.buckets.change(hold.key, terms, Some(now.monotonic), grow);
            hold.held = used;
            limits.book(hold, hold.starts, i128::from(more));
            if rule.cut && !rule.shadow && bucket.taken() > terms.capacity() {
                cut.get_or_insert_with(|| Cut { rule: Arc::clone(&rule.name), message: rule.cut_short(terms) });
            }
        }
        cut.map_or(Ok(()), Err)
    }

    /// The call has ended, and used so much; `None`: nobody can tell, and what was reserved counts as used.
    pub fn settle(mut self, used: Option<(&Tokens, Cost)>, now: Now) {
        self.sent = true;
        while let Some(hold) = self.holds.pop() {
            let Some(rule) = self.limits.rule(hold.rule) else { continue };
            let used = match used {
                _ if !rule.counting.holds() || rule.count == Count::Concurrency => 0,
                None => hold.held,
                Some((tokens, cost)) => rule.counting.used(tokens, self.model.as_deref(), cost).unwrap_or(hold.held),
            };
            let terms = rule.terms(hold.tier, hold.more, self.limits.wall(now.wall));
            self.limits.release(&hold, used, terms, Some(now.monotonic));
        }
    }
}

/// On whatever path an exchange ends.
impl Drop for Admission {
    fn drop(&mut self) {
        while let Some(hold) = self.holds.pop() {
            let Some(rule) = self.limits.rule(hold.rule) else { continue };
            let terms = rule.terms(hold.tier, hold.more, self.limits.buckets.latest_wall());
            self.limits.release(&hold, 0, terms, None);
            if !self.sent {
                self.limits.undo(&hold, terms);
            }
        }
    }
}

impl Limits {
    /// Turns what is held into `used`.
    fn release(&self, hold: &Hold, used: u64, terms: Terms, now: Option<Instant>) {
        if hold.held == 0 && used == 0 {
            return;
        }
        let (before, after) = self.buckets.change(hold.key, terms, now, |bucket, at| bucket.settle(hold.held, used, terms, at));
        self.released(hold);
        if after.at == hold.starts {
            self.book(hold, hold.starts, i128::from(used) - i128::from(hold.held));
        } else {
            // In the period that it ends in: the other is over, and nobody is given of it any more.
            self.book(hold, hold.starts, -i128::from(hold.held));
            self.book(hold, after.at, i128::from(used));
        }
        self.warn(hold, terms, (before.used, after.used));
    }

    /// Gives back what was used at once.
    fn undo(&self, hold: &Hold, terms: Terms) {
        if hold.used == 0 {
            return;
        }
        // A quota that has begun anew since has nothing to give back.
        let is_of_then = |bucket: &Bucket| hold.subject.is_none() || bucket.at == hold.starts;
        let undo = |bucket: Bucket, at| if is_of_then(&bucket) { bucket.undo(hold.used, hold.at, terms, at) } else { bucket };
        self.buckets.change(hold.key, terms, None, undo);
        self.released(hold);
        self.book(hold, hold.starts, -i128::from(hold.used));
    }

    /// Tells of a change of a quota, in the period that began at `starts`.
    fn book(&self, hold: &Hold, starts: u64, delta: i128) {
        let Some(subject) = &hold.subject else { return };
        let Some(rule) = self.rule(hold.rule).filter(|_| delta != 0) else { return };
        let delta = i64::try_from(delta).unwrap_or(if delta > 0 { i64::MAX } else { i64::MIN });
        let (rule, count) = (Arc::clone(&rule.name), rule.count.label());
        self.observer.quota(QuotaChange { rule, count, subject: (**subject).clone(), starts, delta });
    }

    /// Tells that a quota has passed a share at which its rule warns. `used`: what had been used of it before, and is now.
    fn warn(&self, hold: &Hold, terms: Terms, used: (u64, u64)) {
        let (Some(subject), Terms::Quota { limit, ends, .. }) = (&hold.subject, terms) else { return };
        let Some(rule) = self.rule(hold.rule) else { return };
        let (before, after) = used;
        let reaches = |percent: u8, used: u64| u128::from(used) * 100 >= u128::from(limit) * u128::from(percent);
        // The highest that was passed: one warning says all.
        let Some(percent) = rule.warn_at.iter().rev().copied().find(|percent| reaches(*percent, after) && !reaches(*percent, before))
        else {
            return;
        };
        if !rule.warned.is_news(hold.key, Warning { ends, limit, percent }) {
            return;
        }
        self.observer.warn(LimitWarning {
            rule: Arc::clone(&rule.name),
            count: rule.count.label(),
            subject: (**subject).clone(),
            percent,
            used: after,
            limit,
            scale: rule.count.scale(),
            ends,
        });
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("holds", &self.holds.len()).field("rates", &self.rates).finish_non_exhaustive()
    }
}
