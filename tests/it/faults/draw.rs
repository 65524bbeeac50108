//! One run: what a client asks, how, and what goes wrong.

use fastrand::Rng;
use serde_json::json;
use tollgate::emulator::Fault;

use super::MODELS;
use crate::downstream::{Ask, Way};
use crate::world::World;

/// A shape of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Converse,
    Invoke,
    Chat,
    Messages,
}

/// One run.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "drawn one by one, in any combination")]
pub(super) struct Run {
    pub(super) number: usize,
    pub(super) way: Way,
    pub(super) shape: Shape,
    pub(super) streamed: bool,
    /// By a name that either region has another for.
    aliased: bool,
    /// What is asked of either region's emulator; empty: nothing.
    pub(super) faults: [String; 2],
    /// More than Pingora keeps of a body.
    pub(super) large: bool,
    chunked: bool,
    /// On a connection that was used before.
    pub(super) reuses: bool,
    /// After so many pieces of the answer.
    pub(super) leaves: Option<usize>,
    drained: bool,
}

impl Run {
    /// What marks it in logs, its own among them.
    pub(super) fn mark(&self) -> String {
        format!("run-{}", self.number)
    }

    pub(super) fn fault(&self, region: usize) -> Option<Fault> {
        Some(self.faults[region].as_str()).filter(|spec| !spec.is_empty()).map(|spec| spec.parse().unwrap())
    }

    /// How many events of its stream come before the first word.
    pub(super) fn silent(&self) -> usize {
        if matches!(self.shape, Shape::Converse | Shape::Chat) { 1 } else { 2 }
    }

    pub(super) fn is_frames(&self) -> bool {
        matches!(self.shape, Shape::Converse | Shape::Invoke)
    }

    /// The request.
    pub(super) fn ask(&self, world: &World) -> Ask {
        let padding = if self.large { " ".repeat(100_000) } else { String::new() };
        let mut ask = self.plain(if self.aliased { "sonnet" } else { MODELS[0] }, &padding).token(&world.token);
        for (region, spec) in ["us-east-1", "us-west-2"].into_iter().zip(&self.faults).filter(|(_, spec)| !spec.is_empty()) {
            ask = ask.header(&format!("x-emulator-fault-{region}"), spec);
        }
        let ask = if self.drained { ask.header("x-left", "drain") } else { ask };
        let ask = ask.header("user-agent", &self.mark());
        if self.chunked { ask.chunked() } else { ask }
    }

    /// The same as a region has it that nothing goes wrong at.
    pub(super) fn as_asked_of(&self, region: usize) -> Ask {
        self.plain(if self.aliased { MODELS[region] } else { MODELS[0] }, "")
    }

    fn plain(&self, model: &str, padding: &str) -> Ask {
        let text = format!("{} one two three four five six", self.mark());
        let messages = json!([{ "role": "user", "content": text }]);
        let (path, body) = match self.shape {
            Shape::Converse => {
                let path = format!("/model/{model}/{}", if self.streamed { "converse-stream" } else { "converse" });
                (path, json!({ "messages": [{ "role": "user", "content": [{ "text": text }] }] }))
            }
            Shape::Invoke => {
                let path = format!("/model/{model}/{}", if self.streamed { "invoke-with-response-stream" } else { "invoke" });
                (path, json!({ "anthropic_version": "bedrock-2023-05-31", "max_tokens": 900, "messages": messages }))
            }
            Shape::Chat => {
                let options = json!({ "include_usage": true });
                let path = "/openai/v1/chat/completions".to_owned();
                (path, json!({ "model": model, "stream": self.streamed, "stream_options": options, "messages": messages }))
            }
            Shape::Messages => {
                let path = "/anthropic/v1/messages".to_owned();
                (path, json!({ "model": model, "max_tokens": 900, "stream": self.streamed, "messages": messages }))
            }
        };
        Ask::post(&path, format!("{body}{padding}"))
    }
}

/// The run of this number: always the same.
pub(super) fn draw(seed: u64, number: usize) -> Run {
    let mut rng = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
    let way = Way::ALL[rng.usize(..4)];
    let shape = [Shape::Converse, Shape::Invoke, Shape::Chat, Shape::Messages][rng.usize(..4)];
    let large = rng.u8(..6) == 0;
    Run {
        number,
        way,
        shape,
        streamed: rng.u8(..3) > 0,
        aliased: rng.bool(),
        faults: [fault(&mut rng, 8), fault(&mut rng, 3)],
        large,
        chunked: !way.is_http2() && rng.u8(..3) == 0,
        reuses: rng.bool(),
        leaves: (rng.u8(..6) == 0).then(|| rng.usize(..5)),
        drained: rng.u8(..3) == 0,
    }
}

/// A fault, in so many of ten cases.
fn fault(rng: &mut Rng, tenths: u8) -> String {
    if rng.u8(..10) >= tenths {
        return String::new();
    }
    let simple = [
        "429",
        "500",
        "503",
        "529",
        "400",
        "424",
        "early-429",
        "early-503",
        "early-413",
        "slow-first-byte-20",
        "close",
        "reset",
        "close-on-reuse",
        "close-after",
        "early-hints",
        "slow-events-3",
        "split-7",
        "content-length",
        "bad-crc",
        "words-300",
        "huge-1",
        "no-usage",
    ];
    match rng.u8(..20) {
        0..9 => simple[rng.usize(..simple.len())].to_owned(),
        // Each costs all the time there is for a first byte.
        9 => ["hang", "slow-first-byte-9000"][rng.usize(..2)].to_owned(),
        10..14 => {
            let manner = ["cut", "close", "eof"][rng.usize(..3)];
            let place = ["mid-frame", "between-frames"][rng.usize(..2)];
            format!("{manner}-{place}-{}", rng.usize(..6))
        }
        14 => format!("stall-{}", rng.usize(..5)),
        15..19 => {
            let name = ["throttlingException", "modelStreamErrorException", "serviceUnavailableException"][rng.usize(..3)];
            format!("exception-{name}-{}", rng.usize(..5))
        }
        _ => format!("error-frame-{}", rng.usize(..4)),
    }
}
