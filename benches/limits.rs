//! Admission with three matching rules over 100,000 keys: at most 500 ns is the aim. And the flood guard: at most 200 ns.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use criterion::Criterion;
use tollgate::config;
use tollgate::config::limits::{Bound, Count, Dimension, Rule};
use tollgate::domain::{Asked, Call, Clock, Cost, ManualClock, Method, Principal, Service};
use tollgate::firewall::{Firewall, path_is_safe};
use tollgate::limits::{Ask, Buckets, Limits, Nobody, Now};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn rule(name: &str, per: &[Dimension]) -> Rule {
    let bound = Bound::Rate { amount: 1_000_000, period: Duration::from_secs(1), burst: 1_000_000_000 };
    Rule { per: per.into(), ..Rule::new(name, Count::Requests, bound) }
}

fn room(rules: &[Rule], buckets: Arc<Buckets>) -> Arc<Limits> {
    Limits::build(rules, buckets, Arc::default(), Arc::new(Nobody))
}

fn callers() -> Vec<Principal> {
    let caller = |n: u32| Principal {
        tenant: format!("tenant-{}", n % 1_000).into(),
        user: Some(format!("user-{n}@example.com").into()),
        groups: [].into(),
        method: Method::Jwt,
        key_id: None,
    };
    let mut callers: Vec<_> = (0..50_000).map(caller).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut callers);
    callers
}

/// Calls `admit` for one caller after another, a microsecond apart, over and over.
fn walk(limits: &Arc<Limits>, callers: &[Principal], start: Instant) -> impl FnMut() {
    let mut turn = 0_u32;
    let mut next = callers.iter().cycle();
    let call = Call { service: Service::BEDROCK_RUNTIME, path: "/".into(), query: "".into(), model: None, asked: Asked::default() };
    move || {
        turn += 1;
        let Some(principal) = next.next() else { return };
        let now = Now { monotonic: start + Duration::from_micros(turn.into()), wall: SystemTime::UNIX_EPOCH };
        let ask = Ask { principal, call: &call, route: "everything", address: None, price: &|_| Cost::Nothing };
        if let Ok(admission) = black_box(limits.admit(&ask, now)) {
            admission.settle(None, now);
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let start = Clock::Manual(ManualClock::starting_at(SystemTime::UNIX_EPOCH)).monotonic();
    let callers = callers();
    // 1,000 tenants and twice 50,000 users: 101,000 buckets.
    let rules = [rule("rpm", &[Dimension::Tenant]), rule("user", &[Dimension::User]), rule("both", &[Dimension::Tenant, Dimension::User])];

    for rules in [&rules[..1], &rules[..]] {
        let buckets = Buckets::new(Buckets::DEFAULT_CAPACITY, start);
        let limits = room(rules, buckets);
        let mut admit = walk(&limits, &callers, start);
        for _ in &callers {
            admit();
        }
        criterion.bench_function(&format!("admit, {} rules", rules.len()), |bench| bench.iter(&mut admit));
    }

    // Nobody can pass: the rate is so low that the first request of each caller was the last.
    let last = Bound::Rate { amount: 1, period: Duration::from_hours(1), burst: 1 };
    let last = Rule { bound: last, ..rule("last", &[Dimension::User]) };
    let limits = room(&[rules[0].clone(), rules[1].clone(), last], Buckets::new(Buckets::DEFAULT_CAPACITY, start));
    let mut refuse = walk(&limits, &callers, start);
    for _ in &callers {
        refuse();
    }
    criterion.bench_function("refuse, 3 rules", |bench| bench.iter(&mut refuse));

    // At the bound, none idle: what a newcomer costs at worst.
    let limits = room(&rules[1..2], Buckets::new(40_000, start));
    let mut crowd = walk(&limits, &callers, start);
    for _ in &callers {
        crowd();
    }
    criterion.bench_function("admit at the bound, 1 rule, a fifth newcomers", |bench| bench.iter(&mut crowd));

    let config = config::firewall::Firewall {
        max_body: 25_000_000,
        body_memory: 1_000_000_000,
        header_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_mins(1),
        flood: Some(config::firewall::Flood { per_second: 100 }),
    };
    let firewall = Firewall::build(&config);
    let mut address = 0_u32;
    criterion.bench_function("flood", |bench| {
        bench.iter(|| {
            address = address.wrapping_add(1) % 1_000;
            black_box(firewall.flood(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | address)), start)).is_ok()
        });
    });
    let path = b"/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabcdefghijkl/converse-stream";
    criterion.bench_function("path", |bench| bench.iter(|| path_is_safe(black_box(path)).is_ok()));
    criterion.final_summary();
}
