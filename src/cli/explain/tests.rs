//! What is said of a call, word for word.

use std::path::Path;

use clap::Parser;

use super::*;

const GATEWAY: &str = "
listeners: [{ address: 127.0.0.1:1 }]
identity: [anonymous: { tenant: x }]
upstreams:
  use1: { region: us-east-1 }
  usw2: { region: us-west-2, endpoint: 'http://127.0.0.1:4566' }
routes:
  - name: eu
    tenants: ['eu-*']
    to: [{ upstream: use1 }]
  - name: staged
    stage: { beta: { where: usw2 }, gamma: { where: use1 } }
    services: [bedrock-runtime]
    to: [{ upstream: '${stage.where}' }]
  - name: sonnet
    models: [sonnet]
    to:
      - { upstream: use1, model: us.anthropic.claude-sonnet-4-5-20250929-v1:0, weight: 95 }
      - { name: canary, upstream: use1, model: { acme: 'arn:aws:bedrock:us-east-1:111122223333:application-inference-profile/abc', default: us.anthropic.claude-sonnet-5 }, weight: 5 }
    sticky: user
    override: x-tollgate-target
    testers: [qa]
    failover: [usw2]
    mirror: { upstream: usw2, model: amazon.nova-lite-v1:0, share: 0.5% }
  - name: rest
    services: [bedrock-runtime]
    to: [{ upstream: usw2 }]
";

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    explain: Explain,
}

fn explained(arguments: &[&str], body: &str) -> Result<Explained, String> {
    let config = Config::parse(GATEWAY, Path::new("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"));
    let line = Line::try_parse_from(["explain"].iter().chain(arguments)).unwrap_or_else(|error| panic!("{error}"));
    line.explain.explain(&config, body.as_bytes())
}

#[track_caller]
fn says(arguments: &[&str], body: &str, expected: &str) {
    let said = explained(arguments, body).unwrap();
    assert_eq!(said.answer, expected, "{}", said.answer);
    assert!(said.matches);
}

const SONNET: &str = "\
ROUTE   STAGE  VERDICT
eu      any    tenant: is `TENANT`, wants `eu-*`
staged  beta   stage: asked for none, wants `beta`
staged  gamma  stage: asked for none, wants `gamma`
sonnet  any    matches
rest    any    would match, but comes later

TARGET  UPSTREAM  SHARE  MODEL
use1    use1        95%  us.anthropic.claude-sonnet-4-5-20250929-v1:0
canary  use1         5%  CANARY
";

const MIRROR: &str = "
0.5% of calls are copied to:
  1. mirror: POST http://127.0.0.1:4566/model/amazon.nova-lite-v1%3A0/converse
";

fn sonnet(tenant: &str, canary: &str) -> String {
    SONNET.replace("TENANT", tenant).replace("CANARY", canary)
}

#[test]
fn a_call_that_is_drawn_is_told_with_every_way_it_may_go() {
    let way = "
The call has nothing to stick by (user), and is drawn.

95% of calls go to:
  1. use1: POST https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse
  2. usw2: POST http://127.0.0.1:4566/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse

5% of calls go to:
  1. canary: POST https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.claude-sonnet-5/converse
  2. usw2: POST http://127.0.0.1:4566/model/us.anthropic.claude-sonnet-5/converse
";
    let head = "POST /model/sonnet/converse of bedrock-runtime, for model sonnet, stage none\n\n";
    let told = [head, &sonnet("example", "us.anthropic.claude-sonnet-5"), way, MIRROR].concat();
    says(&["/model/sonnet/converse"], "", &told);
}

#[test]
fn what_sticks_has_one_way_and_a_tenant_its_own_profile() {
    let way = "
The call sticks, by user, to:
  1. use1: POST https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse
  2. usw2: POST http://127.0.0.1:4566/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse
";
    let head = "POST /model/sonnet/converse of bedrock-runtime, for model sonnet, stage none\n\n";
    let profile = "arn:aws:bedrock:us-east-1:111122223333:application-inference-profile/abc";
    let told = [head, &sonnet("acme", profile), way, MIRROR].concat();
    says(&["--tenant", "acme", "--user", "ann", "/model/sonnet/converse"], "", &told);
}

#[test]
fn a_tester_goes_where_they_ask_and_a_name_in_the_body_is_told() {
    let way = "
The call goes where its header asks for:
  1. canary: POST https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/chat/completions?a=b, model us.anthropic.claude-sonnet-5 in the body
  2. usw2: POST http://127.0.0.1:4566/openai/v1/chat/completions?a=b, model us.anthropic.claude-sonnet-5 in the body

0.5% of calls are copied to:
  1. mirror: POST http://127.0.0.1:4566/openai/v1/chat/completions?a=b, model amazon.nova-lite-v1:0 in the body
";
    let head = "POST /openai/v1/chat/completions of bedrock-runtime, for model sonnet, stage none\n\n";
    let told = [head, &sonnet("example", "us.anthropic.claude-sonnet-5"), way].concat();
    let tester = ["--group", "qa", "--header", "x-tollgate-target: canary", "/openai/v1/chat/completions?a=b"];
    says(&tester, "{\"model\":\"sonnet\"}", &told);
    says(&[&tester[..], &["--model", "sonnet"]].concat(), "", &told);
}

#[test]
fn a_stage_is_taken_off_and_a_service_named() {
    let told = "\
GET /guardrail/g of bedrock-runtime, for no model, stage gamma

ROUTE   STAGE  VERDICT
eu      any    tenant: is `example`, wants `eu-*`
staged  beta   stage: asked for `gamma`, wants `beta`
staged  gamma  matches
sonnet  any    model: is none, wants `sonnet`
rest    any    would match, but comes later

TARGET  UPSTREAM  SHARE  MODEL
use1    use1       100%  -

The call goes to:
  1. use1: GET https://bedrock-runtime.us-east-1.amazonaws.com/guardrail/g
";
    says(&["--method", "GET", "/gamma/bedrock-runtime/guardrail/g"], "", told);
}

#[test]
fn a_call_that_no_route_matches_is_told_why_by_each() {
    let said = explained(&["--host", "bedrock-agent.gateway", "/agents/a"], "").unwrap();
    assert!(!said.matches);
    assert!(
        said.answer
            .contains("rest    any    service: is `bedrock-agent`, wants `bedrock-runtime`\n\nNo route matches: the call is refused.\n"),
        "{}",
        said.answer
    );
}

#[test]
fn what_the_gateway_would_not_read_is_not_explained() {
    for (arguments, body, why) in [
        (&["/unknown/thing"][..], "", "does not tell which AWS service"),
        (&["model/x/converse"], "", "must start with `/`"),
        (&["/model/../x"], "", "segment"),
        (&["/openai/v1/chat/completions"], "{\"model\":\"a\",\"model\":\"b\"}", "more than once"),
        (&["--model", "y", "/model/x/converse"], "", "leave `--model` out"),
    ] {
        let error = explained(arguments, body).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    for wrong in [
        &["--header", "no colon", "/"][..],
        &["--header", "a b: c", "/"],
        &["--header", "a: b\nc", "/"],
        &["--model", "a", "--body", "b", "/"],
        &[],
    ] {
        assert!(Line::try_parse_from(["explain"].iter().chain(wrong)).is_err(), "{wrong:?}");
    }
}
