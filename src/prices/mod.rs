//! What does usage cost?
//!
//! Invariants: money is exact, no float in it; what has no price is unpriced, never free: counted by whoever asks, and logged here, once a model.

mod resolved;
#[cfg(test)]
mod tests;
mod untold;

use std::path::Path;
use std::sync::Arc;

use crate::config::prices::{Entry, Faults, Guardrail, Prices as Config, Table};
use crate::domain::{Cost, GuardrailUnits, Tier, TokenKind, Tokens, Usage, Usd};

use self::resolved::{Known, Resolved};
use self::untold::Untold;

/// The file that the gateway ships.
const SHIPPED: &str = include_str!("../../prices.yaml");

/// Prices that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    /// The operator's file can't be read, or has faults: all of them, each with its place.
    #[error(transparent)]
    File(#[from] Faults),
    /// The file that the gateway ships has faults; a test keeps this from happening.
    #[error("the prices that the gateway ships: {0}")]
    Shipped(Faults),
}

/// Whose an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The operator's file.
    Own,
    /// What the gateway ships.
    Shipped,
}

/// One line of the table: an entry, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The entry.
    pub entry: Entry,
    /// Whose it is.
    pub origin: Origin,
}

/// The prices of a configuration. Immutable, but for what is remembered of models seen: 4,096 of them, and the names of 1,024 that were logged.
#[derive(Debug)]
pub struct Prices {
    /// In the order in which they are asked.
    lines: Vec<Arc<Line>>,
    guardrail: Guardrail,
    resolved: Resolved,
    untold: Untold,
}

impl Prices {
    /// Reads the file that `config` names, and puts what the gateway ships behind it.
    ///
    /// # Errors
    /// Where the file can't be read, or is not well formed.
    pub fn build(config: &Config) -> Result<Self, PricesError> {
        let shipped = Table::parse(SHIPPED, Path::new("prices.yaml")).map_err(PricesError::Shipped)?;
        let Some(file) = &config.file else { return Ok(Self::of(None, Some(shipped))) };
        let own = Table::load(file)?;
        let shipped = own.shipped.then_some(shipped);
        Ok(Self::of(Some(own), shipped))
    }

    fn of(own: Option<Table>, shipped: Option<Table>) -> Self {
        let mut lines = Vec::new();
        let mut guardrail = Guardrail::default();
        for (table, origin) in [(own, Origin::Own), (shipped, Origin::Shipped)] {
            let Some(table) = table else { continue };
            lines.extend(table.models.into_iter().map(|entry| Arc::new(Line { entry, origin })));
            guardrail = behind(guardrail, table.guardrail);
        }
        Self { lines, guardrail, resolved: Resolved::default(), untold: Untold::default() }
    }

    /// Every entry, in the order in which they are asked.
    pub fn table(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().map(|line| &**line)
    }

    /// The entries that price a model in a region and tier: one, or several for inputs of growing length, the last without a bound. None: it has no price.
    #[must_use]
    pub fn entries(&self, model: &str, region: &str, tier: Tier) -> Vec<Arc<Line>> {
        let mut found = Vec::new();
        for line in self.lines.iter().filter(|line| matches(&line.entry, model, region, tier)) {
            found.push(Arc::clone(line));
            if line.entry.up_to_input.is_none() {
                break;
            }
        }
        found
    }

    /// What guardrails cost.
    #[must_use]
    pub const fn guardrail(&self) -> &Guardrail {
        &self.guardrail
    }

    /// What `usage` of `model` costs where it was sent to `region`. A model seen before costs no allocation; one without a price is logged, once.
    #[must_use]
    pub fn cost(&self, model: Option<&str>, region: &str, usage: &Usage) -> Cost {
        let has_tokens = usage.tokens.total() > 0;
        if !has_tokens && usage.guardrail.is_empty() {
            return Cost::Nothing;
        }
        let tokens = if has_tokens { self.of_tokens(model, region, usage) } else { Some(Usd::ZERO) };
        let units = of_units(&self.guardrail, &usage.guardrail);
        if units.is_none() {
            self.untold.guardrail();
        }
        let (Some(mut sum), Some(units)) = (tokens, units) else { return Cost::Unpriced };
        sum += units;
        Cost::Priced(sum)
    }

    fn of_tokens(&self, model: Option<&str>, region: &str, usage: &Usage) -> Option<Usd> {
        let tier = usage.tier.unwrap_or(Tier::Default);
        let Some(model) = model else {
            self.untold.model("", region, tier);
            return None;
        };
        let known = self.resolved.known(model, region, tier, || self.entries(model, region, tier));
        let cost = of_tokens(&known, &usage.tokens);
        if cost.is_none() && known.is_news() {
            self.untold.model(model, region, tier);
        }
        cost
    }
}

/// Whether an entry is for a model, region and tier.
fn matches(entry: &Entry, model: &str, region: &str, tier: Tier) -> bool {
    entry.tiers.as_ref().is_none_or(|tiers| tiers.contains(&tier))
        && entry.regions.as_ref().is_none_or(|regions| regions.iter().any(|glob| glob.matches(region)))
        && entry.model.matches(model)
}

/// What tokens cost by the first entry whose bound they keep; none where a kind of them has no price.
fn of_tokens(known: &Known, tokens: &Tokens) -> Option<Usd> {
    let input = tokens.total().saturating_sub(tokens.output);
    let fits = |line: &&Arc<Line>| line.entry.up_to_input.is_none_or(|bound| input <= bound);
    let prices = &known.lines().iter().find(fits)?.entry.prices;
    let mut sum = Usd::ZERO;
    for kind in TokenKind::ALL {
        let count = tokens.of(kind);
        if count > 0 {
            sum += prices.of(kind)?.times(count);
        }
    }
    Some(sum)
}

/// What units of guardrails cost; none where a kind of them has no price.
fn of_units(prices: &Guardrail, units: &GuardrailUnits) -> Option<Usd> {
    let mut sum = Usd::ZERO;
    for (count, price) in [
        (units.topic, prices.topic),
        (units.content, prices.content),
        (units.content_image, prices.content_image),
        (units.sensitive_information, prices.sensitive_information),
        (units.contextual_grounding, prices.contextual_grounding),
        (units.automated_reasoning, prices.automated_reasoning),
    ] {
        if count > 0 {
            sum += price?.times(count);
        }
    }
    Some(sum)
}

/// The prices of `first`, and those of `second` where it has none.
fn behind(first: Guardrail, second: Guardrail) -> Guardrail {
    Guardrail {
        topic: first.topic.or(second.topic),
        content: first.content.or(second.content),
        content_image: first.content_image.or(second.content_image),
        sensitive_information: first.sensitive_information.or(second.sensitive_information),
        contextual_grounding: first.contextual_grounding.or(second.contextual_grounding),
        automated_reasoning: first.automated_reasoning.or(second.automated_reasoning),
        date: first.date.or(second.date),
        source: first.source.or(second.source),
    }
}
