//! What a re-signing gateway must never let through: a request that carries any of it is refused, so that every test sees the leak.

use http::request::Parts;

use super::canonical;
use super::reply::Failure;

/// Headers that end at a gateway, by whole name: credentials of the gateway's own callers, its own switches, and hop-by-hop headers
/// (RFC 9110, 7.6.1; a WebSocket's `upgrade` aside).
const NAMES: [&str; 12] = [
    "cookie",
    "aws-endpoint-prefix",
    "forwarded",
    "proxy-authorization",
    "x-api-key",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "http2-settings",
    "expect",
    "x-amz-region-set",
];
const PREFIXES: [&str; 2] = ["x-tollgate-", "x-forwarded-"];
const PRESIGNING: [&str; 7] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
];

/// Refuses, with 400, the first leak that it finds.
pub(super) fn check(head: &Parts) -> Result<(), Failure> {
    let leak = |what: &str| Err(Failure::validation(format!("strict: {what} must not reach Bedrock.")));
    let websocket = head.headers.get("upgrade").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    for name in head.headers.keys() {
        let name = name.as_str();
        if NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || (name == "upgrade" && !websocket) {
            return leak(&format!("the header `{name}`"));
        }
    }
    if head.uri.path().split('/').any(|segment| matches!(segment, "." | "..")) {
        return leak("a dot segment in the path");
    }
    let query = head.uri.query().unwrap_or_default();
    if head.headers.contains_key("authorization") && canonical::pairs(query).iter().any(|(name, _)| PRESIGNING.contains(&name.as_str())) {
        return leak("a presigning parameter");
    }
    if !canonical::query_is_strict(query) {
        return leak("a query that is not strictly encoded (RFC 3986)");
    }
    Ok(())
}
