//! Clients that retry nothing.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use aws_smithy_eventstream::frame::read_message_from;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{LONG, MODEL, Site};
use crate::client::{Answer, PATIENCE, Raw, Transport, converse, h2_over, whole};
use crate::downstream::{Ask, Way};

/// How a client uses its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// One call after another.
    Busy,
    /// It thinks between two, for less than the grace that a gateway which leaves gives idle connections.
    Thinks,
    /// It connects, and asks a while later: then on a connection of its own.
    Hesitates,
    /// Streams of a second and more.
    Streams,
}

impl Habit {
    pub(super) const ALL: [Self; 4] = [Self::Busy, Self::Thinks, Self::Hesitates, Self::Streams];
}

enum Kept {
    Http1(Raw),
    Http2(SendRequest<Bytes>),
}

/// Asks until the site stops; how often.
pub(super) async fn client(site: Arc<Site>, way: Way, habit: Habit, name: usize) -> u64 {
    let (mut asked, mut kept) = (0, None);
    while !site.stop.load(Relaxed) {
        let word = format!("w{name}n{asked}");
        let ask = match habit {
            Habit::Streams => {
                let text = format!("{} {word}", "word ".repeat(10));
                Ask::post(&format!("/model/{MODEL}/converse-stream"), converse(&text)).fault("slow-events-80")
            }
            Habit::Busy | Habit::Thinks | Habit::Hesitates => Ask::post(&format!("/model/{MODEL}/converse"), converse(&word)),
        };
        let connection = match kept.take() {
            Some(kept) => kept,
            None => connect(&site, way).await,
        };
        // Pauses of a person or a program, no waits for anything: of all lengths, so that every moment of a drain meets someone's.
        let pause = match habit {
            Habit::Busy | Habit::Streams => 5 + asked % 20,
            Habit::Thinks => 200 + 370 * (asked % 5),
            Habit::Hesitates => 100 + 270 * (asked % 5),
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let (answer, connection) = exchange(&site, way, connection, &ask.token(&site.token), &format!("{way:?} {habit:?} {word}")).await;
        asked += 1;
        let said = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 200, "{way:?} {habit:?} {word}: {said}");
        assert!(said.matches(&word).count() == 1, "an answer to {word}: {said}");
        if habit == Habit::Streams {
            assert!(said.contains("messageStop") && said.contains("metadata"), "{word}: a whole stream: {said}");
        }
        kept = connection.filter(|_| habit != Habit::Hesitates);
    }
    asked
}

/// One call, and the connection where it may be used again.
async fn exchange(site: &Site, way: Way, connection: Kept, ask: &Ask, what: &str) -> (Answer, Option<Kept>) {
    let mut send = match connection {
        Kept::Http1(mut raw) => {
            assert!(raw.try_send(ask.wire()).await, "{what}: the connection was closed without a word");
            let answer = raw.try_answer().await.unwrap_or_else(|| panic!("{what}: the connection was closed without an answer"));
            if answer.header("connection") != Some("close") {
                return (answer, Some(Kept::Http1(raw)));
            }
            assert!(raw.is_ended().await, "{what}: it ends as it was said");
            return (answer, None);
        }
        Kept::Http2(send) => send,
    };
    loop {
        let Some(response) = begin(&mut send, ask).await else {
            // It was told to go before it asked.
            send = again(site, way).await;
            continue;
        };
        match in_time(response).await {
            Ok(response) => {
                let answer = whole(response).await.unwrap_or_else(|error| panic!("{what}: broken off: {error}"));
                return (answer, Some(Kept::Http2(send)));
            }
            Err(error) if error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR) => {
                site.unprocessed.fetch_add(1, Relaxed);
                send = again(site, way).await;
            }
            Err(error) => panic!("{what}: no answer: {error:?}"),
        }
    }
}

/// Sends a call, unless the connection is to be left.
async fn begin(send: &mut SendRequest<Bytes>, ask: &Ask) -> Option<ResponseFuture> {
    let mut ready = in_time(send.clone().ready()).await.ok()?;
    let (request, body) = ask.parts();
    let (response, mut stream) = ready.send_request(request, false).ok()?;
    stream.send_data(body, true).unwrap();
    Some(response)
}

async fn again(site: &Site, way: Way) -> SendRequest<Bytes> {
    match connect(site, way).await {
        Kept::Http2(send) => send,
        Kept::Http1(_) => panic!("{way:?} is HTTP/2"),
    }
}

async fn connect(site: &Site, way: Way) -> Kept {
    let tcp = TcpStream::connect(site.address(way)).await.expect("somebody always listens");
    tcp.set_nodelay(true).unwrap();
    let config = match way {
        Way::Http1 => return Kept::Http1(Raw::over(tcp)),
        Way::H2c => return http2(tcp).await,
        Way::TlsHttp1 => &site.http1,
        Way::TlsHttp2 => &site.http2,
    };
    let tls = in_time(TlsConnector::from(Arc::clone(config)).connect("localhost".try_into().unwrap(), tcp)).await.expect("a handshake");
    if way == Way::TlsHttp1 { Kept::Http1(Raw::over(tls)) } else { http2(tls).await }
}

async fn http2(stream: impl Transport + 'static) -> Kept {
    Kept::Http2(h2_over(stream).await.0)
}

async fn in_time<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, step).await.expect("within 30 s")
}

/// Begins a stream that takes minutes, and returns once it runs. It must end with the exception that AWS's SDKs know, and with a proper end.
pub(super) async fn outlives(site: &Arc<Site>, way: Way) -> tokio::task::JoinHandle<()> {
    let ask = Ask::post(&format!("/model/{LONG}/converse-stream"), converse("one")).token(&site.token).fault("words-3000, slow-events-50");
    let (begun, begins) = tokio::sync::oneshot::channel();
    let task = match connect(site, way).await {
        Kept::Http1(mut raw) => tokio::spawn(async move {
            raw.send(ask.wire()).await;
            assert_eq!(raw.head().await.expect("a head").0, 200);
            let mut got = raw.chunk().await.unwrap().unwrap();
            begun.send(()).unwrap();
            while let Some(chunk) = raw.chunk().await.unwrap_or_else(|why| panic!("{way:?}: {why}")) {
                got.extend_from_slice(&chunk);
            }
            ends_by_the_rule(got);
            assert!(raw.is_ended().await);
        }),
        Kept::Http2(mut send) => tokio::spawn(async move {
            let response = begin(&mut send, &ask).await.expect("a stream");
            let response = in_time(response).await.expect("a head");
            assert_eq!(response.status(), 200);
            begun.send(()).unwrap();
            ends_by_the_rule(whole(response).await.unwrap_or_else(|error| panic!("{way:?}: {error}")).body);
        }),
    };
    in_time(begins).await.expect("it runs");
    task
}

fn ends_by_the_rule(got: Vec<u8>) {
    let mut rest = Bytes::from(got);
    let mut kinds = Vec::new();
    while !rest.is_empty() {
        let message = read_message_from(&mut rest).expect("whole events");
        let kind = message.headers().iter().find(|header| [":event-type", ":exception-type"].contains(&header.name().as_str()));
        kinds.push(kind.and_then(|kind| kind.value().as_string().ok()).map(|kind| kind.as_str().to_owned()).unwrap_or_default());
    }
    assert!(kinds.len() > 10, "{kinds:?}");
    assert_eq!(kinds.last().map(String::as_str), Some("internalServerException"), "{kinds:?}");
}
