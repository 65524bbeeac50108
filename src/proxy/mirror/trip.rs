//! A copy on its way: sent once, its answer read to the end, and what came of it written down.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Version};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::Peer;
use pingora::{Error, ErrorType};
use tokio::time::timeout;

use super::super::body::Body;
use super::super::exchange::Progress;
use super::super::{aim, answer, refuse, send, watch};
use super::Copied;
use crate::domain::{Cost, Reason, Rejection, RequestId, Trace};
use crate::limits::{Admission, Ask, Now};
use crate::record::{Entry, Mirrored};
use crate::reply::{Ended, Measured, Meter};
use crate::upstreams::{Endpoint, Upstream};

/// Headers by which a caller's trace would go on in what is made of a copy.
const TRACED: [&str; 4] = ["traceparent", "tracestate", "baggage", "x-amzn-trace-id"];

/// Where a copy goes, and how far it has come.
pub(super) struct Trip<'c> {
    copy: &'c Copied,
    id: RequestId,
    trace: Trace,
    began: Instant,
    began_wall: SystemTime,
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
    /// The policy rules in shadow that would not have let it go there.
    shadowed: Vec<Arc<str>>,
    /// What it took of its upstream's quota, where that has one.
    quota: Option<Admission>,
    progress: Progress,
}

impl<'c> Trip<'c> {
    /// Begins with what a copy of `bytes` of body may come to, taken from its account's quota. A copy waits for none, and is no probe of an upstream that
    /// is left alone.
    ///
    /// # Errors
    /// Where its upstream is left alone, or its account has none left of its quota.
    pub(super) fn begin(copy: &'c Copied, shadowed: Vec<Arc<str>>, bytes: u64) -> Result<Self, Rejection> {
        let Copied { plane, live, call, .. } = copy;
        let (upstream, endpoint) = aim::place(&plane.snapshot, &copy.target, call)?;
        let now = Now::of(&live.clock);
        if !plane.fitness.is_fit(&upstream.name, call.model.as_deref(), now.monotonic) {
            return Err(Rejection::new(Reason::UpstreamUnreachable, "the mirror's upstream is left alone"));
        }
        let ask = Ask { principal: &copy.principal, call, route: &copy.route.name, address: None, price: &|_| Cost::Nothing };
        let quota = plane.snapshot.quotas.admit(&upstream.name, &ask, now).map_err(|why| why.rejection)?;
        let mut trace = Trace::take_up(None);
        trace.sampled = live.recorder.samples(&trace);
        let progress = Progress { bytes_in: bytes, ..Progress::default() };
        let (began, began_wall) = (now.monotonic, live.clock.wall());
        Ok(Self { copy, id: RequestId::random(), trace, began, began_wall, upstream, endpoint, shadowed, quota, progress })
    }

    /// Sends it and reads its answer.
    pub(super) async fn send(&mut self, body: Body) -> Result<(), Reason> {
        let Copied { plane, live, call, route, connections, .. } = self.copy;
        let keys = send::keys(&self.upstream, &self.copy.principal, &live.clock).await.map_err(|refusal| refusal.reason)?;
        let timeouts = route.timeouts;
        let silence = watch::silence(timeouts, call.asked.streamed);
        let peer = plane.peers.peer(&self.upstream, call.service.prefix, timeouts.connect, silence).ok_or(Reason::Internal)?;
        let mut head = Box::new(self.copy.head.clone());
        for name in TRACED {
            head.remove_header(name);
        }
        let parcel = send::Parcel { call, body: &body, endpoint: &self.endpoint, keys: &keys };
        let trace = live.recorder.passes_on(&self.trace).then_some(&self.trace);
        send::address(&mut head, &parcel, trace, &live.clock).map_err(|_| Reason::Internal)?;
        (self.progress.attempts, self.progress.connecting) = (1, Some(self.elapsed()));
        let (mut session, _) = connections.get_http_session(&*peer).await.map_err(|error| refuse::upstream(&error).0)?;
        self.progress.connected = Some(self.elapsed());
        timeout(timeouts.total, self.exchange(&mut session, head, body)).await.unwrap_or(Err(Reason::UpstreamTimeout))?;
        self.progress.complete = true;
        // What did not come to its end is dropped, and its connection with it.
        connections.release_http_session(session, &*peer, peer.idle_timeout()).await;
        Ok(())
    }

    async fn exchange(&mut self, session: &mut HttpSession, head: Box<RequestHeader>, mut body: Body) -> Result<(), Reason> {
        self.progress.sent = Some(self.elapsed());
        if let Some(quota) = &mut self.quota {
            quota.sent();
        }
        session.write_request_header(head).await.map_err(broken)?;
        if let Some(bytes) = body.bytes.clone().filter(|bytes| !bytes.is_empty()) {
            session.write_request_body(bytes, true).await.map_err(broken)?;
        }
        session.finish_request_body().await.map_err(broken)?;
        let timeouts = self.copy.route.timeouts;
        loop {
            let read = timeout(timeouts.first_byte, session.read_response_header()).await;
            read.unwrap_or_else(|_| Err(Error::new_up(ErrorType::ReadTimedout))).map_err(broken)?;
            let Some(head) = session.response_header().filter(|head| !head.status.is_informational()) else { continue };
            self.progress.status = Some(head.status.as_u16());
            self.progress.upstream_request_id = head.headers.get(answer::REQUEST_ID).cloned();
            self.progress.meter = Meter::begin(head.status.as_u16(), &head.headers);
            break;
        }
        self.progress.head = Some(self.elapsed());
        body.release();
        let silence = if self.progress.meter.is_streamed() { timeouts.idle } else { timeouts.first_byte };
        while let Some(bytes) =
            timeout(silence, session.read_response_body()).await.map_err(|_| Reason::UpstreamTimeout)?.map_err(broken)?
        {
            self.read(&bytes);
        }
        Ok(())
    }

    /// Reads some of the answer.
    fn read(&mut self, bytes: &[u8]) {
        let at = self.elapsed();
        let Self { progress, quota, copy, .. } = self;
        progress.bytes_out = progress.bytes_out.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        progress.meter.read(bytes, at);
        if let Some(quota) = quota.as_mut().filter(|quota| progress.meter.is_streamed() && quota.counts_use())
            && let Some(tokens) = progress.meter.so_far(Some(&copy.call.asked))
        {
            // It ends no stream: what Bedrock has begun, it goes on with.
            drop(quota.grow(&tokens, || Cost::Nothing, Now::of(&copy.live.clock)));
        }
    }

    fn elapsed(&self) -> Duration {
        self.copy.live.clock.monotonic().saturating_duration_since(self.began)
    }

    /// What it used, and whether anyone can know: of what was sent and ended before an answer began, nobody knows how far the model came.
    fn measure(&self, ended: Result<(), Reason>) -> (Measured, bool) {
        let (progress, asked) = (&self.progress, &self.copy.call.asked);
        let is_unheard = progress.sent.is_some() && progress.head.is_none();
        match ended {
            Err(Reason::UpstreamTimeout | Reason::Stopped | Reason::Draining) if is_unheard => (Measured::unanswered(asked), false),
            Ok(()) => (progress.meter.measured(Some(asked), Ended::Whole), true),
            Err(_) => (progress.meter.measured(Some(asked), Ended::Early), true),
        }
    }

    /// Records it, counts what became of it, and settles what it took of a quota.
    pub(super) fn report(mut self, ended: Result<(), Reason>) {
        let Copied { plane, live, call, route, .. } = self.copy;
        let total = self.elapsed();
        let (measured, is_known) = self.measure(ended);
        let prices = &plane.snapshot.prices;
        let price = |usage| prices.cost(call.model.as_deref(), &self.upstream.region, usage);
        let cost = measured.usage.as_ref().map_or(Cost::Nothing, price);
        if let Some(quota) = self.quota.take().filter(|_| self.progress.sent.is_some()) {
            let tokens = measured.tokens();
            quota.settle((is_known && !measured.opaque).then_some((&tokens, cost)), Now::of(&live.clock));
        }
        let progress = &self.progress;
        let tried = progress.attempts > 0;
        live.recorder.record(&Entry {
            principal: Some(&self.copy.principal),
            mirror_of: Some(&self.copy.of),
            service: Some(call.service),
            method: self.copy.head.method.as_str(),
            version: Version::HTTP_11,
            path: call.path.as_bytes(),
            model: call.model.as_deref(),
            operation: Some(call.operation()),
            status: progress.status,
            reason: ended.err(),
            shadow_policy: &self.shadowed,
            route: Some(&route.name),
            target: tried.then_some(&*self.copy.target.name),
            alias: self.copy.named.as_deref().filter(|named| call.model.as_deref() != Some(named)),
            upstream: tried.then_some(&*self.upstream.name),
            upstream_request_id: progress.upstream_request_id.as_ref().map(HeaderValue::as_bytes),
            attempts: progress.attempts,
            bytes_in: progress.bytes_in,
            bytes_out: progress.bytes_out,
            upstream_time: progress.upstream_time(),
            total,
            overhead: progress.overhead(total),
            complete: ended.is_ok(),
            streamed: measured.streamed,
            usage: measured.usage.as_ref(),
            cost,
            admitted: Some(Duration::ZERO),
            sent: progress.sent,
            head: progress.head,
            first_token: measured.first_token,
            last_token: measured.last_token,
            ..Entry::begun(&self.id, &self.trace, self.began_wall)
        });
        let is_success = progress.status.is_some_and(|status| (200..300).contains(&status)) && !measured.failed;
        let outcome = match ended {
            Ok(()) if is_success => Mirrored::Answered,
            Err(Reason::Stopped | Reason::Draining) => Mirrored::Ended,
            Ok(()) | Err(_) => Mirrored::Failed,
        };
        live.metrics.mirrored(&route.name, outcome);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it takes what Pingora's functions fail with")]
fn broken(error: Box<Error>) -> Reason {
    refuse::upstream(&error).0
}
