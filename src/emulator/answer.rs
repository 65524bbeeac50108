//! What the emulated models say, and what it costs: deterministic, so that a test can know it beforehand.
//!
//! **A token is a word** between white space. A prompt is every text in the conversation and its system prompt; the answer is `echo:` and the
//! words of the last message, at most `max_tokens` of them.

use serde_json::{Value, json};

use super::faults::Fault;
use crate::domain::GuardrailUnits;

/// How deep texts are looked for in a prompt.
const DEPTH: u32 = 16;
/// How many words an answer has at most when nothing bounds it.
const MOST_WORDS: usize = 4_096;

/// Tokens, as Bedrock counts them: `input` excludes what was read from or written to a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens that no cache had.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Input tokens read from a cache.
    pub cache_read: u64,
    /// Input tokens written to a cache for five minutes.
    pub cache_write_5m: u64,
    /// Input tokens written to a cache for an hour.
    pub cache_write_1h: u64,
}

impl Usage {
    pub(super) const fn cache_write(&self) -> u64 {
        self.cache_write_5m + self.cache_write_1h
    }

    pub(super) const fn total(&self) -> u64 {
        self.input + self.output + self.cache_read + self.cache_write()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.input += other.input;
        self.output += other.output;
        self.cache_read += other.cache_read;
        self.cache_write_5m += other.cache_write_5m;
        self.cache_write_1h += other.cache_write_1h;
    }
}

/// The words of a prompt.
#[derive(Debug, Default)]
pub(super) struct Prompt<'a> {
    /// How many there are.
    pub(super) words: u64,
    /// The last text.
    last: &'a str,
}

impl<'a> Prompt<'a> {
    /// The prompt that `parts` (messages, system prompts, plain texts) make.
    pub(super) fn of(parts: &[&'a Value]) -> Self {
        let mut prompt = Self::default();
        for part in parts {
            prompt.read(part, DEPTH);
        }
        prompt
    }

    fn read(&mut self, value: &'a Value, depth: u32) {
        match value {
            Value::String(text) => {
                self.words += words(text);
                self.last = text;
            }
            Value::Array(items) if depth > 0 => items.iter().for_each(|item| self.read(item, depth - 1)),
            Value::Object(fields) if depth > 0 => {
                let texts = ["content", "text"].iter().filter_map(|name| fields.get(*name));
                texts.for_each(|text| self.read(text, depth - 1));
            }
            _ => {}
        }
    }
}

/// How many tokens a text is: its words.
pub(super) fn words(text: &str) -> u64 {
    u64::try_from(text.split_whitespace().count()).unwrap_or(u64::MAX)
}

/// What a request's faults set of the answer itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Knobs {
    words: Option<usize>,
    huge: Option<usize>,
    usage: Option<Usage>,
    reasoning: u64,
    no_usage: bool,
    /// What a guardrail says that it used.
    pub(super) units: Option<GuardrailUnits>,
}

impl Knobs {
    pub(super) fn of(faults: &[Fault]) -> Self {
        let mut knobs = Self::default();
        for fault in faults {
            match fault {
                Fault::Words(words) => knobs.words = Some(*words),
                Fault::Huge(mebibytes) => knobs.huge = Some(*mebibytes),
                Fault::Usage(usage) => knobs.usage = Some(*usage),
                Fault::Reasoning(tokens) => knobs.reasoning = *tokens,
                Fault::Units(units) => knobs.units = Some(*units),
                Fault::NoUsage => knobs.no_usage = true,
                _ => {}
            }
        }
        knobs
    }
}

/// One answer of a model, not yet in any API's shape.
#[derive(Debug)]
pub(super) struct Answer {
    /// The text in pieces; each but the first begins with a space. One piece is one token.
    pub(super) pieces: Vec<String>,
    /// Whether `max_tokens` ended it.
    pub(super) cut_short: bool,
    /// What it cost; `None` where a fault withholds it.
    pub(super) usage: Option<Usage>,
    /// What it truly cost, for the bill.
    pub(super) cost: Usage,
    /// How much of the output was reasoning: told by the shapes that tell it.
    pub(super) reasoning: u64,
}

impl Answer {
    /// Says `echo:` and the last text's words, at most `max_tokens` of them.
    pub(super) fn to(prompt: &Prompt<'_>, max_tokens: Option<u64>, knobs: Knobs) -> Self {
        let mut spoken = std::iter::once("echo:").chain(prompt.last.split_whitespace());
        let most = max_tokens.and_then(|most| usize::try_from(most).ok()).unwrap_or(MOST_WORDS).min(MOST_WORDS);
        let (words, cut_short): (Vec<String>, bool) = match (knobs.huge, knobs.words) {
            (Some(mebibytes), _) => (vec!["x".repeat(mebibytes * 1024 * 1024)], false),
            (None, Some(count)) => ((1..=count).map(|at| format!("word{at}")).collect(), false),
            (None, None) => (spoken.by_ref().take(most).map(str::to_owned).collect(), spoken.next().is_some()),
        };
        let output = u64::try_from(words.len()).unwrap_or(u64::MAX);
        let cost = knobs.usage.unwrap_or(Usage { input: prompt.words, output, ..Usage::default() });
        let pieces = words.into_iter().enumerate().map(|(at, word)| if at == 0 { word } else { format!(" {word}") }).collect();
        Self { pieces, cut_short, usage: (!knobs.no_usage).then_some(cost), cost, reasoning: knobs.reasoning.min(cost.output) }
    }

    pub(super) fn text(&self) -> String {
        self.pieces.concat()
    }

    /// `whole` where the answer is whole, `short` where `max_tokens` ended it.
    pub(super) const fn ended<'a>(&self, whole: &'a str, short: &'a str) -> &'a str {
        if self.cut_short { short } else { whole }
    }
}

/// Puts `name: value` into an object, unless a fault withholds it.
pub(super) fn with(mut object: Value, name: &str, value: Option<Value>) -> Value {
    if let (Some(fields), Some(value)) = (object.as_object_mut(), value) {
        fields.insert(name.to_owned(), value);
    }
    object
}

/// Usage in Anthropic's own shape.
pub(super) fn anthropic_usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": usage.cache_write(),
        "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write_5m, "ephemeral_1h_input_tokens": usage.cache_write_1h},
    })
}
