//! `limits`: how much each caller may ask for. Every rule that matches must admit.

mod amount;
mod bound;
mod matching;
mod measure;
mod read;
mod tiers;
mod zone;

use std::time::Duration;

use crate::domain::{Glob, Usd};

use super::reader::{Checked, Value};
use super::routes::Route;

pub(super) use self::amount::{PERIODS, quota_units};
pub use self::bound::{Bound, Calendar, Every, Rate};
pub use self::measure::{Measure, Weights};
pub(super) use self::read::{by_name, queueing, within};
pub(super) use self::tiers::scaled_burst;
pub use self::zone::Zone;

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
    /// It is an account's quota at Bedrock, told beforehand; none for every rule of `limits`.
    pub account: Option<Account>,
}

/// What a rule has to know that stands for an account's quota at Bedrock: [`super::upstreams::Quota`] makes such rules. Tokens are held so that what is held is
/// never less than what Bedrock has reserved or used by then, and a refusal says whose quota it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// What every call counts as, where that is not the model that it names.
    pub model: Option<String>,
    /// Output tokens that Bedrock reserves for a call that does not say how many it allows. Default: what is known of the model.
    pub reserve: Option<u64>,
}

impl Rule {
    /// Whether it finds the buckets of `other`, what was used of them included: it has the name, and counts the same, in the same way, by the same.
    #[must_use]
    pub fn continues(&self, other: &Self) -> bool {
        let kind = |rule: &Self| std::mem::discriminant(&rule.bound);
        let has_all = |one: &Self, other: &Self| one.per.iter().all(|dimension| other.per.contains(dimension));
        (&self.name, self.count, kind(self)) == (&other.name, other.count, kind(other)) && has_all(self, other) && has_all(other, self)
    }
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
            measure: Measure::default(),
            reserve: 4_096,
            warn_at: Vec::new(),
            cut: false,
            shadow: false,
            unpriced: false,
            wait: None,
            account: None,
        }
    }
}

/// Reads `limits`, where every rule has a name of its own.
pub(super) fn read(value: &Value<'_>) -> Checked<Vec<Rule>> {
    value.named_items()
}

/// Refuses what is for a route that there is not: such a rule would hold nobody back.
pub(super) fn routes_exist(value: &Value<'_>, routes: &[Route]) -> Checked<()> {
    matching::routes_exist(value, routes)
}
