//! Other bounds for the callers of some groups.

use std::time::Duration;

use super::super::reader::{Checked, Value};
use super::{Bound, Count, Glob, Tier, amount};

/// Reads `tiers`, in the order of the file. `own_burst`: whether the rule says what its burst is.
pub(super) fn read(value: &Value<'_>, count: Count, rule: &Bound, own_burst: bool) -> Checked<Vec<Tier>> {
    let map = value.map()?;
    if map.named().is_empty() {
        return value.refuse_with("needs at least one tier", "as in `gold: 2000000/minute`, by a group");
    }
    let tier = |(group, value): &(&str, Value<'_>)| {
        if group.trim().is_empty() {
            return value.refuse_key("an empty pattern matches nothing", "a group, in which `*` stands for any run of characters");
        }
        bound(value, count, rule, own_burst).map(|bound| Tier { group: Glob::new(*group), bound })
    };
    let all: Vec<Checked<Tier>> = map.named().iter().map(tier).collect();
    all.into_iter().collect()
}

/// The rule's own kind of bound, with another amount.
fn bound(value: &Value<'_>, count: Count, rule: &Bound, own_burst: bool) -> Checked<Bound> {
    match *rule {
        Bound::Rate { amount, period, burst } => {
            let (rate, explicit) = rate(value, count)?;
            let scaled = own_burst.then(|| scaled_burst(count, (amount, period, burst), rate));
            Ok(Bound::rate(count, rate.0, rate.1, explicit.or(scaled)))
        }
        Bound::Quota { calendar, .. } => amount::quota_of_tier(value, count, calendar.every).map(|limit| Bound::Quota { limit, calendar }),
        Bound::Max(_) => amount::max(value).map(Bound::Max),
    }
}

type Rate = (u64, Duration);

/// `2000000/minute`, or `{ rate: 2000000/minute, burst: 100000 }`.
fn rate(value: &Value<'_>, count: Count) -> Checked<(Rate, Option<u64>)> {
    if !value.is_mapping() {
        return amount::rate(value, count).map(|rate| (rate, None));
    }
    let mut map = value.map()?;
    let rate = map.required_by("rate", "600/minute", |value| amount::rate(value, count));
    let burst = map.value("burst").map(|value| amount::burst(&value, count)).transpose();
    map.finish()?;
    Ok((rate?, burst?))
}

/// The burst of a tier whose rule says its own: as many times as much as the tier's rate is of the rule's; at least 1 unit.
pub(in super::super) fn scaled_burst(count: Count, (amount, period, burst): (u64, Duration, u64), tier: Rate) -> u64 {
    let (ours, theirs) = (period.as_secs().max(1), tier.1.as_secs().max(1));
    // Of two periods one is a multiple of the other. Where a product ends at the greatest number, its quotient is beyond the most anyway.
    let times = u128::from(burst).saturating_mul(tier.0.into()).saturating_mul((ours / theirs).max(1).into());
    let over = u128::from(amount).saturating_mul((theirs / ours).max(1).into()).max(1);
    u64::try_from(times / over).unwrap_or(u64::MAX).clamp(1, count.most_units())
}
