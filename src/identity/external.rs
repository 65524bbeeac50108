//! A service of the operator's own says who is calling: what a Lambda authorizer is to API Gateway.
//!
//! It is told what the head says of the call, the credential, and the headers that were chosen; never the body. What it can't be asked is refused.
//! Two calls share an answer only where it would be told the very same of both, so that no answer is ever given to a question that was not asked.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::cache::{Fingerprint, Stamp, VerifiedTokens};
use super::fault::Fault;
use super::flights::Flights;
use super::http::Poster;
use super::{IdentityError, Presented, presented};
use crate::config::identity as config;
use crate::domain::{Call, MIRROR_TENANT, Method, Principal, Reason, Rejection};

/// An answer verified under no keys that could go.
const NO_KEYS: Stamp = Stamp { issuer: 0, epoch: 0 };
/// So many questions are under way at once; more wait, within their time.
const AT_ONCE: usize = 128;
/// The longest that an answer may count, in seconds.
const MAX_TTL: u64 = 3600;
/// The longest name of a tenant, user, group or key, in bytes.
const MAX_NAME: usize = 256;
/// The most groups.
const MAX_GROUPS: usize = 64;
/// The longest reason for a denial that callers are told, in characters.
const MAX_REASON: usize = 200;
/// When a caller may try again after the authorizer could not be asked.
const RETRY: Duration = Duration::from_secs(1);

/// The authorizer, and what it has said.
#[derive(Debug)]
pub(super) struct External {
    rules: config::External,
    poster: Poster,
    /// By the hash of the question.
    answers: VerifiedTokens,
    flights: Flights<Answer>,
    turns: Semaphore,
}

/// A question that is still to be asked, since what it is about is not known yet.
pub struct Question {
    external: Arc<External>,
    method: Box<str>,
    address: Option<IpAddr>,
    headers: BTreeMap<Box<str>, String>,
    credential: Option<Box<str>>,
}

/// What the authorizer is told.
#[derive(Serialize)]
struct Told<'q> {
    method: &'q str,
    path: &'q str,
    service: &'q str,
    model: Option<&'q str>,
    address: Option<IpAddr>,
    headers: &'q BTreeMap<Box<str>, String>,
    credential: Option<&'q str>,
}

/// What it says with 200. A word that is not known is no answer: it might be a no.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    principal: Option<Named>,
    deny: Option<String>,
    /// For limits and policies: one more of the caller's groups.
    group: Option<String>,
    /// In seconds.
    ttl: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    tenant: String,
    user: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    key_id: Option<String>,
}

/// What came of a question, for all who asked it.
#[derive(Clone, Debug)]
enum Answer {
    Known(Arc<Principal>),
    Denied(Option<Arc<str>>),
    NotAccepted,
    Unavailable(Arc<str>),
}

impl External {
    pub(super) fn build(rules: &config::External) -> Result<Self, IdentityError> {
        let poster = Poster::build(rules.url.clone(), rules.ca.as_ref())
            .map_err(|cause| IdentityError::AuthorizerCa { file: rules.ca.clone().unwrap_or_default(), cause })?;
        Ok(Self { rules: rules.clone(), poster, answers: VerifiedTokens::new(), flights: Flights::new(), turns: Semaphore::new(AT_ONCE) })
    }

    /// The question that a request raises; none where it shows nothing to judge.
    ///
    /// # Errors
    /// Where a header that holds a credential stands twice, or is not ASCII; or where a credential is there and empty.
    pub(super) fn question(self: &Arc<Self>, presented: &Presented<'_>) -> Result<Option<Question>, Fault> {
        let credential = self.credential(presented.headers)?;
        if credential.is_some_and(str::is_empty) {
            return Err(Fault::Malformed("the credential is empty"));
        }
        let headers: BTreeMap<_, _> =
            self.rules.headers.iter().filter_map(|name| Some((name.as_str().into(), all(presented.headers, name)?))).collect();
        if credential.is_none() && headers.is_empty() {
            return Ok(None);
        }
        Ok(Some(Question {
            external: Arc::clone(self),
            method: presented.method.into(),
            address: presented.address,
            headers,
            credential: credential.map(Into::into),
        }))
    }

    fn credential<'h>(&self, headers: &'h HeaderMap) -> Result<Option<&'h str>, Fault> {
        if let Some(name) = &self.rules.token_from {
            return Ok(presented::single(headers, name, "token_from")?.map(str::trim));
        }
        match presented::token(headers)? {
            Some(token) => Ok(Some(token)),
            None => presented::api_key(headers),
        }
    }

    async fn ask(&self, told: String, key: Fingerprint, now: u64) -> Answer {
        let posted = async {
            let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
            self.poster.post(Bytes::from(told)).await
        };
        let (status, body) = match tokio::time::timeout(self.rules.timeout, posted).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Answer::Unavailable(why.into()),
            Err(_) => return Answer::Unavailable(format!("no answer within {:?}", self.rules.timeout).into()),
        };
        match status {
            StatusCode::OK => match Self::read(&body) {
                Ok((Answer::Known(principal), ttl)) => {
                    let ttl = if self.rules.cache.is_zero() { 0 } else { ttl.unwrap_or(self.rules.cache.as_secs()).min(MAX_TTL) };
                    if ttl > 0 {
                        self.answers.remember(key, now.saturating_add(ttl), Arc::clone(&principal), NO_KEYS, now);
                    }
                    Answer::Known(principal)
                }
                Ok((answer, _)) => answer,
                Err(why) => Answer::Unavailable(why.into()),
            },
            StatusCode::UNAUTHORIZED => Answer::NotAccepted,
            StatusCode::FORBIDDEN => {
                let said = serde_json::from_slice::<Said>(&body).ok().and_then(|said| said.deny);
                Answer::Denied(said.as_deref().map(reason))
            }
            status => Answer::Unavailable(format!("it answered {status}").into()),
        }
    }

    /// Who it is, and for how many seconds; or why not.
    fn read(body: &[u8]) -> Result<(Answer, Option<u64>), String> {
        let said: Said = serde_json::from_slice(body).map_err(|error| format!("its answer makes no sense: {error}"))?;
        let named = match (said.principal, said.deny) {
            (Some(named), None) => named,
            (None, Some(deny)) => return Ok((Answer::Denied(Some(reason(&deny))), None)),
            _ => return Err("its answer makes no sense: either `principal` or `deny`".to_owned()),
        };
        let groups: Vec<String> = named.groups.into_iter().chain(said.group).collect();
        let named_well = is_name(&named.tenant)
            && named.user.iter().chain(&named.key_id).chain(&groups).all(|name| is_name(name))
            && groups.len() <= MAX_GROUPS;
        if !named_well {
            return Err(format!(
                "its answer makes no sense: names are 1 to {MAX_NAME} bytes without control characters and not `(mirror)`, at most {MAX_GROUPS} groups"
            ));
        }
        let principal = Principal {
            tenant: named.tenant.into(),
            user: named.user.map(Into::into),
            groups: groups.into_iter().map(Into::into).collect(),
            method: Method::External,
            key_id: named.key_id.map(Into::into),
        };
        Ok((Answer::Known(Arc::new(principal)), said.ttl))
    }
}

impl Question {
    /// Who it is that makes `call`, at the time `now`: as the authorizer says, or said of the very same question not long ago.
    ///
    /// # Errors
    /// [`Reason::Forbidden`] and [`Reason::Unauthenticated`] where the authorizer says so; [`Reason::AuthorizerUnavailable`] where it says nothing that can
    /// be understood, in its time.
    pub async fn answer(self, call: &Call, now: SystemTime) -> Result<Arc<Principal>, Rejection> {
        let now = now.duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs());
        let told = Told {
            method: &self.method,
            path: &call.path,
            service: call.service.prefix,
            model: call.model.as_deref(),
            address: self.address,
            headers: &self.headers,
            credential: self.credential.as_deref(),
        };
        let told = serde_json::to_string(&told)
            .map_err(|error| Rejection::new(Reason::Internal, "the authorizer can't be asked").because(error))?;
        let external = &self.external;
        let key = Fingerprint::of(&told);
        if let Some((principal, _)) = external.answers.find(&key, now) {
            return Ok(principal);
        }
        let seat = external.flights.join(key);
        let answer = seat
            .answer(|| async {
                match external.answers.find(&key, now) {
                    // Another asked, and was told, since we looked.
                    Some((principal, _)) => Answer::Known(principal),
                    None => external.ask(told, key, now).await,
                }
            })
            .await;
        match answer.unwrap_or_else(|| Answer::Unavailable("the question was lost".into())) {
            Answer::Known(principal) => Ok(principal),
            Answer::NotAccepted => Err(Rejection::new(Reason::Unauthenticated, "the authorizer does not accept the credential")),
            Answer::Denied(None) => Err(Rejection::new(Reason::Forbidden, "the authorizer denies the call")),
            Answer::Denied(Some(reason)) => Err(Rejection::new(Reason::Forbidden, format!("the authorizer denies the call: {reason}"))),
            Answer::Unavailable(why) => external.unavailable(&why),
        }
    }
}

impl External {
    fn unavailable(&self, why: &str) -> Result<Arc<Principal>, Rejection> {
        let Some(tenant) = &self.rules.on_error else {
            let message = "the authorizer can't be asked at the moment";
            return Err(Rejection::new(Reason::AuthorizerUnavailable, message).retry_after(RETRY).because(why.to_owned()));
        };
        tracing::warn!(why, tenant, "the authorizer can't be asked; the call passes unchecked, as `insecure` says");
        Ok(Arc::new(Principal {
            tenant: tenant.as_str().into(),
            user: None,
            groups: Arc::default(),
            method: Method::External,
            key_id: None,
        }))
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("method", &self.method).field("address", &self.address).finish_non_exhaustive()
    }
}

/// All values of a header, joined as RFC 9110, section 5.3, says; bytes that are no UTF-8 read U+FFFD.
fn all(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control) && !name.trim().is_empty() && name != MIRROR_TENANT
}

/// A reason, fit for callers.
fn reason(said: &str) -> Arc<str> {
    said.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect::<String>().into()
}
