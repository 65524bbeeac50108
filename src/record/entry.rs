//! What is known of an exchange when it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::labels::Attempt;
use crate::domain::{Basis, Cost, MIRROR_TENANT, Principal, Reason, RequestId, Service, Trace, Usage};

/// A try that was given up for another: an upstream refused, failed or was silent, and the client had no byte of its answer.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The target's name in its route.
    pub target: Arc<str>,
    /// The upstream, by its key in `upstreams`.
    pub upstream: Arc<str>,
    /// The model, as that upstream was asked for it; none where that is [`Entry::model`].
    pub model: Option<Box<str>>,
    /// How it ended.
    pub outcome: Attempt,
    /// The status of its answer, where there was one.
    pub status: Option<u16>,
    /// `x-amzn-RequestId` of its answer.
    pub upstream_request_id: Option<Box<[u8]>>,
    /// When it began, from [`Entry::began`].
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
    /// What it used all the same; none where nothing is billed.
    pub usage: Option<Usage>,
    /// What that cost.
    pub cost: Cost,
}

/// What happened in one exchange: filled in by the corridor as the exchange ends, borrowed from what it holds anyway.
///
/// What comes off the wire is bytes here: a client may send what is no UTF-8, and the log must show it all the same.
/// Nothing here is a prompt, a completion, a credential, a cookie or a query.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The name of the exchange, which the client has in `x-amzn-RequestId`.
    pub request_id: &'a RequestId,
    /// Its place in a trace.
    pub trace: &'a Trace,
    /// When its first byte was looked at.
    pub began: SystemTime,
    /// The client's address, where the connection has one. Behind PROXY protocol it is the one that the protocol tells.
    pub client: Option<IpAddr>,
    /// Who called; none while nobody is known.
    pub principal: Option<&'a Principal>,
    /// The exchange of which this is a copy, whose answer nobody reads; none where it is none. The usage of a copy is booked under [`MIRROR_TENANT`], and
    /// never under its caller.
    pub mirror_of: Option<&'a RequestId>,
    /// The AWS service; none while it is not known.
    pub service: Option<&'static Service>,
    /// The HTTP method, as sent.
    pub method: &'a str,
    /// The HTTP version that the client spoke.
    pub version: http::Version,
    /// The path: [`Call::path`](crate::domain::Call::path) where there is a call, else the request's own. What follows a `?` is not written.
    pub path: &'a [u8],
    /// The model id, decoded, where the request names one. Where the path spells it too, the log's path has `{model}` in its place.
    pub model: Option<&'a str>,
    /// The operation, by [`Call::operation`](crate::domain::Call::operation); none where there is no call.
    pub operation: Option<&'a str>,
    /// The status that was answered; none where the client left before an answer began.
    pub status: Option<u16>,
    /// Why the gateway refused, or broke off what it had begun; none where it did neither.
    pub reason: Option<Reason>,
    /// The names of the policy rules in shadow that would have refused it, each once.
    pub shadow_policy: &'a [Arc<str>],
    /// The names of the limits in shadow that would have refused it, each once.
    pub shadow_limits: &'a [Arc<str>],
    /// The name of the limit that refused it, or ended its answer.
    pub limit: Option<&'a str>,
    /// For how long it waited for its turn under a limit.
    pub waited: Duration,
    /// The name of the route that it took; none where it got none.
    pub route: Option<&'a str>,
    /// The name of the target that was tried last.
    pub target: Option<&'a str>,
    /// What the client called the model, where its route gave it another name.
    pub alias: Option<&'a str>,
    /// The tries that were given up for another, in their order; their usage is not in [`Entry::usage`].
    pub tried: &'a [Tried],
    /// The upstream that was tried last, by its key in `upstreams`.
    pub upstream: Option<&'a str>,
    /// `x-amzn-RequestId` of the upstream's answer.
    pub upstream_request_id: Option<&'a [u8]>,
    /// How often an upstream was tried; 0 where none was.
    pub attempts: u32,
    /// Body bytes that the client sent, without framing.
    pub bytes_in: u64,
    /// Body bytes that the client was sent, without framing.
    pub bytes_out: u64,
    /// From the first byte sent to the upstream until the head of its answer was read; none where no answer came.
    pub upstream_time: Option<Duration>,
    /// From [`Entry::began`] until the last byte was handed to the client's connection.
    pub total: Duration,
    /// The part of `total` in which the gateway itself held the request back: neither waiting for the client nor for the upstream.
    pub overhead: Duration,
    /// Whether the answer reached its proper end. A stream that broke, on either side, is not complete.
    pub complete: bool,
    /// Whether the client left before the end of its answer.
    pub client_left: bool,
    /// Whether the answer came as a stream of events.
    pub streamed: bool,
    /// What it used; none where nothing is metered.
    pub usage: Option<&'a Usage>,
    /// What that cost.
    pub cost: Cost,
    /// When admission was done, from [`Entry::began`]; none where it refused.
    pub admitted: Option<Duration>,
    /// When the signed request was handed to the upstream's connection.
    pub sent: Option<Duration>,
    /// When the answer's head was here.
    pub head: Option<Duration>,
    /// When the first token of the answer was here.
    pub first_token: Option<Duration>,
    /// When the last was.
    pub last_token: Option<Duration>,
    /// `User-Agent`, as sent.
    pub user_agent: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    /// An exchange of which nothing is known but that it began: what tests and benches start from.
    #[must_use]
    pub const fn begun(request_id: &'a RequestId, trace: &'a Trace, began: SystemTime) -> Self {
        Self {
            request_id,
            trace,
            began,
            client: None,
            principal: None,
            mirror_of: None,
            service: None,
            method: "",
            version: http::Version::HTTP_11,
            path: b"",
            model: None,
            operation: None,
            status: None,
            reason: None,
            shadow_policy: &[],
            shadow_limits: &[],
            limit: None,
            waited: Duration::ZERO,
            route: None,
            target: None,
            alias: None,
            tried: &[],
            upstream: None,
            upstream_request_id: None,
            attempts: 0,
            bytes_in: 0,
            bytes_out: 0,
            upstream_time: None,
            total: Duration::ZERO,
            overhead: Duration::ZERO,
            complete: false,
            client_left: false,
            streamed: false,
            usage: None,
            cost: Cost::Nothing,
            admitted: None,
            sent: None,
            head: None,
            first_token: None,
            last_token: None,
            user_agent: None,
        }
    }

    /// Whether this is a copy of a call.
    pub(super) const fn is_mirror(&self) -> bool {
        self.mirror_of.is_some()
    }

    /// The tenant that it is booked under; none while nobody is known.
    pub(super) fn tenant(&self) -> Option<&'a str> {
        if self.is_mirror() { Some(MIRROR_TENANT) } else { self.principal.map(|principal| &*principal.tenant) }
    }

    /// Whether the client was answered with 2xx.
    pub(super) fn answered(&self) -> bool {
        is_success(self.status)
    }

    /// The model that `tried` was asked for.
    pub(super) fn model_of<'t>(&'t self, tried: &'t Tried) -> Option<&'t str> {
        tried.model.as_deref().or(self.model)
    }

    /// The tries that used something all the same.
    pub(super) fn metered_tries(&self) -> impl Iterator<Item = Metered<'a>> {
        let mut unpriced = self.usage.is_some() && self.cost == Cost::Unpriced;
        let mut estimated = self.usage.is_some_and(|usage| usage.basis == Basis::Estimated);
        self.tried.iter().filter_map(move |tried| {
            let usage = tried.usage.as_ref()?;
            let newly_unpriced = !unpriced && tried.cost == Cost::Unpriced;
            let newly_estimated = !estimated && usage.basis == Basis::Estimated;
            unpriced |= newly_unpriced;
            estimated |= newly_estimated;
            Some(Metered { tried, usage, newly_unpriced, newly_estimated })
        })
    }
}

/// A try that used something all the same.
pub(super) struct Metered<'a> {
    pub(super) tried: &'a Tried,
    pub(super) usage: &'a Usage,
    /// Whether it is what makes its exchange one that used what no price is known for: an exchange is counted as one once, with its answer or else with the
    /// first such try.
    pub(super) newly_unpriced: bool,
    /// The same of exchanges whose tokens are estimated.
    pub(super) newly_estimated: bool,
}

impl Tried {
    /// Whether AWS answered it with 2xx, and so has shown that its names exist.
    pub(super) fn answered(&self) -> bool {
        is_success(self.status)
    }
}

fn is_success(status: Option<u16>) -> bool {
    status.is_some_and(|status| (200..300).contains(&status))
}
