//! The corridor: the only code that knows Pingora's proxy hooks, and the only code that knows the order of the steps.
//!
//! Read this file and `admit.rs`, and you know the life of a request. Each hook hands over to one room in a line or three.

mod admit;
mod aim;
mod answer;
mod app;
mod body;
mod cut;
mod dial;
mod exchange;
mod failover;
mod head;
mod rates;
mod refuse;
mod report;
mod send;
mod settle;
mod standin;
mod steer;
mod turn;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use http::{StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use crate::domain::{Reason, Rejection, Trace};
use crate::listeners::Connection;
use crate::record::Connection as Taken;
use crate::reply::{Ended, Meter};
use crate::state::{Live, Snapshot};

use self::report::Head;

pub use app::{IDLE_UPSTREAM, Proxy};
pub use exchange::Exchange;

/// An idle keep-alive connection is kept so long: longer than the 350 s after which an NLB forgets a flow, so that the gateway is never the first.
const KEEPALIVE: Duration = Duration::from_mins(6);

/// The gateway as Pingora sees it.
pub struct Gateway {
    plane: Arc<ArcSwap<Plane>>,
    live: Arc<Live>,
}

/// What one request reads: the rooms, and the peers that follow from them.
struct Plane {
    snapshot: Arc<Snapshot>,
    peers: dial::Peers,
    fitness: steer::Fitness,
}

impl Plane {
    fn of(snapshot: Arc<Snapshot>, live: &Live) -> Self {
        // Peers of the same name and host have the same key in Pingora's pool: idle connections are found again.
        let peers = dial::Peers::build(&snapshot.upstreams);
        let fitness = steer::Fitness::of(&snapshot, live);
        Self { snapshot, peers, fitness }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::begin(self.plane.load_full(), Arc::clone(&self.live))
    }

    /// None: the default adds a compression module.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _exchange: &mut Exchange) -> Result<()> {
        if let Some(connection) = connection(session) {
            connection.begin_exchange();
        }
        session.set_write_timeout(Some(dial::WRITE));
        // Off, Pingora drops a call half-way when the client sends the next one behind it.
        session.as_downstream_mut().set_pipelining_enabled(true);
        // Only where Pingora keeps it: a request with both lengths has lost it, and must not get it back.
        if session.as_downstream().get_keepalive().is_some() {
            session.set_keepalive((!self.live.leaving.is_so()).then_some(KEEPALIVE.as_secs()));
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        exchange.known.method = session.req_header().method.clone();
        exchange.trace = Trace::take_up(head::traceparent(session.req_header()));
        exchange.trace.sampled = self.live.recorder.samples(&exchange.trace);
        exchange.admitted = Some(admit::admit(self, session, exchange).await?);
        failover::prepare(session, exchange).await?;
        exchange.progress.admitted = Some(exchange.elapsed());
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        failover::begin(session, exchange).await?;
        let admitted = exchange.admitted.as_ref().ok_or_else(unadmitted)?;
        let (upstream, service, timeouts) = (&admitted.aim.upstream, admitted.call.service.prefix, admitted.route.timeouts);
        let silence = watch::silence(timeouts, admitted.call.asked.streamed);
        let peers = &exchange.plane.peers;
        let first = exchange.progress.tries == 1;
        let peer = if first {
            peers.peer(upstream, service, timeouts.connect, silence)
        } else {
            peers.fresh_peer(upstream, service, timeouts.connect, silence)
        };
        Ok(peer.ok_or_else(unadmitted)?)
    }

    fn fail_to_connect(&self, _session: &mut Session, _peer: &HttpPeer, exchange: &mut Exchange, mut error: Box<Error>) -> Box<Error> {
        failover::unreachable(&mut error, exchange);
        error
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        exchange: &mut Exchange,
    ) -> Result<()> {
        self.live.metrics.upstream_connection(if reused { Taken::Reused } else { Taken::New });
        exchange.progress.connected = Some(exchange.elapsed());
        Ok(())
    }

    async fn upstream_request_filter(&self, session: &mut Session, head: &mut RequestHeader, exchange: &mut Exchange) -> Result<()> {
        let trace = self.live.recorder.passes_on(&exchange.trace).then_some(&exchange.trace);
        let admitted = exchange.admitted.as_mut().ok_or_else(unadmitted)?;
        send::prepare(head, admitted, trace, &self.live.clock)?;
        admitted.sent();
        exchange.progress.sent = Some(exchange.elapsed());
        watch::sent(session, exchange);
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        // Whatever Pingora has kept of the body is a placeholder: the whole of it goes out at once, at its end.
        if let Some(held) = exchange.admitted.as_ref().and_then(|admitted| admitted.body.bytes.clone()) {
            *body = Some(if end { held } else { Bytes::new() });
        }
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        exchange: &mut Exchange,
        client_reused: bool,
    ) -> Box<Error> {
        failover::broken(session, &mut error, exchange, client_reused);
        error
    }

    async fn upstream_response_filter(&self, _session: &mut Session, head: &mut ResponseHeader, exchange: &mut Exchange) -> Result<()> {
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        failover::answered(head, exchange)
    }

    async fn response_filter(&self, session: &mut Session, head: &mut ResponseHeader, exchange: &mut Exchange) -> Result<()> {
        if head.status.is_informational() {
            return Ok(());
        }
        exchange.progress.status = Some(head.status.as_u16());
        exchange.progress.upstream_request_id = head.headers.get(answer::REQUEST_ID).cloned();
        exchange.progress.meter = Meter::begin(head.status.as_u16(), &head.headers);
        answer::reframe(head, &exchange.id, session.req_header().version, exchange.progress.meter.is_streamed())?;
        watch::answers(session, exchange);
        rates::tell(head, &exchange.known.rates)?;
        let needs_the_end = session.req_header().version < Version::HTTP_11 && !head.headers.contains_key(header::CONTENT_LENGTH);
        // A gateway that leaves says so in every answer: a client that sent its next call on a connection as it is closed would lose it.
        if needs_the_end || self.live.leaving.is_so() {
            session.set_keepalive(None);
        }
        if settle::has_no_body(&session.req_header().method, head) {
            settle::ends(exchange, Ended::Whole);
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Exchange,
    ) -> Result<Option<Duration>> {
        cut::read(session, body, end, exchange).map(|()| None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, exchange: &mut Exchange) -> FailToProxy {
        standin::reveal(session, exchange);
        refuse::refuse(session, error, exchange).await
    }

    /// The one exit has said it already.
    fn suppress_error_log(&self, _session: &Session, _exchange: &Exchange, _error: &Error) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        standin::reveal(session, exchange);
        report::report(exchange, &Head::of(session), error);
        if session.as_downstream_mut().is_body_done()
            && let Some(connection) = connection(session)
        {
            connection.end_exchange();
        }
    }
}

/// The client's connection, where it carries one request at a time.
fn connection(session: &Session) -> Option<&Connection> {
    session.as_downstream().stream().and_then(|stream| (**stream).as_any().downcast_ref())
}

/// A hook ran that only runs on admitted requests.
fn unadmitted() -> Rejection {
    Rejection::new(Reason::Internal, "the gateway failed; the request's id finds its log line")
}
