mod calls;
mod lines;
mod tried;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::SystemTime;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::record::{AccessLog as AccessLogConfig, Destination};
use crate::domain::{
    Basis, Cost, GuardrailUnits, Method, Principal, Reason, RequestId, SERVICES, Service, Tier, Tokens, Trace, Usage, Usd,
};

/// Rules that would have refused.
static SHADOW: LazyLock<[Arc<str>; 2]> = LazyLock::new(|| ["trial".into(), "later".into()]);

const TRACE: Trace =
    Trace { trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, parent: None, span_id: 0x00f0_67aa_0ba9_02b7, sampled: true };

/// Usage of every kind.
const USED: Usage = Usage {
    tokens: Tokens { input: 1_200, output: 340, cache_read: 5_000, cache_write_5m: 60, cache_write_1h: 7, reasoning: 90 },
    guardrail: GuardrailUnits {
        topic: 1,
        content: 2,
        content_image: 4,
        sensitive_information: 8,
        contextual_grounding: 16,
        automated_reasoning: 32,
    },
    basis: Basis::Reported,
    tier: Some(Tier::Flex),
};

const BEGAN: Duration = Duration::from_millis(1_795_352_444_123);

pub(super) fn principal(tenant: &str, user: Option<&str>) -> Principal {
    Principal { tenant: tenant.into(), user: user.map(Into::into), groups: [].into(), method: Method::Jwt, key_id: Some("kid-7".into()) }
}

pub(super) fn full<'a>(id: &'a RequestId, principal: &'a Principal) -> Entry<'a> {
    Entry {
        request_id: id,
        trace: &TRACE,
        began: SystemTime::UNIX_EPOCH + BEGAN,
        client: Some(IpAddr::from([192, 0, 2, 7])),
        principal: Some(principal),
        mirror_of: None,
        service: Some(Service::BEDROCK_RUNTIME),
        method: "POST",
        version: http::Version::HTTP_11,
        path: b"/model/amazon.nova-lite-v1%3A0/converse",
        model: Some("amazon.nova-lite-v1:0"),
        operation: Some("converse"),
        status: Some(502),
        reason: Some(Reason::UpstreamBroken),
        shadow_policy: &*SHADOW,
        shadow_limits: &*SHADOW,
        limit: Some("rpm"),
        waited: Duration::from_millis(20),
        route: Some("chat"),
        target: Some("canary"),
        alias: Some("nova"),
        tried: &[],
        upstream: Some("primary"),
        upstream_request_id: Some(b"7e9d2f4a"),
        attempts: 2,
        bytes_in: 1_500,
        bytes_out: 320,
        upstream_time: Some(Duration::from_millis(812)),
        total: Duration::from_micros(815_250),
        overhead: Duration::from_nanos(41_700),
        complete: true,
        client_left: true,
        streamed: true,
        usage: Some(&USED),
        cost: USED_COST,
        admitted: Some(Duration::from_micros(50)),
        sent: Some(Duration::from_micros(90)),
        head: Some(Duration::from_micros(812_090)),
        first_token: Some(Duration::from_micros(812_300)),
        last_token: Some(Duration::from_micros(815_100)),
        user_agent: Some(b"Boto3/1.44.5"),
    }
}

const USED_COST: Cost = Cost::Priced(Usd::from_picos(12_500_000_000));

/// A try that used something, and was given up all the same.
pub(super) fn given_up() -> Tried {
    Tried {
        target: "first".into(),
        upstream: "use1".into(),
        model: Some("eu.amazon.nova-lite-v1:0".into()),
        outcome: Attempt::Exception,
        status: Some(200),
        upstream_request_id: Some(b"9c0ffee0".as_slice().into()),
        began: Duration::from_micros(50),
        took: Duration::from_millis(40),
        usage: Some(USED),
        cost: USED_COST,
    }
}

pub(super) fn bare(id: &RequestId) -> Entry<'_> {
    Entry { method: "GET", version: http::Version::HTTP_2, path: b"/", ..Entry::begun(id, &TRACE, SystemTime::UNIX_EPOCH + BEGAN) }
}

fn line_of(entry: &Entry<'_>) -> String {
    let mut out = Vec::new();
    line::append(&mut out, entry);
    String::from_utf8(out).unwrap()
}

fn temporary(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("tollgate-{}-record-{name}.log", std::process::id()));
    drop(std::fs::remove_file(&path));
    path
}

fn to_file(path: &std::path::Path) -> Record {
    Record { access_log: Some(AccessLogConfig { to: Destination::File(path.to_owned()) }), ..Record::default() }
}

/// The value of the one sample that is named so, labels included.
#[track_caller]
fn sample<'a>(text: &'a str, name: &str) -> &'a str {
    let mut found = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = found.next().unwrap_or_else(|| panic!("no `{name}` in\n{text}"));
    assert_eq!(found.next(), None);
    value
}

#[test]
fn an_exchange_is_counted_and_written() {
    let path = temporary("exchange");
    let metrics = Arc::new(Metrics::new());
    let recorder = Recorder::build(&to_file(&path), Arc::clone(&metrics)).unwrap();
    let id = RequestId::random();
    let principal = principal("acme", None);
    recorder.record(&full(&id, &principal));
    recorder.record(&bare(&id));
    recorder.flush();

    let lines: Vec<Value> = std::fs::read_to_string(&path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["request_id"], json!(id.as_str()));
    std::fs::remove_file(path).unwrap();

    let text = metrics.render(SystemTime::UNIX_EPOCH);
    let acme = r#"tenant="acme",model="other",operation="other",upstream="primary",status_class="5xx""#;
    let nobody = r#"tenant="",model="",operation="",upstream="",status_class="none""#;
    assert_eq!(sample(&text, &format!(r#"tollgate_requests_total{{service="bedrock-runtime",{acme}}}"#)), "1");
    assert_eq!(sample(&text, &format!(r#"tollgate_requests_total{{service="unknown",{nobody}}}"#)), "1");
    assert_eq!(sample(&text, r#"tollgate_refusals_total{reason="upstream_broken",tenant="acme"}"#), "1");
    assert_eq!(sample(&text, r#"tollgate_refusals_total{reason="upstream_broken",tenant=""}"#), "0");
    assert_eq!(sample(&text, "tollgate_retries_total"), "1");
    assert_eq!(sample(&text, "tollgate_request_bytes_total"), "1500");
    assert_eq!(sample(&text, "tollgate_response_bytes_total"), "320");
    assert_eq!(sample(&text, r#"tollgate_overhead_seconds_bucket{le="0.00004"}"#), "1");
    assert_eq!(sample(&text, r#"tollgate_overhead_seconds_bucket{le="0.00005"}"#), "2");
    assert_eq!(sample(&text, "tollgate_upstream_seconds_count"), "1");
    assert_eq!(sample(&text, "tollgate_upstream_seconds_sum"), "0.812");
    assert_eq!(sample(&text, "tollgate_access_log_dropped_total"), "0");
}

#[test]
fn without_an_access_log_exchanges_are_counted_all_the_same() {
    let metrics = Arc::new(Metrics::new());
    let recorder = Recorder::build(&Record { access_log: None, ..Record::default() }, Arc::clone(&metrics)).unwrap();
    recorder.record(&bare(&RequestId::random()));
    recorder.reopen();
    recorder.flush();
    assert_eq!(sample(&metrics.render(SystemTime::UNIX_EPOCH), "tollgate_overhead_seconds_count"), "1");
}

#[test]
fn every_label_value_that_no_call_brings_is_there_before_anything_happened() {
    let metrics = Metrics::new();
    metrics.upstream("primary");
    metrics.route_target("chat", "canary");
    let text = metrics.render(SystemTime::UNIX_EPOCH);
    for reason in Reason::ALL {
        assert_eq!(sample(&text, &format!("tollgate_refusals_total{{reason=\"{}\",tenant=\"\"}}", reason.label())), "0");
    }
    for outcome in Attempt::ALL {
        let labels = format!("outcome=\"{}\",upstream=\"primary\"", outcome.label());
        assert_eq!(sample(&text, &format!("tollgate_upstream_attempts_total{{{labels}}}")), "0");
    }
    assert_eq!(sample(&text, r#"tollgate_route_requests_total{route="chat",target="canary"}"#), "0");
    assert_eq!(sample(&text, &format!("tollgate_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), "1");
}

#[test]
fn each_service_reason_and_outcome_counts_for_itself() {
    let metrics = Metrics::new();
    metrics.upstream("primary");
    let id = RequestId::random();
    for (turns, service) in SERVICES.iter().copied().enumerate() {
        (0..=turns).for_each(|_| metrics.count(&Entry { service: Some(service), status: Some(200), ..bare(&id) }));
    }
    for (turns, reason) in Reason::ALL.into_iter().enumerate() {
        (0..=turns).for_each(|_| metrics.count(&Entry { reason: Some(reason), ..bare(&id) }));
    }
    for (turns, outcome) in Attempt::ALL.into_iter().enumerate() {
        (0..=turns).for_each(|_| metrics.attempt("primary", outcome));
    }
    metrics.upstream_connection(Connection::Reused);

    let text = metrics.render(SystemTime::UNIX_EPOCH);
    let count = |name: String| sample(&text, &name).parse::<usize>().unwrap();
    for (turns, service) in SERVICES.iter().enumerate() {
        let names = "tenant=\"\",model=\"\",operation=\"\",upstream=\"\"";
        assert_eq!(count(format!("tollgate_requests_total{{service=\"{}\",{names},status_class=\"2xx\"}}", service.prefix)), turns + 1);
    }
    for (turns, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(count(format!("tollgate_refusals_total{{reason=\"{}\",tenant=\"\"}}", reason.label())), turns + 1);
    }
    for (turns, outcome) in Attempt::ALL.iter().enumerate() {
        let labels = format!("outcome=\"{}\",upstream=\"primary\"", outcome.label());
        assert_eq!(count(format!("tollgate_upstream_attempts_total{{{labels}}}")), turns + 1);
    }
    assert_eq!(count("tollgate_upstream_connections_total{kind=\"new\"}".to_owned()), 0);
    assert_eq!(count("tollgate_upstream_connections_total{kind=\"reused\"}".to_owned()), 1);
}

#[test]
fn an_exchange_is_in_flight_until_its_guard_is_dropped() {
    let metrics = Metrics::new();
    let in_flight = || sample(&metrics.render(SystemTime::UNIX_EPOCH), "tollgate_in_flight").to_owned();
    let (first, second) = (metrics.in_flight(), metrics.in_flight());
    assert_eq!(in_flight(), "2");
    drop(first);
    assert_eq!(in_flight(), "1");
    drop(second);
    assert_eq!(in_flight(), "0");
}

#[test]
fn levels_are_asked_for_at_each_scrape_and_not_shown_before_someone_tells_them() {
    let metrics = Metrics::new();
    let rendered = || metrics.render(SystemTime::UNIX_EPOCH);
    assert!(!rendered().contains("tollgate_bodies_held_bytes"));
    metrics.sample(Level::BodiesHeld, || 7);
    metrics.sample(Level::LimitBuckets, || u64::MAX);
    assert_eq!(sample(&rendered(), "tollgate_bodies_held_bytes"), "7");
    metrics.sample(Level::BodiesHeld, || 8);
    assert_eq!(sample(&rendered(), "tollgate_bodies_held_bytes"), "8");
    assert_eq!(sample(&rendered(), "tollgate_limit_buckets"), "9223372036854776000", "as near as a float comes to i64::MAX");
}

#[test]
fn a_count_that_another_room_keeps_is_a_counter_and_never_goes_back() {
    let metrics = Metrics::new();
    let rendered = || metrics.render(SystemTime::UNIX_EPOCH);
    metrics.sample(Level::LimitOverflow, || 7);
    assert_eq!(sample(&rendered(), "tollgate_limit_overflow_total"), "7");
    assert!(rendered().contains("# TYPE tollgate_limit_overflow_total counter\n"));
    metrics.sample(Level::LimitOverflow, || 5);
    assert_eq!(sample(&rendered(), "tollgate_limit_overflow_total"), "7");
}

#[test]
fn credentials_count_down_and_go_with_their_upstream() {
    let metrics = Metrics::new();
    let now = SystemTime::UNIX_EPOCH + BEGAN;
    assert!(!metrics.render(now).contains("tollgate_credential_expiry_seconds"));
    metrics.set_credential_expiry("primary", Some(now + Duration::from_mins(15)));
    metrics.set_credential_expiry("second", Some(now));
    let name = r#"tollgate_credential_expiry_seconds{upstream="primary"}"#;
    assert_eq!(sample(&metrics.render(now), name), "900");
    assert_eq!(sample(&metrics.render(now + Duration::from_secs(1000)), name), "-100");
    metrics.set_credential_expiry("primary", None);
    let text = metrics.render(now);
    assert!(!text.contains("primary"));
    assert_eq!(sample(&text, r#"tollgate_credential_expiry_seconds{upstream="second"}"#), "0");
}

#[test]
fn the_keys_of_an_issuer_grow_old_and_go_with_it() {
    let metrics = Metrics::new();
    let now = SystemTime::UNIX_EPOCH + BEGAN;
    assert!(!metrics.render(now).contains("tollgate_jwks_"));
    metrics.set_keys_fetched("https://idp.example", Some(now));
    metrics.key_fetch("https://idp.example", KeyFetch::Fresh);
    metrics.key_fetch("https://idp.example", KeyFetch::Unreachable);
    let text = metrics.render(now + Duration::from_secs(700));
    assert_eq!(sample(&text, r#"tollgate_jwks_age_seconds{issuer="https://idp.example"}"#), "700");
    assert_eq!(sample(&text, r#"tollgate_jwks_fetches_total{issuer="https://idp.example",outcome="fresh"}"#), "1");
    assert_eq!(sample(&text, r#"tollgate_jwks_fetches_total{issuer="https://idp.example",outcome="unreachable"}"#), "1");
    metrics.set_keys_fetched("https://idp.example", None);
    assert!(!metrics.render(now).contains("tollgate_jwks_age_seconds"));
}
