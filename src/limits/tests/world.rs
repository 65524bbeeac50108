//! A room whose calls take their time: a clock to turn, prices, and an observer that sums up.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::*;
use crate::config::limits::{Calendar, Every, Zone};
use crate::domain::{Grant, LimitWarning, QuotaChange, Usd};

pub(super) const DAY: u64 = 86_400;
/// A Sunday, 00:00 UTC.
pub(super) const SUNDAY: u64 = 20_000 * DAY + 2 * DAY;

/// A rule's name, whose quota, and when the period began.
type Booked = (Arc<str>, Subject, u64);

/// What the observer is told, summed up as a ledger would.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) sums: Mutex<HashMap<Booked, i128>>,
    pub(super) warnings: Mutex<Vec<LimitWarning>>,
}

impl Observer for Ledger {
    fn quota(&self, change: QuotaChange) {
        *self.sums.lock().entry((change.rule, change.subject, change.starts)).or_default() += i128::from(change.delta);
    }

    fn warn(&self, warning: LimitWarning) {
        self.warnings.lock().push(warning);
    }
}

impl Ledger {
    /// What it would have after a restart.
    pub(super) fn rows(&self, rules: &[Rule]) -> Vec<Quota> {
        let count = |name: &str| rules.iter().find(|rule| rule.name == name).unwrap().count.label().to_owned();
        let sums = self.sums.lock();
        let row = |((rule, subject, starts), used): (&Booked, &i128)| Quota {
            rule: rule.to_string(),
            count: count(rule),
            subject: subject.clone(),
            starts: *starts,
            used: u64::try_from(*used).expect("no sum is below nothing"),
        };
        sums.iter().map(row).collect()
    }

    /// What it has of all subjects in the period that began at `starts`.
    pub(super) fn sum(&self, starts: u64) -> i128 {
        self.sums.lock().iter().filter(|((_, _, of), _)| *of == starts).map(|(_, sum)| *sum).sum()
    }
}

pub(super) struct World {
    pub(super) limits: Arc<Limits>,
    pub(super) buckets: Arc<Buckets>,
    pub(super) grants: Arc<Grants>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) rules: Vec<Rule>,
    pub(super) start: Instant,
    /// Nanoseconds since the start.
    pub(super) at: u64,
    /// Seconds since 1970.
    pub(super) wall: u64,
}

/// What a call asks for, in tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asks {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) streamed: bool,
}

pub(super) const SMALL: Asks = Asks { input: 10, output: 90, streamed: false };

/// Ten picodollars a token.
pub(super) fn price(tokens: &Tokens) -> Cost {
    Cost::Priced(Usd::from_picos(tokens.total() * 10))
}

pub(super) fn tokens(input: u64, output: u64) -> Tokens {
    Tokens { input, output, ..Tokens::default() }
}

pub(super) fn daily(name: &str, count: Count, limit: u64) -> Rule {
    Rule::new(name, count, Bound::Quota { limit, calendar: Calendar { every: Every::Day, starts_on: 1, zone: Zone::UTC } })
}

pub(super) fn in_flight(limit: u64) -> Rule {
    Rule::new("in-flight", Count::Concurrency, Bound::Max(limit))
}

pub(super) fn grant(rule: &str, tenant: &str, more: u64, until: u64) -> Grant {
    Grant {
        id: 1,
        rule: rule.into(),
        tenant: tenant.into(),
        user: None,
        more,
        until: SystemTime::UNIX_EPOCH + Duration::from_secs(until),
        made: SystemTime::UNIX_EPOCH,
        note: String::new(),
    }
}

impl World {
    pub(super) fn new(rules: &[Rule], capacity: usize) -> Self {
        let start = start();
        let buckets = Buckets::new(capacity, start);
        let (grants, ledger) = (Arc::new(Grants::default()), Arc::new(Ledger::default()));
        let limits = Limits::build(rules, Arc::clone(&buckets), Arc::clone(&grants), Arc::clone(&ledger) as Arc<dyn Observer>);
        // Noon: half a day of either side.
        Self { limits, buckets, grants, ledger, rules: rules.to_vec(), start, at: 0, wall: SUNDAY + DAY / 2 }
    }

    /// Other rules over the same buckets.
    pub(super) fn reload(&mut self, rules: &[Rule]) {
        let ledger = Arc::clone(&self.ledger) as Arc<dyn Observer>;
        self.limits = Limits::build(rules, Arc::clone(&self.buckets), Arc::clone(&self.grants), ledger);
        self.rules = rules.to_vec();
    }

    /// The same rules in a new process, with what the ledger kept.
    pub(super) fn restart(&self) -> Self {
        let mut new = Self::new(&self.rules, 1_000);
        new.wall = self.wall;
        new.limits.restore(&self.ledger.rows(&self.rules), new.now());
        *new.ledger.sums.lock() = self.ledger.sums.lock().clone();
        new
    }

    pub(super) fn now(&self) -> Now {
        Now { monotonic: self.start + Duration::from_nanos(self.at), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(self.wall) }
    }

    /// Turns both clocks.
    pub(super) fn wait(&mut self, time: Duration) {
        self.at += u64::try_from(time.as_nanos()).unwrap();
        self.wall += time.as_secs();
    }

    pub(super) fn call_for(&self, who: &Principal, model: &str, asks: Asks) -> Result<Admission, Box<Refused>> {
        let asked =
            Asked { text_bytes: asks.input * 3, media: 0, max_tokens: Some(asks.output), streamed: asks.streamed, ..Default::default() };
        let call = Call { service: Service::BEDROCK_RUNTIME, path: "/".into(), query: "".into(), model: Some(model.into()), asked };
        let ask = Ask { principal: who, call: &call, route: "everything", address: None, price: &price };
        self.limits.admit(&ask, self.now())
    }

    pub(super) fn call(&self, asks: Asks) -> Result<Admission, Box<Refused>> {
        self.call_for(&caller("acme", Some("ann")), "amazon.nova-lite", asks)
    }

    pub(super) fn settle(&self, admission: Admission, input: u64, output: u64) {
        let tokens = tokens(input, output);
        admission.settle(Some((&tokens, price(&tokens))), self.now());
    }

    pub(super) fn grow(&self, admission: &mut Admission, input: u64, output: u64) -> Result<(), Cut> {
        let tokens = tokens(input, output);
        admission.grow(&tokens, || price(&tokens), self.now())
    }

    /// What all buckets hold.
    pub(super) fn held(&self) -> u64 {
        self.buckets.dump().values().map(|bucket| bucket.held).sum()
    }

    /// What all buckets are used of, as they were left.
    pub(super) fn used(&self) -> u64 {
        self.buckets.dump().values().map(|bucket| bucket.used).sum()
    }
}
