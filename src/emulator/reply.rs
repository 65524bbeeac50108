//! An answer in an API's shape, before faults have their say.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::answer::Usage;
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
    /// What it costs, and the model that is to be billed; `None` where no model was asked.
    pub(super) cost: Option<(Usage, String)>,
}

#[derive(Debug)]
pub(super) enum Content {
    Whole(Bytes),
    /// A stream's events, each as it goes over the wire.
    Events(Vec<Event<Bytes>>, Framing),
}

/// An event of a stream, and what the bill must know of it.
#[derive(Clone, Debug)]
pub(super) struct Event<T> {
    pub(super) data: T,
    pub(super) mark: Mark,
}

/// What the bill must know of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// How many of the answer's tokens were generated for it.
    pub(super) tokens: u64,
    /// Whether it's the answer's last word on its usage.
    pub(super) settles: bool,
}

impl<T> Event<T> {
    /// An event that nothing was generated for.
    pub(super) const fn frame(data: T) -> Self {
        Self { data, mark: Mark { tokens: 0, settles: false } }
    }

    /// An event that holds one token.
    pub(super) const fn token(data: T) -> Self {
        Self { data, mark: Mark { tokens: 1, settles: false } }
    }

    /// The event that carries the final usage.
    pub(super) const fn usage(data: T) -> Self {
        Self { data, mark: Mark { tokens: 0, settles: true } }
    }

    pub(super) fn map<U>(self, into: impl FnOnce(T) -> U) -> Event<U> {
        Event { data: into(self.data), mark: self.mark }
    }
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
            cost: None,
        }
    }

    pub(super) fn event_stream(events: Vec<Event<Bytes>>) -> Self {
        Self::stream(events, Framing::EventStream, EVENT_STREAM)
    }

    pub(super) fn sse(events: Vec<Event<Bytes>>) -> Self {
        Self::stream(events, Framing::Sse, "text/event-stream; charset=utf-8")
    }

    fn stream(mut events: Vec<Event<Bytes>>, framing: Framing, content_type: &'static str) -> Self {
        // Where no event carries the usage, the last one ends the answer.
        if !events.iter().any(|event| event.mark.settles)
            && let Some(last) = events.last_mut()
        {
            last.mark.settles = true;
        }
        Self { status: StatusCode::OK, content_type, headers: Vec::new(), content: Content::Events(events, framing), cost: None }
    }

    pub(super) fn costing(mut self, cost: Usage, model: &str) -> Self {
        self.cost = Some((cost, model.to_owned()));
        self
    }

    /// How many tokens its events hold, where it's a stream.
    pub(super) fn stream_tokens(&self) -> Option<u64> {
        match &self.content {
            Content::Whole(_) => None,
            Content::Events(events, _) => Some(events.iter().map(|event| event.mark.tokens).sum()),
        }
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
