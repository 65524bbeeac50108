//! The route of a call among ten, and its targets: at most 300 ns is the aim for both together.
#![expect(clippy::expect_used, reason = "a bench that can't be set up has nothing to tell")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

use criterion::Criterion;
use http::HeaderMap;
use tollgate::config::Config;
use tollgate::domain::{Method, Principal};
use tollgate::routes::{Asking, Routes};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Nine routes of which the last is taken, and one for the rest.
fn routes(last: &str) -> Routes {
    let mut text = String::from(
        "listeners: [{ address: 127.0.0.1:1 }]\nidentity: [anonymous: { tenant: x }]\n\
         upstreams: { a: { region: us-east-1 }, b: { region: us-west-2 } }\nroutes:\n\
         - { name: beta, stage: beta, to: [{ upstream: b }] }\n\
         - { name: eu, tenants: ['eu-*'], to: [{ upstream: b }] }\n\
         - { name: ml, groups: ['ml-*'], headers: { x-team: 'ml-*' }, to: [{ upstream: b }] }\n\
         - { name: agents, services: ['bedrock-agent*'], to: [{ upstream: b }] }\n",
    );
    for n in 0..4 {
        writeln!(text, "- {{ name: r{n}, models: [alias-{n}, '*titan-{n}*'], to: [{{ upstream: a }}] }}").expect("memory");
    }
    writeln!(text, "- {{ name: last, models: [sonnet], {last} }}\n- {{ name: rest, to: [{{ upstream: a }}] }}").expect("memory");
    let config = Config::parse(&text, Path::new("gateway.yaml")).expect("a good configuration");
    Routes::build(&config.routes)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let canary = "to: [{ upstream: a, model: us.anthropic.claude-sonnet-4-5-20250929-v1:0, weight: 95 }, { name: canary, upstream: a, model: us.anthropic.claude-sonnet-5, weight: 5 }]";
    let principal = Principal {
        tenant: "acme".into(),
        user: Some("7b1f0a52-3f0c-4a55-9b63-0d4a7f0f3c11".into()),
        groups: ["dev".into(), "ops".into()].into(),
        method: Method::Jwt,
        key_id: None,
    };
    let headers = HeaderMap::new();
    for (name, last) in [
        ("one target", "to: [{ upstream: a }]".to_owned()),
        ("two, drawn", canary.to_owned()),
        ("two, sticky", format!("{canary}, sticky: user")),
        ("two, sticky, one to fail over to", format!("{canary}, sticky: user, failover: [b]")),
    ] {
        let routes = routes(&last);
        let call = tollgate::call::read(&headers, Some("gateway"), "/model/sonnet/converse", "").expect("a call");
        criterion.bench_function(&format!("routes/10 routes/{name}"), |bench| {
            bench.iter(|| {
                let asking = Asking {
                    principal: black_box(&principal),
                    method: "POST",
                    call: black_box(&call),
                    stage: None,
                    host: Some("gateway"),
                    headers: &headers,
                };
                routes.find(&asking).map(|route| route.order(&asking)).is_ok()
            });
        });
    }
    for (name, mirror) in [
        ("no mirror", ""),
        ("a mirror of 0 %", ", mirror: { upstream: b, share: 0% }"),
        ("a mirror of 5 %", ", mirror: { upstream: b, share: 5% }"),
    ] {
        let routes = routes(&format!("to: [{{ upstream: a }}]{mirror}"));
        let call = tollgate::call::read(&headers, Some("gateway"), "/model/sonnet/converse", "").expect("a call");
        let (principal, method, host) = (&principal, "POST", Some("gateway"));
        let asking = Asking { principal, method, call: &call, stage: None, host, headers: &headers };
        let route = routes.find(&asking).expect("a route");
        criterion.bench_function(&format!("routes/is it mirrored/{name}"), |bench| bench.iter(|| black_box(route).mirror()));
    }
    let routes = routes(canary);
    criterion
        .bench_function("routes/stage of a path", |bench| bench.iter(|| routes.stage(black_box("/beta/model/sonnet/converse")).1.len()));
    criterion.bench_function("routes/whether a model is an alias", |bench| {
        bench.iter(|| routes.is_alias(black_box("us.anthropic.claude-sonnet-5")));
    });
    criterion.final_summary();
}
