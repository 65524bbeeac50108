//! What is right, by the faults alone.

use aws_smithy_eventstream::frame::read_message_from;
use aws_smithy_types::event_stream::HeaderValue;
use bytes::Bytes;
use serde_json::Value;
use tollgate::emulator::{Emulator, Fault, Manner, Place, SeenRequest};

use super::Got;
use super::draw::Run;
use crate::client::Raw;
use crate::world::World;

/// What was found in a batch of runs.
pub(super) struct Verdicts {
    pub(super) wrong: Vec<String>,
    /// Runs that a time ended that should have been long enough.
    pub(super) late: usize,
    /// Runs that the second region was asked for.
    pub(super) turned: usize,
}

/// Whether a call turns away from a region where this goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turns {
    Yes,
    No,
    /// What was said before a reset may be lost to it.
    Maybe,
}

/// What a client may get of the region that has the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Byte for byte what that region says.
    Exact,
    /// Its own refusal, with this status.
    Own(u16),
    /// The gateway's.
    Gateway(u16),
    /// A part from the beginning, and a broken connection.
    Broken,
    /// So many whole events, and behind them an exception of the gateway's.
    Ended(usize),
}

/// The place of an event that a fault strikes at: past the last one, it is the last.
fn at(after: usize, events: usize) -> usize {
    after.min(events.saturating_sub(1))
}

/// `events` is how many the whole stream has.
pub(super) fn turns(run: &Run, fault: Option<&Fault>, events: usize) -> Turns {
    let yes = |yes: bool| if yes { Turns::Yes } else { Turns::No };
    let silent = |after: usize| at(after, events) <= run.silent();
    match fault {
        Some(Fault::Status { status, .. }) => yes(*status == 429 || *status >= 500),
        // Whoever answers before it has read a body closes behind the answer.
        Some(Fault::Early(status)) => {
            if *status == 429 || *status >= 500 {
                Turns::Yes
            } else {
                Turns::Maybe
            }
        }
        Some(Fault::Hang | Fault::Close | Fault::Reset) => Turns::Yes,
        Some(Fault::SlowFirstByte(time)) => yes(time.as_secs() > 1),
        // What is shorter than its own length, the emulator breaks off before or behind the head.
        Some(Fault::Break { manner: Manner::Eof, .. }) if !run.streamed => Turns::Maybe,
        _ if !run.streamed => Turns::No,
        Some(Fault::Exception { after, .. } | Fault::ErrorFrame(after) | Fault::Stall(after)) => yes(silent(*after)),
        Some(Fault::Break { manner: Manner::Eof, place: Place::BetweenFrames, after }) => yes(*after == 0),
        Some(Fault::Break { manner: Manner::Eof, place: Place::MidFrame, after }) => yes(run.is_frames() && silent(*after)),
        Some(Fault::Break { after, .. }) if silent(*after) => Turns::Yes,
        Some(Fault::Break { manner: Manner::Cut, .. }) => Turns::Maybe,
        _ => Turns::No,
    }
}

fn right(run: &Run, fault: Option<&Fault>, events: usize) -> Vec<Right> {
    match fault {
        Some(Fault::Status { status, .. }) => vec![Right::Own(*status)],
        Some(Fault::Early(status)) => vec![Right::Own(*status), Right::Gateway(502)],
        Some(Fault::Hang) => vec![Right::Gateway(504)],
        Some(Fault::Close | Fault::Reset) => vec![Right::Gateway(502)],
        Some(Fault::SlowFirstByte(time)) if time.as_secs() > 1 => vec![Right::Gateway(504)],
        Some(Fault::Stall(after)) if run.streamed => vec![Right::Ended(at(*after, events))],
        Some(Fault::Stall(_)) => vec![Right::Broken],
        Some(Fault::Break { manner: Manner::Eof, place, .. }) if run.streamed => {
            if run.is_frames() && *place == Place::MidFrame {
                vec![Right::Broken, Right::Gateway(502)]
            } else {
                vec![Right::Exact]
            }
        }
        Some(Fault::Break { .. }) => vec![Right::Broken, Right::Gateway(502)],
        _ => vec![Right::Exact],
    }
}

/// Judges every run.
pub(super) async fn judge(world: &World, reference: &Emulator, all: &[(Run, Got)], lines: &[Value]) -> Verdicts {
    let mut verdicts = Verdicts { wrong: Vec::new(), late: 0, turned: 0 };
    let seen = [world.emulator.requests(), world.second.as_ref().unwrap().requests()];
    for (run, got) in all {
        let mark = run.mark();
        let asked = [0, 1].map(|region: usize| of(&seen[region], &mark));
        let line = lines.iter().filter(|line| line["user_agent"] == mark.as_str()).collect::<Vec<_>>();
        let line = match line.as_slice() {
            [line] => *line,
            // It left before anything was read of it.
            [] if run.leaves == Some(0) && asked == [0, 0] => continue,
            _ => {
                verdicts.wrong.push(format!("{} lines: {run:?}", line.len()));
                continue;
            }
        };
        verdicts.turned += usize::from(asked[1] > 0);
        match one(reference, run, got, asked, line).await {
            Ok(late) => verdicts.late += usize::from(late),
            Err(why) => verdicts.wrong.push(format!("{why}\n  {run:?}\n  asked {asked:?}, got {}\n  {line}", shown(got))),
        }
    }
    verdicts
}

fn of(seen: &[SeenRequest], mark: &str) -> usize {
    seen.iter().filter(|seen| seen.header("user-agent") == Some(mark)).count()
}

fn shown(got: &Got) -> String {
    let end = got.body.len().saturating_sub(300);
    let Got { status, error_type, end: ended, left, .. } = got;
    format!("{status:?} {error_type:?} {ended:?} left {left}, {} bytes …{}", got.body.len(), String::from_utf8_lossy(&got.body[end..]))
}

/// Returns whether a time ran out that no fault has made run out.
async fn one(reference: &Emulator, run: &Run, got: &Got, asked: [usize; 2], line: &Value) -> Result<bool, String> {
    let faults = [run.fault(0), run.fault(1)];
    let tried = line["tried"].as_array().map_or(&[][..], Vec::as_slice);
    let whole = said(reference, run, 0, faults[0].as_ref().filter(|fault| shapes(fault))).await;
    let turns = turns(run, faults[0].as_ref(), whole.len());
    // What no fault has asked for: a machine that is too busy.
    let timed_out = |at: usize| tried.get(at).is_some_and(|tried| tried["outcome"] == "timed_out");
    let waits = |fault: &Option<Fault>| matches!(fault, Some(Fault::Hang | Fault::Stall(_) | Fault::SlowFirstByte(_)));
    let late = timed_out(0) && !waits(&faults[0]) || line["reason"] == "upstream_timeout" && !waits(&faults[usize::from(asked[1] > 0)]);

    let told = usize::try_from(line["attempts"].as_u64().unwrap_or(0)).unwrap();
    // Twice, where a kept connection was dead.
    if asked[0] > 2 || asked[1] > 2 || asked[0] + asked[1] > told {
        return Err(format!("asked more often than it tells: {told}"));
    }
    if tried.len() > 1 || tried.iter().any(|tried| tried["outcome"] == "answered" || tried["outcome"] == "abandoned") {
        return Err("gave up what was none to give up".to_owned());
    }
    if asked[1] > 0 && (turns == Turns::No && !late || tried.is_empty()) {
        return Err("turned though the first region answered".to_owned());
    }
    if got.left {
        return Ok(late);
    }
    if asked[0] == 0 {
        return Err("the first region was never asked".to_owned());
    }
    if asked[1] == 0 && turns == Turns::Yes {
        return Err("did not turn".to_owned());
    }
    let last = usize::from(asked[1] > 0);
    let fault = faults[last].as_ref();
    let whole = said(reference, run, last, fault.filter(|fault| shapes(fault))).await;
    let mut rights = right(run, fault, whole.len());
    if late {
        rights.extend([Right::Gateway(504), Right::Broken]);
        rights.extend((0..=whole.len()).map(Right::Ended));
    }
    for right in &rights {
        if is(*right, run, got, &whole, reference, last).await {
            return Ok(late);
        }
    }
    Err(format!("not right: expected {rights:?}"))
}

async fn is(right: Right, run: &Run, got: &Got, whole: &[Vec<u8>], reference: &Emulator, region: usize) -> bool {
    let is_clean = got.end == Ok(());
    match right {
        Right::Exact => {
            let spoken = said(reference, run, region, run.fault(region).as_ref().filter(|fault| speaks(fault))).await.concat();
            got.status == Some(200) && is_clean && got.body == spoken
        }
        Right::Own(status) => {
            let json: Value = serde_json::from_slice(&got.body).unwrap_or_default();
            got.status == Some(status)
                && is_clean
                && got.error_type.is_some()
                && json["error"]["code"] == got.error_type.as_deref().unwrap()
        }
        Right::Gateway(status) => {
            let json: Value = serde_json::from_slice(&got.body).unwrap_or_default();
            got.status == Some(status)
                && is_clean
                && json["__type"] == "ServiceUnavailableException"
                && json["error"]["code"] != json["__type"]
        }
        // A head may wait for the body's first byte, and be lost with it; a reset overtakes what was said a moment before.
        Right::Broken if got.status.is_none() => got.body.is_empty(),
        Right::Broken => got.status == Some(200) && !is_clean && whole.concat().starts_with(&got.body),
        Right::Ended(events) => {
            let before = whole[..events].concat();
            got.status == Some(200) && is_clean && got.body.strip_prefix(before.as_slice()).is_some_and(|last| is_exception(run, last))
        }
    }
}

/// Whether `last` is one whole event that a client raises as an error.
fn is_exception(run: &Run, last: &[u8]) -> bool {
    if !run.is_frames() {
        let text = String::from_utf8_lossy(last);
        return text.starts_with("event: error\ndata: {") && text.ends_with("}\n\n") && text.matches("\n\n").count() == 1;
    }
    let mut rest = Bytes::copy_from_slice(last);
    let Ok(message) = read_message_from(&mut rest) else { return false };
    let kind = message.headers().iter().find(|header| header.name().as_str() == ":message-type").map(|header| header.value().clone());
    rest.is_empty() && kind == Some(HeaderValue::String("exception".into()))
}

/// Whether a fault makes another answer of it, and a whole one.
fn shapes(fault: &Fault) -> bool {
    matches!(fault, Fault::Words(_) | Fault::Huge(_) | Fault::NoUsage | Fault::BadCrc)
}

/// The same, and those that end it cleanly.
fn speaks(fault: &Fault) -> bool {
    shapes(fault) || matches!(fault, Fault::Exception { .. } | Fault::ErrorFrame(_) | Fault::Break { manner: Manner::Eof, .. })
}

/// What a region says by itself, event by event.
async fn said(reference: &Emulator, run: &Run, region: usize, fault: Option<&Fault>) -> Vec<Vec<u8>> {
    let mut ask = run.as_asked_of(region);
    if fault.is_some() {
        ask = ask.fault(&run.faults[region]);
    }
    let mut raw = Raw::connect(reference.address()).await;
    raw.send(ask.wire()).await;
    let (status, headers) = raw.head().await.unwrap();
    assert_eq!(status, 200, "{run:?}");
    if let Some(length) = headers.get("content-length") {
        return vec![raw.up_to(length.to_str().unwrap().parse().unwrap()).await];
    }
    let mut events = Vec::new();
    while let Some(event) = raw.chunk().await.unwrap() {
        events.push(event);
    }
    events
}
