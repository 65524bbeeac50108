use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;

fn stop(kind: &str, name: &str, tenant: Option<&str>) -> Stop {
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_352_444);
    Stop { what: Stopped::of(kind, name, tenant).unwrap(), since, reason: "a leak".to_owned(), message: String::new() }
}

fn stops(all: &[(&str, &str, Option<&str>)]) -> Stops {
    let stops = Stops::default();
    stops.set(all.iter().map(|(kind, name, tenant)| stop(kind, name, *tenant)).collect());
    stops
}

fn of_model(model: &str) -> Subject<'_> {
    Subject { tenant: Some("acme"), models: [Some(model), None], ..Subject::default() }
}

#[test]
fn a_refusal_says_what_is_stopped_and_since_when_and_no_more_than_the_operator_wants() {
    let stops = stops(&[("tenant", "acme", None)]);
    let refused = stops.check(&Subject { tenant: Some("acme"), ..Subject::default() }).unwrap_err();
    assert_eq!(refused.reason, Reason::Stopped);
    assert_eq!(refused.message, "tenant `acme` is stopped by the operator since 2026-11-22T13:00:44Z");
    stops.set(vec![Stop { message: "write to ops@example.com".to_owned(), ..stop("key", "k", Some("acme")) }]);
    let refused = stops.check(&Subject { tenant: Some("acme"), key: Some("k"), ..Subject::default() }).unwrap_err();
    let told = "key `k` of tenant `acme` is stopped by the operator since 2026-11-22T13:00:44Z: write to ops@example.com";
    assert_eq!(refused.message, told);
}

#[test]
fn a_model_is_stopped_in_every_spelling_and_no_other_is() {
    const SONNET: &str = "anthropic.claude-sonnet-4";
    for (pattern, sent, stopped) in [
        (SONNET, SONNET, true),
        (SONNET, "Anthropic.Claude-SONNET-4", true),
        ("ANTHROPIC.claude-sonnet-4", SONNET, true),
        (SONNET, "us.anthropic.claude-sonnet-4", true),
        (SONNET, "latam.anthropic.claude-sonnet-4", true),
        (SONNET, "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-sonnet-4", true),
        (SONNET, "arn:aws:bedrock:us-east-1:1:inference-profile/EU.anthropic.claude-sonnet-4", true),
        (SONNET, "arn:aws:bedrock:us-east-1:1:custom-model/anthropic.claude-sonnet-4/abc", true),
        (SONNET, "anthropic.claude-sonnet-4-5", false),
        (SONNET, "anthropic.claude-sonnet-45", false),
        (SONNET, "amazon.nova-lite-v1:0", false),
        ("anthropic.claude-sonnet-4*", "us.anthropic.claude-sonnet-4-20250514-v1:0", true),
        ("*opus*", "global.anthropic.claude-OPUS-4-6-v1", true),
        ("*opus*", "anthropic.claude-sonnet-4", false),
        ("us.anthropic.claude-sonnet-4", "us.anthropic.claude-sonnet-4", true),
        ("us.anthropic.claude-sonnet-4", "eu.anthropic.claude-sonnet-4", false),
        ("us.anthropic.claude-sonnet-4", SONNET, false),
        ("sonnet", "sonnet", true),
        ("sonnet", "SONNET", true),
        ("my model!", "My Model!", true),
        ("*", "whatever", true),
    ] {
        assert_eq!(stops(&[("model", pattern, None)]).check(&of_model(sent)).is_err(), stopped, "{pattern} {sent}");
    }
}

#[test]
fn a_model_is_stopped_by_either_of_its_names() {
    let stops = stops(&[("model", "amazon.nova-lite-v1:0", None)]);
    let alias = of_model("fast");
    assert!(stops.check(&alias).is_ok());
    assert!(stops.check(&alias.renamed(Some("us.amazon.nova-lite-v1:0"))).is_err());
    assert!(stops.check(&of_model("amazon.nova-lite-v1:0").renamed(Some("arn:x"))).is_err());
}

#[test]
fn whoever_runs_on_is_told_of_each_change_and_of_nothing_else() {
    let stops = Stops::default();
    let mut changes = stops.changes();
    assert!(!stops.set(Vec::new()), "as before");
    assert!(!changes.has_changed().unwrap());
    let both = || vec![stop("tenant", "b", None), stop("tenant", "a", None)];
    assert!(stops.set(both()));
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let names = stops.all().iter().map(|stop| stop.what.name().to_owned()).collect::<Vec<_>>();
    assert_eq!((names, stops.counts()), (vec!["a".to_owned(), "b".to_owned()], [2, 0, 0, 0]));
    assert!(!stops.set(both().into_iter().rev().collect()), "in another order");
    assert!(!changes.has_changed().unwrap());
    assert!(stops.set(Vec::new()));
    assert!(changes.has_changed().unwrap());
    assert!(stops.check(&Subject { tenant: Some("a"), ..Subject::default() }).is_ok());
}

#[tokio::test]
async fn whoever_runs_on_is_told_when_it_is_its_turn_and_not_before() {
    let stops = Stops::default();
    let subject = Subject { tenant: Some("acme"), ..Subject::default() };
    let mut runs_on = std::pin::pin!(stops.stopped(&subject));
    assert!(futures_util::poll!(runs_on.as_mut()).is_pending());
    stops.set(vec![stop("tenant", "another", None)]);
    assert!(futures_util::poll!(runs_on.as_mut()).is_pending());
    stops.set(vec![stop("tenant", "another", None), stop("tenant", "acme", None)]);
    assert_eq!(runs_on.await.reason, Reason::Stopped);
    assert_eq!(stops.stopped(&subject).await.reason, Reason::Stopped, "at once, where it is stopped already");
}

/// Whether `*` for any run makes `name` of `pattern`: by every way to split.
fn is_of(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => {
            name.strip_prefix(before).is_some_and(|rest| (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| is_of(after, rest))))
        }
    }
}

/// A spelling, and all that it is a spelling of, from the narrowest on.
fn spelling() -> impl Strategy<Value = (String, Vec<String>)> {
    let model = prop::sample::select(vec!["anthropic.claude-opus-4", "anthropic.claude-opus-4-5", "amazon.nova-lite-v1:0", "meta.llama3"]);
    let geography = prop::sample::select(vec!["", "us.", "eu.", "apac.", "latam."]);
    let arn = prop::sample::select(vec![
        "",
        "arn:aws:bedrock:us-east-1::foundation-model/",
        "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/",
    ]);
    (model, geography, arn, any::<bool>()).prop_map(|(model, geography, arn, loud)| {
        let (profile, whole) = (format!("{geography}{model}"), format!("{arn}{geography}{model}"));
        let sent = if loud { whole.to_ascii_uppercase() } else { whole.clone() };
        (sent, vec![whole, profile, model.to_owned()])
    })
}

fn what() -> impl Strategy<Value = Stopped> {
    let name = || prop::sample::select(vec!["a", "b", "c"]).prop_map(Box::<str>::from);
    let models = vec![
        "*opus*",
        "anthropic.*",
        "us.*",
        "*:inference-profile/*",
        "anthropic.claude-opus-4",
        "eu.anthropic.claude-opus-4",
        "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
        "meta.llama3",
        "a*a",
    ];
    prop_oneof![
        name().prop_map(Stopped::Tenant),
        (name(), proptest::option::of(name())).prop_map(|(key, tenant)| Stopped::Key { key, tenant }),
        prop::sample::select(models).prop_map(|model| Stopped::Model(model.into())),
        name().prop_map(Stopped::Route),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_call_is_stopped_where_one_of_the_stops_is_of_it(
        all in prop::collection::btree_set(what(), 0..6),
        tenant in proptest::option::of(prop::sample::select(vec!["a", "b", "c", "d"])),
        key in proptest::option::of(prop::sample::select(vec!["a", "b", "c", "d"])),
        route in proptest::option::of(prop::sample::select(vec!["a", "b", "c", "d"])),
        models in (proptest::option::of(spelling()), proptest::option::of(spelling())),
    ) {
        let stops = Stops::default();
        stops.set(all.iter().map(|what| Stop { what: what.clone(), ..stop("tenant", "x", None) }).collect());
        let (asked, given) = models;
        let sent = |model: &'static str| model;
        let names = || asked.iter().chain(&given).flat_map(|(_, names)| names);
        let expected = all.iter().any(|what| match what {
            Stopped::Tenant(name) => tenant == Some(&**name),
            Stopped::Key { key: name, tenant: of } => key == Some(&**name) && of.as_deref().is_none_or(|of| tenant == Some(of)),
            Stopped::Route(name) => route == Some(&**name),
            Stopped::Model(pattern) => names().any(|name| is_of(pattern, name)),
        });
        let subject = Subject {
            tenant: tenant.map(sent),
            key: key.map(sent),
            models: [asked.as_ref().map(|(sent, _)| sent.as_str()), None],
            route: route.map(sent),
        };
        let subject = subject.renamed(given.as_ref().map(|(sent, _)| sent.as_str()));
        let told = stops.check(&subject);
        prop_assert_eq!(told.is_err(), expected, "{:?} {:?}", all, subject);
        prop_assert_eq!(told.is_err_and(|refused| refused.reason != Reason::Stopped), false);
    }
}
