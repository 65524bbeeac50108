//! An exchange that outlives its client: where a route says `on_disconnect: drain`, the answer is read to its end though nobody hears it, so that what
//! it used is known exactly.
//!
//! Pingora 0.9.1 ends an exchange as soon as the client's side fails, on both HTTP versions and with no hook in between. So its session is put into one of
//! ours: it passes everything on while the client is there, and afterwards neither tells that the client left nor writes. Before the exchange
//! ends the client's own session is put back ([`reveal`]), so that a connection is kept as ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, Method, Version};
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as Custom;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, Result};
use pingora_proxy::Session;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::exchange::Exchange;
use crate::record::InFlight;
use crate::state::Live;

/// Whether the client of an exchange has left. Shared by the exchange and its session.
#[derive(Default)]
pub(super) struct Departure {
    left: AtomicBool,
    /// The client's own session, on its way back.
    revealed: Mutex<Option<ServerSession>>,
}

impl Departure {
    /// Whether the client has left while its answer is read on.
    pub(super) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }
}

/// From here on the call costs something: where its route says so, it goes on without its client. Calls that only read cost nothing. A client of HTTP/1.0
/// needs what only its own session can do, to end the connection behind the answer.
pub(super) fn outlive(session: &mut Session, exchange: &mut Exchange) {
    let Some(rule) = exchange.admitted.as_ref().and_then(|admitted| admitted.plan.outlive.as_ref()) else { return };
    let head = session.req_header();
    if exchange.progress.departure.is_some() || head.method != Method::POST || head.version < Version::HTTP_11 {
        return;
    }
    let departure = Arc::new(Departure::default());
    let client = std::mem::replace(&mut *session.downstream_session, ServerSession::new_custom(Box::new(())));
    let (time, places) = (rule.time, Arc::clone(&rule.places));
    let live = Arc::clone(&exchange.live);
    let outliving = Outliving { client, departure: Arc::clone(&departure), time, places, after: None, live };
    *session.downstream_session = ServerSession::new_custom(Box::new(outliving));
    exchange.progress.departure = Some(departure);
}

/// Puts the client's own session back, where [`outlive`] took it.
pub(super) fn reveal(session: &mut Session, exchange: &Exchange) {
    let Some(departure) = exchange.progress.departure.as_ref().filter(|_| session.downstream_session.is_custom()) else { return };
    drop(std::mem::replace(&mut *session.downstream_session, ServerSession::new_custom(Box::new(()))));
    if let Some(client) = departure.revealed.lock().take() {
        *session.downstream_session = client;
    }
}

/// A client's session, for as long as there is a client.
struct Outliving {
    client: ServerSession,
    departure: Arc<Departure>,
    time: Duration,
    places: Arc<Semaphore>,
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

impl Outliving {
    /// The client failed by `error`. Returns it, where there is no place to go on in.
    fn leaves(&mut self, error: Box<Error>) -> Result<()> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return Err(error) };
        self.after = Some(After { until: Instant::now() + self.time, _place: place, _counted: self.live.metrics.draining() });
        self.departure.left.store(true, Ordering::Relaxed);
        // What is left on the connection is nobody's.
        self.client.set_keepalive(None);
        Ok(())
    }

    /// What a write came to: a client that left is no fault.
    fn written(&mut self, written: Result<()>) -> Result<()> {
        written.or_else(|error| self.leaves(error))
    }
}

/// The client's session goes back to whoever takes this one away.
impl Drop for Outliving {
    fn drop(&mut self) {
        let client = std::mem::replace(&mut self.client, ServerSession::new_custom(Box::new(())));
        *self.departure.revealed.lock() = Some(client);
    }
}

#[async_trait]
impl Custom for Outliving {
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

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
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
