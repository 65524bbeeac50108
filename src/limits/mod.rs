//! Can they now? Every rule that matches a call must admit it.
//!
//! A rule gives each of its callers a bucket: of requests, tokens, money or calls under way; one that refills, one for a period of the calendar, or one that
//! only holds. Invariants, each held by a property test:
//! * what is used in any time `t` is at most the capacity and what refills in `t`; what calls under way may come to is held for them until they settle;
//! * all rules are checked and taken in one step that nothing interleaves with, and a refusal moves no bucket;
//! * whatever way a call ends, what it held is given back or used, once;
//! * `retry_after` is when the same request would pass, were nobody else to come;
//! * memory is bounded, whatever clients send ([`Buckets`]).
//!
//! [`Limits`] follows from the configuration and is swapped on a reload; [`Buckets`] and [`Grants`] live on, and a rule finds its buckets again by its name.

mod admission;
mod bedrock;
mod bucket;
mod buckets;
mod grants;
mod key;
mod measure;
mod period;
mod queue;
mod rule;
mod standing;
mod subject;
mod sync;
#[cfg(test)]
mod tests;
mod told;
mod warned;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use self::admission::{Admission, Cut};
pub use self::buckets::Buckets;
pub use self::grants::Grants;
pub use self::queue::{Turn, Waiting};
pub use self::standing::{Rates, Standing};
pub use self::told::{Nobody, Observer};

use self::admission::Hold;
use self::bucket::Blocked;
use self::buckets::{Want, Wants};
use self::queue::{Line, Stop};
use self::rule::{Covered, Judge};
use self::subject::Caller;
use crate::config::limits::{Count, Rule};
use crate::domain::{Call, Clock, Cost, Principal, Quota, QuotaElsewhere, Reason, Rejection, Subject, Tokens};

/// The rules, ready to judge by.
pub struct Limits {
    rules: Box<[Judge]>,
    buckets: Arc<Buckets>,
    grants: Arc<Grants>,
    observer: Arc<dyn Observer>,
}

/// The time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For what refills. A time a little behind that of a concurrent call is in order.
    pub monotonic: Instant,
    /// For periods of the calendar. It may jump: back, nothing is handed out again.
    pub wall: SystemTime,
}

impl Now {
    /// What `clock` shows.
    #[must_use]
    pub fn of(clock: &Clock) -> Self {
        Self { monotonic: clock.monotonic(), wall: clock.wall() }
    }
}

/// What is asked.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// By whom.
    pub principal: &'a Principal,
    /// For what.
    pub call: &'a Call,
    /// The name of the route that it takes.
    pub route: &'a str,
    /// The client's address, where the connection has one.
    pub address: Option<IpAddr>,
    /// What so many tokens of the call's model cost.
    pub price: &'a (dyn Fn(&Tokens) -> Cost + Sync),
}

/// A call that was not admitted. Nothing was taken.
#[derive(Debug)]
pub struct Refused {
    /// What the caller is told.
    pub rejection: Rejection,
    /// Where the caller stands under the tightest rules of those that were asked.
    pub rates: Rates,
    /// The name of the rule that refused.
    pub rule: Arc<str>,
}

impl Refused {
    /// Of two refusals of one call, each by another place that it might have gone to, the one that the client is told: that of the place which has room first.
    #[must_use]
    pub fn sooner(self: Box<Self>, other: Box<Self>) -> Box<Self> {
        let wait = |refused: &Self| refused.rejection.retry_after.unwrap_or(Duration::MAX);
        if wait(&other) < wait(&self) { other } else { self }
    }
}

impl Limits {
    /// Makes the rules ready. A rule finds the buckets of its predecessor of the same name in `buckets`, if that counted the same in the same way and told
    /// callers apart by the same; what was taken from them stays taken, and refills at the new rate. `observer` is told of quotas.
    ///
    /// Names are unique among `rules`: the configuration is checked for it.
    #[must_use]
    pub fn build(rules: &[Rule], buckets: Arc<Buckets>, grants: Arc<Grants>, observer: Arc<dyn Observer>) -> Arc<Self> {
        let rules = rules.iter().map(|rule| Judge::new(rule, buckets.seed())).collect();
        Arc::new(Self { rules, buckets, grants, observer })
    }

    /// Takes what the call may come to from every rule's bucket, or nothing from any.
    ///
    /// # Errors
    /// [`Refused`] when a rule refuses; the one whose refusal lasts longest.
    pub fn admit(self: &Arc<Self>, ask: &Ask<'_>, now: Now) -> Result<Admission, Box<Refused>> {
        self.attempt(ask, now, Line::Past).map_err(|stop| stop.refused)
    }

    /// The same, for a call that heeds those who wait as `line` has it.
    fn attempt(self: &Arc<Self>, ask: &Ask<'_>, now: Now, line: Line<'_>) -> Result<Admission, Stop> {
        let caller = Caller::new(ask, self.buckets.seed());
        let wall = self.wall(now.wall);
        let (grants, at) = (self.grants.load(), told_by(wall, now));
        let (mut wants, mut shadows) = (Wants::new(), Wants::new());
        let mut admission = Admission::new(Arc::clone(self));
        for (place, rule) in self.rules.iter().enumerate() {
            let Some(Covered { group }) = rule.covers(&caller) else { continue };
            let Some(reservation) = rule.counting.reservation(&ask.call.asked, ask.call.model.as_deref(), ask.price) else { continue };
            if rule.count == Count::Usd && !rule.unpriced {
                match is_priced(rule, ask) {
                    Err(_) if rule.shadow => {
                        admission.shadowed(&rule.name);
                        continue;
                    }
                    priced => priced?,
                }
            }
            let more = grants.more(&rule.name, &ask.principal.tenant, rule.user(ask.principal), at);
            let tier = rule.tier(&caller);
            let terms = rule.terms(tier, more, wall);
            let most = terms.capacity().max(reservation.floor);
            let ask = bucket::Ask { amount: reservation.amount.min(most), least: reservation.least.min(most), hold: rule.counting.holds() };
            let of = Of { place, group, tier, more };
            let want = Want::new(of, rule.key(&caller, group), rule.overflow, terms, ask);
            if rule.shadow { shadows.push(want) } else { wants.push(want) }
        }
        if let Some(stop) = self.stops(line, &wants, now) {
            return Err(stop);
        }
        if let Err(refusal) = self.buckets.take_all(&mut wants, now.monotonic) {
            return Err(self.stop(&refusal, &wants, now));
        }
        self.keep(&wants, &caller, &mut admission);
        for want in shadows {
            let mut alone = [want];
            match self.buckets.take_all(&mut alone, now.monotonic) {
                Ok(()) => self.keep(&alone, &caller, &mut admission),
                Err(refusal) => self.rule(refusal.of.place).into_iter().for_each(|rule| admission.shadowed(&rule.name)),
            }
        }
        Ok(admission)
    }

    /// Gives what was taken to `admission`, all of it before others are told of any.
    fn keep(&self, wants: &[Want<Of<'_>>], caller: &Caller<'_>, admission: &mut Admission) {
        let first = admission.len();
        let taken = || wants.iter().filter_map(|want| Some((want, want.taken?)));
        for (want, taken) in taken() {
            let Some(rule) = self.rule(want.of.place) else { continue };
            let Of { place, group, tier, more } = want.of;
            let subject = matches!(want.terms, bucket::Terms::Quota { .. }).then(|| Box::new(caller.subject(&rule.per, group)));
            let (later, used) = if want.ask.hold { (taken.amount, 0) } else { (0, taken.amount) };
            let hold = Hold { rule: place, key: want.key, tier, more, held: later, used, at: taken.at, starts: taken.bucket.at, subject };
            admission.took(hold, want.terms, taken.bucket, || caller.model());
        }
        for (place, (want, taken)) in taken().enumerate() {
            admission.tell(first + place, want.terms, (taken.used, taken.bucket.used));
        }
    }

    /// A refusal, and where the call may wait: what is only a while off may be waited for.
    fn stop(&self, refusal: &buckets::Refusal<Of<'_>>, wants: &[Want<Of<'_>>], now: Now) -> Stop {
        let place = refusal.of.place;
        let may_wait =
            matches!(refusal.why, Blocked::Held | Blocked::Drains(_)) && self.rule(place).is_some_and(|rule| rule.wait.is_some());
        Stop { refused: self.refused(refusal, wants, now), queue: may_wait.then_some((refusal.key, place)) }
    }

    /// What a call is told that has others before it.
    fn behind(&self, want: &Want<Of<'_>>, wants: &[Want<Of<'_>>], now: Now) -> Option<Box<Refused>> {
        let rule = self.rule(want.of.place)?;
        let mut rates = Rates::default();
        for want in wants {
            self.note(want, now, &mut rates);
        }
        Some(Box::new(Refused { rejection: rule.refuse_behind(want.terms), rates, rule: Arc::clone(&rule.name) }))
    }

    fn refused(&self, refusal: &buckets::Refusal<Of<'_>>, wants: &[Want<Of<'_>>], now: Now) -> Box<Refused> {
        let mut rates = Rates::default();
        let want = wants.iter().find(|want| want.of.place == refusal.of.place);
        let (Some(rule), Some(want)) = (self.rules.get(refusal.of.place), want) else {
            let rejection = Rejection::new(Reason::Internal, "the limit that refused is gone");
            return Box::new(Refused { rejection, rates, rule: "".into() });
        };
        rates.note(rule, want.terms, refusal.bucket, self.buckets.nanos(now.monotonic));
        for other in wants.iter().filter(|other| other.of.place != want.of.place) {
            self.note(other, now, &mut rates);
        }
        let rejection = rule.refuse(refusal.why, want.terms, want.ask.least);
        Box::new(Refused { rejection, rates, rule: Arc::clone(&rule.name) })
    }

    /// Takes note of where the caller stands under a rule of which nothing was taken.
    fn note(&self, want: &Want<Of<'_>>, now: Now, rates: &mut Rates) {
        if let Some(rule) = self.rule(want.of.place).filter(|rule| matches!(rule.count, Count::Requests | Count::Tokens)) {
            let (bucket, at) = self.buckets.look(want.key, want.terms, now.monotonic);
            rates.note(rule, want.terms, bucket, at);
        }
    }

    /// Where `subject` stands under each rule that tells callers apart by what the subject has, and by nothing else. Its group chooses its tier too, and so
    /// may be told to rules that tell no groups apart. Takes nothing.
    #[must_use]
    pub fn standing(&self, subject: &Subject, now: Now) -> Vec<Standing> {
        let (wall, grants) = (self.wall(now.wall), self.grants.load());
        let at = told_by(wall, now);
        let rules = self.rules.iter().filter(|rule| subject::is_told(&rule.per, subject) && rule.is_for(subject));
        rules
            .map(|rule| {
                let more = subject.tenant.as_deref().map_or(0, |tenant| grants.more(&rule.name, tenant, subject.user.as_deref(), at));
                let terms = rule.terms(rule.tier_of(subject), more, wall);
                let (bucket, at) = self.buckets.look(subject::key(self.buckets.seed(), rule.id, &rule.per, subject), terms, now.monotonic);
                Standing::of(rule, terms, bucket, at)
            })
            .collect()
    }

    /// Puts back what quotas had been used of before the process began. What is of another rule, or of a period that is over, is left out. What is of a
    /// period that has not begun (the clock was set back since) is kept: nothing is handed out again.
    pub fn restore(&self, quotas: &[Quota], now: Now) {
        let wall = self.wall(now.wall);
        for quota in quotas {
            let is_of = |rule: &&Judge| *rule.name == *quota.rule && rule.count.label() == quota.count;
            let Some(rule) = self.rules.iter().find(is_of) else { continue };
            // Whatever tier a caller is in, and whatever was granted: the periods are the same.
            let terms = rule.terms(None, 0, wall);
            if !matches!(terms, bucket::Terms::Quota { starts, .. } if starts <= quota.starts) || quota.used == 0 {
                continue;
            }
            let key = subject::key(self.buckets.seed(), rule.id, &rule.per, &quota.subject);
            let key = self.buckets.place_for(key, rule.overflow, now.monotonic);
            let restore = |bucket: bucket::Bucket, at| bucket.restore(quota.used, quota.starts, terms, at);
            self.buckets.change(key, terms, Some(now.monotonic), restore);
        }
    }

    /// The same while the gateway runs, for what is of rules that are new. A bucket that is in use is left as it is: it was used since the process began,
    /// by a rule of the same name that was gone for a while, and knows all that the ledger does.
    pub fn restore_new(&self, quotas: Vec<Quota>, now: Now) {
        let wall = self.wall(now.wall);
        let is_known = |quota: &Quota| {
            self.rules.iter().find(|rule| *rule.name == *quota.rule).is_none_or(|rule| {
                let key = subject::key(self.buckets.seed(), rule.id, &rule.per, &quota.subject);
                self.buckets.look(key, rule.terms(None, 0, wall), now.monotonic).0.taken() > 0
            })
        };
        let lost: Vec<Quota> = quotas.into_iter().filter(|quota| !is_known(quota)).collect();
        self.restore(&lost, now);
    }

    /// Takes in what another process has changed of quotas that both give of. What is of another rule, or of a period that is over, is left out.
    pub fn learn(&self, changes: &[QuotaElsewhere], now: Now) {
        let wall = self.wall(now.wall);
        for change in changes {
            let is_of = |rule: &&Judge| *rule.name == *change.rule && rule.count.label() == change.count;
            let Some(rule) = self.rules.iter().find(is_of) else { continue };
            let terms = rule.terms(None, 0, wall);
            if !matches!(terms, bucket::Terms::Quota { starts, .. } if starts <= change.starts) {
                continue;
            }
            let key = subject::key(self.buckets.seed(), rule.id, &rule.per, &change.subject);
            let key = self.buckets.place_for(key, rule.overflow, now.monotonic);
            let learn = |bucket: bucket::Bucket, at| match u64::try_from(change.delta) {
                Ok(more) => bucket.restore(more, change.starts, terms, at),
                Err(_) => bucket.give_back(change.delta.unsigned_abs(), change.starts, terms, at),
            };
            self.buckets.change(key, terms, Some(now.monotonic), learn);
        }
    }

    fn rule(&self, place: usize) -> Option<&Judge> {
        self.rules.get(place)
    }

    /// Seconds since 1970, by a clock that does not go back.
    fn wall(&self, now: SystemTime) -> u64 {
        self.buckets.wall(now)
    }

    /// What a call held is free again: whoever waits for it is called.
    fn released(&self, hold: &Hold) {
        self.buckets.queues.call(hold.key);
    }
}

/// Whose want it is: a rule's, for a caller.
#[derive(Clone, Copy, Debug)]
struct Of<'a> {
    place: usize,
    group: Option<&'a str>,
    tier: Option<u16>,
    more: u64,
}

/// The wall time, by a clock that does not go back: a grant that has ended does not begin anew. `wall`: its whole seconds.
fn told_by(wall: u64, now: Now) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(wall)).map_or(now.wall, |wall| wall.max(now.wall))
}

/// A budget can't be kept of what no price is known for.
fn is_priced(rule: &Judge, ask: &Ask<'_>) -> Result<(), Box<Refused>> {
    let Some(model) = &ask.call.model else { return Ok(()) };
    // A model that makes vectors has a price of its input alone; a call that says how much output it allows wants some.
    let output = u64::from(ask.call.asked.max_tokens.is_some());
    if (ask.price)(&Tokens { input: 1, output, ..Tokens::default() }) != Cost::Unpriced {
        return Ok(());
    }
    let name = &rule.name;
    let message =
        format!("model `{model}` has no price, and budget `{name}` can't be kept without: add it to the prices, or say `unpriced: allow`");
    Err(Box::new(Refused { rejection: Rejection::new(Reason::Unpriced, message), rates: Rates::default(), rule: Arc::clone(name) }))
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("rules", &self.rules).finish_non_exhaustive()
    }
}
