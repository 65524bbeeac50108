//! The room as a whole: rules as an operator writes them, calls as `call` reads them.

use std::path::Path;

use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::domain::{Method, Reason};

/// A policy of these rules, with upstreams in us-east-1 and eu-central-1.
fn policy(rules: &str) -> Policy {
    policy_in(rules, &["us-east-1", "eu-central-1"])
}

fn policy_in(rules: &str, regions: &[&str]) -> Policy {
    let text = format!(
        "listeners: [{{ address: '127.0.0.1:1' }}]\nidentity: [anonymous: {{ tenant: x }}]\nupstreams: {{ a: {{ region: us-east-1 }} }}\npolicy:\n{rules}\n"
    );
    let config = Config::parse(&text, Path::new("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"));
    Policy::build(&config.policy, regions)
}

fn caller() -> Principal {
    let groups = ["devs".into(), "eu-staff".into()];
    Principal { tenant: "acme".into(), user: Some("ann".into()), groups: groups.into(), method: Method::Jwt, key_id: None }
}

fn call(path: &str) -> Call {
    crate::call::read(&HeaderMap::new(), Some("gateway"), path, "").unwrap()
}

/// What is answered to a call without a body, at admission.
fn answer(policy: &Policy, method: &str, path: &str) -> Result<(), String> {
    let (call, rules) = (call(path), policy.rules_for(&caller()));
    let judged = rules.head(method, &call, &mut Vec::new());
    let judged = judged.and_then(|()| if call.model.is_none() { rules.body(method, &call, &mut Vec::new()) } else { Ok(()) });
    judged.map_err(|refusal| {
        assert_eq!(refusal.reason, Reason::Forbidden);
        refusal.message.into_owned()
    })
}

fn model(policy: &Policy, id: &str) -> bool {
    let mut named = call("/v1/chat/completions");
    named.model = Some(id.into());
    policy.rules_for(&caller()).body("POST", &named, &mut Vec::new()).is_ok()
}

#[test]
fn a_rule_is_for_those_whom_every_one_of_its_matchers_matches() {
    let is_for = |matchers: &str| !policy(&format!("- {{ name: r, services: [nova-act], {matchers} }}")).rules_for(&caller()).0.is_empty();
    for matchers in [
        "tenants: [acme]",
        "tenants: [other, ac*]",
        "users: [ann]",
        "groups: ['*-staff']",
        "methods: [jwt]",
        "methods: ['*']",
        "tenants: [acme], users: [a*], groups: [devs, x], methods: [jwt]",
    ] {
        assert!(is_for(matchers), "{matchers}");
    }
    for matchers in ["tenants: [ACME]", "users: [bob]", "groups: [dev]", "methods: [anonymous]", "tenants: [acme], users: [bob]"] {
        assert!(!is_for(matchers), "{matchers}");
    }
    let nobody = Principal { user: None, groups: [].into(), ..caller() };
    assert!(policy("- { name: r, services: [nova-act], users: ['*'] }").rules_for(&nobody).0.is_empty(), "no user is no name");
}

#[test]
fn every_rule_must_allow_and_the_first_that_does_not_is_named() {
    let policy = policy(
        "- { name: runtime, services: [bedrock-runtime, bedrock] }\n- { name: reads, operations: ['GET *', 'POST /model/*'] }\n- { name: others, tenants: [other], services: [nova-act] }",
    );
    assert_eq!(answer(&policy, "POST", "/model/amazon.nova-lite-v1:0/converse"), Ok(()));
    assert_eq!(answer(&policy, "GET", "/inference-profiles"), Ok(()));
    assert_eq!(
        answer(&policy, "POST", "/bedrock-agent/agents/").unwrap_err(),
        "policy `runtime` does not allow the service `bedrock-agent`"
    );
    assert_eq!(answer(&policy, "POST", "/guardrails").unwrap_err(), "policy `reads` does not allow the operation `POST /guardrails`");
}

#[test]
fn a_model_is_allowed_by_any_of_its_names_and_denied_by_any() {
    let allow = policy("- { name: r, models: ['amazon.nova-*', 'anthropic.claude-haiku-4-5-20251001-v1:0'] }");
    let deny = policy("- { name: r, models: { deny: ['*opus*', amazon.titan-text-lite-v1, 'cohere.*'] } }");
    let arn = |rest: &str| format!("arn:aws:bedrock:us-east-1:{rest}");
    for (id, allowed, undenied) in [
        ("amazon.nova-lite-v1:0", true, true),
        ("us.amazon.nova-lite-v1:0", true, true),
        ("global.amazon.nova-2-lite-v1:0", true, true),
        ("us-gov.amazon.nova-lite-v1:0", true, true),
        ("AMAZON.Nova-Lite-v1:0", true, true),
        (&arn(":foundation-model/amazon.nova-lite-v1:0"), true, true),
        (&arn("123456789012:inference-profile/eu.amazon.nova-lite-v1:0"), true, true),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", true, true),
        ("jp.anthropic.claude-haiku-4-5-20251001-v1:0", true, true),
        ("anthropic.claude-haiku-4-5-20251001-v1:0:200k", false, true),
        // Its model is hidden: only its own name can allow it.
        (&arn("123456789012:application-inference-profile/abcdefghijkl"), false, true),
        (&arn("123456789012:custom-model/amazon.nova-lite-v1:0/abcdefghijkl"), false, true),
        ("sonnet", false, true),
        ("anthropic.claude-opus-4-20250514-v1:0", false, false),
        ("us.anthropic.claude-opus-4-20250514-v1:0", false, false),
        ("us.anthropic.claude-OPUS-4-20250514-v1:0", false, false),
        (&arn("123456789012:inference-profile/us.anthropic.claude-opus-4-20250514-v1:0"), false, false),
        // A deny is for what any reading would find.
        ("cohere.embed-v4:0", false, false),
        ("latam.cohere.embed-v4:0", false, false),
        (&arn("123456789012:custom-model/amazon.titan-text-lite-v1/abcdefghijkl"), false, false),
        (&arn("123456789012:provisioned-model/us.amazon.titan-text-lite-v1"), false, false),
    ] {
        assert_eq!((model(&allow, id), model(&deny, id)), (allowed, undenied), "{id}");
    }
}

#[test]
fn an_id_that_is_written_as_none_of_bedrocks_is_refused_where_models_are_ruled() {
    let deny = policy("- { name: r, models: { deny: ['anthropic.claude-opus-4'] } }");
    let others = policy("- { name: r, services: ['*'] }");
    for id in [
        "anthropic.claude-opus-4.",
        "anthropic.claude-opus-4/",
        ".anthropic.claude-opus-4",
        "anthropic.claude-opus-4?",
        "anthropic.claude-opus-4;a=b",
        "anthropic.claude-opus-4#",
        "anthropic.claude-opus-4 ",
        " anthropic.claude-opus-4",
        "anthropic.claude-%6fpus-4",
        "anthropic.claude-opus-4\u{0}",
        "anthropic.claude-opus-4\n",
        "anthropic.claude-op\u{200b}us-4",
        "anthropic.claude-\u{43e}pus-4",
        "amazon.nova/../anthropic.claude-opus-4",
        "x//anthropic.claude-opus-4",
        "*",
        "",
    ] {
        assert!(!model(&deny, id), "{id:?}");
        assert!(model(&others, id), "{id:?}: not every rule is about models");
    }
}

#[test]
fn a_call_that_names_no_model_is_refused_where_it_could_run_one() {
    let allow = policy("- { name: r, models: [amazon.nova-*] }");
    let deny = policy("- { name: r, models: { deny: ['*opus*'] } }");
    let regions = policy("- { name: r, regions: ['eu-*'] }");
    let lenient = policy("- { name: r, models: [amazon.nova-*], regions: ['us-*', 'eu-*'], allow_unknown: true }");
    for (method, path, by_allow, by_deny, by_region) in [
        ("POST", "/openai/v1/chat/completions", false, false, false),
        ("POST", "/bedrock-mantle/v1/responses", false, false, false),
        ("POST", "/async-invoke", false, false, false),
        ("POST", "/bedrock-agent-runtime/retrieveAndGenerate", false, false, false),
        ("POST", "/bedrock-runtime/MODEL/anthropic.claude-opus-4/converse", false, false, false),
        ("POST", "/bedrock-runtime/model%2Fanthropic.claude-opus-4/converse", false, false, false),
        ("get", "/model", false, false, false),
        ("POST", "/model-invocation-job", false, true, true),
        ("POST", "/bedrock-agentcore/runtimes/x/invocations", false, true, true),
        ("GET", "/inference-profiles", true, true, true),
        ("GET", "/foundation-models/anthropic.claude-opus-4", true, true, true),
        ("GET", "/async-invoke/x", true, true, true),
        ("DELETE", "/guardrails/x", true, true, true),
        ("POST", "/guardrail/g/version/1/apply", true, true, true),
    ] {
        let judged = [&allow, &deny, &regions].map(|policy| answer(policy, method, path).is_ok());
        assert_eq!(judged, [by_allow, by_deny, by_region], "{method} {path}");
        assert_eq!(answer(&lenient, method, path), Ok(()), "{method} {path}");
    }
    assert_eq!(
        answer(&allow, "POST", "/v1/chat/completions").unwrap_err(),
        "policy `r` does not allow a call that does not tell which model it is for"
    );
}

#[test]
fn an_operation_is_allowed_or_denied_in_any_spelling() {
    let policy = policy(
        "- { name: r, operations: { allow: ['GET *', 'POST /model/*/converse', 'POST /model/*/invoke*'], deny: ['POST /model/*/invoke-with-response-stream', '* /guardrails*'] } }",
    );
    for (method, path, allowed) in [
        ("GET", "/foundation-models", true),
        ("POST", "/model/x/converse", true),
        ("POST", "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fabc/converse", true),
        ("POST", "/model/x/converse-stream", false),
        ("POST", "/model/x/invoke", true),
        ("POST", "/model/x/invoke-with-response-stream", false),
        ("POST", "/model/x/invoke-with-response-strea%6d", false),
        ("POST", "/model/x/Invoke-With-Response-Stream", false),
        ("POST", "/model/x/invoke-with-response-stream/", false),
        ("POST", "/%6dodel/x/%69nvoke-with-response-stream", false),
        ("GET", "/guardrails", false),
        ("GET", "/guardrail%73/x", false),
        ("DELETE", "/foundation-models", false),
    ] {
        let path = format!("/{}{path}", if path.contains("odel/") { "bedrock-runtime" } else { "bedrock" });
        assert_eq!(answer(&policy, method, &path).is_ok(), allowed, "{method} {path}");
    }
}

#[test]
fn an_inference_profile_may_go_only_where_all_of_its_regions_are_allowed() {
    let at = |regions: &str, id: &str| model(&policy(&format!("- {{ name: r, regions: {regions} }}")), id);
    let (eu, us, global) = ("eu.amazon.nova-lite-v1:0", "us.amazon.nova-lite-v1:0", "global.amazon.nova-lite-v1:0");
    for (regions, id, allowed) in [
        ("[eu-central-1, eu-west-1]", "amazon.nova-lite-v1:0", true),
        ("[eu-central-1, eu-west-1]", eu, false),
        ("['eu-*']", eu, true),
        ("[eu-central-1, eu]", eu, true),
        ("['eu-*']", us, false),
        ("['eu-*']", global, false),
        ("['eu-*', global]", global, true),
        ("['*']", global, true),
        ("[us-east-1, us-east-2, us-west-2]", us, false),
        ("[us-east-1, us-east-2, us-west-1, us-west-2]", us, true),
        ("['us-*']", "us-gov.amazon.nova-lite-v1:0", true),
        ("['us-east-*', 'us-west-*']", "us-gov.amazon.nova-lite-v1:0", false),
        // AWS's Asia reaches to the Emirates.
        ("['ap-*']", "apac.amazon.nova-lite-v1:0", false),
        ("['ap-*', me-central-1]", "apac.amazon.nova-lite-v1:0", true),
        ("['ap-*']", "jp.amazon.nova-lite-v1:0", true),
        ("[ap-southeast-2, ap-southeast-4]", "au.amazon.nova-lite-v1:0", true),
        ("{ deny: [us-west-1] }", us, false),
        ("{ deny: [us-west-1] }", eu, true),
        ("{ deny: [us-west-1] }", global, false),
        ("{ allow: ['*'], deny: [global] }", global, false),
        ("{ allow: [us], deny: [us-west-1] }", us, false),
        ("['eu-*']", "latam.anthropic.claude-opus-4", false),
        ("['eu-*']", "EU.amazon.nova-lite-v1:0", true),
        ("['eu-*']", "GLOBAL.amazon.nova-lite-v1:0", false),
        ("['eu-*']", "arn:aws:bedrock:eu-west-1::foundation-model/amazon.nova-lite-v1:0", true),
        ("['eu-*']", "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0", false),
        ("['eu-*']", "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.amazon.nova-lite-v1:0", true),
        ("['eu-*']", "arn:aws:bedrock:eu-west-1:1:inference-profile/global.amazon.nova-lite-v1:0", false),
        ("['eu-*']", "arn:aws:bedrock:eu-west-1:1:provisioned-model/abcdefghijkl", true),
        ("['eu-*']", "arn:aws:sagemaker:eu-west-1:1:endpoint/e", true),
        ("['eu-*']", "arn:aws:sagemaker:us-east-1:1:endpoint/e", false),
        ("['eu-*']", "arn:aws:bedrock:eu-west-1:1:application-inference-profile/abcdefghijkl", false),
        ("['eu-*']", "arn:aws:bedrock:eu-west-1:1:prompt/ABCDEFGHIJ:1", false),
        ("['eu-*']", "arn:aws:bedrock:eu-west-1:1:default-prompt-router/anthropic.claude:1", false),
    ] {
        assert_eq!(at(regions, id), allowed, "{regions} {id}");
    }
    let lenient = policy("- { name: r, regions: ['eu-*'], allow_unknown: true }");
    assert!(model(&lenient, "arn:aws:bedrock:eu-west-1:1:application-inference-profile/abcdefghijkl"));
    assert!(!model(&lenient, "arn:aws:bedrock:us-east-1:1:application-inference-profile/abcdefghijkl"), "its own region is known");
    assert!(!model(&lenient, us), "and so is a geography");
}

#[test]
fn the_region_that_routing_picked_is_judged_again() {
    let policy = policy("- { name: eu, tenants: [acme], regions: ['eu-*'] }");
    let call = call("/model/amazon.nova-lite-v1:0/converse");
    let judged = |caller: &Principal, call: &Call, region| policy.allows_target(caller, call, region).map_err(|refusal| refusal.message);
    assert_eq!(judged(&caller(), &call, "eu-central-1"), Ok(()));
    assert_eq!(judged(&caller(), &call, "us-east-1").unwrap_err(), "policy `eu` does not allow the region `us-east-1`");
    let other = Principal { tenant: "other".into(), ..caller() };
    assert_eq!(judged(&other, &call, "us-east-1"), Ok(()));
    // A route's own name for a model is anyone's guess until it is known what it stands for.
    let named = |model: &str| Call { model: Some(model.into()), ..call.clone() };
    assert_eq!(answer(&policy, "POST", "/model/sonnet/converse"), Ok(()));
    assert!(judged(&caller(), &named("us.amazon.nova-lite-v1:0"), "eu-central-1").unwrap_err().contains("`us-east-1`"));
    assert!(judged(&caller(), &named("abcdefghijkl"), "eu-central-1").is_err());
}

#[test]
fn where_no_upstream_is_in_an_allowed_region_the_head_is_refused() {
    let policy = policy_in("- { name: eu, regions: [eu-central-1] }", &["us-east-1", "us-west-2"]);
    assert_eq!(
        answer(&policy, "POST", "/model/amazon.nova-lite-v1:0/converse").unwrap_err(),
        "policy `eu` does not allow the region `us-east-1`"
    );
}

#[test]
fn a_rule_in_shadow_is_heard_once_and_refuses_nothing() {
    let policy = policy(
        "- { name: quiet, models: [amazon.nova-*], regions: [eu-central-1], shadow: true }\n- { name: loud, services: [bedrock-runtime] }",
    );
    assert_eq!(policy.shadows().map(|name| &**name).collect::<Vec<_>>(), ["quiet"]);
    let (call, rules, mut shadowed) = (call("/model/us.anthropic.claude-opus-4/converse"), policy.rules_for(&caller()), Vec::new());
    rules.head("POST", &call, &mut shadowed).unwrap();
    rules.target(&call, "us-east-1", &mut shadowed).unwrap();
    assert_eq!(shadowed, ["quiet".into()]);
    policy.allows_target(&caller(), &call, "us-east-1").unwrap();
}

#[test]
fn a_message_is_short_and_holds_no_control_character() {
    let policy = policy("- { name: r, models: [amazon.nova-*] }");
    let mut call = call("/v1/chat/completions");
    call.model = Some(format!("evil\u{1b}[31m\n{}", "x".repeat(2000)).into());
    let message = policy.rules_for(&caller()).body("POST", &call, &mut Vec::new()).unwrap_err().message;
    assert!(message.len() < 300 && !message.chars().any(char::is_control), "{message:?}");
}

/// `id`, with the letters that `mask` picks in capitals and those that `escapes` picks percent-encoded.
fn spelled(id: &str, mask: u64, escapes: u64) -> String {
    let is = |bits: u64, at: usize| bits >> (at % 64) & 1 == 1;
    let cased = id.chars().enumerate().map(|(at, c)| if is(mask, at) { c.to_ascii_uppercase() } else { c });
    cased.enumerate().map(|(at, c)| if is(escapes, at) || c == '/' { format!("%{:02x}", u32::from(c)) } else { c.to_string() }).collect()
}

proptest! {
    #[test]
    fn no_spelling_of_a_denied_model_passes(
        prefix in prop::sample::select(vec!["", "us.", "eu.", "apac.", "global.", "us-gov.", "jp.", "au.", "ca.", "latam."]),
        arn in prop::sample::select(vec!["", "arn:aws:bedrock:us-east-1::foundation-model/", "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/"]),
        mask in any::<u64>(), escapes in any::<u64>(), segment in any::<u64>(),
        operation in prop::sample::select(vec!["converse", "invoke", "invoke-with-response-stream", "count-tokens", "new-thing"]),
    ) {
        let policy = policy("- { name: r, models: { deny: [anthropic.claude-opus-4-v1:0] } }");
        let id = format!("{arn}{prefix}anthropic.claude-opus-4-v1:0");
        let path = format!("/bedrock-runtime/{}/{}/{operation}", spelled("model", 0, segment), spelled(&id, mask, escapes));
        prop_assert!(answer(&policy, "POST", &path).is_err(), "{}", path);
        let mut body = format!(r#"{{"model":"{}"}}"#, spelled(&id, mask, 0));
        for (plain, escaped) in [("o", "\\u006f"), ("/", "\\/")] {
            if segment & 1 == 1 {
                body = body.replace(plain, escaped);
            }
        }
        if segment & 1 == 1 {
            body = body.replace("m\\u006fdel\":", "model\":");
        }
        let call = call("/openai/v1/chat/completions");
        if let Ok(Some(named)) = crate::call::model_in_body(&call, body.as_bytes()) {
            prop_assert!(!model(&policy, &named), "{}", body);
        }
    }

    #[test]
    fn no_model_and_no_path_panics(id in "\\PC*", path in "\\PC*", region in "\\PC{0,20}") {
        let policy = policy("- { name: r, models: { allow: ['a*b'], deny: ['*c'] }, operations: { deny: ['POST /x*y'] }, regions: ['eu-*', '*-1'] }");
        let call = Call { path: path.into(), model: Some(id.into()), ..call("/model/x/converse") };
        let rules = policy.rules_for(&caller());
        drop(rules.head("POST", &call, &mut Vec::new()));
        drop(rules.body("POST", &call, &mut Vec::new()));
        drop(rules.target(&call, &region, &mut Vec::new()));
    }
}
