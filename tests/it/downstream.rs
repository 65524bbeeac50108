//! A client that comes by any of the ways there are, and sees an answer piece by piece as it arrives.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{Answer, PATIENCE, Raw, Transport, h2_call};
use crate::world::World;

/// How a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Http1,
    H2c,
    TlsHttp1,
    TlsHttp2,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Http1, Self::H2c, Self::TlsHttp1, Self::TlsHttp2];

    pub(crate) const fn is_http2(self) -> bool {
        matches!(self, Self::H2c | Self::TlsHttp2)
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: http::Method,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    chunked: bool,
}

impl Ask {
    pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Self {
        let json = ("content-type".to_owned(), "application/json".to_owned());
        Self { method: http::Method::POST, path: path.to_owned(), headers: vec![json], body: body.into(), chunked: false }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self { method: http::Method::GET, path: path.to_owned(), headers: Vec::new(), body: Bytes::new(), chunked: false }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// What the emulator is to do wrong.
    pub(crate) fn fault(self, specs: &str) -> Self {
        if specs.is_empty() { self } else { self.header("x-emulator-fault", specs) }
    }

    /// Without a length: in chunks over HTTP/1.1.
    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// On the wire of HTTP/1.1.
    pub(crate) fn wire(&self) -> Vec<u8> {
        let headers: Vec<String> = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let framed = !self.body.is_empty() || self.method == http::Method::POST;
        let length = match (framed, self.chunked) {
            (_, true) => "transfer-encoding: chunked\r\n".to_owned(),
            (true, false) => format!("content-length: {}\r\n", self.body.len()),
            (false, false) => String::new(),
        };
        let wire = format!("{} {} HTTP/1.1\r\nhost: gateway\r\n{}{length}\r\n", self.method, self.path, headers.concat());
        let mut wire = wire.into_bytes();
        if self.chunked {
            for chunk in self.body.chunks(10_000) {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
        } else {
            wire.extend_from_slice(&self.body);
        }
        wire
    }

    /// On HTTP/2: the head and the body.
    pub(crate) fn parts(&self) -> (http::Request<()>, Bytes) {
        (self.request(), self.body.clone())
    }

    fn request(&self) -> http::Request<()> {
        let mut request = http::Request::builder().method(self.method.clone()).uri(format!("http://gateway{}", self.path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if !self.body.is_empty() && !self.chunked {
            request = request.header("content-length", self.body.len());
        }
        request.body(()).unwrap()
    }
}

/// A connection to a gateway.
pub(crate) enum Client {
    Http1(Raw),
    Http2(h2::client::SendRequest<Bytes>),
}

impl Client {
    pub(crate) async fn connect(world: &World, way: Way) -> Self {
        match way {
            Way::Http1 => Self::Http1(Raw::connect(world.plain).await),
            Way::H2c => Self::Http2(http2(tcp(world.plain).await).await),
            Way::TlsHttp1 => Self::Http1(Raw::over(tls(world, "http/1.1").await)),
            Way::TlsHttp2 => Self::Http2(http2(tls(world, "h2").await).await),
        }
    }

    /// Sends a request and reads its answer whole; the connection is kept.
    pub(crate) async fn call(&mut self, ask: &Ask) -> Answer {
        match self {
            Self::Http1(raw) => {
                raw.send(ask.wire()).await;
                raw.answer().await
            }
            Self::Http2(send) => h2_call(send, ask.request(), ask.body.clone()).await,
        }
    }

    /// Sends a request, and waits for nothing. Its body must fit into the first window of HTTP/2, 64 KiB.
    pub(crate) async fn send(self, ask: &Ask) -> Opening {
        match self {
            Self::Http1(mut raw) => {
                raw.send(ask.wire()).await;
                Opening::Http1(raw)
            }
            Self::Http2(mut send) => {
                let (response, mut stream) = send.send_request(ask.request(), ask.body.is_empty()).unwrap();
                if !ask.body.is_empty() {
                    stream.send_data(ask.body.clone(), true).unwrap();
                }
                Opening::Http2 { send, response, stream }
            }
        }
    }
}

/// Sends one request on a connection of its own and reads its answer whole.
pub(crate) async fn call(world: &World, way: Way, ask: &Ask) -> Answer {
    Client::connect(world, way).await.call(ask).await
}

/// Sends one request on a connection of its own and reads its answer's head.
pub(crate) async fn open(world: &World, way: Way, ask: &Ask) -> Incoming {
    Client::connect(world, way).await.send(ask).await.head().await
}

/// An answer that is waited for.
pub(crate) enum Opening {
    Http1(Raw),
    Http2 { send: h2::client::SendRequest<Bytes>, response: h2::client::ResponseFuture, stream: h2::SendStream<Bytes> },
}

impl Opening {
    /// The answer, once its final head is here.
    pub(crate) async fn head(self) -> Incoming {
        match self {
            Self::Http1(mut raw) => loop {
                let (status, headers) = raw.head().await.expect("a head before the connection ends");
                if !status.is_informational() {
                    return Incoming { status, headers, body: Body::Http1(raw) };
                }
            },
            Self::Http2 { send, response, stream } => {
                let response = tokio::time::timeout(PATIENCE, response).await.expect("a head in 30 s").unwrap();
                let (head, body) = response.into_parts();
                Incoming { status: head.status, headers: head.headers, body: Body::Http2 { send, stream, body } }
            }
        }
    }

    /// The same; none where the connection or the stream ends before there is one.
    pub(crate) async fn try_head(self) -> Option<Incoming> {
        match self {
            Self::Http1(mut raw) => loop {
                let (status, headers) = raw.head().await?;
                if !status.is_informational() {
                    return Some(Incoming { status, headers, body: Body::Http1(raw) });
                }
            },
            Self::Http2 { send, response, stream } => {
                let response = tokio::time::timeout(PATIENCE, response).await.expect("a head in 30 s").ok()?;
                let (head, body) = response.into_parts();
                Some(Incoming { status: head.status, headers: head.headers, body: Body::Http2 { send, stream, body } })
            }
        }
    }

    /// The client loses interest: the connection ends, or, on HTTP/2, the stream is cancelled on a connection that stays as long as what is returned.
    pub(crate) fn leave(self) -> Option<h2::client::SendRequest<Bytes>> {
        match self {
            Self::Http1(_) => None,
            Self::Http2 { send, mut stream, response } => {
                stream.send_reset(h2::Reason::CANCEL);
                drop((stream, response));
                Some(send)
            }
        }
    }
}

/// An answer that arrives.
pub(crate) struct Incoming {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Body,
}

enum Body {
    Http1(Raw),
    Http2 { send: h2::client::SendRequest<Bytes>, stream: h2::SendStream<Bytes>, body: h2::RecvStream },
}

/// How an answer was broken off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The connection ended inside a chunked body.
    NoLastChunk,
    /// `RST_STREAM`.
    Reset,
}

impl Incoming {
    /// The next bytes of a body whose length nobody tells; none at its proper end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        match &mut self.body {
            Body::Http1(raw) => raw.chunk().await.map_err(|_| Broken::NoLastChunk),
            Body::Http2 { body, .. } => match tokio::time::timeout(PATIENCE, body.data()).await.expect("data in 30 s") {
                None => Ok(None),
                Some(Ok(piece)) => {
                    body.flow_control().release_capacity(piece.len()).unwrap();
                    Ok(Some(piece.to_vec()))
                }
                Some(Err(error)) => {
                    assert!(error.is_reset() && error.is_remote(), "the stream is reset, and its connection stays: {error}");
                    Err(Broken::Reset)
                }
            },
        }
    }

    /// Reads until `length` bytes are here: all that were sent, where nothing is held back.
    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut got = Vec::new();
        while got.len() < length {
            got.extend_from_slice(&self.piece().await.expect("a whole stream").expect("more of the stream"));
        }
        got
    }

    /// Reads to the end, and tells how it ended.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, Result<(), Broken>) {
        let mut got = Vec::new();
        loop {
            match self.piece().await {
                Ok(Some(piece)) => got.extend_from_slice(&piece),
                Ok(None) => return (got, Ok(())),
                Err(broken) => return (got, Err(broken)),
            }
        }
    }

    /// Reads to the end, by the length where one is told, and tells how it ended; with the connection, where it may carry another request.
    pub(crate) async fn whole(mut self) -> (Vec<u8>, Result<(), Broken>, Option<Client>) {
        let length = self.headers.get("content-length").map(|length| length.to_str().unwrap().parse().unwrap());
        let (got, end) = match (&mut self.body, length) {
            (Body::Http1(raw), Some(length)) => {
                let got = raw.up_to(length).await;
                let end = if got.len() == length { Ok(()) } else { Err(Broken::NoLastChunk) };
                (got, end)
            }
            _ => self.rest().await,
        };
        let keeps = end.is_ok() && self.headers.get("connection").is_none_or(|value| value != "close");
        let client = match self.body {
            Body::Http1(raw) => keeps.then_some(Client::Http1(raw)),
            Body::Http2 { send, .. } => Some(Client::Http2(send)),
        };
        (got, end, client)
    }

    /// See [`Opening::leave`].
    pub(crate) fn leave(self) -> Option<h2::client::SendRequest<Bytes>> {
        match self.body {
            Body::Http1(_) => None,
            Body::Http2 { send, mut stream, body } => {
                // Its request is whole: `h2` sends the CANCEL when the last handle of the stream goes.
                stream.send_reset(h2::Reason::CANCEL);
                drop((stream, body));
                Some(send)
            }
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("status", &self.status).field("headers", &self.headers).finish_non_exhaustive()
    }
}

async fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    // As every SDK's client does: else a head waits for its acknowledgement before the body follows.
    stream.set_nodelay(true).unwrap();
    stream
}

async fn tls(world: &World, protocol: &str) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(world.ca_pem.as_bytes()).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let server = "localhost".try_into().unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(server, tcp(world.tls).await).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
    stream
}

async fn http2(stream: impl Transport + 'static) -> h2::client::SendRequest<Bytes> {
    // The connection's window is hyper's, and so of all clients that stand on it. With the bare 64 KiB, `h2` ends a connection on which some 130 tiny
    // frames lie unread (its budget for them is half of the window): the gateway passes on every piece as it comes, however small.
    let (send, connection) = h2::client::Builder::new().initial_connection_window_size(5 * 1024 * 1024).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}
