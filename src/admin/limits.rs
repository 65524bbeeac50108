//! `/limits`: the rules, and what they leave one caller.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::query::Parameters;
use crate::domain::{Subject, client_network, model_name, rfc3339};
use crate::record::{LimitLevel, Metrics, amount};

/// By what a caller may be told.
const DIMENSIONS: [&str; 6] = ["tenant", "user", "group", "model", "key", "address"];

/// The rules as gateway.yaml says them, and, where the query tells a caller, what each rule leaves that can tell callers apart by it.
///
/// # Errors
/// For the operator, what is wrong with the query.
pub(super) fn told(query: Option<&str>, rules: &Value, metrics: &Metrics) -> Result<Value, String> {
    let parameters = Parameters::read(query, &DIMENSIONS)?;
    let [tenant, user, group, model, key, address] = DIMENSIONS.map(|name| parameters.value(name));
    if let Some(within) = ["user", "group", "key"].into_iter().find(|name| parameters.value(name).is_some() && tenant.is_none()) {
        return Err(format!("a {within} is one of a tenant: say `tenant` too"));
    }
    let address = address.map(|text| text.parse().map(client_network).map_err(|_| format!("`{text}` is no address"))).transpose()?;
    let caller = DIMENSIONS.into_iter().filter_map(|name| Some((name.to_owned(), Value::from(parameters.value(name)?))));
    let mut told: Map<String, Value> = caller.collect();
    if !told.is_empty() {
        let model = model.map(model_name);
        let values = [tenant, user, group, model.as_deref(), key, address.as_deref()];
        told.insert("left".to_owned(), left(values, rules, metrics).into());
    }
    told.insert("rules".to_owned(), rules.clone());
    Ok(told.into())
}

/// What each rule leaves that tells callers apart by some of these values, in the rules' order.
fn left(values: [Option<&str>; 6], rules: &Value, metrics: &Metrics) -> Vec<Value> {
    let mut levels: Vec<LimitLevel> = Vec::new();
    let [_, _, group, ..] = values;
    // At most 64, of which each rule is asked about by one.
    for chosen in 0..1_u8 << values.len() {
        let mut places = values.iter().enumerate().map(|(at, value)| value.filter(|_| chosen >> at & 1 == 1).map(Into::into));
        let mut next = || places.next().flatten();
        let subject = Subject { tenant: next(), user: next(), group: next(), model: next(), key: next(), address: next() };
        let told = subject.parts().into_iter().filter(|(_, value)| value.is_some()).count();
        // What is not there can't be left out: each subject once. A group is told always, for tiers go by it.
        if subject.group.is_some() == group.is_some() && told == usize::try_from(chosen.count_ones()).unwrap_or_default() {
            levels.extend(metrics.limits_of(&subject));
        }
    }
    let place = |level: &LimitLevel| rules.as_array().and_then(|rules| rules.iter().position(|rule| rule["name"] == *level.limit));
    levels.sort_by_key(place);
    levels.iter().map(level).collect()
}

/// One rule's word on one caller.
pub(super) fn level(level: &LimitLevel) -> Value {
    let amount = |units| amount(level.count, level.scale, units);
    let mut told = json!({
        "rule": &*level.limit,
        "count": level.count,
        "capacity": amount(level.capacity),
        "used": amount(level.used),
        "held": amount(level.held),
        "remaining": amount(level.remaining()),
        "resets_in": u64::try_from(level.reset.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX),
    });
    // A period that never ends has none that can be told.
    let ends = level.ends.and_then(|ends| UNIX_EPOCH.checked_add(Duration::from_secs(ends)));
    if let (Value::Object(told), Some(ends)) = (&mut told, ends) {
        told.insert("ends".to_owned(), rfc3339(ends).into());
    }
    told
}
