//! A room and the book of it, side by side: what happens in the one is written into the other, and the two are compared.

use std::collections::HashMap;

use super::book::{Account, Gives, PARTS};
use super::world::*;
use super::*;
use crate::config::limits::{Every, Measure};
use crate::domain::Grant;

pub(super) const MODELS: [&str; 2] = ["amazon.nova-lite", "anthropic.claude-sonnet-5"];
pub(super) const NANOS: u64 = 1_000_000_000;

/// How a call ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// So many quarters of what it asked for are used.
    Settled(u64),
    Untold,
    Unsent,
    Torn,
}

/// What a call comes to under a rule: `before` it is made, or as it was used.
fn comes_to(rule: &Rule, model: &str, tokens: (u64, u64), before: bool) -> u64 {
    let (input, output) = tokens;
    match (rule.count, &rule.measure) {
        (Count::Requests | Count::Concurrency, _) => 1,
        (Count::Usd, _) => (input + output) * 10,
        (Count::Tokens, Measure::Weights(weights)) => input * u64::from(weights.input) + output * u64::from(weights.output),
        (Count::Tokens, Measure::Bedrock { .. }) if before => (input + output) * 1_000,
        (Count::Tokens, Measure::Bedrock { .. }) => (input + output * if model == MODELS[0] { 3 } else { 5 }) * 1_000,
    }
}

/// When the period of a calendar in UTC began that a time is in.
fn began(every: Every, wall: u64) -> u64 {
    let day = wall / DAY;
    if every == Every::Day {
        return day * DAY;
    }
    // The first of October 2024, and on.
    let mut first = 19_997;
    for days in [31, 30, 31, 31, 28, 31, 30, 31, 30, 31, 31, 30].into_iter().cycle() {
        if first + days > day {
            break;
        }
        first += days;
    }
    first * DAY
}

/// What a call has of one account.
struct Part {
    rule: usize,
    subject: Subject,
    gives: Gives,
    reserved: u64,
    held: u64,
    since: u64,
}

/// A call under way.
pub(super) struct Running {
    admission: Admission,
    model: &'static str,
    asks: Asks,
    parts: Vec<Part>,
}

/// A room, and the book of it.
pub(super) struct History {
    pub(super) world: World,
    pub(super) book: HashMap<(usize, Subject), Account>,
    pub(super) running: Vec<Running>,
    pub(super) grants: Vec<Grant>,
    /// The last time that anyone told: what is dropped tells none.
    pub(super) latest: u64,
}

impl History {
    pub(super) fn new(rules: &[Rule]) -> Self {
        // One shard: all of them have one time.
        let mut new = Self { world: World::new(rules, 100), book: HashMap::new(), running: Vec::new(), grants: Vec::new(), latest: 0 };
        // Shortly after the epoch what is given back is rounded in the rule's favour, by up to a unit: no time is before it.
        new.passes(2 * 3_600 * NANOS);
        new
    }

    pub(super) fn passes(&mut self, nanos: u64) {
        self.world.at += nanos;
        self.world.wall = SUNDAY + DAY / 2 + self.world.at / NANOS;
    }

    /// Of a quota: when its period began.
    fn starts(&self, rule: usize) -> Option<u64> {
        let Bound::Quota { calendar, .. } = self.world.rules[rule].bound else { return None };
        Some(began(calendar.every, self.world.wall))
    }

    fn gives(&self, rule: usize, who: &Principal) -> Gives {
        let (at, rule) = (rule, &self.world.rules[rule]);
        let tier = rule.tiers.first().filter(|_| who.groups.iter().any(|group| &**group == "gold"));
        let now = self.world.now().wall;
        let counts = |grant: &&Grant| {
            // What a user was granted is for a bucket of their own.
            let is_theirs = rule.per.contains(&Dimension::User) && grant.user == who.user;
            *grant.rule == rule.name && grant.tenant == who.tenant && grant.until > now && (grant.user.is_none() || is_theirs)
        };
        let more: u64 = self.grants.iter().filter(counts).map(|grant| grant.more).sum();
        match tier.map_or(rule.bound, |tier| tier.bound) {
            Bound::Rate { amount, period, burst } => {
                Gives { capacity: burst + more, drains: u128::from(amount + more) * PARTS / period.as_nanos(), starts: None }
            }
            Bound::Quota { limit, .. } => Gives { capacity: limit + more, drains: 0, starts: self.starts(at) },
            Bound::Max(limit) => Gives { capacity: limit + more, drains: 0, starts: None },
        }
    }

    fn key(&self, rule: usize, subject: &Subject) -> key::Key {
        subject::key(self.world.buckets.seed(), self.world.limits.rules[rule].id, &self.world.rules[rule].per, subject)
    }

    /// Makes a call, and tells how long it must wait where it can be told.
    pub(super) fn comes(&mut self, who: &Principal, model: &'static str, asks: Asks) -> Option<Duration> {
        let now = self.world.at;
        self.latest = now;
        let before = self.world.buckets.dump();
        let result = self.world.call_for(who, model, asks);
        let after = self.world.buckets.dump();
        let refused = result.as_ref().err().map(|refused| refused.rule.to_string());
        let shadows: Vec<Arc<str>> = result.as_ref().map_or(Vec::new(), |admission| admission.shadows().to_vec());
        let (mut parts, mut all_must) = (Vec::new(), true);
        for (at, rule) in self.world.rules.iter().enumerate() {
            let (gives, subject) = (self.gives(at, who), subject_of(rule, who, model));
            let key = self.key(at, &subject);
            let account = self.book.entry((at, subject.clone())).or_default();
            let wanted = comes_to(rule, model, (asks.input, asks.output), true).max(1);
            let beginning = comes_to(rule, model, (asks.input, asks.output.min(1)), true).max(1);
            let needed = if rule.cut && asks.streamed { beginning } else { wanted };
            let (sure, possible) = account.room(gives, now);
            let (must, may) = (u128::from(needed) <= sure, u128::from(needed) <= possible);
            if !rule.shadow {
                all_must &= must;
                assert!(refused.is_some() || may, "admitted, and {} has no room", rule.name);
                assert!(refused.as_ref() != Some(&rule.name) || !must, "refused, and {} has room", rule.name);
            }
            let is_shadowed = shadows.iter().any(|name| **name == *rule.name);
            assert!(!is_shadowed || rule.shadow && !must, "{} would admit it", rule.name);
            if refused.is_some() || is_shadowed {
                continue;
            }
            assert!(may, "{} would not admit it", rule.name);
            let part = |reserved, held| Part { rule: at, subject: subject.clone(), gives, reserved, held, since: now };
            if rule.count == Count::Requests {
                account.takes(gives, now);
                parts.push(part(0, 0));
            } else {
                let taken = after[&key].held - account.held;
                let all = u128::from(wanted);
                assert!((all.min(sure)..=all.min(possible)).contains(&u128::from(taken)), "{taken} of {wanted} is reserved");
                account.holds(gives, now, taken);
                assert!(rule.count != Count::Concurrency || account.held <= gives.capacity, "so many are under way at most");
                parts.push(part(taken, taken));
            }
        }
        match result {
            Ok(admission) => {
                self.running.push(Running { admission, model, asks, parts });
                None
            }
            Err(refused) => {
                assert!(!all_must, "refused, and all have room");
                assert_eq!(after, before, "a refusal moves nothing");
                let told = refused.rejection.message.contains("try again in").then_some(refused.rejection.retry_after);
                told.flatten()
            }
        }
    }

    /// Nobody else comes, and it passes when it was told and not before, or is kept by what calls under way hold.
    pub(super) fn comes_again(&mut self, who: &Principal, model: &'static str, asks: Asks, wait: Duration) {
        let (nanos, wall) = (u64::try_from(wait.as_nanos()).unwrap(), SystemTime::UNIX_EPOCH + Duration::from_secs(self.world.wall));
        let ends = |grant: &Grant| grant.until > wall && grant.until <= wall + wait + SECOND;
        if wait > 3 * 24 * HOUR || self.grants.iter().any(ends) {
            return;
        }
        self.passes(nanos - 1);
        let running = self.running.len();
        self.comes(who, model, asks);
        assert_eq!(self.running.len(), running, "a nanosecond before it was to come");
        self.passes(1);
        let told = self.comes(who, model, asks);
        assert_eq!(told, None, "it came when it was told");
        let held = self.world.held() > 0;
        assert!(held || self.running.len() > running, "nothing is held");
    }

    pub(super) fn grows(&mut self, which: usize, quarters: u64) {
        let Some(at) = which.checked_rem(self.running.len()) else { return };
        let mut running = self.running.swap_remove(at);
        let used = (running.asks.input, running.asks.output * quarters / 4);
        let (mut surely, mut maybe) = (false, false);
        for part in &mut running.parts {
            let rule = &self.world.rules[part.rule];
            let used = comes_to(rule, running.model, used, false);
            if matches!(rule.count, Count::Requests | Count::Concurrency) || used <= part.held {
                continue;
            }
            self.latest = self.world.at;
            let gives = Gives { starts: self.starts(part.rule), ..part.gives };
            let account = self.book.get_mut(&(part.rule, part.subject.clone())).unwrap();
            account.holds(gives, self.world.at, used - part.held);
            part.held = used;
            let (least, most) = account.taken(gives, self.world.at);
            let cuts = rule.cut && !rule.shadow;
            surely |= cuts && least > u128::from(gives.capacity);
            maybe |= cuts && most > u128::from(gives.capacity);
        }
        let cut = self.world.grow(&mut running.admission, used.0, used.1);
        assert!(if cut.is_err() { maybe } else { !surely }, "{cut:?}");
        self.running.push(running);
    }

    pub(super) fn ends(&mut self, which: usize, end: End) {
        let Some(at) = which.checked_rem(self.running.len()) else { return };
        let Running { mut admission, model, asks, parts } = self.running.swap_remove(at);
        let told = matches!(end, End::Settled(_) | End::Untold);
        if told && parts.iter().any(|part| part.held > 0) {
            self.latest = self.world.at;
        }
        let now = if told { self.world.at } else { self.latest };
        let quarters = if let End::Settled(quarters) = end { quarters } else { 0 };
        let usage = (asks.input * quarters / 4, asks.output * quarters / 4);
        for part in parts {
            let rule = &self.world.rules[part.rule];
            let starts = self.starts(part.rule);
            let account = self.book.get_mut(&(part.rule, part.subject)).unwrap();
            let gives = Gives { starts, ..part.gives };
            let used = match (rule.count, end) {
                (Count::Requests, End::Unsent) => {
                    account.undo(gives, now, (part.since, part.gives.starts));
                    continue;
                }
                (Count::Requests, _) => continue,
                (Count::Tokens | Count::Usd, End::Untold) => part.held,
                (Count::Tokens | Count::Usd, End::Settled(_)) => comes_to(rule, model, usage, false),
                (Count::Concurrency, _) | (_, End::Unsent | End::Torn) => 0,
            };
            account.settles(gives, now, (part.reserved, part.held), used);
        }
        match end {
            End::Settled(_) => self.world.settle(admission, usage.0, usage.1),
            End::Untold => admission.settle(None, self.world.now()),
            End::Unsent => drop(admission),
            End::Torn => {
                admission.sent();
                drop(admission);
            }
        }
    }

    /// All buckets, and what the ledger was told, are as the book has it.
    pub(super) fn check(&mut self) {
        let mut sums: HashMap<(Arc<str>, Subject, u64), i128> = HashMap::new();
        let (buckets, mut book) = (self.world.buckets.dump(), std::mem::take(&mut self.book));
        for ((rule, subject), account) in &mut book {
            account.check(buckets.get(&self.key(*rule, subject)), self.world.at, self.starts(*rule));
            for (starts, used) in &account.periods {
                *sums.entry((self.world.rules[*rule].name.as_str().into(), subject.clone(), *starts)).or_default() += i128::from(*used);
            }
        }
        self.book = book;
        for part in self.running.iter().flat_map(|running| &running.parts) {
            let Some(starts) = part.gives.starts else { continue };
            let name = self.world.rules[part.rule].name.as_str().into();
            *sums.entry((name, part.subject.clone(), starts)).or_default() += i128::from(part.held);
        }
        let mut told = self.world.ledger.sums.lock().clone();
        told.retain(|_, sum| *sum != 0);
        sums.retain(|_, sum| *sum != 0);
        assert_eq!(told, sums, "what the ledger was told");
    }
}

fn subject_of(rule: &Rule, who: &Principal, model: &str) -> Subject {
    let has = |dimension| rule.per.contains(&dimension);
    Subject {
        tenant: (has(Dimension::Tenant) || has(Dimension::User)).then(|| Arc::clone(&who.tenant)),
        user: has(Dimension::User).then(|| who.user.clone().unwrap_or_default()),
        model: has(Dimension::Model).then(|| model.into()),
        ..Subject::default()
    }
}
