//! What Pingora asks of a session, asked of the one that stands in.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as Custom;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, Result};

use super::{StandIn, failure};
use crate::domain::{Reason, Rejection};

#[async_trait]
impl Custom for StandIn {
    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        self.begin_anew();
        if self.signals.rests.load(Ordering::Relaxed) {
            // No answer is under way that could outlive its client.
            return self.client.read_body_or_idle(no_body_expected).await;
        }
        if self.after.is_none() {
            let heard = tokio::select! {
                biased;
                heard = self.client.read_body_or_idle(no_body_expected) => heard,
                why = self.watch.ends(&self.signals) => return Err(why.into()),
            };
            match heard {
                Ok(body) => return Ok(body),
                Err(error) => self.leaves(error)?,
            }
        }
        if let Some(after) = &self.after {
            tokio::select! {
                () = tokio::time::sleep_until(after.until) => {}
                () = self.live.over.cancelled() => {}
                why = self.watch.ends(&self.signals) => return Err(why.into()),
            }
        }
        Err(Error::explain(pingora::ErrorType::ConnectionClosed, "the client left, and its answer has not ended in time").into_down())
    }

    async fn response_duplex_vec(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        self.begin_anew();
        if self.signals.cut.load(Ordering::Relaxed) {
            // What else the upstream says, of its end and of its faults, is nobody's any more.
            tasks.retain(|task| matches!(task, HttpTask::Header(..) | HttpTask::Body(..)));
            let mut all = std::mem::take(&mut self.held);
            all.extend(tasks);
            self.pass_on(all).await?;
            self.finish().await?;
            return Err(Rejection::new(Reason::BudgetSpent, "a limit leaves the stream no more").into());
        }
        // Held back or not, it was heard.
        if tasks.iter().any(|task| matches!(task, HttpTask::Body(Some(body), _) if !body.is_empty())) {
            self.watch.heard();
        }
        let failed = tasks.iter().any(|task| matches!(task, HttpTask::Failed(_)));
        if self.signals.holds() && !failed && !tasks.iter().any(HttpTask::is_end) {
            self.held.extend(tasks);
            return Ok(false);
        }
        if failed && self.signals.holds() {
            // What is held says nothing yet, and nor does what came together with the fault: the call may turn, and the client has no byte of it.
            return failure(tasks).map_or(Ok(false), Err);
        }
        if !self.held.is_empty() {
            tasks.splice(..0, self.held.drain(..));
        }
        self.pass_on(tasks).await
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
