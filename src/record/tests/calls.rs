//! What is counted with labels that come from calls.

#![expect(clippy::float_cmp, reason = "counters are whole numbers far below 2^53")]

use super::*;
use crate::config::record::Metrics as MetricsConfig;
use crate::domain::{Basis, GuardrailUnits, Tokens, Usage, Usd};

#[path = "../../../tests/it/exposition.rs"]
mod exposition;
use exposition::{Sample, parse};

const TOKENS: Tokens = Tokens { input: 100, output: 21, cache_read: 30, cache_write_5m: 4, cache_write_1h: 5, reasoning: 6 };
const REPORTED: Usage = Usage {
    tokens: TOKENS,
    guardrail: GuardrailUnits {
        topic: 2,
        content: 0,
        content_image: 0,
        sensitive_information: 3,
        contextual_grounding: 0,
        automated_reasoning: 0,
    },
    basis: Basis::Reported,
    tier: None,
};
const ESTIMATED: Usage = Usage { basis: Basis::Estimated, ..REPORTED };

/// A streamed answer of a model.
fn answered<'a>(id: &'a RequestId, principal: &'a Principal) -> Entry<'a> {
    Entry {
        status: Some(200),
        reason: None,
        streamed: true,
        usage: Some(&REPORTED),
        cost: Cost::Priced(Usd::from_picos(12_500_000_001)),
        first_token: Some(Duration::from_millis(300)),
        last_token: Some(Duration::from_millis(800)),
        ..full(id, principal)
    }
}

fn of_size(max_series: u64) -> Metrics {
    Metrics::build(&MetricsConfig { max_series }, 1)
}

/// The samples of a name, and of its histogram's parts.
fn samples(metrics: &Metrics, name: &str) -> Vec<Sample> {
    let families = parse(&metrics.render(SystemTime::UNIX_EPOCH));
    families.into_values().flat_map(|family| family.samples).filter(|sample| sample.name == name).collect()
}

fn sum(metrics: &Metrics, name: &str) -> f64 {
    samples(metrics, name).iter().map(|sample| sample.value).sum()
}

#[test]
fn an_answer_is_counted_by_tenant_model_operation_and_upstream() {
    let metrics = Metrics::new();
    let (id, acme) = (RequestId::random(), principal("acme", None));
    metrics.count(&answered(&id, &acme));
    metrics.count(&Entry { usage: Some(&ESTIMATED), cost: Cost::Unpriced, ..answered(&id, &acme) });
    let text = metrics.render(SystemTime::UNIX_EPOCH);
    parse(&text);
    let names = r#"tenant="acme",model="amazon.nova-lite-v1:0",operation="converse",upstream="primary""#;
    let model = r#"tenant="acme",model="amazon.nova-lite-v1:0""#;
    for (series, value) in [
        (format!(r#"tollgate_requests_total{{service="bedrock-runtime",{names},status_class="2xx"}}"#), "2"),
        (format!(r#"tollgate_tokens_total{{{names},type="input"}}"#), "200"),
        (format!(r#"tollgate_tokens_total{{{names},type="output"}}"#), "42"),
        (format!(r#"tollgate_tokens_total{{{names},type="cache_read"}}"#), "60"),
        (format!(r#"tollgate_tokens_total{{{names},type="cache_write_5m"}}"#), "8"),
        (format!(r#"tollgate_tokens_total{{{names},type="cache_write_1h"}}"#), "10"),
        (format!("tollgate_reasoning_tokens_total{{{names}}}"), "12"),
        (format!(r#"tollgate_tokens_estimated_total{{{model},type="output"}}"#), "21"),
        (r#"tollgate_guardrail_units_total{tenant="acme",policy="sensitive_information"}"#.to_owned(), "6"),
        (format!("tollgate_cost_usd_total{{{names}}}"), "0.012500000001"),
        (format!("tollgate_unpriced_requests_total{{{model}}}"), "1"),
        (format!(r#"tollgate_unpriced_tokens_total{{{model},type="output"}}"#), "21"),
        (format!(r#"gen_ai_client_token_usage_sum{{{names},gen_ai_token_type="input"}}"#), "278"),
        (format!(r#"gen_ai_client_token_usage_bucket{{{names},gen_ai_token_type="output",le="64"}}"#), "2"),
        (format!(r#"gen_ai_client_token_usage_bucket{{{names},gen_ai_token_type="output",le="16"}}"#), "0"),
        (format!("gen_ai_server_request_duration_seconds_sum{{{names}}}"), "1.630500000"),
        (format!("gen_ai_server_time_to_first_token_seconds_count{{{names}}}"), "2"),
        (format!("gen_ai_server_time_to_first_token_seconds_sum{{{names}}}"), "0.600000000"),
        // 500 ms for 20 tokens more; that of an estimate is not worked out.
        (format!("gen_ai_server_time_per_output_token_seconds_sum{{{names}}}"), "0.025000000"),
        (format!("gen_ai_server_time_per_output_token_seconds_count{{{names}}}"), "1"),
    ] {
        assert_eq!(sample(&text, &series), value, "{series}");
    }
}

#[test]
fn a_model_has_no_name_until_an_upstream_answered_for_it() {
    let metrics = Metrics::new();
    let (id, acme, umbrella) = (RequestId::random(), principal("acme", None), principal("umbrella", None));
    let denied = |principal| Entry { status: Some(400), usage: None, cost: Cost::Nothing, ..answered(&id, principal) };
    let models = || -> Vec<(String, f64)> {
        let all = samples(&metrics, "tollgate_requests_total");
        all.iter().map(|sample| (format!("{} {}", sample.label("model"), sample.label("operation")), sample.value)).collect()
    };
    for made_up in 0..100 {
        let (model, operation) = (format!("model-{made_up}"), format!("operation-{made_up}"));
        metrics.count(&Entry { model: Some(&model), operation: Some(&operation), ..denied(&acme) });
    }
    assert_eq!(models(), [("other other".to_owned(), 100.0)]);
    // Refused before an upstream was asked, even with 2xx by mistake.
    metrics.count(&Entry { upstream: None, model: Some("made-up"), ..answered(&id, &acme) });
    assert!(models().iter().all(|(name, _)| name == "other other"));
    metrics.count(&answered(&id, &acme));
    metrics.count(&denied(&umbrella));
    let named = models().into_iter().filter(|(name, _)| name == "amazon.nova-lite-v1:0 converse").count();
    assert_eq!(named, 2, "acme's answer, and what another tenant was denied: {:?}", models());
}

#[test]
fn beyond_the_bound_everything_is_counted_under_other_and_nothing_is_lost() {
    const MAX: u64 = 1000;
    let metrics = of_size(MAX);
    let id = RequestId::random();
    for number in 0..300 {
        let tenant = principal(&format!("tenant-{number}"), None);
        let upstream = format!("upstream-{}", number % 7);
        metrics.count(&Entry { upstream: Some(&upstream), ..answered(&id, &tenant) });
        metrics.count(&Entry { upstream: Some(&upstream), reason: Some(Reason::RateLimited), status: Some(429), ..bare(&id) });
    }
    let text = metrics.render(SystemTime::UNIX_EPOCH);
    let ours: Vec<_> =
        parse(&text).into_iter().filter(|(name, _)| BY_CALL.contains(&&**name)).flat_map(|(_, family)| family.samples).collect();
    assert!(ours.len() as u64 <= MAX, "{}", ours.len());
    assert!(ours.len() as u64 > MAX / 4, "{} lines: room is left unused", ours.len());
    assert_eq!(sum(&metrics, "tollgate_requests_total"), 600.0);
    assert_eq!(sum(&metrics, "tollgate_refusals_total"), 300.0);
    assert_eq!(sum(&metrics, "tollgate_tokens_total"), 300.0 * 160.0);
    assert_eq!(sum(&metrics, "gen_ai_client_token_usage_count"), 600.0);
    assert!((sum(&metrics, "tollgate_cost_usd_total") - 300.0 * 0.012_500_000_001).abs() < 1e-9);
    let others = ours.iter().filter(|sample| sample.label("tenant") == "other" && sample.name == "tollgate_requests_total");
    assert!(others.clone().count() > 0 && others.clone().all(|sample| sample.label("model") == "other"));
    assert!(sum(&metrics, "tollgate_metrics_overflow_total") > 100.0);
}

#[test]
fn a_tenant_called_other_is_not_told_apart_and_makes_no_series_twice() {
    let metrics = of_size(1000);
    let (id, other) = (RequestId::random(), principal("other", None));
    metrics.count(&Entry { status: Some(400), model: Some("x"), operation: Some("y"), usage: None, ..answered(&id, &other) });
    metrics.table.room.take(u64::MAX >> 1);
    while metrics.table.room.take(1) {}
    metrics.count(&Entry { status: Some(400), model: Some("x"), operation: Some("y"), ..answered(&id, &principal("new", None)) });
    assert_eq!(sum(&metrics, "tollgate_requests_total"), 2.0);
    assert_eq!(samples(&metrics, "tollgate_requests_total").len(), 1);
}

#[test]
fn hostile_names_and_numbers_leave_the_exposition_well_formed() {
    let metrics = Metrics::new();
    let id = RequestId::random();
    let (quoted, long) = (principal("a\"b\\c\nd{},= ", None), principal(&"ä\"".repeat(5000), None));
    let most = u64::MAX;
    let tokens = Tokens { input: most, output: most, cache_read: most, cache_write_5m: most, cache_write_1h: most, reasoning: most };
    let usage = Usage { tokens, ..REPORTED };
    for principal in [&quoted, &long] {
        for _ in 0..3 {
            metrics.count(&Entry { usage: Some(&usage), cost: Cost::Priced(Usd::from_picos(most)), ..answered(&id, principal) });
        }
    }
    let costs = samples(&metrics, "tollgate_cost_usd_total");
    assert!(costs.iter().any(|cost| cost.label("tenant") == "a\"b\\c\nd{},= "), "{costs:?}");
    assert!(costs.iter().all(|cost| cost.label("tenant").len() <= 128 && (cost.value - 18_446_744.073_709_55).abs() < 1e-6), "{costs:?}");
}

#[test]
fn what_tenants_did_is_told_by_name() {
    let metrics = Metrics::new();
    let (id, acme, umbrella) = (RequestId::random(), principal("acme", None), principal("umbrella", None));
    metrics.count(&answered(&id, &umbrella));
    metrics.count(&answered(&id, &umbrella));
    metrics.count(&Entry { cost: Cost::Unpriced, operation: Some("invoke"), ..answered(&id, &umbrella) });
    metrics.count(&Entry { status: Some(429), reason: Some(Reason::RateLimited), upstream: None, ..bare(&id) });
    metrics.count(&Entry { status: Some(503), reason: None, usage: None, cost: Cost::Nothing, ..answered(&id, &acme) });
    let told = metrics.tenants();
    let tokens = |times: u64| Tokens {
        input: 100 * times,
        output: 21 * times,
        cache_read: 30 * times,
        cache_write_5m: 4 * times,
        cache_write_1h: 5 * times,
        reasoning: 6 * times,
    };
    let figures = |tenant: &str| TenantFigures { tenant: tenant.to_owned(), requests: 1, ..TenantFigures::default() };
    assert_eq!(
        told,
        [
            TenantFigures { refused: 1, errors: 1, ..figures("") },
            TenantFigures { errors: 1, ..figures("acme") },
            TenantFigures {
                requests: 3,
                tokens: tokens(3),
                cost: Usd::from_picos(25_000_000_002),
                unpriced_requests: 1,
                ..figures("umbrella")
            },
        ]
    );
}

#[test]
fn what_limits_leave_is_asked_for_the_tenants_that_were_seen() {
    let metrics = of_size(1000);
    let id = RequestId::random();
    let level = |limit: &str, count, scale, used| LimitLevel {
        limit: limit.into(),
        count,
        scale,
        capacity: 10 * scale,
        used,
        held: 500,
        reset: Duration::ZERO,
        ends: None,
    };
    metrics.limits(move |subject| {
        let used = if subject.tenant.as_deref() == Some("acme") { 6_000 } else { 0 };
        vec![level("tpm", "tokens", 1_000, used), level("budget", "usd", Usd::PICOS, used)]
    });
    assert_eq!(samples(&metrics, "tollgate_limit_remaining").len(), 0);
    metrics.count(&bare(&id));
    metrics.count(&full(&id, &principal("acme", None)));
    let text = metrics.render(SystemTime::UNIX_EPOCH);
    let labels = r#"{limit="tpm",tenant="acme",count="tokens"}"#;
    for (family, value) in [("remaining", "3.500"), ("capacity", "10"), ("used", "6"), ("held", "0.500")] {
        assert_eq!(sample(&text, &format!("tollgate_limit_{family}{labels}")), value);
    }
    assert_eq!(sample(&text, r#"tollgate_limit_remaining{limit="budget",tenant="acme",count="usd"}"#), "9.999999993500");
    for number in 0..200 {
        let principal = principal(&format!("tenant-{number}"), None);
        metrics.count(&Entry { principal: Some(&principal), ..bare(&id) });
    }
    let lines: usize =
        ["remaining", "capacity", "used", "held"].map(|family| samples(&metrics, &format!("tollgate_limit_{family}")).len()).iter().sum();
    assert!((50..=100).contains(&lines), "{lines} lines of a tenth of 1000");
}

#[test]
fn what_limits_refused_ended_and_would_have_refused_is_counted_by_rule() {
    let metrics = Metrics::new();
    metrics.limit("quiet", true, false, &[50]);
    metrics.limit("rpm", false, true, &[]);
    let id = RequestId::random();
    let shadow: [Arc<str>; 2] = ["quiet".into(), "other".into()];
    let entry = Entry { limit: Some("rpm"), shadow_limits: &shadow, ..bare(&id) };
    let number = |name: &str| sample(&metrics.render(SystemTime::UNIX_EPOCH), name).to_owned();
    assert_eq!(number(r#"tollgate_limit_shadow_total{limit="quiet"}"#), "0");
    assert_eq!(number(r#"tollgate_limit_warnings_total{limit="quiet",percent="50"}"#), "0");
    metrics.count(&Entry { status: Some(429), reason: Some(Reason::RateLimited), ..entry });
    metrics.count(&Entry { status: Some(400), reason: Some(Reason::BudgetSpent), shadow_limits: &[], ..entry });
    metrics.count(&Entry { status: Some(200), reason: Some(Reason::BudgetSpent), shadow_limits: &[], ..entry });
    assert_eq!(number(r#"tollgate_limit_refusals_total{limit="rpm"}"#), "2");
    assert_eq!(number(r#"tollgate_limit_cuts_total{limit="rpm"}"#), "1");
    assert_eq!(number(r#"tollgate_limit_shadow_total{limit="quiet"}"#), "1");
    assert_eq!(number(r#"tollgate_limit_shadow_total{limit="other"}"#), "1");
}

#[test]
fn the_configuration_that_is_served_is_told() {
    let metrics = Metrics::new();
    metrics.config_loaded("0123456789ab", SystemTime::UNIX_EPOCH);
    metrics.config_loaded("ba9876543210", SystemTime::UNIX_EPOCH + Duration::from_secs(7));
    let text = metrics.render(SystemTime::UNIX_EPOCH);
    assert_eq!(sample(&text, r#"tollgate_config_version_info{version="ba9876543210"}"#), "1");
    assert_eq!(sample(&text, "tollgate_config_loaded_timestamp_seconds"), "7");
    assert!(!text.contains("0123456789ab"));
}

#[test]
fn counting_on_many_threads_loses_nothing() {
    let metrics = of_size(2000);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let metrics = &metrics;
            scope.spawn(move || {
                let id = RequestId::random();
                for number in 0..500 {
                    let tenant = principal(&format!("tenant-{}", (number + thread) % 40), None);
                    metrics.count(&answered(&id, &tenant));
                }
            });
        }
        scope.spawn(|| (0..20).for_each(|_| drop(parse(&metrics.render(SystemTime::UNIX_EPOCH)))));
    });
    assert_eq!(sum(&metrics, "tollgate_requests_total"), 2000.0);
    assert_eq!(sum(&metrics, "tollgate_tokens_total"), 2000.0 * 160.0);
}

/// The families whose series calls make.
const BY_CALL: [&str; 13] = [
    "tollgate_requests_total",
    "tollgate_refusals_total",
    "tollgate_tokens_total",
    "tollgate_reasoning_tokens_total",
    "tollgate_tokens_estimated_total",
    "tollgate_guardrail_units_total",
    "tollgate_cost_usd_total",
    "tollgate_unpriced_requests_total",
    "tollgate_unpriced_tokens_total",
    "gen_ai_client_token_usage",
    "gen_ai_server_request_duration_seconds",
    "gen_ai_server_time_to_first_token_seconds",
    "gen_ai_server_time_per_output_token_seconds",
];
