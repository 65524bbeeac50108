//! How connections come in at one address, and how that is changed while some do.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use rustix::net::sockopt;
use tokio::net::TcpStream;

use super::Connection;
use super::arrival::{Arrival, Shown, is_in};
use super::files::{self, Files};
use super::proxy_header::ProxyHeader;
use super::slots::{AddressSlot, Slots};
use super::tls::{self, Shared, TlsError};
use crate::config::listeners::Listener as Config;
use crate::domain::{Reread, TurnedAway};

/// Where connections come in, and how: what a listener that serves is known by. Clones are the same one.
#[derive(Clone)]
pub struct Entrance {
    pub(super) address: SocketAddr,
    pub(super) slots: Arc<Slots>,
    pub(super) door: Arc<ArcSwap<Door>>,
}

/// How a listener is to receive connections, ready for use.
pub struct Prepared {
    pub(super) door: Door,
    /// What of it is read again when it changes, and is not yet.
    pub(super) files: Vec<Files>,
    pub(super) max_connections: u64,
    pub(super) max_connections_per_address: Option<u64>,
}

/// How a socket becomes a connection.
pub(super) struct Door {
    pub(super) tls: Option<Arc<Shared>>,
    proxy_protocol: Vec<IpNet>,
    trusted_proxies: Arc<[IpNet]>,
    pub(super) header_timeout: Duration,
}

impl Prepared {
    /// Reads certificates. `header_timeout` bounds a new connection's PROXY header, TLS handshake and the wait for its first byte, all together; and each
    /// request head from its first byte. TLS that `before` has alike is taken from there, with the keys that sessions resume by.
    ///
    /// # Errors
    /// Where a certificate or key file can't be read or does not fit its other half.
    pub fn read(config: &Config, header_timeout: Duration, before: Option<&Entrance>) -> Result<Self, TlsError> {
        let known = before.and_then(|before| before.door.load().tls.clone());
        let (tls, files) = match &config.tls {
            None => (None, Vec::new()),
            Some(tls) => {
                if let Some(known) = known.filter(|known| known.is_of(tls)) {
                    (Some(known), Vec::new())
                } else {
                    // Looked at before they are read, so that no change is missed.
                    let files = tls::files(tls);
                    (Some(Arc::new(Shared::load(tls)?)), files)
                }
            }
        };
        let door = Door {
            tls,
            proxy_protocol: config.proxy_protocol.clone(),
            trusted_proxies: config.trusted_proxies.as_slice().into(),
            header_timeout,
        };
        Ok(Self { door, files, max_connections: config.max_connections, max_connections_per_address: config.max_connections_per_address })
    }
}

impl Entrance {
    /// Where it is: the real port, where the configuration left it to the system.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.door.load().tls.is_some()
    }

    /// Its connections.
    #[must_use]
    pub const fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// From now on connections are received as was `prepared`; those that were stay as they are. As [`Listener::keep_fresh`], for what is new of it.
    pub fn change<T>(&self, prepared: Prepared, tell: T) -> Option<impl Future<Output = ()> + use<T>>
    where
        T: Fn(Reread) + Send + Sync + Clone + 'static,
    {
        let Prepared { door, files, max_connections, max_connections_per_address } = prepared;
        let tls = door.tls.clone();
        self.slots.set_bounds(max_connections, max_connections_per_address);
        self.door.store(Arc::new(door));
        fresh(tls, files, tell)
    }

    /// Whether it speaks TLS by other certificates than `prepared` brings.
    #[must_use]
    pub fn has_other_tls(&self, prepared: &Prepared) -> bool {
        match (&self.door.load().tls, &prepared.door.tls) {
            (Some(one), Some(other)) => !Arc::ptr_eq(one, other),
            (None, None) => false,
            _ => true,
        }
    }
}

/// Reads the files of `tls` again when they change, for ever; none where there are none.
pub(super) fn fresh<T>(tls: Option<Arc<Shared>>, files: Vec<Files>, tell: T) -> Option<impl Future<Output = ()> + use<T>>
where
    T: Fn(Reread) + Send + Sync + Clone + 'static,
{
    tls.filter(|_| !files.is_empty()).map(|tls| files::keep_fresh(tls, files, tell))
}

/// Has probes keep a silent path open: a model may think for an hour, and an NLB forgets a flow after 350 s. They find a client that is gone, too.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_mins(1))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(stream, 4)?;
    Ok(())
}

impl Door {
    /// Makes a connection of a socket, to its first byte. `failing` is what it would be turned away for at the moment.
    pub(super) async fn establish(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        slots: &Arc<Slots>,
        failing: &mut TurnedAway,
    ) -> io::Result<(Connection, AddressSlot)> {
        // Events are small and must leave at once; head and body are joined by the connection's own buffer, not by Nagle's.
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        let local = stream.local_addr()?;
        let mut client = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let mut for_itself = false;
        if !self.proxy_protocol.is_empty() {
            *failing = TurnedAway::NotAProxy;
            if !is_in(&self.proxy_protocol, client.ip()) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the peer is not in `proxy_protocol`"));
            }
            *failing = TurnedAway::ProxyHeader;
            let header = ProxyHeader::read(&mut stream).await?;
            for_itself = header.client.is_none();
            client = header.client.unwrap_or(client);
        }
        *failing = TurnedAway::AddressFull;
        // A proxy brings many clients, and a balancer that looks in for itself must find the door open.
        let is_proxy = for_itself || is_in(&self.trusted_proxies, client.ip());
        let full = || io::Error::new(io::ErrorKind::QuotaExceeded, "the address has all its connections");
        let counted = if is_proxy { AddressSlot::uncounted() } else { slots.take_of(client.ip()).ok_or_else(full)? };

        *failing = TurnedAway::Handshake;
        let arrival = |shown| Arrival::new(client.ip(), Arc::clone(&self.trusted_proxies), shown);
        let mut connection = match &self.tls {
            None => Connection::plain(stream, client, local, self.header_timeout, arrival(None)),
            Some(tls) => {
                let current = tls.current();
                let stream = current.acceptor.accept(stream).await?;
                let session = stream.get_ref().1;
                let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                let judged = current.trust.as_ref().filter(|_| !resumed).map(|trust| trust.generation);
                let shown = session.peer_certificates().and_then(|certificates| Shown::new(certificates, Arc::clone(tls), judged));
                Connection::tls(stream, client, local, self.header_timeout, arrival(shown))
            }
        };
        *failing = TurnedAway::Silent;
        connection.begin().await?;
        Ok((connection, counted))
    }
}
