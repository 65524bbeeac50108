//! An upstream that says exactly what a test wants said, byte for byte, where the emulator is too well-behaved.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::PATIENCE;
use crate::world::{Setting, World};

/// A listener on loopback, and a gateway that takes it for Bedrock.
pub(crate) struct Scripted {
    pub(crate) world: World,
    listener: TcpListener,
}

impl Scripted {
    /// `yaml` is more of gateway.yaml, without `upstreams`.
    pub(crate) async fn start(yaml: &str) -> Self {
        Self::build(Setting { yaml: yaml.to_owned(), ..Setting::default() }).await
    }

    /// A world that is otherwise as `setting` says.
    pub(crate) async fn build(mut setting: Setting) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        setting.yaml = format!("{}\n{}", setting.yaml, upstream(&format!("http://{}", listener.local_addr().unwrap()), ""));
        Self { world: World::build(setting).await, listener }
    }

    /// The next connection that the gateway makes.
    pub(crate) async fn accept(&self) -> Peer {
        Peer::accept(&self.listener).await
    }
}

/// The key `upstreams` for one at `endpoint`; its secret is in a file of the world's directory. `more` is more of `credentials`.
pub(crate) fn upstream(endpoint: &str, more: &str) -> String {
    format!(
        "upstreams: {{ scripted: {{ region: us-east-1, endpoint: '{endpoint}', \
         credentials: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: secret, {more} }} }} }}"
    )
}

/// The upstream's end of a connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    /// The next connection that is made to `listener`.
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("a connection in 30 s").unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Reads one request with a length, and returns its head.
    pub(crate) async fn request(&mut self) -> String {
        self.next_request().await.expect("a request before the gateway leaves")
    }

    /// Reads one more; none where the gateway ends the connection instead.
    pub(crate) async fn next_request(&mut self) -> Option<String> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let length: usize = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < length {
            assert!(self.more().await, "the gateway left inside a request");
        }
        self.buffer.drain(..length);
        Some(head)
    }

    /// Says this.
    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Ends the connection with a RST, once what was said is likely to have left: a test that loses it to the reset sees a shorter body.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("a request in 30 s");
        read.is_ok_and(|n| n > 0)
    }
}

/// The value of a header in a head.
pub(crate) fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}
