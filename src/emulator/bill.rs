//! The emulator as a biller: what did the models truly generate, answer by answer?
//!
//! Input (and what a cache read or wrote) is billed as soon as the answer begins. An answer that isn't streamed is generated before it
//! begins, so all of its output is billed with it. A stream is generated as it goes: a token is billed when the event that holds it is
//! handed to the connection, and the model stops when the peer is gone or a fault cuts the stream. What is handed over may wait in the
//! connection's buffers (hyper holds up to some 400 KB of an answer), so the bill of a broken-off stream may be a little more than what its
//! reader got, and is never less than the events that it got whole. Its invariant: an account is the sum of its model's bills.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::answer::Usage;
use super::invocation_log::{InvocationLog, Record};
use super::quota::Reserved;
use super::reply::Mark;

/// How many single bills are remembered.
pub const REMEMBERED_BILLS: usize = 100_000;
/// How many models the accounts tell apart; those beyond are billed to `other`.
const MOST_MODELS: usize = 1_000;
/// How long a model's name can be on a bill, in characters; an ARN has at most 2,048.
const LONGEST_MODEL: usize = 2_048;

/// One answer of a model, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    /// The `x-amzn-requestid` that it was answered with.
    pub request_id: String,
    /// The model, as the path or the body names it; its first 2,048 characters.
    pub model: String,
    /// The operation, as botocore's models name it (`ConverseStream`), or the API (`ChatCompletions`, `Responses`, `Messages`).
    pub operation: &'static str,
    /// What was generated until now, or until the end. Of a usage that a fault sets, a stream's output is billed in equal parts, one a
    /// token emitted.
    pub usage: Usage,
    /// Whether the answer's last word on its usage was handed over: the event that carries it, else the last event, else the whole body.
    pub whole: bool,
    /// Whether nothing can be added any more: the answer was handed over, the peer has left, or a fault has cut it.
    pub ended: bool,
}

/// What one model has been asked for, and how much it has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billed {
    /// Answers begun.
    pub calls: u64,
    /// Their tokens, as [`Bill::usage`] counts them.
    pub usage: Usage,
}

/// Every model's account, the last single bills, and the log of them.
#[derive(Debug, Default)]
pub(super) struct Bills {
    accounts: Mutex<BTreeMap<String, Billed>>,
    last: Mutex<VecDeque<Arc<Mutex<Bill>>>>,
    pub(super) log: Option<InvocationLog>,
}

impl Bills {
    pub(super) fn logged_to(log: Option<InvocationLog>) -> Self {
        Self { log, ..Self::default() }
    }

    /// Bills an answer that begins now: `cost` is that of the whole; where it's a stream, `stream` is how many tokens its events hold.
    pub(super) fn begin(self: &Arc<Self>, mut bill: Bill, cost: Usage, stream: Option<u64>, record: Option<Record>) -> Charge {
        if let Some((end, _)) = bill.model.char_indices().nth(LONGEST_MODEL) {
            bill.model.truncate(end);
        }
        bill.usage = if stream.is_some() { Usage { output: 0, ..cost } } else { cost };
        let account = self.open_account(&bill.model, bill.usage);
        let bill = Arc::new(Mutex::new(bill));
        let mut last = self.last.lock();
        if last.len() == REMEMBERED_BILLS {
            last.pop_front();
        }
        last.push_back(Arc::clone(&bill));
        drop(last);
        Charge { bills: Arc::clone(self), bill, account, output: cost.output, said: 0, of: stream.unwrap_or(0), record, reserved: None }
    }

    /// Adds a call; the account's name.
    fn open_account(&self, model: &str, usage: Usage) -> String {
        let mut accounts = self.accounts.lock();
        let model = if accounts.len() < MOST_MODELS || accounts.contains_key(model) { model } else { "other" };
        let account = accounts.entry(model.to_owned()).or_default();
        account.calls += 1;
        account.usage.add(usage);
        model.to_owned()
    }

    pub(super) fn accounts(&self) -> BTreeMap<String, Billed> {
        self.accounts.lock().clone()
    }

    /// The last bills, oldest first.
    pub(super) fn last(&self) -> Vec<Bill> {
        self.last.lock().iter().map(|bill| bill.lock().clone()).collect()
    }
}

/// Bills one answer as it goes out. Dropping it ends the bill.
#[derive(Debug)]
pub(super) struct Charge {
    bills: Arc<Bills>,
    bill: Arc<Mutex<Bill>>,
    account: String,
    /// The output of the whole answer.
    output: u64,
    /// Tokens emitted, of those that the stream's events hold: `said <= of`.
    said: u64,
    of: u64,
    /// `None` where it's in no log.
    record: Option<Record>,
    /// Of the account's quota; none where the model has none.
    pub(super) reserved: Option<Reserved>,
}

impl Charge {
    /// An event was handed over.
    pub(super) fn emitted(&mut self, mark: Mark) {
        let mut bill = self.bill.lock();
        bill.whole |= mark.settles;
        if self.of == 0 {
            // A body, or a stream that says nothing: what it costs was billed with its beginning, or is with its end.
            let rest = if mark.settles { self.output.saturating_sub(bill.usage.output) } else { 0 };
            return self.add(&mut bill, rest);
        }
        self.said = self.of.min(self.said + mark.tokens);
        let output = u128::from(self.output) * u128::from(self.said) / u128::from(self.of);
        let output = u64::try_from(output).unwrap_or(u64::MAX);
        let more = output.saturating_sub(bill.usage.output);
        self.add(&mut bill, more);
    }

    fn add(&self, bill: &mut Bill, output: u64) {
        if output > 0 {
            let more = Usage { output, ..Usage::default() };
            bill.usage.add(more);
            self.bills.accounts.lock().entry(self.account.clone()).or_default().usage.add(more);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut bill = self.bill.lock();
        bill.ended = true;
        if let Some(reserved) = self.reserved.take() {
            reserved.settle(bill.usage);
        }
        if let (Some(log), Some(record)) = (&self.bills.log, self.record.take()) {
            log.write(&record, &bill);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bills_are_kept_and_accounts_go_on_counting_to_a_bound_of_models() {
        let bills = Arc::new(Bills::default());
        let cost = Usage { input: 1, output: 1, ..Usage::default() };
        let more = MOST_MODELS + 5;
        for at in 0..=REMEMBERED_BILLS {
            let model = format!("{at}{}", "x".repeat(LONGEST_MODEL));
            let model = if at < more { model } else { "0".to_owned() };
            let bill =
                Bill { request_id: at.to_string(), model, operation: "Converse", usage: Usage::default(), whole: false, ended: false };
            drop(bills.begin(bill, cost, None, None));
        }
        let last = bills.last();
        assert_eq!((last.len(), last[0].request_id.as_str(), last[0].model.chars().count()), (REMEMBERED_BILLS, "1", LONGEST_MODEL));
        let accounts = bills.accounts();
        // The first thousand have their own; `other` holds those beyond.
        assert_eq!(accounts.len(), MOST_MODELS + 1);
        let calls: u64 = accounts.values().map(|account| account.calls).sum();
        assert_eq!((calls, accounts["other"].usage.input), (100_001, 100_001 - 1_000));
    }
}
