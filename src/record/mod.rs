//! What happened? The last room: each exchange that ends is counted in the metrics, written as one line of the access log, and exported
//! as spans where its trace is sampled.
//!
//! Invariants: recording never waits, neither for the disk, nor a reader, nor a collector; memory is bounded; nothing secret is written: no prompt, completion,
//! credential, cookie or query string; and no client can make a new time series.

mod access_log;
mod entry;
mod error;
mod families;
mod json;
mod labels;
mod line;
mod metrics;
mod process;
mod traces;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::entry::Entry;
pub use self::error::RecordError;
pub use self::labels::{Attempt, Connection, KeyFetch, Level};
pub use self::metrics::{InFlight, Metrics};

use self::access_log::AccessLog;
use self::traces::Traces;
use crate::config::record::Record;
use crate::domain::Trace;

/// How long a shutdown waits for the access log's destination to take what is left.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits for the collector of traces, whose loss is the lesser one.
const TRACES_PATIENCE: Duration = Duration::from_secs(3);

thread_local! {
    /// Where a thread puts a line together. It grows to the longest line seen, 17,500 bytes at most, and stays.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes down exchanges. Built from `record` in gateway.yaml.
///
/// Two recorders of one file both append whole lines, yet a recorder whose configuration did not change is better kept across a reload:
/// one buffer, one thread.
pub struct Recorder {
    metrics: Arc<Metrics>,
    access_log: Option<AccessLog>,
    traces: Option<Traces>,
}

impl Recorder {
    /// Opens what `config` names, and counts in `metrics`. Where there is an access log, a thread of that name is started; it ends when the recorder
    /// is dropped, after it has written what was left. So is one for traces.
    ///
    /// # Errors
    /// [`RecordError`]: when the access log's file can't be opened for appending, spans can't be exported, or no thread can be started.
    pub fn build(config: &Record, metrics: Arc<Metrics>) -> Result<Self, RecordError> {
        let access_log = config.access_log.as_ref().map(|log| AccessLog::start(&log.to, metrics.access_log_faults()));
        let access_log = access_log.transpose().map_err(RecordError::AccessLog)?;
        let traces = config.traces.as_ref().map(|traces| Traces::start(traces, metrics.traces_dropped())).transpose()?;
        Ok(Self { metrics, access_log, traces })
    }

    /// Whether the gateway takes part in traces (`record.traces`). Where it does not, trace headers are the caller's and the upstream's business: a
    /// `traceparent` of ours would name a span that nobody records, and its flag would tell an agent upstream not to record either.
    #[must_use]
    pub const fn takes_part_in_traces(&self) -> bool {
        self.traces.is_some()
    }

    /// Whether the spans of an exchange in this trace are exported: where its caller records it; where it begins here, if its id is among the share
    /// that `record.traces` samples. To be asked once, when the exchange begins: [`Trace::sampled`] is the answer's place.
    #[must_use]
    pub fn samples(&self, trace: &Trace) -> bool {
        self.traces.as_ref().is_some_and(|traces| traces.samples(trace))
    }

    /// Counts an exchange that has ended, and leaves its line and its spans to be written. Never blocks; allocates nothing once the buffers have grown,
    /// spans apart.
    pub fn record(&self, entry: &Entry<'_>) {
        self.metrics.count(entry);
        if entry.trace.sampled
            && let Some(traces) = &self.traces
        {
            traces.export(entry);
        }
        let Some(log) = &self.access_log else { return };
        LINE.with_borrow_mut(|line| {
            line.clear();
            line::append(line, entry);
            log.append(line);
        });
    }

    /// Opens the access log's file anew: for SIGHUP, after log rotation has moved it aside. Lines that still wait go to the new file.
    /// Where it can't be opened the old one is kept, with a warning.
    pub fn reopen(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    /// Waits until everything recorded so far is written, for five seconds at most, and exported, for three: for shutdown, when nothing is in flight any more.
    /// It blocks the thread.
    pub fn flush(&self) {
        if let Some(log) = &self.access_log
            && !log.flush(FLUSH_PATIENCE)
        {
            tracing::warn!("the access log's destination did not take its last lines in time");
        }
        if let Some(traces) = &self.traces
            && !traces.flush(TRACES_PATIENCE)
        {
            tracing::warn!("the collector of traces did not take the last spans in time");
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("access_log", &self.access_log.is_some())
            .field("traces", &self.traces.is_some())
            .finish_non_exhaustive()
    }
}
