//! What a call costs: at most 200 ns for a model seen before is the aim.
#![expect(clippy::expect_used, reason = "a bench that can't be set up has nothing to tell")]

use std::hint::black_box;

use criterion::Criterion;
use tollgate::config::prices::Prices as Config;
use tollgate::domain::{Basis, GuardrailUnits, Tier, Tokens, Usage};
use tollgate::prices::Prices;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let prices = Prices::build(&Config::default()).expect("the shipped prices");
    let tokens = Tokens { input: 1200, output: 340, cache_read: 8000, ..Tokens::default() };
    let usage = Usage { tokens, guardrail: GuardrailUnits::default(), basis: Basis::Reported, tier: None };
    let guarded = Usage { guardrail: GuardrailUnits { topic: 3, content: 3, ..GuardrailUnits::default() }, ..usage };
    let haiku = "us.anthropic.claude-haiku-4-5-20251001-v1:0";
    let arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-haiku-4-5-20251001-v1:0";
    for (name, model, usage) in [
        ("prices/seen before", haiku, usage),
        ("prices/seen before, an ARN", arn, usage),
        ("prices/seen before, with a guardrail", haiku, guarded),
        ("prices/seen before, without a price", "acme.unheard-of-v1:0", usage),
    ] {
        criterion
            .bench_function(name, |bench| bench.iter(|| prices.cost(black_box(Some(model)), black_box("us-east-1"), black_box(&usage))));
    }
    criterion.bench_function("prices/looked up in the whole table", |bench| {
        bench.iter(|| prices.entries(black_box("acme.unheard-of-v1:0"), black_box("us-east-1"), Tier::Default).len());
    });
    criterion.final_summary();
}
