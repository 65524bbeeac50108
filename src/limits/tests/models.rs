//! Models, whatever way they are spelled.

use super::*;
use crate::config::limits::{Calendar, Every, Matching, Zone};
use crate::domain::{Glob, Usd};

const PREFIXES: [&str; 8] = ["", "us.", "EU.", "apac.", "global.", "us-gov.", "latam.", "xx."];
const ARNS: [&str; 3] = ["", "arn:aws:bedrock:us-east-1::foundation-model/", "ARN:aws:bedrock:eu-west-1:123456789012:inference-profile/"];

fn spellings(model: &str) -> Vec<String> {
    let all = |model: &str| ARNS.iter().flat_map(|arn| PREFIXES.map(|prefix| format!("{arn}{prefix}{model}"))).collect::<Vec<_>>();
    [all(model), all(&model.to_ascii_uppercase())].concat()
}

fn for_models(models: &[&str], rule: Rule) -> Rule {
    let models = models.iter().map(|models| Glob::new(*models)).collect();
    Rule { of: Matching { models, ..Matching::default() }, ..rule }
}

fn call(model: &str) -> Call {
    let asked = Asked { text_bytes: 30, max_tokens: Some(10), ..Asked::default() };
    Call { service: Service::BEDROCK_RUNTIME, path: "/".into(), query: "".into(), model: Some(model.into()), asked }
}

fn admit(limits: &Arc<Limits>, model: &str, price: &(dyn Fn(&Tokens) -> Cost + Sync)) -> Result<Admission, Box<Refused>> {
    let (call, caller) = (call(model), caller("acme", None));
    limits.admit(&Ask { principal: &caller, call: &call, route: "everything", address: None, price }, now(start()))
}

fn build(rule: Rule, buckets: Arc<Buckets>) -> Arc<Limits> {
    Limits::build(&[rule], buckets, Arc::default(), Arc::new(Nobody))
}

/// Makes a request for a model, and tells whether it was admitted.
fn passes(limits: &Arc<Limits>, model: &str) -> bool {
    admit(limits, model, &|_| Cost::Nothing).is_ok_and(|admission| {
        admission.settle(None, now(start()));
        true
    })
}

fn is_counted(models: &[&str], model: &str) -> bool {
    let buckets = buckets(start());
    assert!(passes(&build(for_models(models, per_tenant(1, HOUR, 1)), Arc::clone(&buckets)), model));
    !buckets.is_empty()
}

#[test]
fn a_rule_for_a_family_of_models_catches_every_spelling() {
    let spellings = spellings("anthropic.claude-sonnet-4-6");
    assert_eq!(spellings.len(), 48);
    for sent in &spellings {
        assert!(is_counted(&["anthropic.claude-*"], sent), "{sent}");
        assert!(is_counted(&["meta.*", "Anthropic.Claude-*"], sent), "{sent}: nor does it matter how the rule is written");
        assert!(!is_counted(&["amazon.*"], sent), "{sent}");
    }
}

#[test]
fn a_rule_may_be_for_one_geography_or_for_what_an_account_made() {
    let own = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/AbcDefghijkl";
    for (models, sent, counted) in [
        ("us.anthropic.*", "US.anthropic.claude-opus-5", true),
        ("us.anthropic.*", "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-5", true),
        ("us.anthropic.*", "eu.anthropic.claude-opus-5", false),
        ("us.anthropic.*", "anthropic.claude-opus-5", false),
        (own, own, true),
        ("*:application-inference-profile/*", own, true),
        ("anthropic.*", own, false),
    ] {
        assert_eq!(is_counted(&[models], sent), counted, "{models} {sent}");
    }
}

#[test]
fn all_spellings_of_a_model_share_its_bucket_and_other_models_have_theirs() {
    let limits = build(rule("rpm", 1, HOUR, 10, &[Dimension::Tenant, Dimension::Model]), buckets(start()));
    let spellings = spellings("amazon.nova-lite-v1:0");
    assert_eq!(spellings.iter().filter(|sent| passes(&limits, sent)).count(), 10);
    for other in ["amazon.nova-lite-v1:0:24k", "amazon.nova-micro-v1:0", "abcdefghijkl"] {
        assert!(passes(&limits, other), "{other}");
    }
}

#[test]
fn where_a_model_stands_is_told_by_any_of_its_spellings() {
    let limits = build(for_models(&["amazon.*"], rule("rpm", 1, HOUR, 10, &[Dimension::Model])), buckets(start()));
    assert!(passes(&limits, "us.amazon.nova-lite-v1:0"));
    for sent in spellings("amazon.nova-lite-v1:0") {
        let standing = limits.standing(&Subject { model: Some(sent.as_str().into()), ..Subject::default() }, now(start()));
        assert_eq!(standing.iter().map(|standing| standing.used).collect::<Vec<_>>(), [1], "{sent}");
    }
    let other = Subject { model: Some("meta.llama3-3-70b-instruct-v1:0".into()), ..Subject::default() };
    assert_eq!(limits.standing(&other, now(start())), [], "the rule is not for it");
}

#[test]
fn a_rule_without_a_model_in_its_key_counts_all_of_them_together() {
    let limits = build(per_tenant(1, HOUR, 7), buckets(start()));
    assert_eq!((0..100).filter(|n| passes(&limits, &format!("made.up-{n}"))).count(), 7);
}

#[test]
fn names_that_are_made_up_get_no_more_than_the_bound() {
    let (capacity, burst) = (50, 3);
    let buckets = Buckets::new(capacity, start());
    let limits = build(rule("rpm", 1, HOUR, burst, &[Dimension::Model]), Arc::clone(&buckets));
    let passed = (0..1_000).filter(|n| passes(&limits, &format!("made.up-{}", n % 500))).count();
    assert_eq!(buckets.len(), capacity + 1, "and the one that newcomers share");
    assert!(buckets.overflowed() > 0);
    // Each of the fifty had two of their three, and the newcomers three between them.
    assert_eq!(passed, capacity * 2 + 3);
}

#[test]
fn names_beyond_all_measure_share_a_bucket() {
    let buckets = buckets(start());
    let limits = build(rule("rpm", 1, HOUR, 2, &[Dimension::Model]), Arc::clone(&buckets));
    let long = |n: usize| format!("made.up-{n}-{}", "x".repeat(1_000));
    assert_eq!((0..100).filter(|n| passes(&limits, &long(*n))).count(), 2);
    assert_eq!(buckets.len(), 1);
}

#[test]
fn a_model_without_a_price_passes_where_that_is_allowed_and_costs_next_to_nothing_until_the_budget_is_spent() {
    let calendar = Calendar { every: Every::Month, starts_on: 1, zone: Zone::UTC };
    let budget = |unpriced| Rule { unpriced, ..Rule::new("budget", Count::Usd, Bound::Quota { limit: Usd::PICOS, calendar }) };
    let unpriced = |_: &Tokens| Cost::Unpriced;
    let spent = Tokens { input: 1_000, output: 1_000, ..Tokens::default() };

    let refused = admit(&build(budget(false), buckets(start())), "made.up", &unpriced).unwrap_err();
    assert_eq!(refused.rejection.reason, Reason::Unpriced);

    let limits = build(budget(true), buckets(start()));
    let used = || limits.standing(&Subject { tenant: Some("acme".into()), ..Subject::default() }, now(start()))[0].used;
    for calls in 1..=5 {
        admit(&limits, "made.up", &unpriced).unwrap().settle(Some((&spent, Cost::Unpriced)), now(start()));
        assert_eq!(used(), calls, "a picodollar each");
    }
    let dear = |_: &Tokens| Cost::Priced(Usd::from_picos(1_000));
    admit(&limits, "a.b", &dear).unwrap().settle(Some((&spent, Cost::Priced(Usd::from_picos(Usd::PICOS)))), now(start()));
    assert_eq!(admit(&limits, "made.up", &unpriced).unwrap_err().rejection.reason, Reason::BudgetSpent);
}

#[test]
fn a_body_that_nobody_can_read_escapes_no_limit() {
    let unread = Call { asked: Asked::default(), ..call("amazon.nova-sonic-v1:0") };
    let who = caller("acme", None);
    let admit = |limits: &Arc<Limits>, cost| {
        let ask = Ask { principal: &who, call: &unread, route: "everything", address: None, price: &|_| cost };
        limits.admit(&ask, now(start()))
    };
    let bound = Bound::Rate { amount: 10_000_000, period: HOUR, burst: 10_000_000 };
    let tokens = build(Rule { reserve: 500, ..Rule::new("tpm", Count::Tokens, bound) }, buckets(start()));
    let standing = || tokens.standing(&Subject { tenant: Some("acme".into()), ..Subject::default() }, now(start()))[0].clone();
    let admission = admit(&tokens, Cost::Nothing).unwrap();
    assert_eq!(standing().held, 500_000);
    let used = Tokens { input: 1_000, output: 2_000, ..Tokens::default() };
    admission.settle(Some((&used, Cost::Nothing)), now(start()));
    assert_eq!((standing().held, standing().used), (0, 3_000_000));

    let money = build(Rule::new("budget", Count::Usd, bound), buckets(start()));
    assert_eq!(admit(&money, Cost::Unpriced).unwrap_err().rejection.reason, Reason::Unpriced);
}
