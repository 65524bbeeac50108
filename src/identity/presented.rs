//! Where a credential stands in a request.
//!
//! For a token, `x-tollgate-token` comes first, for clients whose SDK signs the request and so takes `Authorization` for itself; then
//! `Authorization: Bearer` (RFC 6750, section 2.1). Any other scheme is no token, and counts as absent. An API key may stand in `x-api-key` too,
//! which is looked at last: a client that says the same thing twice (Claude Code's `apiKeyHelper`) says it in `Authorization` first.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use super::fault::Fault;

static TOKEN: HeaderName = HeaderName::from_static("x-tollgate-token");
static API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The token that the caller presents, unjudged and perhaps empty (a client whose token is missing means to have one); `None` where there is none.
///
/// # Errors
/// Where the header that should hold it is repeated or not ASCII.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    if let Some(value) = single(headers, &TOKEN, "x-tollgate-token")? {
        return Ok(Some(bearer(value).unwrap_or_else(|| value.trim())));
    }
    Ok(single(headers, &AUTHORIZATION, "authorization")?.and_then(bearer))
}

/// Whether a token stands where nothing but one can: it is meant to be judged, whatever else the request carries.
pub(super) fn has_own_header(headers: &HeaderMap) -> bool {
    headers.contains_key(&TOKEN)
}

/// The value of `x-api-key`, unjudged and perhaps empty; `None` where there is none.
///
/// # Errors
/// Where the header is repeated or not ASCII.
pub(super) fn api_key(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    single(headers, &API_KEY, "x-api-key").map(|value| value.map(str::trim))
}

/// The value of `Authorization`, where its scheme is one of AWS's (`AWS4-HMAC-SHA256`, `AWS4-ECDSA-P256-SHA256`); `None` under another scheme.
///
/// # Errors
/// Where the header is repeated or not ASCII.
pub(super) fn aws_authorization(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    Ok(single(headers, &AUTHORIZATION, "authorization")?.filter(|value| value.starts_with("AWS4-")))
}

/// The value of a header that may stand once only: of two, a proxy before us may have judged the other.
pub(super) fn single<'h>(headers: &'h HeaderMap, header: &HeaderName, label: &'static str) -> Result<Option<&'h str>, Fault> {
    let mut values = headers.get_all(header).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Fault::Repeated { header: label });
    }
    value.to_str().map(Some).map_err(|_| Fault::NotAscii { header: label })
}

/// What follows the scheme `Bearer`, in any case; `None` under another scheme.
fn bearer(value: &str) -> Option<&str> {
    let value = value.trim();
    let (scheme, token) = value.split_once([' ', '\t']).unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
