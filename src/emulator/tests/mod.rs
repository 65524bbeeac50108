//! The emulator over real sockets, and its signatures against botocore's.

mod billing;
mod breaking;
mod logging;
mod operations;
mod sdk;
mod shapes;
mod signatures;
mod watching;

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const CONVERSE: &str = r#"{"messages":[{"role":"user","content":[{"text":"one two three"}]}]}"#;

async fn emulator() -> Emulator {
    Emulator::start(Options::default()).await.unwrap()
}

/// An HTTP/1.1 request, signed by the SDK's own signer; `extra` headers are sent and not signed.
fn signed(method: &str, target: &str, extra: &[(&str, &str)], body: &str) -> String {
    let credentials = aws_credential_types::Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None, None, "test");
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("bedrock")
        .time(crate::domain::Clock::System.wall())
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let host = "bedrock-runtime.us-east-1.amazonaws.com";
    let url = format!("http://{host}{target}");
    let headers = [("content-type", "application/json")];
    let signable = SignableRequest::new(method, url, headers.into_iter(), SignableBody::Bytes(body.as_bytes())).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    let mut request =
        format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in instructions.headers().chain(extra.iter().copied()) {
        request = request + name + ": " + value + "\r\n";
    }
    request + "\r\n" + body
}

/// A keep-alive connection that speaks HTTP/1.1 in raw bytes.
struct Peer(TcpStream);

/// An answer: its head, and its body freed of chunks.
#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answered {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Peer {
    async fn to(emulator: &Emulator) -> Self {
        Self(TcpStream::connect(emulator.address()).await.unwrap())
    }

    async fn ask(&mut self, request: &str) -> std::io::Result<Answered> {
        self.0.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = Vec::new();
        if let Some((_, rest)) = head.split_once("content-length: ") {
            body.resize(rest.split("\r\n").next().unwrap().parse().unwrap(), 0);
            self.0.read_exact(&mut body).await?;
        } else if head.contains("transfer-encoding: chunked") {
            while let Some(chunk) = self.chunk().await? {
                body.extend(chunk);
            }
        }
        Ok(Answered { status, head, body })
    }

    /// The next chunk; `None` for the last.
    async fn chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            size.push(self.0.read_u8().await?);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.0.read_exact(&mut chunk).await?;
        chunk.truncate(size);
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }
}

async fn ask(emulator: &Emulator, target: &str, fault: &str, body: &str) -> std::io::Result<Answered> {
    let extra: Vec<_> = Some(("x-emulator-fault", fault)).filter(|_| !fault.is_empty()).into_iter().collect();
    Peer::to(emulator).await.ask(&signed("POST", target, &extra, body)).await
}
