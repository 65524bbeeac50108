//! An account's quota, before an emulator that enforces it: whoever is admitted is never throttled, and hardly anything is left unused.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde_json::{Value, json};

use tollgate::domain::{Clock, ManualClock};
use tollgate::emulator::{Options, Quota, QuotaUse};

use crate::client::{Answer, PATIENCE, eventually};
use crate::downstream::{Ask, Client, Way, call};
use crate::record::{LOGGED, log};
use crate::world::{Setting, World};

const SONNET: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";

/// A gateway that knows the quota of the emulator before which it stands; both go by the same clock, which stands still.
async fn account(quota: &str, enforced: Quota) -> (World, ManualClock) {
    let clock = ManualClock::starting_at(SystemTime::now());
    let world = World::build(Setting {
        yaml: LOGGED.to_owned(),
        upstream: format!("quotas: [{{ models: ['*'], {quota} }}]"),
        emulator: Options { quotas: vec![enforced], clock: Clock::Manual(clock.clone()), ..Options::default() },
        clock: Some(clock.clone()),
        ..Setting::default()
    })
    .await;
    (world, clock)
}

/// A call whose answer has `output` words, of at most `most`.
fn ask(world: &World, operation: &str, most: u64, output: u64) -> Ask {
    let text = "lorem ipsum dolor sit amet consetetur sadipscing elitr sed diam ".repeat(10);
    let body = json!({ "messages": [{ "role": "user", "content": [{ "text": text }] }], "inferenceConfig": { "maxTokens": most } });
    Ask::post(&format!("/model/{SONNET}/{operation}"), body.to_string()).token(&world.token).fault(&format!("words-{output}"))
}

fn used(world: &World) -> QuotaUse {
    world.emulator.quota_use().get(SONNET).copied().unwrap_or_default()
}

/// When to ask again, by the refusal's own word.
fn wait(answer: &Answer) -> Duration {
    Duration::from_millis(answer.header("retry-after-ms").expect("a refusal says when").parse().unwrap())
}

/// Calls, one after another, until one is refused; how many were answered, and the refusal.
async fn until_refused(world: &World, client: &mut Client, number: u64) -> (u64, Answer) {
    let mut answered = 0;
    loop {
        let dice = number * 7 + answered * 13;
        let most = 60 + dice * 37 % 240;
        let output = if dice.is_multiple_of(3) { most } else { most / (1 + dice % 4) };
        let operation = if number.is_multiple_of(2) { "converse" } else { "converse-stream" };
        let answer = client.call(&ask(world, operation, most, output)).await;
        if answer.status != 200 {
            return (answered, answer);
        }
        answered += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_are_never_throttled_by_bedrock_and_use_more_than_95_percent_of_the_quota() {
    const A_MINUTE: u64 = 300_000;
    const SECONDS: u64 = 30;
    let (world, clock) = account("tpm: 300000, rpm: 100000", Quota::a_minute(Some(A_MINUTE), Some(100_000))).await;
    let mut clients: Vec<Client> = Vec::new();
    for at in 0..8 {
        clients.push(Client::connect(&world, if at % 4 < 2 { Way::Http1 } else { Way::H2c }).await);
    }
    let (mut answered, mut refused) = (0, 0);
    for round in 0..=SECONDS / 3 {
        let all = clients.iter_mut().zip(0..).map(|(client, number)| until_refused(&world, client, number + round * 8));
        for (calls, refusal) in join_all(all).await {
            let error = refusal.json();
            assert_eq!(refusal.status, 429, "{error}");
            assert_eq!(refusal.header("x-amzn-errortype"), Some("ThrottlingException"));
            assert!(error["message"].as_str().unwrap().contains("the account's quota at Bedrock"), "the gateway's, not Bedrock's: {error}");
            assert!(wait(&refusal) > Duration::ZERO);
            answered += calls;
            refused += 1;
        }
        if round < SECONDS / 3 {
            clock.advance(Duration::from_secs(3));
        }
    }
    world.until_idle().await;
    let used = used(&world);
    assert_eq!((used.throttled, used.requests), (0, answered), "{used:?}, and {refused} were refused");
    assert!(used.most_beyond > 0, "some calls came to more than Bedrock had reserved for them");
    let most = A_MINUTE + A_MINUTE * SECONDS / 60;
    assert!(used.tokens * 100 >= most * 95, "{} of {most}", used.tokens);
    assert!(used.tokens <= most, "{} of {most}", used.tokens);

    let labels = r#"limit="upstream emulator cross-region tokens",upstream="emulator",model="anthropic.claude-sonnet-4-5-20250929-v1:0""#;
    assert_eq!(world.metric(&format!("tollgate_upstream_quota_capacity{{{labels}}}")), 294_000.0);
    assert!(world.metric(&format!("tollgate_upstream_quota_remaining{{{labels}}}")) < 3_000.0);
    let refusals = world.metric(r#"tollgate_limit_refusals_total{limit="upstream emulator cross-region tokens"}"#);
    assert_eq!(refusals, f64::from(refused));
    let lines: Vec<Value> = log(&world).await;
    let ours = lines.iter().filter(|line| line["limit"] == "upstream emulator cross-region tokens").count();
    assert_eq!(ours, usize::try_from(refused).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_call_passes_when_its_refusal_said_so_and_not_before() {
    let (world, clock) = account("tpm: 9000, headroom: 0%", Quota::a_minute(Some(9_000), None)).await;
    let ask = ask(&world, "converse", 1_000, 900);
    let first = call(&world, Way::Http1, &ask).await;
    assert_eq!(first.status, 200);
    let refused = call(&world, Way::Http1, &ask).await;
    assert_eq!(refused.status, 429);
    let wait = wait(&refused);
    clock.advance(wait.checked_sub(Duration::from_millis(2)).unwrap());
    assert_eq!(call(&world, Way::Http1, &ask).await.status, 429);
    clock.advance(Duration::from_millis(2));
    assert_eq!(call(&world, Way::Http1, &ask).await.status, 200);
    assert_eq!(used(&world).throttled, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_too_and_a_call_waits_where_the_quota_says_so() {
    let (world, clock) = account("rpm: 2, wait: 60s, headroom: 0%", Quota::a_minute(None, Some(2))).await;
    let ask = ask(&world, "converse", 100, 10);
    for _ in 0..2 {
        assert_eq!(call(&world, Way::Http1, &ask).await.status, 200);
    }
    let waits = async {
        eventually("it waits", || world.gateway.live().buckets.waiting() == 1).await;
        assert_eq!(used(&world).requests, 2);
        clock.advance(Duration::from_secs(30));
    };
    let (answer, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(call(&world, Way::Http1, &ask), waits) }).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!((used(&world).requests, used(&world).throttled), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quota_the_emulator_throttles_as_bedrock_does() {
    let world = World::build(Setting {
        emulator: Options { quotas: vec![Quota::a_minute(Some(1_000), None)], ..Options::default() },
        ..Setting::default()
    })
    .await;
    let answer = call(&world, Way::Http1, &ask(&world, "converse", 2_000, 10)).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-amzn-errortype")), (429, Some("ThrottlingException")));
    assert_eq!(answer.json()["message"], "Too many tokens, please wait before trying again.");
    assert_eq!((used(&world).throttled, used(&world).requests), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_refusal_by_the_account_took_of_the_tenants_own_limits_is_given_back() {
    let clock = ManualClock::starting_at(SystemTime::now());
    let world = World::build(Setting {
        yaml: "limits: [{ name: rpm, count: requests, rate: 600/minute, burst: 5 }]".to_owned(),
        upstream: "quotas: [{ models: ['*'], rpm: 1, headroom: 0% }]".to_owned(),
        emulator: Options { clock: Clock::Manual(clock.clone()), ..Options::default() },
        clock: Some(clock),
        ..Setting::default()
    })
    .await;
    let ask = ask(&world, "converse", 100, 10);
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(call(&world, Way::Http1, &ask).await.status.as_u16());
    }
    assert_eq!(answers, [200, 429, 429, 429, 429, 429, 429, 429, 429, 429]);
    world.until_idle().await;
    assert_eq!(world.metric(r#"tollgate_limit_remaining{limit="rpm"}"#), 4.0);
}
