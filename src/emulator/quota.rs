//! The emulator as the account that AWS throttles: what would Bedrock refuse, and how much of a quota is used?
//!
//! Its arithmetic is its own, and shares no code with the gateway's limits: it is their judge. What AWS documents: when a call begins, its whole input, caches
//! included, and the output that it allows are deducted from the quota, and it is throttled where they don't fit; when it ends, input, cache writes and output
//! times the burndown rate are deducted instead. What AWS does not document is how a quota comes back. Here it comes back all the time, evenly, reserved or
//! not, up to what one period grants; a call that has used more than it reserved leaves the quota below nothing. A throttled call takes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::answer::Usage;
use super::reply::Failure;
use crate::domain::{Clock, Glob};

/// How many models have accounts of their own; those beyond share one.
const MOST_MODELS: usize = 1_000;

/// What the account may use of each model that matches.
#[derive(Clone, Debug)]
pub struct Quota {
    /// The models, as their ids stand in the path or the body; each has the whole quota for itself.
    pub models: Glob,
    /// Tokens in a period.
    pub tokens: Option<u64>,
    /// Requests in a period.
    pub requests: Option<u64>,
    /// A minute with AWS; shorter for tests. At least a nanosecond.
    pub period: Duration,
    /// How often a token of output counts.
    pub burndown: u64,
    /// Output tokens that are reserved for a call that does not say how many it allows.
    pub most_output: u64,
}

impl Quota {
    /// For every model, with a burndown of 5 and, where a call says nothing, 64,000 tokens of output.
    #[must_use]
    pub fn a_minute(tokens: Option<u64>, requests: Option<u64>) -> Self {
        Self { models: Glob::new("*"), tokens, requests, period: Duration::from_mins(1), burndown: 5, most_output: 64_000 }
    }
}

/// How one model's quota was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaUse {
    /// Tokens, as the quota counts them, of calls that have ended.
    pub tokens: u64,
    /// Calls that were answered.
    pub requests: u64,
    /// Calls that were throttled.
    pub throttled: u64,
    /// The most output tokens by which a call went beyond what it had reserved, as the quota counts them.
    pub most_beyond: u64,
}

#[derive(Debug)]
pub(super) struct Accounts {
    quotas: Vec<Quota>,
    clock: Clock,
    by_model: Mutex<BTreeMap<String, Account>>,
}

#[derive(Debug)]
struct Account {
    /// What is left, in tokens times the period's nanoseconds, so that nothing is ever rounded.
    tokens: i128,
    requests: i128,
    at: Instant,
    used: QuotaUse,
}

/// What a call has reserved. Settled, its use takes the place of that; dropped, it never ran.
#[derive(Debug)]
pub(super) struct Reserved {
    accounts: Arc<Accounts>,
    model: String,
    quota: usize,
    tokens: u64,
    settled: bool,
}

impl Accounts {
    pub(super) fn new(quotas: Vec<Quota>, clock: Clock) -> Arc<Self> {
        Arc::new(Self { quotas, clock, by_model: Mutex::default() })
    }

    /// Reserves what a call may use: none where its model has no quota. `input`: all of it, caches included.
    pub(super) fn begin(self: &Arc<Self>, model: &str, input: u64, max_tokens: Option<u64>) -> Result<Option<Reserved>, Failure> {
        let Some((place, quota)) = self.quotas.iter().enumerate().find(|(_, quota)| quota.models.matches(model)) else { return Ok(None) };
        let reserve = input.saturating_add(max_tokens.unwrap_or(quota.most_output));
        let mut accounts = self.by_model.lock();
        let model = if accounts.len() < MOST_MODELS || accounts.contains_key(model) { model } else { "other" }.to_owned();
        let now = self.clock.monotonic();
        let account = accounts.entry(model.clone()).or_insert_with(|| Account::full(quota, now));
        account.refill(quota, now);
        let (wanted, one) = (in_nanos(reserve, quota), in_nanos(1, quota));
        let refuse = |what| Failure {
            status: 429,
            kind: "ThrottlingException",
            message: format!("Too many {what}, please wait before trying again.").into(),
        };
        if quota.tokens.is_some() && account.tokens < wanted {
            account.used.throttled += 1;
            return Err(refuse("tokens"));
        }
        if quota.requests.is_some() && account.requests < one {
            account.used.throttled += 1;
            return Err(refuse("requests"));
        }
        account.tokens -= wanted;
        account.requests -= one;
        account.used.requests += 1;
        drop(accounts);
        Ok(Some(Reserved { accounts: Arc::clone(self), model, quota: place, tokens: reserve, settled: false }))
    }

    pub(super) fn used(&self) -> BTreeMap<String, QuotaUse> {
        self.by_model.lock().iter().map(|(model, account)| (model.clone(), account.used)).collect()
    }
}

impl Account {
    fn full(quota: &Quota, at: Instant) -> Self {
        let of = |most: Option<u64>| in_nanos(most.unwrap_or(0), quota);
        Self { tokens: of(quota.tokens), requests: of(quota.requests), at, used: QuotaUse::default() }
    }

    fn refill(&mut self, quota: &Quota, now: Instant) {
        let nanos = i128::try_from(now.saturating_duration_since(self.at).as_nanos()).unwrap_or(i128::MAX);
        self.at = self.at.max(now);
        for (left, most) in [(&mut self.tokens, quota.tokens), (&mut self.requests, quota.requests)] {
            if let Some(most) = most {
                *left = left.saturating_add(i128::from(most).saturating_mul(nanos)).min(in_nanos(most, quota));
            }
        }
    }
}

fn in_nanos(amount: u64, quota: &Quota) -> i128 {
    i128::from(amount).saturating_mul(i128::try_from(quota.period.as_nanos()).unwrap_or(i128::MAX))
}

impl Reserved {
    /// The call has ended, and used so much.
    pub(super) fn settle(mut self, usage: Usage) {
        let burndown = self.accounts.quotas.get(self.quota).map_or(1, |quota| quota.burndown);
        let used = usage.input.saturating_add(usage.cache_write()).saturating_add(usage.output.saturating_mul(burndown));
        self.settled = true;
        self.replace_by(used, used.saturating_sub(self.tokens));
    }

    fn replace_by(&self, used: u64, beyond: u64) {
        let Some(quota) = self.accounts.quotas.get(self.quota) else { return };
        let now = self.accounts.clock.monotonic();
        let mut accounts = self.accounts.by_model.lock();
        if let Some(account) = accounts.get_mut(&self.model) {
            account.refill(quota, now);
            account.tokens =
                (account.tokens + in_nanos(self.tokens, quota) - in_nanos(used, quota)).min(in_nanos(quota.tokens.unwrap_or(0), quota));
            account.used.tokens += used;
            account.used.most_beyond = account.used.most_beyond.max(beyond);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.settled {
            self.replace_by(0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::domain::ManualClock;

    fn accounts(tokens: Option<u64>, requests: Option<u64>) -> (Arc<Accounts>, ManualClock) {
        let clock = ManualClock::starting_at(SystemTime::UNIX_EPOCH);
        (Accounts::new(vec![Quota::a_minute(tokens, requests)], Clock::Manual(clock.clone())), clock)
    }

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input, output, cache_read: 900, cache_write_5m: 10, cache_write_1h: 0 }
    }

    #[test]
    fn what_a_call_allows_is_reserved_and_what_it_used_takes_its_place() {
        let (accounts, clock) = accounts(Some(6_000), None);
        let first = accounts.begin("m", 1_000, Some(4_000)).unwrap().unwrap();
        let refused = accounts.begin("m", 1_000, Some(1)).unwrap_err();
        assert_eq!((refused.status, &*refused.message), (429, "Too many tokens, please wait before trying again."));
        first.settle(usage(90, 100));
        // 90, 10 written, 100 five times: 600.
        assert_eq!(accounts.used()["m"], QuotaUse { tokens: 600, requests: 1, throttled: 1, most_beyond: 0 });
        assert!(accounts.begin("m", 0, Some(5_401)).is_err());
        let second = accounts.begin("m", 0, Some(5_400)).unwrap().unwrap();
        // Two thousand times five, of 5,400: the quota is below nothing, and is back after a minute and a half.
        second.settle(Usage { output: 2_000, ..Usage::default() });
        clock.advance(Duration::from_millis(45_999));
        assert!(accounts.begin("m", 0, Some(1)).is_err());
        clock.advance(Duration::from_millis(11));
        drop(accounts.begin("m", 0, Some(1)).unwrap().unwrap());
        assert_eq!(accounts.used()["m"].most_beyond, 4_600);
        clock.advance(Duration::from_hours(1));
        assert!(accounts.begin("m", 0, Some(6_001)).is_err(), "never more than a period's");
        assert!(accounts.begin("m", 0, Some(6_000)).unwrap().is_some());
    }

    #[test]
    fn requests_come_back_one_by_one_and_every_model_has_its_own() {
        let (accounts, clock) = accounts(None, Some(2));
        let take = |model: &str| accounts.begin(model, 1, None).map(|reserved| reserved.unwrap().settle(Usage::default()));
        assert!(take("m").is_ok() && take("m").is_ok());
        assert_eq!(take("m").unwrap_err().message, "Too many requests, please wait before trying again.");
        assert!(take("n").is_ok());
        clock.advance(Duration::from_millis(29_999));
        assert!(take("m").is_err());
        clock.advance(Duration::from_millis(1));
        assert!(take("m").is_ok() && take("m").is_err());
    }
}
