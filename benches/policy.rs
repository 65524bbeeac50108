//! Twenty rules, three of them for the caller: at most 300 ns is the aim. And what a model's one spelling costs: some tens of nanoseconds; and
//! the kill switch: nothing to speak of while nothing is stopped.
#![expect(clippy::expect_used, reason = "a bench that can't be set up has nothing to tell")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::SystemTime;

use criterion::Criterion;
use http::HeaderMap;
use tollgate::config::Config;
use tollgate::domain::{Call, Method, Principal, Stop, Stopped, model_name};
use tollgate::policy::Policy;
use tollgate::state::{Stops, Subject};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Seventeen rules for others, and three for tenant `acme`.
fn policy() -> Policy {
    let mut text = String::from(
        "listeners: [{ address: 127.0.0.1:1 }]\nidentity: [anonymous: { tenant: x }]\nupstreams: { a: { region: us-east-1 } }\npolicy:\n\
         - { name: services, tenants: [acme], services: [bedrock-runtime, bedrock] }\n\
         - { name: models, tenants: [ac*], models: { allow: [amazon.nova-*, 'anthropic.claude-*'], deny: ['*opus*'] } }\n\
         - { name: home, tenants: [acme], regions: [us-*] }\n",
    );
    for n in 0..17 {
        writeln!(text, "- {{ name: r{n}, tenants: [tenant-{n}, 'team-{n}-*'], services: [bedrock-runtime], models: ['*haiku*'] }}")
            .expect("memory");
    }
    let config = Config::parse(&text, Path::new("gateway.yaml")).expect("a good configuration");
    Policy::build(&config.policy, &["us-east-1"])
}

fn call(model: &str) -> Call {
    let path = format!("/model/{model}/converse");
    tollgate::call::read(&HeaderMap::new(), Some("gateway"), &path, "").expect("a call")
}

/// What a call is held against of the kill switch: with nothing stopped a load and a branch; with a hundred stops, of which ten are patterns of models.
fn stopped(criterion: &mut Criterion) {
    let stop = |kind: &str, name: String| Stop {
        what: Stopped::of(kind, &name, None).expect("a kind"),
        since: SystemTime::UNIX_EPOCH,
        reason: String::new(),
        message: String::new(),
    };
    let hundred: Vec<Stop> = (0..30)
        .flat_map(|n| ["tenant", "key", "model"].map(|kind| stop(kind, format!("{kind}-{n}"))))
        .chain((0..10).map(|n| stop("model", format!("*haiku-{n}*"))))
        .collect();
    let subject = Subject {
        tenant: Some("acme"),
        key: Some("tgk-1"),
        models: [Some("us.anthropic.claude-sonnet-4-5-20250929-v1:0"), None],
        route: Some("main"),
    };
    for (name, all) in [("nothing stopped", Vec::new()), ("100 stops, none of the call", hundred)] {
        let stops = Stops::default();
        stops.set(all);
        criterion.bench_function(&format!("stops/{name}"), |bench| bench.iter(|| stops.check(black_box(&subject)).is_ok()));
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let policy = policy();
    let caller =
        |tenant: &str| Principal { tenant: tenant.into(), user: Some("ann".into()), groups: [].into(), method: Method::Jwt, key_id: None };
    for (name, tenant, model) in [
        ("policy/20 rules, none for the caller", "other", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("policy/20 rules, 3 for the caller", "acme", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("policy/20 rules, refused", "acme", "us.anthropic.claude-opus-4-5-20251101-v1:0"),
    ] {
        let (caller, call) = (caller(tenant), call(model));
        criterion.bench_function(name, |bench| {
            bench.iter(|| {
                let rules = policy.rules_for(black_box(&caller));
                let mut shadowed = Vec::new();
                rules.head("POST", black_box(&call), &mut shadowed).and_then(|()| rules.target(&call, "us-east-1", &mut shadowed)).is_ok()
            });
        });
    }
    stopped(&mut criterion);
    for (name, sent) in [
        ("in its one spelling", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("behind a geography", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("in an ARN", "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("in capitals", "US.Anthropic.Claude-Sonnet-4-5-20250929-v1:0"),
    ] {
        criterion.bench_function(&format!("model name/{name}"), |bench| bench.iter(|| model_name(black_box(sent)).len()));
    }
    criterion.final_summary();
}
