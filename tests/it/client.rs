//! A client that says exactly what a test wants said, byte for byte.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// No step of a test takes longer; one that would, fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// What bytes come and go through: TCP, or TLS on it.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A raw HTTP/1.1 connection.
pub(crate) struct Raw {
    stream: Box<dyn Transport>,
    buffer: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// A connection over what is connected already.
    pub(crate) fn over(stream: impl Transport + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    /// Reads so many bytes.
    pub(crate) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        self.fill(length).await.unwrap();
        self.buffer.drain(..length).collect()
    }

    /// Reads so many bytes; fewer where the connection ends before.
    pub(crate) async fn up_to(&mut self, length: usize) -> Vec<u8> {
        self.fill(length).await.unwrap_or_default();
        let length = length.min(self.buffer.len());
        self.buffer.drain(..length).collect()
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends bytes as they are; false where the peer has closed before it took them all.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        tokio::time::timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("a peer that reads").is_ok()
    }

    /// Reads one answer: by its length, its chunks, or to the end of the connection.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer before the connection ends")
    }

    /// Reads one answer; none where the connection ends before a whole head. A body that breaks off is an error of the test.
    pub(crate) async fn try_answer(&mut self) -> Option<Answer> {
        let (status, headers) = self.head().await?;
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk().await.expect("a whole chunk") {
                body.extend_from_slice(&chunk);
            }
        } else if let Some(length) = headers.get("content-length") {
            let length: usize = length.to_str().unwrap().parse().unwrap();
            self.fill(length).await.expect("a whole body");
            body = self.buffer.drain(..length).collect();
        } else if status != StatusCode::NO_CONTENT && !status.is_informational() {
            while self.more().await {}
            body = std::mem::take(&mut self.buffer);
        }
        Some(Answer { status, headers, body })
    }

    /// Reads a head, and leaves the body.
    pub(crate) async fn head(&mut self) -> Option<(StatusCode, HeaderMap)> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if !self.more().await {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value.trim()).unwrap());
        }
        Some((status, headers))
    }

    /// Reads one chunk of a chunked body; none at its proper end, an error where it breaks off.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>, &'static str> {
        let end = loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            if !self.more().await {
                return Err("the connection ended inside a body");
            }
        };
        let size = String::from_utf8(self.buffer.drain(..end + 2).collect()).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        self.fill(size + 2).await?;
        let chunk: Vec<u8> = self.buffer.drain(..size + 2).take(size).collect();
        Ok((size > 0).then_some(chunk))
    }

    /// Reads to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the peer ends the connection without another byte.
    pub(crate) async fn is_ended(&mut self) -> bool {
        self.buffer.is_empty() && !self.more().await
    }

    /// Whether the peer ends the connection within `time`, with no byte before it.
    pub(crate) async fn is_ended_within(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.is_ended()).await.unwrap_or(false)
    }

    /// Whether the connection ends before an answer with a length is whole.
    pub(crate) async fn unfinished_answer(&mut self) -> bool {
        let Some((_, headers)) = self.head().await else { return true };
        let length = headers["content-length"].to_str().unwrap().parse().unwrap();
        self.fill(length).await.is_err()
    }

    async fn fill(&mut self, length: usize) -> Result<(), &'static str> {
        while self.buffer.len() < length {
            if !self.more().await {
                return Err("the connection ended inside a body");
            }
        }
        Ok(())
    }

    /// Reads some more; false at the end, which a reset is too.
    async fn more(&mut self) -> bool {
        self.buffer.reserve(64 * 1024);
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("no byte in 30 s");
        read.is_ok_and(|n| n > 0)
    }
}

/// Waits until `condition` is true.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not in 30 s: {what}"));
}

/// An HTTP/1.1 request with a length.
pub(crate) fn post(path: &str, token: &str, extra: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{extra}\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// A Converse call with one message.
pub(crate) fn converse(text: &str) -> Vec<u8> {
    serde_json::json!({ "messages": [{ "role": "user", "content": [{ "text": text }] }] }).to_string().into_bytes()
}

/// Sends one HTTP/1.1 request on a connection of its own.
pub(crate) async fn call(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut raw = Raw::connect(address).await;
    raw.send(request).await;
    raw.answer().await
}

/// An HTTP/2 connection by prior knowledge. The task that drives it ends with it.
pub(crate) async fn h2c(address: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    h2_over(stream).await.0
}

/// An HTTP/2 connection over any stream, and the task that drives it to its end.
pub(crate) async fn h2_over<S>(stream: S) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // By default the library takes 32 KiB of small frames that wait to be read for an attack; a test's many streams of small events are none.
    let mut builder = h2::client::Builder::new();
    let (send, connection) = builder.data_frame_budget(16 * 1024 * 1024).handshake(stream).await.unwrap();
    let driven = tokio::spawn(connection);
    (send.ready().await.unwrap(), driven)
}

/// Sends one HTTP/2 request; `length` is whether its `content-length` is told.
pub(crate) async fn h2_call(send: &mut h2::client::SendRequest<Bytes>, request: Request<()>, body: Bytes) -> Answer {
    let (response, mut stream) = send.send_request(request, body.is_empty()).unwrap();
    let sending = async {
        let mut rest = body;
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len().min(64 * 1024));
            let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
            let piece = rest.split_to(room.min(rest.len()));
            if stream.send_data(piece, rest.is_empty()).is_err() {
                return;
            }
        }
    };
    let (response, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(response, sending) }).await.expect("an answer in 30 s");
    whole(response.unwrap()).await.unwrap()
}

/// Reads an HTTP/2 answer to its end.
pub(crate) async fn whole(response: Response<h2::RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = tokio::time::timeout(PATIENCE, stream.data()).await.expect("data in 30 s") {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    Ok(Answer { status: head.status, headers: head.headers, body })
}
