//! The PROXY protocol, version 2 (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>, section 2.2): a load balancer says for whom it connects.
//!
//! Own code rather than a crate: what is needed of it is exact and small, and the two crates that there are read version 1 too and keep what we drop.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The part of the header whose length is known beforehand.
const FIXED: usize = 16;

/// The longest header that is taken, in bytes. Addresses need 52 at most; the rest is for what balancers add (NLB 84 for an endpoint's id, `HAProxy`
/// some hundreds for TLS), and the field could say 65,551.
const MAX: usize = 4096;

/// What a header says, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client that the connection is for; none where the balancer connects for itself (a health check), or knows no address.
    pub client: Option<SocketAddr>,
    /// The header's length in bytes: 16 to 4096.
    pub length: usize,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// So far it could be one; it is so many bytes long, or at least.
    #[error("the PROXY header ends before its {needs} bytes")]
    Incomplete {
        /// Its length, as far as it is known.
        needs: usize,
    },
    /// It is another thing.
    #[error("no PROXY header of version 2 where there must be one")]
    Absent,
    /// It is of version 1.
    #[error("a PROXY header of version 1: have the balancer send version 2")]
    Version1,
    /// It makes no sense, or asks for what is not supported.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
}

impl ProxyHeader {
    /// Reads the header that `bytes` begin with. What follows its addresses (TLVs) is skipped.
    ///
    /// # Errors
    /// [`ProxyHeaderError`]. No prefix of a header that is taken gives anything but [`ProxyHeaderError::Incomplete`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProxyHeaderError> {
        let common = bytes.len().min(SIGNATURE.len());
        if bytes.get(..common) != SIGNATURE.get(..common) {
            let version1 = bytes.starts_with(b"PROXY ");
            return Err(if version1 { ProxyHeaderError::Version1 } else { ProxyHeaderError::Absent });
        }
        let &[command, family, high, low] =
            bytes.get(SIGNATURE.len()..FIXED).and_then(<[u8]>::as_array).ok_or(ProxyHeaderError::Incomplete { needs: FIXED })?;
        let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
        let is_local = match command {
            0x20 => true,
            0x21 => false,
            _ => return Err(ProxyHeaderError::Malformed("neither LOCAL nor PROXY of version 2")),
        };
        if length > MAX {
            return Err(ProxyHeaderError::Malformed("longer than 4096 bytes"));
        }
        let body = bytes.get(FIXED..length).ok_or(ProxyHeaderError::Incomplete { needs: length })?;
        let client = match family {
            // For a LOCAL connection the rest has no meaning; and of an unspecified family nothing can be known.
            _ if is_local => None,
            0x00 => None,
            0x11 => Some(ipv4(body)?),
            0x21 => Some(ipv6(body)?),
            _ => return Err(ProxyHeaderError::Malformed("neither TCP over IPv4 nor over IPv6")),
        };
        Ok(Self { client, length })
    }

    /// Reads a header off `stream`, and not a byte beyond it.
    ///
    /// # Errors
    /// Where the stream ends or fails before its end, or it is none.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(FIXED);
        loop {
            let needs = match Self::parse(&bytes) {
                Ok(header) => return Ok(header),
                Err(ProxyHeaderError::Incomplete { needs }) => needs,
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            };
            let missing = u64::try_from(needs.saturating_sub(bytes.len())).unwrap_or(0);
            if (&mut *stream).take(missing).read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

const SHORT: ProxyHeaderError = ProxyHeaderError::Malformed("too short for its addresses");

/// Source, destination (4 bytes each), source port, destination port.
fn ipv4(body: &[u8]) -> Result<SocketAddr, ProxyHeaderError> {
    let &[a, b, c, d, _, _, _, _, high, low, _, _] = body.get(..12).and_then(<[u8]>::as_array).ok_or(SHORT)?;
    Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), u16::from_be_bytes([high, low])))
}

/// Source, destination (16 bytes each), source port, destination port.
fn ipv6(body: &[u8]) -> Result<SocketAddr, ProxyHeaderError> {
    let body: &[u8; 36] = body.get(..36).and_then(<[u8]>::as_array).ok_or(SHORT)?;
    let source: &[u8; 16] = body.first_chunk().ok_or(SHORT)?;
    let port: &[u8; 2] = body.get(32..34).and_then(<[u8]>::as_array).ok_or(SHORT)?;
    Ok(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*source)).to_canonical(), u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// The bytes of a header: command, family, body.
    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    /// 192.0.2.1:56324 to 198.51.100.7:443
    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];

    fn v6(source: &str) -> Vec<u8> {
        let source: Ipv6Addr = source.parse().unwrap();
        [&source.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[0xdc, 0x04, 0x01, 0xbb]].concat()
    }

    /// An NLB's own: type 0xea (AWS), the id of a VPC endpoint.
    fn with_endpoint(body: &[u8]) -> Vec<u8> {
        [body, &[0xea, 0, 23, 1], b"vpce-08d2bf15fac5001c9"].concat()
    }

    #[test]
    fn the_client_is_who_the_header_names() {
        for (bytes, client) in [
            (header(0x21, 0x11, &V4), Some("192.0.2.1:56324")),
            (header(0x21, 0x11, &with_endpoint(&V4)), Some("192.0.2.1:56324")),
            (header(0x21, 0x21, &v6("2001:db8::1")), Some("[2001:db8::1]:56324")),
            (header(0x21, 0x21, &v6("::ffff:192.0.2.1")), Some("192.0.2.1:56324")),
            (header(0x21, 0x21, &with_endpoint(&v6("2001:db8::1"))), Some("[2001:db8::1]:56324")),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &V4), None),
            (header(0x20, 0xff, &[1, 2, 3]), None),
            (header(0x21, 0x00, &[]), None),
            (header(0x21, 0x00, &[9; 40]), None),
            (header(0x21, 0x11, &[&V4[..], &[0; MAX - FIXED - 12]].concat()), Some("192.0.2.1:56324")),
        ] {
            let expected = ProxyHeader { client: client.map(|client| client.parse().unwrap()), length: bytes.len() };
            assert_eq!(ProxyHeader::parse(&bytes), Ok(expected));
            assert_eq!(ProxyHeader::parse(&[&bytes[..], b"GET / HTTP/1.1\r\n"].concat()), Ok(expected), "what follows is not of it");
            for end in 0..bytes.len() {
                let Err(ProxyHeaderError::Incomplete { needs }) = ProxyHeader::parse(&bytes[..end]) else { panic!("at {end}") };
                assert!(needs > end && needs <= bytes.len());
            }
        }
    }

    #[test]
    fn what_is_no_header_of_tcp_is_refused_as_soon_as_it_can_be_told() {
        use ProxyHeaderError::{Absent, Malformed, Version1};
        let too_short = Malformed("too short for its addresses");
        let mut long = header(0x21, 0x11, &V4);
        long[14..16].copy_from_slice(&[0xff, 0xff]);
        let mut other = header(0x21, 0x11, &V4);
        other[11] = b'!';
        for (bytes, expected) in [
            (b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n".to_vec(), Version1),
            (b"GET / HTTP/1.1\r\n".to_vec(), Absent),
            (b"\x16\x03\x01".to_vec(), Absent),
            (b"G".to_vec(), Absent),
            (other, Absent),
            (header(0x11, 0x11, &V4), Malformed("neither LOCAL nor PROXY of version 2")),
            (header(0x22, 0x11, &V4), Malformed("neither LOCAL nor PROXY of version 2")),
            (header(0x21, 0x12, &V4), Malformed("neither TCP over IPv4 nor over IPv6")),
            (header(0x21, 0x31, &[0; 216]), Malformed("neither TCP over IPv4 nor over IPv6")),
            (header(0x21, 0x01, &V4), Malformed("neither TCP over IPv4 nor over IPv6")),
            (header(0x21, 0x11, &V4[..11]), too_short),
            (header(0x21, 0x11, &[]), too_short),
            (header(0x21, 0x21, &v6("::1")[..35]), too_short),
            (long, Malformed("longer than 4096 bytes")),
        ] {
            assert_eq!(ProxyHeader::parse(&bytes), Err(expected), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn not_a_byte_beyond_the_header_is_read() {
        let bytes = [&header(0x21, 0x11, &with_endpoint(&V4))[..], b"rest"].concat();
        let mut stream = &bytes[..];
        assert_eq!(ProxyHeader::read(&mut stream).await.unwrap().client, Some("192.0.2.1:56324".parse().unwrap()));
        assert_eq!(stream, b"rest");
        let mut half = &bytes[..20];
        assert_eq!(ProxyHeader::read(&mut half).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_corpus_of_the_fuzz_target_is_replayed() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/proxy_header");
        let files: Vec<_> = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 8, "the corpus is gone");
        for file in files {
            sound(&fs::read(&file).unwrap());
        }
    }

    /// What holds of any bytes; the fuzz target says the same.
    fn sound(bytes: &[u8]) {
        match ProxyHeader::parse(bytes) {
            Ok(header) => {
                assert!((FIXED..=MAX).contains(&header.length) && header.length <= bytes.len());
                assert_eq!(ProxyHeader::parse(&bytes[..header.length]), Ok(header));
            }
            Err(ProxyHeaderError::Incomplete { needs }) => assert!(needs > bytes.len() && needs <= MAX),
            Err(_) => {}
        }
    }

    proptest! {
        #[test]
        fn no_byte_string_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            sound(&bytes);
        }

        #[test]
        fn nothing_behind_the_signature_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            sound(&[&SIGNATURE[..], &bytes].concat());
        }

        #[test]
        fn every_ipv4_client_is_read_as_written(source in any::<[u8; 4]>(), port in any::<u16>(), tail in prop::collection::vec(any::<u8>(), 0..60)) {
            let body = [&source[..], &[10, 0, 0, 1], &port.to_be_bytes(), &[1, 187], &tail].concat();
            let client = ProxyHeader::parse(&header(0x21, 0x11, &body)).unwrap().client;
            prop_assert_eq!(client, Some(SocketAddr::from((source, port))));
        }
    }
}
