//! The byte stream under a connection, with a hand on it: a fault can end it, reset it, or slip bytes in before an answer.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::Version;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;

/// How a fault ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Once the answer in flight is written, without having announced it.
    AfterThis,
    /// At once, with a FIN (and no TLS `close_notify`).
    Close,
    /// At once, with a RST.
    Reset,
}

/// One connection, as the requests on it see it.
#[derive(Debug)]
pub(super) struct Connection {
    /// The how-manieth that was accepted, from 1.
    pub(super) number: u64,
    requests: AtomicU64,
    ending: Mutex<Option<Ending>>,
    asked: Notify,
    reset: AtomicBool,
    http2: AtomicBool,
    ahead: Mutex<Bytes>,
}

impl Connection {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            requests: AtomicU64::new(0),
            ending: Mutex::new(None),
            asked: Notify::new(),
            reset: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            ahead: Mutex::new(Bytes::new()),
        }
    }

    /// Counts one more request; its number on this connection, from 1.
    pub(super) fn count_request(&self, version: Version) -> u64 {
        self.http2.store(version == Version::HTTP_2, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn end(&self, how: Ending) {
        self.reset.store(how == Ending::Reset, Ordering::Release);
        *self.ending.lock() = Some(how);
        self.asked.notify_one();
    }

    /// Makes the connection's end a RST. On HTTP/2 a broken answer resets its own stream and leaves the connection to the others.
    pub(super) fn reset_on_close(&self) {
        self.reset.store(!self.http2.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Waits until a fault asks for an end.
    pub(super) async fn ending(&self) -> Ending {
        loop {
            let asked = self.ending.lock().take();
            match asked {
                Some(how) => return how,
                None => self.asked.notified().await,
            }
        }
    }

    /// Bytes to write before anything else that is written: a 1xx answer, which hyper cannot be asked for.
    pub(super) fn write_ahead(&self, bytes: Bytes) {
        *self.ahead.lock() = bytes;
    }
}

/// A socket that can be told to end with a RST when it is dropped.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Makes the drop that follows a reset.
    fn reset_on_drop(&self);
}

impl Socket for TcpStream {
    fn reset_on_drop(&self) {
        // Where that fails, the peer sees a FIN: a weaker fault, seen by the test that asked for it.
        self.set_zero_linger().unwrap_or_default();
    }
}

impl Socket for TlsStream<TcpStream> {
    fn reset_on_drop(&self) {
        self.get_ref().0.reset_on_drop();
    }
}

/// The stream that hyper reads and writes.
pub(super) struct Wire<S: Socket> {
    socket: S,
    connection: std::sync::Arc<Connection>,
}

impl<S: Socket> Wire<S> {
    pub(super) const fn new(socket: S, connection: std::sync::Arc<Connection>) -> Self {
        Self { socket, connection }
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ahead = self.connection.ahead.lock();
        while ahead.has_remaining() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &ahead))?;
            ahead.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> Drop for Wire<S> {
    fn drop(&mut self) {
        if self.connection.reset.load(Ordering::Acquire) {
            self.socket.reset_on_drop();
        }
    }
}

impl<S: Socket> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: Socket> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_ahead(cx))?;
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_ahead(cx))?;
        Pin::new(&mut self.socket).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
