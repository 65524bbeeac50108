//! `identity` answers: who is calling?
//!
//! * A credential that is present and wrong refuses the request; only an absent one lets the next method try. A credential for which no
//!   method is configured (an SDK's dummy signature, a token in front of an `anonymous` gateway) counts as absent.
//! * An API key is told from a token by its first four characters, so each is judged by its own method. A token in `x-tollgate-token` is judged
//!   before a signature, which an SDK may make unasked.
//! * A token is believed only after its signature verified, under a key of the issuer that it names, with an algorithm that both the
//!   configuration and the key allow. An issuer has public keys or one shared secret, never both, so that neither is mistaken for the other.
//! * Keys renew themselves in tasks of their own; no request waits for a provider.
//! * Nothing here grows with what strangers send: only verified tokens are remembered, and of those a bounded number.
//! * No message and no error holds a token.

mod cache;
mod certificate;
mod claims;
mod error;
mod external;
mod fault;
mod fetch;
mod flights;
mod hex;
mod http;
mod issued;
mod jwk;
mod jwt;
mod keyring;
mod keys;
mod presented;
mod sigv4;
mod tenants;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ::http::HeaderMap;

use crate::config::identity as config;
use crate::domain::{self, ClientCertificate, FileStamp, Principal, Reason, Rejection};

pub use error::{IdentityError, KeySetError};
pub use external::Question;
pub use fetch::CaError;
pub use issued::{EditError, IssuedKeys, KeyRow, KeysError, KeysFile, Look, Owner, SealError};
pub use keyring::{Keyring, Renewal};
pub use sigv4::Claim;

/// All configured ways to prove who is calling. Built once for a configuration; what it remembers of verified tokens dies with it, so
/// that a token accepted under old rules is judged anew under new ones.
#[derive(Debug)]
pub struct Identity {
    /// At least one; asked in order; `Anonymous`, which asks for nothing, only ever last.
    methods: Vec<Method>,
    /// Each file of issued keys, once.
    issued: Vec<Arc<IssuedKeys>>,
    /// What was known of each bundle of authorities before it was read.
    bundles: Vec<Option<FileStamp>>,
}

/// What a request shows of its sender before its body is read.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'r> {
    /// The HTTP method, as sent.
    pub method: &'r str,
    /// The raw path, as sent.
    pub path: &'r str,
    /// The raw query, without `?`; empty where there is none.
    pub query: &'r str,
    /// The `Host` header, or HTTP/2's `:authority`.
    pub host: Option<&'r str>,
    /// Every header, as sent.
    pub headers: &'r HeaderMap,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The certificate that its connection was made with, where it was; judged good already.
    pub certificate: Option<&'r ClientCertificate>,
}

impl<'r> Presented<'r> {
    /// A request of which nothing but its headers is looked at: for tokens and keys.
    #[must_use]
    pub const fn by(headers: &'r HeaderMap) -> Self {
        Self { method: "POST", path: "/", query: "", host: None, headers, address: None, certificate: None }
    }
}

/// What is known of a caller from the head of the request alone.
#[derive(Debug)]
pub enum Finding {
    /// Who it is.
    Known(Arc<Principal>),
    /// Whoever the external authorizer says, once it is known what they ask: [`Question::answer`].
    Ask(Question),
    /// Who it says it is, by a signature that covers the body too: [`Claim::settle`] judges it, once there is a body to judge it by.
    Signed(Box<Claim>),
}

/// One way to prove who is calling, ready for use.
#[derive(Debug)]
enum Method {
    /// Signed tokens, of all issuers together: a token names its own.
    Jwt(Box<jwt::Jwt>),
    /// Names from the client's certificate.
    Certificate(Box<config::ClientCertificate>),
    /// A service of the operator's own.
    External(Arc<external::External>),
    /// Random keys that the gateway issued.
    ApiKeys(Arc<IssuedKeys>),
    /// Signatures by credentials that the gateway issued.
    AwsCredentials(Arc<IssuedKeys>),
    /// Everyone is this caller.
    Anonymous(Arc<Principal>),
}

impl Identity {
    /// Reads and checks the key sets and makes the methods ready.
    ///
    /// # Errors
    /// Where the list is empty, an issuer is named twice, a method stands behind `anonymous`, or a key set can't be used; the error
    /// names the file and the cause.
    pub fn build(methods: &[config::Method]) -> Result<Self, IdentityError> {
        Self::rebuild(methods, None)
    }

    /// The same in place of `before`, whose keys of an issuer live on where what is said of them is the same, and so do keys that were issued: they renew
    /// themselves, and an issuer that is down at this moment costs nobody anything.
    ///
    /// # Errors
    /// As [`Identity::build`].
    pub fn rebuild(methods: &[config::Method], before: Option<&Self>) -> Result<Self, IdentityError> {
        let known: Vec<_> = before.into_iter().flat_map(Self::keyrings).collect();
        let bundles = bundles(methods);
        let mut issuers = Vec::new();
        let mut files = issued::Files::default();
        for (at, method) in methods.iter().enumerate() {
            match method {
                config::Method::Jwt(jwt) => issuers.push(jwt::Issuer::build(jwt, &known)?),
                config::Method::ApiKeys(keys) => files.api_keys(keys),
                config::Method::AwsCredentials(credentials) => files.aws_credentials(credentials),
                config::Method::Anonymous(_) if at + 1 < methods.len() => return Err(IdentityError::AfterAnonymous),
                config::Method::ClientCertificate(_) | config::Method::External(_) | config::Method::Anonymous(_) => {}
            }
        }
        let issued = files.read(before.map_or(&[], |before| &before.issued))?;
        let named = |file: &std::path::Path| issued.iter().find(|keys| keys.file() == file).map(Arc::clone);
        let mut jwt = if issuers.is_empty() { None } else { Some(Method::Jwt(Box::new(jwt::Jwt::of(issuers)?))) };
        // All issuers together stand where the first of them does.
        let ready = methods.iter().filter_map(|method| match method {
            config::Method::Jwt(_) => jwt.take().map(Ok),
            config::Method::ApiKeys(keys) => named(&keys.file).map(Method::ApiKeys).map(Ok),
            config::Method::AwsCredentials(credentials) => named(&credentials.file).map(Method::AwsCredentials).map(Ok),
            config::Method::ClientCertificate(fields) => Some(Ok(Method::Certificate(Box::new(fields.clone())))),
            config::Method::External(rules) => Some(external::External::build(rules).map(|external| Method::External(Arc::new(external)))),
            config::Method::Anonymous(everyone) => Some(Ok(Method::Anonymous(Arc::new(principal(everyone))))),
        });
        let methods = ready.collect::<Result<Vec<_>, IdentityError>>()?;
        if methods.is_empty() { Err(IdentityError::NoMethod) } else { Ok(Self { methods, issued, bundles }) }
    }

    /// Whether the files that are read once, and by nobody again, are as they were: bundles of authorities. `methods` are those that it was built of.
    #[must_use]
    pub fn is_current(&self, methods: &[config::Method]) -> bool {
        self.bundles == bundles(methods)
    }

    /// The files of issued keys, for a background task to look at.
    pub fn issued(&self) -> impl Iterator<Item = &Arc<IssuedKeys>> {
        self.issued.iter()
    }

    /// The keys of every issuer of tokens, each of which is to be kept fresh by a task: [`Keyring::keep_fresh`].
    pub fn keyrings(&self) -> impl Iterator<Item = &Arc<Keyring>> {
        self.methods.iter().flat_map(|method| match method {
            Method::Jwt(jwt) => Some(jwt.keyrings()).into_iter().flatten(),
            Method::Certificate(_) | Method::ApiKeys(_) | Method::AwsCredentials(_) | Method::External(_) | Method::Anonymous(_) => {
                None.into_iter().flatten()
            }
        })
    }

    /// Who sends the request that `presented` shows, at the time `now`.
    ///
    /// A token that was verified before costs a hash and a lookup.
    ///
    /// # Errors
    /// [`Reason::Unauthenticated`] where a credential is wrong, or where there is none and every method asks for one. The message names
    /// what kind of thing is wrong, never what was sent. [`Reason::KeysUnavailable`] where a token can't be judged yet;
    /// [`Reason::UnknownAccessKey`] and [`Reason::InvalidSignature`] where the head alone shows that a signature can't be right.
    pub fn identify(&self, presented: &Presented<'_>, now: SystemTime) -> Result<Finding, Rejection> {
        let (takes_jwt, takes_keys) = (self.has(|method| matches!(method, Method::Jwt(_))), self.has(|m| matches!(m, Method::ApiKeys(_))));
        let headers = presented.headers;
        for method in &self.methods {
            match method {
                Method::Jwt(jwt) => {
                    // Where there are API keys too, what begins as one is judged as one.
                    if let Some(token) = presented::token(headers)?.filter(|token| !(takes_keys && issued::is_api_key(token))) {
                        return Ok(Finding::Known(jwt.verify(token, now)?));
                    }
                }
                Method::Certificate(fields) => {
                    if let Some(shown) = presented.certificate {
                        return Ok(Finding::Known(Arc::new(certificate::principal(fields, shown)?)));
                    }
                }
                Method::External(external) => {
                    if let Some(question) = external.question(presented)? {
                        return Ok(Finding::Ask(question));
                    }
                }
                Method::ApiKeys(keys) => {
                    let key = match presented::token(headers)? {
                        Some(token) => Some(token).filter(|token| !takes_jwt || issued::is_api_key(token)),
                        None => presented::api_key(headers)?,
                    };
                    if let Some(key) = key {
                        return Ok(Finding::Known(keys.api_key(key, now)?));
                    }
                }
                Method::AwsCredentials(keys) => {
                    let superseded = (takes_jwt || takes_keys) && presented::has_own_header(headers);
                    if !superseded && let Some(signature) = sigv4::Sent::of(presented)? {
                        return Ok(Finding::Signed(Box::new(Claim::judge(&signature, presented, keys.index(), now)?)));
                    }
                }
                Method::Anonymous(everyone) => return Ok(Finding::Known(Arc::clone(everyone))),
            }
        }
        let asks = |is: fn(&Method) -> bool, how: &'static str| Some(how).filter(|_| self.has(is));
        let ways = [
            asks(Method::reads_a_token, "send a token as `Authorization: Bearer` or in `x-tollgate-token`"),
            asks(|method| matches!(method, Method::AwsCredentials(_)), "sign the request (SigV4) with a credential of this gateway"),
            asks(|method| matches!(method, Method::Certificate(_)), "connect with a client certificate"),
        ];
        let message = format!("no credential: {}", ways.into_iter().flatten().collect::<Vec<_>>().join(", or "));
        Err(Rejection::new(Reason::Unauthenticated, message))
    }

    fn has(&self, is: impl Fn(&Method) -> bool) -> bool {
        self.methods.iter().any(is)
    }
}

impl Method {
    /// Whether a token would have been looked at.
    const fn reads_a_token(&self) -> bool {
        matches!(self, Self::Jwt(_) | Self::ApiKeys(_) | Self::External(_))
    }
}

/// What is known of the bundles of authorities that the methods name, in their order.
fn bundles(methods: &[config::Method]) -> Vec<Option<FileStamp>> {
    let named = methods.iter().filter_map(|method| match method {
        config::Method::Jwt(jwt) => jwt.keys.ca(),
        config::Method::External(external) => external.ca.as_ref(),
        config::Method::ApiKeys(_)
        | config::Method::AwsCredentials(_)
        | config::Method::ClientCertificate(_)
        | config::Method::Anonymous(_) => None,
    });
    named.map(|file| std::fs::metadata(file).ok().as_ref().map(FileStamp::of)).collect()
}

fn principal(everyone: &config::Anonymous) -> Principal {
    Principal {
        tenant: everyone.tenant.as_str().into(),
        user: None,
        groups: Arc::default(),
        method: domain::Method::Anonymous,
        key_id: None,
    }
}
