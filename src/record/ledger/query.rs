//! What the ledger says: sums of usage, by whatever is asked.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};
use time::OffsetDateTime;

use super::schema::open_to_read;
use super::{HOUR, LedgerError};
use crate::domain::{Tokens, Usd};

/// Which usage is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    /// Of one tenant only; of all, where none is named.
    pub tenant: Option<String>,
    /// What rows are told apart by; none: tenant and model.
    pub by: Option<By>,
    /// From the hour (UTC) that this lies in.
    pub since: SystemTime,
    /// Up to here: an hour that begins before it counts whole.
    pub until: SystemTime,
}

/// What rows are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The tenant.
    Tenant,
    /// The user, within the tenant: two tenants may each have an `ada`.
    User,
    /// The model.
    Model,
    /// The day (UTC).
    Day,
    /// The hour (UTC).
    Hour,
    /// The upstream.
    Upstream,
    /// The operation.
    Operation,
}

impl By {
    /// Everything that rows can be told apart by.
    pub const ALL: [Self; 7] = [Self::Tenant, Self::User, Self::Model, Self::Day, Self::Hour, Self::Upstream, Self::Operation];

    /// The word for it on the command line, in headings and in queries.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::Model => "model",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Upstream => "upstream",
            Self::Operation => "operation",
        }
    }

    /// What is meant by that word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.label() == word)
    }

    /// Over what SQL groups.
    const fn expression(self) -> &'static str {
        match self {
            Self::Day => "hour - hour % 86400",
            Self::Tenant | Self::User | Self::Model | Self::Hour | Self::Upstream | Self::Operation => self.label(),
        }
    }
}

/// The keys of a row, in their order.
fn keys(by: Option<By>) -> &'static [By] {
    match by {
        None => &[By::Tenant, By::Model],
        Some(By::Tenant) => &[By::Tenant],
        Some(By::User) => &[By::Tenant, By::User],
        Some(By::Model) => &[By::Model],
        Some(By::Day) => &[By::Day],
        Some(By::Hour) => &[By::Hour],
        Some(By::Upstream) => &[By::Upstream],
        Some(By::Operation) => &[By::Operation],
    }
}

/// The usage of those whom the keys name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// By what, and which: `("tenant", "acme")`. A day is `2026-11-22`, an hour `2026-11-22T13:00Z`; what was not named is empty.
    pub keys: Vec<(&'static str, String)>,
    /// Exchanges.
    pub calls: u64,
    /// Those of them that the gateway refused or broke off.
    pub refused: u64,
    /// Those that it did not, and that ended in an error or before their end.
    pub failed: u64,
    /// Those whose tokens are estimated, at least in part.
    pub estimated_calls: u64,
    /// Tokens.
    pub tokens: Tokens,
    /// What that cost, what has no price apart.
    pub cost: Usd,
    /// Calls that used what no price is known for.
    pub unpriced_calls: u64,
}

impl UsageRow {
    /// Adds another row's counts: for totals. The keys stay.
    pub fn add(&mut self, other: &Self) {
        let sum = |to: &mut u64, more: u64| *to = to.saturating_add(more);
        sum(&mut self.calls, other.calls);
        sum(&mut self.refused, other.refused);
        sum(&mut self.failed, other.failed);
        sum(&mut self.estimated_calls, other.estimated_calls);
        sum(&mut self.unpriced_calls, other.unpriced_calls);
        self.tokens += other.tokens;
        self.cost += other.cost;
    }
}

/// What is summed, in the order in which [`read`] takes it.
const SUMMED: [&str; 12] = [
    "calls",
    "refused",
    "failed",
    "estimated_calls",
    "unpriced_calls",
    "input",
    "output",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "reasoning",
    "cost_picos",
];

/// Sums the usage in the ledger `file`, in the order of the keys. It opens the file for reading only, and works while a gateway writes it: what it
/// returns was true at one moment. It blocks the thread.
///
/// # Errors
/// When the file can't be read, or is no ledger of this version.
pub fn usage(file: &Path, query: &UsageQuery) -> Result<Vec<UsageRow>, LedgerError> {
    let keys = keys(query.by);
    let connection = open_to_read(file)?;
    let told = LedgerError::sqlite(file);
    let mut statement = connection.prepare(&select(keys, query.tenant.is_some())).map_err(&told)?;
    let since = seconds(query.since);
    let mut values = vec![Value::Integer(since - since % HOUR), Value::Integer(ceiling(query.until))];
    values.extend(query.tenant.clone().map(Value::Text));
    let rows = statement.query_map(params_from_iter(values), |row| read(row, keys)).map_err(&told)?;
    rows.collect::<Result<_, _>>().map_err(&told)
}

/// Everything that is put into the text is a literal of this file.
///
/// `SUM` fails where it goes beyond 64 bits, so the halves of the numbers are summed: those of two thousand million rows don't.
fn select(keys: &[By], one_tenant: bool) -> String {
    let grouped = keys.iter().map(|by| by.expression()).collect::<Vec<_>>().join(", ");
    let halves = SUMMED.map(|column| format!("SUM({column} >> 32), SUM({column} & 4294967295)")).join(", ");
    let tenant = if one_tenant { " AND tenant = ?3" } else { "" };
    format!("SELECT {grouped}, {halves} FROM usage WHERE hour >= ?1 AND hour < ?2{tenant} GROUP BY {grouped} ORDER BY {grouped}")
}

#[expect(clippy::similar_names, reason = "two kinds of cache writes, as they are called everywhere")]
fn read(row: &Row<'_>, keys: &[By]) -> rusqlite::Result<UsageRow> {
    let mut named = Vec::with_capacity(keys.len());
    for (at, by) in keys.iter().enumerate() {
        let value = match by {
            By::Day => date(row.get(at)?),
            By::Hour => hour(row.get(at)?),
            By::Tenant | By::User | By::Model | By::Upstream | By::Operation => row.get(at)?,
        };
        named.push((by.label(), value));
    }
    let mut sums = [0; SUMMED.len()];
    for (nth, sum) in sums.iter_mut().enumerate() {
        let at = keys.len() + 2 * nth;
        *sum = whole(row.get(at)?, row.get(at + 1)?);
    }
    let [
        calls,
        refused,
        failed,
        estimated_calls,
        unpriced_calls,
        input,
        output,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        reasoning,
        picos,
    ] = sums;
    let tokens = Tokens { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning };
    Ok(UsageRow { keys: named, calls, refused, failed, estimated_calls, tokens, cost: Usd::from_picos(picos), unpriced_calls })
}

/// The number whose upper and lower 32 bits were summed apart; as much as 64 bits hold.
fn whole(high: i64, low: i64) -> u64 {
    u64::try_from((i128::from(high) << 32) + i128::from(low)).unwrap_or(if high < 0 { 0 } else { u64::MAX })
}

/// Whole seconds since 1970, from 0 on.
pub(super) fn seconds(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// The same, rounded up.
fn ceiling(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.saturating_add(Duration::from_nanos(999_999_999)).as_secs()).unwrap_or(i64::MAX)
}

fn date(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| seconds.to_string(), |time| time.date().to_string())
}

fn hour(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| seconds.to_string(), |time| format!("{}T{:02}:00Z", time.date(), time.hour()))
}
