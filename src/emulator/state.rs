//! What every connection of an emulator shares.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::bill::Bills;
use super::faults::Fault;
use super::invocation_log::InvocationLog;
use super::options::{Credential, Options};
use super::quota::Accounts;
use super::requests::Requests;
use super::runtime;
use crate::domain::Clock;

/// How many faults may be queued, and how many counts of `-twice` faults are kept.
const MOST_QUEUED: usize = 10_000;

pub(super) struct State {
    pub(super) credentials: Vec<Credential>,
    pub(super) region: Option<String>,
    pub(super) verify: bool,
    pub(super) strict: bool,
    pub(super) quick: Option<Bytes>,
    pub(super) max_body: usize,
    pub(super) clock: Clock,
    pub(super) requests: Arc<Requests>,
    pub(super) bills: Arc<Bills>,
    pub(super) accounts: Arc<Accounts>,
    /// One permit for each event that a `gated` stream may emit.
    pub(super) gate: Arc<Semaphore>,
    injected: Mutex<VecDeque<(Fault, u64)>>,
    /// How often each `-twice` fault has struck.
    struck: Mutex<HashMap<String, u64>>,
}

impl State {
    pub(super) fn new(options: Options) -> Self {
        Self {
            credentials: options.credentials,
            region: options.region,
            verify: options.verify,
            strict: options.strict,
            quick: options.quick.map(runtime::canned),
            max_body: options.max_body,
            accounts: Accounts::new(options.quotas, options.clock.clone()),
            clock: options.clock,
            requests: Arc::new(Requests::default()),
            bills: Arc::new(Bills::logged_to(options.invocation_logs.map(InvocationLog::new))),
            gate: Arc::new(Semaphore::new(0)),
            injected: Mutex::new(VecDeque::new()),
            struck: Mutex::new(HashMap::new()),
        }
    }

    pub(super) fn inject(&self, fault: Fault, times: u64) {
        // How often it strikes is counted here.
        let fault = if let Fault::Status { status, .. } = fault { Fault::Status { status, times: None } } else { fault };
        let mut injected = self.injected.lock();
        if times > 0 && injected.len() < MOST_QUEUED {
            injected.push_back((fault, times));
        }
    }

    /// The fault at the head of the queue, if this request is one that it can strike.
    pub(super) fn take_injected(&self, on_connection: u64) -> Option<Fault> {
        let mut injected = self.injected.lock();
        let (fault, times) = injected.front_mut()?;
        if *fault == Fault::CloseOnReuse && on_connection == 1 {
            return None;
        }
        *times -= 1;
        if *times > 0 {
            return Some(fault.clone());
        }
        injected.pop_front().map(|(fault, _)| fault)
    }

    /// Whether a fault that strikes `times` in a row strikes now. After the last it is forgotten, so it begins anew.
    pub(super) fn strikes(&self, key: String, times: u64) -> bool {
        let mut struck = self.struck.lock();
        if struck.len() >= MOST_QUEUED {
            struck.clear();
        }
        let count = struck.get(&key).copied().unwrap_or(0);
        if count < times {
            struck.insert(key, count + 1);
        } else {
            struck.remove(&key);
        }
        count < times
    }
}
