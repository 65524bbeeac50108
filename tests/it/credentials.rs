//! The gateway's own credentials: sessions of roles that tell AWS who calls, and outages of whoever gives them.

mod aws;
mod moto;
mod outages;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tollgate::domain::{Clock, ManualClock};
use tollgate::emulator::{Credential, Emulator, Options};

use self::aws::{Say, Sts};
use crate::client::{Answer, Raw, call as send, converse, eventually};
use crate::downstream::{Ask, Way, call};
use crate::world::{Setting, World, jwt, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";

/// A gateway whose upstream's role is assumed at an STS that tests command, before an emulator that knows the sessions' keys, and no other.
struct Stage {
    world: World,
    sts: Sts,
    emulator: Emulator,
    clock: ManualClock,
}

impl Stage {
    /// `role` is more of `credentials`.
    async fn set(role: &str) -> Self {
        let clock = ManualClock::starting_at(SystemTime::now());
        let sts = Sts::start(Clock::Manual(clock.clone())).await;
        let emulator =
            Emulator::start(Options { credentials: Sts::keys(), clock: Clock::Manual(clock.clone()), ..Options::default() }).await.unwrap();
        let yaml = format!(
            "
identity: [{}]
upstreams:
  role:
    region: us-east-1
    endpoint: 'http://{}'
    credentials:
      assume_role: arn:aws:iam::111122223333:role/bedrock
      from: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: secret }}
      sts_endpoint: '{}'
      {role}
",
            jwt().replace("identity: [", "").replace("}]", ", groups: groups }").as_str(),
            emulator.address(),
            sts.url
        );
        let world = World::build(Setting { yaml, clock: Some(clock.clone()), ..Setting::default() }).await;
        Self { world, sts, emulator, clock }
    }

    async fn tagged() -> Self {
        Self::set("session_tags: { tenant: tenant, who: user, team: group }").await
    }

    /// A call of a user of `tenant`, with a token that outlives the clock's turns.
    fn ask(&self, tenant: &str, user: &str) -> Ask {
        let token = self.world.issuer.token(tenant, user, SystemTime::now() + Duration::from_hours(240)).unwrap();
        Ask::post(CONVERSE, converse("one two")).token(&token)
    }

    async fn call(&self, tenant: &str) -> Answer {
        call(&self.world, Way::Http1, &self.ask(tenant, "u")).await
    }

    /// The access keys that the emulator has seen, in order.
    fn signed_with(&self) -> Vec<String> {
        let requests = self.emulator.requests();
        requests
            .iter()
            .map(|seen| seen.header("authorization").unwrap().split("Credential=").nth(1).unwrap().split('/').next().unwrap().to_owned())
            .collect()
    }

    /// Turns the clock until `condition` holds, by so many minutes at most: the background task sleeps by that clock, and what is there shall not expire
    /// meanwhile. The task is given the time of a call between two steps.
    async fn turn_until(&self, minutes: u32, what: &str, condition: impl Fn() -> bool) {
        for _ in 0..minutes * 12 {
            if condition() {
                return;
            }
            self.clock.advance(Duration::from_secs(5));
            send(self.world.gateway.admin(), "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        }
        eventually(what, condition).await;
    }
}

fn is_refused(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("x-amzn-errortype"), Some("ServiceUnavailableException"));
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert!(!String::from_utf8_lossy(&answer.body).contains("STS"), "callers are told nothing of our accounts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sessions_tags_tell_aws_who_calls_and_each_caller_has_its_own() {
    let stage = Stage::set("external_id: '4711'\n      session_name: gateway\n      duration: 15m\n      session_tags: { tenant: tenant, who: user, team: group }").await;
    let token = stage.world.token_with(&json!({ "sub": "alice", "tenant": "Müller & Söhne", "groups": ["ops", "dev"] }));
    let ask = Ask::post(CONVERSE, converse("one two")).token(&token);
    for _ in 0..3 {
        assert_eq!(call(&stage.world, Way::Http1, &ask).await.status, 200);
    }
    assert_eq!(stage.call("acme").await.status, 200);
    assert_eq!(stage.signed_with(), ["ASIA0", "ASIA0", "ASIA0", "ASIA1"]);
    assert_eq!(stage.emulator.requests()[0].header("x-amz-security-token"), Some("token0"));

    let asked = stage.sts.asked();
    assert_eq!(asked.len(), 2, "one question a session");
    let first = &asked[0];
    assert_eq!(first.access_key_id, "AKIDEXAMPLE");
    for (name, value) in [
        ("Action", "AssumeRole"),
        ("RoleArn", "arn:aws:iam::111122223333:role/bedrock"),
        ("RoleSessionName", "gateway"),
        ("ExternalId", "4711"),
        ("DurationSeconds", "900"),
    ] {
        assert_eq!(first.fields[name], value);
    }
    let tags = first.tags();
    assert_eq!((tags["who"], tags["team"]), ("alice", "dev"));
    let (written, hash) = tags["tenant"].split_once('=').unwrap();
    assert_eq!((written, hash.len()), ("Müller _ Söhne", 24), "AWS takes no `&`");
    assert_eq!(asked[1].tags(), BTreeMap::from([("tenant", "acme"), ("who", "u")]), "no group, no tag");
    eventually("both are counted", || stage.world.metric(r#"tollgate_sts_calls_total{upstream="role",outcome="granted"}"#) == 2.0).await;
    eventually("both are held", || stage.world.metric(r#"tollgate_sts_sessions{upstream="role"}"#) == 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_first_calls_at_once_are_one_question_and_a_caller_that_leaves_changes_nothing() {
    let stage = Stage::tagged().await;
    stage.sts.say(Say::Wait);
    let request = stage.ask("acme", "u").wire();
    let mut first = Raw::connect(stage.world.plain).await;
    first.send(&request).await;
    eventually("STS is asked", || stage.sts.asked().len() == 1).await;
    drop(first);
    let calls: Vec<_> = (0..100).map(|_| tokio::spawn(send(stage.world.plain, request.clone()))).collect();
    eventually("all wait", || stage.world.metric("tollgate_in_flight") >= 100.0).await;
    stage.sts.say(Say::Grant);
    for call in calls {
        assert_eq!(call.await.unwrap().status, 200);
    }
    assert_eq!(stage.sts.asked().len(), 1);
    assert!(stage.signed_with().iter().all(|key| key == "ASIA0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_sts_refuses_makes_no_call_and_sts_is_left_in_peace_for_a_while() {
    let stage = Stage::tagged().await;
    stage.sts.say(Say::Deny);
    for _ in 0..20 {
        is_refused(&stage.call("acme").await);
    }
    assert_eq!(stage.sts.asked().len(), 1, "a failure counts for a second");
    assert!(stage.emulator.requests().is_empty(), "never with the keys that the role is assumed with");
    eventually("all are counted", || stage.world.metric(r#"tollgate_refusals_total{reason="no_credentials"}"#) == 20.0).await;
    stage.clock.advance(Duration::from_secs(1));
    is_refused(&stage.call("acme").await);
    assert_eq!(stage.sts.asked().len(), 2);

    stage.sts.say(Say::Grant);
    assert_eq!(stage.call("other").await.status, 200, "another's session is another question");
    is_refused(&stage.call("acme").await);
    stage.clock.advance(Duration::from_secs(2));
    assert_eq!(stage.call("acme").await.status, 200);
    eventually("both refusals are counted", || stage.world.metric(r#"tollgate_sts_calls_total{outcome="refused"}"#) == 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_used_is_renewed_early_and_one_that_is_not_is_forgotten() {
    let stage = Stage::tagged().await;
    for tenant in ["used", "unused"] {
        assert_eq!(stage.call(tenant).await.status, 200);
    }
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!(stage.call("used").await.status, 200);
    stage.clock.advance(Duration::from_mins(56));
    stage.turn_until(1, "the used one is renewed", || stage.sts.asked().len() == 3).await;
    assert_eq!(stage.sts.asked()[2].tags()["tenant"], "used");
    eventually("it is there", || stage.world.metric(r#"tollgate_sts_calls_total{outcome="granted"}"#) == 3.0).await;
    assert_eq!(stage.call("used").await.status, 200);
    assert_eq!(stage.signed_with(), ["ASIA0", "ASIA1", "ASIA0", "ASIA2"]);
    stage.clock.advance(Duration::from_mins(5));
    stage.turn_until(1, "the other is forgotten once it has expired", || stage.world.metric("tollgate_sts_sessions") == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_sts_is_away_calls_go_on_until_their_session_expires_and_again_once_it_is_back() {
    let stage = Stage::tagged().await;
    assert_eq!(stage.call("acme").await.status, 200);
    stage.sts.say(Say::HangUp);
    stage.clock.advance(Duration::from_mins(58));
    assert_eq!(stage.call("acme").await.status, 200, "the last good keys");
    stage.turn_until(1, "it is asked in vain", || stage.world.metrics().contains(r#"outcome="unreachable""#)).await;
    stage.clock.advance(Duration::from_mins(3));
    is_refused(&stage.call("acme").await);
    assert!(stage.signed_with().iter().all(|key| key == "ASIA0"));
    stage.sts.say(Say::Grant);
    stage.clock.advance(Duration::from_secs(30));
    assert_eq!(stage.call("acme").await.status, 200);
    assert_eq!(stage.signed_with().last().unwrap(), "ASIA1");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tags_one_session_serves_all_and_the_gateway_is_ready_once_it_is_there() {
    let stage = Stage::set("").await;
    eventually("ready", || stage.world.gateway.readiness().check().is_ok()).await;
    for tenant in ["acme", "other"] {
        assert_eq!(stage.call(tenant).await.status, 200);
    }
    assert_eq!((stage.signed_with(), stage.sts.asked().len()), (vec!["ASIA0".to_owned(), "ASIA0".to_owned()], 1));
    assert!(stage.sts.asked()[0].tags().is_empty());

    stage.sts.say(Say::Deny);
    stage.clock.advance(Duration::from_mins(58));
    assert_eq!(stage.call("acme").await.status, 200);
    stage.clock.advance(Duration::from_mins(3));
    is_refused(&stage.call("acme").await);
    stage.turn_until(10, "unready", || stage.world.gateway.readiness().check().is_err()).await;
    stage.sts.say(Say::Grant);
    stage.turn_until(10, "ready again", || stage.world.gateway.readiness().check().is_ok()).await;
    assert_eq!(stage.call("acme").await.status, 200);
    assert_eq!(stage.signed_with().last().unwrap(), "ASIA1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_rotated_in_its_file_signs_without_a_restart() {
    let clock = ManualClock::starting_at(SystemTime::now());
    let world = World::build(Setting { clock: Some(clock.clone()), ..Setting::default() }).await;
    let ask = Ask::post(CONVERSE, converse("one")).token(&world.token);
    let emulator = |secret: &str| Options { credentials: vec![Credential::new("AKIDEXAMPLE", secret, None)], ..Options::default() };
    assert_eq!(call(&world, Way::Http1, &ask).await.status, 200);
    let rotated = Emulator::start(emulator("another")).await.unwrap();
    let second = world_at(&rotated, &clock).await;
    let ask = Ask::post(CONVERSE, converse("one")).token(&second.token);
    assert_eq!(call(&second, Way::Http1, &ask).await.status, 403);
    fs::write(second.dir.join("secret"), "").unwrap();
    clock.advance(Duration::from_secs(2));
    assert_eq!(call(&second, Way::Http1, &ask).await.status, 403, "a bad file changes nothing");
    fs::write(second.dir.join("secret"), "another\n").unwrap();
    let mut answer = 403;
    while answer != 200 {
        clock.advance(Duration::from_secs(2));
        answer = call(&second, Way::Http1, &ask).await.status.as_u16();
        assert!(matches!(answer, 200 | 403));
    }
}

async fn world_at(emulator: &Emulator, clock: &ManualClock) -> World {
    let yaml = crate::scripted::upstream(&format!("http://{}", emulator.address()), "");
    World::build(Setting { yaml, clock: Some(clock.clone()), ..Setting::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_is_called_at_its_own_endpoint_and_signed_for_it() {
    let (runtime, control) = (Emulator::start(Options::default()).await.unwrap(), Emulator::start(Options::default()).await.unwrap());
    let world = world(&format!(
        "upstreams: {{ two: {{ region: us-east-1, endpoint: {{ bedrock-runtime: 'http://{}', bedrock: 'http://{}' }}, \
         credentials: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: secret }} }} }}",
        runtime.address(),
        control.address()
    ))
    .await;
    let converse = Ask::post(CONVERSE, converse("one")).token(&world.token);
    assert_eq!(call(&world, Way::Http1, &converse).await.status, 200);
    let models = Ask::get("/foundation-models").token(&world.token);
    assert_eq!(call(&world, Way::Http1, &models).await.status, 200);
    for (emulator, path) in [(&runtime, CONVERSE), (&control, "/foundation-models")] {
        let seen = emulator.requests();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].header("host"), Some(&*emulator.address().to_string()));
        assert!(seen[0].path.starts_with(path), "{}", seen[0].path);
    }
}
