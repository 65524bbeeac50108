//! What was tried and given up, where calls went, and what was mirrored.

use super::*;
use crate::domain::MIRROR_TENANT;

fn rendered(metrics: &Metrics) -> String {
    metrics.render(SystemTime::UNIX_EPOCH)
}

/// How many lines of the name there are.
fn lines(text: &str, name: &str) -> usize {
    text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count()
}

#[test]
fn a_tries_usage_is_booked_under_its_upstream_and_model_and_is_no_further_call() {
    let metrics = Metrics::new();
    let (id, acme) = (RequestId::random(), principal("acme", None));
    let silent = Tried { usage: None, cost: Cost::Nothing, outcome: Attempt::TimedOut, status: None, ..given_up() };
    let entry = Entry { status: Some(200), reason: None, tried: &[given_up(), silent], ..full(&id, &acme) };
    metrics.count(&entry);
    let text = rendered(&metrics);
    let tried = r#"tenant="acme",model="eu.amazon.nova-lite-v1:0",operation="converse",upstream="use1""#;
    let answer = r#"tenant="acme",model="amazon.nova-lite-v1:0",operation="converse",upstream="primary""#;
    for names in [tried, answer] {
        assert_eq!(sample(&text, &format!(r#"tollgate_tokens_total{{{names},type="output"}}"#)), "340");
        assert_eq!(sample(&text, &format!(r#"tollgate_tokens_total{{{names},type="cache_read"}}"#)), "5000");
        assert_eq!(sample(&text, &format!("tollgate_reasoning_tokens_total{{{names}}}")), "90");
        assert_eq!(sample(&text, &format!("tollgate_cost_usd_total{{{names}}}")), "0.0125");
    }
    assert_eq!(sample(&text, r#"tollgate_guardrail_units_total{tenant="acme",policy="topic"}"#), "2");
    assert_eq!(lines(&text, "tollgate_requests_total"), 1);
    assert_eq!(sample(&text, &format!(r#"tollgate_requests_total{{service="bedrock-runtime",{answer},status_class="2xx"}}"#)), "1");
    for histogram in ["gen_ai_client_token_usage", "gen_ai_server_request_duration_seconds"] {
        assert!(!text.contains(&format!("{histogram}_count{{{tried}")), "the client had no answer of it: {histogram}");
    }
    let told = metrics.tenants();
    assert_eq!((told.len(), told[0].requests, told[0].tokens.output, told[0].cost), (1, 1, 680, Usd::from_picos(25_000_000_000)));
}

#[test]
fn an_exchange_is_unpriced_once_however_many_of_its_tries_were() {
    let unpriced = || Tried { cost: Cost::Unpriced, ..given_up() };
    for (cost, tried, by_answer, by_try) in [
        (Cost::Unpriced, vec![unpriced(), unpriced()], Some("1"), None),
        (USED_COST, vec![given_up(), unpriced(), unpriced()], None, Some("1")),
        (USED_COST, vec![given_up()], None, None),
    ] {
        let metrics = Metrics::new();
        let (id, acme) = (RequestId::random(), principal("acme", None));
        metrics.count(&Entry { status: Some(200), reason: None, cost, tried: &tried, ..full(&id, &acme) });
        let text = rendered(&metrics);
        for (model, number) in [("amazon.nova-lite-v1:0", by_answer), ("eu.amazon.nova-lite-v1:0", by_try)] {
            let name = format!(r#"tollgate_unpriced_requests_total{{tenant="acme",model="{model}"}}"#);
            assert_eq!(number, text.contains(&name).then(|| sample(&text, &name)), "{model}");
        }
    }
}

#[test]
fn a_route_counts_the_target_that_answered_and_every_step_to_another() {
    let metrics = Metrics::new();
    let (id, acme) = (RequestId::random(), principal("acme", None));
    let to = |target: &str| Tried { target: target.into(), ..given_up() };
    let entry = full(&id, &acme);
    metrics.count(&entry);
    // Twice the first, then the second, then `canary`, which answers.
    metrics.count(&Entry { tried: &[to("first"), to("first"), to("second")], ..entry });
    metrics.count(&Entry { tried: &[to("first")], head: None, ..entry });
    metrics.count(&Entry { target: None, ..entry });
    metrics.count(&Entry { mirror_of: Some(&id), target: Some("shadow"), ..entry });
    let text = rendered(&metrics);
    assert_eq!(sample(&text, r#"tollgate_route_requests_total{route="chat",target="canary"}"#), "2");
    assert_eq!(lines(&text, "tollgate_route_requests_total"), 1);
    for (from, to, number) in [("first", "second", "1"), ("second", "canary", "1"), ("first", "canary", "1")] {
        assert_eq!(sample(&text, &format!(r#"tollgate_failovers_total{{from="{from}",route="chat",to="{to}"}}"#)), number);
    }
    assert_eq!((lines(&text, "tollgate_failovers_total"), metrics.figures().failovers), (3, 3));
}

#[test]
fn tries_are_counted_by_upstream_and_only_a_configured_one_has_a_name() {
    let metrics = Metrics::new();
    metrics.upstream("use1");
    metrics.attempt("use1", Attempt::Exception);
    metrics.attempt("made-up", Attempt::Answered);
    metrics.attempt("made-up-too", Attempt::Answered);
    let number = |upstream: &str, outcome: &str| {
        sample(&rendered(&metrics), &format!(r#"tollgate_upstream_attempts_total{{outcome="{outcome}",upstream="{upstream}"}}"#)).to_owned()
    };
    assert_eq!((number("use1", "exception"), number("use1", "answered")), ("1".to_owned(), "0".to_owned()));
    assert_eq!(number("other", "answered"), "2");
    let attempts = metrics.figures().attempts;
    assert_eq!(attempts.iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>(), [&("answered", 2), &("exception", 1)]);
    // A reload may bring an upstream of that very name.
    metrics.upstream("other");
    metrics.attempt("other", Attempt::Answered);
    assert_eq!(number("other", "answered"), "3");
    assert_eq!(metrics.figures().attempts[0], ("answered", 3));
}

#[test]
fn names_that_reloads_bring_are_bounded_and_nothing_is_lost() {
    let metrics = Metrics::new();
    let (id, acme) = (RequestId::random(), principal("acme", None));
    for number in 0..3_000_u32 {
        let (upstream, route) = (format!("u{number}"), format!("r{}", number / 3));
        let target = format!("t{number}");
        metrics.upstream(&upstream);
        metrics.attempt(&upstream, Attempt::Answered);
        metrics.count(&Entry { route: Some(&route), target: Some(&target), tried: &[given_up()], ..full(&id, &acme) });
    }
    let text = rendered(&metrics);
    assert!(lines(&text, "tollgate_upstream_attempts_total") <= 257 * Attempt::ALL.len());
    assert_eq!(metrics.figures().attempts[0], ("answered", 3_000));
    let most = metrics::upstreams::MOST_WAYS;
    for (name, others) in [
        ("tollgate_route_requests_total", r#"tollgate_route_requests_total{route="other",target="other"}"#),
        ("tollgate_failovers_total", r#"tollgate_failovers_total{from="other",route="other",to="other"}"#),
    ] {
        assert_eq!(lines(&text, name), most + 1);
        assert_eq!(sample(&text, others).parse::<usize>().unwrap(), 3_000 - most);
    }
    assert_eq!(metrics.figures().failovers, 3_000);
}

#[test]
fn a_mirrored_call_is_booked_apart_and_counts_for_no_tenant() {
    let metrics = Metrics::new();
    metrics.limits(|subject| {
        assert_ne!(subject.tenant.as_deref(), Some(MIRROR_TENANT), "it has no limits");
        Vec::new()
    });
    let (id, acme) = (RequestId::random(), principal("acme", Some("ada")));
    let entry = Entry { status: Some(200), reason: None, mirror_of: Some(&id), tried: &[given_up()], ..full(&id, &acme) };
    metrics.count(&entry);
    let told = metrics.tenants();
    assert_eq!((told.len(), &*told[0].tenant, told[0].requests, told[0].tokens.output), (1, MIRROR_TENANT, 1, 680));
    let text = rendered(&metrics);
    assert!(!text.contains("acme"));
    assert_eq!(sample(&text, "tollgate_request_bytes_total"), "0");
    assert_eq!(sample(&text, "tollgate_response_bytes_total"), "0");
    assert_eq!(sample(&text, "tollgate_overhead_seconds_count"), "0");
}

prop_compose! {
    fn usage()(counts in prop::array::uniform6(0_u64..1 << 40), estimated: bool) -> Usage {
        let [input, output, cache_read, cache_write_5m, cache_write_1h, reasoning] = counts;
        let basis = if estimated { Basis::Estimated } else { Basis::Reported };
        Usage { tokens: Tokens { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning }, basis, ..USED }
    }
}

fn cost() -> impl Strategy<Value = Cost> {
    prop_oneof![Just(Cost::Nothing), Just(Cost::Unpriced), (0_u64..1 << 50).prop_map(|picos| Cost::Priced(Usd::from_picos(picos)))]
}

#[test]
fn what_became_of_mirrored_calls_is_counted_by_route_and_seen_before_the_first() {
    let metrics = Metrics::new();
    metrics.mirror("chat");
    assert_eq!(lines(&rendered(&metrics), "tollgate_mirrored_total"), Mirrored::ALL.len());
    for (count, outcome) in (1..).zip(Mirrored::ALL) {
        (0..count).for_each(|_| metrics.mirrored("chat", outcome));
    }
    let text = rendered(&metrics);
    for (count, outcome) in ["answered", "failed", "not_allowed", "no_room", "ended"].into_iter().enumerate() {
        let series = format!(r#"tollgate_mirrored_total{{outcome="{outcome}",route="chat"}}"#);
        assert_eq!(sample(&text, &series), (count + 1).to_string());
    }
}

prop_compose! {
    fn tried()(
        at in prop::sample::select(vec!["primary", "use1", "euc1"]), model in prop::option::of(prop::sample::select(vec!["a", "b"])),
        status in prop::option::of(prop::sample::select(vec![200_u16, 429, 503])), usage in prop::option::of(usage()), cost in cost(),
    ) -> Tried {
        Tried { upstream: at.into(), target: at.into(), model: model.map(Into::into), status, usage, cost, ..given_up() }
    }
}

fn picos(cost: Cost) -> u64 {
    if let Cost::Priced(sum) = cost { sum.picos() } else { 0 }
}

proptest! {
    #[test]
    fn what_is_booked_is_what_the_tries_and_the_answer_used_whatever_they_were(
        exchanges in prop::collection::vec((prop::option::of(usage()), cost(), prop::collection::vec(tried(), 0..5)), 0..20),
    ) {
        let metrics = Metrics::new();
        let (id, acme) = (RequestId::random(), principal("acme", None));
        let (mut tokens, mut money, mut unpriced) = (Tokens::default(), 0_u64, 0_u64);
        for (usage, cost, tried) in &exchanges {
            metrics.count(&Entry { status: Some(200), reason: None, usage: usage.as_ref(), cost: *cost, tried, ..full(&id, &acme) });
            let used = tried.iter().filter_map(|tried| Some((tried.usage?, tried.cost))).chain(usage.map(|usage| (usage, *cost)));
            let mut is_unpriced = false;
            for (usage, cost) in used {
                tokens += usage.tokens;
                money += picos(cost);
                is_unpriced |= cost == Cost::Unpriced;
            }
            unpriced += u64::from(is_unpriced);
        }
        let told = metrics.tenants();
        let booked = told.first().cloned().unwrap_or_default();
        prop_assert_eq!(booked.requests, exchanges.len() as u64);
        prop_assert_eq!(booked.tokens, tokens);
        prop_assert_eq!(booked.cost, Usd::from_picos(money));
        prop_assert_eq!(booked.unpriced_requests, unpriced);
    }
}
