//! What of limits outlives the process: the limits room counts it, the ledger keeps it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::SystemTime;

/// Whose a bucket is: a value for each thing that its rule tells callers apart by, and for the tenant where that is needed to tell two users apart; none
/// for the others. Callers that have no such thing (no user, say) have it empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The tenant.
    pub tenant: Option<Arc<str>>,
    /// The user, within the tenant.
    pub user: Option<Arc<str>>,
    /// The group, within the tenant.
    pub group: Option<Arc<str>>,
    /// The model.
    pub model: Option<Arc<str>>,
    /// The public name of the key, within the tenant.
    pub key: Option<Arc<str>>,
    /// The client's address, or its network.
    pub address: Option<Arc<str>>,
}

impl Subject {
    /// What it is told by, under the names that rules and operators use.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, Option<&str>); 6] {
        let Self { tenant, user, group, model, key, address } = self;
        [("tenant", tenant), ("user", user), ("group", group), ("model", model), ("key", key), ("address", address)]
            .map(|(name, value)| (name, value.as_deref()))
    }
}

/// Bits of an IPv6 address that tell one customer's network.
const NETWORK: u32 = 64;

/// An address as one customer has it: of IPv6 its /64 network.
#[must_use]
pub fn client_network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - NETWORK)));
            format!("{network}/{NETWORK}")
        }
    }
}

/// The use of one quota changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaChange {
    /// The name of the rule.
    pub rule: Arc<str>,
    /// What it counts: a rule that counts something else has nothing in common with it.
    pub count: &'static str,
    /// Whose.
    pub subject: Subject,
    /// When the period began that it is of, in seconds since 1970.
    pub starts: u64,
    /// So much more, or less, in the rule's units of account: what is held for calls under way counts as used.
    pub delta: i64,
}

/// The use of one quota changed in another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaElsewhere {
    /// The name of the rule.
    pub rule: String,
    /// What it counts.
    pub count: String,
    /// Whose.
    pub subject: Subject,
    /// When the period began that it is of, in seconds since 1970.
    pub starts: u64,
    /// So much more, or less, in the rule's units of account.
    pub delta: i64,
}

/// The use of one quota, as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The name of the rule.
    pub rule: String,
    /// What it counted.
    pub count: String,
    /// Whose.
    pub subject: Subject,
    /// When the period began that it is of, in seconds since 1970.
    pub starts: u64,
    /// So much, in the rule's units of account.
    pub used: u64,
}

/// More of a limit for one tenant or user, for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// By which it is revoked; unique in a ledger.
    pub id: u64,
    /// The name of the rule.
    pub rule: Arc<str>,
    /// The tenant.
    pub tenant: Arc<str>,
    /// The user, for the buckets that are theirs alone; none for the tenant's own bucket, and for each of its users'.
    pub user: Option<Arc<str>>,
    /// So much more, in the rule's units of account.
    pub more: u64,
    /// Until then.
    pub until: SystemTime,
    /// When it was made.
    pub made: SystemTime,
    /// Why, as whoever made it says.
    pub note: String,
}

/// A quota that is used to a share at which its rule warns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitWarning {
    /// The name of the rule.
    pub rule: Arc<str>,
    /// What it counts.
    pub count: &'static str,
    /// Whose quota.
    pub subject: Subject,
    /// The share that it has passed, in percent.
    pub percent: u8,
    /// What is used, in the rule's units of account.
    pub used: u64,
    /// The whole quota, likewise.
    pub limit: u64,
    /// Units of account that make one of what is counted.
    pub scale: u64,
    /// When the period ends, in seconds since 1970.
    pub ends: u64,
}
