//! The name of one exchange.

use std::fmt;

/// A random identifier in the shape of a UUID v4 (RFC 9562, 5.4), as AWS answers it in `x-amzn-RequestId`.
///
/// It is unique enough to find a log line by, and is no secret: it comes from a fast, unseeded-by-hand generator.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 36]);

impl RequestId {
    /// A new identifier.
    #[must_use]
    pub fn random() -> Self {
        Self::from_bits(fastrand::u128(..))
    }

    fn from_bits(bits: u128) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let bits = (bits & !(0xf << 76) & !(0b11 << 62)) | (0x4 << 76) | (0b10 << 62);
        let mut text = [b'-'; 36];
        let mut shift = 128_u32;
        for (at, byte) in text.iter_mut().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                continue;
            }
            shift -= 4;
            let nibble = usize::try_from((bits >> shift) & 0xf).unwrap_or(0);
            *byte = HEX.get(nibble).copied().unwrap_or(b'0');
        }
        Self(text)
    }

    /// The 36 characters: lower-case hex and hyphens.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("00000000-0000-4000-8000-000000000000")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_has_the_shape_of_a_version_4_uuid() {
        assert_eq!(RequestId::from_bits(0).as_str(), "00000000-0000-4000-8000-000000000000");
        assert_eq!(RequestId::from_bits(u128::MAX).as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_ne!(RequestId::random(), RequestId::random());
    }
}
