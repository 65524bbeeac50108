//! Lines on their way out. A request leaves its line in a bounded buffer; one thread writes the buffer out, some milliseconds' worth at a time.
//!
//! Invariant: no request ever waits for the disk or the reader of a pipe. Where they can't keep up, lines are dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;
use tracing::warn;

use crate::config::record::Destination;
use crate::domain::Clock;

/// Bytes that may wait or be in the writer's hands: 14,000 lines of 600 bytes, a second or so of a busy gateway.
const CAPACITY: usize = 8 << 20;
/// For how long lines gather once the first is there: at any load at most fifty wake-ups a second, and a reader of the log is hardly behind.
const GATHER: Duration = Duration::from_millis(20);
/// The writer complains at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_mins(1);
/// Buffers that a burst made larger than this are given back.
const KEEP: usize = 1 << 20;

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

/// What requests and the writer share.
struct Shared {
    queue: Mutex<Queue>,
    /// Notified when an idle writer has work, or one that gathers is to stop gathering.
    to_writer: Condvar,
    /// Notified when a batch is settled.
    written: Condvar,
    /// In bytes.
    capacity: usize,
}

#[derive(Default)]
struct Queue {
    /// Whole lines. With `writing` never more than the capacity.
    waiting: Vec<u8>,
    /// Bytes in the writer's hands.
    writing: usize,
    /// Lines and orders to reopen, ever accepted.
    accepted: u64,
    /// How many of them are carried out or have failed.
    settled: u64,
    /// The writer sleeps and must be woken: so only a first line costs a wake-up.
    idle: bool,
    orders: Orders,
}

/// What the writer is told beside lines. Any of it ends its gathering.
#[derive(Clone, Copy, Default)]
struct Orders {
    /// Somebody waits for the lines.
    hurry: bool,
    /// The file is to be opened anew.
    reopen: bool,
    /// The writer is to end when nothing waits.
    close: bool,
}

impl Orders {
    const fn any(self) -> bool {
        self.hurry || self.reopen || self.close
    }
}

impl Shared {
    fn write_until_closed(&self, sink: &mut Sink) {
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

/// Where the lines end up. Only the writer has it.
struct Sink {
    file: File,
    /// Where the file is to be opened anew; none for standard output.
    path: Option<PathBuf>,
    /// The last byte written was not the end of a line.
    torn: bool,
    faults: Faults,
    complained: Option<Instant>,
}

impl Sink {
    fn open(to: &Destination, faults: Faults) -> io::Result<Self> {
        match to {
            // Not std's `Stdout`: its own buffer would keep half a line, and its lock would make others wait for us.
            Destination::Stdout => Ok(Self::new(File::from(io::stdout().as_fd().try_clone_to_owned()?), None, faults)),
            Destination::File(path) => Ok(Self::new(open_to_append(path)?, Some(path.clone()), faults)),
        }
    }

    fn new(file: File, path: Option<PathBuf>, faults: Faults) -> Self {
        Self { file, path, torn: false, faults, complained: None }
    }

    /// Opens the file anew; keeps the old one where that fails.
    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open_to_append(path) {
            Ok(file) => (self.file, self.torn) = (file, false),
            Err(error) => self.complain("the access log could not be opened anew, the old file is kept", &error),
        }
    }

    /// Writes whole lines. What can't be written is lost and counted; the next batch is tried again.
    fn write(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        if self.torn {
            match write_all(&mut self.file, b"\n") {
                Ok(()) => self.torn = false,
                Err((_, error)) => return self.lose(lines, &error),
            }
        }
        if let Err((rest, error)) = write_all(&mut self.file, lines) {
            self.torn = lines.strip_suffix(rest).and_then(<[u8]>::last).is_some_and(|&byte| byte != b'\n');
            self.lose(rest, &error);
        }
    }

    /// A torn line counts too: its end is in `rest`.
    fn lose(&mut self, rest: &[u8], error: &io::Error) {
        self.faults.dropped.inc_by(memchr::memchr_iter(b'\n', rest).count() as u64);
        self.complain("the access log could not be written, lines are lost", error);
    }

    fn complain(&mut self, message: &'static str, error: &io::Error) {
        self.faults.errors.inc();
        let now = Clock::System.monotonic();
        if self.complained.is_none_or(|last| now.duration_since(last) >= COMPLAIN_EVERY) {
            self.complained = Some(now);
            warn!(path = ?self.path, %error, dropped_total = self.faults.dropped.get(), errors_total = self.faults.errors.get(), "{message}");
        }
    }
}

/// Readable by the owner and the group: tenants, users and addresses are nobody else's business.
fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Writes all, or returns what was not written and why.
fn write_all<'a>(file: &mut File, mut rest: &'a [u8]) -> Result<(), (&'a [u8], io::Error)> {
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err((rest, ErrorKind::WriteZero.into())),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Standard output may be a pipe that another process made non-blocking. Only the writer waits here.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(GATHER),
            Err(error) => return Err((rest, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};
    use std::os::fd::OwnedFd;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn faults() -> Faults {
        Faults { dropped: IntCounter::new("dropped", "d").unwrap(), errors: IntCounter::new("errors", "e").unwrap() }
    }

    fn piped(capacity: usize) -> (AccessLog, Faults, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let faults = faults();
        let sink = Sink::new(File::from(OwnedFd::from(writer)), None, faults.clone());
        (AccessLog::start_with(sink, faults.clone(), capacity).unwrap(), faults, reader)
    }

    fn in_file(name: &str) -> (AccessLog, Faults, PathBuf) {
        let path = std::env::temp_dir().join(format!("tollgate-{}-{name}.log", std::process::id()));
        drop(std::fs::remove_file(&path));
        let faults = faults();
        (AccessLog::start(&Destination::File(path.clone()), faults.clone()).unwrap(), faults, path)
    }

    #[test]
    fn when_nobody_reads_lines_are_dropped_at_the_bound_and_counted_and_the_rest_arrive_whole() {
        let capacity = 100_000;
        let (log, faults, mut reader) = piped(capacity);
        // A Linux pipe holds 65,536 bytes; what it took is not ours any more, so that much may be accepted beyond the capacity.
        let mut sent = 0;
        while faults.dropped.get() < 1_000 {
            log.append(format!("{sent:099}\n").as_bytes());
            sent += 1;
        }
        {
            let queue = log.shared.queue.lock();
            assert!(queue.waiting.len() + queue.writing <= capacity);
            assert!(queue.waiting.capacity() <= 2 * capacity);
        }
        assert!(!log.flush(Duration::from_millis(1)), "nobody reads");

        drop(log);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read.lines().count() as u64 + faults.dropped.get(), sent);
        assert!(read.ends_with('\n') && read.lines().all(|line| line.len() == 99));
        assert_eq!(faults.errors.get(), 0);
    }

    #[test]
    fn lines_arrive_in_order_from_many_threads_none_torn() {
        let (log, faults, mut reader) = piped(CAPACITY);
        let reading = thread::spawn(move || {
            let mut read = String::new();
            reader.read_to_string(&mut read).unwrap();
            read
        });
        thread::scope(|scope| {
            for thread in 0..4 {
                let log = &log;
                scope.spawn(move || (0..2_000).for_each(|line| log.append(format!("{thread} {line:04}\n").as_bytes())));
            }
        });
        assert!(log.flush(PATIENCE));
        drop(log);
        let read = reading.join().unwrap();
        for thread in 0..4 {
            let lines: Vec<_> = read.lines().filter_map(|line| line.strip_prefix(&format!("{thread} "))).collect();
            assert_eq!(lines.len(), 2_000);
            assert!(lines.is_sorted());
        }
        assert_eq!(faults.dropped.get(), 0);
    }

    #[test]
    fn a_reader_that_left_costs_lines_and_no_panic() {
        let (log, faults, reader) = piped(CAPACITY);
        drop(reader);
        log.append(b"one\n");
        assert!(log.flush(PATIENCE));
        log.append(b"two\nthree\n");
        assert!(log.flush(PATIENCE));
        assert_eq!(faults.dropped.get(), 3);
        assert_eq!(faults.errors.get(), 2);
    }

    #[test]
    fn a_full_disk_costs_lines_and_is_counted() {
        let faults = faults();
        let log = AccessLog::start(&Destination::File("/dev/full".into()), faults.clone()).unwrap();
        log.append(b"one\ntwo\n");
        assert!(log.flush(PATIENCE));
        assert_eq!((faults.dropped.get(), faults.errors.get()), (2, 1));
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next_begins() {
        let path = std::env::temp_dir().join(format!("tollgate-{}-torn.log", std::process::id()));
        drop(std::fs::remove_file(&path));
        let mut sink = Sink::open(&Destination::File(path.clone()), faults()).unwrap();
        sink.file.write_all(b"half a li").unwrap();
        sink.torn = true;
        sink.write(b"whole\n");
        sink.write(b"whole too\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "half a li\nwhole\nwhole too\n");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn after_rotation_lines_go_to_the_new_file() {
        let (log, faults, path) = in_file("rotated");
        log.append(b"before\n");
        assert!(log.flush(PATIENCE));
        let aside = path.with_extension("log.1");
        std::fs::rename(&path, &aside).unwrap();
        log.append(b"still before\n");
        assert!(log.flush(PATIENCE));
        log.reopen();
        assert!(log.flush(PATIENCE), "an order to reopen is carried out without a line");
        log.append(b"after\n");
        assert!(log.flush(PATIENCE));
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), "before\nstill before\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");

        // Where the file can't be had anew, the old one is kept.
        std::fs::rename(&path, &aside).unwrap();
        std::fs::create_dir(&path).unwrap();
        log.reopen();
        log.append(b"kept\n");
        assert!(log.flush(PATIENCE));
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), "after\nkept\n");
        assert_eq!((faults.errors.get(), faults.dropped.get()), (1, 0));
        std::fs::remove_dir(path).unwrap();
        std::fs::remove_file(aside).unwrap();
    }

    #[test]
    fn a_log_is_appended_to_and_is_not_for_everyone_to_read() {
        use std::os::unix::fs::PermissionsExt;

        let (log, faults, path) = in_file("appended");
        log.append(b"one\n");
        assert!(log.flush(PATIENCE));
        let again = AccessLog::start(&Destination::File(path.clone()), faults).unwrap();
        again.append(b"two\n");
        assert!(again.flush(PATIENCE));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_told_at_the_start() {
        assert!(AccessLog::start(&Destination::File("/nonexistent/access.log".into()), faults()).is_err());
    }
}
