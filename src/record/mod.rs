//! What happened? The last room: each exchange that ends is counted in the metrics, written as one line of the access log, and added up
//! in the ledger.
//!
//! Invariants: recording never waits, neither for the disk nor for a reader; memory is bounded; nothing secret is written: no prompt, completion,
//! credential, cookie or query string; and the number of time series is bounded, whatever clients send.

mod access_log;
mod count;
mod entry;
mod families;
mod histogram;
mod json;
mod labels;
mod ledger;
mod line;
mod metrics;
mod process;
mod render;
mod series;
mod table;
mod tenants;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

pub use self::entry::Entry;
pub use self::labels::{Attempt, Connection, KeyFetch, Level};
pub use self::ledger::{By, LedgerError, UsageQuery, UsageRow, usage};
pub use self::metrics::{Distribution, Figures, InFlight, LimitLevel, Metrics};
pub use self::tenants::TenantFigures;

use self::access_log::AccessLog;
use self::ledger::Ledger;
use crate::config::record::Record;
use crate::domain::Clock;

/// Why exchanges can't be written down.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The access log can't be opened, or has no thread.
    #[error("can't open the access log: {0}")]
    AccessLog(#[from] io::Error),
    /// The ledger can't be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// How long a shutdown waits for the access log's destination, and again for the ledger's file, to take what is left.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

thread_local! {
    /// Where a thread puts a line together. It grows to the longest line seen, 15,000 bytes at most, and stays.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes down exchanges. Built from `record` in gateway.yaml.
///
/// Two recorders of one file both append whole lines, yet a recorder whose configuration did not change is better kept across a reload:
/// one buffer, one thread.
pub struct Recorder {
    metrics: Arc<Metrics>,
    access_log: Option<AccessLog>,
    ledger: Option<Ledger>,
}

impl Recorder {
    /// Opens what `config` names, and counts in `metrics`. Where there is an access log or a ledger, a thread of that name is started; it ends when
    /// the recorder is dropped, after it has written what was left.
    ///
    /// # Errors
    /// When the access log's file can't be opened for appending, the ledger can't be used, or no thread can be started.
    pub fn build(config: &Record, metrics: Arc<Metrics>) -> Result<Self, RecordError> {
        let access_log = config.access_log.as_ref().map(|log| AccessLog::start(&log.to, metrics.access_log_faults())).transpose()?;
        let ledger = config.ledger.as_ref().map(|ledger| Ledger::start(ledger, metrics.ledger_faults(), Clock::System)).transpose()?;
        if let Some(ledger) = &ledger {
            metrics.sample(Level::LedgerLag, ledger.lag());
        }
        Ok(Self { metrics, access_log, ledger })
    }

    /// Counts an exchange that has ended, and leaves its line to be written. Never blocks; allocates nothing once the buffers have grown.
    pub fn record(&self, entry: &Entry<'_>) {
        self.metrics.count(entry);
        if let Some(ledger) = &self.ledger {
            ledger.note(entry);
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

    /// Waits until everything recorded so far is written, for five seconds at most each for log and ledger: for shutdown, when nothing is in flight any more.
    /// It blocks the thread.
    pub fn flush(&self) {
        if let Some(log) = &self.access_log
            && !log.flush(FLUSH_PATIENCE)
        {
            tracing::warn!("the access log's destination did not take its last lines in time");
        }
        if let Some(ledger) = &self.ledger
            && !ledger.flush(FLUSH_PATIENCE)
        {
            tracing::warn!("the ledger did not take the last exchanges in time");
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("access_log", &self.access_log.is_some())
            .field("ledger", &self.ledger.is_some())
            .finish_non_exhaustive()
    }
}
