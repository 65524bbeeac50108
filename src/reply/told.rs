//! Figures as one source told them, and how several sources make one usage.

use super::places::{Figure, Unit};
use crate::domain::{GuardrailUnits, Tokens};

/// No answer uses so many: what tells more is nonsense, and is not believed.
const MOST: u64 = 1_000_000_000_000;

/// What one source told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
    cached: Option<u64>,
    cached_write: Option<u64>,
    reasoning: Option<u64>,
}

impl Told {
    fn place(&mut self, figure: Figure) -> &mut Option<u64> {
        match figure {
            Figure::Input => &mut self.input,
            Figure::Output => &mut self.output,
            Figure::CacheRead => &mut self.cache_read,
            Figure::CacheWrite => &mut self.cache_write,
            Figure::CacheWrite5m => &mut self.cache_write_5m,
            Figure::CacheWrite1h => &mut self.cache_write_1h,
            Figure::Cached => &mut self.cached,
            Figure::CachedWrite => &mut self.cached_write,
            Figure::Reasoning => &mut self.reasoning,
        }
    }

    /// The last value of a field counts: a stream tells totals so far.
    pub(super) fn set(&mut self, figure: Figure, value: u64) {
        if value <= MOST {
            *self.place(figure) = Some(value);
        }
    }

    /// Each value counts: one of many calls.
    pub(super) fn add(&mut self, figure: Figure, value: u64) {
        if value <= MOST {
            let place = self.place(figure);
            *place = Some(place.unwrap_or(0).saturating_add(value));
        }
    }

    /// Those of `bedrock` where it told them, for they are what is billed, and else of `self`; never both. Only the family's message tells for how long
    /// a cache is written, which part of the output was reasoning, and (OpenAI) that cached tokens are part of the input.
    pub(super) fn beside(&self, bedrock: &Self) -> Tokens {
        let split = self.cache_write_5m.unwrap_or(0).saturating_add(self.cache_write_1h.unwrap_or(0));
        let written = bedrock.cache_write.unwrap_or_else(|| self.cache_write.or(self.cached_write).unwrap_or(0).max(split));
        let hour = self.cache_write_1h.unwrap_or(0).min(written);
        let uncached =
            self.input.map(|input| input.saturating_sub(self.cached.unwrap_or(0)).saturating_sub(self.cached_write.unwrap_or(0)));
        let output = bedrock.output.or(self.output).unwrap_or(0);
        Tokens {
            input: bedrock.input.or(uncached).unwrap_or(0),
            output,
            cache_read: bedrock.cache_read.or(self.cache_read).or(self.cached).unwrap_or(0),
            cache_write_5m: written - hour,
            cache_write_1h: hour,
            reasoning: self.reasoning.unwrap_or(0).min(output),
        }
    }
}

/// Units of guardrails, with the number of policies beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Units {
    units: GuardrailUnits,
    policies: u64,
}

impl Units {
    pub(super) fn set(&mut self, unit: Unit, value: u64) {
        if value > MOST {
            return;
        }
        let place = match unit {
            Unit::Topic => &mut self.units.topic,
            Unit::Content => &mut self.units.content,
            Unit::ContentImage => &mut self.units.content_image,
            Unit::Sensitive => &mut self.units.sensitive_information,
            Unit::Grounding => &mut self.units.contextual_grounding,
            Unit::Reasoning => &mut self.units.automated_reasoning,
            Unit::Policies => &mut self.policies,
        };
        *place = value;
    }

    /// As they are billed: automated reasoning for each policy.
    pub(super) fn billed(&self) -> GuardrailUnits {
        let automated_reasoning = self.units.automated_reasoning.saturating_mul(self.policies.max(1));
        GuardrailUnits { automated_reasoning, ..self.units }
    }
}

/// The sum of both.
pub(super) fn sum(one: GuardrailUnits, other: GuardrailUnits) -> GuardrailUnits {
    GuardrailUnits {
        topic: one.topic.saturating_add(other.topic),
        content: one.content.saturating_add(other.content),
        content_image: one.content_image.saturating_add(other.content_image),
        sensitive_information: one.sensitive_information.saturating_add(other.sensitive_information),
        contextual_grounding: one.contextual_grounding.saturating_add(other.contextual_grounding),
        automated_reasoning: one.automated_reasoning.saturating_add(other.automated_reasoning),
    }
}
