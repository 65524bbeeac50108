//! What a token counts.

use super::super::reader::{Checked, FromValue, Map, Value, suggest};
use super::read::{by_name, only};
use super::{Count, Glob};

/// What a token counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// By its kind.
    Weights(Weights),
    /// As Bedrock counts it against an account's quota of tokens a minute: cache reads not at all, output of some models several times.
    Bedrock {
        /// How often output of a model counts, before what is known of Bedrock's models: the first that matches.
        burndown: Vec<(Glob, u32)>,
    },
}

impl Default for Measure {
    fn default() -> Self {
        Self::Weights(Weights::default())
    }
}

/// What a token of each kind counts, in thousandths: 0 to 1,000,000. Default 1,000 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Of input that no cache had.
    pub input: u32,
    /// Of output.
    pub output: u32,
    /// Of input that was read from a cache.
    pub cache_read: u32,
    /// Of input that was written to a cache.
    pub cache_write: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { input: 1_000, output: 1_000, cache_read: 1_000, cache_write: 1_000 }
    }
}

impl Measure {
    /// Reads `as`, `burndown` and `weights`, which go with tokens only.
    pub(super) fn read(map: &mut Map<'_>, count: Checked<Count>) -> Checked<Self> {
        let of_tokens = count.map_or(true, |count| count == Count::Tokens);
        let help = "remove it, or count `tokens`";
        let named = only(map, "as", of_tokens, "says how tokens count", help);
        let burndown = only(map, "burndown", of_tokens, "says how tokens count", help);
        let weights = only(map, "weights", of_tokens, "says how tokens count", help);
        let (named, burndown, weights) = (named?, burndown?, weights?);
        let times = burndown.as_ref().map(|value| by_name(value, "model", &(1..=100))).transpose();
        let own = weights.as_ref().map(Weights::from_value).transpose();
        let Some(named) = named else {
            if let Some(burndown) = burndown {
                return burndown.refuse_key("goes with `as: bedrock` only", "add `as: bedrock`; or say it by `weights`");
            }
            return Ok(Self::Weights(own?.unwrap_or_default()));
        };
        match named.text()? {
            "bedrock" => {}
            other => return named.refuse_with(format!("{} is no way to count tokens", named.quoted()), suggest(other, &["bedrock"])),
        }
        if let Some(weights) = weights {
            return weights.refuse_key("means nothing beside `as: bedrock`", "remove one of the two");
        }
        Ok(Self::Bedrock { burndown: times?.unwrap_or_default() })
    }
}

impl FromValue for Weights {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let default = Self::default();
        let mut map = value.map()?;
        let mut weight = |key, default| map.value(key).map_or(Ok(default), |value| weight(&value));
        let input = weight("input", default.input);
        let output = weight("output", default.output);
        let cache_read = weight("cache_read", default.cache_read);
        let cache_write = weight("cache_write", default.cache_write);
        map.finish()?;
        let weights = Self { input: input?, output: output?, cache_read: cache_read?, cache_write: cache_write? };
        if weights == (Self { input: 0, output: 0, cache_read: 0, cache_write: 0 }) {
            return value.refuse_with("no token would count", "give one of them a weight");
        }
        Ok(weights)
    }
}

/// In thousandths.
fn weight(value: &Value<'_>) -> Checked<u32> {
    match u32::try_from(value.decimal(3)?) {
        Ok(weight @ 0..=1_000_000) => Ok(weight),
        _ => value.refuse_with(format!("{} is beyond 1000", value.quoted()), "what one token counts, as in `0.1` or `5`"),
    }
}
