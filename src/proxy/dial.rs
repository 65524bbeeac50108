//! Connections to upstreams: one pool for each upstream and host, over all the addresses behind it.
//!
//! Pingora keys its pool by address and resolves names by blocking. Both are turned off by one peer at `0.0.0.0` with a dialer of ours, which takes
//! its addresses from a background resolver. The group key keeps upstreams apart that differ in nothing that Pingora's key sees (its own CA).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::l4::stream::Stream;

use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};
use pingora::{Error, ErrorType, Result};
use tokio::net::TcpStream;

use crate::upstreams::{Addresses, Endpoint, Host, Upstream, Upstreams};

/// One address may take so long before the next is tried.
const TRY: Duration = Duration::from_millis(1500);

/// Kept idle so long: below the 60 s and more after which servers close, so that ours is the side that does.
const IDLE: Duration = Duration::from_secs(50);

/// A client that reads nothing for so long is given up, and so is an upstream that takes nothing.
pub(super) const WRITE: Duration = Duration::from_mins(1);

/// Probes keep a silent path open (an NLB forgets a flow after 350 s) and find a dead one.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive { idle: Duration::from_mins(1), interval: Duration::from_secs(15), count: 4, user_timeout: Duration::ZERO };

/// A prototype of the peer for every upstream and service.
pub(super) struct Peers(HashMap<(Arc<str>, &'static str), HttpPeer>);

impl Peers {
    pub(super) fn build(upstreams: &Upstreams) -> Self {
        let peers = upstreams.all().flat_map(|upstream| {
            upstream.endpoints().map(|(service, endpoint)| ((Arc::clone(&upstream.name), service), prototype(upstream, endpoint)))
        });
        Self(peers.collect())
    }

    /// The peer to send to, with the route's time for a connection, and the longest silence.
    pub(super) fn peer(&self, upstream: &Upstream, service: &'static str, connect: Duration, silence: Duration) -> Option<Box<HttpPeer>> {
        let mut peer = Box::new(self.0.get(&(Arc::clone(&upstream.name), service))?.clone());
        peer.options.total_connection_timeout = Some(connect);
        peer.options.read_timeout = Some(silence);
        Some(peer)
    }

    /// The same for a second try: never a kept connection, for where one was dead its siblings may be too (a NAT that forgot its flows, a server
    /// that was replaced), and a request would meet them one after another. Pingora has no such switch: a key that nothing is kept under is one.
    pub(super) fn fresh_peer(
        &self,
        upstream: &Upstream,
        service: &'static str,
        connect: Duration,
        silence: Duration,
    ) -> Option<Box<HttpPeer>> {
        let mut peer = self.peer(upstream, service, connect, silence)?;
        peer.group_key = fastrand::u64(..);
        // Nor is it kept under that key, where nobody would find it.
        peer.options.idle_timeout = Some(Duration::ZERO);
        Some(peer)
    }
}

fn prototype(upstream: &Upstream, endpoint: &Endpoint) -> HttpPeer {
    // An empty name would switch the certificate checks off, so it can only come from a host, which has one.
    let mut peer = HttpPeer::new(nowhere(&endpoint.host), endpoint.host.tls, endpoint.host.name.to_string());
    let mut key = DefaultHasher::new();
    (&*upstream.name, &endpoint.host, &upstream.ca).hash(&mut key);
    peer.group_key = key.finish();
    peer.options.custom_l4 = Some(Arc::new(Dialer { addresses: Arc::clone(&endpoint.addresses) }));
    peer.options.idle_timeout = Some(IDLE);
    peer.options.write_timeout = Some(WRITE);
    peer.options.tcp_keepalive = Some(KEEPALIVE);
    peer.options.verify_cert = true;
    peer.options.verify_hostname = true;
    peer.options.ca = upstream.ca.as_ref().map(|bundle| bundle.iter().map(|der| WrappedX509::new(der.clone(), parse_x509)).collect());
    peer
}

/// The address that stands for all of a host's.
fn nowhere(host: &Host) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, host.port))
}

/// Connects to the first address that answers.
#[derive(Debug)]
struct Dialer {
    addresses: Arc<Addresses>,
}

#[async_trait]
impl Connect for Dialer {
    async fn connect(&self, _nowhere: &PingoraAddr) -> Result<Stream> {
        let addresses =
            self.addresses.in_turn().await.map_err(|error| Error::because(ErrorType::ConnectNoRoute, "host not resolved", error))?;
        let mut last = Error::explain(ErrorType::ConnectNoRoute, "the host has no address");
        for address in addresses {
            last = match tokio::time::timeout(TRY, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream.into()),
                Ok(Err(error)) => Error::because(ErrorType::ConnectRefused, format!("{address}"), error),
                Err(_) => Error::explain(ErrorType::ConnectTimedout, format!("{address}")),
            };
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use tokio::net::TcpListener;

    use super::*;

    fn dialer(addresses: Vec<SocketAddr>) -> Dialer {
        let host = Host { name: "bedrock.example".into(), port: 443, tls: true };
        Dialer { addresses: Arc::new(Addresses::resolved(host, addresses)) }
    }

    /// An address at which nothing listens any more.
    async fn dead() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_dead_address_costs_no_connection_while_another_lives() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        // An address of a family that this machine may not have is as good as dead.
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, dead().await.port()));
        let dialer = dialer(vec![dead().await, v6, live, dead().await]);
        let nowhere = PingoraAddr::Inet(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 443)));
        // Every turn begins with another address.
        for _ in 0..8 {
            let stream = Connect::connect(&dialer, &nowhere).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            drop((stream, accepted));
        }
    }

    #[tokio::test]
    async fn where_every_address_is_dead_the_last_failure_is_told() {
        let (first, second) = (dead().await, dead().await);
        let nowhere = PingoraAddr::Inet(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 443)));
        let error = Connect::connect(&dialer(vec![first, second]), &nowhere).await.unwrap_err();
        assert_eq!(*error.etype(), ErrorType::ConnectRefused);
        assert!(error.to_string().contains(&second.to_string()), "{error}");
    }
}
