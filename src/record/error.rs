//! Why nothing can be recorded.

use std::io;

use super::ledger::LedgerError;

/// A `record` of a configuration that can't be put to work.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The access log's file can't be opened for appending, or its thread can't be started.
    #[error("can't open the access log: {0}")]
    AccessLog(#[source] io::Error),
    /// The ledger can't be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Spans can't be exported: the system has no root certificates for `https://`, the environment's `OTEL_EXPORTER_OTLP_*` is wrong, or no thread
    /// can be started.
    #[error("can't export traces to `{otlp}`: {cause}")]
    Traces {
        /// The collector.
        otlp: String,
        /// What is wrong.
        cause: String,
    },
    /// Warnings can't be posted: the file of the URL can't be read or holds none, or no thread can be started.
    #[error("can't post to the webhook: {0}")]
    Webhook(String),
}
