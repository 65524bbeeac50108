//! A host's addresses: resolved before a connection needs them, kept fresh, and never forgotten because a resolver hiccups.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Host;

/// How often a host in use is resolved anew. The system's resolver tells no TTL; AWS answers with 60 s or less.
pub const REFRESH: Duration = Duration::from_secs(20);

/// So many addresses are kept at most: those of the last two answers, for AWS answers with a different few each time.
const KEPT: usize = 32;

/// The addresses of one host. Nothing is resolved until the first connection, and a literal address never is.
#[derive(Debug)]
pub struct Addresses {
    host: Host,
    known: ArcSwap<Vec<SocketAddr>>,
    next: AtomicUsize,
    used: AtomicBool,
}

impl Addresses {
    /// The addresses of `host`, none yet unless it is one itself.
    #[must_use]
    pub fn of(host: Host) -> Self {
        let literal = host.name.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, host.port));
        Self { known: ArcSwap::from_pointee(literal.into_iter().collect()), host, next: AtomicUsize::new(0), used: AtomicBool::new(false) }
    }

    /// The addresses of `host`, as if they had been resolved.
    #[cfg(test)]
    pub(crate) fn resolved(host: Host, addresses: Vec<SocketAddr>) -> Self {
        Self { known: ArcSwap::from_pointee(addresses), ..Self::of(host) }
    }

    /// The addresses in the order to try them: each call begins with another, and IPv6 and IPv4 alternate (RFC 8305, section 4).
    ///
    /// # Errors
    /// Where none is known yet and the resolver gives none.
    pub async fn in_turn(&self) -> io::Result<Vec<SocketAddr>> {
        self.used.store(true, Ordering::Relaxed);
        let mut known = self.known.load_full();
        if known.is_empty() {
            self.refresh().await?;
            known = self.known.load_full();
        }
        let mut turned = Vec::clone(&known);
        if !turned.is_empty() {
            let start = self.next.fetch_add(1, Ordering::Relaxed) % turned.len();
            turned.rotate_left(start);
        }
        Ok(interleaved(turned))
    }

    /// Resolves the host again if a connection was ever asked for; keeps what is known where that fails.
    pub async fn refresh_if_used(&self) {
        if self.used.load(Ordering::Relaxed)
            && let Err(error) = self.refresh().await
        {
            tracing::warn!(host = %self.host.name, %error, "host not resolved; keeping its last addresses");
        }
    }

    async fn refresh(&self) -> io::Result<()> {
        if self.host.name.parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        let fresh: Vec<SocketAddr> = tokio::net::lookup_host((&*self.host.name, self.host.port)).await?.collect();
        if fresh.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the resolver gave no address"));
        }
        let before = self.known.load();
        let mut merged = fresh.clone();
        merged.extend(before.iter().filter(|address| !fresh.contains(address)).take(KEPT.saturating_sub(fresh.len())));
        merged.truncate(KEPT);
        self.known.store(Arc::new(merged));
        Ok(())
    }
}

fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let v6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (first, second) = if v6_first { (v6, v4) } else { (v4, v6) };
    let mut second = second.into_iter();
    let mut out: Vec<_> = first.into_iter().flat_map(|address| std::iter::once(address).chain(second.next())).collect();
    out.extend(second);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_and_none_is_lost() {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = parse(&["10.0.0.1:443", "10.0.0.2:443", "[::1]:443", "10.0.0.3:443"]);
        assert_eq!(interleaved(mixed), parse(&["10.0.0.1:443", "[::1]:443", "10.0.0.2:443", "10.0.0.3:443"]));
        assert_eq!(interleaved(parse(&["[::1]:1", "10.0.0.1:1", "10.0.0.2:1"])), parse(&["[::1]:1", "10.0.0.1:1", "10.0.0.2:1"]));
    }

    #[tokio::test]
    async fn a_literal_address_is_never_resolved_and_each_turn_begins_with_another() {
        let one = Addresses::of(Host { name: "127.0.0.1".into(), port: 1, tls: false });
        assert_eq!(one.in_turn().await.unwrap(), ["127.0.0.1:1".parse().unwrap()]);
        one.known.store(Arc::new(vec!["10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap()]));
        let second = one.in_turn().await.unwrap();
        assert_eq!(second.first(), Some(&"10.0.0.2:1".parse().unwrap()));
        assert_eq!(second.len(), 2);
    }
}
