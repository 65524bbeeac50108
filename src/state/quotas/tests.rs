//! Which quota an attempt takes from.

use std::path::Path;
use std::time::SystemTime;

use super::*;
use crate::config::Config;
use crate::domain::{Asked, Clock, Cost, ManualClock, Method, Principal};
use crate::state::Snapshot;

const SONNET: &str = "anthropic.claude-sonnet-4-5-20250929-v1:0";
const PROFILE: &str = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl";

fn config(quotas: &str) -> Config {
    let text = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nidentity: [{{ anonymous: {{ tenant: public }} }}]\nrecord: {{ access_log: off }}\n\
         upstreams:\n  use1: {{ region: us-east-1, quotas: [{quotas}] }}\n  usw2: {{ region: us-west-2, quotas: [{quotas}] }}\n  plain: {{ region: us-east-1 }}\n\
         routes: [{{ name: all, to: [{{ upstream: use1 }}] }}]\n"
    );
    Config::parse(&text, Path::new("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"))
}

fn live(config: &Config) -> Live {
    Live::build(config, Clock::Manual(ManualClock::starting_at(SystemTime::UNIX_EPOCH))).unwrap()
}

fn call(service: &'static Service, model: Option<&str>) -> Call {
    let asked = Asked { text_bytes: 300, max_tokens: Some(100), ..Asked::default() };
    Call { service, path: "/".into(), query: "".into(), model: model.map(Into::into), asked }
}

/// Asks once at `upstream`, and lets it stand as used: what is told of it.
fn ask(quotas: &UpstreamQuotas, live: &Live, upstream: &str, call: &Call) -> Result<bool, Box<Refused>> {
    let principal = Principal { tenant: "acme".into(), user: None, groups: [].into(), method: Method::Anonymous, key_id: None };
    let ask = Ask { principal: &principal, call, route: "all", address: None, price: &|_| Cost::Nothing };
    let now = Now::of(&live.clock);
    let admission = quotas.admit(upstream, &ask, now)?;
    Ok(admission.map(|admission| admission.settle(None, now)).is_some())
}

fn one(quotas: &UpstreamQuotas, live: &Live, upstream: &str, model: &str) -> bool {
    ask(quotas, live, upstream, &call(Service::BEDROCK_RUNTIME, Some(model))).expect("there is room")
}

/// Who refuses.
fn refuses(quotas: &UpstreamQuotas, live: &Live, upstream: &str, model: &str) -> String {
    ask(quotas, live, upstream, &call(Service::BEDROCK_RUNTIME, Some(model))).expect_err("it is used up").rule.to_string()
}

fn built(quotas: &str) -> (UpstreamQuotas, Live) {
    let config = config(quotas);
    let live = live(&config);
    (Snapshot::build(&config, &live).unwrap().quotas, live)
}

#[test]
fn each_upstream_and_each_way_to_ask_for_a_model_has_a_quota_of_its_own_and_all_spellings_of_one_way_share_it() {
    let (quotas, live) = built("{ models: ['*'], rpm: 1, headroom: 0% }");
    for upstream in ["use1", "usw2"] {
        for (way, model, other) in [
            ("", SONNET.to_owned(), format!("arn:aws:bedrock:us-east-1::foundation-model/{SONNET}")),
            (" cross-region", format!("us.{SONNET}"), format!("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{SONNET}")),
            (" global", format!("global.{SONNET}"), format!("GLOBAL.{SONNET}")),
        ] {
            assert!(one(&quotas, &live, upstream, &model), "{upstream} {model}");
            assert_eq!(refuses(&quotas, &live, upstream, &other), format!("upstream {upstream}{way} requests"));
        }
    }
    assert!(one(&quotas, &live, "use1", "amazon.nova-lite-v1:0"), "another model");
    let shown = quotas.levels(Now::of(&live.clock));
    assert_eq!(shown.len(), 7);
    assert!(shown.iter().all(|level| level.standing.remaining() == 0));
}

#[test]
fn what_has_no_quota_is_asked_for_nothing() {
    let (quotas, live) = built("{ models: ['*sonnet*'], rpm: 1, headroom: 0% }");
    for _ in 0..3 {
        assert!(!one(&quotas, &live, "plain", SONNET), "an upstream without quotas");
        assert!(!one(&quotas, &live, "use1", "amazon.nova-lite-v1:0"), "a model without one");
        assert!(!one(&quotas, &live, "use1", "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/sonnet123456"), "what was bought");
        for none in [call(Service::BEDROCK_RUNTIME, None), call(Service::BEDROCK_MANTLE, Some(SONNET))] {
            assert!(!ask(&quotas, &live, "use1", &none).unwrap());
        }
        let mut listed = call(Service::BEDROCK_RUNTIME, Some(SONNET));
        listed.asked = Asked { of_no_model: true, ..Asked::default() };
        assert!(!ask(&quotas, &live, "use1", &listed).unwrap());
    }
    assert!(one(&quotas, &live, "use1", SONNET));
}

#[test]
fn profiles_that_count_as_one_model_share_its_quota_and_the_first_entry_counts() {
    let entries = format!(
        "{{ models: ['{PROFILE}*', 'us.{SONNET}'], counts_as: 'us.{SONNET}', rpm: 3, headroom: 0% }}, {{ models: ['*'], rpm: 1, headroom: 0% }}"
    );
    let (quotas, live) = built(&entries);
    for model in [PROFILE.to_owned(), format!("{PROFILE}2"), format!("us.{SONNET}")] {
        assert!(one(&quotas, &live, "use1", &model), "{model}");
    }
    assert_eq!(refuses(&quotas, &live, "use1", PROFILE), format!("upstream use1 cross-region {SONNET} requests"));
    assert!(one(&quotas, &live, "use1", "amazon.nova-lite-v1:0"), "the next entry's");
}

#[test]
fn a_reload_forgets_nothing_that_was_used() {
    let config_of = |rpm: u32| config(&format!("{{ models: ['*'], rpm: {rpm}, headroom: 0% }}"));
    let live = live(&config_of(2));
    let before = Snapshot::build(&config_of(2), &live).unwrap().quotas;
    assert!(one(&before, &live, "use1", SONNET) && one(&before, &live, "use1", SONNET));
    let after = Snapshot::build(&config_of(3), &live).unwrap().quotas;
    assert!(one(&after, &live, "use1", SONNET), "one more than there were");
    refuses(&after, &live, "use1", SONNET);
}

#[test]
fn a_days_tokens_are_refused_until_midnight_and_put_back_once_after_a_restart() {
    let entries = "{ models: ['*sonnet*'], tpd: 1000 }, { models: ['*'], tpd: 1000 }";
    let (quotas, live) = built(entries);
    let day = |used| Quota {
        rule: "upstream use1 tokens a day".to_owned(),
        count: "tokens".to_owned(),
        subject: Subject { model: Some(SONNET.into()), ..Subject::default() },
        starts: 0,
        used,
    };
    quotas.restore(&[day(300_000)], Now::of(&live.clock));
    // 600 each, of what an answer in one piece may come to: input, and a hundred tokens five times.
    assert!(one(&quotas, &live, "use1", SONNET));
    let refused = ask(&quotas, &live, "use1", &call(Service::BEDROCK_RUNTIME, Some(SONNET))).unwrap_err();
    assert_eq!((refused.rejection.reason.status(), refused.rejection.retry_after), (429, Some(std::time::Duration::from_hours(24))));
    let left: Vec<u64> = quotas.levels(Now::of(&live.clock)).iter().map(|level| level.standing.remaining()).collect();
    assert_eq!(left, [100_000], "put back twice, there were no room for the one");
}

#[test]
fn of_refusals_by_several_targets_the_soonest_is_told() {
    let (quotas, live) = built("{ models: ['*'], rpm: 60, tpm: 1000, headroom: 0% }");
    assert!(one(&quotas, &live, "use1", SONNET));
    let soon = |tokens| {
        let mut call = call(Service::BEDROCK_RUNTIME, Some(SONNET));
        call.asked.max_tokens = Some(tokens);
        ask(&quotas, &live, "use1", &call).unwrap_err()
    };
    let (sooner, later, never) = (soon(100).rejection.retry_after, soon(150).rejection.retry_after, soon(1_000).rejection.retry_after);
    assert!(sooner < later && never.is_none());
    for (one, other, told) in [(100, 150, sooner), (150, 100, sooner), (1_000, 150, later), (150, 1_000, later)] {
        assert_eq!(soon(one).sooner(soon(other)).rejection.retry_after, told);
    }
}
