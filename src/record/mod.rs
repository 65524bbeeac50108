//! What happened, and what did it cost? The last room: each exchange that ends is counted in the metrics, written as one line of the access log, added
//! up in the ledger, and exported as spans where its trace is sampled.
//!
//! Invariants: recording never waits, neither for the disk, nor a reader, nor a collector; memory is bounded; nothing secret is written: no prompt,
//! completion, credential, cookie or query string; and the number of time series is bounded, whatever clients send.

mod access_log;
mod complaints;
mod count;
mod entry;
mod error;
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
mod traces;
mod warning;
mod webhook;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::entry::{Entry, Tried};
pub use self::error::RecordError;
pub use self::labels::{Attempt, Connection, KeyFetch, Level, Mirrored, Reload, StsCall, Unheard};
pub use self::ledger::{By, KeptGrant, LedgerError, StopsWatch, UsageQuery, UsageRow, usage};
pub use self::ledger::{Compared, Counted, InvocationLogs, ReconcileError, Reconciliation, UnreadableLog, reconcile};
pub use self::metrics::{CanaryShare, Distribution, Figures, InFlight, LimitLevel, Metrics, QuotaLevel, UpstreamLevel};
pub use self::tenants::TenantFigures;
pub use self::warning::amount;

use self::access_log::AccessLog;
use self::ledger::Ledger;
use self::traces::Traces;
use self::webhook::Webhook;
use crate::config::record::Record;
use crate::domain::{Clock, Grant, KeptCanary, LimitWarning, Quota, QuotaChange, QuotaElsewhere, Stop, Stopped, Trace};

/// How long a shutdown waits for the access log's destination, and again for the ledger's file, to take what is left.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits for the collector of traces, whose loss is the lesser one.
const TRACES_PATIENCE: Duration = Duration::from_secs(3);
/// How long it waits for the webhook.
const WEBHOOK_PATIENCE: Duration = Duration::from_secs(3);

thread_local! {
    /// Where a thread puts a line together. It grows to the longest line seen, 74,000 bytes at most, and stays.
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
    traces: Option<Traces>,
    webhook: Option<Webhook>,
}

impl Recorder {
    /// Opens what `config` names, and counts in `metrics`. Where there is an access log, a ledger, a collector of traces or a webhook, a thread is started for
    /// each; it ends when the recorder is dropped, after it has written what was left.
    ///
    /// # Errors
    /// [`RecordError`]: when the access log's file can't be opened for appending, the ledger can't be used, spans can't be exported, the webhook's
    /// URL can't be read, or no thread can be started.
    pub fn build(config: &Record, metrics: Arc<Metrics>) -> Result<Self, RecordError> {
        Self::build_at(config, metrics, Clock::System)
    }

    /// The same, where the ledger goes by `clock`: the one that periods of quotas are told by.
    ///
    /// # Errors
    /// As [`Recorder::build`].
    pub fn build_at(config: &Record, metrics: Arc<Metrics>, clock: Clock) -> Result<Self, RecordError> {
        let access_log = config.access_log.as_ref().map(|log| AccessLog::start(&log.to, metrics.access_log_faults()));
        let access_log = access_log.transpose().map_err(RecordError::AccessLog)?;
        let ledger = config.ledger.as_ref().map(|ledger| Ledger::start(ledger, metrics.ledger_faults(), clock)).transpose()?;
        if let Some(ledger) = &ledger {
            metrics.sample(Level::LedgerLag, ledger.lag());
        }
        let traces = config.traces.as_ref().map(|traces| Traces::start(traces, metrics.traces_dropped())).transpose()?;
        let webhook = config.webhook.as_ref().map(|webhook| Webhook::start(webhook, metrics.webhook_posts())).transpose()?;
        Ok(Self { metrics, access_log, ledger, traces, webhook })
    }

    /// Whether the upstream is told [`Trace::traceparent`]. Where no spans are exported and the caller told a trace, the caller's own header goes on as
    /// it came: ours would name a span that nobody records.
    #[must_use]
    pub const fn passes_on(&self, trace: &Trace) -> bool {
        self.traces.is_some() || trace.parent.is_none()
    }

    /// Whether an exchange in this trace counts as recorded, for [`Trace::sampled`]: to be asked once, when it begins. Where its caller records it; where
    /// it begins here, if its id is among the share that `record.traces` samples. Where no spans are exported, each that begins here is: the access log
    /// has its id, and an agent upstream is not to take silence for an order not to record.
    #[must_use]
    pub fn samples(&self, trace: &Trace) -> bool {
        self.traces.as_ref().map_or(trace.sampled || trace.parent.is_none(), |traces| traces.samples(trace))
    }

    /// Counts an exchange that has ended, and leaves its line and its spans to be written. Never blocks; allocates nothing once the buffers have grown,
    /// spans apart.
    pub fn record(&self, entry: &Entry<'_>) {
        self.metrics.count(entry);
        if let Some(ledger) = &self.ledger {
            ledger.note(entry);
        }
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

    /// Writes down that the use of a quota changed, where there is a ledger. Never blocks.
    pub fn quota(&self, change: &QuotaChange) {
        if let Some(ledger) = &self.ledger {
            ledger.quota(change);
        }
    }

    /// Tells operators of a quota that is nearly used up: in the log, the metrics and, where there is one, by the webhook. Never blocks.
    pub fn warn(&self, warning: &LimitWarning) {
        warning::log(warning);
        self.metrics.limit_warned(warning);
        if let Some(webhook) = &self.webhook {
            webhook.post(warning);
        }
    }

    /// What quotas had been used of when the ledger was last written, where their period may still run; nothing where there is none. It waits for the
    /// disk.
    ///
    /// # Errors
    /// Where the ledger can't be read.
    pub fn quotas(&self) -> Result<Vec<Quota>, LedgerError> {
        self.ledger.as_ref().map_or_else(|| Ok(Vec::new()), Ledger::quotas)
    }

    /// What another process that writes the same ledger has changed of quotas since it was asked last; from the first [`Recorder::quotas`] on. Never
    /// blocks.
    #[must_use]
    pub fn quotas_elsewhere(&self) -> Vec<QuotaElsewhere> {
        self.ledger.as_ref().map_or_else(Vec::new, Ledger::elsewhere)
    }

    /// Whether another process writes the same ledger, or did a moment ago: a predecessor that ends, or a successor.
    #[must_use]
    pub fn is_beside_another(&self) -> bool {
        self.ledger.as_ref().is_some_and(Ledger::is_beside)
    }

    /// Whether there is a ledger: without one, no quota, no grant and no stop outlives the process.
    #[must_use]
    pub const fn has_ledger(&self) -> bool {
        self.ledger.is_some()
    }

    /// Every grant that counts, is revoked, or has ended in the last 30 days, in the order in which they were made; none without a ledger. It waits for
    /// the disk.
    ///
    /// # Errors
    /// Where the ledger can't be read.
    pub fn grants(&self) -> Result<Vec<KeptGrant>, LedgerError> {
        self.ledger.as_ref().map_or_else(|| Ok(Vec::new()), Ledger::grants)
    }

    /// Keeps a grant for a rule that counts `count`, under an id that the ledger gives. It waits until that is on the disk, for seconds at most.
    ///
    /// # Errors
    /// Where there is no ledger, it has too many grants, or can't be written.
    pub fn grant(&self, grant: Grant, count: &'static str) -> Result<KeptGrant, LedgerError> {
        self.ledger.as_ref().ok_or(LedgerError::Absent)?.grant(grant, count)
    }

    /// Takes a grant back, and returns it; none where there is no such. One that is revoked already stays as it is. It waits until that is on the disk,
    /// for seconds at most.
    ///
    /// # Errors
    /// Where there is no ledger, or it can't be written.
    pub fn revoke(&self, id: u64) -> Result<Option<KeptGrant>, LedgerError> {
        self.ledger.as_ref().ok_or(LedgerError::Absent)?.revoke(id)
    }

    /// Keeps a stop, in place of one of the same. It waits until that is on the disk, for seconds at most.
    ///
    /// # Errors
    /// Where there is no ledger, or it can't be written.
    pub fn stop(&self, stop: Stop) -> Result<(), LedgerError> {
        self.ledger.as_ref().ok_or(LedgerError::Absent)?.stop(stop)
    }

    /// Keeps a stop no more, and tells whether it was kept. It waits until that is on the disk, for seconds at most.
    ///
    /// # Errors
    /// Where there is no ledger, or it can't be written.
    pub fn lift(&self, what: Stopped) -> Result<bool, LedgerError> {
        self.ledger.as_ref().ok_or(LedgerError::Absent)?.lift(what)
    }

    /// How far canaries had come, the latest first; nothing without a ledger. It waits for the disk.
    ///
    /// # Errors
    /// Where the ledger can't be read.
    pub fn canaries(&self) -> Result<Vec<KeptCanary>, LedgerError> {
        self.ledger.as_ref().map_or_else(|| Ok(Vec::new()), Ledger::canaries)
    }

    /// Keeps how far a canary has come, in place of what was kept of its route. It waits until that is on the disk, for seconds at most.
    ///
    /// # Errors
    /// Where there is no ledger, or it can't be written.
    pub fn keep_canary(&self, canary: KeptCanary) -> Result<(), LedgerError> {
        self.ledger.as_ref().ok_or(LedgerError::Absent)?.keep_canary(canary)
    }

    /// Looks at the stops that the ledger keeps; none without a ledger.
    #[must_use]
    pub fn watch_stops(&self) -> Option<StopsWatch> {
        self.ledger.as_ref().map(Ledger::watch_stops)
    }

    /// Opens the access log's file anew: for SIGHUP, after log rotation has moved it aside. Lines that still wait go to the new file.
    /// Where it can't be opened the old one is kept, with a warning.
    pub fn reopen(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    /// Waits until everything recorded so far is written, for five seconds at most each for log and ledger, and exported or posted, for three: for shutdown, when
    /// nothing is in flight any more.
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
        if let Some(traces) = &self.traces
            && !traces.flush(TRACES_PATIENCE)
        {
            tracing::warn!("the collector of traces did not take the last spans in time");
        }
        if let Some(webhook) = &self.webhook
            && !webhook.flush(WEBHOOK_PATIENCE)
        {
            tracing::warn!("the webhook did not take the last warnings in time");
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("access_log", &self.access_log.is_some())
            .field("ledger", &self.ledger.is_some())
            .field("traces", &self.traces.is_some())
            .field("webhook", &self.webhook.is_some())
            .finish_non_exhaustive()
    }
}
