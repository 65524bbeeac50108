//! What it costs to note an exchange in the ledger: the budget is 0.5 µs. The writer thread runs beside, as it does in the gateway.

#![expect(clippy::expect_used, reason = "a bench that can't be set up has nothing to tell")]
#![expect(missing_docs, reason = "criterion_group! makes a public function")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tollgate::config::record::{Ledger, Record};
use tollgate::domain::{Basis, Cost, GuardrailUnits, Method, Principal, RequestId, Service, Tokens, Trace, Usage, Usd};
use tollgate::record::{By, Entry, Metrics, Recorder, UsageQuery, usage};

const THOUSAND: u64 = 1000;

fn ledger(criterion: &mut Criterion) {
    let dir = std::env::temp_dir().join(format!("tollgate-bench-ledger-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    let file = dir.join("ledger.sqlite");
    let kept = Ledger { file: file.clone(), keep: Duration::from_hours(24 * 20_000), keep_exchanges: Duration::from_hours(24 * 20_000) };
    let config = |ledger| Record { access_log: None, ledger, ..Record::default() };
    let recorder = Recorder::build(&config(Some(kept)), Arc::new(Metrics::new())).expect("a ledger");
    let without = Recorder::build(&config(None), Arc::new(Metrics::new())).expect("nothing is opened");

    let (id, trace) = (RequestId::random(), Trace::take_up(None));
    let principal =
        Principal { tenant: "acme".into(), user: Some("ada@example.com".into()), groups: [].into(), method: Method::Jwt, key_id: None };
    let used = Usage {
        tokens: Tokens { input: 1_200, output: 300, cache_read: 4_000, ..Tokens::default() },
        guardrail: GuardrailUnits::default(),
        basis: Basis::Reported,
        tier: None,
    };
    let metered = Entry {
        principal: Some(&principal),
        service: Some(Service::BEDROCK_RUNTIME),
        method: "POST",
        path: b"/model/us.anthropic.claude-3-5-haiku-20241022-v1%3A0/converse",
        model: Some("us.anthropic.claude-3-5-haiku-20241022-v1:0"),
        operation: Some("converse"),
        status: Some(200),
        upstream: Some("primary"),
        upstream_request_id: Some(b"f6b1c9de-58a1-4b7e-9c5e-0f4a3f0f6a55"),
        attempts: 1,
        bytes_in: 1_536,
        bytes_out: 1_536,
        upstream_time: Some(Duration::from_millis(812)),
        total: Duration::from_micros(815_250),
        overhead: Duration::from_nanos(41_700),
        complete: true,
        usage: Some(&used),
        cost: Cost::Priced(Usd::from_picos(2_640_000_000)),
        ..Entry::begun(&id, &trace, SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_352_444_123))
    };
    let unmetered = Entry { usage: None, cost: Cost::Nothing, ..metered };

    let mut group = criterion.benchmark_group("ledger");
    // A thousand at a time, written in between: the single exchanges that a batch holds are bounded, and a lost one is cheaper.
    group.throughput(Throughput::Elements(THOUSAND));
    for (name, to, entry) in [
        ("1000 metered exchanges", &recorder, metered),
        ("1000 unmetered exchanges", &recorder, unmetered),
        ("1000 exchanges without a ledger", &without, metered),
    ] {
        group.bench_function(name, |bench| {
            bench.iter_batched(|| to.flush(), |()| (0..THOUSAND).for_each(|_| to.record(black_box(&entry))), BatchSize::PerIteration);
        });
    }
    group.throughput(Throughput::Elements(1));
    let all = UsageQuery {
        tenant: None,
        by: Some(By::Tenant),
        since: SystemTime::UNIX_EPOCH,
        until: SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 30_000),
    };
    group.bench_function("a query", |bench| bench.iter(|| usage(&file, &all).expect("rows").len()));
    group.finish();
    recorder.flush();
    drop(recorder);
    drop(std::fs::remove_dir_all(&dir));
}

criterion_group!(benches, ledger);
criterion_main!(benches);
