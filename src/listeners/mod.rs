//! How does a request arrive?
//!
//! The room owns the sockets: it accepts, shakes hands, and hands on a [`Connection`] on which every wait for a client's first bytes has an
//! end. It accepts by itself rather than through Pingora's own server, because that one can neither bound those waits nor be stopped
//! without sleeping out its grace period (docs/decisions/0001-own-accept-loop.md). What arrives over plain and TLS looks the same from here on.

mod connection;
mod pace;
mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::listeners::Listener as Config;

pub use connection::Connection;
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
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Binds the socket and reads its certificates.
    ///
    /// # Errors
    /// Where the address is taken, or a certificate or key file can't be read or does not fit its other half.
    pub fn bind(config: &Config) -> Result<Self, ListenError> {
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let bind = || {
            let socket = std::net::TcpListener::bind(config.address)?;
            socket.set_nonblocking(true)?;
            let socket = TcpListener::from_std(socket)?;
            let address = socket.local_addr()?;
            Ok((socket, address))
        };
        let (socket, address) = bind().map_err(|source| ListenError::Bind { address: config.address, source })?;
        Ok(Self { socket, address, tls })
    }

    /// Where it listens: the real port, where the configuration left it to the system.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Accepts until `stop`, and gives each connection to `handle` in a task of its own, tracked by `tasks`.
    ///
    /// `header_timeout` bounds a new connection's TLS handshake and the wait for its first byte, and each request head from its first byte. A
    /// connection that has said nothing by `stop` is dropped: it holds up no drain.
    pub async fn serve<H, F>(self, header_timeout: Duration, handle: Arc<H>, tasks: TaskTracker, stop: CancellationToken)
    where
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
                    let handle = Arc::clone(&handle);
                    let tls = self.tls.clone();
                    let stop = stop.clone();
                    tasks.spawn(async move {
                        let establishing = tokio::time::timeout(header_timeout, establish(stream, peer, tls, header_timeout));
                        let arrived = tokio::select! {
                            biased;
                            arrived = establishing => arrived,
                            () = stop.cancelled() => return,
                        };
                        match arrived {
                            Ok(Ok(connection)) => handle(connection).await,
                            Ok(Err(error)) => tracing::debug!(%peer, %error, "no handshake, or nothing after it"),
                            Err(_) => tracing::debug!(%peer, "no handshake in time, or nothing after it"),
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, "accept failed");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}

async fn establish(stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, header_timeout: Duration) -> io::Result<Connection> {
    // Events are small and must leave at once; head and body are joined by the connection's own buffer, not by Nagle's.
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let mut connection = match tls {
        None => Connection::plain(stream, peer, local, header_timeout),
        Some(acceptor) => Connection::tls(acceptor.accept(stream).await?, peer, local, header_timeout),
    };
    connection.begin().await?;
    Ok(connection)
}
