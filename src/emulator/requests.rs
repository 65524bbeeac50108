//! What the emulator has seen: the last requests, as they came and how they ended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many requests are remembered.
pub const REMEMBERED: usize = 1_000;
/// How much of each body is remembered, in bytes.
pub const REMEMBERED_BODY: usize = 16 * 1024;

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    /// The how-manieth request since the start, from 1.
    pub number: u64,
    /// The how-manieth accepted connection it came on, from 1.
    pub connection: u64,
    /// The how-manieth request of that connection it was, from 1.
    pub on_connection: u64,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The method.
    pub method: Method,
    /// The path, byte for byte.
    pub path: String,
    /// The query, byte for byte, without the `?`; `None` where there was none.
    pub query: Option<String>,
    /// Names in lower case and values as received, in order of first appearance (values of one name stand together). `host` is the
    /// `:authority` on HTTP/2.
    pub headers: Vec<(String, Bytes)>,
    /// The body; `None` while it is being read, or where it never came whole.
    pub body: Option<SeenBody>,
    /// How the exchange stands or ended.
    pub outcome: Outcome,
}

impl SeenRequest {
    /// The first value of a header, where it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }
}

/// A request's body.
#[derive(Clone, Debug)]
pub struct SeenBody {
    /// Its length, in bytes.
    pub length: usize,
    /// Its SHA-256, in lower-case hex.
    pub sha256: String,
    /// Its first [`REMEMBERED_BODY`] bytes.
    pub start: Bytes,
}

/// How an exchange stands or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request is being read or answered.
    Open,
    /// The answer was handed over to its (clean) end.
    Completed,
    /// A fault broke it off.
    Broken,
    /// The peer left, or reset the stream, before the answer was whole.
    PeerLeft,
}

const OUTCOMES: [Outcome; 4] = [Outcome::Open, Outcome::Completed, Outcome::Broken, Outcome::PeerLeft];

/// A request in the ring.
#[derive(Debug)]
struct Entry {
    head: SeenRequest,
    body: OnceLock<SeenBody>,
    outcome: AtomicU8,
}

impl Entry {
    fn snapshot(&self) -> SeenRequest {
        let outcome = OUTCOMES.get(usize::from(self.outcome.load(Ordering::Acquire))).copied().unwrap_or(Outcome::Open);
        SeenRequest { body: self.body.get().cloned(), outcome, ..self.head.clone() }
    }
}

/// The ring.
#[derive(Debug, Default)]
pub(super) struct Requests {
    ring: Mutex<(u64, VecDeque<Arc<Entry>>)>,
    changed: Notify,
}

impl Requests {
    /// Remembers a request whose head has come. What is returned notes how it ends; dropping it means that the peer left.
    pub(super) fn open(self: &Arc<Self>, mut head: SeenRequest) -> Watch {
        let mut ring = self.ring.lock();
        ring.0 += 1;
        head.number = ring.0;
        let entry = Arc::new(Entry { head, body: OnceLock::new(), outcome: AtomicU8::new(0) });
        if ring.1.len() == REMEMBERED {
            ring.1.pop_front();
        }
        ring.1.push_back(Arc::clone(&entry));
        drop(ring);
        self.changed.notify_waiters();
        Watch { entry: Some(entry), requests: Arc::clone(self) }
    }

    /// The requests remembered, oldest first.
    pub(super) fn all(&self) -> Vec<SeenRequest> {
        self.ring.lock().1.iter().map(|entry| entry.snapshot()).collect()
    }

    /// The next change after this call. Ask before looking, so that nothing is missed.
    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }
}

/// Follows one request to its end.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None` once the end is noted.
    entry: Option<Arc<Entry>>,
    requests: Arc<Requests>,
}

impl Watch {
    pub(super) fn body(&self, body: SeenBody) {
        if let Some(entry) = &self.entry {
            // Set once: there is one body.
            entry.body.set(body).unwrap_or_default();
            self.requests.changed.notify_waiters();
        }
    }

    pub(super) fn completed(&mut self) {
        self.end(1);
    }

    pub(super) fn broken(&mut self) {
        self.end(2);
    }

    pub(super) fn peer_left(&mut self) {
        self.end(3);
    }

    fn end(&mut self, outcome: u8) {
        if let Some(entry) = self.entry.take() {
            entry.outcome.store(outcome, Ordering::Release);
            self.requests.changed.notify_waiters();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.peer_left();
    }
}

/// The headers as they are remembered and verified, with `host` from `:authority` where HTTP/2 sent no `host`.
pub(super) fn headers(map: &HeaderMap, authority: Option<&str>) -> Vec<(String, Bytes)> {
    let host = authority.filter(|_| !map.contains_key(http::header::HOST)).map(|host| ("host".to_owned(), Bytes::from(host.to_owned())));
    let named = map.iter().map(|(name, value)| (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes())));
    host.into_iter().chain(named).collect()
}
