//! What the hot path allocates. A binary of its own, for the allocator that counts is the process's.

#![cfg(test)]

use std::alloc::System;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tollgate::config::limits::{Bound, Calendar, Count, Dimension, Every, Measure, Rule, Zone};
use tollgate::config::routes::{Mirror, Place, Route};
use tollgate::domain::{Asked, Call, Clock, Cost, ManualClock, Method, Principal, Service, Tokens, Usd};
use tollgate::emulator::eventstream;
use tollgate::limits::{Ask, Buckets, Limits, Nobody, Now};
use tollgate::reply::{Ended, Meter};
use tollgate::routes::{Asking, Routes};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The fewest allocations that a run of `work` made: the test harness has a thread of its own, which may allocate meanwhile.
fn allocations(mut work: impl FnMut()) -> usize {
    let run = |work: &mut dyn FnMut()| {
        let region = Region::new(ALLOCATOR);
        work();
        let change = region.change();
        change.allocations + change.reallocations
    };
    (0..5).map(|_| run(&mut work)).min().unwrap()
}

fn meter(kind: &'static str) -> Meter {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(kind));
    Meter::begin(200, &headers)
}

/// Ten picodollars a token.
fn price(tokens: &Tokens) -> Cost {
    Cost::Priced(Usd::from_picos(tokens.total() * 10))
}

/// What a call costs that `rules` admit and settle, once their buckets are there.
fn admitting(rules: &[Rule]) -> usize {
    let clock = Clock::Manual(ManualClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_hours(480_000)));
    let now = Now::of(&clock);
    let limits = Limits::build(rules, Buckets::new(1_000, now.monotonic), Arc::default(), Arc::new(Nobody));
    let (tenant, user) = ("acme".into(), Some("ann@example.com".into()));
    let principal = Principal { tenant, user, groups: [].into(), method: Method::Jwt, key_id: None };
    let asked = Asked { text_bytes: 3_000, max_tokens: Some(1_000), streamed: true, ..Asked::default() };
    let model = Some("us.anthropic.claude-sonnet-5".into());
    let call = Call { service: Service::BEDROCK_RUNTIME, path: "/".into(), query: "".into(), model, asked };
    let ask = Ask { principal: &principal, call: &call, route: "everything", address: None, price: &price };
    allocations(|| {
        let mut admission = limits.admit(&ask, now).unwrap();
        admission.sent();
        let tokens = Tokens { input: 1_000, output: 2_000, ..Tokens::default() };
        admission.grow(&tokens, || price(&tokens), now).unwrap();
        admission.settle(Some((&tokens, price(&tokens))), now);
    })
}

fn limits() {
    use Dimension::{Model, Tenant, User};
    let rule = |count, per: &[Dimension]| {
        let bound = Bound::Rate { amount: 1_000_000_000, period: Duration::from_secs(1), burst: 1_000_000_000 };
        Rule { per: per.into(), ..Rule::new(format!("{count:?} {per:?}"), count, bound) }
    };
    let rates = [rule(Count::Requests, &[Tenant]), rule(Count::Tokens, &[User]), rule(Count::Usd, &[Tenant, Model])];
    assert_eq!(admitting(&rates), 0, "rates");
    let at_once = Rule { bound: Bound::Max(5), ..rule(Count::Concurrency, &[Tenant]) };
    let [requests, tokens, usd] = rates;
    assert_eq!(admitting(&[requests.clone(), tokens.clone(), usd.clone(), at_once.clone()]), 0, "four rules fit where they are made");

    // Whoever keeps quotas is told whose they are: a box for that, and the model's name.
    let quota = |rule: &Rule| {
        let calendar = Calendar { every: Every::Month, starts_on: 1, zone: Zone::UTC };
        Rule { bound: Bound::Quota { limit: 1_000_000_000_000, calendar }, ..rule.clone() }
    };
    assert_eq!(admitting(&[quota(&requests)]), 1, "a quota");
    assert_eq!(admitting(&[quota(&tokens), quota(&requests)]), 2, "two");
    assert_eq!(admitting(&[quota(&usd)]), 2, "one by models");
    // The model, until the call is settled.
    assert_eq!(admitting(&[Rule { measure: Measure::Bedrock { burndown: Vec::new() }, ..tokens.clone() }]), 1, "as Bedrock counts");
    // Wants, locks and holds of more than four.
    let by_model = rule(Count::Tokens, &[Model]);
    assert!(admitting(&[requests, tokens, usd, at_once, by_model]) <= 3, "five rules");
}

/// One test: two at once would count each other's.
#[test]
fn admission_reading_an_answer_and_weighing_a_body_allocate_nothing() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1_u8]))) > 0, "the counter does not count");
    limits();
    mirrors();
    answers();
}

/// Drawing a call for a mirror, where its route has one and where it has none.
fn mirrors() {
    for share in [None, Some(0), Some(500_000), Some(1_000_000)] {
        let mut route = Route::new("all", "here");
        let place = Place { name: "mirror".into(), upstream: "there".into(), model: None };
        route.places.mirror = share.map(|share| Mirror { place, share });
        let routes = Routes::build(&[route]);
        let headers = HeaderMap::new();
        let call = tollgate::call::read(&headers, None, "/model/amazon.nova-lite-v1:0/converse", "").expect("a call");
        let principal = Principal { tenant: "acme".into(), user: None, groups: [].into(), method: Method::Jwt, key_id: None };
        let asking = Asking { principal: &principal, method: "POST", call: &call, stage: None, host: None, headers: &headers };
        let route = routes.find(&asking).expect("it is for every call");
        assert_eq!(allocations(|| drop(route.mirror())), 0, "{share:?}");
        assert!(tollgate::call::may_be_copied(&tollgate::domain::Call { model: Some("m".into()), ..call.clone() }));
    }
}

fn answers() {
    let delta =
        eventstream::event("contentBlockDelta", br#"{"contentBlockIndex":0,"delta":{"text":"hello \u00fc \"you\""},"p":"abcdefgh"}"#);
    let step = br#"{"trace":{"orchestrationTrace":{"modelInvocationOutput":{"metadata":{"usage":{"inputTokens":1,"outputTokens":2}}}}}}"#;
    let metadata =
        br#"{"usage":{"inputTokens":1,"outputTokens":2,"cacheDetails":[{"ttl":"1h","inputTokens":3}]},"serviceTier":{"type":"flex"}}"#;
    let chunk = br#"{"bytes":"eyJ0eXBlIjoiY29udGVudF9ibG9ja19kZWx0YSIsImRlbHRhIjp7InRleHQiOiJoaSJ9fQ==","p":"abc"}"#;
    let frames = [
        ("deltas", delta),
        ("steps", eventstream::event("trace", step)),
        ("metadata", eventstream::event("metadata", metadata)),
        ("chunks", eventstream::event("chunk", chunk)),
        ("exceptions", eventstream::exception("throttlingException", b"{\"message\":\"m\"}")),
        ("garbage", Bytes::from_static(&[0xff; 300])),
    ];
    for (name, frame) in frames {
        for size in [1, 7, frame.len()] {
            let mut meter = meter("application/vnd.amazon.eventstream");
            let read = || {
                for piece in frame.chunks(size).cycle().take(1_000) {
                    meter.read(piece, Duration::from_millis(5));
                }
            };
            assert_eq!(allocations(read), 0, "{name} in pieces of {size}");
            assert_eq!(allocations(|| assert!(meter.measured(Some(&Asked::default()), Ended::Early).streamed)), 0, "{name}, measured");
        }
    }

    let event = b"event: x\ndata: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}],\"usage\":null}\n\n";
    let mut sse = meter("text/event-stream");
    assert_eq!(allocations(|| (0..1_000).for_each(|_| sse.read(event, Duration::ZERO))), 0, "server-sent events");

    let body = br#"{"output":{"message":{"content":[{"text":"hello"}]}},"usage":{"inputTokens":1,"outputTokens":2}}"#;
    let mut json = meter("application/json");
    assert_eq!(allocations(|| json.read(body, Duration::ZERO)), 0, "a body");
    assert!(json.measured(None, Ended::Whole).usage.is_some());

    let asks = br#"{"messages":[{"role":"user","content":[{"text":"hello"}]}],"inferenceConfig":{"maxTokens":5}}"#;
    let call = tollgate::call::read(&http::HeaderMap::new(), None, "/model/amazon.nova-lite-v1:0/converse", "").expect("a call");
    assert_eq!(allocations(|| assert_eq!(tollgate::call::weigh(&call, asks).max_tokens, Some(5))), 0, "weighing");
}
