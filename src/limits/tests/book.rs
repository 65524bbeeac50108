//! What the accounts of a room must come to: kept by fractions, from what is written of limits and not from how they are made.

use std::collections::HashMap;

use super::super::bucket::Bucket;

/// So many parts are a unit: whatever the period of a rate, whole parts drain in a nanosecond.
pub(super) const PARTS: u128 = 3_600_000_000_000;

/// What a rule gives a caller at some time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gives {
    pub(super) capacity: u64,
    /// Of a rate: so many parts drain in a nanosecond.
    pub(super) drains: u128,
    /// Of a quota: when the period began.
    pub(super) starts: Option<u64>,
}

/// At least, and at most.
type Between = (u128, u128);

/// One caller's account under one rule.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// What is used of a rate, in parts, at `seen`. A change may round in the rule's favour by a nanosecond's worth.
    used: Between,
    seen: u64,
    /// What drained at the last change.
    drains: u128,
    pub(super) held: u64,
    /// What is used of a quota, by its periods.
    pub(super) periods: HashMap<u64, u64>,
    /// When what was used of a rate.
    uses: Vec<(u64, u64)>,
    /// What calls used beyond what was reserved for them.
    beyond: u64,
    /// The most that anyone was given: capacity, and what drains.
    most: (u64, u128),
}

impl Account {
    /// What is used at `now`, in parts.
    fn used(&self, gives: Gives, now: u64) -> Between {
        if let Some(starts) = gives.starts {
            let used = u128::from(self.periods.get(&starts).copied().unwrap_or(0)) * PARTS;
            return (used, used);
        }
        let (mut least, mut most) = self.used;
        if self.drains != gives.drains && self.drains > 0 {
            // The time that was too short for a unit to drain in counts at the rate that holds now.
            least = least.saturating_sub(PARTS * gives.drains / self.drains + gives.drains);
            most += PARTS + self.drains;
        }
        let drained = u128::from(now - self.seen) * gives.drains;
        (least.saturating_sub(drained), most.saturating_sub(drained))
    }

    /// What is used and held, in whole units.
    pub(super) fn taken(&self, gives: Gives, now: u64) -> Between {
        let (least, most) = self.used(gives, now);
        (least.div_ceil(PARTS) + u128::from(self.held), most.div_ceil(PARTS) + u128::from(self.held))
    }

    /// What is left, in whole units.
    pub(super) fn room(&self, gives: Gives, now: u64) -> Between {
        let (least, most) = self.taken(gives, now);
        (u128::from(gives.capacity).saturating_sub(most), u128::from(gives.capacity).saturating_sub(least))
    }

    fn change(&mut self, gives: Gives, now: u64) {
        if gives.starts.is_none() {
            let (least, most) = self.used(gives, now);
            (self.used, self.seen, self.drains) = ((least, most + gives.drains), now, gives.drains);
        }
        self.most = (self.most.0.max(gives.capacity), self.most.1.max(gives.drains));
    }

    fn uses(&mut self, gives: Gives, now: u64, amount: u64) {
        if let Some(starts) = gives.starts {
            *self.periods.entry(starts).or_default() += amount;
        } else {
            let parts = u128::from(amount) * PARTS;
            self.used = (self.used.0 + parts, self.used.1 + parts);
            self.uses.push((now, amount));
        }
    }

    /// A request is used at once.
    pub(super) fn takes(&mut self, gives: Gives, now: u64) {
        self.change(gives, now);
        self.uses(gives, now, 1);
    }

    pub(super) fn holds(&mut self, gives: Gives, now: u64, amount: u64) {
        self.change(gives, now);
        self.held += amount;
    }

    /// What is `held` is given back, and `used` was used; `reserved` at first.
    pub(super) fn settles(&mut self, gives: Gives, now: u64, (reserved, held): (u64, u64), used: u64) {
        self.change(gives, now);
        self.held -= held;
        if used > 0 {
            self.uses(gives, now, used);
        }
        self.beyond += used.saturating_sub(reserved);
    }

    /// A request of `since` was never made. All that drained since then counts as its own.
    pub(super) fn undo(&mut self, gives: Gives, now: u64, (since, starts): (u64, Option<u64>)) {
        if let Some(starts) = starts {
            *self.periods.get_mut(&starts).unwrap() -= 1;
            return;
        }
        self.change(gives, now);
        let back = PARTS.saturating_sub(u128::from(now - since) * gives.drains);
        self.used = (self.used.0.saturating_sub(back), self.used.1.saturating_sub(back));
        let of_then = self.uses.iter().position(|(at, _)| *at == since).unwrap();
        self.uses.remove(of_then);
    }

    /// The bucket, or that there is none, is as it must be. `starts`: the period of a quota that runs.
    pub(super) fn check(&mut self, bucket: Option<&Bucket>, now: u64, starts: Option<u64>) {
        for used in self.periods.values() {
            assert!(*used <= self.most.0 + self.beyond, "no period has more than the quota: {used}");
        }
        let (least, most) = self.used(Gives { capacity: 0, drains: self.drains, starts }, now);
        let Some(bucket) = bucket else {
            assert_eq!((self.held, least), (0, 0), "only what is idle is forgotten");
            self.used = (0, 0);
            return;
        };
        assert_eq!(bucket.held, self.held, "what is held");
        if starts.is_some() {
            assert_eq!(bucket.used, self.periods.get(&bucket.at).copied().unwrap_or(0), "what is used of a quota");
        } else {
            let used = (u128::from(bucket.used) * PARTS).saturating_sub(u128::from(now - bucket.at) * self.drains);
            assert!((least..=most).contains(&used), "{used} parts are used, of {least} to {most}");
        }
    }

    /// In no time was more used than the capacity and what drained in that time, but for what calls used beyond what was reserved.
    pub(super) fn check_windows(&self) {
        for (first, (from, _)) in self.uses.iter().enumerate() {
            let mut sum = 0;
            for (to, amount) in &self.uses[first..] {
                sum += u128::from(*amount) * PARTS;
                let most = u128::from(self.most.0 + self.beyond) * PARTS + u128::from(to - from) * self.most.1;
                assert!(sum <= most || self.most.1 == 0, "{sum} parts in {} ns, and {most} are the most", to - from);
            }
        }
    }
}
