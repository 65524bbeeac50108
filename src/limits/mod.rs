//! Can they now? Every rule that matches a call must admit it.
//!
//! A rule gives each caller a token bucket. Invariants, each held by a property test:
//! * a bucket never admits more than its burst at once, nor more than burst + rate × t in any window of length t;
//! * all rules are checked and taken in one step that nothing interleaves with, and a refusal moves no bucket;
//! * `retry_after` is exactly when the same request would pass, were nobody else to come;
//! * memory is bounded, whatever clients send ([`Buckets`]).
//!
//! [`Limits`] follows from the configuration and is swapped on a reload; [`Buckets`] lives on, and a rule finds its buckets again by its name.

mod bucket;
mod buckets;
mod key;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::buckets::Buckets;

use self::bucket::Terms;
use self::buckets::Want;
use self::key::{Key, Seed};
use crate::config::limits::{Count, Dimension, Rate, Rule};
use crate::domain::{Glob, Principal, Reason, Rejection};

/// The rules, ready to judge by.
#[derive(Debug)]
pub struct Limits {
    rules: Box<[Judge]>,
    buckets: Arc<Buckets>,
}

/// One rule, with what follows from it worked out beforehand.
#[derive(Debug)]
struct Judge {
    name: Arc<str>,
    /// As refusals say it: `600 requests a minute per tenant`.
    wording: Box<str>,
    /// The rule's part of its buckets' keys.
    id: Key,
    /// The key of the bucket that its newcomers share when there is no room for more.
    overflow: Key,
    /// Without duplicates: the parts of a key are combined by XOR, and one that came twice would vanish.
    per: Box<[Dimension]>,
    /// Empty for all.
    tenants: Box<[Glob]>,
    terms: Terms,
}

impl Limits {
    /// Makes the rules ready. A rule finds the buckets of its predecessor of the same name and `per` in `buckets`; what was taken from
    /// them stays taken, and refills at the new rate.
    ///
    /// Names are unique among `rules`: the configuration is checked for it.
    #[must_use]
    pub fn build(rules: &[Rule], buckets: Arc<Buckets>) -> Self {
        let rules = rules.iter().map(|rule| Judge::new(rule, buckets.seed())).collect();
        Self { rules, buckets }
    }

    /// Takes one request from every rule's bucket for `principal`, or nothing from any.
    ///
    /// `now` is monotonic; a `now` a little behind that of a concurrent call is in order.
    ///
    /// # Errors
    /// [`Reason::RateLimited`] when a rule refuses; the message names the one with the longest wait, and `retry_after` is that wait.
    pub fn admit(&self, principal: &Principal, now: Instant) -> Result<Admission, Rejection> {
        let caller = Caller::new(principal, self.buckets.seed());
        let mut wants: Vec<Want<&Judge>> = self
            .rules
            .iter()
            .filter(|rule| rule.covers(&principal.tenant))
            .map(|rule| Want::new(rule, rule.key(&caller), rule.overflow, rule.terms))
            .collect();
        if let Err(refusal) = self.buckets.take_all(&mut wants, now) {
            return Err(refusal.of.refuse(refusal.wait));
        }
        // Fewest left first; of equals, the one that takes longest to fill.
        let tightest = wants.iter().min_by_key(|want| (want.remaining(), std::cmp::Reverse(want.debt())));
        Ok(Admission {
            tightest: tightest.map(|want| Standing {
                rule: Arc::clone(&want.of.name),
                limit: want.terms.burst(),
                remaining: want.remaining(),
                reset: want.debt(),
            }),
        })
    }

    /// Where `tenant` stands under each rule that gives a tenant one bucket for all its callers. Takes nothing.
    #[must_use]
    pub fn standing(&self, tenant: &str, now: Instant) -> Vec<Standing> {
        let rules = self.rules.iter().filter(|rule| *rule.per == [Dimension::Tenant] && rule.covers(tenant));
        rules
            .map(|rule| {
                let debt = self.buckets.debt(rule.id ^ self.buckets.seed().tenant(tenant), rule.terms, now);
                Standing {
                    rule: Arc::clone(&rule.name),
                    limit: rule.terms.burst(),
                    remaining: rule.terms.remaining(debt),
                    reset: Duration::from_nanos(debt),
                }
            })
            .collect()
    }
}

impl Judge {
    fn new(rule: &Rule, seed: &Seed) -> Self {
        let mut per = Vec::with_capacity(rule.per.len());
        for dimension in &rule.per {
            if !per.contains(dimension) {
                per.push(*dimension);
            }
        }
        Self {
            name: rule.name.as_str().into(),
            wording: wording(rule.count, rule.rate, &per).into(),
            id: seed.rule(&rule.name),
            overflow: seed.overflow(&rule.name),
            per: per.into(),
            tenants: rule.tenants.as_slice().into(),
            terms: Terms::new(rule.rate, rule.burst),
        }
    }

    fn covers(&self, tenant: &str) -> bool {
        self.tenants.is_empty() || self.tenants.iter().any(|pattern| pattern.matches(tenant))
    }

    fn key(&self, caller: &Caller<'_>) -> Key {
        self.per.iter().fold(self.id, |key, dimension| key ^ caller.part(*dimension))
    }

    fn refuse(&self, wait: Duration) -> Rejection {
        let Self { name, wording, .. } = self;
        Rejection::new(Reason::RateLimited, format!("limit `{name}` reached: {wording}; try again in {}", roughly(wait))).retry_after(wait)
    }
}

/// A call that was admitted. A request made is made: nothing is given back when this is dropped.
#[derive(Debug)]
#[must_use = "an admission is carried to the end of its exchange"]
pub struct Admission {
    tightest: Option<Standing>,
}

impl Admission {
    /// Where the caller stands under the rule with the fewest requests left; none when there are no rules.
    #[must_use]
    pub fn tightest(&self) -> Option<&Standing> {
        self.tightest.as_ref()
    }
}

/// Where a caller stands under one rule: right after a request was taken, where one was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The rule's name.
    pub rule: Arc<str>,
    /// Requests that a full bucket admits at once: the burst (or 146 years' worth of the rate, if that is less).
    pub limit: u64,
    /// Whole requests that the bucket would still admit now.
    pub remaining: u64,
    /// The time until the bucket is full again, if nothing more is taken.
    pub reset: Duration,
}

/// The parts of a caller's keys, each hashed at most once a request.
struct Caller<'a> {
    principal: &'a Principal,
    seed: &'a Seed,
    tenant: OnceCell<Key>,
    user: OnceCell<Key>,
}

impl<'a> Caller<'a> {
    const fn new(principal: &'a Principal, seed: &'a Seed) -> Self {
        Self { principal, seed, tenant: OnceCell::new(), user: OnceCell::new() }
    }

    fn part(&self, dimension: Dimension) -> Key {
        let Principal { tenant, user, .. } = self.principal;
        match dimension {
            Dimension::Tenant => *self.tenant.get_or_init(|| self.seed.tenant(tenant)),
            Dimension::User => *self.user.get_or_init(|| self.seed.user(tenant, user.as_deref())),
        }
    }
}

/// `600 requests a minute per tenant`.
fn wording(count: Count, rate: Rate, per: &[Dimension]) -> String {
    let unit = match (count, rate.events) {
        (Count::Requests, 1) => "request",
        (Count::Requests, _) => "requests",
    };
    let period: Cow<'_, str> = match rate.period.as_secs_f64() {
        1.0 => "a second".into(),
        60.0 => "a minute".into(),
        3600.0 => "an hour".into(),
        seconds => format!("in {seconds} s").into(),
    };
    let per: Vec<&str> = per.iter().map(|dimension| dimension.label()).collect();
    let events = rate.events;
    if per.is_empty() { format!("{events} {unit} {period}") } else { format!("{events} {unit} {period} per {}", per.join(" and ")) }
}

/// A wait as people read it; rounded up, so that nobody who keeps to it comes early.
fn roughly(wait: Duration) -> String {
    let millis = wait.as_nanos().div_ceil(1_000_000);
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..10_000 => {
            let tenths = millis.div_ceil(100);
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        _ => format!("{} s", millis.div_ceil(1_000)),
    }
}
