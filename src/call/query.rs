//! The query as it goes upstream: strictly encoded, so that what is sent is what is signed.
//!
//! SDKs sign a query by decoding and encoding it; botocore signs it as it is. They agree only on the strict form of RFC 3986, which is what
//! goes upstream. A raw `+` is a plus: SigV4 knows no form encoding.

use super::CallError;

/// A presigned request carries its signature in these; ours is in headers, and the caller's must not reach AWS.
const PRESIGN: [&str; 8] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-Region-Set",
];

/// Encodes every pair anew, in its order; drops empty pairs and presigning parameters.
pub(super) fn strict(query: &str) -> Result<String, CallError> {
    if query.is_empty() {
        return Ok(String::new());
    }
    let mut out = String::with_capacity(query.len() + 16);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
        let start = out.len();
        if start > 0 {
            out.push('&');
        }
        let name_start = out.len();
        encode(name, &mut out)?;
        if PRESIGN.iter().any(|presign| out.get(name_start..).is_some_and(|name| name.eq_ignore_ascii_case(presign))) {
            out.truncate(start);
            continue;
        }
        if let Some(value) = value {
            out.push('=');
            encode(value, &mut out)?;
        }
    }
    Ok(out)
}

fn encode(raw: &str, out: &mut String) -> Result<(), CallError> {
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' { hex(bytes.next())? << 4 | hex(bytes.next())? } else { byte };
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 0xf] {
                out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
    Ok(())
}

fn hex(digit: Option<u8>) -> Result<u8, CallError> {
    digit.and_then(|digit| char::from(digit).to_digit(16)).and_then(|digit| u8::try_from(digit).ok()).ok_or(CallError::BadQuery)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_strict() {
        for (raw, strict_form) in [
            ("", ""),
            ("type=SYSTEM_DEFINED&maxResults=10", "type=SYSTEM_DEFINED&maxResults=10"),
            ("arn=arn:aws:x/y,z", "arn=arn%3Aaws%3Ax%2Fy%2Cz"),
            ("a=%7e%3a%2F", "a=~%3A%2F"),
            ("a=1+2&&b", "a=1%2B2&b"),
            ("a=b=c", "a=b%3Dc"),
            ("flag=&flag", "flag=&flag"),
            ("x=%ff", "x=%FF"),
        ] {
            assert_eq!(strict(raw).unwrap(), strict_form, "{raw}");
        }
        for bad in ["a=%", "a=%z1", "%4"] {
            assert_eq!(strict(bad), Err(CallError::BadQuery), "{bad}");
        }
    }

    #[test]
    fn a_callers_presigning_never_goes_upstream() {
        assert_eq!(strict("X-Amz-Signature=abc&a=1&x-amz-credential=AKID&X-Amz%2DDate=1&b=2").unwrap(), "a=1&b=2");
    }

    proptest::proptest! {
        #[test]
        fn strict_is_idempotent_and_never_panics(raw in "\\PC*") {
            if let Ok(once) = strict(&raw) {
                proptest::prop_assert_eq!(strict(&once).unwrap(), once);
            }
        }
    }
}
