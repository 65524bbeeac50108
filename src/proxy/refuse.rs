//! The one exit for refusals: every `Err` of every hook ends here, and is answered as AWS would.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};
use serde_json::json;

use super::exchange::Exchange;
use super::settle;
use crate::domain::{Reason, Rejection};
use crate::record::Attempt;
use crate::reply::{Ended, Ending};

/// What is left of a refused body may take so long; then the connection ends.
const DRAIN: Duration = Duration::from_secs(5);

/// A refusal is an error to Pingora: the rejection is its cause.
impl From<Rejection> for Box<Error> {
    fn from(rejection: Rejection) -> Self {
        Error::because(ErrorType::new("refused"), "", rejection)
    }
}

/// Answers `error`, where there is still someone to answer, and notes it in the exchange.
pub(super) async fn refuse(session: &mut Session, error: &Error, exchange: &mut Exchange) -> FailToProxy {
    let silent = FailToProxy { error_code: 0, can_reuse_downstream: false };
    let answered = answered(session);
    let Some(verdict) = Verdict::of(error, answered) else { return silent };
    exchange.refused = Some(verdict.reason);
    verdict.tell(error, exchange);
    // The client may call again as soon as it is told.
    settle::ends(exchange, Ended::Early);
    if exchange.progress.cut {
        // The answer's last event has said it, and its end stands behind that.
        return silent;
    }
    if answered {
        if let Some(last) = ending(verdict.reason).filter(|_| exchange.progress.meter.is_between_events()).and_then(|ending| {
            // The status was 200 long ago: what is told, is told as an event.
            exchange.progress.meter.exception(ending, verdict.message)
        }) {
            let length = u64::try_from(last.len()).unwrap_or(0);
            if matches!(tokio::time::timeout(DRAIN, session.write_response_body(Some(last), true)).await, Ok(Ok(()))) {
                exchange.progress.bytes_out += length;
                return silent;
            }
        }
        // The client has part of the answer: breaking off is the only honest end. A clean one would pass for success, and so would HTTP/2's CANCEL,
        // which a stream that is merely dropped is ended with: the SDK for JavaScript raises nothing then.
        if session.is_http2() {
            session.as_downstream_mut().shutdown().await;
        }
        return silent;
    }
    let status = verdict.reason.status();
    exchange.progress.status = Some(status);
    // Whether a client that waits for a 100 will send its body all the same, nobody knows.
    let holds_back = session.get_header(header::EXPECT).is_some() && session.response_written().is_none();
    // Whatever fails once a call is on its way ends the connection in Pingora 0.9.1; then its answer must say so.
    let on_its_way = exchange.progress.admitted.is_some();
    let reuse = verdict.reuse && !holds_back && !on_its_way && super::admit::keeps_alive(session);
    if reuse {
        // Pingora ends a connection on which it answers before the body is read. What is left of it is read behind the answer.
        session.set_close_on_response_before_downstream_finish(false);
    } else if !session.is_http2() {
        session.set_keepalive(None);
    }
    match write(session, &verdict, exchange).await {
        Ok(sent) => {
            exchange.progress.bytes_out = sent;
            exchange.progress.complete = true;
            if reuse {
                drain(session, exchange).await;
            }
            // Where it can't be reused, that is what its keep-alive says: Pingora ends it, and lets the client read first.
            FailToProxy { error_code: status, can_reuse_downstream: true }
        }
        Err(_) => silent,
    }
}

/// Whether the client has the head of its answer, beyond `100 Continue` and its like.
pub(super) fn answered(session: &Session) -> bool {
    session.response_written().is_some_and(|head| !head.status.is_informational())
}

/// Reads and drops what is left of a refused body: before the exchange ends, for then it would count as the next head. The time is the client's.
async fn drain(session: &mut Session, exchange: &mut Exchange) {
    let before = exchange.elapsed();
    if !matches!(tokio::time::timeout(DRAIN, session.as_downstream_mut().drain_request_body()).await, Ok(Ok(()))) {
        session.set_keepalive(None);
    }
    exchange.progress.body_wait += exchange.elapsed().saturating_sub(before);
}

/// The event that ends a stream for this reason, behind a whole one; none where the only honest end is to break off.
const fn ending(reason: Reason) -> Option<Ending> {
    match reason {
        Reason::UpstreamTimeout => Some(Ending::TimedOut),
        Reason::Stopped => Some(Ending::Stopped),
        Reason::Draining => Some(Ending::Draining),
        _ => None,
    }
}

/// What is answered.
struct Verdict<'e> {
    reason: Reason,
    message: &'e str,
    retry_after: Option<Duration>,
    /// Whether the connection may carry another request.
    reuse: bool,
}

impl<'e> Verdict<'e> {
    /// Our own refusals as they are; Pingora's errors by where they arose. None where the client is gone.
    fn of(error: &'e Error, answered: bool) -> Option<Self> {
        if let Some(rejection) = rejection(error) {
            let reuse =
                !matches!(rejection.reason, Reason::BodyTooLarge | Reason::RequestTimeout | Reason::LengthRequired | Reason::Internal);
            return Some(Self { reason: rejection.reason, message: &rejection.message, retry_after: rejection.retry_after, reuse });
        }
        let (reason, message) = match error.esource() {
            ErrorSource::Upstream => upstream(error),
            ErrorSource::Downstream => match error.etype() {
                // Custom: chunks that are none. H2Error is no fault of form: the client took its stream back.
                ErrorType::InvalidHTTPHeader | ErrorType::H1Error | ErrorType::InvalidH2 | ErrorType::Custom(_) if !answered => {
                    (Reason::Malformed, "the request is not well-formed HTTP")
                }
                _ => return None,
            },
            ErrorSource::Internal | ErrorSource::Unset => match error.etype() {
                ErrorType::ConnectTimedout | ErrorType::ConnectRefused | ErrorType::ConnectNoRoute | ErrorType::ConnectError => {
                    upstream(error)
                }
                _ => (Reason::Internal, "the gateway failed; the request's id finds its log line"),
            },
        };
        Some(Self { reason, message, retry_after: None, reuse: false })
    }

    /// Says it in our own log, as loud as it concerns an operator.
    fn tell(&self, error: &Error, exchange: &Exchange) {
        let (id, reason) = (exchange.id.as_str(), self.reason.label());
        match self.reason {
            Reason::Internal => tracing::error!(id, reason, %error, "request failed"),
            Reason::UpstreamUnreachable
            | Reason::UpstreamBroken
            | Reason::UpstreamTimeout
            | Reason::AuthorizerUnavailable
            | Reason::NoCredentials
            | Reason::BodyMemory => {
                tracing::warn!(id, reason, %error, "request failed");
            }
            _ => {
                let source = rejection(error).and_then(|rejection| rejection.source()).map(ToString::to_string);
                tracing::debug!(id, reason, message = self.message, source, "request refused");
            }
        }
    }
}

fn upstream(error: &Error) -> (Reason, &'static str) {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => (Reason::UpstreamTimeout, "Bedrock did not answer in time"),
        ErrorType::ConnectTimedout
        | ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::SocketError
        | ErrorType::BindError => (Reason::UpstreamUnreachable, "the gateway could not connect to Bedrock"),
        _ => (Reason::UpstreamBroken, "Bedrock's answer broke off"),
    }
}

/// How a try ended that gave no answer.
pub(super) fn outcome(error: &Error) -> Attempt {
    if rejection(error).is_some_and(|rejection| rejection.reason == Reason::UpstreamTimeout) {
        Attempt::TimedOut
    } else if *error.esource() == ErrorSource::Downstream {
        Attempt::Abandoned
    } else if error.retry() {
        Attempt::Stale
    } else {
        match upstream(error).0 {
            Reason::UpstreamTimeout => Attempt::TimedOut,
            Reason::UpstreamUnreachable => Attempt::Unreachable,
            _ => Attempt::Broken,
        }
    }
}

fn rejection(error: &Error) -> Option<&Rejection> {
    error.root_cause().downcast_ref()
}

/// Whether the same request is refused again, for as long as anyone would wait: OpenAI's and Anthropic's clients are told not to ask again.
const fn is_final(reason: Reason) -> bool {
    matches!(reason, Reason::Stopped | Reason::BudgetSpent | Reason::AsksTooMuch | Reason::Unpriced)
}

/// Writes the answer, and returns the length of its body.
async fn write(session: &mut Session, verdict: &Verdict<'_>, exchange: &Exchange) -> pingora::Result<u64> {
    let kind = verdict.reason.aws_type();
    let body = json!({
        "message": verdict.message,
        "__type": kind,
        "error": { "message": verdict.message, "type": kind, "code": verdict.reason.label() },
    });
    let body = Bytes::from(body.to_string());
    let mut head = ResponseHeader::build(verdict.reason.status(), Some(16))?;
    head.insert_header("Content-Type", "application/json")?;
    head.insert_header("Content-Length", body.len())?;
    head.insert_header("x-amzn-RequestId", exchange.id.as_str())?;
    head.insert_header("x-amzn-ErrorType", kind)?;
    if verdict.reason == Reason::Unauthenticated {
        head.insert_header("WWW-Authenticate", "Bearer")?;
    }
    if let Some(after) = verdict.retry_after {
        // AWS's clients read milliseconds, Anthropic's and OpenAI's too; everyone else whole seconds. Rounded up: who keeps to it comes in time.
        let millis = after.as_nanos().div_ceil(1_000_000).max(1).to_string();
        head.insert_header("Retry-After", after.as_millis().div_ceil(1000).max(1).to_string())?;
        head.insert_header("x-amz-retry-after", millis.clone())?;
        head.insert_header("retry-after-ms", millis)?;
    }
    if is_final(verdict.reason) {
        head.insert_header("x-should-retry", "false")?;
    }
    super::rates::tell(&mut head, &exchange.known.rates)?;
    let bodiless = session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(head), bodiless).await?;
    if bodiless {
        return Ok(0);
    }
    let length = u64::try_from(body.len()).unwrap_or(0);
    session.write_response_body(Some(body), true).await?;
    Ok(length)
}
