//! How does a request arrive?
//!
//! The room owns the sockets: it accepts, shakes hands, and hands on a [`Connection`] on which every wait for a client's first bytes has an
//! end. It accepts by itself rather than through Pingora's own server, because that one can neither bound those waits nor be stopped
//! without sleeping out its grace period (docs/decisions/0001-own-accept-loop.md). What arrives over plain and TLS looks the same from here on.

mod arrival;
mod certificate;
mod connection;
mod files;
mod pace;
mod proxy_header;
mod slots;
mod tls;
mod trust;
mod turn_away;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::arrival::{Shown, is_in};
use self::files::Files;
use self::slots::AddressSlot;
use self::tls::Shared;
use crate::config::listeners::Listener as Config;
use crate::domain::{Reread, TurnedAway};

pub use arrival::Arrival;
pub use certificate::read as read_certificate;
pub use connection::Connection;
pub use proxy_header::{ProxyHeader, ProxyHeaderError};
pub use slots::Slots;
pub use tls::TlsError;

/// How long accepting rests after the system refused a socket (out of descriptors): long enough not to spin, short enough not to be felt.
const REST: Duration = Duration::from_millis(50);

/// What went wrong before the first connection.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}; is another process using it?")]
    Bind {
        /// The address as configured.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A bound socket that has not begun to accept.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    slots: Arc<Slots>,
    door: Arc<Door>,
    /// What is read again when it changes.
    files: Vec<Files>,
}

/// How a socket becomes a connection.
struct Door {
    tls: Option<Arc<Shared>>,
    proxy_protocol: Vec<IpNet>,
    trusted_proxies: Arc<[IpNet]>,
    slots: Arc<Slots>,
    header_timeout: Duration,
}

impl Listener {
    /// Binds the socket and reads its certificates. `header_timeout` bounds a new connection's PROXY header, TLS handshake and the wait for its first
    /// byte, all together; and each request head from its first byte.
    ///
    /// # Errors
    /// Where the address is taken, or a certificate or key file can't be read or does not fit its other half.
    pub fn bind(config: &Config, header_timeout: Duration) -> Result<Self, ListenError> {
        let (tls, files) = match &config.tls {
            None => (None, Vec::new()),
            Some(tls) => {
                // Looked at before they are read, so that no change is missed.
                let files = tls::files(tls);
                (Some(Arc::new(Shared::load(tls)?)), files)
            }
        };
        let bind = || {
            let socket = std::net::TcpListener::bind(config.address)?;
            socket.set_nonblocking(true)?;
            let socket = TcpListener::from_std(socket)?;
            let address = socket.local_addr()?;
            Ok((socket, address))
        };
        let (socket, address) = bind().map_err(|source| ListenError::Bind { address: config.address, source })?;
        let slots = Slots::new(config.max_connections, config.max_connections_per_address);
        let door = Door {
            tls,
            proxy_protocol: config.proxy_protocol.clone(),
            trusted_proxies: config.trusted_proxies.as_slice().into(),
            slots: Arc::clone(&slots),
            header_timeout,
        };
        Ok(Self { socket, address, slots, door: Arc::new(door), files })
    }

    /// Where it listens: the real port, where the configuration left it to the system.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.door.tls.is_some()
    }

    /// Its connections.
    #[must_use]
    pub const fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// Reads certificate files again when they change, for ever; `tell` hears what became of each change. None without TLS, and when asked again.
    pub fn keep_fresh<T>(&mut self, tell: T) -> Option<impl Future<Output = ()> + use<T>>
    where
        T: Fn(Reread) + Send + Sync + Clone + 'static,
    {
        let tls = self.door.tls.clone()?;
        let files = std::mem::take(&mut self.files);
        (!files.is_empty()).then(|| files::keep_fresh(tls, files, tell))
    }

    /// Accepts until `stop`, and gives each connection to `handle` in a task of its own, tracked by `tasks`. `tell` hears of connections that are closed
    /// before that.
    ///
    /// Beyond its bounds a connection is closed at once; a plain one is told why, as far as that takes no time. To leave it waiting would hide from load
    /// balancer and client that there is no room. A
    /// connection that has said nothing by `stop` is dropped: it holds up no drain.
    pub async fn serve<H, F>(
        self,
        handle: Arc<H>,
        tell: impl Fn(TurnedAway) + Send + Sync + Clone + 'static,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) where
        H: Fn(Connection) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(slot) = self.slots.take() else {
                        if self.door.tls.is_none() {
                            turn_away::politely(stream);
                        }
                        tell(TurnedAway::Full);
                        continue;
                    };
                    let (handle, door, tell, stop) = (Arc::clone(&handle), Arc::clone(&self.door), tell.clone(), stop.clone());
                    tasks.spawn(async move {
                        let mut failing = TurnedAway::Silent;
                        let establishing = tokio::time::timeout(door.header_timeout, door.establish(stream, peer, &mut failing));
                        let arrived = tokio::select! {
                            biased;
                            arrived = establishing => arrived,
                            () = stop.cancelled() => return,
                        };
                        match arrived {
                            Ok(Ok((connection, _counted))) => handle(connection).await,
                            Ok(Err(error)) => {
                                tell(failing);
                                tracing::debug!(%peer, %error, at = failing.label(), "no connection");
                            }
                            Err(_) => {
                                tell(failing);
                                tracing::debug!(%peer, at = failing.label(), "no connection in time");
                            }
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tell(TurnedAway::NoSocket);
                    tracing::warn!(address = %self.address, %error, "accept failed");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}

impl Door {
    /// Makes a connection of a socket, to its first byte. `failing` is what it would be turned away for at the moment.
    async fn establish(&self, mut stream: TcpStream, peer: SocketAddr, failing: &mut TurnedAway) -> io::Result<(Connection, AddressSlot)> {
        // Events are small and must leave at once; head and body are joined by the connection's own buffer, not by Nagle's.
        stream.set_nodelay(true)?;
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
        let counted = if is_proxy { AddressSlot::uncounted() } else { self.slots.take_of(client.ip()).ok_or_else(full)? };

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
