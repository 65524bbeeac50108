//! A client's connection: bytes with an end to every wait, and with small writes joined.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use pingora::http::ResponseHeader;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::arrival::Arrival;
use super::pace::{Pace, Phase};

/// What a client with HTTP/2 sends first (RFC 9113, section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Writes are joined up to so many bytes: a whole small answer, head and body, leaves in one `send`. Pingora flushes after every part of a stream,
/// so nothing waits here.
const WRITE_BUFFER: usize = 16 * 1024;

/// An emptied write buffer larger than this is given back: a stream that waits for its next event holds no more.
const KEPT_BUFFER: usize = 4 * 1024;

/// What a client still sends when the gateway ends the connection (the rest of a refused body) is read and dropped for so long. Closing on it at
/// once would reset the connection, and the client would lose what it was told.
const LINGER: Duration = Duration::from_secs(5);

/// The bytes that may be read before a head is whole: 64 KiB of head (what HTTP/2 may send, too), and one read beyond it.
const HEAD_MAX: usize = 128 * 1024;

/// A client's connection, plain or TLS.
pub struct Connection {
    transport: Transport,
    peeked: Bytes,
    written: Vec<u8>,
    pace: Arc<Pace>,
    head_bytes: usize,
    header_timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// The gateway has said its last.
    lingers: bool,
    socket: Arc<SocketDigest>,
    /// The [`Arrival`], where Pingora hands it on.
    arrival: Arc<ProxyDigest>,
    tls: Option<Arc<SslDigest>>,
    alpn: Option<ALPN>,
    established: SystemTime,
}

/// Whether a connection carries a request.
#[derive(Clone, Debug)]
pub struct Idleness(Arc<Pace>);

impl Idleness {
    /// Whether it waits between two requests of HTTP/1.1. HTTP/2 ends by itself once it was told to.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.phase() == Phase::Idle
    }
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn plain(stream: TcpStream, peer: SocketAddr, local: SocketAddr, header_timeout: Duration, arrival: Arrival) -> Self {
        let socket = digest(&stream, peer, local);
        Self::new(Transport::Plain(stream), socket, header_timeout, arrival)
    }

    pub(super) fn tls(
        stream: TlsStream<TcpStream>,
        peer: SocketAddr,
        local: SocketAddr,
        header_timeout: Duration,
        arrival: Arrival,
    ) -> Self {
        let (tcp, session) = stream.get_ref();
        let socket = digest(tcp, peer, local);
        let alpn = session.alpn_protocol().map(|protocol| if protocol == b"h2" { ALPN::H2 } else { ALPN::H1 });
        let cipher = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("");
        let version = session.protocol_version().and_then(|version| version.as_str()).unwrap_or("");
        let tls = SslDigest::new(cipher, version, None, None, Vec::new());
        let mut connection = Self::new(Transport::Tls(Box::new(stream)), socket, header_timeout, arrival);
        connection.tls = Some(Arc::new(tls));
        connection.alpn = alpn;
        connection
    }

    fn new(transport: Transport, socket: SocketDigest, header_timeout: Duration, arrival: Arrival) -> Self {
        let nothing = Box::new(ResponseHeader::from(http::Response::new(()).into_parts().0));
        Self {
            transport,
            peeked: Bytes::new(),
            written: Vec::new(),
            pace: Arc::new(Pace::new()),
            head_bytes: 0,
            header_timeout,
            timer: None,
            lingers: false,
            socket: Arc::new(socket),
            arrival: Arc::new(ProxyDigest::new(nothing, Some(Box::new(arrival)))),
            tls: None,
            alpn: None,
            #[expect(clippy::disallowed_methods, reason = "told to Pingora's timing digest; nothing is decided by it")]
            established: SystemTime::now(),
        }
    }

    /// Waits for the first bytes, and keeps them for whoever reads. A client that leaves before them is an error.
    pub(super) async fn begin(&mut self) -> io::Result<()> {
        let mut first = [0; H2_PREFACE.len()];
        let n = self.read(&mut first).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.peeked = Bytes::copy_from_slice(first.get(..n).unwrap_or_default());
        Ok(())
    }

    /// A request's head is whole: from here on its exchange keeps the time.
    pub fn begin_exchange(&self) {
        self.pace.enter(Phase::Serving);
    }

    /// The exchange is over and all of its body was read: the next byte begins another head.
    pub fn end_exchange(&self) {
        self.pace.enter(Phase::Idle);
    }

    /// Tells whether it carries a request, also while someone else has the connection.
    #[must_use]
    pub fn idleness(&self) -> Idleness {
        Idleness(Arc::clone(&self.pace))
    }

    /// Ends the wait for a client that has begun a head and not finished it in time.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.header_timeout)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the request's head did not arrive within `firewall.header_timeout`"))
    }

    /// Reads and drops to the peer's end, at most for [`LINGER`].
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.lingers {
            self.lingers = true;
            self.timer = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        let mut dropped = [0; 8 * 1024];
        loop {
            let mut buf = ReadBuf::new(&mut dropped);
            match self.poll_transport_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        self.timer.as_mut().map_or(Poll::Ready(()), |timer| timer.as_mut().poll(cx))
    }

    fn poll_transport_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }

    fn poll_transport_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut done = 0;
        while let Some(rest) = self.written.get(done..).filter(|rest| !rest.is_empty()) {
            // Borrowed apart from `self` only for the call: a partial write keeps the rest.
            let written = match &mut self.transport {
                Transport::Plain(stream) => Pin::new(stream).poll_write(cx, rest),
                Transport::Tls(stream) => Pin::new(stream).poll_write(cx, rest),
            };
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => done += n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.written.drain(..done.min(self.written.len()));
                    return Poll::Pending;
                }
            }
        }
        if self.written.capacity() > KEPT_BUFFER {
            self.written = Vec::new();
        } else {
            self.written.clear();
        }
        Poll::Ready(Ok(()))
    }
}

fn digest(stream: &TcpStream, peer: SocketAddr, local: SocketAddr) -> SocketDigest {
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // Both cells are empty: the digest is new.
    let _ = digest.peer_addr.set(Some(PingoraAddr::Inet(peer)));
    let _ = digest.local_addr.set(Some(PingoraAddr::Inet(local)));
    digest
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.peeked.is_empty() {
            let n = this.peeked.len().min(buf.remaining());
            buf.put_slice(this.peeked.get(..n).unwrap_or_default());
            this.peeked.advance(n);
            return Poll::Ready(Ok(()));
        }
        let phase = this.pace.phase();
        if matches!(phase, Phase::Serving | Phase::Http2) {
            if this.timer.is_some() {
                this.timer = None;
            }
            this.head_bytes = 0;
            return this.poll_transport_read(cx, buf);
        }
        let before = buf.filled().len();
        match this.poll_transport_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let read = buf.filled().len() - before;
                if phase != Phase::Head && read > 0 {
                    // The time for the head begins with its first byte.
                    this.timer = None;
                    this.head_bytes = 0;
                    this.pace.enter(Phase::Head);
                }
                this.head_bytes += read;
                if this.head_bytes >= H2_PREFACE.len() && matches!(this.alpn, Some(ALPN::H2)) {
                    // From here on HTTP/2 has its own bounds (h2_idle_timeout, stream limits).
                    this.pace.enter(Phase::Http2);
                    return Poll::Ready(Ok(()));
                }
                if this.head_bytes > HEAD_MAX {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the request's head is too large")));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending if phase == Phase::Idle => Poll::Pending,
            Poll::Pending => this.poll_deadline(cx).map(Err),
            error @ Poll::Ready(Err(_)) => error,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.written.len() + buf.len() > WRITE_BUFFER {
            ready!(this.poll_write_out(cx))?;
        }
        if buf.len() >= WRITE_BUFFER {
            return this.poll_transport_write(cx, buf);
        }
        this.written.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        match &mut self.transport {
            Transport::Plain(_) => Poll::Ready(Ok(())),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.lingers {
            ready!(self.poll_write_out(cx))?;
            ready!(match &mut self.transport {
                Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
                Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            })?;
        }
        // Between two requests there is nothing to wait for, and HTTP/2 says of each stream how far it was read.
        if matches!(self.pace.phase(), Phase::Head | Phase::Serving) {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Peek for Connection {
    /// Fills `buf` with the connection's first bytes as long as they could be the HTTP/2 preface, and puts them back. It stops at the first byte
    /// that differs, so that a request shorter than the preface is not waited upon for ever.
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        let mut got = 0;
        while let Some(room) = buf.get_mut(got..).filter(|room| !room.is_empty()) {
            let n = self.read(room).await?;
            got += n;
            let matches = H2_PREFACE.get(..got) == buf.get(..got);
            if n == 0 || !matches {
                break;
            }
        }
        let seen = buf.get(..got).unwrap_or_default();
        if seen == H2_PREFACE {
            self.pace.enter(Phase::Http2);
        }
        self.peeked = Bytes::copy_from_slice(seen);
        Ok(true)
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        // The peer may be gone already; there is nobody left to tell.
        drop(AsyncWriteExt::shutdown(self).await);
    }
}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        match &self.transport {
            Transport::Plain(stream) => stream.as_raw_fd(),
            Transport::Tls(stream) => stream.get_ref().0.as_raw_fd(),
        }
    }
}

impl Ssl for Connection {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.tls.clone()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.alpn.clone()
    }
}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest { established_ts: self.established, ..TimingDigest::default() })]
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.arrival))
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id()).field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}
