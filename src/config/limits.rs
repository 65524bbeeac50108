//! `limits`: how much each caller may ask for. Every rule that matches must admit.

use std::time::Duration;

use crate::domain::Glob;

use super::reader::{Checked, FromValue, Name, Numeral, Value, suggest};

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name in logs, metrics and refusals; unique.
    pub name: String,
    /// What is counted.
    pub count: Count,
    /// How fast it refills.
    pub rate: Rate,
    /// How many may come at once when the bucket is full: 1 to 1,000,000,000. Default: what `rate` gives in one second, at least 1.
    pub burst: u64,
    /// Who has a bucket of their own; at least one, each once. Default `[tenant]`.
    pub per: Vec<Dimension>,
    /// The tenants it is for; empty for all.
    pub tenants: Vec<Glob>,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Calls admitted.
    Requests,
}

/// So many in such a time, as in `600/minute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// 1 to 1,000,000,000.
    pub events: u64,
    /// A second, a minute or an hour.
    pub period: Duration,
}

/// By what callers are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// By tenant.
    Tenant,
    /// By user within the tenant; callers without a user share their tenant's.
    User,
}

impl Dimension {
    const ALL: [Self; 2] = [Self::Tenant, Self::User];

    /// The word for it in gateway.yaml and in refusals.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::User => "user",
        }
    }
}

impl FromValue for Rule {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let name = map.required::<Name>("name", "rpm");
        let count = map.required("count", "requests");
        let rate = map.required::<Rate>("rate", "600/minute");
        let burst = map.value("burst").map(|value| burst(&value)).transpose();
        let per = map.value("per").map_or(Ok(vec![Dimension::Tenant]), |value| value.distinct("dimension"));
        let tenants = map.value("tenants").map_or(Ok(Vec::new()), |value| value.distinct("tenant"));
        map.finish()?;
        let rate = rate?;
        Ok(Self { name: name?.0, count: count?, rate, burst: burst?.unwrap_or_else(|| rate.in_one_second()), per: per?, tenants: tenants? })
    }
}

/// Reads `limits`, where every rule has a name of its own.
pub(super) fn read(value: &Value<'_>) -> Checked<Vec<Rule>> {
    value.named_items()
}

impl Rate {
    /// Beyond it, the nanoseconds between two events come to nothing.
    const MAX_EVENTS: u64 = 1_000_000_000;

    fn in_one_second(self) -> u64 {
        (self.events / self.period.as_secs().max(1)).max(1)
    }
}

impl FromValue for Rate {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        const HELP: &str = "a whole number by `second`, `minute` or `hour`, as in `600/minute`";
        let (events, unit) = match value.numeral() {
            Numeral::Bare(events) | Numeral::WithUnit(events, "") => {
                return value.refuse_with(
                    format!("`{events}` is not a rate: in what time?"),
                    format!("`{events}/second`, `{events}/minute` or `{events}/hour`"),
                );
            }
            Numeral::WithUnit(events, unit) => (events, unit),
            Numeral::Other => return value.refuse_with(format!("{} is not a rate", value.quoted()), HELP),
        };
        let seconds = match unit {
            "/second" => 1,
            "/minute" => 60,
            "/hour" => 3600,
            _ => return value.refuse_with(format!("{} is not a rate", value.quoted()), HELP),
        };
        match events {
            0 => value.refuse_with("a rate of 0 lets no call pass", "the least is `1/hour`"),
            1..=Self::MAX_EVENTS => Ok(Self { events, period: Duration::from_secs(seconds) }),
            _ => value.refuse(format!("{} is beyond {}", value.quoted(), Self::MAX_EVENTS)),
        }
    }
}

fn burst(value: &Value<'_>) -> Checked<u64> {
    match u64::from_value(value)? {
        0 => value.refuse_with("a burst of 0 lets no call pass", "the least is 1"),
        burst @ 1..=Rate::MAX_EVENTS => Ok(burst),
        _ => value.refuse(format!("{} is beyond {}", value.quoted(), Rate::MAX_EVENTS)),
    }
}

impl FromValue for Count {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        match value.text()? {
            "requests" => Ok(Self::Requests),
            other => value.refuse_with(format!("{} can't be counted", value.quoted()), suggest(other, &["requests"])),
        }
    }
}

impl FromValue for Dimension {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let text = value.text()?;
        let named = Self::ALL.into_iter().find(|dimension| dimension.label() == text);
        let unknown =
            || value.refuse_with(format!("{} is not a dimension of callers", value.quoted()), suggest(text, &Self::ALL.map(Self::label)));
        named.map_or_else(unknown, Ok)
    }
}
