//! `identity` answers: who is calling?
//!
//! * A credential that is present and wrong refuses the request; only an absent one lets the next method try. A credential for which no
//!   method is configured (an SDK's dummy signature, a token in front of an `anonymous` gateway) counts as absent.
//! * A token is believed only after its signature verified, under a key of the issuer that it names, with an algorithm that both the
//!   configuration and the key allow. No HMAC algorithm can be named at all, so a public key can't be mistaken for a shared secret.
//! * Nothing here grows with what strangers send: only verified tokens are remembered, and of those a bounded number.
//! * No message and no error holds a token.

mod cache;
mod certificate;
mod claims;
mod error;
mod fault;
mod jwk;
mod jwt;
mod keys;
mod presented;
mod tenants;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;

use crate::config::identity as config;
use crate::domain::{self, ClientCertificate, Principal, Reason, Rejection};

pub use error::{IdentityError, KeySetError};

/// All configured ways to prove who is calling. Built once for a configuration; what it remembers of verified tokens dies with it, so
/// that a token accepted under old rules is judged anew under new ones.
#[derive(Debug)]
pub struct Identity {
    /// At least one; asked in order; `Anonymous`, which asks for nothing, only ever last.
    methods: Vec<Method>,
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
}

/// One way to prove who is calling, ready for use.
#[derive(Debug)]
enum Method {
    /// Signed tokens, of all issuers together: a token names its own.
    Jwt(Box<jwt::Jwt>),
    /// Names from the client's certificate.
    Certificate(Box<config::ClientCertificate>),
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
        let mut issuers = Vec::new();
        let mut anonymous = None;
        let mut certificate = None;
        let mut certificate_first = false;
        for method in methods {
            if anonymous.is_some() {
                return Err(IdentityError::AfterAnonymous);
            }
            match method {
                config::Method::Jwt(jwt) => issuers.push(jwt::Issuer::build(jwt)?),
                config::Method::ClientCertificate(names) => {
                    certificate_first = issuers.is_empty();
                    certificate = Some(Method::Certificate(Box::new(names.clone())));
                }
                config::Method::Anonymous(everyone) => anonymous = Some(Method::Anonymous(Arc::new(principal(everyone)))),
            }
        }
        let jwt = if issuers.is_empty() { None } else { Some(Method::Jwt(Box::new(jwt::Jwt::of(issuers)?))) };
        let (first, second) = if certificate_first { (certificate, jwt) } else { (jwt, certificate) };
        let methods: Vec<_> = first.into_iter().chain(second).chain(anonymous).collect();
        if methods.is_empty() { Err(IdentityError::NoMethod) } else { Ok(Self { methods }) }
    }

    /// Who sends the request that `presented` shows, at the time `now`.
    ///
    /// A token that was verified before costs a hash and a lookup.
    ///
    /// # Errors
    /// [`Reason::Unauthenticated`] where a credential is wrong, or where there is none and every method asks for one. The message names
    /// what kind of thing is wrong, never what was sent.
    pub fn identify(&self, presented: &Presented<'_>, now: SystemTime) -> Result<Finding, Rejection> {
        for method in &self.methods {
            match method {
                Method::Jwt(jwt) => {
                    if let Some(token) = presented::token(presented.headers)? {
                        return Ok(Finding::Known(jwt.verify(token, now)?));
                    }
                }
                Method::Certificate(names) => {
                    if let Some(shown) = presented.certificate {
                        return Ok(Finding::Known(Arc::new(certificate::principal(names, shown)?)));
                    }
                }
                Method::Anonymous(everyone) => return Ok(Finding::Known(Arc::clone(everyone))),
            }
        }
        Err(Rejection::new(Reason::Unauthenticated, "no credential: send a token as `Authorization: Bearer` or in `x-tollgate-token`"))
    }
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
