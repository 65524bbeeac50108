//! Listeners and connections: who owns which task.
//!
//! A listener's task owns its connections' tasks, and a connection's task owns those of its HTTP/2 streams; so dropping the emulator ends all.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::serve::serve;
use super::state::State;
use super::wire::{Connection, Ending, Socket, Wire};

/// How many connections a listener holds; one more is closed at once.
const MOST_CONNECTIONS: usize = 50_000;
/// How many streams an HTTP/2 connection may have open.
const MOST_STREAMS: u32 = 1_000;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait before accepting again where the system has no more descriptors.
const NO_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Accepts until it is dropped.
pub(super) async fn listen(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>, accepted: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(NO_DESCRIPTORS).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if connections.len() >= MOST_CONNECTIONS {
            continue;
        }
        let number = accepted.fetch_add(1, Ordering::Relaxed) + 1;
        connections.spawn(attend(stream, tls.clone(), Arc::new(Connection::new(number)), Arc::clone(&state)));
    }
}

async fn attend(stream: TcpStream, tls: Option<TlsAcceptor>, connection: Arc<Connection>, state: Arc<State>) {
    // Events are small and must leave at once.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    match tls {
        None => converse(stream, connection, state).await,
        Some(acceptor) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                converse(stream, connection, state).await;
            }
        }
    }
}

async fn converse<S: Socket + Send + 'static>(socket: S, connection: Arc<Connection>, state: Arc<State>) {
    let streams = Streams::default();
    let owner = Owner(streams.clone());
    let mut http = auto::Builder::new(streams);
    http.http2().max_concurrent_streams(MOST_STREAMS);
    let service = service_fn(|request| serve(Arc::clone(&state), Arc::clone(&connection), request));
    let mut serving = pin!(http.serve_connection(TokioIo::new(Wire::new(socket, Arc::clone(&connection))), service));
    loop {
        tokio::select! {
            // A peer's mistakes and departures are its own; what they broke is noted with the request.
            _ = serving.as_mut() => break,
            ending = connection.ending() => match ending {
                Ending::AfterThis => serving.as_mut().graceful_shutdown(),
                Ending::Close | Ending::Reset => break,
            },
        }
    }
    drop(owner);
}

/// Where hyper spawns the tasks of one connection's HTTP/2 streams.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut streams = self.0.lock();
        while streams.try_join_next().is_some() {}
        streams.spawn(async move {
            stream.await;
        });
    }
}

/// Ends the streams with their connection.
struct Owner(Streams);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.0.lock().abort_all();
    }
}
