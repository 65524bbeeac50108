//! Who calls is told where they stand under the limits, and who runs the gateway is told when somebody's quota runs out.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use crate::admin::get;
use crate::client::{Answer, converse};
use crate::downstream::{Ask, Way, call};
use crate::scripted::Scripted;
use crate::world::{World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const STREAM: &str = "/model/amazon.nova-lite-v1:0/converse-stream";

fn ask(world: &World, path: &str) -> Ask {
    Ask::post(path, converse("one two")).token(&world.token)
}

/// `limit`, `remaining` and `reset` of what is counted; empty where they are not told.
fn told<'a>(answer: &'a Answer, what: &str) -> [&'a str; 3] {
    ["limit", "remaining", "reset"].map(|kind| answer.header(&format!("x-ratelimit-{kind}-{what}")).unwrap_or_default())
}

const NOTHING: [&str; 3] = [""; 3];

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_tells_what_is_left_of_the_tightest_rule_of_requests_and_of_tokens() {
    let world = world(
        "limits:\n\
         - { name: wide, count: requests, rate: 1000/hour, burst: 1000 }\n\
         - { name: tight, count: requests, rate: 1/hour, burst: 3 }\n\
         - { name: tpm, count: tokens, rate: 3600/hour, burst: 3600, reserve: 100 }\n\
         - { name: busy, count: concurrency, max: 5 }",
    )
    .await;
    for (number, way) in Way::ALL.into_iter().enumerate().take(2) {
        let path = [CONVERSE, STREAM][number % 2];
        let answer = call(&world, way, &ask(&world, path)).await;
        assert_eq!(answer.status, 200);
        let [limit, remaining, reset] = told(&answer, "requests");
        assert_eq!((limit, remaining), ("3", ["2", "1"][number]), "{path}");
        assert!(reset.ends_with('s') && reset.contains(['h', 'm']), "an hour or two until all are back: {reset}");
        let [limit, remaining, reset] = told(&answer, "tokens");
        assert_eq!(limit, "3600");
        assert!((3_000..3_600).contains(&remaining.parse::<u64>().unwrap()), "what may come is held: {remaining}");
        assert!(!reset.is_empty());
        world.until_idle().await;
    }
    call(&world, Way::Http1, &ask(&world, CONVERSE)).await;
    let refused = call(&world, Way::Http1, &ask(&world, CONVERSE)).await;
    assert_eq!((refused.status.as_u16(), &told(&refused, "requests")[..2]), (429, &["3", "0"][..]));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.header("x-should-retry"), None, "it passes later");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_counts_is_not_told_and_a_stranger_is_told_nothing() {
    let world = world("limits: [{ name: rpm, count: requests, rate: 10/minute, burst: 10 }]").await;
    let answer = call(&world, Way::Http1, &ask(&world, CONVERSE)).await;
    assert_eq!((told(&answer, "requests")[0], told(&answer, "tokens")), ("10", NOTHING));
    let stranger = call(&world, Way::Http1, &Ask::post(CONVERSE, converse("one"))).await;
    assert_eq!((stranger.status.as_u16(), told(&stranger, "requests")), (401, NOTHING));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_quota_says_not_to_ask_again_and_when_it_begins_anew() {
    let world = world(
        "limits: [{ name: daily, count: requests, quota: 1/day }, { name: big, count: tokens, rate: 100/minute, burst: 100, tenants: [limited] }]",
    )
    .await;
    assert_eq!(call(&world, Way::Http1, &ask(&world, CONVERSE)).await.status, 200);
    let spent = call(&world, Way::Http1, &ask(&world, CONVERSE)).await;
    assert_eq!((spent.status.as_u16(), spent.header("x-amzn-errortype")), (400, Some("ServiceQuotaExceededException")));
    assert_eq!((spent.header("x-should-retry"), spent.header("retry-after")), (Some("false"), None));
    assert_eq!(&told(&spent, "requests")[..2], ["1", "0"]);
    let large = Ask::post(CONVERSE, converse("one")).token(&world.limited_token);
    let large = call(&world, Way::Http1, &large).await;
    assert_eq!(
        (large.status.as_u16(), large.header("x-amzn-errortype")),
        (400, Some("ValidationException")),
        "4096 may come, and 100 is the most"
    );
    assert_eq!(large.header("x-should-retry"), Some("false"));
    world.until_idle().await;
    assert_eq!(world.metric(r#"tollgate_limit_refusals_total{limit="daily"}"#), 1.0);
    assert_eq!(world.metric(r#"tollgate_limit_refusals_total{limit="big"}"#), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_says_of_its_own_limits_gives_way_to_ours() {
    let scripted = Scripted::start("limits: [{ name: rpm, count: requests, rate: 10/minute, burst: 10 }]").await;
    let asked = ask(&scripted.world, CONVERSE);
    let answered = call(&scripted.world, Way::Http1, &asked);
    let served = async {
        let mut peer = scripted.accept().await;
        peer.request().await;
        peer.say(
            "HTTP/1.1 200 OK\r\nx-ratelimit-limit-requests: 7\r\nX-RateLimit-Remaining-Requests: 6\r\nx-ratelimit-limit-tokens: 5\r\n\
             Content-Length: 2\r\n\r\n{}",
        )
        .await;
        peer
    };
    let (answer, _peer) = tokio::join!(answered, served);
    assert_eq!((&told(&answer, "requests")[..2], told(&answer, "tokens")[0]), (&["10", "9"][..], "5"));
    assert_eq!(answer.headers.get_all("x-ratelimit-remaining-requests").iter().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_tells_what_is_left_to_a_caller_rule_by_rule() {
    let world = world(
        "limits:\n\
         - { name: rpm, count: requests, rate: 1/hour, burst: 5 }\n\
         - { name: mine, count: requests, quota: 10/day, per: [user] }\n\
         - { name: model, count: requests, rate: 1/hour, burst: 7, per: [tenant, model] }\n\
         - { name: all, count: requests, rate: 1/hour, burst: 9, per: global }",
    )
    .await;
    call(&world, Way::Http1, &ask(&world, CONVERSE)).await;
    world.until_idle().await;
    let left = async |query: &str| {
        let told = get(world.gateway.admin(), &format!("/limits?{query}")).await.json();
        let left = told["left"].as_array().unwrap_or_else(|| panic!("{told}"));
        left.iter().map(|at| format!("{} {} of {}", at["rule"].as_str().unwrap(), at["remaining"], at["capacity"])).collect::<Vec<_>>()
    };
    assert_eq!(left("tenant=demo").await, ["rpm 4 of 5", "all 8 of 9"]);
    assert_eq!(left("tenant=demo&user=alice").await, ["rpm 4 of 5", "mine 9 of 10", "all 8 of 9"]);
    assert_eq!(left("tenant=demo&user=bob").await, ["rpm 4 of 5", "mine 10 of 10", "all 8 of 9"]);
    assert_eq!(left("tenant=demo&model=amazon.nova-lite-v1:0").await, ["rpm 4 of 5", "model 6 of 7", "all 8 of 9"]);
    assert_eq!(left("tenant=other").await, ["rpm 5 of 5", "all 8 of 9"]);
    let mine = get(world.gateway.admin(), "/limits?tenant=demo&user=alice").await.json()["left"][1].clone();
    assert!(mine["ends"].as_str().is_some_and(|ends| ends.ends_with("T00:00:00Z")), "{mine}");
    assert!(mine["resets_in"].as_u64().is_some_and(|seconds| seconds <= 86_400), "{mine}");
}

/// A webhook that takes whatever is posted, and hands it on.
fn webhook() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/services/hunter2", listener.local_addr().unwrap());
    let (sender, posts) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut bytes, mut some) = (Vec::new(), [0; 4096]);
            let body = loop {
                let read = stream.read(&mut some).unwrap();
                assert!(read > 0, "a post came whole");
                bytes.extend_from_slice(&some[..read]);
                let text = String::from_utf8_lossy(&bytes);
                if let Some(body) = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok()) {
                    break body;
                }
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            if sender.send(body).is_err() {
                return;
            }
        }
    });
    (url, posts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_runs_out_is_told_once_a_share_to_the_webhook_and_the_metrics() {
    let (url, posts) = webhook();
    let world = world(&format!(
        "limits: [{{ name: daily, count: requests, quota: 4/day, warn_at: [50%, 75%] }}]\n\
         record: {{ access_log: off, webhook: '{url}' }}"
    ))
    .await;
    assert_eq!(world.metric(r#"tollgate_limit_warnings_total{limit="daily",percent="75"}"#), 0.0);
    for status in [200, 200, 200, 200, 400] {
        assert_eq!(call(&world, Way::Http1, &ask(&world, CONVERSE)).await.status, status);
    }
    let live = std::sync::Arc::clone(world.gateway.live());
    tokio::task::spawn_blocking(move || live.recorder.flush()).await.unwrap();
    let told: Vec<Value> = posts.try_iter().collect();
    let percents: Vec<&Value> = told.iter().map(|post| &post["percent"]).collect();
    assert_eq!(percents, [50, 75]);
    assert_eq!(
        (&told[0]["limit"], &told[0]["tenant"], &told[0]["used"], &told[0]["limit_amount"]),
        (&"daily".into(), &"demo".into(), &2.into(), &4.into())
    );
    assert!(
        told[0]["text"].as_str().unwrap().starts_with("Limit daily of tenant demo: more than 50% used (2 of 4 requests), until "),
        "{}",
        told[0]
    );
    for percent in [50, 75] {
        assert_eq!(world.metric(&format!(r#"tollgate_limit_warnings_total{{limit="daily",percent="{percent}"}}"#)), 1.0);
    }
    assert_eq!(world.metric(r#"tollgate_webhook_posts_total{outcome="sent"}"#), 2.0);
}
