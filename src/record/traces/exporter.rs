//! The thread that hands spans to the collector, with a runtime of its own: gRPC's connection lives and dies on it, whatever requests do.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use prometheus::IntCounter;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tracing::warn;

use super::super::complaints::Complaints;
use crate::domain::{Clock, RequestId};

/// Exchanges that go out at once, at most.
const BATCH: usize = 512;
/// For how long they gather once the first is there.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector has for a batch, tries again included.
const EXPORT: Duration = Duration::from_secs(5);

/// What the thread has.
pub(super) struct Exporter {
    otlp: Otlp,
    spans: Receiver<Vec<SpanData>>,
    waiters: UnboundedReceiver<SyncSender<()>>,
    dropped: IntCounter,
    complaints: Complaints,
}

impl Exporter {
    /// Starts the thread; it ends when the other end of `spans` is dropped and the last of them is out.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn start(
        to: &str,
        spans: Receiver<Vec<SpanData>>,
        waiters: UnboundedReceiver<SyncSender<()>>,
        dropped: IntCounter,
    ) -> Result<(), String> {
        let (ready, started) = sync_channel(1);
        let to = to.to_owned();
        let work = move || {
            // Made where it is driven and dropped: a runtime may not be dropped on another one's thread.
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error.to_string()))),
            };
            let _in_runtime = runtime.enter();
            match connect(&to) {
                Ok(otlp) => {
                    drop(ready.send(Ok(())));
                    runtime.block_on(Self { otlp, spans, waiters, dropped, complaints: Complaints::default() }.export_until_closed());
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        };
        thread::Builder::new().name("traces".to_owned()).spawn(work).map_err(|error| error.to_string())?;
        started.recv().map_err(|error| error.to_string())?
    }

    async fn export_until_closed(mut self) {
        let mut batch = Vec::new();
        loop {
            let waiter = tokio::select! {
                Some(waiter) = self.waiters.recv() => Some(waiter),
                count = self.spans.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.gather(&mut batch).await
                }
            };
            self.export(&mut batch).await;
            if waiter.is_some() {
                // What came while somebody waits is theirs, too; what comes after that is not.
                for _ in 0..=self.spans.len() / BATCH {
                    let room = self.spans.len().min(BATCH);
                    if room > 0 {
                        self.spans.recv_many(&mut batch, room).await;
                    }
                    self.export(&mut batch).await;
                }
            }
            if let Some(waiter) = waiter {
                // Whoever waited too long has left.
                _ = waiter.send(());
            }
        }
    }

    /// Waits until the batch is full, has gathered for long enough, or somebody waits for it, whom it returns.
    async fn gather(&mut self, batch: &mut Vec<Vec<SpanData>>) -> Option<SyncSender<()>> {
        let long_enough = tokio::time::sleep(GATHER);
        tokio::pin!(long_enough);
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                // None, at once, where nobody leaves spans any more: then there is nothing to gather.
                waiter = self.waiters.recv() => return waiter,
                () = &mut long_enough => return None,
                count = self.spans.recv_many(batch, room) => if count == 0 { return None },
            }
        }
        None
    }

    /// Hands the batch over. What the collector does not take in time is lost and counted.
    async fn export(&mut self, batch: &mut Vec<Vec<SpanData>>) {
        if batch.is_empty() {
            return;
        }
        let exchanges = batch.len() as u64;
        let spans = batch.drain(..).flatten().collect();
        let error = match tokio::time::timeout(EXPORT, self.otlp.export(spans)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(late) => late.to_string(),
        };
        self.dropped.inc_by(exchanges);
        if self.complaints.is_due(Clock::System.monotonic()) {
            warn!(error, dropped_total = self.dropped.get(), "spans could not be exported and are lost");
        }
    }
}

/// The way to the collector, over which nothing is sent yet. To be called in a runtime.
fn connect(to: &str) -> Result<Otlp, String> {
    let mut builder = Otlp::builder().with_tonic().with_endpoint(to).with_timeout(EXPORT);
    if to.starts_with("https:") {
        builder = builder.with_tls_config(ClientTlsConfig::new().with_native_roots());
    }
    let mut otlp = builder.build().map_err(|error| crate::domain::causes(&error))?;
    otlp.set_resource(
        &Resource::builder()
            .with_service_name("tollgate")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", RequestId::random().to_string()))
            .build(),
    );
    Ok(otlp)
}
