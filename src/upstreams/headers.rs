//! Which of the caller's headers reach AWS.
//!
//! What the caller says about identity never does, and what the gateway says can't be forged by the caller. The list is section 3.3 of what was
//! found out about Bedrock on the wire: one table, one test a row.

use http::HeaderName;

/// What becomes of a header of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes no further.
    Strip,
    /// It goes upstream as it came.
    Keep,
    /// It goes upstream, and the signature covers it.
    Sign,
}

/// Identity and what the gateway sets itself; what is spoken with the gateway only; what belongs to one hop (RFC 9110, 7.6.1).
const STRIPPED: [&str; 25] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "date",
    "host",
    "content-length",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
    "x-amz-region-set",
    "x-amz-source-arn",
    "x-api-key",
    "aws-endpoint-prefix",
    "forwarded",
    "x-real-ip",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    "accept-encoding",
];

/// Families that are stripped whole.
const STRIPPED_FAMILIES: [&str; 2] = ["x-tollgate-", "x-forwarded-"];

/// What becomes of the header `name`.
#[must_use]
pub fn fate(name: &HeaderName) -> Fate {
    let name = name.as_str();
    if STRIPPED.contains(&name) || STRIPPED_FAMILIES.iter().any(|family| name.starts_with(family)) {
        Fate::Strip
    } else if name == "content-type" || name.starts_with("x-amz-") {
        // AWS asks that every x-amz-* be signed; signing little else keeps the signature safe from later mutation.
        Fate::Sign
    } else {
        Fate::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stripped_name_is_lower_case_and_stripped() {
        for name in STRIPPED.iter().chain(&["x-tollgate-token", "x-forwarded-for", "x-forwarded-host"]) {
            assert_eq!(fate(&name.parse().unwrap()), Fate::Strip, "{name}");
        }
    }

    #[test]
    fn what_bedrock_reads_is_kept() {
        for name in [
            "accept",
            "user-agent",
            "x-amzn-bedrock-guardrailidentifier",
            "x-amzn-bedrock-agentcore-runtime-session-id",
            "x-amzn-trace-id",
            "mcp-session-id",
            "anthropic-beta",
            "anthropic-version",
            "openai-project",
            "traceparent",
            "amz-sdk-invocation-id",
            "amz-sdk-request",
        ] {
            assert_eq!(fate(&name.parse().unwrap()), Fate::Keep, "{name}");
        }
        for name in ["content-type", "x-amz-target", "x-amz-user-agent", "x-amz-client-token"] {
            assert_eq!(fate(&name.parse().unwrap()), Fate::Sign, "{name}");
        }
    }
}
