//! The PROXY header: the first bytes of a connection, before anyone is known. `cargo test` replays its corpus.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::listeners::{ProxyHeader, ProxyHeaderError};

fuzz_target!(|bytes: &[u8]| match ProxyHeader::parse(bytes) {
    Ok(header) => {
        assert!((16..=4096).contains(&header.length) && header.length <= bytes.len());
        assert_eq!(ProxyHeader::parse(&bytes[..header.length]), Ok(header));
    }
    Err(ProxyHeaderError::Incomplete { needs }) => assert!(needs > bytes.len() && needs <= 4096),
    Err(_) => {}
});
