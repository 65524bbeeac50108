//! `limits`: each rule with every key that means something for it.

use std::time::Duration;

use serde_yaml::Value;

use super::super::limits::{Bound, Calendar, Count, Every, Matching, Measure, PERIODS, Rule, Tier, Wait, Weights, scaled_burst};
use super::super::upstreams::Quota;
use super::{Section, Shown};
use crate::domain::{Glob, Usd};

impl Shown for Rule {
    fn shown(&self) -> Value {
        let Self { name, count, bound, per, of, tiers, measure, reserve, warn_at, cut, shadow, unpriced, wait, account: _ } = self;
        let Matching { tenants, users, groups, models, services, routes } = of;
        let (is_tokens, is_usd) = (*count == Count::Tokens, *count == Count::Usd);
        let used_up = is_tokens || is_usd;
        let per: Vec<&str> = per.iter().map(|dimension| dimension.label()).collect();
        let per = if per.is_empty() { "global".into() } else { per.as_slice().shown() };
        let tiers = tiers.iter().fold(Section::default(), |all, tier| all.with(&tier.group.to_string(), &bound_of(tier, *count, bound)));
        let warn_at: Vec<String> = warn_at.iter().map(|percent| format!("{percent}%")).collect();
        let section = with_bound(Section::default().with("name", name).with("count", count.label()), *count, bound);
        let section = section.with("per", &per).filled("tiers", &tiers);
        let section = if is_tokens { with_measure(section, measure) } else { section };
        let section = section.some("reserve", used_up.then_some(reserve)).list("warn_at", &warn_at).some("cut", used_up.then_some(cut));
        let section = section.some("unpriced", is_usd.then_some(if *unpriced { "allow" } else { "refuse" }).as_ref());
        with_wait(section, wait.as_ref())
            .list("tenants", tenants)
            .list("users", users)
            .list("groups", groups)
            .list("models", models)
            .list("services", services)
            .list("routes", routes)
            .with("shadow", shadow)
            .done()
    }
}

/// An account's quota, as an upstream has it.
impl Shown for Quota {
    fn shown(&self) -> Value {
        let Self { models, counts_as, tpm, rpm, tpd, burndown, reserve, headroom, wait } = self;
        let granted = |count, amount: &Option<u64>| amount.map(|amount| number(count, amount));
        let section = Section::default()
            .list("models", models)
            .some("counts_as", counts_as.as_ref())
            .some("tpm", granted(Count::Tokens, tpm).as_ref())
            .some("rpm", granted(Count::Requests, rpm).as_ref())
            .some("tpd", granted(Count::Tokens, tpd).as_ref())
            .filled("burndown", &by_name(burndown))
            .some("reserve", reserve.as_ref())
            .with("headroom", &format!("{headroom}%"));
        with_wait(section, wait.as_ref()).done()
    }
}

fn with_wait(section: Section, wait: Option<&Wait>) -> Section {
    match wait {
        None => section,
        Some(Wait { time, queue, shares }) => {
            section.with("wait", time).with("queue", &u64::from(*queue)).filled("shares", &by_name(shares))
        }
    }
}

impl Section {
    /// Without the key, where the mapping is empty.
    pub(super) fn filled(self, key: &str, section: &Self) -> Self {
        if section.0.is_empty() { self } else { self.with(key, section) }
    }
}

fn with_bound(section: Section, count: Count, bound: &Bound) -> Section {
    match bound {
        Bound::Rate { amount, period, burst } => section.with("rate", &rate(count, *amount, *period)).with("burst", &number(count, *burst)),
        Bound::Quota { limit, calendar: Calendar { every, starts_on, zone } } => {
            let section = section.with("quota", &format!("{}/{}", plain(count, *limit), every.label()));
            let section = match every {
                Every::Day => section,
                Every::Week => section.some("starts_on", Calendar::WEEKDAYS.get(usize::from(*starts_on).saturating_sub(1))),
                Every::Month => section.with("starts_on", &u64::from(*starts_on)),
            };
            section.with("zone", zone.name())
        }
        Bound::Max(most) => section.with("max", most),
    }
}

fn with_measure(section: Section, measure: &Measure) -> Section {
    match measure {
        Measure::Weights(Weights { input, output, cache_read, cache_write }) => {
            let weights = Section::default()
                .with("input", &thousandths(*input))
                .with("output", &thousandths(*output))
                .with("cache_read", &thousandths(*cache_read))
                .with("cache_write", &thousandths(*cache_write));
            section.with("weights", &weights)
        }
        Measure::Bedrock { burndown } => section.with("as", "bedrock").filled("burndown", &by_name(burndown)),
    }
}

/// What a tier says: its burst too, where that does not follow from the rule's.
fn bound_of(tier: &Tier, count: Count, rule: &Bound) -> Value {
    match (tier.bound, *rule) {
        (Bound::Rate { amount, period, burst }, Bound::Rate { amount: ours, period: our_period, burst: our_burst }) => {
            let rate = rate(count, amount, period);
            if burst == scaled_burst(count, (ours, our_period, our_burst), (amount, period)) {
                return rate;
            }
            Section::default().with("rate", &rate).with("burst", &number(count, burst)).done()
        }
        (Bound::Rate { amount, period, .. }, Bound::Quota { .. } | Bound::Max(_)) => rate(count, amount, period),
        (Bound::Quota { limit, .. } | Bound::Max(limit), _) => number(count, limit),
    }
}

fn by_name(numbers: &[(Glob, u32)]) -> Section {
    numbers.iter().fold(Section::default(), |all, (name, number)| all.with(&name.to_string(), &u64::from(*number)))
}

fn rate(count: Count, amount: u64, period: Duration) -> Value {
    format!("{}/{}", plain(count, amount), self::period(period)).into()
}

/// The word for a second, a minute or an hour.
pub(super) fn period(period: Duration) -> &'static str {
    PERIODS.into_iter().find(|(_, known)| *known == period).map_or("second", |(name, _)| name)
}

/// Units of account, as they are written: with decimals in text, for a float would round them.
fn number(count: Count, units: u64) -> Value {
    let text = plain(count, units);
    text.parse::<u64>().map_or_else(|_| text.into(), Value::from)
}

fn plain(count: Count, units: u64) -> String {
    match count {
        Count::Requests | Count::Concurrency => units.to_string(),
        Count::Usd => Usd::from_picos(units).to_string(),
        Count::Tokens => (units / count.scale()).to_string(),
    }
}

/// A weight: at most seven digits, which a float keeps.
fn thousandths(weight: u32) -> Value {
    if weight.is_multiple_of(1_000) { (weight / 1_000).into() } else { (f64::from(weight) / 1_000.0).into() }
}
