//! The thread `ledger`: it writes what has gathered, twice a second, does what is ordered at once, and deletes what is too old, once an hour.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::warn;

use super::batch::Batch;
use super::orders::Asked;
use super::store::Store;
use super::{Faults, LedgerError};
use crate::domain::{Clock, QuotaElsewhere};
use crate::record::complaints::Complaints;

/// For how long exchanges gather once the first is there. With the writing itself, the file is less than a second behind.
const GATHER: Duration = Duration::from_millis(500);
/// A batch that failed is tried again after so long.
const AGAIN: Duration = Duration::from_secs(1);
/// Whether another process writes the file is looked for so often,
const LOOK: Duration = Duration::from_secs(1);
/// and while one does, what it tells is read, and exchanges gather, for so long: what one admits, the other knows soon.
const NEAR: Duration = Duration::from_millis(50);
/// Old rows are looked for so often.
const PRUNE: Duration = Duration::from_hours(1);

/// What requests and the writer share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    /// Notified when an idle writer has work, or one that waits is to stop waiting.
    pub(super) to_writer: Condvar,
    /// Notified when a batch is settled.
    pub(super) settled: Condvar,
    pub(super) other: Mutex<Other>,
}

/// What is known of another process that writes the file.
#[derive(Default)]
pub(super) struct Other {
    /// There is one, or was a moment ago.
    pub(super) is_there: bool,
    /// The last of its changes that is known; none as long as the sums have not been read, to which they are to be added.
    pub(super) heard: Option<i64>,
    /// Its changes that are yet to be counted.
    pub(super) changes: Vec<QuotaElsewhere>,
}

#[derive(Default)]
pub(super) struct Queue {
    /// What gathers.
    pub(super) waiting: Batch,
    /// What operators change; somebody waits for each.
    pub(super) orders: Vec<Asked>,
    /// When the batch in the writer's hands was begun.
    writing_since: Option<Instant>,
    /// How many batches the writer has taken.
    pub(super) taken: u64,
    /// How many of them are in the file, or given up.
    pub(super) settled: u64,
    /// The writer sleeps and must be woken: so only a first exchange costs a wake-up.
    pub(super) idle: bool,
    /// Somebody waits for what is there.
    pub(super) hurry: bool,
    /// The writer is to end when nothing waits.
    pub(super) close: bool,
}

impl Queue {
    /// How old the oldest exchange is that is not in the file.
    pub(super) fn lag(&self, now: Instant) -> Duration {
        self.writing_since.or(self.waiting.begun).map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// The thread's own.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Store,
    pub(super) faults: Faults,
    pub(super) clock: Clock,
    /// The number of the last batch; a batch that is tried again keeps its number.
    pub(super) seq: i64,
    pub(super) complaints: Complaints,
}

impl Writer {
    pub(super) fn run(mut self) {
        let mut batch = Batch::default();
        let mut prune_at = self.clock.monotonic();
        loop {
            let (close, orders) = self.next_batch(&mut batch, prune_at);
            if !batch.is_empty() {
                self.write(&batch);
            }
            self.settle(&mut batch);
            for asked in orders {
                self.obey(&asked);
            }
            self.listen();
            if close {
                return;
            }
            if self.clock.monotonic() >= prune_at {
                prune_at = self.prune();
            }
        }
    }

    /// Waits for exchanges, orders or the time to prune, and swaps what waits for the empty `batch`. Returns whether it is the last, and the orders.
    fn next_batch(&self, batch: &mut Batch, prune_at: Instant) -> (bool, Vec<Asked>) {
        let mut queue = self.shared.queue.lock();
        queue.idle = true;
        let is_beside = self.shared.other.lock().is_there;
        let (look, gather) = if is_beside { (NEAR, NEAR) } else { (LOOK, GATHER) };
        let until = prune_at.saturating_duration_since(self.clock.monotonic()).min(look);
        let nothing = |queue: &mut Queue| queue.waiting.is_empty() && queue.orders.is_empty() && !queue.hurry && !queue.close;
        _ = self.shared.to_writer.wait_while_for(&mut queue, nothing, until);
        queue.idle = false;
        if !queue.waiting.is_empty() {
            _ = self.shared.to_writer.wait_while_for(&mut queue, |queue| queue.orders.is_empty() && !queue.hurry && !queue.close, gather);
        }
        queue.hurry = false;
        std::mem::swap(&mut queue.waiting, batch);
        queue.writing_since = batch.begun;
        queue.taken += 1;
        (queue.close, std::mem::take(&mut queue.orders))
    }

    /// Writes a batch, however often it takes. One is given up only where the gateway ends and the last try failed.
    fn write(&mut self, batch: &Batch) {
        self.seq += 1;
        if batch.quotas.lost() > 0 {
            warn!(
                changes = batch.quotas.lost(),
                "no room for more quotas that wait for the ledger: it will know less of them than is used"
            );
        }
        loop {
            let last_try = self.shared.queue.lock().close;
            let Err(error) = self.store.write(batch, self.seq, self.clock.wall()) else { return };
            self.complain("the ledger could not be written, its batch is kept and tried again", &error);
            if last_try {
                let (calls, exchanges) = batch.counts();
                self.faults.usage_dropped.inc_by(calls);
                self.faults.exchanges_dropped.inc_by(exchanges);
                self.faults.quotas_dropped.inc_by(batch.quotas.len());
                return warn!(calls, quotas = batch.quotas.len(), "the last exchanges are not in the ledger");
            }
            let mut queue = self.shared.queue.lock();
            _ = self.shared.to_writer.wait_while_for(&mut queue, |queue| !queue.hurry && !queue.close, AGAIN);
            queue.hurry = false;
        }
    }

    fn settle(&self, batch: &mut Batch) {
        batch.clear();
        let mut queue = self.shared.queue.lock();
        queue.writing_since = None;
        queue.settled += 1;
        self.shared.settled.notify_all();
    }

    /// Reads what another process tells, while there is one, and once more when it is gone.
    fn listen(&mut self) {
        // Looked at first: whatever a process told before it left is then in the file.
        let is_there = self.store.is_beside();
        let (was_there, last) = {
            let other = self.shared.other.lock();
            (other.is_there, other.heard.filter(|_| other.changes.is_empty()))
        };
        if !is_there && !was_there {
            return;
        }
        self.shared.other.lock().is_there = true;
        // None: the sums have not been read, or what was read last is not counted yet.
        let Some(last) = last else { return };
        match self.store.hear(last) {
            Ok(heard) => {
                let is_over = !is_there && heard.changes.is_empty();
                {
                    let mut other = self.shared.other.lock();
                    other.heard = Some(heard.last);
                    other.changes = heard.changes;
                    other.is_there = !is_over;
                }
                if is_over && let Err(error) = self.store.alone() {
                    self.complain("the ledger could not be written", &error);
                }
            }
            Err(error) => self.complain("the ledger could not be read", &error),
        }
    }

    /// Does an order, once: where it fails, whoever gave it is told, and may give it again.
    fn obey(&mut self, asked: &Asked) {
        if !asked.claim.take() {
            return;
        }
        let done = self.store.order(&asked.order, self.clock.wall());
        if let Err(error) = &done {
            self.complain("the ledger could not be written", error);
        }
        // Who waited may have gone.
        drop(asked.answer.send(done));
    }

    /// Deletes a step's worth of old rows. Returns when the next step is due: at once, where there is more.
    fn prune(&mut self) -> Instant {
        let more = self.store.prune(self.clock.wall()).unwrap_or_else(|error| {
            self.complain("old rows of the ledger could not be deleted", &error);
            false
        });
        self.clock.monotonic() + if more { Duration::ZERO } else { PRUNE }
    }

    fn complain(&mut self, message: &'static str, error: &LedgerError) {
        self.faults.errors.inc();
        if self.complaints.is_due(self.clock.monotonic()) {
            warn!(file = ?self.store.file, %error, errors_total = self.faults.errors.get(), "{message}");
        }
    }
}
