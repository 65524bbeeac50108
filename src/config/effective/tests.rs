//! What is shown of whole configurations.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;
use crate::domain::hex;

const KEYS: [&str; 9] = ["listeners", "admin", "firewall", "identity", "policy", "limits", "upstreams", "routes", "record"];

/// Every configuration among the golden files that is valid, by its name.
fn good() -> Vec<(String, Config)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let yaml = files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let read = |path: &Path| Config::parse(&fs::read_to_string(path).unwrap(), Path::new("gateway.yaml")).ok();
    let good: Vec<_> = yaml.filter_map(|path| Some((path.display().to_string(), read(&path)?))).collect();
    assert!(good.len() >= 7, "the golden files are gone");
    good
}

#[test]
fn every_good_golden_reads_back_as_what_it_was() {
    for (name, config) in good() {
        let shown = config.effective();
        let mut again = Config::parse(&shown, Path::new("gateway.yaml")).unwrap_or_else(|faults| panic!("{name}: {faults}\n{shown}"));
        // Of another text, and otherwise the same.
        again.version.clone_from(&config.version);
        assert_eq!(again, config, "{name}:\n{shown}");
    }
}

#[test]
fn every_good_golden_names_each_top_level_key() {
    for (name, config) in good() {
        let shown = config.effective();
        for key in KEYS {
            assert!(
                shown.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))),
                "{name}: no {key} in\n{shown}"
            );
        }
    }
}

#[test]
fn what_the_file_left_out_is_shown_as_it_is_in_force() {
    let text = "listeners: [{ address: '127.0.0.1:8080' }]\nidentity: [{ anonymous: { tenant: public } }]\nupstreams: { use1: { region: us-east-1 } }";
    let shown = Config::parse(text, Path::new("gateway.yaml")).unwrap().effective();
    for line in
        ["  address: 127.0.0.1:9090", "  max_body: 25000000", "  body_timeout: 1m", "policy: []", "    idle: 1h", "  on_disconnect: cancel"]
    {
        assert!(shown.lines().any(|found| found == line), "no `{line}` in\n{shown}");
    }
}

#[test]
fn what_no_golden_has_reads_back_too() {
    for more in [
        "record: { access_log: off, metrics: { max_series: 2000 }, ledger: { file: l.sqlite, keep: 500d, keep_exchanges: off }, traces: { otlp: 'https://c:4317', sample: 0.05% } }",
        "record: { ledger: /l.sqlite }\nprices: prices.yaml",
        "routes: [{ name: all, to: [{ upstream: use1 }], on_disconnect: { drain: { time: 90s, max: 7 } } }]",
        "limits: [{ name: a, count: requests, rate: 7/hour, per: [user], tenants: ['*', 'true', '5'] }]",
        "limits: [{ name: a, count: usd, rate: 0.000000000001/hour, burst: 8999999.999999999999, per: global, tiers: { '5': 7/second, 'true': 0.25/hour } }]",
        "limits: [{ name: a, count: tokens, rate: 600/minute, burst: 600, tiers: { a: 7/hour, b: { rate: 600/hour, burst: 600 }, c: { rate: 7/second, burst: 1 } } }]",
        "limits: [{ name: a, count: tokens, quota: 1000000000000/week, starts_on: sunday, weights: { input: 999.999, output: 0.001, cache_read: 0 }, warn_at: [100%, 1%] }]",
        "limits: [{ name: a, count: concurrency, max: 1000000, wait: 60s, queue: 100000, shares: { 'off': 100, '*': 2 } }]",
    ] {
        let text = format!(
            "listeners: [{{ address: '[::1]:8080' }}]\nidentity: [anonymous: {{ tenant: 'off' }}]\nupstreams: {{ use1: {{ region: us-east-1 }} }}\n{more}"
        );
        let config = Config::parse(&text, Path::new("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"));
        let shown = config.effective();
        let again = Config::parse(&shown, Path::new("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}\n{shown}"));
        assert_eq!(Config { version: config.version.clone(), ..again }, config, "{shown}");
    }
}

/// The text, and what it may look like once it has gone through something.
fn guises(secret: &str) -> Vec<String> {
    let mut percent = String::new();
    secret.bytes().for_each(|byte| write!(percent, "%{byte:02X}").unwrap());
    let mut guises =
        vec![secret.to_owned(), STANDARD.encode(secret), URL_SAFE_NO_PAD.encode(secret), hex(secret.as_bytes()), percent.clone()];
    percent.make_ascii_lowercase();
    guises.push(percent);
    // Inside a longer text, base64 keeps what stands between the edges.
    guises.extend((0..3).map(|shift| {
        let whole = STANDARD.encode(format!("{}{secret}{}", "x".repeat(shift), "x".repeat(3)));
        whole.chars().skip(4).take(secret.len() * 4 / 3 - 8).collect()
    }));
    guises.iter().map(|guise| guise.to_ascii_lowercase()).collect()
}

#[test]
fn a_secret_is_shown_in_no_guise_wherever_it_was_written() {
    const SECRET: &str = "hunter2-correct-horse";
    let text = format!(
        "
listeners: [{{ address: '127.0.0.1:8080' }}]
identity:
  - jwt: {{ issuer: 'https://me:{SECRET}@idp.example.com/?{SECRET}', audiences: [a], tenant: t, jwks_url: 'https://idp.example.com/keys?k={SECRET}' }}
  - jwt: {{ issuer: 'https://idp.example.com/#{SECRET}', audiences: ['https://a/?{SECRET}'], tenant: t, jwks_file: a.json }}
  - external: {{ url: 'https://authorizer.internal/authorize?code={SECRET}' }}
upstreams: {{ use1: {{ region: us-east-1 }} }}
record: {{ webhook: 'https://hooks.example.com:8443/services/{SECRET}?{SECRET}' }}
"
    );
    let config = Config::parse(&text, Path::new("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(format!("{config:?}").matches(SECRET).count(), 6, "each place holds it");
    let shown = config.effective();
    let lower = shown.to_ascii_lowercase();
    for guise in guises(SECRET) {
        assert!(!lower.contains(&guise), "{guise} in\n{shown}");
    }
    assert!(shown.contains("url: https://authorizer.internal/authorize?***\n"), "the rest of it is shown:\n{shown}");
    assert!(shown.contains("url: https://hooks.example.com:8443/***\n"), "{shown}");
}

/// Keys that sound like a secret and hold none: paths, and names.
const HARMLESS: [&str; 3] = ["key", "token_from", "token_use"];

#[test]
fn whatever_sounds_like_a_secret_is_none() {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Mapping(map) => map.iter().for_each(|(key, value)| {
                let name = key.as_str().unwrap().to_owned();
                let secret = !HARMLESS.contains(&&*name) && super::super::reader::names_a_secret(&name);
                if secret && !value.is_mapping() && !value.is_sequence() && value.as_str() != Some("***") {
                    found.push(name);
                }
                walk(value, found);
            }),
            Value::Sequence(items) => items.iter().for_each(|item| walk(item, found)),
            _ => {}
        }
    }
    for (name, config) in good() {
        let mut found = Vec::new();
        walk(&config.shown(), &mut found);
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}
