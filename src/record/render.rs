//! Writes what calls were counted under in Prometheus' text format, straight from the counters.
//!
//! A family is one block, its samples in the order of their names. Families with fewer labels than a set has are sums over neighbours.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::histogram::Histogram;
use super::labels::StatusClass;
use super::metrics::{LimitLevel, QuotaLevel};
use super::series::{GUARDRAIL_POLICIES, Kinds, Metered, Series, escaped, is_cut};
use crate::domain::{MIRROR_TENANT, Reason, SERVICES, Subject, TokenKind, Usd};

/// Appends every family to `out`. `series` is in the order of the names.
pub(super) fn append(out: &mut String, series: &[Arc<Series>]) {
    let mut text = Text { out, series };
    text.requests();
    text.refusals();
    text.tokens();
    text.money();
    text.histogram(
        "gen_ai_client_token_usage",
        "Tokens of an answer; input is all that was read, from caches too.",
        &[(",gen_ai_token_type=\"input\"", |metered| &metered.input), (",gen_ai_token_type=\"output\"", |metered| &metered.output)],
    );
    text.histogram(
        "gen_ai_server_request_duration_seconds",
        "From a call's first byte to the end of its answer, where a model answered whole.",
        &[("", |metered| &metered.duration)],
    );
    text.histogram(
        "gen_ai_server_time_to_first_token_seconds",
        "From a call's first byte to the first token of a streamed answer.",
        &[("", |metered| &metered.first_token)],
    );
    text.histogram(
        "gen_ai_server_time_per_output_token_seconds",
        "The time for each output token after the first of a streamed answer, where Bedrock told their number.",
        &[("", |metered| &metered.per_token)],
    );
}

/// A family of what limits leave: its name, what it tells, and that of a level.
type LimitFamily = (&'static str, &'static str, fn(&LimitLevel) -> u64);

/// What is told of each limit and tenant.
const LIMIT_FAMILIES: [LimitFamily; 4] = [
    (
        "tollgate_limit_remaining",
        "What a tenant could take at once now, of limits that each tenant has for itself: requests, tokens, dollars.",
        LimitLevel::remaining,
    ),
    ("tollgate_limit_capacity", "What a tenant could take at once, had it taken nothing.", |level| level.capacity),
    ("tollgate_limit_used", "What a tenant has used of it, and not got back yet.", |level| level.used),
    ("tollgate_limit_held", "What calls of a tenant that are under way hold of it.", |level| level.held),
];

/// Appends what the tenants of `series` have left by `read`, in so many lines at most.
pub(super) fn limits(out: &mut String, series: &[Arc<Series>], most: u64, read: &dyn Fn(&Subject) -> Vec<LimitLevel>) {
    let tenants = series.chunk_by(|one, next| one.names.tenant == next.names.tenant).filter_map(|sets| sets.first());
    let tenants =
        tenants.map(|series| &*series.names.tenant).filter(|tenant| !tenant.is_empty() && *tenant != MIRROR_TENANT && !is_cut(tenant));
    let mut levels = Vec::new();
    for tenant in tenants {
        let of_tenant = read(&Subject { tenant: Some(tenant.into()), ..Subject::default() });
        if ((levels.len() + of_tenant.len()) * LIMIT_FAMILIES.len()) as u64 > most {
            break;
        }
        let tenant = escaped(tenant);
        levels.extend(of_tenant.into_iter().map(|level| (tenant.clone(), escaped(&level.limit).into_owned(), level)));
    }
    levels.sort_by(|(_, one, _), (_, other, _)| one.cmp(other));
    for (name, help, value) in LIMIT_FAMILIES {
        family(out, name, "gauge", help);
        for (tenant, limit, level) in &levels {
            named(out, name, &["limit=\"", limit, "\",tenant=\"", tenant, "\",count=\"", level.count, "\""]);
            decimal(out, value(level), level.scale.max(1));
        }
    }
}

/// What is told of each quota of an upstream's account, and model.
const QUOTA_FAMILIES: [LimitFamily; 2] = [
    (
        "tollgate_upstream_quota_remaining",
        "What could be sent at once now of an account's quota at Bedrock: tokens, requests.",
        LimitLevel::remaining,
    ),
    ("tollgate_upstream_quota_capacity", "What could be sent, had nothing been: the quota, less its headroom.", |level| level.capacity),
];

/// Appends where upstreams' accounts stand.
pub(super) fn quotas(out: &mut String, levels: &[QuotaLevel]) {
    let mut levels: Vec<_> = levels
        .iter()
        .map(|QuotaLevel { upstream, model, level }| (escaped(&level.limit), escaped(upstream), escaped(model), level))
        .collect();
    levels.sort_unstable_by(|one, other| (&one.0, &one.1, &one.2).cmp(&(&other.0, &other.1, &other.2)));
    for (name, help, value) in QUOTA_FAMILIES {
        family(out, name, "gauge", help);
        for (limit, upstream, model, level) in &levels {
            named(out, name, &["limit=\"", limit, "\",upstream=\"", upstream, "\",model=\"", model, "\""]);
            decimal(out, value(level), level.scale.max(1));
        }
    }
}

/// One histogram of a family: what tells it from the family's others, and where it is.
type Part = (&'static str, fn(&Metered) -> &OnceLock<Histogram>);

struct Text<'a> {
    out: &'a mut String,
    series: &'a [Arc<Series>],
}

impl Text<'_> {
    fn requests(&mut self) {
        family(self.out, "tollgate_requests_total", "counter", "Exchanges that ended.");
        for series in self.series {
            for (at, classes) in series.requests.iter().enumerate() {
                let service = SERVICES.get(at).map_or("unknown", |service| service.prefix);
                for (class, cell) in StatusClass::ALL.iter().zip(classes.get().into_iter().flat_map(|classes| classes.iter())) {
                    let labels = ["service=\"", service, "\",", &series.labels, ",status_class=\"", class.label(), "\""];
                    counted(self.out, "tollgate_requests_total", &labels, cell.load(Relaxed));
                }
            }
        }
    }

    fn refusals(&mut self) {
        const NAME: &str = "tollgate_refusals_total";
        family(self.out, NAME, "counter", "Exchanges that the gateway refused or broke off.");
        // Of callers whom nobody knows, every reason is there from the beginning. Their sets come first in the order.
        if self.series.first().is_none_or(|series| !series.names.tenant.is_empty()) {
            for reason in Reason::ALL {
                sample(self.out, NAME, &["reason=\"", reason.label(), "\",tenant=\"\""], 0);
            }
        }
        for sets in self.series.chunk_by(|one, next| one.names.tenant == next.names.tenant) {
            let Some(first) = sets.first() else { continue };
            let tenant = escaped(&first.names.tenant);
            for (at, reason) in Reason::ALL.into_iter().enumerate() {
                let number = sum(sets, |series| series.refusals.get()?.get(at));
                if number > 0 || tenant.is_empty() {
                    sample(self.out, NAME, &["reason=\"", reason.label(), "\",tenant=\"", &tenant, "\""], number);
                }
            }
        }
    }

    fn tokens(&mut self) {
        family(self.out, "tollgate_tokens_total", "counter", "Tokens that are billed; those of reasoning are among the output.");
        for (series, metered) in metered(self.series) {
            for (kind, cell) in TokenKind::ALL.into_iter().zip(&metered.tokens) {
                counted(self.out, "tollgate_tokens_total", &[&series.labels, ",type=\"", kind.label(), "\""], cell.load(Relaxed));
            }
        }
        family(self.out, "tollgate_reasoning_tokens_total", "counter", "Output tokens that were reasoning, where Bedrock told so.");
        for (series, metered) in metered(self.series) {
            counted(self.out, "tollgate_reasoning_tokens_total", &[&series.labels], metered.reasoning.load(Relaxed));
        }
        self.by_model_and_kind(
            "tollgate_tokens_estimated_total",
            "Tokens of answers of which at least one figure was estimated; they are in tollgate_tokens_total too.",
            |metered| &metered.estimated,
        );
        family(self.out, "tollgate_guardrail_units_total", "counter", "Text units that guardrails looked at.");
        for sets in self.series.chunk_by(|one, next| one.names.tenant == next.names.tenant) {
            let Some(first) = sets.first() else { continue };
            let tenant = escaped(&first.names.tenant);
            for (at, policy) in GUARDRAIL_POLICIES.into_iter().enumerate() {
                let units = sum(sets, |series| series.metered.get()?.guardrail.get(at));
                counted(self.out, "tollgate_guardrail_units_total", &["tenant=\"", &tenant, "\",policy=\"", policy, "\""], units);
            }
        }
    }

    fn money(&mut self) {
        family(self.out, "tollgate_cost_usd_total", "counter", "What usage cost, in US dollars, where a price is known.");
        for (series, metered) in metered(self.series) {
            let cost = Usd::from_picos(metered.cost.load(Relaxed));
            if cost > Usd::ZERO {
                named(self.out, "tollgate_cost_usd_total", &[&series.labels]);
                put(self.out, format_args!(" {cost}\n"));
            }
        }
        family(self.out, "tollgate_unpriced_requests_total", "counter", "Exchanges that used what no price is known for.");
        for sets in self.series.chunk_by(same_model) {
            let number = sum(sets, |series| Some(&series.metered.get()?.unpriced_requests));
            let Some(first) = sets.first() else { continue };
            let (tenant, model) = (escaped(&first.names.tenant), escaped(&first.names.model));
            counted(self.out, "tollgate_unpriced_requests_total", &["tenant=\"", &tenant, "\",model=\"", &model, "\""], number);
        }
        self.by_model_and_kind("tollgate_unpriced_tokens_total", "Tokens that no price is known for.", |metered| &metered.unpriced);
    }

    fn by_model_and_kind(&mut self, name: &str, help: &str, kinds: fn(&Metered) -> &Kinds) {
        family(self.out, name, "counter", help);
        for sets in self.series.chunk_by(same_model) {
            let Some(first) = sets.first() else { continue };
            let (tenant, model) = (escaped(&first.names.tenant), escaped(&first.names.model));
            for (at, kind) in TokenKind::ALL.into_iter().enumerate() {
                let number = sum(sets, |series| kinds(series.metered.get()?).get(at));
                counted(self.out, name, &["tenant=\"", &tenant, "\",model=\"", &model, "\",type=\"", kind.label(), "\""], number);
            }
        }
    }

    fn histogram(&mut self, name: &str, help: &str, parts: &[Part]) {
        family(self.out, name, "histogram", help);
        let [buckets, sums, counts] = ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}"));
        for (series, metered) in metered(self.series) {
            for (label, slot) in parts {
                let Some(histogram) = slot(metered).get() else { continue };
                let mut count = 0;
                for (le, up_to) in histogram.cumulated() {
                    sample(self.out, &buckets, &[&series.labels, label, ",le=\"", le, "\""], up_to);
                    count = up_to;
                }
                named(self.out, &sums, &[&series.labels, label]);
                let (sum, scale) = histogram.sum();
                decimal(self.out, sum, scale.one);
                sample(self.out, &counts, &[&series.labels, label], count);
            }
        }
    }
}

/// Begins a family.
pub(super) fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    put(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

/// Writes one sample; `labels` are the pieces of what stands within the braces.
pub(super) fn sample(out: &mut String, name: &str, labels: &[&str], value: u64) {
    named(out, name, labels);
    put(out, format_args!(" {value}\n"));
}

/// The same of a counter, which is shown once it has counted something.
fn counted(out: &mut String, name: &str, labels: &[&str], value: u64) {
    if value > 0 {
        sample(out, name, labels, value);
    }
}

fn named(out: &mut String, name: &str, labels: &[&str]) {
    out.push_str(name);
    out.push('{');
    for piece in labels {
        out.push_str(piece);
    }
    out.push('}');
}

/// A blank, `value` of which `one` (a power of ten) are a whole one, and the end of the line.
fn decimal(out: &mut String, value: u64, one: u64) {
    let (whole, rest) = (value / one, value % one);
    if rest == 0 {
        return put(out, format_args!(" {whole}\n"));
    }
    let digits = usize::try_from(one.ilog10()).unwrap_or_default();
    put(out, format_args!(" {whole}.{rest:0digits$}\n"));
}

/// Writing to a text can't fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    _ = out.write_fmt(text);
}

fn metered(series: &[Arc<Series>]) -> impl Iterator<Item = (&Series, &Metered)> {
    series.iter().filter_map(|series| Some((&**series, &**series.metered.get()?)))
}

fn same_model(one: &Arc<Series>, next: &Arc<Series>) -> bool {
    one.names.tenant == next.names.tenant && one.names.model == next.names.model
}

fn sum<'a>(sets: &'a [Arc<Series>], cell: impl Fn(&'a Series) -> Option<&'a AtomicU64>) -> u64 {
    sets.iter().filter_map(|series| cell(series)).fold(0, |sum, cell| sum.saturating_add(cell.load(Relaxed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (value, one, text) in [(0, 1, " 0\n"), (7, 1, " 7\n"), (1_500_000_000, 1_000_000_000, " 1.500000000\n"), (1, 1000, " 0.001\n")]
        {
            let mut out = String::new();
            decimal(&mut out, value, one);
            assert_eq!(out, text);
        }
    }
}
