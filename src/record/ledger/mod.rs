//! What was used, by hour, tenant, user, model, upstream and operation, in an `SQLite` file; and for a while, each exchange by itself.
//!
//! Invariants: an exchange is in the file once or not at all, and within a second where the disk allows; whatever way the process ends, only that
//! second can be missing. No request waits for the disk. Memory is bounded. `docs/ledger.md` is the contract of the file.

mod batch;
mod error;
mod invocations;
mod names;
mod query;
mod reconcile;
mod schema;
mod store;
mod sums;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;

use self::batch::Bounds;
use self::names::Names;
use self::store::{Open, Store};
use self::writer::{Shared, Writer};
use super::complaints::Complaints;
use super::entry::Entry;
use crate::config::record::Ledger as Config;
use crate::domain::Clock;

pub use self::error::LedgerError;
pub use self::invocations::{InvocationLogs, UnreadableLog};
pub use self::query::{By, UsageQuery, UsageRow, usage};
pub use self::reconcile::{Compared, Counted, ReconcileError, Reconciliation, reconcile};

/// Seconds in an hour.
const HOUR: i64 = 3600;

/// The counters of what went wrong.
#[derive(Clone)]
pub(super) struct Faults {
    /// Exchanges whose usage never reached the file.
    pub(super) usage_dropped: IntCounter,
    /// Exchanges that were to be kept singly, and are not.
    pub(super) exchanges_dropped: IntCounter,
    /// Exchanges whose user, model and operation became `other`, for want of room.
    pub(super) folded: IntCounter,
    /// Failures to write, open or prune the file.
    pub(super) errors: IntCounter,
}

/// The way into the file. Dropping it lets the writer finish what is there, without waiting for it: [`Ledger::flush`] waits.
pub(super) struct Ledger {
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
        let held = schema::hold(&config.file)?;
        let store = Store::new(config.file.clone(), open, config.keep, config.keep_exchanges)?;
        let shared = Arc::<Shared>::default();
        let writer = Writer {
            shared: Arc::clone(&shared),
            store,
            faults: faults.clone(),
            clock: clock.clone(),
            seq: 0,
            complaints: Complaints::default(),
        };
        let write = move || {
            writer.run();
            // Only now may another have the file.
            drop(held);
        };
        thread::Builder::new().name("ledger".to_owned()).spawn(write).map_err(LedgerError::Thread)?;
        Ok(Self { shared, faults, clock, bounds, singly: !config.keep_exchanges.is_zero() })
    }

    /// Takes in an exchange that has ended, where it is known who called. Never blocks for longer than another does the same; allocates nothing
    /// where the batch has its key.
    pub(super) fn note(&self, entry: &Entry<'_>) {
        let Some(principal) = entry.principal else { return };
        let names = Names::of(entry, principal);
        let mut queue = self.shared.queue.lock();
        if queue.waiting.begun.is_none() {
            queue.waiting.begun = Some(self.clock.monotonic());
        }
        let taken = queue.waiting.add(names, entry, self.singly, self.bounds);
        let wake = std::mem::take(&mut queue.idle);
        drop(queue);
        if wake {
            self.shared.to_writer.notify_one();
        }
        for (happened, counter) in [
            (taken.folded, &self.faults.folded),
            (taken.usage_lost, &self.faults.usage_dropped),
            (taken.exchange_lost, &self.faults.exchanges_dropped),
        ] {
            if happened {
                counter.inc();
            }
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
