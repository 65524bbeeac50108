//! Makes the event that ends a stream: one that the clients of that kind of stream raise as an error.
//!
//! * Event streams: an exception that is modelled in every stream of Bedrock's (`ConverseStreamOutput`, `ResponseStream`, those of agents and flows):
//!   boto3 raises `EventStreamError` with its name, the SDKs for JavaScript and Rust their `ThrottlingException`.
//! * Server-sent events: an `error` event, for which Anthropic's SDKs raise `APIStatusError` and OpenAI's `APIError`.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::json;

/// Why the gateway ends a stream before its upstream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A limit leaves it no more.
    Spent,
    /// An operator stopped whoever it is for.
    Stopped,
    /// The gateway shuts down, and has waited for as long as it is to.
    Draining,
    /// The upstream fell silent, or takes too long.
    TimedOut,
}

impl Ending {
    /// The exception, one that every stream of Bedrock's models (botocore 1.44.5); the type of a server-sent error (Anthropic's); its code.
    const fn names(self) -> [&'static str; 3] {
        match self {
            Self::Spent => ["throttlingException", "rate_limit_error", "budget_spent"],
            // There is no "access denied" among them. This one no client takes for a passing fault.
            Self::Stopped => ["validationException", "permission_error", "stopped"],
            // Those that say it more exactly are modelled in bedrock-runtime's streams only, and a timeout not even in Converse's: to boto3 an error
            // without a name and a message.
            Self::Draining => ["internalServerException", "overloaded_error", "draining"],
            Self::TimedOut => ["internalServerException", "timeout_error", "upstream_timeout"],
        }
    }
}

/// The type byte of a string header (<https://smithy.io/2.0/aws/amazon-eventstream.html>).
const STRING: u8 = 7;

/// Lengths of prelude and checksum, in bytes.
const OVERHEAD: usize = 16;

/// Longer messages are cut, so that every length fits into its field.
const MESSAGE_MAX: usize = 1024;

/// A frame with the exception for `ending`.
pub(super) fn frame(ending: Ending, message: &str) -> Bytes {
    let [exception, ..] = ending.names();
    let payload = json!({ "message": within(message) }).to_string();
    let headers = [(":exception-type", exception), (":content-type", "application/json"), (":message-type", "exception")];
    let mut block = BytesMut::with_capacity(120);
    for (name, value) in headers {
        put(&mut block, name, |length| u8::try_from(length).unwrap_or(u8::MAX).to_be_bytes());
        block.put_u8(STRING);
        put(&mut block, value, |length| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    }
    let total = block.len() + payload.len() + OVERHEAD;
    let mut frame = BytesMut::with_capacity(total);
    for length in [total, block.len()] {
        frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    }
    frame.put_u32(crc32fast::hash(&frame));
    frame.extend_from_slice(&block);
    frame.extend_from_slice(payload.as_bytes());
    frame.put_u32(crc32fast::hash(&frame));
    frame.freeze()
}

/// A server-sent `error`.
pub(super) fn event(ending: Ending, message: &str) -> Bytes {
    let [_, kind, code] = ending.names();
    let error = json!({ "type": kind, "message": within(message), "code": code });
    let data = json!({ "type": "error", "error": error });
    format!("event: error\ndata: {data}\n\n").into()
}

/// A text with its length before it.
fn put<const N: usize>(block: &mut BytesMut, text: &str, length: impl Fn(usize) -> [u8; N]) {
    block.extend_from_slice(&length(text.len()));
    block.extend_from_slice(text.as_bytes());
}

fn within(message: &str) -> &str {
    message.get(..message.floor_char_boundary(MESSAGE_MAX)).unwrap_or_default()
}
