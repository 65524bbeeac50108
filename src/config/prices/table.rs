//! What a file of prices holds.

use time::Date;
use time::macros::format_description;

use super::super::reader::{Checked, FromValue, Map, Value, suggest};
use crate::domain::{Glob, Tier, TokenKind, Usd};

/// Decimals of a price by the million tokens: a price by the token is then a whole number of picodollars.
const TOKEN_DECIMALS: u8 = 6;
/// Decimals of a price by a thousand units, for the same reason.
const UNIT_DECIMALS: u8 = 9;

/// A file of prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Whether what the gateway ships is asked where this file has no entry. Default: yes.
    pub shipped: bool,
    /// The prices of models: the first that matches counts.
    pub models: Vec<Entry>,
    /// The prices of guardrails.
    pub guardrail: Guardrail,
}

/// What tokens of some models cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The models, as clients name them.
    pub model: Glob,
    /// The regions that calls are sent to; none: every one.
    pub regions: Option<Vec<Glob>>,
    /// The service tiers; none: every one.
    pub tiers: Option<Vec<Tier>>,
    /// The largest input, caches included, in tokens: a longer call is priced by a later entry. None: no bound.
    pub up_to_input: Option<u64>,
    /// The prices; none of any kind where the entry says `unpriced: true`.
    pub prices: PerToken,
    /// When the prices were known to be these.
    pub date: Option<Date>,
    /// Where they stand.
    pub source: Option<String>,
}

/// Prices of one token, by kind. None: not known, which is not the same as free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerToken {
    /// Input that no cache had.
    pub input: Option<Usd>,
    /// Output.
    pub output: Option<Usd>,
    /// Input read from a cache.
    pub cache_read: Option<Usd>,
    /// Input written to a cache for five minutes.
    pub cache_write_5m: Option<Usd>,
    /// Input written to a cache for an hour.
    pub cache_write_1h: Option<Usd>,
}

impl PerToken {
    /// The price of one token of a kind.
    #[must_use]
    pub const fn of(&self, kind: TokenKind) -> Option<Usd> {
        match kind {
            TokenKind::Input => self.input,
            TokenKind::Output => self.output,
            TokenKind::CacheRead => self.cache_read,
            TokenKind::CacheWrite5m => self.cache_write_5m,
            TokenKind::CacheWrite1h => self.cache_write_1h,
        }
    }
}

/// Prices of one unit that a guardrail looked at, by policy: a text unit, or an image. None: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guardrail {
    /// Denied topics.
    pub topic: Option<Usd>,
    /// Content filters, text.
    pub content: Option<Usd>,
    /// Content filters, by the image.
    pub content_image: Option<Usd>,
    /// Personal data.
    pub sensitive_information: Option<Usd>,
    /// Contextual grounding.
    pub contextual_grounding: Option<Usd>,
    /// Automated reasoning, by the policy.
    pub automated_reasoning: Option<Usd>,
    /// When the prices were known to be these.
    pub date: Option<Date>,
    /// Where they stand.
    pub source: Option<String>,
}

impl Table {
    pub(super) fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let shipped = map.or("shipped", true);
        let models = map.or("models", Vec::new());
        let guardrail = map.or("guardrail", Guardrail::default());
        map.finish()?;
        Ok(Self { shipped: shipped?, models: models?, guardrail: guardrail? })
    }
}

impl FromValue for Entry {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let model = map.required("model", "\"*anthropic.claude-haiku-4-5-*\"");
        let regions = map.value("regions").map(|value| value.distinct("region")).transpose();
        let tiers = map.value("tiers").map(|value| value.distinct("tier")).transpose();
        let up_to_input = map.optional("up_to_input");
        let prices = prices(&mut map);
        let (date, source) = (map.optional("date"), map.optional("source"));
        map.finish()?;
        Ok(Self {
            model: model?,
            regions: regions?,
            tiers: tiers?,
            up_to_input: up_to_input?,
            prices: prices?,
            date: date?,
            source: source?,
        })
    }
}

/// The prices of an entry: an input price at least, or the word that there is none.
fn prices(map: &mut Map<'_>) -> Checked<PerToken> {
    let input = price(map, "input", TOKEN_DECIMALS);
    let output = price(map, "output", TOKEN_DECIMALS);
    let cache_read = price(map, "cache_read", TOKEN_DECIMALS);
    let five_minutes = price(map, "cache_write_5m", TOKEN_DECIMALS);
    let one_hour = price(map, "cache_write_1h", TOKEN_DECIMALS);
    let unpriced = map.or("unpriced", false);
    let given = TokenKind::ALL.map(TokenKind::label).into_iter().find_map(|kind| map.value(kind));
    match (unpriced?, given) {
        (true, Some(price)) => return price.refuse_key("a price, and `unpriced: true` beside it", "remove one of the two"),
        (false, None) => {
            return map.missing("input", "add the price, as in `input: 3`; or `unpriced: true`, so that nothing matches further down");
        }
        (false, Some(_)) if map.value("input").is_none() => return map.missing("input", "add the price, as in `input: 3`"),
        (true, None) | (false, Some(_)) => {}
    }
    Ok(PerToken { input: input?, output: output?, cache_read: cache_read?, cache_write_5m: five_minutes?, cache_write_1h: one_hour? })
}

/// The price under `key`, by the piece: the last of so many decimals is a picodollar.
fn price(map: &mut Map<'_>, key: &'static str, decimals: u8) -> Checked<Option<Usd>> {
    map.value(key).map(|value| value.decimal(decimals).map(Usd::from_picos)).transpose()
}

impl FromValue for Date {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        Self::parse(value.text()?, format_description!("[year]-[month]-[day]"))
            .or_else(|_| value.refuse_with(format!("{} is not a date", value.quoted()), "year, month and day, as in `2025-10-15`"))
    }
}

impl FromValue for Tier {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let word = value.text()?;
        Self::named(word).map_or_else(
            || value.refuse_with(format!("{} is not a service tier", value.quoted()), suggest(word, &Self::ALL.map(Self::label))),
            Ok,
        )
    }
}

impl FromValue for Guardrail {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let topic = price(&mut map, "topic", UNIT_DECIMALS);
        let content = price(&mut map, "content", UNIT_DECIMALS);
        let content_image = price(&mut map, "content_image", UNIT_DECIMALS);
        let sensitive_information = price(&mut map, "sensitive_information", UNIT_DECIMALS);
        let contextual_grounding = price(&mut map, "contextual_grounding", UNIT_DECIMALS);
        let automated_reasoning = price(&mut map, "automated_reasoning", UNIT_DECIMALS);
        let (date, source) = (map.optional("date"), map.optional("source"));
        map.finish()?;
        Ok(Self {
            topic: topic?,
            content: content?,
            content_image: content_image?,
            sensitive_information: sensitive_information?,
            contextual_grounding: contextual_grounding?,
            automated_reasoning: automated_reasoning?,
            date: date?,
            source: source?,
        })
    }
}
