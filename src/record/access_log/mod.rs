//! Lines on their way out. A request leaves its line in a bounded buffer; one thread writes the buffer out, some milliseconds' worth at a time.
//!
//! Invariant: no request ever waits for the disk or the reader of a pipe. Where they can't keep up, lines are dropped and counted.

mod buffer;
mod sink;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;

use self::buffer::Shared;
use self::sink::Sink;
use crate::config::record::Destination;

/// Bytes that may wait or be in the writer's hands: 9,000 lines of 900 bytes, a second or so of a busy gateway.
const CAPACITY: usize = 8 << 20;

/// The counters of what went wrong.
#[derive(Clone)]
pub(super) struct Faults {
    /// Lines that never reached their destination.
    pub(super) dropped: IntCounter,
    /// Writes, and openings of the file, that failed.
    pub(super) errors: IntCounter,
}

/// The way out for lines. Dropping it lets the writer finish what is there, without waiting for it: [`AccessLog::flush`] waits.
pub(super) struct AccessLog {
    shared: Arc<Shared>,
    faults: Faults,
}

impl AccessLog {
    /// Opens the destination and starts the thread `access-log`.
    ///
    /// # Errors
    /// When the file can't be opened for appending, or no thread can be started.
    pub(super) fn start(to: &Destination, faults: Faults) -> io::Result<Self> {
        Self::start_with(Sink::open(to, faults.clone())?, faults, CAPACITY)
    }

    fn start_with(mut sink: Sink, faults: Faults, capacity: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), to_writer: Condvar::new(), written: Condvar::new(), capacity });
        let writers = Arc::clone(&shared);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || writers.write_until_closed(&mut sink))?;
        Ok(Self { shared, faults })
    }

    /// Leaves a whole line, line feed included, to the writer; or drops and counts it where the buffer is full.
    pub(super) fn append(&self, line: &[u8]) {
        let mut queue = self.shared.queue.lock();
        if queue.waiting.len() + queue.writing + line.len() > self.shared.capacity {
            drop(queue);
            return self.faults.dropped.inc();
        }
        queue.waiting.extend_from_slice(line);
        queue.accepted += 1;
        let wake = std::mem::take(&mut queue.idle);
        drop(queue);
        if wake {
            self.shared.to_writer.notify_one();
        }
    }

    /// Opens the file anew before the next line is written, as log rotation asks. Nothing happens to standard output.
    pub(super) fn reopen(&self) {
        let mut queue = self.shared.queue.lock();
        queue.orders.reopen = true;
        queue.accepted += 1;
        drop(queue);
        self.shared.to_writer.notify_one();
    }

    /// Waits, for at most `patience`, until every line and order accepted so far is carried out or has failed. Returns whether that is so.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let mut queue = self.shared.queue.lock();
        let until = queue.accepted;
        queue.orders.hurry = true;
        self.shared.to_writer.notify_one();
        !self.shared.written.wait_while_for(&mut queue, |queue| queue.settled < until, patience).timed_out()
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.queue.lock().orders.close = true;
        self.shared.to_writer.notify_one();
    }
}
