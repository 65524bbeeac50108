//! An answer in an API's shape, before faults have their say.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::eventstream;

/// The content type of AWS's event streams.
pub(super) const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// What an operation answers.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Whole(Bytes),
    /// A stream's events, each as it goes over the wire.
    Events(Vec<Bytes>, Framing),
}

/// How a stream's events are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    EventStream,
    /// Server-sent events.
    Sse,
}

impl Reply {
    pub(super) fn json(value: &Value) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "application/json",
            headers: Vec::new(),
            content: Content::Whole(Bytes::from(value.to_string())),
        }
    }

    pub(super) fn event_stream(events: Vec<Bytes>) -> Self {
        let content = Content::Events(events, Framing::EventStream);
        Self { status: StatusCode::OK, content_type: EVENT_STREAM, headers: Vec::new(), content }
    }

    pub(super) fn sse(events: Vec<Bytes>) -> Self {
        let content = Content::Events(events, Framing::Sse);
        Self { status: StatusCode::OK, content_type: "text/event-stream; charset=utf-8", headers: Vec::new(), content }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((HeaderName::from_static(name), value.into()));
        self
    }
}

impl Framing {
    /// An exception in the stream's own shape.
    pub(super) fn exception(self, name: &str) -> Bytes {
        let message = format!("the emulator was asked for {name}");
        match self {
            Self::EventStream => eventstream::exception(name, json!({"message": message}).to_string().as_bytes()),
            Self::Sse => sse(Some("error"), &json!({"type": "error", "error": {"type": name, "message": message}})),
        }
    }

    /// An error that no shape names.
    pub(super) fn error(self) -> Bytes {
        match self {
            Self::EventStream => eventstream::error("InternalFailure", "the emulator was asked for an error frame"),
            Self::Sse => self.exception("internal_failure"),
        }
    }
}

/// One server-sent event (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
pub(super) fn sse(event: Option<&str>, data: &Value) -> Bytes {
    let event = event.map(|event| format!("event: {event}\n")).unwrap_or_default();
    Bytes::from(format!("{event}data: {data}\n\n"))
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) message: Cow<'static, str>,
}

impl Failure {
    pub(super) fn validation(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: 400, kind: "ValidationException", message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: 404, kind: "ResourceNotFoundException", message: message.into() }
    }

    /// The refusal that a status fault asks for, with the exception that Bedrock answers so.
    pub(super) fn asked_for(status: u16) -> Self {
        let kind = match status {
            403 => "AccessDeniedException",
            404 => "ResourceNotFoundException",
            408 => "ModelTimeoutException",
            409 => "ConflictException",
            424 => "ModelErrorException",
            429 => "ThrottlingException",
            503 => "ServiceUnavailableException",
            400..500 => "ValidationException",
            _ => "InternalServerException",
        };
        let message = if status == 429 {
            "Too many requests, please wait before trying again.".into()
        } else {
            "The emulator was asked for this.".into()
        };
        Self { status, kind, message }
    }

    /// In AWS's shape (restJson1 and JSON 1.1), with an `error` object beside it for the clients of OpenAI's and Anthropic's APIs.
    pub(super) fn reply(&self) -> Reply {
        let error = json!({"message": self.message, "type": self.kind, "code": self.kind});
        let body = json!({"message": self.message, "__type": self.kind, "type": "error", "error": error});
        let mut reply = Reply::json(&body).header("x-amzn-errortype", HeaderValue::from_static(self.kind));
        reply.status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        reply
    }
}
