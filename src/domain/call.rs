//! What is asked, and where it is to go.

use super::Service;

/// What the caller asks for: made by `call` from the request's head (and, where the path does not name the model, its body).
#[derive(Clone, Debug)]
pub struct Call {
    /// The AWS service that answers it.
    pub service: &'static Service,
    /// The path that goes upstream: the client's raw bytes, less what chose the service. Starts with `/`.
    pub path: Box<str>,
    /// The query that goes upstream, re-encoded strictly (RFC 3986) and without presigning parameters; no `?`. Empty where there is none.
    pub query: Box<str>,
    /// The model id, decoded once, where the request names one.
    pub model: Option<Box<str>>,
}

/// One place to send a call: which upstream, under which of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The key of the upstream in `upstreams`.
    pub upstream: std::sync::Arc<str>,
}
