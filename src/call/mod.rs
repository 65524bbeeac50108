//! What does the caller ask?
//!
//! From a request's head: which AWS service, under which path and query it goes upstream, and which model it names. The path's bytes are never
//! decoded and encoded again: two encodings of a model id are on the wire (`%3A` and a raw `:`), and AWS signs what it receives. No operation is
//! known by name, so that one which AWS adds tomorrow passes today.

mod copied;
mod model;
mod query;
mod rename;
mod service;
mod weight;

use std::fmt;

use http::HeaderMap;

pub use self::copied::may_be_copied;
pub use self::rename::{Renamed, rename};
use crate::domain::{Asked, Call, Reason, Rejection, SERVICES};

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
    /// A body that should tell the model begins as JSON and is none.
    #[error("the body is not JSON, so the model it is for can't be told")]
    BadBody,
    /// Of two, the gateway may judge the one and the upstream run the other.
    #[error("the body names its model more than once")]
    ModelTwice,
}

impl From<CallError> for Rejection {
    fn from(error: CallError) -> Self {
        let reason = match error {
            CallError::UnknownService | CallError::UnknownPrefix => Reason::UnknownService,
            CallError::BadQuery | CallError::BadBody | CallError::ModelTwice => Reason::Malformed,
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
    Ok(Call {
        service,
        path: path.into(),
        query: query::strict(query)?.into(),
        model: model::from_path(path).map(Into::into),
        asked: Asked::default(),
    })
}

/// The model that a body names at its top level, where the path named none: under `model` in the shapes of OpenAI and Anthropic, and under other keys in
/// some of AWS's own.
///
/// Reads the body as JSON without building it; a body that does not begin as an object names none. Bounded by the body's length.
///
/// # Errors
/// [`CallError::BadBody`] and [`CallError::ModelTwice`]: what readers may read in two ways is nobody's to guess.
pub fn model_in_body(call: &Call, body: &[u8]) -> Result<Option<Box<str>>, CallError> {
    let Some(key) = model::key_in_body(call).filter(|_| call.model.is_none() && model::begins_as_object(body)) else { return Ok(None) };
    Ok(model::from_body(body, key)?.map(Into::into))
}

/// How much a call asks for: what an estimate of its usage starts from. Nothing of a body that does not begin as an object of JSON.
///
/// Whether the answer is to be a stream, the path tells by its last word; where the path names no model, the body may ask for one too, as in the shapes
/// of OpenAI and Anthropic.
///
/// One pass over the body, which never fails, and allocates nothing but for keys that are written with escapes, and bounds that are no plain
/// numbers.
#[must_use]
pub fn weigh(call: &Call, body: &[u8]) -> Asked {
    let asked = if model::begins_as_object(body) { weight::weigh(body) } else { Asked::default() };
    let by_path = call.operation().as_bytes().windows(6).any(|word| word.eq_ignore_ascii_case(b"stream"));
    Asked { streamed: by_path || asked.streamed && model::from_path(&call.path).is_none(), ..asked }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Service;

    #[test]
    fn the_path_tells_of_a_stream_and_the_body_where_the_path_names_no_model() {
        let asks = br#"{"stream":true,"max_tokens":5}"#;
        for (path, body, streamed) in [
            ("/model/m/converse-stream", &b"{}"[..], true),
            ("/model/m/invoke-with-response-stream", b"no json", true),
            ("/retrieveAndGenerateStream", b"{}", true),
            ("/model/m/invoke", asks, false),
            ("/%6dodel/m/converse", asks, false),
            ("/model/stream/converse", b"{}", false),
            ("/openai/v1/chat/completions", asks, true),
            ("/openai/v1/chat/completions", b"{}", false),
        ] {
            let call =
                Call { service: Service::BEDROCK_RUNTIME, path: path.into(), query: "".into(), model: None, asked: Asked::default() };
            assert_eq!(weigh(&call, body).streamed, streamed, "{path}");
        }
    }
}
