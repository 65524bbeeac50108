//! Why a call was refused, in one closed set.
//!
//! Every refusal of every room is a [`Rejection`]; the corridor's one exit (`proxy/refuse.rs`) turns it into an answer shaped as AWS shapes it.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why. One exhaustive `match` each gives status, AWS error type and label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No credential, or a wrong one.
    Unauthenticated,
    /// Known, and not allowed what they ask.
    Forbidden,
    /// An operator stopped the tenant, key, model or route for now.
    Stopped,
    /// A signature by an access key that was not issued here, or counts no more.
    UnknownAccessKey,
    /// A signature that is not of this request, by this key, at this time.
    InvalidSignature,
    /// The keys of the token's issuer have not been had yet.
    KeysUnavailable,
    /// No service can be told from the request.
    UnknownService,
    /// The request is not well formed.
    Malformed,
    /// The body's length must be told beforehand.
    LengthRequired,
    /// The body is larger than `firewall.max_body`.
    BodyTooLarge,
    /// The body did not arrive in time.
    RequestTimeout,
    /// A limit is reached; it clears soon.
    RateLimited,
    /// A quota or budget is used up until its period ends.
    BudgetSpent,
    /// The call asks for more than a limit ever gives at once.
    AsksTooMuch,
    /// The model has no price, and a budget is to be kept.
    Unpriced,
    /// Too many requests from one address.
    Flood,
    /// All memory for bodies is taken.
    BodyMemory,
    /// As many requests are under way as may be.
    Overloaded,
    /// The external authorizer did not tell who is calling.
    AuthorizerUnavailable,
    /// There are no AWS credentials to sign with.
    NoCredentials,
    /// No connection to the upstream could be made.
    UpstreamUnreachable,
    /// The upstream's answer broke off or made no sense.
    UpstreamBroken,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The gateway shuts down, and has waited for as long as it is to.
    Draining,
    /// A fault of our own.
    Internal,
}

impl Reason {
    /// Every reason, for tests and for metrics that start at zero.
    pub const ALL: [Self; 25] = [
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Stopped,
        Self::UnknownAccessKey,
        Self::InvalidSignature,
        Self::KeysUnavailable,
        Self::UnknownService,
        Self::Malformed,
        Self::LengthRequired,
        Self::BodyTooLarge,
        Self::RequestTimeout,
        Self::RateLimited,
        Self::BudgetSpent,
        Self::AsksTooMuch,
        Self::Unpriced,
        Self::Flood,
        Self::BodyMemory,
        Self::Overloaded,
        Self::AuthorizerUnavailable,
        Self::NoCredentials,
        Self::UpstreamUnreachable,
        Self::UpstreamBroken,
        Self::UpstreamTimeout,
        Self::Draining,
        Self::Internal,
    ];

    /// The HTTP status. Stock SDKs decide by it whether to retry (429, 500, 502, 503 and 504 are retried).
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            // Whatever an SDK retries by itself would be asked again for nothing: a spent budget is no 429.
            Self::Malformed | Self::BudgetSpent | Self::AsksTooMuch => 400,
            Self::Unauthenticated => 401,
            // A stop will be lifted, but nobody knows when: what an SDK retries by itself would only add to what is stopped.
            Self::Forbidden | Self::Stopped | Self::Unpriced | Self::UnknownAccessKey | Self::InvalidSignature => 403,
            Self::UnknownService => 404,
            Self::RequestTimeout => 408,
            Self::LengthRequired => 411,
            Self::BodyTooLarge => 413,
            Self::RateLimited | Self::Flood => 429,
            Self::Internal => 500,
            Self::UpstreamUnreachable | Self::UpstreamBroken => 502,
            Self::KeysUnavailable
            | Self::AuthorizerUnavailable
            | Self::BodyMemory
            | Self::Overloaded
            | Self::NoCredentials
            | Self::Draining => 503,
            Self::UpstreamTimeout => 504,
        }
    }

    /// The exception that an AWS SDK raises: `x-amzn-ErrorType` and `__type`.
    #[must_use]
    pub const fn aws_type(self) -> &'static str {
        match self {
            Self::Forbidden | Self::Stopped | Self::Unpriced => "AccessDeniedException",
            Self::Unauthenticated | Self::UnknownAccessKey => "UnrecognizedClientException",
            Self::InvalidSignature => "InvalidSignatureException",
            Self::UnknownService => "ResourceNotFoundException",
            Self::Malformed | Self::LengthRequired | Self::BodyTooLarge | Self::AsksTooMuch => "ValidationException",
            Self::BudgetSpent => "ServiceQuotaExceededException",
            Self::RequestTimeout => "RequestTimeoutException",
            Self::RateLimited | Self::Flood => "ThrottlingException",
            Self::Internal => "InternalServerException",
            Self::KeysUnavailable
            | Self::AuthorizerUnavailable
            | Self::BodyMemory
            | Self::Overloaded
            | Self::NoCredentials
            | Self::UpstreamUnreachable
            | Self::UpstreamBroken
            | Self::UpstreamTimeout
            | Self::Draining => "ServiceUnavailableException",
        }
    }

    /// The label in `tollgate_refusals_total{reason}` and the field in the access log.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Stopped => "stopped",
            Self::UnknownAccessKey => "unknown_access_key",
            Self::InvalidSignature => "invalid_signature",
            Self::KeysUnavailable => "keys_unavailable",
            Self::UnknownService => "unknown_service",
            Self::Malformed => "malformed",
            Self::LengthRequired => "length_required",
            Self::BodyTooLarge => "body_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::RateLimited => "rate_limited",
            Self::BudgetSpent => "budget_spent",
            Self::AsksTooMuch => "asks_too_much",
            Self::Unpriced => "unpriced",
            Self::Flood => "flood",
            Self::BodyMemory => "body_memory",
            Self::Overloaded => "overloaded",
            Self::AuthorizerUnavailable => "authorizer_unavailable",
            Self::NoCredentials => "no_credentials",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamBroken => "upstream_broken",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Draining => "draining",
            Self::Internal => "internal",
        }
    }
}

/// A refusal: what the caller is told, and what only we know.
#[derive(Debug)]
pub struct Rejection {
    /// Why, in the closed set.
    pub reason: Reason,
    /// What the caller is told. It never holds a secret, a prompt or an inner error.
    pub message: Cow<'static, str>,
    /// When this very request would pass, where that is known.
    pub retry_after: Option<Duration>,
    /// What we know beyond it: for our log at `debug`, never for the caller.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Rejection {
    /// A refusal for `reason` that tells the caller `message`.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), retry_after: None, source: None }
    }

    /// Says when the same request would pass.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Keeps the inner error for our own log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.label(), self.message)
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique() {
        let mut labels: Vec<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::ALL.len());
    }
}
