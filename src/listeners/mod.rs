//! How does a request arrive?
//!
//! The room owns the sockets: it accepts, shakes hands, and hands on a [`Connection`] on which every wait for a client's first bytes has an
//! end. It accepts by itself rather than through Pingora's own server, because that one can neither bound those waits nor be stopped
//! without sleeping out its grace period (docs/decisions/0001-own-accept-loop.md). What arrives over plain and TLS looks the same from here on.

mod arrival;
mod certificate;
mod connection;
mod entrance;
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

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::entrance::fresh;
use self::files::Files;
use crate::domain::{Reread, TurnedAway};

pub use arrival::Arrival;
pub use certificate::read as read_certificate;
pub use connection::{Connection, Idleness};
pub use entrance::{Entrance, Prepared};
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
    entrance: Entrance,
    /// What is read again when it changes.
    files: Vec<Files>,
}

/// Binds `address`.
///
/// # Errors
/// Where it is taken, or is none of this machine's.
pub fn bind(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    std::net::TcpListener::bind(address).map_err(|source| ListenError::Bind { address, source })
}

impl Listener {
    /// Takes a socket that listens. Call it on a runtime.
    ///
    /// # Errors
    /// Where the runtime can't have the socket.
    pub fn on(socket: std::net::TcpListener, prepared: Prepared) -> Result<Self, ListenError> {
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let address = socket.local_addr().map_err(|source| ListenError::Bind { address: unspecified, source })?;
        let ours = || {
            // A blocking one would hold up a worker in every `accept`; who passed it may have left it so.
            socket.set_nonblocking(true)?;
            TcpListener::from_std(socket)
        };
        let socket = ours().map_err(|source| ListenError::Bind { address, source })?;
        let Prepared { door, files, max_connections, max_connections_per_address } = prepared;
        let slots = Slots::new(max_connections, max_connections_per_address);
        Ok(Self { socket, entrance: Entrance { address, slots, door: Arc::new(ArcSwap::from_pointee(door)) }, files })
    }

    /// What it is known by while it serves.
    #[must_use]
    pub const fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    /// Reads certificate files again when they change, for ever; `tell` hears what became of each change. None without TLS, and when asked again.
    pub fn keep_fresh<T>(&mut self, tell: T) -> Option<impl Future<Output = ()> + use<T>>
    where
        T: Fn(Reread) + Send + Sync + Clone + 'static,
    {
        fresh(self.entrance.door.load().tls.clone(), std::mem::take(&mut self.files), tell)
    }

    /// Accepts until `stop`, and gives each connection to `handle` in a task of its own, tracked by `tasks`. `tell` hears of connections that are closed
    /// before that.
    ///
    /// Beyond its bounds a connection is closed at once; a plain one is told why, as far as that takes no time. To leave it waiting would hide from load
    /// balancer and client that there is no room. A connection that has said nothing by `quit` is dropped: it holds up no drain.
    pub async fn serve<H, F>(
        self,
        handle: Arc<H>,
        tell: impl Fn(TurnedAway) + Send + Sync + Clone + 'static,
        tasks: TaskTracker,
        stop: CancellationToken,
        quit: CancellationToken,
    ) where
        H: Fn(Connection) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let Entrance { address, slots, door } = self.entrance;
        loop {
            let accepted = tokio::select! {
                // First: what comes after it is for whoever has the socket next.
                biased;
                () = stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(slot) = slots.take() else {
                        if door.load().tls.is_none() {
                            turn_away::politely(stream);
                        }
                        tell(TurnedAway::Full);
                        continue;
                    };
                    let (handle, door, slots) = (Arc::clone(&handle), door.load_full(), Arc::clone(&slots));
                    let (tell, quit) = (tell.clone(), quit.clone());
                    tasks.spawn(async move {
                        let mut failing = TurnedAway::Silent;
                        let establishing = tokio::time::timeout(door.header_timeout, door.establish(stream, peer, &slots, &mut failing));
                        let arrived = tokio::select! {
                            biased;
                            arrived = establishing => arrived,
                            () = quit.cancelled() => return,
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
                    tracing::warn!(%address, %error, "accept failed");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}
