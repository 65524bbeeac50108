//! What is scraped, and what leans on it: the alert rules, the dashboard and the reference name nothing that is not there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tollgate::domain::{Cost, RequestId, Trace};
use tollgate::record::{Attempt, Entry, Tried};

use crate::client::converse;
use crate::downstream::{Ask, Way, call};
use crate::exposition::parse;
use crate::world::{World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A gateway whose every family has a series: it keeps a ledger, and its limits are each tenant's own.
async fn busy_world() -> World {
    let world = world(
        "limits: [{ name: rpm, count: requests, rate: 1/hour, burst: 2, per: [tenant], tenants: [limited] }]\n\
         routes:\n\
         - { name: grows, models: [never], to: [{ upstream: emulator }, { name: new, upstream: emulator, model: amazon.nova-pro-v1:0, promote: { steps: [5%] } }] }\n\
         - { name: everything, to: [{ upstream: emulator }] }\n\
         policy: [{ name: trial, shadow: true, models: { deny: ['*'] } }]\n\
         record: { access_log: off, ledger: ledger.sqlite }",
    )
    .await;
    let ask = |path: &str| Ask::post(path, converse("one two three")).token(&world.token);
    let limited = || Ask::post(CONVERSE, converse("one")).token(&world.limited_token);
    for (ask, status) in [
        (ask(CONVERSE).fault("usage-100-50-30-20-10"), 200),
        (ask("/model/amazon.nova-lite-v1:0/converse-stream"), 200),
        (ask(CONVERSE).fault("400"), 400),
        (ask(CONVERSE).fault("500"), 500),
        (ask("/model/amazon.nova-lite-v1:0/converse-stream").fault("no-usage"), 200),
        (limited(), 200),
        (limited(), 200),
        (limited(), 429),
        (Ask::post(CONVERSE, converse("one")), 401),
    ] {
        assert_eq!(call(&world, Way::Http1, &ask).await.status, status, "{ask:?}");
    }
    world.until_idle().await;
    // These begin with rules that warn, end streams, or are in shadow.
    world.gateway.live().metrics.limit("others", true, true, &[80]);
    failed_over(&world);
    // And these with a route that has a mirror.
    world.gateway.live().metrics.mirror("everything");
    world
}

/// One step from a target to another, of a caller whom nobody knows: a series begins with it.
fn failed_over(world: &World) {
    let tried = Tried {
        target: "first".into(),
        upstream: "emulator".into(),
        model: None,
        outcome: Attempt::Throttled,
        status: Some(429),
        upstream_request_id: None,
        began: Duration::ZERO,
        took: Duration::ZERO,
        usage: None,
        cost: Cost::Nothing,
    };
    let (id, trace) = (RequestId::random(), Trace::take_up(None));
    let entry = Entry::begun(&id, &trace, std::time::UNIX_EPOCH);
    let (route, target) = (Some("everything"), Some("second"));
    world.gateway.live().recorder.record(&Entry { route, target, tried: &[tried], status: Some(401), ..entry });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_reads_strictly_and_tells_who_called_what_and_how_it_ended() {
    let world = busy_world().await;
    let families = parse(&world.metrics());
    let requests = &families["tollgate_requests_total"].samples;
    let told: BTreeSet<_> = requests
        .iter()
        .map(|sample| {
            let names = ["tenant", "model", "operation", "upstream", "status_class"].map(|label| sample.label(label));
            format!("{} {}", names.join(" "), sample.value)
        })
        .collect();
    let model = "amazon.nova-lite-v1:0";
    let expected = [
        // Whoever it was, and whatever they asked: their call is not looked into.
        "    4xx 2".to_owned(),
        format!("demo {model} converse emulator 2xx 1"),
        format!("demo {model} converse emulator 4xx 1"),
        format!("demo {model} converse emulator 5xx 1"),
        format!("demo {model} converse-stream emulator 2xx 2"),
        format!("limited {model} converse emulator 2xx 2"),
        format!("limited {model} converse  4xx 1"),
    ];
    assert_eq!(told, expected.into());
    assert_eq!(world.metric(r#"tollgate_refusals_total{reason="rate_limited",tenant="limited"}"#), 1.0);
    assert_eq!(world.metric(r#"tollgate_refusals_total{reason="unauthenticated",tenant=""}"#), 1.0);
    assert_eq!(world.metric(r#"tollgate_limit_remaining{limit="rpm",tenant="limited"}"#), 0.0);
    for (family, value) in [("capacity", 2.0), ("used", 2.0), ("held", 0.0)] {
        assert_eq!(
            world.metric(&format!(r#"tollgate_limit_{family}{{limit="rpm",tenant="limited",count="requests"}}"#)),
            value,
            "{family}"
        );
    }
    assert_eq!(world.metric(r#"tollgate_limit_refusals_total{limit="rpm"}"#), 1.0);
    assert_eq!(world.metric("tollgate_limit_waiting"), 0.0);
    assert_eq!(world.metric("tollgate_config_version_info"), 1.0);
    let names = format!(r#"tenant="demo",model="{model}",operation="converse",upstream="emulator""#);
    for (kind, number) in [("input", 100.0), ("output", 50.0), ("cache_read", 30.0), ("cache_write_5m", 20.0), ("cache_write_1h", 10.0)] {
        assert_eq!(world.metric(&format!(r#"tollgate_tokens_total{{{names},type="{kind}"}}"#)), number, "{kind}");
    }
    assert_eq!(world.metric(&format!(r#"gen_ai_client_token_usage_sum{{{names},gen_ai_token_type="input"}}"#)), 160.0);
    assert_eq!(world.metric(&format!("gen_ai_server_request_duration_seconds_count{{{names}}}")), 1.0);
    let stream = format!(r#"tenant="demo",model="{model}",operation="converse-stream",upstream="emulator""#);
    assert_eq!(world.metric(&format!("gen_ai_server_time_to_first_token_seconds_count{{{stream}}}")), 2.0);
    assert_eq!(world.metric(&format!("gen_ai_server_time_per_output_token_seconds_count{{{stream}}}")), 1.0, "not of an estimate");
    assert!(world.metric(&format!(r#"tollgate_tokens_estimated_total{{tenant="demo",model="{model}",type="output"}}"#)) > 0.0);
    assert_eq!(families["gen_ai_server_request_duration_seconds"].kind, "histogram");
    // A limit that does not cover a tenant leaves it nothing to tell.
    assert_eq!(families["tollgate_limit_remaining"].samples.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_rules_and_dashboard_ask_for_is_in_a_scrape() {
    let world = busy_world().await;
    // These begin with what only some configurations have: an issuer that is asked, credentials that expire.
    world.gateway.live().metrics.set_keys_fetched("https://idp.example", Some(std::time::UNIX_EPOCH));
    world.gateway.live().metrics.key_fetch("https://idp.example", tollgate::record::KeyFetch::Fresh);
    world.gateway.live().metrics.set_credential_expiry("emulator", Some(std::time::UNIX_EPOCH));
    world.gateway.live().metrics.sts_call("emulator", tollgate::record::StsCall::Granted);
    world.gateway.live().metrics.set_sts_sessions("emulator", 1);
    let families = parse(&world.metrics());
    let mut there: BTreeSet<String> = BTreeSet::new();
    for (name, family) in families {
        if family.kind == "histogram" {
            there.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        } else {
            there.insert(name);
        }
    }

    let rules: Value = serde_yaml::from_str(&file("deploy/prometheus/rules.yml")).unwrap();
    let rules: Vec<&Value> = rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    there.extend(rules.iter().filter_map(|rule| rule["record"].as_str()).map(str::to_owned));
    let mut asked: Vec<(String, String)> = Vec::new();
    for rule in &rules {
        let name = rule["record"].as_str().or(rule["alert"].as_str()).unwrap();
        asked.push((name.to_owned(), rule["expr"].as_str().unwrap().to_owned()));
        // What an alert tells to look at is there, too.
        asked.extend(rule["annotations"]["action"].as_str().map(|text| (format!("{name}: action"), text.to_owned())));
    }
    let dashboard: Value = serde_json::from_str(&file("deploy/grafana/tollgate.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().unwrap() {
            asked.push((panel["title"].as_str().unwrap().to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        asked.extend(variable["definition"].as_str().map(|query| (variable["name"].to_string(), query.to_owned())));
    }
    assert!(asked.len() > 60, "{} places that ask", asked.len());
    let faults: Vec<String> = asked
        .iter()
        .flat_map(|(place, text)| names(text).into_iter().map(move |name| (place, name)))
        .filter(|(_, name)| !there.contains(*name))
        .map(|(place, name)| format!("{place}: {name}"))
        .collect();
    assert!(faults.is_empty(), "not in a scrape:\n{}", faults.join("\n"));
}

/// The gateway's metrics and recording rules that a query names.
fn names(query: &str) -> Vec<&str> {
    let words = query.split(|char: char| !(char.is_ascii_alphanumeric() || matches!(char, '_' | ':')));
    let ours = |word: &&str| {
        ["tollgate_", "tollgate:", "gen_ai_client_", "gen_ai_server_", "process_"].iter().any(|start| word.starts_with(start))
    };
    words.filter(ours).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_has_a_row_for_every_family_and_none_that_is_gone() {
    let world = busy_world().await;
    world.gateway.live().metrics.set_keys_fetched("https://idp.example", Some(std::time::UNIX_EPOCH));
    world.gateway.live().metrics.key_fetch("https://idp.example", tollgate::record::KeyFetch::Fresh);
    world.gateway.live().metrics.set_credential_expiry("emulator", Some(std::time::UNIX_EPOCH));
    world.gateway.live().metrics.sts_call("emulator", tollgate::record::StsCall::Granted);
    world.gateway.live().metrics.set_sts_sessions("emulator", 1);
    let families = parse(&world.metrics());
    let reference = file("docs/metrics.md");
    let mut rows = std::collections::BTreeMap::new();
    for row in reference.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, name, kind, labels, meaning, _] = cells.as_slice() else { panic!("a row of four cells: {row}") };
        let labels: BTreeSet<&str> = labels.split(", ").filter(|label| !label.is_empty()).map(|label| label.trim_matches('`')).collect();
        assert!(!meaning.is_empty() && rows.insert(name.trim_matches('`'), (*kind, labels)).is_none(), "{row}");
    }
    for (name, family) in &families {
        let (kind, labels) = rows.remove(&**name).unwrap_or_else(|| panic!("docs/metrics.md has no row for `{name}`"));
        assert_eq!(kind, family.kind, "{name}");
        for sample in &family.samples {
            let ours: BTreeSet<&str> = sample.labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
            assert_eq!(ours, labels, "{name}");
        }
    }
    assert!(rows.is_empty(), "docs/metrics.md has rows for what is not scraped: {:?}", rows.keys());
}
