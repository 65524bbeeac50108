//! What can be made to go wrong, and how a client asks for it.
//!
//! A fault is asked for by the header `x-emulator-fault: <spec>[,<spec>…]`, which `x-emulator-fault-<region>` is to emulators of one region alone, by a model id that ends in `emulator.<spec>[.<spec>…]` (for SDKs that
//! cannot send a header; what follows a `:` is the model's version), or in process with [`super::Emulator::inject`].

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::answer::Usage;
use crate::domain::GuardrailUnits;

/// The largest number in a spec: a million.
const MOST: u64 = 1_000_000;
/// The exceptions that Bedrock's streams can carry; anything else is a mistake in a spec.
const EXCEPTIONS: [&str; 6] = [
    "throttlingException",
    "modelStreamErrorException",
    "internalServerException",
    "serviceUnavailableException",
    "validationException",
    "modelTimeoutException",
];

/// One thing that goes wrong, or is set otherwise than by default. The spec that asks for it stands with each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `429`, `503-once`, `429-twice`, `500-5x`: this status, always or so many times in a row and then an answer. Times are counted for each
    /// `amz-sdk-invocation-id`, or for the spec where there is none, and begin anew after the answer.
    Status {
        /// 400 to 599.
        status: u16,
        /// How many times; always where `None`.
        times: Option<u64>,
    },
    /// `early-413`: this status before the body is read (and so before the signature is checked). By header only; asked for otherwise it is
    /// an ordinary status.
    Early(u16),
    /// `hang`: never answers.
    Hang,
    /// `close`: the connection ends without an answer, with a FIN.
    Close,
    /// `reset`: the connection ends without an answer, with a RST.
    Reset,
    /// `close-on-reuse`: as `close`, but only for a request that is not the first on its connection; the first is answered.
    CloseOnReuse,
    /// `close-after`: answers, and then closes the connection, which the answer does not announce.
    CloseAfter,
    /// `early-hints`: a 103 before the answer (HTTP/1.1 only).
    EarlyHints,
    /// `slow-first-byte-500`: so many milliseconds before the head of the answer.
    SlowFirstByte(Duration),
    /// `slow-events-100`: so many milliseconds before each event.
    SlowEvents(Duration),
    /// `gated`: each event waits for [`super::Emulator::release`]. The head does not wait.
    Gated,
    /// `split-7`: the body leaves in pieces of so many bytes.
    Split(usize),
    /// `content-length`: a stream is framed by its length, not chunked.
    ContentLength,
    /// `bad-crc`: the second event's last byte is wrong.
    BadCrc,
    /// `cut-mid-frame`, `close-between-frames-3`, `eof-mid-frame-0`: the answer ends after so many whole events (2 where untold).
    Break {
        /// How.
        manner: Manner,
        /// Where.
        place: Place,
        /// How many events are sent whole before it.
        after: usize,
    },
    /// `stall`, `stall-5`: after so many events (2 where untold) nothing more comes, and the connection stays.
    Stall(usize),
    /// `exception-throttlingException`, `exception-modelStreamErrorException-2`: an exception frame (an error event on SSE) after so many events
    /// (0 where untold: it is the first), and then a clean end.
    Exception {
        /// The member of the stream's shape, such as `throttlingException`.
        name: Cow<'static, str>,
        /// How many events come before it.
        after: usize,
    },
    /// `error-frame`, `error-frame-2`: likewise, an unmodelled error frame.
    ErrorFrame(usize),
    /// `words-500`: the answer has so many words (and `max_tokens` does not bound it).
    Words(usize),
    /// `huge-20`: the answer is one word of so many MiB, at most 100.
    Huge(usize),
    /// `usage-100-50`, `usage-100-50-30-20-10`: reports this usage (input, output, cache read, cache written for 5 minutes and for an hour).
    Usage(Usage),
    /// `reasoning-7`: so many of the output tokens are reported as reasoning, where the API has a place for it (OpenAI's).
    Reasoning(u64),
    /// `units-1-2-3-4-5-6`: a guardrail reports this usage (topics, content, images, sensitive information, grounding, automated reasoning).
    Units(GuardrailUnits),
    /// `no-usage`: reports none.
    NoUsage,
}

/// How an answer is broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// `cut`: a TCP reset, or `RST_STREAM` on HTTP/2.
    Cut,
    /// `close`: the connection closes before the body's framing is complete; `RST_STREAM` on HTTP/2.
    Close,
    /// `eof`: a clean end of the HTTP body.
    Eof,
}

/// Where an answer is broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `mid-frame`: half of the next event is sent.
    MidFrame,
    /// `between-frames`: nothing of the next event is sent.
    BetweenFrames,
}

/// A spec that asks for no known fault.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no fault of the emulator; see src/emulator/faults.rs")]
pub struct UnknownFault(String);

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(spec: &str) -> Result<Self, UnknownFault> {
        parse(spec.trim()).ok_or_else(|| UnknownFault(spec.chars().take(80).collect()))
    }
}

fn parse(spec: &str) -> Option<Fault> {
    Some(match spec {
        "hang" => Fault::Hang,
        "close" => Fault::Close,
        "reset" => Fault::Reset,
        "close-on-reuse" => Fault::CloseOnReuse,
        "close-after" => Fault::CloseAfter,
        "early-hints" => Fault::EarlyHints,
        "gated" => Fault::Gated,
        "content-length" => Fault::ContentLength,
        "bad-crc" => Fault::BadCrc,
        "no-usage" => Fault::NoUsage,
        "stall" => Fault::Stall(2),
        "error-frame" => Fault::ErrorFrame(0),
        _ => return numbered(spec).or_else(|| broken(spec)).or_else(|| exception(spec)).or_else(|| status(spec)),
    })
}

fn numbered(spec: &str) -> Option<Fault> {
    if let Some(numbers) = spec.strip_prefix("usage-") {
        let numbers: Vec<u64> = numbers.split('-').map(number).collect::<Option<_>>()?;
        let mut numbers = numbers.into_iter();
        let mut next = || numbers.next().unwrap_or(0);
        let usage = Usage { input: next(), output: next(), cache_read: next(), cache_write_5m: next(), cache_write_1h: next() };
        return numbers.next().is_none().then_some(Fault::Usage(usage));
    }
    if let Some(numbers) = spec.strip_prefix("units-") {
        let numbers: Vec<u64> = numbers.split('-').map(number).collect::<Option<_>>()?;
        let &[topic, content, content_image, sensitive_information, contextual_grounding, automated_reasoning] = numbers.as_slice() else {
            return None;
        };
        return Some(Fault::Units(GuardrailUnits {
            topic,
            content,
            content_image,
            sensitive_information,
            contextual_grounding,
            automated_reasoning,
        }));
    }
    let (name, value) = spec.rsplit_once('-')?;
    let value = number(value)?;
    let size = usize::try_from(value).ok()?;
    Some(match name {
        "early" => Fault::Early(error_status(value)?),
        "slow-first-byte" => Fault::SlowFirstByte(Duration::from_millis(value)),
        "slow-events" => Fault::SlowEvents(Duration::from_millis(value)),
        "split" if size > 0 => Fault::Split(size),
        "stall" => Fault::Stall(size),
        "error-frame" => Fault::ErrorFrame(size),
        "reasoning" => Fault::Reasoning(value),
        "words" => Fault::Words(size),
        "huge" if size <= 100 => Fault::Huge(size),
        _ => return None,
    })
}

fn broken(spec: &str) -> Option<Fault> {
    let (manner, rest) = spec.split_once('-')?;
    let manner = match manner {
        "cut" => Manner::Cut,
        "close" => Manner::Close,
        "eof" => Manner::Eof,
        _ => return None,
    };
    let (place, rest) = if let Some(rest) = rest.strip_prefix("mid-frame") {
        (Place::MidFrame, rest)
    } else {
        (Place::BetweenFrames, rest.strip_prefix("between-frames")?)
    };
    Some(Fault::Break { manner, place, after: position(rest, 2)? })
}

fn exception(spec: &str) -> Option<Fault> {
    let rest = spec.strip_prefix("exception-")?;
    let name = EXCEPTIONS.iter().find(|name| rest.starts_with(**name))?;
    Some(Fault::Exception { name: Cow::Borrowed(name), after: position(rest.strip_prefix(name)?, 0)? })
}

fn status(spec: &str) -> Option<Fault> {
    let (status, times) = spec.split_once('-').map_or((spec, None), |(status, times)| (status, Some(times)));
    let times = match times {
        None => None,
        Some("once") => Some(1),
        Some("twice") => Some(2),
        Some(times) => Some(number(times.strip_suffix('x')?)?),
    };
    Some(Fault::Status { status: error_status(number(status)?)?, times })
}

/// `-<n>`, or nothing.
fn position(rest: &str, untold: usize) -> Option<usize> {
    if rest.is_empty() { Some(untold) } else { usize::try_from(number(rest.strip_prefix('-')?)?).ok() }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|&number| number <= MOST)
}

fn error_status(number: u64) -> Option<u16> {
    u16::try_from(number).ok().filter(|status| (400..600).contains(status))
}

/// The values of the headers that ask an emulator of `region` for faults.
pub(super) fn headers<'h>(headers: &'h HeaderMap, region: Option<&str>) -> impl Iterator<Item = &'h HeaderValue> {
    let of_region = region.map(|region| format!("x-emulator-fault-{region}"));
    headers.get_all("x-emulator-fault").iter().chain(of_region.into_iter().flat_map(|name| headers.get_all(name)))
}

/// The faults that a header asks for.
pub(super) fn in_header(value: &str) -> Result<Vec<Fault>, UnknownFault> {
    value.split(',').map(str::parse).collect()
}

/// The faults that a model id (decoded) asks for; none where it does not contain `emulator.`.
pub(super) fn in_model(model: &str) -> Result<Vec<Fault>, UnknownFault> {
    let Some((_, specs)) = model.split_once("emulator.") else { return Ok(Vec::new()) };
    let specs = specs.split([':', '/']).next().unwrap_or_default();
    specs.split('.').map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_from_headers_and_model_ids() {
        let twice = Fault::Status { status: 429, times: Some(2) };
        assert_eq!(in_header("429-twice, gated").unwrap(), [twice.clone(), Fault::Gated]);
        assert_eq!(in_model("us.anthropic.claude-emulator.429-twice.words-9-v1:0"), Err(UnknownFault("words-9-v1".to_owned())));
        assert_eq!(in_model("us.anthropic.claude-emulator.429-twice.words-9:0").unwrap(), [twice, Fault::Words(9)]);
        assert_eq!(in_model("anthropic.claude-3-haiku-20240307-v1:0").unwrap(), []);
        let cut = |after| Fault::Break { manner: Manner::Cut, place: Place::MidFrame, after };
        assert_eq!(in_header("cut-mid-frame,cut-mid-frame-0").unwrap(), [cut(2), cut(0)]);
        let exception = |after| Fault::Exception { name: "throttlingException".into(), after };
        assert_eq!(in_header("exception-throttlingException,exception-throttlingException-3").unwrap(), [exception(0), exception(3)]);
        let usage = Usage { input: 100, output: 50, ..Usage::default() };
        assert_eq!(
            in_header("usage-100-50,close,503").unwrap(),
            [Fault::Usage(usage), Fault::Close, Fault::Status { status: 503, times: None }]
        );
    }

    #[test]
    fn what_is_no_spec_is_refused_by_name() {
        for spec in
            ["", "teapot", "200", "429-often", "cut-mid-air", "exception-surprise", "usage-1-2-3-4-5-6", "huge-101", "slow-events-9999999"]
        {
            assert_eq!(spec.parse::<Fault>(), Err(UnknownFault(spec.to_owned())));
        }
    }
}
