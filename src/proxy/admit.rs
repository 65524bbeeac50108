//! The request half: from a head to a plan, or a refusal.

use std::sync::Arc;

use http::header;
use pingora::Result;
use pingora_proxy::Session;

use super::aim::{Aim, Judges, Shot};
use super::exchange::{Admitted, Exchange};
use super::{Gateway, body, head, settle, turn};
use crate::call::{self, CallError};
use crate::domain::{Asked, Call, Principal, Rejection, Tokens, Usage};
use crate::firewall;
use crate::identity::{Claim, Finding};
use crate::limits::Ask;
use crate::policy::Ruling;
use crate::routes::Asking;
use crate::state::{Snapshot, Subject};

/// Steps 2 to 9 of the corridor, in an order that is argued here.
///
/// An overload costs next to nothing, and a flood too, so the firewall comes before anything is parsed. A stranger's body is never read, so identity comes
/// before the body; the head is read for what is asked (`call`) before the body too, so that a call for no service of ours costs no memory. What the head
/// tells is enough to forbid most calls (`policy`), and then the body is not read either; where the body names the model, policy is asked again. A caller's own signature
/// covers the body: its key, scope and date are judged before the body is read, the signature once it is hashed, and only then is that caller known to
/// anyone. An authorizer of the operator's own is told what the head asks for, and never sees the body. The body is read before `limits`, for what it
/// asks decides how much of a limit it takes; and the route is found before them, for a limit may be of a route, and what a call costs is a matter of the
/// region it goes to, where policy has its last word. Limits come last: whatever is refused has cost nobody's budget, and only an admitted call opens a
/// connection. The account's own quota at Bedrock is asked behind them, for it is of one try ([`failover`](super::failover)): a caller who may not call at all
/// takes no place in its queue. Where it refuses, what the limits gave is given back, request and all: nothing was sent, and that the account is at its end is
/// no fault of the caller's. While a call waits for it, its limits stay taken: or a tenant could have as many calls waiting as it likes.
///
/// What an operator stopped is refused as soon as it is known that a call is of it, before any policy is asked, and so before the body is read where the head
/// tells.
pub(super) async fn admit(gateway: &Gateway, session: &mut Session, exchange: &mut Exchange) -> Result<Admitted> {
    let plane = exchange.plane.clone();
    let snapshot = &plane.snapshot;

    // 2. May it be looked at at all? Past the bound on requests nothing of it is.
    exchange.place = Some(gateway.live.requests.take()?);
    if let Some(address) = head::client(session) {
        snapshot.firewall.flood(address, exchange.began)?;
    }
    firewall::head_fits(head::length(session))?;
    firewall::method_is_safe(&session.req_header().method)?;
    firewall::path_is_safe(head::path(session.req_header()))?;

    // 3. Who is calling?
    let found = snapshot.identity.identify(&head::presented(session, exchange.began_wall)?, exchange.began_wall)?;
    if let Finding::Known(principal) = &found {
        exchange.known.principal = Some(Arc::clone(principal));
    }

    // 4. What do they ask?
    let (stage, call) = head::call(session.req_header(), &snapshot.routes)?;
    let mut call = Arc::new(call);
    exchange.known.call = Some(Arc::clone(&call));
    let mut alias = is_alias(&call, snapshot);

    // 3. Who is calling, where an authorizer is to say, and wants to know what for?
    let caller = match found {
        Finding::Known(principal) => Caller::Known(principal),
        Finding::Ask(question) => Caller::Known(question.answer(&call, exchange.began_wall).await?),
        Finding::Signed(claim) => Caller::Claimed(claim),
    };

    // 5. May they? By the head.
    if let Caller::Known(principal) = &caller {
        exchange.known.principal = Some(Arc::clone(principal));
        gateway.live.stops.check(&Subject::of(Some(principal), Some(&call), None))?;
        let rules = snapshot.policy.rules_for(principal);
        judge_head(&rules, session.req_header().method.as_str(), &call, alias, &mut exchange.known.shadowed)?;
    }

    // 4. What does the body say? 3. Is it what was signed? 5. And may they still?
    let before = exchange.elapsed();
    let mut body = body::read(session, snapshot.max_body, snapshot.body_timeout, &gateway.live.bodies).await?;
    exchange.progress.body_wait = exchange.elapsed().saturating_sub(before);
    exchange.progress.bytes_in = body.len;
    let method = session.req_header().method.as_str();
    let principal = match caller {
        Caller::Known(principal) => principal,
        Caller::Claimed(claim) => {
            let principal = claim.settle(&body.sha256)?;
            exchange.known.principal = Some(Arc::clone(&principal));
            gateway.live.stops.check(&Subject::of(Some(&principal), Some(&call), None))?;
            judge_head(&snapshot.policy.rules_for(&principal), method, &call, alias, &mut exchange.known.shadowed)?;
            principal
        }
    };
    let rules = snapshot.policy.rules_for(&principal);
    let bytes = body.bytes.as_deref().unwrap_or_default();
    let by_head = call.model.is_some();
    let model = call::model_in_body(&call, bytes).map_err(<Rejection as From<CallError>>::from)?;
    // What is read, listed or deleted uses no model, nor does what is set up under a model's name.
    let is_for_a_model = call.service.answers_by_models && matches!(method, "POST" | "PUT");
    if is_for_a_model || by_head || model.is_some() {
        // Held twice, it would be copied.
        exchange.known.call = None;
        let told = Arc::make_mut(&mut call);
        told.asked = if is_for_a_model { call::weigh(told, bytes) } else { Asked { of_no_model: true, ..Asked::default() } };
        told.model = model.or_else(|| told.model.take());
        exchange.known.call = Some(Arc::clone(&call));
    }
    if !by_head {
        alias = is_alias(&call, snapshot);
        if !alias {
            rules.body(method, &call, &mut exchange.known.shadowed)?;
        }
    }

    // 9. Where to? 5. And may they, there?
    let head = session.req_header();
    let host = head::host(head);
    let asking = Asking { principal: &principal, method, call: &call, stage: stage.as_deref(), host, headers: &head.headers };
    let route = Arc::clone(snapshot.routes.find(&asking)?);
    let mut order = route.order(&asking);
    if settle::asked(Some(&call)).is_none() {
        // What is made, read or listed is of one region. Only a model is the same elsewhere.
        order.truncate(1);
    }
    let mut shot = Shot { call: &mut call, body: &mut body, known: &mut exchange.known };
    let aim = Aim::first(snapshot, &principal, &Judges { rules: &rules, method, alias }, order, &mut shot)?;
    // Whatever was stopped while the body came counts, too.
    let subject = Subject::of(Some(&principal), Some(&call), Some(&route.name));
    gateway.live.stops.check(&subject.renamed(exchange.known.alias.as_deref()))?;

    // 7. Can they now?
    let price = |tokens: &Tokens| snapshot.prices.cost(call.model.as_deref(), &aim.upstream.region, &Usage::expected(*tokens));
    let address = head::client(session);
    let ask = Ask { principal: &principal, call: &call, route: &route.name, address, price: &price };
    let admission = turn::take(session, exchange, &ask).await?;

    Ok(Admitted { call, body, route, aim, keys: None, verdict: None, admission: Some(admission), quota: None })
}

/// A model that a route may give another name is judged by that, once the route is found.
fn judge_head(rules: &Ruling<'_>, method: &str, call: &Call, alias: bool, shadowed: &mut Vec<Arc<str>>) -> Result<(), Rejection> {
    if alias { rules.head_but_model(method, call, shadowed) } else { rules.head(method, call, shadowed) }
}

fn is_alias(call: &Call, snapshot: &Snapshot) -> bool {
    call.model.as_deref().is_some_and(|model| snapshot.routes.is_alias(model))
}

/// Who calls, as far as the head tells.
enum Caller {
    Known(Arc<Principal>),
    /// By a signature that the body is still to prove.
    Claimed(Box<Claim>),
}

/// Whether the client asked for the connection to end, or speaks a protocol that ends it anyway.
pub(super) fn keeps_alive(session: &Session) -> bool {
    !session.is_http2() && session.as_downstream().get_keepalive().is_some() && session.get_header(header::UPGRADE).is_none()
}
