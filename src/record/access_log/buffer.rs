//! What requests and the writer share: lines that wait, and what the writer is told beside them.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::sink::Sink;

/// For how long lines gather once the first is there: at any load at most fifty wake-ups a second, and a reader of the log is hardly behind.
pub(super) const GATHER: Duration = Duration::from_millis(20);
/// Buffers that a burst made larger than this are given back.
const KEEP: usize = 1 << 20;

/// What requests and the writer share.
pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    /// Notified when an idle writer has work, or one that gathers is to stop gathering.
    pub(super) to_writer: Condvar,
    /// Notified when a batch is settled.
    pub(super) written: Condvar,
    /// In bytes.
    pub(super) capacity: usize,
}

#[derive(Default)]
pub(super) struct Queue {
    /// Whole lines. With `writing` never more than the capacity.
    pub(super) waiting: Vec<u8>,
    /// Bytes in the writer's hands.
    pub(super) writing: usize,
    /// Lines and orders to reopen, ever accepted.
    pub(super) accepted: u64,
    /// How many of them are carried out or have failed.
    pub(super) settled: u64,
    /// The writer sleeps and must be woken: so only a first line costs a wake-up.
    pub(super) idle: bool,
    pub(super) orders: Orders,
}

/// What the writer is told beside lines. Any of it ends its gathering.
#[derive(Clone, Copy, Default)]
pub(super) struct Orders {
    /// Somebody waits for the lines.
    pub(super) hurry: bool,
    /// The file is to be opened anew.
    pub(super) reopen: bool,
    /// The writer is to end when nothing waits.
    pub(super) close: bool,
}

impl Orders {
    const fn any(self) -> bool {
        self.hurry || self.reopen || self.close
    }
}

impl Shared {
    /// Writes what comes until the log is closed and nothing waits.
    pub(super) fn write_until_closed(&self, sink: &mut Sink) {
        let mut batch = Vec::new();
        loop {
            let (orders, accepted) = self.next_batch(&mut batch);
            if orders.reopen {
                sink.reopen();
            }
            sink.write(&batch);
            self.settle(&mut batch, accepted);
            if orders.close {
                return;
            }
        }
    }

    /// Waits for lines or orders, and moves what waits into the empty `batch`. Returns the orders, and how much was accepted until now.
    fn next_batch(&self, batch: &mut Vec<u8>) -> (Orders, u64) {
        let mut queue = self.queue.lock();
        queue.idle = true;
        self.to_writer.wait_while(&mut queue, |queue| queue.waiting.is_empty() && !queue.orders.reopen && !queue.orders.close);
        queue.idle = false;
        if !queue.orders.any() {
            // Whether it gathered for long enough or was called is the same to us.
            _ = self.to_writer.wait_while_for(&mut queue, |queue| !queue.orders.any(), GATHER);
        }
        std::mem::swap(&mut queue.waiting, batch);
        queue.writing = batch.len();
        // Nothing can be appended once it is closed: its owner is gone.
        (std::mem::take(&mut queue.orders), queue.accepted)
    }

    /// Everything up to the `accepted`th line or order is done with.
    fn settle(&self, batch: &mut Vec<u8>, accepted: u64) {
        batch.clear();
        batch.shrink_to(KEEP);
        let mut queue = self.queue.lock();
        queue.writing = 0;
        queue.settled = accepted;
        self.written.notify_all();
    }
}
