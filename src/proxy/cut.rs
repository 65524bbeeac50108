//! Reads the answer as it passes, and ends a stream whose limit has nothing left.
//!
//! A stream is read event by event where a limit counts what it uses: behind each the limit is told what is used by now, and what goes beyond the
//! reservation is held too. Where a rule with `cut: true` has nothing left, the stream's next event is its last: an exception, as the client's SDK raises
//! it. Since it stands behind a whole event, where the stream is cut does not depend on how its bytes came. The status was 200 long ago; so the client's
//! stream ends well ([`standin`]), for to a client a broken one would be a fault of the connection, to be tried again.

use bytes::{Bytes, BytesMut};
use pingora::Result;
use pingora_proxy::Session;

use super::exchange::{Admitted, Exchange};
use super::{failover, settle, standin};
use crate::domain::{Cost, Reason, Usage};
use crate::limits::Cut;
use crate::reply::{Ended, Ending};

/// Looks at the next bytes of the answer. `end`: they are its last.
///
/// # Errors
/// That the call [turns](failover::again), where a stream begins with an exception.
pub(super) fn read(session: &mut Session, body: &mut Option<Bytes>, end: bool, exchange: &mut Exchange) -> Result<()> {
    if exchange.progress.cut {
        // The upstream said it before it was let go.
        *body = None;
        return Ok(());
    }
    if let Some(bytes) = body.as_ref().filter(|bytes| !bytes.is_empty()) {
        let cut = follow(bytes, exchange);
        failover::heard(exchange, bytes.len())?;
        if let Some((length, cut)) = cut
            && let Some(last) = exchange.progress.meter.exception(Ending::Spent, &cut.message)
        {
            *body = Some(ended(bytes.slice(..length), &last));
            end_early(session, exchange, cut);
        }
        if !exchange.progress.is_outlived() {
            exchange.progress.bytes_out += body.as_ref().map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(0));
        }
    }
    if end && !exchange.progress.cut {
        failover::kept(exchange);
        exchange.progress.complete = true;
        settle::ends(exchange, Ended::Whole);
    }
    Ok(())
}

/// Reads `bytes`. Returns behind how many of them the stream is to be cut.
fn follow(bytes: &Bytes, exchange: &mut Exchange) -> Option<(usize, Cut)> {
    let (at, now) = (exchange.elapsed(), exchange.now());
    let admitted = exchange.admitted.as_mut().filter(|_| exchange.progress.meter.is_streamed());
    let Some(admitted) = admitted.filter(|admitted| admitted.counts_use()) else {
        exchange.progress.meter.read(bytes, at);
        return None;
    };
    let Admitted { admission, quota, call, aim, .. } = admitted;
    let (meter, prices, asked) = (&mut exchange.progress.meter, &exchange.plane.snapshot.prices, settle::asked(Some(call)));
    let (mut read, before) = (0, settle::given_up(&exchange.progress.tried).0);
    while let Some(rest) = bytes.get(read..).filter(|rest| !rest.is_empty()) {
        read += meter.read_event(rest, at)?;
        let Some(mut tokens) = meter.so_far(asked) else { continue };
        if let Some(quota) = quota {
            // It ends no stream: what Bedrock has begun, it goes on with.
            drop(quota.grow(&tokens, || Cost::Nothing, now));
        }
        tokens += before;
        let cost = || prices.cost(call.model.as_deref(), &aim.upstream.region, &Usage::expected(tokens));
        match admission.as_mut().map_or(Ok(()), |admission| admission.grow(&tokens, cost, now)) {
            Err(cut) if !meter.is_over() => return Some((read, cut)),
            _ => {}
        }
    }
    None
}

/// What the client is sent of a stream that is cut.
fn ended(before: Bytes, last: &Bytes) -> Bytes {
    let mut bytes = BytesMut::from(before);
    bytes.extend_from_slice(last);
    bytes.freeze()
}

/// The client's stream ends behind what is written next, and the upstream is let go.
fn end_early(session: &mut Session, exchange: &mut Exchange, cut: Cut) {
    exchange.progress.cut = true;
    exchange.refused = Some(Reason::BudgetSpent);
    exchange.known.limit = Some(cut.rule);
    settle::ends(exchange, Ended::Cut);
    standin::stand_in(session, exchange, None).cut();
}
