//! Admission with three matching rules over 100,000 keys: at most 500 ns is the aim; and from two threads at once. And the flood guard: at most 200 ns.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use criterion::Criterion;
use tollgate::config;
use tollgate::config::limits::{Bound, Calendar, Count, Dimension, Every, Rule, Zone};
use tollgate::domain::{Asked, Call, Clock, Cost, ManualClock, Method, Principal, Service, Tokens, Usd};
use tollgate::firewall::{Firewall, path_is_safe};
use tollgate::limits::{Admission, Ask, Buckets, Limits, Nobody, Now};

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

/// A rule of each sort, that a call of a model takes from: requests per tenant, tokens per user, dollars a month per tenant and model.
fn mixed() -> [Rule; 3] {
    let bound = |amount| Bound::Rate { amount, period: Duration::from_secs(1), burst: amount * 1_000 };
    let calendar = Calendar { every: Every::Month, starts_on: 1, zone: Zone::UTC };
    let budget = Bound::Quota { limit: u64::MAX / 4, calendar };
    [
        Rule::new("rpm", Count::Requests, bound(1_000_000)),
        Rule { per: vec![Dimension::User], ..Rule::new("tpm", Count::Tokens, bound(1_000_000_000_000)) },
        Rule { per: vec![Dimension::Tenant, Dimension::Model], ..Rule::new("budget", Count::Usd, budget) },
    ]
}

/// A picodollar a token.
fn price(tokens: &Tokens) -> Cost {
    Cost::Priced(Usd::from_picos(tokens.total()))
}

/// A call of one of 50 models that may use some 4,000 tokens.
fn model_call(model: u32) -> Call {
    let asked = Asked { text_bytes: 3_000, max_tokens: Some(3_000), ..Asked::default() };
    let model = Some(format!("anthropic.claude-{model}").into());
    Call { service: Service::BEDROCK_RUNTIME, path: "/".into(), query: "".into(), model, asked }
}

/// Calls of models by one caller after another, over and over: `next` begins one, and gives it to `then`.
fn calls<'a>(
    limits: &'a Arc<Limits>,
    callers: &'a [Principal],
    models: &'a [Call],
    start: Instant,
    then: impl Fn(Admission, Now) + 'a,
) -> impl FnMut() + 'a {
    let mut turn = 0_u32;
    let mut next = callers.iter().zip(models.iter().cycle()).cycle();
    move || {
        turn += 1;
        let Some((principal, call)) = next.next() else { return };
        let wall = SystemTime::UNIX_EPOCH + Duration::from_hours(480_000);
        let now = Now { monotonic: start + Duration::from_micros(turn.into()), wall };
        let ask = Ask { principal, call, route: "everything", address: None, price: &price };
        if let Ok(admission) = black_box(limits.admit(&ask, now)) {
            then(admission, now);
        }
    }
}

/// A caller who has just been found out: as every caller by then, with names that are in the cache.
fn found(caller: &Principal) -> Principal {
    let again = |name: &Arc<str>| Arc::from(&**name);
    Principal { tenant: again(&caller.tenant), user: caller.user.as_ref().map(again), ..caller.clone() }
}

/// Admission alone, settled off the clock. What the limits keep of a caller is hardly ever in the cache.
fn admission(criterion: &mut Criterion, name: &str, limits: &Arc<Limits>, callers: &[Principal], models: &[Call], start: Instant) {
    const LOT: u32 = 32;
    let mut next = callers.iter().zip(models.iter().cycle()).cycle();
    let mut turn = 0_u32;
    criterion.bench_function(name, |bench| {
        #[expect(clippy::cast_precision_loss, reason = "a share of a second")]
        bench.iter_custom(|times| {
            let (mut spent, mut admitted) = (Duration::ZERO, 0_u32);
            while u64::from(admitted) < times {
                turn += 1;
                let wall = SystemTime::UNIX_EPOCH + Duration::from_hours(480_000);
                let now = Now { monotonic: start + Duration::from_micros(turn.into()), wall };
                let lot: Vec<_> = next.by_ref().take(LOT as usize).map(|(caller, call)| (found(caller), call)).collect();
                let mut admissions = Vec::with_capacity(lot.len());
                let began = clock();
                for (principal, call) in &lot {
                    let ask = Ask { principal, call, route: "everything", address: None, price: &price };
                    admissions.push(limits.admit(&ask, now));
                }
                spent += began.elapsed();
                admitted += LOT;
                admissions.into_iter().flatten().for_each(|admission| settle(admission, now));
            }
            spent.mul_f64(times as f64 / f64::from(admitted))
        });
    });
}

/// What a call used.
fn settle(admission: Admission, now: Now) {
    let tokens = Tokens { input: 1_000, output: 500, ..Tokens::default() };
    admission.settle(Some((&tokens, price(&tokens))), now);
}

/// Admission and settlement under three rules of all sorts; from one thread, and from two at once. Criterion measures one thread, so the second prints.
#[expect(clippy::print_stdout, reason = "two threads can't be told to criterion")]
fn mixed_rules(criterion: &mut Criterion, callers: &[Principal], start: Instant) {
    let models: Vec<_> = (0..50).map(model_call).collect();
    let requests =
        [rule("rpm", &[Dimension::Tenant]), rule("user", &[Dimension::User]), rule("both", &[Dimension::Tenant, Dimension::User])];
    let limits = room(&requests, Buckets::new(Buckets::DEFAULT_CAPACITY, start));
    let mut call = calls(&limits, callers, &models, start, settle);
    for _ in callers {
        call();
    }
    admission(criterion, "admit alone, 3 rules", &limits, callers, &models, start);
    let limits = room(&mixed(), Buckets::new(Buckets::DEFAULT_CAPACITY, start));
    let mut call = calls(&limits, callers, &models, start, settle);
    for _ in callers {
        call();
    }
    criterion.bench_function("admit and settle, 3 rules of all sorts", |bench| bench.iter(&mut call));
    admission(criterion, "admit alone, 3 rules of all sorts", &limits, callers, &models, start);
    for threads in [1_u32, 2] {
        const CALLS: u32 = 400_000;
        let began = clock();
        std::thread::scope(|scope| {
            for part in callers.chunks(callers.len() / threads as usize) {
                let (limits, models) = (&limits, &models);
                scope.spawn(move || {
                    let mut call = calls(limits, part, models, start, settle);
                    (0..CALLS).for_each(|_| call());
                });
            }
        });
        let each = began.elapsed() / CALLS;
        println!("{threads} threads: {CALLS} calls each, admitted and settled in {each:?} each");
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn clock() -> Instant {
    Instant::now()
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

    mixed_rules(&mut criterion, &callers, start);

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
        max_requests: 20_000,
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
