//! `/live.json`: what the live page draws, in one answer.

use std::cmp::Reverse;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::limits::level;
use super::readiness::{Unmet, credentials_of};
use super::shown::Shown;
use super::usage::tokens_json;
use crate::domain::{MIRROR_TENANT, Subject};
use crate::record::{Metrics, TenantFigures};

/// Tenants in one answer: those that spent or asked most.
const MOST_TENANTS: usize = 100;

/// The figures at `now`, for a process that began at `started`, some of what is stopped, with how much that is, and how canaries stand. It may take milliseconds.
pub(super) fn figures(
    metrics: &Metrics,
    shown: &Shown,
    unmet: &[Unmet],
    (stops, stopped): (Vec<Value>, usize),
    canaries: Vec<Value>,
    (started, now): (SystemTime, SystemTime),
) -> Value {
    let figures = metrics.figures();
    let mut total = TenantFigures::default();
    for tenant in &figures.tenants {
        total.requests = total.requests.saturating_add(tenant.requests);
        total.refused = total.refused.saturating_add(tenant.refused);
        total.errors = total.errors.saturating_add(tenant.errors);
        total.tokens += tenant.tokens;
        total.cost += tenant.cost;
        total.unpriced_requests = total.unpriced_requests.saturating_add(tenant.unpriced_requests);
    }
    let mut tenants = figures.tenants;
    let left_out = tenants.len().saturating_sub(MOST_TENANTS);
    tenants.sort_by(|one, other| {
        let weight = |tenant: &TenantFigures| Reverse((tenant.cost, tenant.requests));
        weight(one).cmp(&weight(other)).then_with(|| one.tenant.cmp(&other.tenant))
    });
    tenants.truncate(MOST_TENANTS);
    let tenants: Vec<Value> = tenants
        .iter()
        .map(|tenant| {
            let mut told = counts(tenant);
            told.insert("tenant".to_owned(), tenant.tenant.as_str().into());
            // Callers whom nobody knows have no bucket, and mirrored calls take from none.
            let left = if matches!(&*tenant.tenant, "" | MIRROR_TENANT) { json!([]) } else { limits(metrics, &tenant.tenant) };
            told.insert("limits".to_owned(), left);
            Value::Object(told)
        })
        .collect();
    let upstreams: Vec<Value> = shown
        .upstreams
        .iter()
        .map(|name| {
            let expiry = figures.expiries.iter().find(|(upstream, _)| **upstream == **name).map(|(_, expiry)| seconds_until(*expiry, now));
            let there = !unmet.iter().any(|unmet| *unmet.condition == *credentials_of(name));
            json!({ "name": &**name, "credentials": if there { "there" } else { "missing" }, "credentials_expire_in": expiry })
        })
        .collect();
    let mut told = counts(&total);
    told.extend(object([
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("config", shown.version.as_str().into()),
        ("started", seconds(started).into()),
        ("now", seconds(now).into()),
        ("ready", unmet.is_empty().into()),
        ("unmet", json!(unmet)),
        ("stops", stops.into()),
        ("stopped", stopped.into()),
        ("canaries", canaries.into()),
        ("in_flight", figures.in_flight.into()),
        ("overhead", json!({ "bounds": figures.overhead.bounds, "counts": figures.overhead.counts })),
        ("refusals", object(figures.refusals.into_iter().map(|(reason, count)| (reason, count.into()))).into()),
        ("attempts", object(figures.attempts.into_iter().map(|(outcome, count)| (outcome, count.into()))).into()),
        ("failovers", figures.failovers.into()),
        ("upstreams", upstreams.into()),
        ("tenants", tenants.into()),
        ("tenants_left_out", left_out.into()),
        ("ledger", shown.ledger.is_some().into()),
    ]));
    Value::Object(told)
}

/// What each limit that is a tenant's own leaves `tenant`.
fn limits(metrics: &Metrics, tenant: &str) -> Value {
    let left = metrics.limits_of(&Subject { tenant: Some(tenant.into()), ..Subject::default() });
    left.iter().map(level).collect::<Vec<_>>().into()
}

fn counts(figures: &TenantFigures) -> Map<String, Value> {
    let TenantFigures { tenant: _, requests, refused, errors, tokens, cost, unpriced_requests } = figures;
    object([
        ("requests", (*requests).into()),
        ("refused", (*refused).into()),
        ("errors", (*errors).into()),
        ("tokens", tokens_json(*tokens)),
        // Exact: a number would be read as a float.
        ("cost_usd", cost.to_string().into()),
        ("unpriced_requests", (*unpriced_requests).into()),
    ])
}

fn object<'a>(pairs: impl IntoIterator<Item = (&'a str, Value)>) -> Map<String, Value> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Below zero once it is past.
fn seconds_until(expiry: SystemTime, now: SystemTime) -> i64 {
    let whole = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    expiry.duration_since(now).map_or_else(|past| -whole(past.duration()), whole)
}
