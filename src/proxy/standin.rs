//! A session that stands in for the client's: an exchange gets one where it may go on without its client ([`outlive`](super::outlive)), or must end before
//! its upstream does ([`cut`](super::cut)).
//!
//! Pingora 0.9.1 ends an exchange as soon as the client's side fails, on both HTTP versions and with no hook in between; and it has no hook that ends one
//! well. This session passes everything on while there is a client to hear it. After a client that may be outlived, it neither tells that the client left nor
//! writes. After the last word of an answer that is cut, it ends the client's body as it should end, and fails, so that the upstream is let go. Before the
//! exchange ends the client's own session is put back ([`reveal`]), so that a connection is kept as ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as Custom;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, Result};
use pingora_proxy::Session;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::exchange::Exchange;
use crate::domain::{Reason, Rejection};
use crate::record::InFlight;
use crate::routes::Route;
use crate::state::Live;

/// What an exchange and the session that stands in for its client's tell each other.
#[derive(Default)]
pub(super) struct Signals {
    left: AtomicBool,
    cut: AtomicBool,
    /// The client's own session, on its way back.
    revealed: Mutex<Option<ServerSession>>,
}

impl Signals {
    /// Whether the client has left while its answer is read on.
    pub(super) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// What is written next is the end of the answer.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }
}

/// Puts a session in place of the client's, unless there is one already. Where `route` is given and says so, the exchange outlives its client.
pub(super) fn stand_in(session: &mut Session, exchange: &mut Exchange, route: Option<Arc<Route>>) -> Arc<Signals> {
    let live = &exchange.live;
    let signals = exchange.progress.stand_in.get_or_insert_with(|| {
        let signals = Arc::new(Signals::default());
        let client = std::mem::replace(&mut *session.downstream_session, ServerSession::new_custom(Box::new(())));
        let stand_in = StandIn { client, signals: Arc::clone(&signals), route, after: None, live: Arc::clone(live) };
        *session.downstream_session = ServerSession::new_custom(Box::new(stand_in));
        signals
    });
    Arc::clone(signals)
}

/// Puts the client's own session back, where [`stand_in`] took it.
pub(super) fn reveal(session: &mut Session, exchange: &Exchange) {
    let Some(signals) = exchange.progress.stand_in.as_ref().filter(|_| session.downstream_session.is_custom()) else { return };
    drop(std::mem::replace(&mut *session.downstream_session, ServerSession::new_custom(Box::new(()))));
    if let Some(client) = signals.revealed.lock().take() {
        *session.downstream_session = client;
    }
}

/// A client's session, for as long as there is a client.
struct StandIn {
    client: ServerSession,
    signals: Arc<Signals>,
    /// Says how the answer outlives its client; none where it does not.
    route: Option<Arc<Route>>,
    /// From the client's leaving on.
    after: Option<After>,
    live: Arc<Live>,
}

/// The time after the client.
struct After {
    until: Instant,
    _place: OwnedSemaphorePermit,
    _counted: InFlight,
}

impl StandIn {
    /// The client failed by `error`. Returns it, where there is no place to go on in.
    fn leaves(&mut self, error: Box<Error>) -> Result<()> {
        let Some(rule) = self.route.as_ref().and_then(|route| route.outlive.as_ref()) else { return Err(error) };
        let Ok(place) = Arc::clone(&rule.places).try_acquire_owned() else { return Err(error) };
        self.after = Some(After { until: Instant::now() + rule.time, _place: place, _counted: self.live.metrics.draining() });
        self.signals.left.store(true, Ordering::Relaxed);
        // What is left on the connection is nobody's.
        self.client.set_keepalive(None);
        Ok(())
    }

    /// What a write came to: a client that left is no fault.
    fn written(&mut self, written: Result<()>) -> Result<()> {
        written.or_else(|error| self.leaves(error))
    }

    async fn pass_on(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let end = tasks.iter().any(HttpTask::is_end);
        let failed = tasks.iter().any(|task| matches!(task, HttpTask::Failed(_)));
        if self.after.is_some() {
            return match tasks.into_iter().find(|task| matches!(task, HttpTask::Failed(_))) {
                Some(HttpTask::Failed(error)) => Err(error),
                _ => Ok(end),
            };
        }
        match self.client.response_duplex_vec(tasks).await {
            // The upstream's fault, told on.
            Err(error) if failed => Err(error),
            Err(error) => self.leaves(error).map(|()| end),
            done => done,
        }
    }
}

/// The client's session goes back to whoever takes this one away.
impl Drop for StandIn {
    fn drop(&mut self) {
        let client = std::mem::replace(&mut self.client, ServerSession::new_custom(Box::new(())));
        *self.signals.revealed.lock() = Some(client);
    }
}

#[async_trait]
impl Custom for StandIn {
    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if self.after.is_none() {
            match self.client.read_body_or_idle(no_body_expected).await {
                Ok(body) => return Ok(body),
                Err(error) => self.leaves(error)?,
            }
        }
        if let Some(after) = &self.after {
            tokio::select! {
                () = tokio::time::sleep_until(after.until) => {}
                () = self.live.over.cancelled() => {}
            }
        }
        Err(Error::explain(pingora::ErrorType::ConnectionClosed, "the client left, and its answer has not ended in time").into_down())
    }

    async fn response_duplex_vec(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        if !self.signals.cut.load(Ordering::Relaxed) {
            return self.pass_on(tasks).await;
        }
        // What else the upstream says, of its end and of its faults, is nobody's any more.
        tasks.retain(|task| matches!(task, HttpTask::Header(..) | HttpTask::Body(..)));
        self.pass_on(tasks).await?;
        self.finish().await?;
        Err(Rejection::new(Reason::BudgetSpent, "a limit leaves the stream no more").into())
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, _end: bool) -> Result<()> {
        if self.after.is_some() {
            return Ok(());
        }
        let written = self.client.write_response_header(head).await;
        self.written(written)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, _end: bool) -> Result<()> {
        if self.after.is_some() {
            return Ok(());
        }
        let written = self.client.write_response_header_ref(head).await;
        self.written(written)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        if self.after.is_some() {
            return Ok(());
        }
        let written = self.client.write_response_body(data, end).await;
        self.written(written)
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        if self.after.is_some() {
            return Ok(());
        }
        let written = self.client.write_response_trailers(trailers).await;
        self.written(written)
    }

    async fn finish(&mut self) -> Result<()> {
        if self.after.is_some() {
            return Ok(());
        }
        let written = self.client.finish_body().await;
        self.written(written)
    }

    // All else is the client's own.

    fn req_header(&self) -> &RequestHeader {
        self.client.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.client.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.client.read_request_body().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.client.drain_request_body().await
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.client.set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.client.get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.client.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.client.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.client.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.client.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.client.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.client.response_written()
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {
        self.client.shutdown().await;
    }

    fn is_body_done(&mut self) -> bool {
        self.client.is_body_done()
    }

    fn is_body_empty(&mut self) -> bool {
        self.client.is_body_empty()
    }

    fn body_bytes_sent(&self) -> usize {
        self.client.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.client.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.client.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.client.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.client.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.client.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.client.to_h1_raw()
    }

    fn enable_retry_buffering(&mut self) {
        self.client.enable_retry_buffering();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.client.retry_buffer_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.client.get_retry_buffer()
    }

    fn is_upgrade_req(&self) -> bool {
        self.client.is_upgrade_req()
    }

    fn was_upgraded(&self) -> bool {
        self.client.was_upgraded()
    }

    // Messages beside the body: neither HTTP version has any.

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Messages> {
        None
    }

    fn restore_custom_message_reader(&mut self, _reader: Messages) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}

type Messages = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;
