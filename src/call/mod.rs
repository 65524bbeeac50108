//! What does the caller ask?
//!
//! From a request's head: which AWS service, under which path and query it goes upstream, and which model it names. The path's bytes are never
//! decoded and encoded again: two encodings of a model id are on the wire (`%3A` and a raw `:`), and AWS signs what it receives. No operation is
//! known by name, so that one which AWS adds tomorrow passes today.

mod model;
mod query;
mod service;

use std::fmt;

use http::HeaderMap;

use crate::domain::{Call, Reason, Rejection, SERVICES};

/// Why a request's head does not tell what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing in the request names a service.
    #[error("{}", UnknownService)]
    UnknownService,
    /// `aws-endpoint-prefix` names something else.
    #[error("the header `aws-endpoint-prefix` names no service behind this gateway; {}", Services)]
    UnknownPrefix,
    /// A `%` in the query is not followed by two hexadecimal digits.
    #[error("the query holds a `%` that is not followed by two hexadecimal digits")]
    BadQuery,
}

impl From<CallError> for Rejection {
    fn from(error: CallError) -> Self {
        let reason = match error {
            CallError::UnknownService | CallError::UnknownPrefix => Reason::UnknownService,
            CallError::BadQuery => Reason::Malformed,
        };
        Self::new(reason, error.to_string())
    }
}

/// Reads a request's head.
///
/// `path` is the raw request path, `query` the raw query without its `?`, `host` the `Host` header or `:authority`.
///
/// # Errors
/// [`CallError`], where no service can be told, or the query is not well formed.
pub fn read(headers: &HeaderMap, host: Option<&str>, path: &str, query: &str) -> Result<Call, CallError> {
    let (service, path) = service::choose(headers, host, path)?;
    Ok(Call { service, path: path.into(), query: query::strict(query)?.into(), model: model::from_path(path).map(Into::into) })
}

/// The model that a body names at its top level (`"model"`, in the shapes of OpenAI and Anthropic), where the path named none.
///
/// Reads the body as JSON without building it; a body of any other kind names none. Bounded by the body's length.
#[must_use]
pub fn model_in_body(call: &Call, body: &[u8]) -> Option<Box<str>> {
    if call.model.is_some() || body.first() != Some(&b'{') {
        return None;
    }
    model::from_body(body).map(Into::into)
}

struct Services;

impl fmt::Display for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there are ")?;
        for (at, service) in SERVICES.iter().enumerate() {
            write!(f, "{}`{}`", if at == 0 { "" } else { ", " }, service.prefix)?;
        }
        Ok(())
    }
}

struct UnknownService;

impl fmt::Display for UnknownService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the request does not tell which AWS service it is for; {Services}. Put the name into the endpoint URL \
             (https://gateway/bedrock-agent-runtime) or into the header `aws-endpoint-prefix`"
        )
    }
}
