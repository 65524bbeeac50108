//! What was found in an answer, as it comes.

use std::str;

use http::HeaderMap;

use super::json::Sink;
use super::places::{Figure, Guard, Mark, Place, Source};
use super::told::{Told, Units, sum};
use crate::domain::{GuardrailUnits, Tier};

/// Where InvokeModel tells usage beside its body, which has none for some families.
const HEADERS: [(&str, Figure); 4] = [
    ("x-amzn-bedrock-input-token-count", Figure::Input),
    ("x-amzn-bedrock-output-token-count", Figure::Output),
    ("x-amzn-bedrock-cache-read-input-token-count", Figure::CacheRead),
    ("x-amzn-bedrock-cache-write-input-token-count", Figure::CacheWrite),
];

/// How certain the output that was told is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Output {
    /// None was told.
    #[default]
    Untold,
    /// Told when it had only begun.
    Begun,
    /// Told together with text: as far as it had come.
    SoFar,
    /// Told alone, and so at the end.
    Final,
}

/// The document that is being read.
#[derive(Clone, Copy, Debug, Default)]
struct Document {
    /// Bytes of delivered text in it.
    text: u64,
    /// Who told output in it.
    output: Option<Source>,
    /// It says again what earlier ones delivered.
    repeats: bool,
}

/// All of it.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with one another")]
pub(super) struct Found {
    /// What the API's or the family's own messages told.
    pub(super) own: Told,
    /// What Bedrock told beside them.
    pub(super) bedrock: Told,
    /// The sum of an agent's calls.
    pub(super) steps: Option<Told>,
    pub(super) output: Output,
    /// Bytes of text delivered since output was last told.
    pub(super) text: u64,
    /// Documents that held any, since then.
    pub(super) deltas: u64,
    /// Documents that held text at all.
    pub(super) delivered: u64,
    pub(super) tier: Option<Tier>,
    /// The stream told of an exception.
    pub(super) failed: bool,
    /// It was that AWS would not now.
    pub(super) throttled: bool,
    /// The answer only counts tokens, or says where another will be.
    pub(super) uses_nothing: bool,
    /// The answer holds vectors.
    pub(super) embedding: bool,
    document: Document,
    total: Units,
    parts: GuardrailUnits,
    part: Units,
    detail_hour: bool,
    detail_tokens: Option<u64>,
    /// Writes to the cache that the usage being read breaks down, for five minutes and for an hour.
    details: Option<(u64, u64)>,
}

impl Found {
    /// Begins with what the answer's head tells.
    pub(super) fn in_head(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        for (name, figure) in HEADERS {
            if let Some(value) = text(name).and_then(|value| value.trim().parse().ok()) {
                found.bedrock.set(figure, value);
                if figure == Figure::Output {
                    found.output = Output::Final;
                }
            }
        }
        found.tier = text("x-amzn-bedrock-service-tier").and_then(Tier::named);
        found
    }

    pub(super) fn failed(&mut self) {
        self.failed = true;
    }

    /// The wrapper around a document ended, and with it whatever was not whole.
    pub(super) fn wrapper_end(&mut self) {
        self.end();
    }

    /// Bytes of text delivered since output was last told, those of the document that is being read among them.
    pub(super) fn text_since(&self) -> u64 {
        self.text.saturating_add(self.document.text)
    }

    /// Units of guardrails: a total, or else what the assessments say.
    pub(super) fn guardrail(&self) -> GuardrailUnits {
        let total = self.total.billed();
        if total.is_empty() { self.parts } else { total }
    }

    fn figure(&mut self, source: Source, figure: Figure, value: u64) {
        match source {
            Source::Own | Source::Start => self.own.set(figure, value),
            Source::Bedrock => self.bedrock.set(figure, value),
            Source::Step => self.steps.get_or_insert_default().add(figure, value),
        }
        if figure == Figure::Output {
            self.document.output = Some(source);
        }
    }

    fn read_text(&mut self, bytes: usize) {
        self.document.text = self.document.text.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn end_detail(&mut self) {
        if let Some(tokens) = self.detail_tokens.take() {
            let (minutes, hour) = self.details.get_or_insert_default();
            let place = if self.detail_hour { hour } else { minutes };
            *place = place.saturating_add(tokens);
        }
        self.detail_hour = false;
    }
}

impl Sink for Found {
    fn open(&mut self, place: Place) {
        match place {
            Place::Usage(_) => self.details = None,
            Place::Mark(Mark::Embedding) => self.embedding = true,
            Place::Mark(Mark::Error) => self.failed = true,
            _ => {}
        }
    }

    fn close(&mut self, place: Place) {
        match place {
            Place::CacheDetails => self.end_detail(),
            Place::Usage(source) => {
                if let Some((minutes, hour)) = self.details.take() {
                    self.figure(source, Figure::CacheWrite5m, minutes);
                    self.figure(source, Figure::CacheWrite1h, hour);
                }
            }
            Place::AssessedUsage => self.parts = sum(self.parts, std::mem::take(&mut self.part).billed()),
            _ => {}
        }
    }

    fn number(&mut self, place: Place, value: u64) {
        match place {
            Place::Figure(source, figure) => self.figure(source, figure, value),
            Place::Unit(Guard::Total, unit) => self.total.set(unit, value),
            Place::Unit(Guard::Part, unit) => self.part.set(unit, value),
            Place::CacheDetailTokens => self.detail_tokens = Some(value),
            Place::Mark(Mark::Counted) => self.uses_nothing = true,
            _ => {}
        }
    }

    fn word(&mut self, place: Place, word: &[u8]) {
        match place {
            Place::TierName => self.tier = str::from_utf8(word).ok().and_then(Tier::named).or(self.tier),
            Place::CacheDetailTtl => self.detail_hour = word == b"1h",
            Place::Kind => self.document.repeats = word.starts_with(b"response.") && !word.ends_with(b".delta"),
            _ => {}
        }
    }

    fn piece(&mut self, place: Place, piece: &[u8]) {
        match place {
            Place::Text | Place::Arguments => self.read_text(piece.len()),
            Place::Mark(Mark::Async) => self.uses_nothing = true,
            _ => {}
        }
    }

    fn string_end(&mut self, _place: Place) {}

    fn arguments(&mut self, bytes: usize) {
        self.read_text(bytes);
    }

    fn end(&mut self) {
        let Document { text, output, repeats } = std::mem::take(&mut self.document);
        let text = if repeats { 0 } else { text };
        self.delivered = self.delivered.saturating_add(u64::from(text > 0));
        if let Some(source) = output {
            (self.text, self.deltas) = (0, 0);
            self.output = match source {
                Source::Start => Output::Begun,
                Source::Own | Source::Step if text > 0 => Output::SoFar,
                Source::Own | Source::Step | Source::Bedrock => Output::Final,
            };
        } else if text > 0 {
            self.text = self.text.saturating_add(text);
            self.deltas = self.deltas.saturating_add(1);
        }
    }
}
