//! A warning of a limit, as operators read it.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::{LimitWarning, Subject, Usd};

/// The amounts of a warning in what its rule counts, and when its period ends.
pub(super) struct Told {
    pub(super) used: Value,
    pub(super) limit: Value,
    /// RFC 3339, UTC.
    pub(super) ends: String,
}

impl Told {
    pub(super) fn of(warning: &LimitWarning) -> Self {
        let amount = |units| amount(warning.count, warning.scale, units);
        let ends = UNIX_EPOCH.checked_add(Duration::from_secs(warning.ends)).unwrap_or(UNIX_EPOCH);
        Self {
            used: amount(warning.used),
            limit: amount(warning.limit),
            ends: OffsetDateTime::from(ends).format(&Rfc3339).unwrap_or_default(),
        }
    }
}

/// Says it in our own log.
pub(super) fn log(warning: &LimitWarning) {
    let Told { used, limit, ends } = Told::of(warning);
    let Subject { tenant, user, group, model, key, address } = &warning.subject;
    tracing::warn!(
        rule = &*warning.rule,
        tenant = tenant.as_deref(),
        user = user.as_deref(),
        group = group.as_deref(),
        model = model.as_deref(),
        key = key.as_deref(),
        address = address.as_deref(),
        percent = warning.percent,
        %used,
        %limit,
        count = warning.count,
        ends,
        "a quota is nearly used up"
    );
}

/// So many units of account, `scale` of which make one of what is counted: money in decimal text, for it is exact; everything else a number.
#[must_use]
pub fn amount(count: &str, scale: u64, units: u64) -> Value {
    if count == "usd" {
        return Usd::from_picos(units).to_string().into();
    }
    let scale = scale.max(1);
    let (whole, rest) = (units / scale, units % scale);
    if rest == 0 {
        return whole.into();
    }
    // Thousandths of tokens, where weights have decimals.
    let digits = usize::try_from(scale.ilog10()).unwrap_or_default();
    format!("{whole}.{rest:0digits$}").parse::<f64>().map_or(Value::Null, Value::from)
}
