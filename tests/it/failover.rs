//! A call whose upstream fails goes to the next, as long as its client has nothing of an answer.

use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tollgate::emulator::{Emulator, Fault, Outcome};

use crate::client::{Answer, PATIENCE, converse};
use crate::downstream::{Ask, Way, call, open};
use crate::record::log;
use crate::streams::{events, reference, streams};
use crate::world::{Setting, World};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const STREAM: &str = "/model/amazon.nova-lite-v1:0/converse-stream";

/// Two regions: what `emulator` does not answer, `second` is asked for.
async fn pair(more: &str) -> World {
    let routes = "[{ name: all, to: [{ upstream: emulator }], failover: [second], timeouts: { first_byte: 500ms } }]";
    routed(routes, more).await
}

async fn routed(routes: &str, more: &str) -> World {
    let yaml = format!("routes: {routes}\nrecord: {{ access_log: {{ to: access.log }} }}\n{more}");
    World::build(Setting { yaml, second: true, ..Setting::default() }).await
}

fn second(world: &World) -> &Emulator {
    world.second.as_ref().unwrap()
}

fn asked(world: &World) -> (usize, usize) {
    (world.emulator.requests().len(), second(world).requests().len())
}

fn attempts(world: &World, outcome: &str) -> f64 {
    world.metric(&format!("tollgate_upstream_attempts_total{{outcome=\"{outcome}\"}}"))
}

async fn only_line(world: &World) -> Value {
    world.until_idle().await;
    let lines = log(world).await;
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    line.clone()
}

fn status(status: u16) -> Fault {
    Fault::Status { status, times: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_region_does_not_answer_another_does() {
    for way in [Way::Http1, Way::TlsHttp2] {
        for (fault, outcome) in [
            (status(429), "throttled"),
            (status(500), "server_error"),
            (status(503), "server_error"),
            (Fault::Close, "broken"),
            (Fault::Reset, "broken"),
            (Fault::Hang, "timed_out"),
        ] {
            let world = pair("").await;
            world.emulator.inject(fault.clone(), 1);
            let answer = call(&world, way, &Ask::post(CONVERSE, converse("one two")).token(&world.token)).await;
            assert_eq!(answer.status, 200, "{fault:?} {}", String::from_utf8_lossy(&answer.body));
            assert_eq!(asked(&world), (1, 1), "{fault:?}");
            assert_eq!((attempts(&world, outcome), attempts(&world, "answered")), (1.0, 1.0), "{fault:?}");
            let line = only_line(&world).await;
            assert_eq!((&line["upstream"], &line["attempts"]), (&"second".into(), &2.into()), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_before_it_says_anything_is_another_regions_to_answer() {
    let reference = reference().await;
    for way in [Way::Http1, Way::H2c] {
        for (ask, kind) in streams() {
            let whole = events(&reference, &ask).await.concat();
            let exception = |after| Fault::Exception { name: "throttlingException".into(), after };
            // The first event of Converse's streams only says that there will be others.
            let silent = usize::from(ask.path.ends_with("converse-stream"));
            for (fault, outcome) in [
                (status(429), "throttled"),
                (exception(0), "exception"),
                (exception(silent), "exception"),
                (Fault::Stall(0), "timed_out"),
                ("cut-between-frames-0".parse().unwrap(), "broken"),
            ] {
                let world = pair("").await;
                world.emulator.inject(fault.clone(), 1);
                let mut incoming = open(&world, way, &ask.clone().token(&world.token)).await;
                assert_eq!(incoming.status, 200, "{fault:?} {kind}");
                let (got, end) = incoming.rest().await;
                assert_eq!(end, Ok(()), "{fault:?} {kind}");
                assert_eq!(got.len(), whole.len(), "{fault:?} {kind}: one answer, whole");
                assert_eq!(asked(&world), (1, 1), "{fault:?} {kind}");
                assert_eq!((attempts(&world, outcome), attempts(&world, "answered")), (1.0, 1.0), "{fault:?} {kind}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_tried_again_once_the_client_has_a_word() {
    for fault in ["exception-modelStreamErrorException-3", "cut-mid-frame-3", "cut-between-frames-3"] {
        let world = pair("").await;
        world.emulator.inject(fault.parse().unwrap(), 1);
        let ask = Ask::post(STREAM, converse("one two three four five")).token(&world.token);
        let mut incoming = open(&world, Way::Http1, &ask).await;
        assert_eq!(incoming.status, 200);
        let (got, end) = incoming.rest().await;
        assert!(!got.is_empty());
        assert_eq!(end.is_ok(), fault.starts_with("exception"), "{fault}");
        assert_eq!(asked(&world), (1, 0), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_no_model_stays_where_it_is() {
    let world = pair("").await;
    for ask in [
        Ask::post("/guardrails", r#"{"name":"a"}"#).header("aws-endpoint-prefix", "bedrock"),
        Ask::get("/foundation-models").header("aws-endpoint-prefix", "bedrock"),
        Ask::post("/guardrail/g/version/1/apply", r#"{"source":"INPUT","content":[]}"#),
    ] {
        world.emulator.inject(status(500), 1);
        let answer = call(&world, Way::Http1, &ask.token(&world.token)).await;
        assert_eq!(answer.status, 500);
    }
    assert_eq!(asked(&world), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_region_answers_the_last_refusal_is_the_clients() {
    let world = pair("").await;
    world.emulator.inject(status(503), 1);
    second(&world).inject(status(429), 1);
    let answer = call(&world, Way::Http1, &Ask::post(CONVERSE, converse("one")).token(&world.token)).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-amzn-errortype"), Some("ThrottlingException"), "Bedrock's own");
    assert_eq!(asked(&world), (1, 1));
    let line = only_line(&world).await;
    assert_eq!((&line["status"], &line["reason"], &line["attempts"]), (&429.into(), &Value::Null, &2.into()), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_can_not_be_reached_is_passed_over() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let world = World::build(Setting {
        yaml: format!(
            "upstreams:
  dead: {{ region: us-east-1, endpoint: 'http://{dead}', credentials: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: secret }} }}
  deader: {{ region: us-east-2, endpoint: 'http://bedrock.invalid', credentials: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: secret }} }}
routes: [{{ name: all, to: [{{ upstream: dead }}], failover: [deader] }}]"
        ),
        ..Setting::default()
    })
    .await;
    let answer = call(&world, Way::Http1, &Ask::post(CONVERSE, converse("one")).token(&world.token)).await;
    assert_eq!(answer.status, 502);
    // One at the first, and at the last two, for there was nowhere else to go.
    assert_eq!(attempts(&world, "unreachable"), 3.0);
}

/// An alias: what Bedrock calls it in either region.
const ALIAS: &str =
    "[{ name: sonnet, models: [sonnet], to: [{ upstream: emulator, model: 'us.anthropic.claude-sonnet-4-5-20250929-v1:0' }],
  failover: [{ upstream: second, model: 'arn:aws:bedrock:us-west-2:123456789012:application-inference-profile/abc' }] },
  { name: rest, to: [{ upstream: emulator }] }]";

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_each_regions_own_model_in_the_path_and_in_the_body() {
    for way in Way::ALL {
        let world = routed(ALIAS, "").await;
        for fails in [false, true] {
            if fails {
                world.emulator.inject(status(500), 2);
            }
            let answer = call(&world, way, &Ask::post("/model/sonnet/converse", converse("one two")).token(&world.token)).await;
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            let body = br#"{"messages":[{"role":"user","content":"one"}], "model" : "sonnet","max_tokens":9}"#;
            let answer = call(&world, way, &Ask::post("/openai/v1/chat/completions", &body[..]).token(&world.token)).await;
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        }
        let (first, second) = (world.emulator.requests(), second(&world).requests());
        assert_eq!((first.len(), second.len()), (4, 2));
        assert_eq!(first[0].path, "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse");
        assert_eq!(second[0].path, "/model/arn%3Aaws%3Abedrock%3Aus-west-2%3A123456789012%3Aapplication-inference-profile%2Fabc/converse");
        let body = |seen: &tollgate::emulator::SeenRequest| String::from_utf8(seen.body.as_ref().unwrap().start.to_vec()).unwrap();
        assert_eq!(
            body(&first[1]),
            r#"{"messages":[{"role":"user","content":"one"}], "model" : "us.anthropic.claude-sonnet-4-5-20250929-v1:0","max_tokens":9}"#
        );
        assert!(body(&second[1]).contains(r#""model" : "arn:aws:bedrock:us-west-2:123456789012:application-inference-profile/abc","#));
        world.until_idle().await;
        for line in log(&world).await {
            assert_eq!(line["alias"], "sonnet", "{line}");
            assert_ne!(line["model"], "sonnet", "{line}");
        }
    }
}

/// The same without a second region: an ARN of an application inference profile says nothing of its model, and so nothing of what is denied.
const ALONE: &str =
    "[{ name: sonnet, models: [sonnet], to: [{ upstream: emulator, model: 'us.anthropic.claude-sonnet-4-5-20250929-v1:0' }] },
  { name: rest, to: [{ upstream: second }] }]";

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_judges_an_alias_by_what_it_stands_for() {
    for (policy, status) in [
        ("{ deny: ['*sonnet-4*'] }", 403),
        ("{ deny: [sonnet] }", 403),
        ("{ allow: ['amazon.*'] }", 403),
        ("{ allow: ['anthropic.claude-*'] }", 200),
        ("{ allow: [sonnet] }", 200),
    ] {
        let world = routed(ALONE, &format!("policy: [{{ name: models, models: {policy} }}]")).await;
        let answer = call(&world, Way::Http1, &Ask::post("/model/sonnet/converse", converse("one")).token(&world.token)).await;
        assert_eq!(answer.status, status, "{policy} {}", String::from_utf8_lossy(&answer.body));
    }
    // What may not leave its region is not failed over to another.
    let world = routed(ALIAS, "policy: [{ name: here, regions: { allow: [us-east-1, us] } }]").await;
    world.emulator.inject(self::status(500), 1);
    let answer = call(&world, Way::Http1, &Ask::post("/model/sonnet/converse", converse("one")).token(&world.token)).await;
    assert_eq!((answer.status.as_u16(), asked(&world)), (500, (1, 0)));
}

fn message_of(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_ends_by_an_exception_behind_a_whole_event() {
    for way in Way::ALL {
        let timeouts = "timeouts: { first_byte: 400ms, idle: 300ms, total: 5s }";
        let world = routed(&format!("[{{ name: all, to: [{{ upstream: emulator }}], {timeouts} }}]"), "").await;
        let ask = Ask::post(STREAM, converse("one two three four five")).token(&world.token);
        let mut incoming = open(&world, way, &ask.clone().fault("stall-3")).await;
        let (got, end) = incoming.rest().await;
        assert_eq!(end, Ok(()), "{way:?}");
        let text = String::from_utf8_lossy(&got).into_owned();
        assert!(text.contains("internalServerException") && text.contains("no event for 300ms"), "{way:?} {text}");
        // Before the first event, it is a refusal like any other.
        let answer = call(&world, way, &ask.fault("hang")).await;
        assert_eq!(answer.status, 504);
        assert!(message_of(&answer).contains("400ms"), "{}", message_of(&answer));
        let over = world.emulator.requests_until(|all| all.iter().all(|seen| seen.outcome == Outcome::PeerLeft));
        tokio::time::timeout(PATIENCE, over).await.expect("every upstream is let go");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_takes_longer_than_the_whole_is_to_take() {
    let timeouts = "timeouts: { first_byte: 1h, idle: 1h, total: 700ms }";
    let world = routed(&format!("[{{ name: all, to: [{{ upstream: emulator }}], {timeouts} }}]"), "").await;
    let ask = Ask::post(STREAM, converse("one two three")).token(&world.token).fault("words-1000,slow-events-20");
    let mut incoming = open(&world, Way::Http1, &ask).await;
    let (got, end) = incoming.rest().await;
    assert_eq!(end, Ok(()));
    assert!(String::from_utf8_lossy(&got).contains("longer than 700ms"));
    let answer = call(&world, Way::Http1, &Ask::post(CONVERSE, converse("one")).token(&world.token).fault("hang")).await;
    assert_eq!(answer.status, 504);
    let _: Duration = PATIENCE;
}
