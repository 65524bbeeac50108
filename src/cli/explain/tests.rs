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

#[test]
fn a_call_that_is_drawn_is_told_with_every_way_it_may_go() {
    says(&["/model/sonnet/converse"], "", "");
}

#[test]
fn what_sticks_and_what_a_tester_chooses_has_one_way() {
    says(&["--tenant", "acme", "--user", "ann", "/model/sonnet/converse"], "", "");
    says(&["--group", "qa", "--header", "x-tollgate-target: canary", "/openai/v1/chat/completions"], "{\"model\":\"sonnet\"}", "");
}
