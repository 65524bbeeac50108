//! A real HTTP server that says what a test wants said, and remembers what it was asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What an authorizer says: a status and a body; none to hang up; `Silence` never to answer.
#[derive(Clone)]
pub(super) enum Say {
    This(u16, Value),
    Raw(&'static str),
    HangUp,
    Silence,
    /// As the first, once told to.
    Later(Arc<Notify>),
}

/// An authorizer that says what a test wants, and remembers what it was asked.
pub(super) struct Authorizer {
    pub(super) url: String,
    /// Heads in lower case, and bodies.
    pub(super) asked: Arc<Mutex<Vec<(String, Value)>>>,
    say: Arc<Mutex<Say>>,
    pub(super) connections: Arc<AtomicUsize>,
}

impl Authorizer {
    pub(super) async fn saying(say: Say) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authorizer = Self {
            url: format!("http://{}/authorize", listener.local_addr().unwrap()),
            asked: Arc::default(),
            say: Arc::new(Mutex::new(say)),
            connections: Arc::default(),
        };
        let (asked, say, connections) = (Arc::clone(&authorizer.asked), Arc::clone(&authorizer.say), Arc::clone(&authorizer.connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&asked), Arc::clone(&say)));
            }
        });
        authorizer
    }

    /// One that knows everyone as this principal.
    pub(super) async fn knowing(principal: Value) -> Self {
        Self::saying(Say::This(200, json!({ "principal": principal }))).await
    }

    pub(super) fn asked(&self) -> Vec<Value> {
        self.asked.lock().iter().map(|(_, body)| body.clone()).collect()
    }

    pub(super) fn say(&self, say: Say) {
        *self.say.lock() = say;
    }
}

async fn serve(mut stream: TcpStream, asked: Arc<Mutex<Vec<(String, Value)>>>, say: Arc<Mutex<Say>>) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await.is_ok_and(|n| n == 0) {
                return;
            }
        };
        let head = String::from_utf8(buffer.drain(..end).collect()).unwrap().to_ascii_lowercase();
        let length: usize = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
        while buffer.len() < length {
            stream.read_buf(&mut buffer).await.unwrap();
        }
        let body: Vec<u8> = buffer.drain(..length).collect();
        asked.lock().push((head, serde_json::from_slice(&body).unwrap()));
        let say = say.lock().clone();
        let (status, text) = match say {
            Say::This(status, body) => (status, body.to_string()),
            Say::Raw(text) => (200, text.to_owned()),
            Say::HangUp => return,
            Say::Silence => std::future::pending().await,
            Say::Later(told) => {
                told.notified().await;
                (200, json!({ "principal": { "tenant": "acme" } }).to_string())
            }
        };
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nlocation: /elsewhere\r\n\r\n{text}", text.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}
