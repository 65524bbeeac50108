//! What can be told from a request's head alone: whether its path means one thing only, and whether its body is small enough.
//!
//! The path goes upstream byte for byte and is signed in its normal form, so it must be in that form already: where one side reads
//! `/a/../b` as `/b`, a policy for `/a` is worth nothing, and the signature fails at best.

use http::Method;

use crate::domain::{Reason, Rejection};

/// The longest path, in bytes as it is sent. The longest label of a Bedrock operation is 2,048 characters, 6,144 bytes when every one is escaped.
pub const MAX_PATH: usize = 8 * 1024;

/// The longest head of a request: line and headers, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;

/// Checks the length of a request's head in bytes: the same bound that HTTP/2 has.
///
/// # Errors
/// [`Reason::Malformed`]; the message names the bound.
pub fn head_fits(length: usize) -> Result<(), Rejection> {
    if length <= MAX_HEAD {
        return Ok(());
    }
    Err(Rejection::new(Reason::Malformed, format!("the request's head is larger than {MAX_HEAD} bytes")))
}

/// Checks the method. `TRACE` would show the caller what Bedrock received: the gateway's own signature and session token; `CONNECT` is for tunnels.
///
/// # Errors
/// [`Reason::Malformed`].
pub fn method_is_safe(method: &Method) -> Result<(), Rejection> {
    if matches!(*method, Method::TRACE | Method::CONNECT) {
        return Err(Rejection::new(Reason::Malformed, format!("the method {method} is not proxied")));
    }
    Ok(())
}

/// Checks the raw path of a request, without its query.
///
/// It starts with `/`, is made of the characters of RFC 3986, section 3.3, whole percent escapes among them, and has no empty segment but
/// after a trailing slash, and no `.` or `..` segment. An escaped slash is part of a segment (ARNs hold them), but a dot segment
/// beside one is refused too, for whoever decodes before they normalise. Escaped control characters are refused, NUL among them.
///
/// # Errors
/// [`Reason::Malformed`]; the message says what is wrong, and shows nothing of the path.
pub fn path_is_safe(raw_path: &[u8]) -> Result<(), Rejection> {
    let malformed = |message| Err(Rejection::new(Reason::Malformed, message));
    if raw_path.len() > MAX_PATH {
        return Err(Rejection::new(Reason::Malformed, format!("the path is longer than {MAX_PATH} bytes")));
    }
    let Some((b'/', rest)) = raw_path.split_first() else {
        return malformed("the path must start with `/`");
    };
    let mut bytes = rest.iter().copied();
    let mut segment = Segment::Empty;
    let mut after_slash = true;
    while let Some(raw) = bytes.next() {
        let byte = match raw {
            b'%' => match (hex(bytes.next()), hex(bytes.next())) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return malformed("the path holds a `%` that is not followed by two hex digits"),
            },
            b'/' if after_slash => return malformed("the path holds an empty segment (`//`)"),
            b'\\' => return malformed("the path holds a backslash"),
            raw if raw == b'/' || raw.is_ascii_control() || is_path_character(raw) => raw,
            _ => return malformed("the path holds a character that must be percent-encoded (RFC 3986, section 3.3)"),
        };
        if byte.is_ascii_control() {
            return malformed("the path holds a control character");
        }
        after_slash = raw == b'/';
        segment = match (byte, segment) {
            (b'/', Segment::Dot | Segment::Dots) => return malformed(DOT_SEGMENT),
            (b'/', _) => Segment::Empty,
            (b'.', Segment::Empty) => Segment::Dot,
            (b'.', Segment::Dot) => Segment::Dots,
            _ => Segment::Other,
        };
    }
    if matches!(segment, Segment::Dot | Segment::Dots) {
        return malformed(DOT_SEGMENT);
    }
    Ok(())
}

const DOT_SEGMENT: &str = "the path holds a `.` or `..` segment";

/// Checks the length of a body, or of as much of it as has come, against `firewall.max_body`; both in bytes.
///
/// # Errors
/// [`Reason::BodyTooLarge`]; the message names the limit.
pub fn body_fits(length: u64, max_body: u64) -> Result<(), Rejection> {
    if length <= max_body {
        return Ok(());
    }
    Err(Rejection::new(Reason::BodyTooLarge, format!("the request body is larger than {max_body} bytes (`firewall.max_body`)")))
}

/// What has been read of a segment, escapes decoded.
#[derive(Clone, Copy)]
enum Segment {
    Empty,
    /// `.`
    Dot,
    /// `..`
    Dots,
    Other,
}

/// The `pchar` of RFC 3986, section 3.3, but for escapes.
const fn is_path_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'@')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

const fn hex(digit: Option<u8>) -> Option<u8> {
    match digit {
        Some(digit @ b'0'..=b'9') => Some(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Some(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::percent_decode;
    use proptest::prelude::*;

    fn fault(path: &[u8]) -> String {
        let rejection = path_is_safe(path).unwrap_err();
        assert_eq!(rejection.reason, Reason::Malformed);
        rejection.message.into_owned()
    }

    #[test]
    fn methods_that_would_show_the_signature_or_open_a_tunnel_are_refused() {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "trace"] {
            assert!(method_is_safe(&method.parse().unwrap()).is_ok(), "{method}");
        }
        for method in [Method::TRACE, Method::CONNECT] {
            assert_eq!(method_is_safe(&method).unwrap_err().reason, Reason::Malformed);
        }
    }

    #[test]
    fn every_path_that_a_stock_client_sends_is_safe() {
        for path in [
            "/",
            "/model/anthropic.claude-sonnet-4-5-20250929-v1:0/converse",
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc/converse-stream",
            "/model/arn:aws:bedrock:us-east-1:123456789012:application-inference-profile%2fabc/invoke",
            "/sessions/",
            "/sessions/a/invocations/",
            "/bedrock-agent-runtime/agents/A/agentAliases/B/sessions/a%20b%23c/text",
            "/knowledgebases/K/documents/s3%3A%2F%2Fbucket%2Fa...b%2F.hidden",
            "/a/.../..b/.c/d.",
            "/%252e%252e/caf%C3%A9/%5C",
        ] {
            assert!(path_is_safe(path.as_bytes()).is_ok(), "{path}");
        }
    }

    #[test]
    fn dot_segments_are_refused_in_every_spelling_and_place() {
        for dot in [".", "%2e", "%2E"] {
            for other in ["", ".", "%2e", "%2E"] {
                let dots = format!("{dot}{other}");
                for path in ["/D", "/D/", "/a/D", "/a/D/b", "/D/a", "/a%2FD%2fb", "/a%2fD"] {
                    assert!(fault(path.replace('D', &dots).as_bytes()).contains("`..`"), "{dots} in {path}");
                }
            }
        }
    }

    #[test]
    fn empty_segments_are_refused_but_one_slash_at_the_end_is_not() {
        for path in ["//", "//a", "/a//b", "/a//"] {
            assert!(fault(path.as_bytes()).contains("`//`"), "{path}");
        }
        assert!(path_is_safe(b"/a/").is_ok());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (path, part) in [
            (&b""[..], "start with `/`"),
            (b"*", "start with `/`"),
            (b"a/b", "start with `/`"),
            (b"http://host/a", "start with `/`"),
            (b"/a\0", "control"),
            (b"/a\x1f", "control"),
            (b"/a\x7f", "control"),
            (b"/a\r\nb", "control"),
            (b"/%00", "control"),
            (b"/%0a", "control"),
            (b"/%7F", "control"),
            (b"/a\\b", "backslash"),
            (b"/caf\xc3\xa9", "percent-encoded"),
            (b"/\xff", "percent-encoded"),
            (b"/a b", "percent-encoded"),
            (b"/a?b", "percent-encoded"),
            (b"/a#b", "percent-encoded"),
            (b"/<\">", "percent-encoded"),
            (b"/%", "hex"),
            (b"/%2", "hex"),
            (b"/%2/a", "hex"),
            (b"/%zz", "hex"),
            (b"/%%41", "hex"),
            (b"/%+1", "hex"),
        ] {
            assert!(fault(path).contains(part), "{}: {}", path.escape_ascii(), fault(path));
        }
    }

    #[test]
    fn the_longest_path_is_safe_and_one_byte_more_is_not() {
        let mut path = vec![b'a'; MAX_PATH];
        path[0] = b'/';
        assert!(path_is_safe(&path).is_ok());
        path.push(b'a');
        assert_eq!(fault(&path), "the path is longer than 8192 bytes");
    }

    #[test]
    fn the_longest_body_fits_and_one_byte_more_does_not() {
        assert!(body_fits(0, 0).is_ok());
        assert!(body_fits(25_000_000, 25_000_000).is_ok());
        let rejection = body_fits(25_000_001, 25_000_000).unwrap_err();
        assert_eq!(rejection.reason, Reason::BodyTooLarge);
        assert_eq!(rejection.message, "the request body is larger than 25000000 bytes (`firewall.max_body`)");
        assert!(body_fits(u64::MAX, 25_000_000).is_err());
    }

    /// The rule said again, slowly: split, decode, look.
    fn is_safe_by_the_book(path: &[u8]) -> bool {
        let Some(rest) = path.strip_prefix(b"/") else { return false };
        let characters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:@!$&'()*+,;=/%";
        let escapes =
            path.split(|byte| *byte == b'%').skip(1).all(|after| after.len() >= 2 && after[..2].iter().all(u8::is_ascii_hexdigit));
        let segments: Vec<&[u8]> = rest.split(|byte| *byte == b'/').collect();
        let decoded: Vec<u8> = percent_decode(path).collect();
        path.len() <= MAX_PATH
            && path.iter().all(|byte| characters.contains(byte))
            && escapes
            && segments.iter().rev().skip(1).all(|segment| !segment.is_empty())
            && !decoded.iter().any(u8::is_ascii_control)
            && !decoded.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b"..")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn any_bytes_are_judged_without_a_panic_as_the_book_has_it(path in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(path_is_safe(&path).is_ok(), is_safe_by_the_book(&path));
        }

        #[test]
        fn paths_of_tricky_parts_are_judged_as_the_book_has_it(
            parts in prop::collection::vec(
                prop::sample::select(vec!["/", "/", ".", "%2e", "%2E", "%2f", "%2F", "%", "2", "e", "a", "%41", "%00", "%5c", "\\", "\u{1}", "é", ":"]),
                0..12,
            )
        ) {
            let path = format!("/{}", parts.concat());
            prop_assert_eq!(path_is_safe(path.as_bytes()).is_ok(), is_safe_by_the_book(path.as_bytes()), "{}", path);
        }
    }
}
