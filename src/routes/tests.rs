//! Which route a call takes, and where it goes from there.

mod properties;

use std::path::Path;

use http::{HeaderName, HeaderValue};

use super::*;
use crate::config::Config as Gateway;
use crate::domain::{Asked, Method, Service};

pub(super) fn configured(routes: &str) -> Vec<Config> {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:1 }}]\nidentity: [anonymous: {{ tenant: x }}]\n\
         upstreams: {{ use1: {{ region: us-east-1 }}, usw2: {{ region: us-west-2 }}, euw1: {{ region: eu-west-1 }} }}\nroutes:\n{routes}"
    );
    Gateway::parse(&text, Path::new("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}")).routes
}

pub(super) fn routes(routes: &str) -> Routes {
    Routes::build(&configured(routes))
}

/// A call, with all that it may differ by.
struct Of {
    principal: Principal,
    method: &'static str,
    call: Call,
    stage: Option<&'static str>,
    host: Option<&'static str>,
    headers: HeaderMap,
}

impl Of {
    fn model(model: &str) -> Self {
        Self::path(&format!("/model/{model}/converse"), Some(model))
    }

    fn path(path: &str, model: Option<&str>) -> Self {
        let principal = Principal { tenant: "acme".into(), user: None, groups: [].into(), method: Method::Jwt, key_id: None };
        let (service, model) = (Service::BEDROCK_RUNTIME, model.map(Into::into));
        let call = Call { service, path: path.into(), query: "".into(), model, asked: Asked::default() };
        Self { principal, method: "POST", call, stage: None, host: Some("gateway:8443"), headers: HeaderMap::new() }
    }

    fn by(mut self, tenant: &str, user: Option<&str>, groups: &[&str]) -> Self {
        self.principal = Principal {
            tenant: tenant.into(),
            user: user.map(Into::into),
            groups: groups.iter().map(|group| (*group).into()).collect(),
            ..self.principal
        };
        self
    }

    fn header(mut self, name: &'static str, value: &'static [u8]) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        self
    }

    fn asking(&self) -> Asking<'_> {
        let Self { principal, method, call, stage, host, headers } = self;
        Asking { principal, method, call, stage: *stage, host: *host, headers }
    }

    fn found(&self, routes: &Routes) -> Option<String> {
        routes.find(&self.asking()).ok().map(|route| route.name.to_string())
    }

    fn order(&self, routes: &Routes) -> Vec<String> {
        let order = routes.find(&self.asking()).unwrap().order(&self.asking());
        let model = |target: &Target| target.model(&self.principal.tenant).unwrap_or("-").to_owned();
        order.iter().map(|target| format!("{} at {}: {}", target.name, target.upstream, model(target))).collect()
    }
}

#[test]
fn each_condition_is_compared_with_its_part_of_the_call() {
    let one = |condition: &str| routes(&format!("- {{ name: r, {condition}, to: [{{ upstream: use1 }}] }}"));
    let nova = || Of::model("us.Amazon.nova-lite-v1:0");
    for (condition, of, matches) in [
        ("tenants: ['ac*']", nova(), true),
        ("tenants: ['AC*']", nova(), false),
        ("users: ['*']", nova(), false),
        ("users: ['*']", nova().by("acme", Some("ann"), &[]), true),
        ("groups: [ml, ops]", nova().by("acme", None, &["dev", "ops"]), true),
        ("groups: ['*']", nova(), false),
        ("models: ['AMAZON.nova-*']", nova(), true),
        ("models: ['us.amazon.*']", nova(), true),
        ("models: ['eu.amazon.*']", nova(), false),
        ("models: ['*nova-lite*']", Of::model("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0"), true),
        ("models: [amazon.nova-lite-v1:0]", Of::model("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0"), true),
        ("models: ['*']", Of::path("/async-invoke", None), false),
        ("models: ['my model']", Of::path("/v1/responses", Some("My Model")), true),
        ("hosts: [GateWay]", nova(), true),
        ("hosts: ['*.example.com']", Of { host: Some("AI.example.com.:443"), ..nova() }, true),
        ("hosts: ['*.example.com']", Of { host: Some("example.com"), ..nova() }, false),
        ("hosts: ['[::1]']", Of { host: Some("[::1]:80"), ..nova() }, true),
        ("hosts: ['*']", Of { host: None, ..nova() }, false),
        ("headers: { X-Team: 'ml-*' }", nova().header("x-team", b"dev").header("x-team", b"ml-1"), true),
        ("headers: { x-team: 'ml-*' }", nova().header("x-team", b"ML-1"), false),
        ("headers: { x-team: ['a', 'b'] }", nova().header("x-team", b"b"), true),
        ("headers: { x-team: '*' }", nova().header("x-team", b""), true),
        ("headers: { x-team: '*' }", nova().header("x-team", b"\xff"), false),
        ("headers: { x-team: '*' }", nova(), false),
        ("headers: { x-a: '1', x-b: '2' }", nova().header("x-a", b"1"), false),
        ("headers: { x-a: '1', x-b: '2' }", nova().header("x-a", b"1").header("x-b", b"2"), true),
        ("services: ['bedrock-runt*']", nova(), true),
        ("services: [bedrock, bedrock-agent]", nova(), false),
        ("operations: ['POST /model/*/converse']", nova(), true),
        ("operations: ['POST /Model/*/Converse']", Of::path("/%6dodel/x%3A0/convers%65/", Some("x:0")), true),
        ("operations: ['GET *']", nova(), false),
        ("operations: ['GET *']", Of { method: "get", ..nova() }, true),
        ("operations: ['* /model/*/invoke']", nova(), false),
        ("stage: beta", nova(), false),
        ("stage: beta", Of { stage: Some("beta"), ..nova() }, true),
        ("stage: [prod, beta]", Of { stage: Some("beta"), ..nova() }, true),
        ("stage: prod", Of { stage: Some("beta"), ..nova() }, false),
        ("tenants: [acme]", Of { stage: Some("beta"), ..nova() }, true),
        ("tenants: [acme], models: [opus]", nova(), false),
    ] {
        assert_eq!(of.found(&one(condition)).is_some(), matches, "{condition}: {:?}", of.call);
        // Whatever does not match, says why.
        let routes = one(condition);
        let said = routes.explain(&of.asking());
        assert_eq!(said.iter().any(|(_, why)| why.is_none()), matches, "{condition}");
    }
}

#[test]
fn the_first_route_that_matches_is_taken_and_none_is_a_refusal() {
    let routes = routes(
        "- { name: eu, tenants: ['eu-*'], to: [{ upstream: euw1 }] }\n- { name: sonnet, models: [sonnet], to: [{ upstream: use1 }] }\n\
         - { name: acme, tenants: [acme], models: ['*o*'], to: [{ upstream: usw2 }] }",
    );
    assert_eq!(Of::model("sonnet").by("eu-1", None, &[]).found(&routes).as_deref(), Some("eu"));
    assert_eq!(Of::model("sonnet").found(&routes).as_deref(), Some("sonnet"));
    assert_eq!(Of::model("opus").found(&routes).as_deref(), Some("acme"));
    let lost = Of::model("haiku");
    assert_eq!(routes.find(&lost.asking()).unwrap_err().reason, Reason::UnknownService);
}

#[test]
fn a_model_is_called_what_the_target_says_for_the_tenant() {
    let routes = routes(
        "- { name: r, models: [sonnet, 'claude-*'], to: [{ upstream: use1, model: { acme: 'arn:aws:bedrock:us-east-1:1:application-inference-profile/a', default: us.anthropic.claude-sonnet-5 } }] }\n\
         - { name: own, models: [haiku], to: [{ upstream: use1, model: { acme: us.anthropic.claude-haiku-4 } }] }\n\
         - { name: rest, to: [{ upstream: use1 }] }",
    );
    assert_eq!(Of::model("Sonnet").order(&routes), ["use1 at use1: arn:aws:bedrock:us-east-1:1:application-inference-profile/a"]);
    assert_eq!(Of::model("sonnet").by("other", None, &[]).order(&routes), ["use1 at use1: us.anthropic.claude-sonnet-5"]);
    assert_eq!(Of::model("haiku").order(&routes), ["use1 at use1: us.anthropic.claude-haiku-4"]);
    assert_eq!(Of::model("haiku").by("other", None, &[]).order(&routes), ["use1 at use1: -"], "no default keeps the client's");
    for (model, alias) in [("sonnet", true), ("SONNET", true), ("claude-3", true), ("haiku", true), ("opus", false), ("", false)] {
        assert_eq!(routes.is_alias(model), alias, "{model}");
    }
}

#[test]
fn what_is_failed_over_to_keeps_the_model_unless_it_is_a_target_or_says_its_own() {
    let routes = routes(
        "- name: r\n  to:\n  - { upstream: use1, model: us.anthropic.claude-sonnet-4-5, weight: 1 }\n  - { name: canary, upstream: use1, model: us.anthropic.claude-sonnet-5, weight: 0 }\n  \
         - { upstream: euw1, model: eu.anthropic.claude-sonnet-4-5, weight: 0 }\n  failover: [usw2, euw1, { name: last, upstream: usw2, model: amazon.nova-lite-v1:0 }, use1]\n  \
         override: x-tollgate-target\n  testers: [qa]",
    );
    let (old, new, eu) = ("us.anthropic.claude-sonnet-4-5", "us.anthropic.claude-sonnet-5", "eu.anthropic.claude-sonnet-4-5");
    let last = "last at usw2: amazon.nova-lite-v1:0".to_owned();
    let at = |name: &str, upstream: &str, model: &str| format!("{name} at {upstream}: {model}");
    assert_eq!(Of::model("x").order(&routes), [at("use1", "use1", old), at("usw2", "usw2", old), at("euw1", "euw1", eu), last.clone()]);
    let tested = |target| Of::model("x").by("acme", None, &["qa"]).header("x-tollgate-target", target).order(&routes);
    assert_eq!(
        tested(b"canary"),
        [at("canary", "use1", new), at("usw2", "usw2", new), at("euw1", "euw1", eu), last.clone(), at("use1", "use1", old)]
    );
    assert_eq!(tested(b"euw1"), [at("euw1", "euw1", eu), at("usw2", "usw2", eu), last, at("use1", "use1", old)]);
}

#[test]
fn only_testers_choose_a_target_and_only_one_that_there_is() {
    let with = |testers: &str| {
        routes(&format!(
            "- {{ name: r, to: [{{ upstream: use1, weight: 1 }}, {{ upstream: usw2, weight: 0 }}], override: x-tollgate-target, testers: {testers} }}"
        ))
    };
    let chosen = |testers: &str, groups: &[&str], target: &'static [u8]| {
        let of = Of::model("x").by("acme", None, groups).header("x-tollgate-target", target);
        let routes = with(testers);
        let route = routes.find(&of.asking()).unwrap();
        (route.order(&of.asking())[0].name.to_string(), route.chosen_as(&of.asking()))
    };
    assert_eq!(chosen("['q*']", &["dev", "qa"], b"usw2"), ("usw2".into(), ChosenAs::Tested));
    assert_eq!(chosen("[qa]", &["dev"], b"usw2"), ("use1".into(), ChosenAs::Drawn));
    assert_eq!(chosen("['*']", &[], b"usw2"), ("use1".into(), ChosenAs::Drawn), "who is in no group is in none of any");
    assert_eq!(chosen("everyone", &[], b"usw2"), ("usw2".into(), ChosenAs::Tested));
    for none in [&b"euw1"[..], b"", b"\xff", b"USW2"] {
        assert_eq!(chosen("everyone", &[], none), ("use1".into(), ChosenAs::Drawn));
    }
}

#[test]
fn what_sticks_does_so_by_user_within_the_tenant_or_by_tenant_or_by_a_header() {
    let with = |sticky: &str| routes(&format!("- {{ name: r, to: [{{ upstream: use1 }}, {{ upstream: usw2 }}], sticky: {sticky} }}"));
    let place = |routes: &Routes, of: &Of| routes.find(&of.asking()).unwrap().order(&of.asking())[0].name.to_string();
    let spread = |sticky: &str, of: &dyn Fn(u32) -> Of| {
        let routes = with(sticky);
        let places: Vec<String> = (0..200).map(|n| place(&routes, &of(n))).collect();
        // The same again, and as another instance has it.
        assert_eq!(places, (0..200).map(|n| place(&with(sticky), &of(n))).collect::<Vec<_>>());
        places.iter().filter(|name| **name == "use1").count()
    };
    let users = |n: u32| Of::model("x").by("acme", Some(&format!("u{n}")), &[]);
    let tenants = |n: u32| Of::model("x").by(&format!("t{n}"), Some("ann"), &[]);
    let mut sessions = |n: u32| {
        let mut of = Of::model("x");
        of.headers.insert("x-session-id", HeaderValue::from(n));
        of
    };
    for count in
        [spread("user", &users), spread("user", &tenants), spread("tenant", &tenants), spread("{ header: X-Session-Id }", &mut sessions)]
    {
        assert!((60..140).contains(&count), "{count} of 200");
    }
    assert!([0, 200].contains(&spread("tenant", &users)), "one tenant is in one place");
    // Without a key it is drawn.
    let (routes, nobody) = (with("user"), Of::model("x"));
    let route = routes.find(&nobody.asking()).unwrap();
    assert_eq!(route.chosen_as(&nobody.asking()), ChosenAs::Drawn);
    let drawn = (0..2_000).filter(|_| place(&routes, &nobody) == "use1").count();
    assert!((800..1_200).contains(&drawn), "{drawn} of 2000");
}

#[test]
fn a_stage_puts_its_variables_in() {
    let routes = routes(
        "- name: r\n  stage: { beta: { where: usw2, geo: us }, prod: { where: euw1, geo: eu } }\n  \
         to: [{ upstream: '${stage.where}', model: '${stage.geo}.amazon.nova-${stage}-v1:0' }]\n  failover: [use1]\n\
         - { name: rest, to: [{ upstream: use1 }] }",
    );
    let at = |stage| Of { stage, ..Of::model("x") }.order(&routes);
    assert_eq!(at(Some("beta")), ["usw2 at usw2: us.amazon.nova-beta-v1:0", "use1 at use1: us.amazon.nova-beta-v1:0"]);
    assert_eq!(at(Some("prod")), ["euw1 at euw1: eu.amazon.nova-prod-v1:0", "use1 at use1: eu.amazon.nova-prod-v1:0"]);
    assert_eq!(at(None), ["use1 at use1: -"]);
    let names: Vec<(String, Option<String>)> =
        routes.routes.iter().map(|route| (route.name.to_string(), route.stage().map(ToString::to_string))).collect();
    assert_eq!(names, [("r".into(), Some("beta".into())), ("r".into(), Some("prod".into())), ("rest".into(), None)]);
}

#[test]
fn the_places_for_answers_without_a_client_are_shared_by_the_stages_of_a_route() {
    let routes = routes("- { name: r, stage: [beta, prod], to: [{ upstream: use1 }], on_disconnect: { drain: { max: 1 } } }");
    let places = |at: usize| &routes.routes[at].outlive.as_ref().unwrap().places;
    let _held = places(0).try_acquire().unwrap();
    assert!(places(1).try_acquire().is_err());
}

#[test]
fn a_share_of_calls_is_mirrored() {
    let share = |mirror: &str| {
        let routes = routes(&format!("- {{ name: r, to: [{{ upstream: use1 }}], mirror: {{ upstream: usw2, share: {mirror} }} }}"));
        (0..10_000)
            .filter_map(|_| routes.routes[0].mirror())
            .inspect(|target| assert_eq!((&*target.name, &*target.upstream), ("mirror", "usw2")))
            .count()
    };
    assert_eq!((share("0%"), share("100%")), (0, 10_000));
    let fifth = share("20%");
    assert!((1_700..2_300).contains(&fifth), "{fifth} of 10000");
}

#[test]
fn a_stage_is_the_whole_first_segment_byte_by_byte() {
    let routes = routes("- { name: r, stage: [beta, v2.0], to: [{ upstream: use1 }] }\n- { name: rest, to: [{ upstream: use1 }] }");
    for (path, stage, rest) in [
        ("/beta/model/a%2Fb/converse", Some("beta"), "/model/a%2Fb/converse"),
        ("/v2.0/x", Some("v2.0"), "/x"),
        ("/beta", Some("beta"), "/"),
        ("/beta/", Some("beta"), "/"),
        ("/beta/beta/x", Some("beta"), "/beta/x"),
        ("/betamax/x", None, "/betamax/x"),
        ("/Beta/x", None, "/Beta/x"),
        ("/%62eta/x", None, "/%62eta/x"),
        ("/beta;a/x", None, "/beta;a/x"),
        ("/v2", None, "/v2"),
        ("beta/x", None, "beta/x"),
        ("/", None, "/"),
        ("", None, ""),
    ] {
        let (found, left) = routes.stage(path);
        assert_eq!((found.map(|stage| &**stage), left), (stage, rest), "{path}");
    }
}
