//! What an answer used: tokens, and units of guardrails.

use std::ops::AddAssign;

/// Tokens of one answer, by what they cost. Bedrock tells them apart: `input` holds nothing that was read from or written to a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tokens {
    /// Input that no cache had.
    pub input: u64,
    /// Output, reasoning included.
    pub output: u64,
    /// Input read from a cache.
    pub cache_read: u64,
    /// Input written to a cache for five minutes; also where the answer does not tell for how long.
    pub cache_write_5m: u64,
    /// Input written to a cache for an hour.
    pub cache_write_1h: u64,
    /// The part of `output` that was reasoning, where that is told.
    pub reasoning: u64,
}

/// The kinds of tokens that are billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// [`Tokens::input`].
    Input,
    /// [`Tokens::output`].
    Output,
    /// [`Tokens::cache_read`].
    CacheRead,
    /// [`Tokens::cache_write_5m`].
    CacheWrite5m,
    /// [`Tokens::cache_write_1h`].
    CacheWrite1h,
}

impl TokenKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Input, Self::Output, Self::CacheRead, Self::CacheWrite5m, Self::CacheWrite1h];

    /// The word for it in metrics, logs, the ledger and prices.yaml.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::CacheRead => "cache_read",
            Self::CacheWrite5m => "cache_write_5m",
            Self::CacheWrite1h => "cache_write_1h",
        }
    }
}

impl Tokens {
    /// How many of one kind.
    #[must_use]
    pub const fn of(&self, kind: TokenKind) -> u64 {
        match kind {
            TokenKind::Input => self.input,
            TokenKind::Output => self.output,
            TokenKind::CacheRead => self.cache_read,
            TokenKind::CacheWrite5m => self.cache_write_5m,
            TokenKind::CacheWrite1h => self.cache_write_1h,
        }
    }

    /// All that are billed; reasoning is part of the output.
    #[must_use]
    pub fn total(&self) -> u64 {
        TokenKind::ALL.into_iter().fold(0, |sum, kind| sum.saturating_add(self.of(kind)))
    }
}

/// Sums stop at the end of the range.
impl AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write_5m = self.cache_write_5m.saturating_add(other.cache_write_5m);
        self.cache_write_1h = self.cache_write_1h.saturating_add(other.cache_write_1h);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
    }
}

/// Text units that a guardrail looked at, by policy (`GuardrailUsage` of botocore's bedrock-runtime model). Words are free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GuardrailUnits {
    /// Denied topics.
    pub topic: u64,
    /// Content filters, text.
    pub content: u64,
    /// Content filters, images.
    pub content_image: u64,
    /// Personal data, beyond the free patterns.
    pub sensitive_information: u64,
    /// Contextual grounding.
    pub contextual_grounding: u64,
    /// Automated reasoning, times policies.
    pub automated_reasoning: u64,
}

impl GuardrailUnits {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Where the figures come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// Bedrock told all of them.
    Reported,
    /// At least one was estimated.
    Estimated,
}

/// How the call was served, where the answer tells (`X-Amzn-Bedrock-Service-Tier`, `serviceTier`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// As usual.
    Default,
    /// Before others, dearer.
    Priority,
    /// After others, cheaper.
    Flex,
    /// From capacity that is paid for anyway.
    Reserved,
}

impl Tier {
    /// Every tier.
    pub const ALL: [Self; 4] = [Self::Default, Self::Priority, Self::Flex, Self::Reserved];

    /// AWS's word for it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Priority => "priority",
            Self::Flex => "flex",
            Self::Reserved => "reserved",
        }
    }

    /// The tier of that word, as AWS writes it.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.label() == word)
    }
}

impl Usage {
    /// What is expected of a call before it is made.
    #[must_use]
    pub fn expected(tokens: Tokens) -> Self {
        Self { tokens, guardrail: GuardrailUnits::default(), basis: Basis::Estimated, tier: None }
    }
}

/// What one answer used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The tokens.
    pub tokens: Tokens,
    /// The units of guardrails.
    pub guardrail: GuardrailUnits,
    /// Whether they were told.
    pub basis: Basis,
    /// How the call was served; none where the answer does not tell.
    pub tier: Option<Tier>,
}
