//! Clients that try to get more than their limits give them.

use futures_util::future::join_all;
use serde_json::{Value, json};

use tollgate::emulator::Bill;

use crate::client::Answer;
use crate::downstream::{Ask, Client, Way, call, open};
use crate::world::{World, world};

const NOVA: &str = "amazon.nova-lite-v1:0";

fn says(text: &str, most: Option<u64>) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": [{ "text": text }] }] });
    if let Some(most) = most {
        body["inferenceConfig"] = json!({ "maxTokens": most });
    }
    body
}

fn converse(model: &str, operation: &str, body: &Value, token: &str) -> Ask {
    Ask::post(&format!("/model/{model}/{operation}"), body.to_string()).token(token)
}

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap().to_owned()
}

async fn remaining(world: &World, limit: &str) -> f64 {
    world.until_idle().await;
    world.metric(&format!("tollgate_limit_remaining{{limit=\"{limit}\"}}"))
}

fn billed(bill: &Bill) -> f64 {
    f64::from(u32::try_from(bill.usage.input + bill.usage.output).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_breaks_off_before_the_usage_is_told_pays_for_what_was_delivered() {
    for way in [Way::Http1, Way::H2c] {
        let world = world("limits: [{ name: daily, count: tokens, quota: 1000/day, reserve: 1 }]").await;
        let mut calls = 0;
        loop {
            let ask = converse(NOVA, "converse-stream", &says("one", None), &world.token).fault("words-500, gated");
            let mut answer = open(&world, way, &ask).await;
            if answer.status != 200 {
                break;
            }
            // The start and a hundred words; never the end.
            world.emulator.release(102);
            let mut seen = Vec::new();
            while seen.windows(17).filter(|window| *window == b"contentBlockDelta").count() < 100 {
                seen.extend(answer.piece().await.unwrap().expect("the stream goes on"));
            }
            drop(answer.leave());
            world.until_idle().await;
            calls += 1;
            assert!(calls <= 10, "{way:?}: 1,000 tokens were delivered, and the budget was 1,000");
        }
        assert!(calls >= 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_could_never_fit_is_refused_at_once_and_costs_nobody_anything() {
    let world =
        world("limits: [{ name: tpm, count: tokens, rate: 10000/minute }, { name: rpm, count: requests, rate: 600/minute, burst: 5 }]")
            .await;
    for most in [10_001, 1_000_000_000, u64::MAX] {
        let answer = call(&world, Way::Http1, &converse(NOVA, "converse", &says("one", Some(most)), &world.token)).await;
        assert_eq!((answer.status.as_u16(), code(&answer)), (400, "asks_too_much".to_owned()), "{most}");
        assert_eq!(answer.header("x-amzn-errortype"), Some("ValidationException"));
    }
    assert_eq!((remaining(&world, "tpm").await, remaining(&world, "rpm").await), (10_000.0, 5.0));
    assert_eq!(world.emulator.bills().len(), 0);
    let answer = call(&world, Way::Http1, &converse(NOVA, "converse", &says("one", Some(9_000)), &world.token)).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_without_max_tokens_pass_no_limit() {
    let world = world("limits: [{ name: daily, count: tokens, quota: 10000/day, reserve: 500 }]").await;
    let ask = converse(NOVA, "converse", &says("one", None), &world.token).fault("words-400");
    let answers = join_all((0..100).map(|at| call(&world, if at % 2 == 0 { Way::Http1 } else { Way::H2c }, &ask))).await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((10..=24).contains(&passed), "{passed} of 401 tokens each, within 10,000");
    let used = 10_000.0 - remaining(&world, "daily").await;
    let billed: f64 = world.emulator.bills().iter().map(billed).sum();
    assert_eq!(used, billed, "what is left is what was not billed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_has_one_budget_however_it_is_spelt() {
    let world = world("limits: [{ name: model, count: requests, quota: 20/day, per: [tenant, model] }]").await;
    let haiku = "anthropic.claude-3-haiku-20240307-v1:0";
    let mut spellings = vec![
        haiku.to_owned(),
        haiku.replace(':', "%3A"),
        haiku.replace('a', "%61"),
        haiku.to_uppercase(),
        format!("arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2F{haiku}"),
        format!("arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.{haiku}"),
    ];
    for geography in ["us", "eu", "apac", "global", "jp", "au", "ca", "zz"] {
        spellings.push(format!("{geography}.{haiku}"));
        spellings.push(format!("{}.{}", geography.to_uppercase(), haiku.replace('-', "%2D")));
    }
    let asks = (0..1_000).map(|at| converse(&spellings[at % spellings.len()], "converse", &says("one", Some(5)), &world.token));
    let mut refused = 0;
    let mut client = Client::connect(&world, Way::H2c).await;
    for ask in asks {
        let answer = client.call(&ask).await;
        if answer.status == 400 && code(&answer) == "budget_spent" {
            refused += 1;
        }
    }
    assert_eq!(refused, 980, "of a thousand spellings, twenty pass");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_takes_nothing_from_any_limit() {
    let world = world(
        "limits: [{ name: a, count: requests, quota: 100/day }, { name: b, count: tokens, quota: 1000/day }, \
         { name: c, count: concurrency, max: 10 }, { name: d, count: requests, quota: 2/day }]",
    )
    .await;
    let ask = converse(NOVA, "converse", &says("one", Some(10)), &world.token);
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(call(&world, Way::Http1, &ask).await.status.as_u16());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2);
    assert_eq!((remaining(&world, "a").await, remaining(&world, "c").await, remaining(&world, "d").await), (98.0, 10.0, 0.0));
    let billed: f64 = world.emulator.bills().iter().map(billed).sum();
    assert_eq!(remaining(&world, "b").await, 1000.0 - billed);
}
