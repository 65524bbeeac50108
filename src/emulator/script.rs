//! A response body as a script: what is sent, what is waited for, and how it ends. Faults write the script; a body plays it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Semaphore;

use super::bill::Charge;
use super::faults::{Fault, Manner, Place};
use super::reply::{Content, Event, Framing};
use super::requests::Watch;
use super::wire::{Connection, Ending};

/// How long a break waits, so that what was sent before it is on the wire: a reset discards what the kernel still holds.
const FLUSH: Duration = Duration::from_millis(20);

#[derive(Debug)]
enum Step {
    Send(Event<Bytes>),
    Wait(Duration),
    /// Waits for one `release`.
    Gate,
    /// Waits for ever.
    Stall,
    Break(Manner),
}

/// The body of a response.
pub(super) struct ReplyBody {
    content: Playing,
    /// The bytes still to come, where the length is announced.
    left: Option<u64>,
    follow: Follow,
    /// The connection to close behind the answer.
    close_after: Option<Arc<Connection>>,
}

/// What is told of how the answer goes. The bill is ended before the watch: whoever has seen the end of the exchange may read the bill.
#[derive(Debug, Default)]
pub(super) struct Follow {
    pub(super) charge: Option<Charge>,
    pub(super) watch: Option<Watch>,
}

enum Playing {
    Whole(Option<Event<Bytes>>),
    Script(Pin<Box<dyn Stream<Item = io::Result<Event<Bytes>>> + Send>>),
}

impl ReplyBody {
    /// A body that is sent at once.
    pub(super) fn whole(bytes: Bytes, follow: Follow) -> Self {
        let left = u64::try_from(bytes.len()).ok();
        let content = Playing::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()).map(Event::usage));
        let mut body = Self { content, left, follow, close_after: None };
        if left == Some(0) {
            body.ended();
        }
        body
    }

    /// A body as `faults` want it.
    pub(super) fn played(content: Content, faults: &[Fault], follow: Follow, connection: &Arc<Connection>, gate: &Arc<Semaphore>) -> Self {
        let has_length = matches!(content, Content::Whole(_)) || faults.contains(&Fault::ContentLength);
        let length: usize = match &content {
            Content::Whole(bytes) => bytes.len(),
            Content::Events(events, _) => events.iter().map(|event| event.data.len()).sum(),
        };
        let close_after = faults.contains(&Fault::CloseAfter).then(|| Arc::clone(connection));
        let shaping = |fault: &Fault| !matches!(fault, Fault::CloseAfter | Fault::EarlyHints | Fault::SlowFirstByte(_) | Fault::Usage(_));
        let content = match content {
            Content::Whole(bytes) if close_after.is_none() && !faults.iter().any(shaping) => return Self::whole(bytes, follow),
            Content::Whole(bytes) => play(script(vec![Event::usage(bytes)], None, faults), connection, gate),
            Content::Events(events, framing) => play(script(events, Some(framing), faults), connection, gate),
        };
        let left = u64::try_from(length).ok().filter(|_| has_length);
        Self { content: Playing::Script(Box::pin(content)), left, follow, close_after }
    }

    fn ended(&mut self) {
        self.follow.charge = None;
        if let Some(mut watch) = self.follow.watch.take() {
            watch.completed();
        }
        if let Some(connection) = self.close_after.take() {
            connection.end(Ending::AfterThis);
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.content {
            Playing::Whole(event) => Poll::Ready(event.take().map(Ok)),
            Playing::Script(script) => script.poll_next_unpin(cx),
        };
        match &next {
            Poll::Ready(Some(Ok(event))) => {
                if let Some(charge) = &mut self.follow.charge {
                    charge.emitted(event.mark);
                }
                let sent = u64::try_from(event.data.len()).unwrap_or(u64::MAX);
                self.left = self.left.map(|left| left.saturating_sub(sent));
                if self.left == Some(0) {
                    self.ended();
                }
            }
            Poll::Ready(None) => self.ended(),
            Poll::Ready(Some(Err(_))) => {
                self.follow.charge = None;
                if let Some(mut watch) = self.follow.watch.take() {
                    watch.broken();
                }
            }
            Poll::Pending => {}
        }
        next.map(|next| next.map(|event| event.map(|event| Frame::data(event.data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Playing::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// What faults make of an answer's events. A whole answer is one event.
fn script(mut events: Vec<Event<Bytes>>, framing: Option<Framing>, faults: &[Fault]) -> VecDeque<Step> {
    let mut steps = VecDeque::with_capacity(events.len());
    let split = faults.iter().find_map(|fault| if let Fault::Split(size) = fault { Some(*size) } else { None });
    let last = events.len().saturating_sub(1);
    if faults.contains(&Fault::BadCrc)
        && let Some(event) = events.get_mut(1.min(last))
    {
        event.data = with_wrong_last_byte(&event.data);
    }
    for (at, event) in events.into_iter().enumerate() {
        for fault in faults {
            // A place past the last event means at the last one: a short answer is broken too.
            let here = |after: usize| at == after.min(last);
            match fault {
                Fault::SlowEvents(pause) => steps.push_back(Step::Wait(*pause)),
                Fault::Gated => steps.push_back(Step::Gate),
                Fault::Stall(after) if here(*after) => {
                    steps.push_back(Step::Stall);
                    return steps;
                }
                Fault::Exception { name, after } if here(*after) && framing.is_some() => {
                    steps.extend(framing.map(|framing| Step::Send(Event::frame(framing.exception(name)))));
                    return steps;
                }
                Fault::ErrorFrame(after) if here(*after) && framing.is_some() => {
                    steps.extend(framing.map(|framing| Step::Send(Event::frame(framing.error()))));
                    return steps;
                }
                Fault::Break { manner, place, after } if here(*after) => {
                    if *place == Place::MidFrame {
                        steps.push_back(Step::Send(Event::frame(event.data.slice(..event.data.len() / 2))));
                    }
                    steps.push_back(Step::Break(*manner));
                    return steps;
                }
                _ => {}
            }
        }
        push_split(&mut steps, event, split);
    }
    steps
}

/// An event that is split counts with its last piece.
fn push_split(steps: &mut VecDeque<Step>, mut event: Event<Bytes>, split: Option<usize>) {
    while let Some(size) = split.filter(|&size| size < event.data.len()) {
        steps.push_back(Step::Send(Event::frame(event.data.split_to(size))));
        // Lets the piece go out by itself.
        steps.push_back(Step::Wait(Duration::ZERO));
    }
    steps.push_back(Step::Send(event));
}

fn with_wrong_last_byte(event: &Bytes) -> Bytes {
    let mut bytes = event.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 0xff;
    }
    Bytes::from(bytes)
}

fn play(
    steps: VecDeque<Step>,
    connection: &Arc<Connection>,
    gate: &Arc<Semaphore>,
) -> impl Stream<Item = io::Result<Event<Bytes>>> + Send + use<> {
    let start = (steps, Arc::clone(connection), Arc::clone(gate));
    stream::unfold(start, |(mut steps, connection, gate)| async move {
        loop {
            match steps.pop_front()? {
                Step::Send(event) => return Some((Ok(event), (steps, connection, gate))),
                Step::Wait(Duration::ZERO) => tokio::task::yield_now().await,
                Step::Wait(pause) => tokio::time::sleep(pause).await,
                // The semaphore is never closed; if it were, the gate would be open.
                Step::Gate => gate.acquire().await.map_or((), tokio::sync::SemaphorePermit::forget),
                Step::Stall => std::future::pending().await,
                Step::Break(Manner::Eof) => return None,
                Step::Break(manner) => {
                    tokio::time::sleep(FLUSH).await;
                    if manner == Manner::Cut {
                        connection.reset_on_close();
                    }
                    return Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), (steps, connection, gate)));
                }
            }
        }
    })
}
