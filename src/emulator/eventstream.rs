//! Encodes `application/vnd.amazon.eventstream` frames, which Bedrock's streams are made of.
//!
//! A frame is `u32 total | u32 headers | u32 CRC-32 of those 8 bytes | headers | payload | u32 CRC-32 of all before`, big-endian, 16 bytes of
//! overhead; a string header is `u8 length, name, 7, u16 length, value`
//! (<https://smithy.io/2.0/aws/amazon-eventstream.html>). Written here, and not taken from Tollgate's own reader, so that neither proves the other.

use bytes::{BufMut, Bytes, BytesMut};

/// The type byte of a string header.
const STRING: u8 = 7;

/// An event: `:message-type` `event`, `:event-type` `name`, a JSON payload.
#[must_use]
pub fn event(name: &str, payload: &[u8]) -> Bytes {
    frame(&[(":event-type", name), (":content-type", "application/json"), (":message-type", "event")], payload)
}

/// A modelled exception: `name` is the member of the stream's shape, in lower camel case, such as `throttlingException`.
#[must_use]
pub fn exception(name: &str, payload: &[u8]) -> Bytes {
    frame(&[(":exception-type", name), (":content-type", "application/json"), (":message-type", "exception")], payload)
}

/// An unmodelled error: a code and a message in headers, and no payload.
#[must_use]
pub fn error(code: &str, message: &str) -> Bytes {
    frame(&[(":error-code", code), (":error-message", message), (":message-type", "error")], b"")
}

/// One frame of string headers and a payload. Names past 255 bytes and values past 65,535 are cut: no caller has any.
#[must_use]
pub fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let mut block = BytesMut::with_capacity(128);
    for (name, value) in headers {
        let name_length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let value_length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        block.put_u8(name_length);
        block.extend(name.bytes().take(usize::from(name_length)));
        block.put_u8(STRING);
        block.put_u16(value_length);
        block.extend(value.bytes().take(usize::from(value_length)));
    }
    let total = block.len() + payload.len() + 16;
    let mut out = BytesMut::with_capacity(total);
    // A frame past 4 GiB cannot be said; the emulator's answers are bounded far below.
    out.put_u32(u32::try_from(total).unwrap_or(u32::MAX));
    out.put_u32(u32::try_from(block.len()).unwrap_or(u32::MAX));
    out.put_u32(crc32fast::hash(&out));
    out.extend_from_slice(&block);
    out.extend_from_slice(payload);
    out.put_u32(crc32fast::hash(&out));
    out.freeze()
}

#[cfg(test)]
mod tests {
    use aws_smithy_eventstream::frame::read_message_from;
    use aws_smithy_types::event_stream::HeaderValue;

    use super::*;

    #[test]
    fn the_sdk_decodes_every_kind_of_frame() {
        for (bytes, kind, name) in [
            (event("contentBlockDelta", b"{}"), "event", ":event-type"),
            (exception("throttlingException", b"{}"), "exception", ":exception-type"),
            (error("InternalFailure", "gone"), "error", ":error-code"),
        ] {
            let message = read_message_from(bytes.clone()).unwrap();
            let text = |wanted: &str| {
                let header = message.headers().iter().find(|header| header.name().as_str() == wanted).unwrap();
                match header.value() {
                    HeaderValue::String(text) => text.as_str().to_owned(),
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(text(":message-type"), kind);
            assert!(!text(name).is_empty());
        }
    }

    #[test]
    fn one_changed_byte_anywhere_is_noticed_by_the_sdk() {
        let good = event("chunk", b"{\"bytes\":\"aGk=\"}");
        for at in 8..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert!(read_message_from(Bytes::from(bad)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn frames_are_those_of_aws_own_encoder() {
        // The inner event of the first signed frame in tests/vectors/eventstream-signing.json.
        let vectors: serde_json::Value = serde_json::from_str(include_str!("../../tests/vectors/eventstream-signing.json")).unwrap();
        let wanted = vectors["frames"][0]["inner_hex"].as_str().unwrap();
        let payload = br#"{"bytes":"eyJldmVudCI6eyJzZXNzaW9uU3RhcnQiOnt9fX0="}"#;
        let headers = [(":event-type", "chunk"), (":message-type", "event"), (":content-type", "application/json")];
        assert_eq!(super::super::canonical::hex(&frame(&headers, payload)), wanted);
    }
}
