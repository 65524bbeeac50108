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

/// What the caller says of who calls, what the gateway sets itself, what is spoken with the gateway only, and what belongs to one hop
/// (RFC 9110, 7.6.1).
const STRIPPED: [&str; 27] = [
    // Credentials of the caller's, and the parts of their signature.
    "authorization",
    "proxy-authorization",
    "cookie",
    "date",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
    "x-amz-region-set",
    "x-api-key",
    // Whom the caller says that they act for: AWS would take it on the word of the gateway's signature.
    "x-amz-source-arn",
    "x-amz-source-account",
    "x-amzn-bedrock-agentcore-runtime-user-id",
    // Spoken with the gateway, or set by it.
    "aws-endpoint-prefix",
    "forwarded",
    "x-real-ip",
    "host",
    "content-length",
    "accept-encoding",
    // Of one hop.
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
];

/// Families that are stripped whole: ours; what a balancer in front says of the client (an ALB's `x-amzn-oidc-*` hold tokens); what only an
/// upgrade has a use for (and a browser puts its token into `sec-websocket-protocol`).
const STRIPPED_FAMILIES: [&str; 5] = ["x-tollgate-", "x-forwarded-", "x-amzn-oidc-", "x-amzn-mtls-", "sec-websocket-"];

/// How the name of a header ends that says for which user `AgentCore` is to pay. The facts give no more of it.
const USER: &str = "payments-user-id";

/// Headers of an answer that don't reach the client: a host by which a client would pass the gateway by.
pub const KEPT_FROM_CLIENTS: [HeaderName; 1] = [HeaderName::from_static("x-amzn-bedrock-agentcore-runtime-session-endpoint-url")];

/// What becomes of the header `name`.
#[must_use]
pub fn fate(name: &HeaderName) -> Fate {
    let name = name.as_str();
    if STRIPPED.contains(&name) || STRIPPED_FAMILIES.iter().any(|family| name.starts_with(family)) || name.ends_with(USER) {
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
        for name in STRIPPED.iter().chain(&[
            "x-tollgate-token",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-amzn-oidc-data",
            "x-amzn-mtls-clientcert-subject",
            "sec-websocket-protocol",
            "x-amzn-bedrock-agentcore-payments-user-id",
            "payments-user-id",
        ]) {
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
            "x-amzn-bedrock-agentcore-runtime-custom-user-id",
            "x-amzn-bedrock-accept",
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
