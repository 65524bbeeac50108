//! How a rule is read: every key, and with what each may stand.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::reader::{Checked, FromValue, Map, Name, Numeral, Value, suggest};
use super::bound::{self, Kind};
use super::{Count, Dimension, Glob, Matching, Measure, Rule, Wait, matching, tiers};

impl FromValue for Rule {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let name = map.required::<Name>("name", "rpm");
        let count = map.required::<Count>("count", "requests");
        // Where something is amiss with what a key depends on, that is told, and not what follows from it.
        let counts = |wanted: &[Count]| count.as_ref().map_or(true, |count| wanted.contains(count));
        let (kind, bound) = bound::read(&mut map, count);
        let own_burst = map.value("burst").is_some();
        let tiers =
            map.value("tiers").map_or(Ok(Vec::new()), |value| tiers::read(&value, count?, bound.as_ref().map_err(|e| *e)?, own_burst));
        let per = map.value("per").map_or(Ok(vec![Dimension::Tenant]), |value| matching::per(&value));
        let measure = Measure::read(&mut map, count);
        let used_up = counts(&[Count::Tokens, Count::Usd]);
        let reserve = only(&mut map, "reserve", used_up, "is of output tokens", "remove it, or count `tokens` or `usd`");
        let reserve = reserve.and_then(|value| value.map_or(Ok(4_096), |value| within(&value, 1..=1_000_000)));
        let cut =
            only(&mut map, "cut", used_up, "is of tokens and of money, which a stream uses up", "remove it, or count `tokens` or `usd`");
        let cut = cut.and_then(|value| value.map_or(Ok(false), |value| bool::from_value(&value)));
        let unpriced = only(&mut map, "unpriced", counts(&[Count::Usd]), "is of money", "remove it, or count `usd`");
        let unpriced = unpriced.and_then(|value| value.map_or(Ok(false), |value| passes_unpriced(&value)));
        let is_quota = kind.is_none_or(|kind| kind == Kind::Quota);
        let warn_at = only(&mut map, "warn_at", is_quota, "goes with a `quota` only", "remove it");
        let warn_at = warn_at.and_then(|value| value.map_or(Ok(Vec::new()), |value| percents(&value)));
        let shadow = map.or("shadow", false);
        let wait = wait(&mut map, kind, matches!(shadow, Ok(true)));
        let of = Matching::read(&mut map);
        map.finish()?;
        Ok(Self {
            name: name?.0,
            count: count?,
            bound: bound?,
            per: per?,
            of: of?,
            tiers: tiers?,
            measure: measure?,
            reserve: reserve?,
            warn_at: warn_at?,
            cut: cut?,
            shadow: shadow?,
            unpriced: unpriced?,
            wait: wait?,
            account: None,
        })
    }
}

impl FromValue for Count {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let text = value.text()?;
        let named = Self::ALL.into_iter().find(|count| count.label() == text);
        let unknown = || value.refuse_with(format!("{} can't be counted", value.quoted()), suggest(text, &Self::ALL.map(Self::label)));
        named.map_or_else(unknown, Ok)
    }
}

/// The value of a key that means something only where it `fits`.
pub(super) fn only<'a>(map: &mut Map<'a>, key: &'static str, fits: bool, message: &str, help: &str) -> Checked<Option<Value<'a>>> {
    match map.value(key) {
        Some(value) if !fits => value.refuse_key(message, help),
        value => Ok(value),
    }
}

/// A whole number of these.
pub(in super::super) fn within(value: &Value<'_>, range: RangeInclusive<u32>) -> Checked<u64> {
    let number = u64::from_value(value)?;
    if (u64::from(*range.start())..=u64::from(*range.end())).contains(&number) {
        return Ok(number);
    }
    value.refuse(format!("{} is not within {} and {}", value.quoted(), range.start(), range.end()))
}

/// A mapping of patterns of names to whole numbers, in the order of the file: `what` says of what.
pub(in super::super) fn by_name(value: &Value<'_>, what: &str, range: &RangeInclusive<u32>) -> Checked<Vec<(Glob, u32)>> {
    let map = value.map()?;
    if map.named().is_empty() {
        return value.refuse(format!("needs at least one {what}"));
    }
    let one = |(name, value): &(&str, Value<'_>)| {
        if name.trim().is_empty() {
            return value.refuse_key("an empty pattern matches nothing", "a name, in which `*` stands for any run of characters");
        }
        let number = within(value, range.clone())?;
        Ok((Glob::new(*name), u32::try_from(number).unwrap_or(*range.end())))
    };
    let all: Vec<Checked<(Glob, u32)>> = map.named().iter().map(one).collect();
    all.into_iter().collect()
}

/// `[50%, 80%]`, in any order.
fn percents(value: &Value<'_>) -> Checked<Vec<u8>> {
    let mut all = value.distinct::<Percent>("share")?;
    all.sort_unstable();
    Ok(all.into_iter().map(|Percent(percent)| percent).collect())
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Percent(u8);

impl FromValue for Percent {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let refuse = |help: String| value.refuse_with(format!("{} is not a share to warn at", value.quoted()), help);
        match value.numeral() {
            Numeral::WithUnit(percent @ 1..=100, "%") => Ok(Self(u8::try_from(percent).unwrap_or(100))),
            Numeral::Bare(percent @ 1..=100) => refuse(format!("`{percent}%`")),
            Numeral::Bare(_) | Numeral::WithUnit(..) | Numeral::Other => refuse("`1%` to `100%`, without decimals".to_owned()),
        }
    }
}

/// Whether calls of models without a price pass.
fn passes_unpriced(value: &Value<'_>) -> Checked<bool> {
    match value.text()? {
        "allow" => Ok(true),
        "refuse" => Ok(false),
        other => value
            .refuse_with(format!("{} is not what becomes of calls without a price", value.quoted()), suggest(other, &["refuse", "allow"])),
    }
}

/// Reads `wait`, `queue` and `shares`, of what anyone may wait for.
pub(in super::super) fn queueing(map: &mut Map<'_>) -> Checked<Option<Wait>> {
    wait(map, None, false)
}

/// Reads `wait`, `queue` and `shares`.
fn wait(map: &mut Map<'_>, kind: Option<Kind>, shadow: bool) -> Checked<Option<Wait>> {
    let value = map.value("wait");
    let waits = value.is_some();
    let queue = only(map, "queue", waits, "goes with `wait` only", "add `wait: 2s`, or remove it");
    let queue = queue.and_then(|value| value.map_or(Ok(1_000), |value| within(&value, 1..=100_000)));
    let shares = only(map, "shares", waits, "goes with `wait` only", "add `wait: 2s`, or remove it");
    let shares = shares.and_then(|value| value.map_or(Ok(Vec::new()), |value| by_name(&value, "tenant", &(1..=100))));
    let Some(value) = value else { return queue.and(shares).map(|_| None) };
    if kind == Some(Kind::Quota) {
        return value.refuse_key("nobody can wait for a quota to begin anew", "remove it; calls can wait for a `rate` or a `max`");
    }
    if shadow {
        return value.refuse_key("a rule in shadow lets nobody wait", "remove it, or `shadow: true`");
    }
    let time = patience(&value);
    let queue = u32::try_from(queue?).unwrap_or(u32::MAX);
    Ok(Some(Wait { time: time?, queue, shares: shares? }))
}

/// How long a call may wait.
fn patience(value: &Value<'_>) -> Checked<Duration> {
    const LONGEST: Duration = Duration::from_mins(1);
    match value.numeral() {
        Numeral::Bare(0) | Numeral::WithUnit(0, _) => value.refuse_with("a wait of no time", "remove it: calls are then refused at once"),
        Numeral::Bare(_) | Numeral::WithUnit(..) | Numeral::Other => match Duration::from_value(value)? {
            time if time <= LONGEST => Ok(time),
            _ => value.refuse_with(format!("{} is too long", value.quoted()), "the longest is `60s`"),
        },
    }
}
