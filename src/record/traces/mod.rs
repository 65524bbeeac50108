//! Spans on their way to a collector (OpenTelemetry, OTLP over gRPC). A request leaves its spans in a bounded queue as it ends; one thread exports them.
//!
//! Invariants: an exchange that is not sampled costs a branch; no request waits for the collector, nor does the shutdown for longer than it is told.
//! What a dead or slow collector can't take is dropped and counted.

mod exporter;
mod spans;
#[cfg(test)]
mod tests;

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;
use prometheus::IntCounter;
use tokio::sync::mpsc::{Sender, UnboundedSender, channel, unbounded_channel};

use self::exporter::Exporter;
use super::entry::Entry;
use super::error::RecordError;
use crate::config::record::Traces as Config;
use crate::domain::Trace;

/// Exchanges whose spans may wait: some 10 MB of them.
const CAPACITY: usize = 2_048;

/// Where `record.traces` counts parts of.
const WHOLE: u128 = 1_000_000;

/// The way out for spans. Dropping it lets the exporter finish what is there, without waiting for it: [`Traces::flush`] waits.
pub(super) struct Traces {
    /// Parts in a million of the traces that begin here.
    sample: u32,
    /// The spans of one exchange each.
    queue: Sender<Vec<SpanData>>,
    /// Who waits until what is in the queue has gone out. Nothing comes back: the other end is dropped.
    waiting: UnboundedSender<SyncSender<()>>,
    /// Exchanges whose spans never reached the collector.
    dropped: IntCounter,
}

impl Traces {
    /// Starts the thread `traces`. The collector need not be there yet.
    ///
    /// # Errors
    /// [`RecordError::Traces`].
    pub(super) fn start(config: &Config, dropped: IntCounter) -> Result<Self, RecordError> {
        Self::start_with(config, dropped, CAPACITY)
    }

    fn start_with(config: &Config, dropped: IntCounter, capacity: usize) -> Result<Self, RecordError> {
        let (queue, spans) = channel(capacity);
        let (waiting, waiters) = unbounded_channel();
        Exporter::start(&config.otlp, spans, waiters, dropped.clone())
            .map_err(|cause| RecordError::Traces { otlp: config.otlp.clone(), cause })?;
        Ok(Self { sample: config.sample, queue, waiting, dropped })
    }

    /// Whether an exchange of this trace is exported: as its caller says; where the trace begins here, by its id alone, so that every gateway of the same
    /// share decides alike. It is OpenTelemetry's own rule: the lower 63 of the id's last 64 bits, shifted by one, against the share.
    pub(super) fn samples(&self, trace: &Trace) -> bool {
        match trace.parent {
            Some(_) => trace.sampled,
            None => (trace.trace_id & u128::from(u64::MAX)) / 2 * WHOLE < u128::from(self.sample) << 63,
        }
    }

    /// Leaves the spans of an exchange to the exporter; or drops and counts them where the queue is full.
    pub(super) fn export(&self, entry: &Entry<'_>) {
        // The place first: spans that nobody takes are not even made.
        match self.queue.try_reserve() {
            Ok(place) => place.send(spans::of(entry)),
            Err(_) => self.dropped.inc(),
        }
    }

    /// Waits, for at most `patience`, until all spans left so far have gone out or failed to. Returns whether that is so. It blocks the thread.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let (done, when_done) = sync_channel(1);
        self.waiting.send(done).is_ok() && when_done.recv_timeout(patience).is_ok()
    }
}
