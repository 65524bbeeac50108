//! What a call comes to, in a rule's units of account: beforehand and afterwards.

use crate::config::limits::{Count, Measure, Rule, Weights};
use crate::domain::{Asked, Cost, Glob, Tokens};

/// What a call comes to before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    pub(super) amount: u64,
    /// Less will do, down to so much.
    pub(super) least: u64,
}

/// How a rule counts.
#[derive(Debug)]
pub(super) struct Counting {
    count: Count,
    measure: Measure,
    reserve: u64,
    cut: bool,
}

impl Counting {
    pub(super) fn of(rule: &Rule) -> Self {
        Self { count: rule.count, measure: rule.measure.clone(), reserve: rule.reserve, cut: rule.cut }
    }

    /// Whether what a call comes to shows only when it ends.
    pub(super) const fn holds(&self) -> bool {
        !matches!(self.count, Count::Requests)
    }

    /// What to reserve for a call; none where it uses nothing of what is counted. `price`: what tokens cost.
    pub(super) fn reservation(&self, asked: &Asked, model: Option<&str>, price: &dyn Fn(&Tokens) -> Cost) -> Option<Reservation> {
        if matches!(self.count, Count::Requests | Count::Concurrency) {
            return Some(Reservation { amount: 1, least: 1 });
        }
        if asked.is_nothing() {
            return None;
        }
        let output = asked.max_tokens.unwrap_or(self.reserve);
        let of = |output| {
            let tokens = Tokens { input: asked.input_tokens(), output, ..Tokens::default() };
            self.reserved(&tokens, model, price(&tokens)).max(1)
        };
        let amount = of(output);
        // A stream that can be ended needs only a beginning.
        let least = if self.cut && asked.streamed { of(output.min(1)) } else { amount };
        Some(Reservation { amount, least })
    }

    /// Bedrock reserves the output that is allowed as it is, and counts what comes by its burndown.
    fn reserved(&self, tokens: &Tokens, model: Option<&str>, cost: Cost) -> u64 {
        match (&self.measure, self.count) {
            (Measure::Bedrock { .. }, Count::Tokens) => tokens.total().saturating_mul(Count::Tokens.scale()),
            _ => self.used(tokens, model, cost).unwrap_or(0),
        }
    }

    /// What tokens come to; none where that can't be told.
    pub(super) fn used(&self, tokens: &Tokens, model: Option<&str>, cost: Cost) -> Option<u64> {
        match (self.count, cost) {
            (Count::Requests | Count::Concurrency, _) | (Count::Usd, Cost::Nothing) => Some(0),
            (Count::Usd, Cost::Priced(usd)) => Some(usd.picos()),
            (Count::Usd, Cost::Unpriced) => None,
            (Count::Tokens, _) => Some(match &self.measure {
                Measure::Weights(weights) => weighted(weights, tokens),
                Measure::Bedrock { burndown } => bedrock(burndown, model, tokens),
            }),
        }
    }
}

fn weighted(weights: &Weights, tokens: &Tokens) -> u64 {
    let written = tokens.cache_write_5m.saturating_add(tokens.cache_write_1h);
    [
        (tokens.input, weights.input),
        (tokens.output, weights.output),
        (tokens.cache_read, weights.cache_read),
        (written, weights.cache_write),
    ]
    .into_iter()
    .fold(0, |sum: u64, (count, weight)| sum.saturating_add(count.saturating_mul(weight.into())))
}

/// Input and what is written to a cache, and output as often as it counts; nothing of what is read from a cache.
fn bedrock(burndown: &[(Glob, u32)], model: Option<&str>, tokens: &Tokens) -> u64 {
    let times = model.map_or(1, |model| {
        let own = burndown.iter().find(|(glob, _)| glob.matches(model)).map(|(_, times)| *times);
        own.unwrap_or_else(|| if FIVEFOLD.iter().any(|family| model.starts_with(family)) { 5 } else { 1 })
    });
    let written = tokens.cache_write_5m.saturating_add(tokens.cache_write_1h);
    let all = tokens.input.saturating_add(written).saturating_add(tokens.output.saturating_mul(times.into()));
    all.saturating_mul(Count::Tokens.scale())
}

/// The models whose output counts five times ("Token burndown rate", Amazon Bedrock User Guide).
const FIVEFOLD: [&str; 4] =
    ["anthropic.claude-3-7-sonnet", "anthropic.claude-opus-4", "anthropic.claude-sonnet-4", "anthropic.claude-haiku-4"];
