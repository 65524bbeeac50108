//! What was used, by hour, tenant, user, model, upstream and operation, in an `SQLite` file; and for a while, each exchange by itself. And what of limits
//! outlives the process: how much is used of quotas, and what was granted beyond them. And what operators stopped, and how far
//! canaries have come.
//!
//! Invariants: an exchange is in the file once or not at all, and within a second where the disk allows; whatever way the process ends, only that
//! second can be missing. No request waits for the disk. Memory is bounded. `docs/ledger.md` is the contract of the file.

mod batch;
mod beside;
mod canaries;
mod error;
mod grants;
mod invocations;
mod lock;
mod names;
mod orders;
mod query;
mod quotas;
mod reconcile;
mod schema;
mod stops;
mod store;
mod sums;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;

use self::batch::{Batch, Bounds};
use self::names::Names;
use self::orders::{Asked, Claim, Done, Order};
use self::store::{Open, Store};
use self::writer::{Shared, Writer};
use super::complaints::Complaints;
use super::entry::Entry;
use crate::config::record::Ledger as Config;
use crate::domain::{Clock, Grant, KeptCanary, Quota, QuotaChange, QuotaElsewhere, Stop, Stopped};

pub use self::error::LedgerError;
pub use self::grants::KeptGrant;
pub use self::invocations::{InvocationLogs, UnreadableLog};
pub use self::query::{By, UsageQuery, UsageRow, usage};
pub use self::reconcile::{Compared, Counted, ReconcileError, Reconciliation, reconcile};
pub use self::stops::StopsWatch;

/// Seconds in an hour.
const HOUR: i64 = 3600;
/// An order is done or called off after so long.
const ORDER_PATIENCE: Duration = Duration::from_secs(5);
/// So many orders wait at most.
const MOST_ORDERS: usize = 64;

/// The counters of what went wrong.
#[derive(Clone)]
pub(super) struct Faults {
    /// Exchanges whose usage never reached the file.
    pub(super) usage_dropped: IntCounter,
    /// Exchanges that were to be kept singly, and are not.
    pub(super) exchanges_dropped: IntCounter,
    /// Changes of quotas that never reached the file.
    pub(super) quotas_dropped: IntCounter,
    /// Exchanges whose user, model and operation became `other`, for want of room.
    pub(super) folded: IntCounter,
    /// Failures to write, open or prune the file.
    pub(super) errors: IntCounter,
}

/// The way into the file. Dropping it lets the writer finish what is there, without waiting for it: [`Ledger::flush`] waits.
pub(super) struct Ledger {
    file: PathBuf,
    shared: Arc<Shared>,
    faults: Faults,
    clock: Clock,
    bounds: Bounds,
    /// Whether single exchanges are kept.
    singly: bool,
}

impl Ledger {
    /// Takes the file, makes it or brings it up to date, and starts the thread `ledger`.
    ///
    /// # Errors
    /// [`LedgerError`]: nobody writes the file then, or somebody else.
    pub(super) fn start(config: &Config, faults: Faults, clock: Clock) -> Result<Self, LedgerError> {
        Self::start_with(config, store::opener(config.file.clone()), Bounds::USUAL, faults, clock)
    }

    fn start_with(config: &Config, open: Open, bounds: Bounds, faults: Faults, clock: Clock) -> Result<Self, LedgerError> {
        let held = lock::hold(&config.file)?;
        let mut store = Store::new(config.file.clone(), open, config.keep, config.keep_exchanges)?;
        let shared = Arc::<Shared>::default();
        shared.other.lock().is_there = held.is_beside();
        // With the store, when the writer ends: only then may another have the file.
        store.held = Some(held);
        let writer = Writer {
            shared: Arc::clone(&shared),
            store,
            faults: faults.clone(),
            clock: clock.clone(),
            seq: 0,
            complaints: Complaints::default(),
        };
        thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run()).map_err(LedgerError::Thread)?;
        Ok(Self { file: config.file.clone(), shared, faults, clock, bounds, singly: !config.keep_exchanges.is_zero() })
    }

    /// Takes in an exchange that has ended, where it is known who called, with what its tries used. Never blocks for longer than another does the same;
    /// allocates nothing where the batch has its keys.
    pub(super) fn note(&self, entry: &Entry<'_>) {
        let Some(names) = Names::of(entry) else { return };
        let taken = self.gather(|batch| batch.add(names, entry, self.singly, self.bounds));
        for (happened, counter) in [(taken.folded, &self.faults.folded), (taken.usage_lost, &self.faults.usage_dropped)] {
            if happened {
                counter.inc();
            }
        }
        if taken.singles_lost > 0 {
            self.faults.exchanges_dropped.inc_by(taken.singles_lost);
        }
    }

    /// Takes in that the use of a quota changed. Never blocks for longer than another does the same.
    pub(super) fn quota(&self, change: &QuotaChange) {
        let key = quotas::Key::of(change);
        if !self.gather(|batch| batch.quotas.add(key, change.delta, self.bounds.quotas)) {
            self.faults.quotas_dropped.inc();
        }
    }

    fn gather<T>(&self, add: impl FnOnce(&mut Batch) -> T) -> T {
        let mut queue = self.shared.queue.lock();
        if queue.waiting.begun.is_none() {
            queue.waiting.begun = Some(self.clock.monotonic());
        }
        let added = add(&mut queue.waiting);
        let wake = std::mem::take(&mut queue.idle);
        drop(queue);
        if wake {
            self.shared.to_writer.notify_one();
        }
        added
    }

    /// What is used of the quotas whose period may still run. It reads the file, and waits for the disk. From the first time on, what another process
    /// changes is told by [`Ledger::elsewhere`].
    pub(super) fn quotas(&self) -> Result<Vec<Quota>, LedgerError> {
        let told = LedgerError::sqlite(&self.file);
        let mut connection = schema::open_to_read(&self.file)?;
        // Of one moment: a change is in the sums, or after the last.
        let transaction = connection.transaction().map_err(&told)?;
        let quotas = quotas::read(&transaction, self.clock.wall()).map_err(&told)?;
        let last = beside::last(&transaction).map_err(&told)?;
        self.shared.other.lock().heard.get_or_insert(last);
        Ok(quotas)
    }

    /// What another process that writes the file has changed of quotas since it was asked last.
    pub(super) fn elsewhere(&self) -> Vec<QuotaElsewhere> {
        std::mem::take(&mut self.shared.other.lock().changes)
    }

    /// Whether another process writes the file, or did a moment ago.
    pub(super) fn is_beside(&self) -> bool {
        self.shared.other.lock().is_there
    }

    /// Every grant, in the order in which they were made, until 30 days after its end. It reads the file, and waits for the disk.
    pub(super) fn grants(&self) -> Result<Vec<KeptGrant>, LedgerError> {
        grants::read(&schema::open_to_read(&self.file)?, self.clock.wall()).map_err(LedgerError::sqlite(&self.file))
    }

    /// Keeps a grant under an id of its own, for a rule that counts so. It waits until that is on the disk.
    pub(super) fn grant(&self, grant: Grant, count: &'static str) -> Result<KeptGrant, LedgerError> {
        match self.order(Order::Grant(grant, count))? {
            Done::Kept(kept) => Ok(kept),
            Done::Full => Err(LedgerError::ManyGrants { file: self.file.clone(), most: grants::MOST }),
            Done::Unknown | Done::So => Err(LedgerError::Slow(self.file.clone())),
        }
    }

    /// Revokes a grant; none where there is no such. It waits until that is on the disk.
    pub(super) fn revoke(&self, id: u64) -> Result<Option<KeptGrant>, LedgerError> {
        match self.order(Order::Revoke(id))? {
            Done::Kept(kept) => Ok(Some(kept)),
            Done::Unknown | Done::Full | Done::So => Ok(None),
        }
    }

    /// Keeps a stop, in place of one of the same. It waits until that is on the disk.
    pub(super) fn stop(&self, stop: Stop) -> Result<(), LedgerError> {
        self.order(Order::Stop(stop)).map(drop)
    }

    /// Keeps a stop no more, and tells whether it was kept. It waits until that is on the disk.
    pub(super) fn lift(&self, what: Stopped) -> Result<bool, LedgerError> {
        Ok(matches!(self.order(Order::Lift(what))?, Done::So))
    }

    /// How far canaries had come, the latest first. It reads the file, and waits for the disk.
    pub(super) fn canaries(&self) -> Result<Vec<KeptCanary>, LedgerError> {
        canaries::read(&schema::open_to_read(&self.file)?).map_err(LedgerError::sqlite(&self.file))
    }

    /// Keeps how far a canary has come. It waits until that is on the disk.
    pub(super) fn keep_canary(&self, canary: KeptCanary) -> Result<(), LedgerError> {
        self.order(Order::Canary(canary)).map(drop)
    }

    /// Looks at the stops in the file.
    pub(super) fn watch_stops(&self) -> StopsWatch {
        StopsWatch::new(self.file.clone())
    }

    /// Has the writer do something, and waits for its end. Where that does not come in time it is called off, and is never done.
    fn order(&self, order: Order) -> Result<Done, LedgerError> {
        let (claim, slow) = (Claim::default(), || LedgerError::Slow(self.file.clone()));
        let (answer, answered) = sync_channel(1);
        let mut queue = self.shared.queue.lock();
        if queue.orders.len() >= MOST_ORDERS {
            return Err(slow());
        }
        queue.orders.push(Asked { order, claim: claim.clone(), answer });
        drop(queue);
        self.shared.to_writer.notify_one();
        match answered.recv_timeout(ORDER_PATIENCE) {
            Ok(done) => done,
            Err(RecvTimeoutError::Timeout) if claim.take() => Err(slow()),
            // It is being done: that is a matter of a lock and a sync.
            Err(_) => answered.recv().unwrap_or_else(|_| Err(slow())),
        }
    }

    /// Waits, for at most `patience`, until every exchange noted so far is in the file or given up. Returns whether that is so.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let mut queue = self.shared.queue.lock();
        let until = queue.taken + u64::from(!queue.waiting.is_empty());
        queue.hurry = true;
        self.shared.to_writer.notify_one();
        !self.shared.settled.wait_while_for(&mut queue, |queue| queue.settled < until, patience).timed_out()
    }

    /// What tells the age of the oldest exchange that is not in the file, in whole seconds: for a scrape.
    pub(super) fn lag(&self) -> impl Fn() -> u64 + Send + 'static {
        let (shared, clock) = (Arc::clone(&self.shared), self.clock.clone());
        move || shared.queue.lock().lag(clock.monotonic()).as_secs()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.shared.queue.lock().close = true;
        self.shared.to_writer.notify_one();
    }
}
