//! What a try costs whose upstream is well: asking is one atomic load, and telling a few. And what it costs where some model is throttled.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use tollgate::config::upstreams::{Budget, Health as Config};
use tollgate::domain::Clock;
use tollgate::upstreams::health::{Healths, Outcome, RetryBudget, choose};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MODEL: Option<&str> = Some("us.anthropic.claude-sonnet-4-5-20250929-v1:0");
const WELL: Outcome = Outcome::Answered { status: 200, first_byte: Duration::from_millis(400) };

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let (healths, now) = (Healths::new(), Clock::System.monotonic());
    let of = |name: &str| healths.of(&name.into(), &Config::default());
    let (well, throttled, failing) = (of("well"), of("throttled"), of("failing"));
    let change = throttled.told(Some("another"), Outcome::Throttled { retry_after: Some(Duration::from_mins(1)) }, now);
    assert_eq!(change, None, "no illness");

    criterion.bench_function("health/ask, well", |bench| bench.iter(|| well.ask(black_box(MODEL), now)));
    criterion.bench_function("health/told, well", |bench| bench.iter(|| well.told(black_box(MODEL), black_box(WELL), now)));
    criterion.bench_function("health/ask and told, well", |bench| {
        bench.iter(|| well.ask(black_box(MODEL), now).told(&well, MODEL, black_box(WELL), now));
    });
    criterion.bench_function("health/ask and told, another model is throttled", |bench| {
        bench.iter(|| throttled.ask(black_box(MODEL), now).told(&throttled, MODEL, black_box(WELL), now));
    });
    criterion.bench_function("health/choose of three", |bench| {
        let targets = [&throttled, &well, &well];
        bench.iter(|| choose(targets.iter().map(|health| (*health, health.ask(black_box(Some("another")), now)))).is_some());
    });
    criterion.bench_function("health/a failure, and what makes up for it", |bench| {
        bench.iter_batched(
            || failing.told(MODEL, WELL, now),
            |_| failing.told(MODEL, black_box(Outcome::Unreachable), now),
            BatchSize::NumIterations(1),
        );
    });
    let budget = RetryBudget::new(Budget::default());
    criterion.bench_function("health/a request under the retry budget", |bench| bench.iter(|| budget.deposit(black_box(now))));
    criterion.bench_function("health/a retry under the retry budget", |bench| bench.iter(|| budget.withdraw(black_box(now))));
    criterion.final_summary();
}
