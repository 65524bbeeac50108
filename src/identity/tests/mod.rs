//! The room as a whole, through its two public functions. Tokens are signed by aws-lc-rs directly and put together by hand, so that each
//! can be wrong in just one way.

mod headers;
mod issued;
mod issuer;
mod key_sets;
mod rotation;
mod rules;
mod tokens;
mod vectors;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{Finding, Identity, IdentityError, Presented};
use crate::config::identity::{Algorithm, Anonymous, ClaimPath, Jwt, KeySource, Method};
use crate::domain::{Principal, Reason, Rejection};

const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A key set in a file that goes when the test ends.
struct KeyFile(PathBuf);

impl KeyFile {
    fn holding(keys: &[Value]) -> Self {
        Self::of_bytes(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tollgate-identity-{}-{}.json", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, bytes).unwrap();
        Self(file)
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// `https://idp.example`, for `tollgate`, RS256, tenant in `tenant`.
fn rules(file: &KeyFile) -> Jwt {
    Jwt {
        issuer: "https://idp.example".into(),
        audiences: vec!["tollgate".into(), "other".into()],
        algorithms: vec![Algorithm::RS256],
        keys: KeySource::File(file.0.clone()),
        tenant: ClaimPath("tenant".into()),
        user: ClaimPath("sub".into()),
        groups: None,
        required_claims: Vec::new(),
    }
}

fn anonymous() -> Method {
    Method::Anonymous(Anonymous { tenant: "everyone".into() })
}

/// Claims that [`rules`] accept at [`NOW`].
fn claims() -> Value {
    json!({ "iss": "https://idp.example", "aud": "tollgate", "exp": NOW + 600, "tenant": "acme", "sub": "ann" })
}

/// [`claims`] with some replaced; `null` removes one.
fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    let Value::Object(changes) = changes else { panic!("an object of changes") };
    for (name, value) in changes {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(&name);
        } else {
            claims[name] = value;
        }
    }
    claims
}

fn identity_of(rules: Jwt) -> Identity {
    Identity::build(&[Method::Jwt(rules)]).unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())).fold(
        HeaderMap::new(),
        |mut map, (name, value): (http::HeaderName, _)| {
            map.append(name, value);
            map
        },
    )
}

fn ask(identity: &Identity, token: &str, now: SystemTime) -> Result<Arc<Principal>, Rejection> {
    who(identity, &headers(&[("authorization", &format!("Bearer {token}"))]), now)
}

/// Asserts a refusal for this kind of fault, in which no part of the token shows.
#[track_caller]
fn assert_refused(answer: Result<Arc<Principal>, Rejection>, message: &str, token: &str, case: &str) {
    let refusal = answer.expect_err(case);
    assert_eq!(refusal.reason, Reason::Unauthenticated, "{case}");
    assert_eq!(refusal.message, message, "{case}");
    let told = format!("{refusal:?} {refusal} {:?}", refusal.source);
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!told.contains(part), "{case}: the refusal shows the token");
    }
}

#[test]
fn an_empty_list_of_methods_is_refused() {
    assert!(matches!(Identity::build(&[]), Err(IdentityError::NoMethod)));
}

#[test]
fn a_method_behind_anonymous_is_refused() {
    let file = KeyFile::holding(&[issuer::rsa().jwk("k1")]);
    let answer = Identity::build(&[anonymous(), Method::Jwt(rules(&file))]);
    assert!(matches!(answer, Err(IdentityError::AfterAnonymous)));
}

#[test]
fn an_issuer_that_is_configured_twice_is_refused() {
    let file = KeyFile::holding(&[issuer::rsa().jwk("k1")]);
    let answer = Identity::build(&[Method::Jwt(rules(&file)), Method::Jwt(rules(&file))]);
    assert!(matches!(answer, Err(IdentityError::IssuerTwice { issuer }) if issuer == "https://idp.example"));
}

/// Who sends these headers, where they tell at once.
fn who(identity: &Identity, headers: &HeaderMap, now: SystemTime) -> Result<Arc<Principal>, Rejection> {
    match identity.identify(&Presented::by(headers), now)? {
        Finding::Known(principal) => Ok(principal),
        Finding::Ask(question) => panic!("{question:?}"),
        Finding::Signed(claim) => panic!("{claim:?}"),
    }
}
