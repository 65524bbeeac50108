//! `limits`: how much each caller may ask for. Every rule that matches must admit.

use std::time::Duration;

use crate::domain::{Glob, Usd};

use super::reader::{Checked, FromValue, Name, Numeral, Value, suggest};

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name in logs, metrics and refusals; unique.
    pub name: String,
    /// What is counted.
    pub count: Count,
    /// How much.
    pub bound: Bound,
    /// Who has a bucket of their own; each dimension once, none for one bucket for all. Default `[tenant]`.
    pub per: Vec<Dimension>,
    /// The calls that it is for.
    pub of: Matching,
    /// Other bounds for the callers of some groups: the first that the caller is in.
    pub tiers: Vec<Tier>,
    /// What a token counts.
    pub measure: Measure,
    /// Output tokens to reserve for a call that does not say how many it allows at most: 1 to 1,000,000. Default 4,096.
    pub reserve: u64,
    /// Shares of a quota at which to warn, in percent: 1 to 100, ascending, each once.
    pub warn_at: Vec<u8>,
    /// Whether a stream ends when the rule leaves it nothing more.
    pub cut: bool,
    /// Whether it only tells what it would refuse.
    pub shadow: bool,
    /// Whether calls of models without a price pass a limit of money.
    pub unpriced: bool,
    /// Whether calls wait for their turn; none: they are refused at once.
    pub wait: Option<Wait>,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// Calls admitted.
    Requests,
    /// Tokens, as the rule's measure has it.
    Tokens,
    /// US dollars.
    Usd,
    /// Calls under way.
    Concurrency,
}

impl Count {
    /// Every count.
    pub const ALL: [Self; 4] = [Self::Requests, Self::Tokens, Self::Usd, Self::Concurrency];

    /// The word for it in gateway.yaml, metrics and refusals.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Usd => "usd",
            Self::Concurrency => "concurrency",
        }
    }

    /// How many units of account make one: thousandths of tokens, for weights have decimals, and picodollars.
    #[must_use]
    pub const fn scale(self) -> u64 {
        match self {
            Self::Requests | Self::Concurrency => 1,
            Self::Tokens => 1_000,
            Self::Usd => Usd::PICOS,
        }
    }
}

/// How much, in units of account ([`Count::scale`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// So much in any such time, and so much at once.
    Rate {
        /// How fast it refills: at least 1 unit.
        amount: u64,
        /// A second, a minute or an hour.
        period: Duration,
        /// The most at once: at least 1 unit. Default of requests: what a second gives, at least 1; of others: what `period` gives.
        burst: u64,
    },
    /// So much in each period of the calendar.
    Quota {
        /// At least 1 unit.
        limit: u64,
        /// The periods.
        calendar: Calendar,
    },
    /// So many at once.
    Max(u64),
}

/// Periods of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// How long one is.
    pub every: Every,
    /// On which day it begins: of a month 1 to 31 (its last day, where it has fewer); of a week 1 (Monday) to 7; of a day always 1. Default 1.
    pub starts_on: u8,
    /// In which time zone. Default UTC.
    pub zone: Zone,
}

/// How long a period of the calendar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Every {
    /// From midnight to midnight.
    Day,
    /// Seven days.
    Week,
    /// A calendar month.
    Month,
}

impl Every {
    /// Every length.
    pub const ALL: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    /// The word for it in gateway.yaml and in refusals.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

/// A time zone of the IANA that is known to exist, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Zone(&'static str);

/// The calls that a rule is for. An empty list: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// By tenant.
    pub tenants: Vec<Glob>,
    /// By user; a caller without one is in none.
    pub users: Vec<Glob>,
    /// By group: one of the caller's is enough.
    pub groups: Vec<Glob>,
    /// By model, in any of its spellings; a call that names none is in none.
    pub models: Vec<Glob>,
    /// By service, as `bedrock-runtime`.
    pub services: Vec<Glob>,
    /// By the name of the route.
    pub routes: Vec<Glob>,
}

/// Another bound for callers of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The group.
    pub group: Glob,
    /// Its bound: of the rule's own kind, and with its calendar.
    pub bound: Bound,
}

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

/// How calls wait for their turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For so long at most: up to 60 s.
    pub time: Duration,
    /// So many at once, for one bucket: 1 to 100,000. Default 1,000.
    pub queue: u32,
    /// Turns that a tenant gets in a round: 1 to 100, the first that matches. Default 1 each.
    pub shares: Vec<(Glob, u32)>,
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
    /// By group within the tenant: the first of the caller's that the rule is for.
    Group,
    /// By model, whatever its spelling; a profile's own name is a model of its own.
    Model,
    /// By key within the tenant; callers by other credentials share their tenant's.
    Key,
    /// By the client's address; of IPv6 its /64 network.
    Address,
}

impl Dimension {
    /// Every dimension.
    pub const ALL: [Self; 6] = [Self::Tenant, Self::User, Self::Group, Self::Model, Self::Key, Self::Address];

    /// The word for it in gateway.yaml and in refusals.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::Group => "group",
            Self::Model => "model",
            Self::Key => "key",
            Self::Address => "address",
        }
    }
}

impl Rule {
    /// A rule of the defaults, for all tenants, each with its own bucket: what tests and benches start from.
    #[must_use]
    pub fn new(name: impl Into<String>, count: Count, bound: Bound) -> Self {
        Self {
            name: name.into(),
            count,
            bound,
            per: vec![Dimension::Tenant],
            of: Matching::default(),
            tiers: Vec::new(),
            measure: Measure::Weights(Weights::default()),
            reserve: 4_096,
            warn_at: Vec::new(),
            cut: false,
            shadow: false,
            unpriced: false,
            wait: None,
        }
    }
}

impl Zone {
    /// UTC.
    pub const UTC: Self = Self("UTC");

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
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
        let bound = Bound::Rate { amount: rate.events, period: rate.period, burst: burst?.unwrap_or_else(|| rate.in_one_second()) };
        let of = Matching { tenants: tenants?, ..Matching::default() };
        Ok(Self { per: per?, of, ..Self::new(name?.0, count?, bound) })
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
