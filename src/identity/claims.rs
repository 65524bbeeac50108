//! What a token says (RFC 7519, section 4): the registered claims that decide whether it counts, and the names that it gives.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::fault::{Fault, excerpt};
use crate::config::identity::{ClaimPath, Scalar};
use crate::domain::MIRROR_TENANT;

/// How far clocks may be apart, in seconds: a token counts so much longer than its `exp` and so much earlier than its `nbf`.
const LEEWAY: u64 = 60;
/// The longest name of a tenant or user, in bytes.
const MAX_NAME: usize = 256;

/// The registered claims that are judged. One that stands twice is an error, so no other reader can have seen another value.
#[derive(Deserialize)]
pub(super) struct Registered {
    /// Who made the token. Believed only once the signature verified.
    pub(super) iss: Option<String>,
    aud: Option<Audience>,
    client_id: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Registered {
    /// Until when the token counts, leeway included, in Unix seconds: it counts while `now` is less.
    ///
    /// # Errors
    /// Where it has no `exp`, or does not count at `now`.
    pub(super) fn valid_until(&self, now: u64) -> Result<u64, Fault> {
        let exp = whole_seconds(self.exp.ok_or(Fault::NoExpiry)?.floor());
        let until = exp.saturating_add(LEEWAY);
        if now >= until {
            return Err(Fault::Expired { at: exp });
        }
        match self.nbf.map(|nbf| whole_seconds(nbf.ceil())) {
            Some(nbf) if now.saturating_add(LEEWAY) < nbf => Err(Fault::NotYetValid { at: nbf }),
            _ => Ok(until),
        }
    }

    /// Whether the token is meant for one of `audiences`. Cognito's access tokens have no `aud`; their `client_id` stands for it.
    pub(super) fn is_for(&self, audiences: &[String]) -> Result<(), Fault> {
        let meant = match (&self.aud, &self.client_id) {
            (Some(Audience::One(aud)), _) | (None, Some(aud)) => audiences.contains(aud),
            (Some(Audience::Many(auds)), _) => auds.iter().any(|aud| audiences.contains(aud)),
            (None, None) => false,
        };
        if meant { Ok(()) } else { Err(Fault::Audience) }
    }
}

/// A `NumericDate` (RFC 7519, section 2), which may be a fraction, negative or beyond all bounds, as whole seconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and both ends mean what they say: always, never"
)]
fn whole_seconds(date: f64) -> u64 {
    date as u64
}

/// The name that `claims` give under `path`; `None` where they give none.
///
/// # Errors
/// Where something else than a name stands there: numbers are no names, since `7`, `7.0` and `"7"` would be one tenant to some and three to others.
pub(super) fn name<'c>(claims: &'c Map<String, Value>, path: &ClaimPath) -> Result<Option<&'c str>, Fault> {
    match find(claims, &path.0) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if is_name(name) => Ok(Some(name)),
        Some(_) => Err(Fault::Claim(excerpt(&path.0))),
    }
}

/// The names that `claims` give under `path`: one text, or a list of them; none where they give none.
///
/// # Errors
/// Where something else stands there, or in the list.
pub(super) fn names<'c>(claims: &'c Map<String, Value>, path: &ClaimPath) -> Result<Vec<&'c str>, Fault> {
    let list = match find(claims, &path.0) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let name = |value: &'c Value| value.as_str().filter(|name| is_name(name)).ok_or_else(|| Fault::Claim(excerpt(&path.0)));
    list.iter().map(name).collect()
}

/// Whether the claim under `path` is `wanted`, or a list that holds it.
pub(super) fn holds(claims: &Map<String, Value>, path: &ClaimPath, wanted: &Scalar) -> Result<(), Fault> {
    let is = |value: &Value| match wanted {
        Scalar::Text(text) => value.as_str() == Some(text),
        Scalar::Whole(number) => value.as_u64() == Some(*number),
        Scalar::Bool(switch) => value.as_bool() == Some(*switch),
    };
    match find(claims, &path.0) {
        Some(Value::Array(list)) if list.iter().any(is) => Ok(()),
        Some(value) if is(value) => Ok(()),
        _ => Err(Fault::Required(excerpt(&path.0))),
    }
}

/// Whether these are the claims of a security event (RFC 8417, section 2.2), such as a logout token, which speaks of a user and for nobody.
pub(super) fn are_an_event(claims: &Map<String, Value>) -> bool {
    matches!(claims.get("events"), Some(Value::Object(_)))
}

/// Whether a text can name a tenant or user.
pub(super) fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control) && name != MIRROR_TENANT
}

/// The claim called `path` to the letter; else what the dotted path leads to.
fn find<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    if let Some(exact) = claims.get(path) {
        return Some(exact);
    }
    let mut steps = path.split('.');
    let first = claims.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.as_object()?.get(step))
}
