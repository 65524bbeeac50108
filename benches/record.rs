//! What it costs to record an exchange: the budget is 2 µs. The writer thread runs beside, as it does in the gateway; its work is not in these figures.

#![expect(clippy::expect_used, reason = "a bench that can't be set up has nothing to tell")]
#![expect(missing_docs, reason = "criterion_group! makes a public function")]

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tollgate::config::record::{AccessLog, Destination, Metrics as MetricsConfig, Record};
use tollgate::domain::{Basis, Cost, GuardrailUnits, Method, Principal, Reason, RequestId, Service, Tokens, Trace, Usage, Usd};
use tollgate::record::{Attempt, Entry, Metrics, Recorder, Tried};

const THOUSAND: u64 = 1000;

const USAGE: Usage = Usage {
    tokens: Tokens { input: 1_200, output: 350, cache_read: 4_096, cache_write_5m: 0, cache_write_1h: 0, reasoning: 120 },
    guardrail: GuardrailUnits {
        topic: 0,
        content: 0,
        content_image: 0,
        sensitive_information: 0,
        contextual_grounding: 0,
        automated_reasoning: 0,
    },
    basis: Basis::Reported,
    tier: None,
};

fn record(criterion: &mut Criterion) {
    let id = RequestId::random();
    let trace = Trace::take_up(None);
    let principal =
        Principal { tenant: "acme".into(), user: Some("ada@example.com".into()), groups: [].into(), method: Method::Jwt, key_id: None };
    let answered = Entry {
        client: Some(IpAddr::from([192, 0, 2, 7])),
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
        user_agent: Some(b"Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux#6.1.0 md/arch#x86_64 lang/python#3.12.3 md/pyimpl#CPython cfg/retry-mode#legacy Botocore/1.44.5"),
        ..Entry::begun(&id, &trace, SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_352_444_123))
    };
    let refused = Entry {
        status: Some(429),
        reason: Some(Reason::RateLimited),
        upstream: None,
        upstream_request_id: None,
        attempts: 0,
        upstream_time: None,
        ..answered
    };
    let routed = Entry { route: Some("chat"), target: Some("primary"), head: Some(Duration::from_millis(812)), ..answered };
    let tried = [Tried {
        target: "primary".into(),
        upstream: "primary".into(),
        model: None,
        outcome: Attempt::Exception,
        status: Some(200),
        upstream_request_id: Some(b"0b8f6f0e-2f0a-4d7c-9f0b-3c1d5f5a7e21".as_slice().into()),
        began: Duration::from_micros(90),
        took: Duration::from_millis(300),
        usage: Some(USAGE),
        cost: Cost::Priced(Usd::from_picos(1_234_567_000)),
    }];
    let failed_over = Entry { target: Some("second"), upstream: Some("second"), attempts: 2, tried: &tried, ..routed };
    let hostile = Entry { user_agent: Some(&[0x9b; 200]), ..answered };

    let log = Record { access_log: Some(AccessLog { to: Destination::File("/dev/null".into()) }), ..Record::default() };
    let metrics = Arc::new(Metrics::new());
    let recorder = Recorder::build(&log, Arc::clone(&metrics)).expect("/dev/null opens");
    let without_log = Recorder::build(&Record { access_log: None, ..Record::default() }, Arc::clone(&metrics)).expect("nothing is opened");

    let mut group = criterion.benchmark_group("record");
    // A thousand at a time, the writer done in between: without a pause they would outrun it and be dropped, which is cheaper.
    group.throughput(Throughput::Elements(THOUSAND));
    for (name, entry) in [
        ("1000 exchanges", answered),
        ("1000 refusals", refused),
        ("1000 user agents that are no text", hostile),
        ("1000 exchanges by a route", routed),
        ("1000 exchanges that failed over", failed_over),
    ] {
        group.bench_function(name, |bench| {
            bench.iter_batched(
                || recorder.flush(),
                |()| (0..THOUSAND).for_each(|_| recorder.record(black_box(&entry))),
                BatchSize::PerIteration,
            );
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("metrics alone", |bench| bench.iter(|| without_log.record(black_box(&answered))));
    group.bench_function("metrics alone, by a route", |bench| bench.iter(|| without_log.record(black_box(&routed))));
    group.bench_function("metrics alone, failed over", |bench| bench.iter(|| without_log.record(black_box(&failed_over))));
    let metered = Entry {
        streamed: true,
        usage: Some(&USAGE),
        cost: Cost::Priced(Usd::from_picos(1_234_567_000)),
        first_token: Some(Duration::from_millis(310)),
        last_token: Some(Duration::from_millis(812)),
        ..answered
    };
    // At most 1 µs is the aim.
    group.bench_function("metrics alone, with usage", |bench| bench.iter(|| without_log.record(black_box(&metered))));
    group.bench_function("in flight", |bench| bench.iter(|| drop(black_box(metrics.in_flight()))));
    group.bench_function("a scrape", |bench| bench.iter(|| metrics.render(SystemTime::UNIX_EPOCH).len()));
    // At most 100 ms is the aim.
    let many = fifty_thousand_series(&metered);
    group.throughput(Throughput::Elements(many.render(SystemTime::UNIX_EPOCH).lines().count() as u64));
    group.bench_function("a scrape of 50000 series", |bench| bench.iter(|| many.render(SystemTime::UNIX_EPOCH).len()));
    group.finish();
    recorder.flush();
}

/// As many tenants with all there is to count as there is room for.
fn fifty_thousand_series(metered: &Entry<'_>) -> Arc<Metrics> {
    // What is kept free for `other` and for limits comes on top.
    let metrics = Arc::new(Metrics::build(&MetricsConfig { max_series: 57_000 }, 1));
    let record = Recorder::build(&Record { access_log: None, ..Record::default() }, Arc::clone(&metrics)).expect("nothing is opened");
    for number in 0..1000 {
        let tenant = format!("tenant-{number}").into();
        let principal = Principal { tenant, user: None, groups: [].into(), method: Method::Jwt, key_id: None };
        record.record(&Entry { principal: Some(&principal), ..*metered });
    }
    metrics
}

criterion_group!(benches, record);
criterion_main!(benches);
