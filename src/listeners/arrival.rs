//! What is known of a connection from its arrival on: for whom it was made, and by which certificate.
//!
//! It reaches the corridor as the user data of Pingora's proxy digest, the one thing that Pingora hands from a connection of ours to the requests
//! of either HTTP version (docs/decisions/0006-what-a-connection-tells.md).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::certificate;
use super::tls::Shared;
use crate::domain::{ClientCertificate, Reason, Rejection};

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is known of a connection from its arrival on.
#[derive(Debug)]
pub struct Arrival {
    /// Who connected, or for whom a balancer says that it did; an IPv4 address is never written as IPv6.
    peer: IpAddr,
    trusted_proxies: Arc<[IpNet]>,
    shown: Option<Shown>,
}

impl Arrival {
    pub(super) const fn new(peer: IpAddr, trusted_proxies: Arc<[IpNet]>, shown: Option<Shown>) -> Self {
        Self { peer, trusted_proxies, shown }
    }

    /// The client's address: who connected; and where that is a trusted proxy, who it says that connected to it, and so on. In `X-Forwarded-For`,
    /// which every proxy adds to at its end, that is the last address that is no trusted proxy's. What stands before it anyone could have written.
    #[must_use]
    pub fn client(&self, headers: &HeaderMap) -> IpAddr {
        let mut client = self.peer;
        if self.trusted_proxies.is_empty() {
            return client;
        }
        let lines = headers.get_all(&FORWARDED_FOR).iter();
        let mut told = lines.rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        while is_in(&self.trusted_proxies, client) {
            match told.next().and_then(address) {
                Some(before) => client = before,
                None => return client,
            }
        }
        client
    }

    /// The certificate that the client showed, if it showed one.
    ///
    /// It was good when the connection began; where what it is judged by has changed since, it is judged anew, once.
    ///
    /// # Errors
    /// [`Reason::Unauthenticated`] where it is good no more: expired, revoked, or of an authority that is no longer trusted.
    pub fn certificate(&self, now: SystemTime) -> Result<Option<&ClientCertificate>, Rejection> {
        let Some(shown) = &self.shown else { return Ok(None) };
        if shown.is_good(now) {
            return Ok(Some(&shown.certificate));
        }
        Err(Rejection::new(
            Reason::Unauthenticated,
            "the client certificate is expired, revoked, or of an issuer that is no longer trusted",
        ))
    }
}

/// A certificate that was shown, and what became of it.
pub(super) struct Shown {
    certificate: ClientCertificate,
    /// What came with it to lead to an authority.
    chain: Box<[CertificateDer<'static>]>,
    /// What judges it.
    tls: Arc<Shared>,
    /// The last verdict: the generation of the trust that gave it, doubled, and 1 where it was good. 0 before the first.
    verdict: AtomicU64,
}

impl Shown {
    /// `judged` is the generation that the handshake was made under; none where it resumed a session, in which nothing is judged.
    ///
    /// None where it can't be read: nothing that rustls verified is like that.
    pub(super) fn new(certificates: &[CertificateDer<'_>], tls: Arc<Shared>, judged: Option<u64>) -> Option<Self> {
        let (leaf, chain) = certificates.split_first()?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let verdict = judged.map_or(0, |generation| generation << 1 | 1);
        Some(Self { certificate: certificate::read(leaf)?, chain, tls, verdict: AtomicU64::new(verdict) })
    }

    fn is_good(&self, now: SystemTime) -> bool {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        if i64::try_from(since.as_secs()).unwrap_or(i64::MAX) > self.certificate.not_after {
            return false;
        }
        let current = self.tls.current();
        // The listener asked for certificates when this one was shown, and asks on.
        let Some(trust) = &current.trust else { return false };
        // Relaxed: the verdict guards no other memory, and two that judge at once come to the same.
        let verdict = self.verdict.load(Ordering::Relaxed);
        if verdict >> 1 == trust.generation {
            return verdict & 1 == 1;
        }
        let judged = trust.judge(&self.certificate, &self.chain, UnixTime::since_unix_epoch(since));
        if let Err(error) = &judged {
            tracing::info!(fingerprint = %self.certificate.fingerprint, %error, "a client certificate is good no more");
        }
        self.verdict.store(trust.generation << 1 | u64::from(judged.is_ok()), Ordering::Relaxed);
        judged.is_ok()
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("fingerprint", &self.certificate.fingerprint).finish_non_exhaustive()
    }
}

/// Whether one of `networks` holds `address`.
pub(super) fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// One part of `X-Forwarded-For`: an address, perhaps with a port (an ALB adds it where it is told to).
fn address(part: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(part).ok()?.trim();
    let bare = || text.parse().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare().or_else(with_port).or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, trusted: &[&str], forwarded: &[&str]) -> String {
        let trusted: Arc<[IpNet]> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(&FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        Arrival::new(peer.parse().unwrap(), trusted, None).client(&headers).to_string()
    }

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_proxies_only_and_from_the_end() {
        let alb = &["10.0.0.0/8", "2001:db8::/32"][..];
        for (peer, trusted, forwarded, expected) in [
            ("192.0.2.1", &[][..], &["198.51.100.1"][..], "192.0.2.1"),
            ("192.0.2.1", alb, &["198.51.100.1"], "192.0.2.1"),
            ("10.0.0.1", &[], &["198.51.100.1"], "10.0.0.1"),
            ("10.0.0.1", alb, &[], "10.0.0.1"),
            ("10.0.0.1", alb, &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", alb, &["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", alb, &["203.0.113.9,198.51.100.1, 10.2.3.4"], "198.51.100.1"),
            ("10.0.0.1", alb, &["203.0.113.9", "198.51.100.1,10.9.9.9", "10.2.3.4"], "198.51.100.1"),
            ("10.0.0.1", alb, &["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
            ("10.0.0.1", alb, &["198.51.100.1, nonsense"], "10.0.0.1"),
            ("10.0.0.1", alb, &["198.51.100.1, nonsense, 10.2.2.2"], "10.2.2.2"),
            ("10.0.0.1", alb, &["198.51.100.1,"], "10.0.0.1"),
            ("10.0.0.1", alb, &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", alb, &["[2001:470::1]:4711"], "2001:470::1"),
            ("10.0.0.1", alb, &["[2001:470::1]"], "2001:470::1"),
            ("10.0.0.1", alb, &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", alb, &["203.0.113.9, ::ffff:10.1.1.1"], "203.0.113.9"),
            ("2001:db8::7", alb, &["2001:470::1"], "2001:470::1"),
            ("10.0.0.1", alb, &["198.51.100.1\u{e4}"], "10.0.0.1"),
        ] {
            assert_eq!(client(peer, trusted, forwarded), expected, "{peer} {trusted:?} {forwarded:?}");
        }
    }

    proptest! {
        /// What a client writes in front of the proxy's own entry changes nothing.
        #[test]
        fn nothing_in_front_of_the_proxys_entry_has_a_say(forged in "[ -~]{0,60}") {
            let line = format!("{forged},198.51.100.1");
            prop_assert_eq!(client("10.0.0.1", &["10.0.0.0/8"], &[&line]), "198.51.100.1");
        }

        #[test]
        fn no_byte_string_is_a_certificate_that_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(certificate::read(&bytes).is_none());
        }
    }
}
