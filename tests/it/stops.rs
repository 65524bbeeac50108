//! The kill switch: what an operator stops is refused at once, and everyone else goes on.

use std::net::SocketAddr;

use http::StatusCode;
use serde_json::{Value, json};

use crate::admin::get;
use crate::binary::{Binary, text, tollgate};
use crate::client::{Answer, PATIENCE, Raw, call as raw_call, converse, eventually};
use crate::downstream::{Ask, Client, Way, call, open};
use crate::record::log;
use crate::streams::streams;
use crate::world::{ISSUED, World, jwt, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const OTHER: &str = "/model/anthropic.claude-3-haiku-20240307-v1:0/converse";
const STREAM: &str = "/model/amazon.nova-pro-v1:0/converse-stream";

fn token(world: &World, tenant: &str) -> String {
    world.token_with(&json!({ "tenant": tenant, "sub": "someone" }))
}

fn ask(world: &World, tenant: &str, path: &str) -> Ask {
    Ask::post(path, converse("one two")).token(&token(world, tenant))
}

async fn send(admin: SocketAddr, head: &str, body: &str) -> Answer {
    raw_call(admin, format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())).await
}

async fn stop(admin: SocketAddr, what: &Value) -> Answer {
    send(admin, "POST /stops HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json", &what.to_string()).await
}

async fn lift(admin: SocketAddr, query: &str) -> Answer {
    send(admin, &format!("DELETE /stops?{query} HTTP/1.1\r\nhost: localhost"), "").await
}

#[track_caller]
fn is_stopped(answer: &Answer, what: &str) {
    let told = String::from_utf8_lossy(&answer.body);
    assert_eq!((answer.status, answer.header("x-amzn-errortype")), (StatusCode::FORBIDDEN, Some("AccessDeniedException")), "{told}");
    assert_eq!((answer.header("x-should-retry"), answer.header("retry-after")), (Some("false"), None));
    let body = answer.json();
    assert_eq!(body["error"]["code"], "stopped");
    let message = body["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("{what} is stopped by the operator since 20")), "{message}");
    assert!(!message.contains("secret reason"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_a_model_and_a_route_are_stopped_and_lifted_and_all_others_go_on() {
    let routes = "routes: [{ name: rest, to: [{ upstream: emulator }] }]";
    let world = world(&format!("{routes}\nrecord: {{ access_log: {{ to: access.log }} }}")).await;
    let admin = world.gateway.admin();
    let in_body = json!({ "model": "amazon.nova-lite-v1:0", "messages": [{ "role": "user", "content": "one" }] });
    for (what, query, named, stopped, goes_on) in [
        (
            json!({ "tenant": "acme" }),
            "tenant=acme",
            "tenant `acme`",
            vec![ask(&world, "acme", CONVERSE), ask(&world, "acme", OTHER), ask(&world, "acme", STREAM)],
            vec![ask(&world, "acme2", CONVERSE), ask(&world, "Acme", CONVERSE)],
        ),
        (
            json!({ "model": "Amazon.nova-lite*" }),
            "model=amazon.nova-LITE*",
            "model `amazon.nova-lite*`",
            vec![
                ask(&world, "acme", CONVERSE),
                ask(&world, "other", "/model/us.amazon.nova-lite-v1:0/converse"),
                ask(&world, "other", "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Famazon.nova-lite-v1%3A0/converse"),
                Ask::post("/openai/v1/chat/completions", in_body.to_string()).token(&token(&world, "acme")),
            ],
            vec![ask(&world, "acme", OTHER), ask(&world, "acme", "/model/amazon.nova-pro-v1:0/converse")],
        ),
        (json!({ "route": "rest" }), "route=rest", "route `rest`", vec![ask(&world, "acme", OTHER)], vec![]),
    ] {
        let mut asked = what.clone();
        asked["reason"] = json!("secret reason");
        let made = stop(admin, &asked).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.json());
        let before = world.emulator.requests().len();
        for way in Way::ALL {
            for ask in &stopped {
                is_stopped(&call(&world, way, ask).await, named);
            }
        }
        assert_eq!(world.emulator.requests().len(), before, "{named}: the upstream saw none of it");
        for ask in &goes_on {
            assert_eq!(call(&world, Way::Http1, ask).await.status, StatusCode::OK, "{named}");
        }
        let told = get(admin, "/live.json").await.json();
        assert_eq!((&told["stopped"], &told["stops"][0]["reason"]), (&json!(1), &json!("secret reason")), "{told}");
        world.until_idle().await;
        let kind = what.as_object().unwrap().keys().next().unwrap();
        assert_eq!(world.metric(&format!("tollgate_stops{{kind=\"{kind}\"}}")), 1.0);
        assert_eq!(lift(admin, query).await.status, StatusCode::OK);
        assert_eq!(world.metric("tollgate_stops"), 0.0);
        assert_eq!(lift(admin, query).await.status, StatusCode::NOT_FOUND);
        for ask in stopped.iter().filter(|ask| !ask.wire().windows(7).any(|bytes| bytes == b"/openai")) {
            assert_eq!(call(&world, Way::Http1, ask).await.status, StatusCode::OK, "{named} is lifted");
        }
    }
    world.until_idle().await;
    assert_eq!(world.metric(r#"tollgate_refusals_total{reason="stopped"}"#), 4.0 * 8.0);
    let lines = log(&world).await;
    let refused: Vec<_> = lines.iter().filter(|line| line["reason"] == "stopped").collect();
    assert_eq!(refused.len(), 32);
    assert!(refused.iter().all(|line| line["tenant"].is_string() && line["status"] == 403 && line["upstream"].is_null()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_stopped_for_all_or_for_one_tenant_also_where_the_body_must_prove_it() {
    let world = world(&format!("identity:\n{ISSUED}\nrecord: {{ access_log: {{ to: access.log }} }}")).await;
    let admin = world.gateway.admin();
    let body = converse("one");
    let signed = || crate::inbound::ask(crate::inbound::CONVERSE, &crate::inbound::signed(&world, &body), &body);
    let by_api_key = || Ask::post(CONVERSE, body.clone()).token(&world.api_key);
    assert_eq!(call(&world, Way::Http1, &by_api_key()).await.status, StatusCode::OK);
    world.until_idle().await;
    let key = log(&world).await[0]["key_id"].as_str().unwrap().to_owned();
    assert!(!world.api_key.is_empty() && key != world.api_key);

    assert_eq!(stop(admin, &json!({ "key": key, "tenant": "another" })).await.status, StatusCode::CREATED);
    assert_eq!(call(&world, Way::Http1, &by_api_key()).await.status, StatusCode::OK, "another tenant's");
    assert_eq!(stop(admin, &json!({ "key": key })).await.status, StatusCode::CREATED);
    is_stopped(&call(&world, Way::H2c, &by_api_key()).await, &format!("key `{key}`"));
    assert_eq!(call(&world, Way::Http1, &signed()).await.status, StatusCode::OK, "another key of the same tenant");

    let id = &world.access_key_id;
    assert_eq!(stop(admin, &json!({ "key": id, "tenant": "demo", "message": "Ask ops." })).await.status, StatusCode::CREATED);
    for way in Way::ALL {
        let answer = call(&world, way, &signed()).await;
        is_stopped(&answer, &format!("key `{id}` of tenant `demo`"));
        assert!(answer.json()["message"].as_str().unwrap().ends_with("Z: Ask ops."), "{}", answer.json());
    }
    // Whoever only claims to be someone learns nothing of them.
    let forged = crate::inbound::ask(crate::inbound::CONVERSE, &crate::inbound::signed(&world, b"{}"), &body);
    assert_eq!(call(&world, Way::Http1, &forged).await.header("x-amzn-errortype"), Some("InvalidSignatureException"));
    assert_eq!(lift(admin, &format!("key={key}")).await.status, StatusCode::OK);
    assert_eq!(call(&world, Way::Http1, &by_api_key()).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_callers_body_is_not_read() {
    let world = world("").await;
    assert_eq!(stop(world.gateway.admin(), &json!({ "tenant": "acme" })).await.status, StatusCode::CREATED);
    let mut raw = Raw::connect(world.plain).await;
    let token = token(&world, "acme");
    raw.send(format!("POST {CONVERSE} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\nContent-Length: 1000000\r\n\r\n{{"))
        .await;
    is_stopped(&raw.answer().await, "tenant `acme`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_for_its_turn_is_refused_when_it_is_stopped_and_those_behind_it_wait_on() {
    let rule = "limits: [{ name: in-flight, count: concurrency, max: 1, per: global, wait: 60s, queue: 20 }]";
    for way in Way::ALL {
        let world = world(rule).await;
        let mut held = open(&world, Way::Http1, &ask(&world, "holder", STREAM).fault("gated")).await;
        let waiting = || world.gateway.live().buckets.waiting();
        let stopped = Client::connect(&world, way).await.send(&ask(&world, "acme", CONVERSE)).await;
        eventually("it waits", || waiting() == 1).await;
        let staying = Client::connect(&world, way).await.send(&ask(&world, "other", CONVERSE)).await;
        eventually("both wait", || waiting() == 2).await;
        assert_eq!(stop(world.gateway.admin(), &json!({ "tenant": "acme" })).await.status, StatusCode::CREATED);
        let refused = tokio::time::timeout(PATIENCE, stopped.head()).await.expect("an answer within 30 s");
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        eventually("the other waits on", || waiting() == 1).await;
        world.emulator.release(1_000);
        held.rest().await.1.unwrap();
        assert_eq!(staying.head().await.status, StatusCode::OK, "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_body_comes_while_it_is_stopped_is_refused() {
    let world = world("").await;
    let (token, body) = (token(&world, "acme"), converse("one"));
    let mut raw = Raw::connect(world.plain).await;
    let head =
        format!("POST {CONVERSE} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n", body.len());
    raw.send(head).await;
    eventually("it is under way", || world.metric("tollgate_in_flight") == 1.0).await;
    assert_eq!(stop(world.gateway.admin(), &json!({ "tenant": "acme" })).await.status, StatusCode::CREATED);
    raw.send(body).await;
    is_stopped(&raw.answer().await, "tenant `acme`");
    assert_eq!(world.emulator.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_in_a_browser_and_no_form_can_stop_or_lift() {
    const JSON: &str = "content-type: application/json";
    let world = world("").await;
    let admin = world.gateway.admin();
    let body = json!({ "tenant": "demo" }).to_string();
    assert_eq!(stop(admin, &json!({ "tenant": "acme" })).await.status, StatusCode::CREATED);
    for (headers, expected) in [
        (format!("host: localhost\r\n{JSON}\r\norigin: https://evil.example"), StatusCode::FORBIDDEN),
        (format!("host: localhost\r\n{JSON}\r\norigin: http://localhost:9090"), StatusCode::FORBIDDEN),
        (format!("host: localhost\r\n{JSON}\r\nsec-fetch-site: same-origin"), StatusCode::FORBIDDEN),
        (format!("host: rebound.example.com\r\n{JSON}"), StatusCode::FORBIDDEN),
        ("host: localhost\r\ncontent-type: text/plain".to_owned(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("host: localhost".to_owned(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        assert_eq!(send(admin, &format!("POST /stops HTTP/1.1\r\n{headers}"), &body).await.status, expected, "{headers}");
        if expected == StatusCode::FORBIDDEN {
            assert_eq!(send(admin, &format!("DELETE /stops?tenant=acme HTTP/1.1\r\n{headers}"), "").await.status, expected);
        }
    }
    let put = send(admin, "PUT /stops HTTP/1.1\r\nhost: localhost", "").await;
    assert_eq!((put.status, put.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD, POST, DELETE")));
    let wrong = stop(admin, &json!({ "route": "mian" })).await;
    assert_eq!(
        (wrong.status, wrong.json()["message"].as_str().unwrap().starts_with("there is no route `mian`; there ")),
        (StatusCode::BAD_REQUEST, true)
    );
    let told = get(admin, "/stops").await.json();
    assert_eq!((told["stops"].as_array().map(Vec::len), &told["stops"][0]["tenant"]), (Some(1), &json!("acme")), "{told}");
}

fn yaml(world: &World, ledger: &str) -> String {
    let upstream = crate::scripted::upstream(&format!("http://{}", world.emulator.address()), "");
    format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nrecord: {{ access_log: off, {ledger} }}\n{}\n{upstream}",
        jwt()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_on_the_command_line_outlives_a_kill_and_is_lifted_by_the_same_words() {
    let world = world("").await;
    let text_of = yaml(&world, "ledger: ledger.sqlite");
    let binary = Binary::run(&world.dir, &text_of, &[]).await;
    let run = async |admin: SocketAddr, arguments: &[&str]| {
        let admin = format!("http://{admin}");
        let output = tollgate(&world.dir, &[&["stop"], arguments, &["--admin", &admin]].concat()).await;
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    assert_eq!(run(binary.admin, &["list"]).await, "nothing is stopped\n");
    let said = run(binary.admin, &["--tenant", "demo", "--reason", "key leaked", "--message", "Ask ops."]).await;
    assert!(said.starts_with("tenant `demo` is stopped since 20") && said.lines().count() == 1, "{said}");
    let wire = Ask::post(CONVERSE, converse("one")).token(&world.token).wire();
    is_stopped(&raw_call(binary.listeners[0], wire.clone()).await, "tenant `demo`");
    binary.kill().await;

    let binary = Binary::run(&world.dir, &text_of, &[]).await;
    let answer = raw_call(binary.listeners[0], wire.clone()).await;
    is_stopped(&answer, "tenant `demo`");
    assert!(answer.json()["message"].as_str().unwrap().ends_with(": Ask ops."));
    let listed = run(binary.admin, &["list"]).await;
    assert!(listed.lines().nth(1).is_some_and(|line| line.starts_with("demo") && line.contains("key leaked")), "{listed}");
    let said = run(binary.admin, &["lift", "--tenant", "demo"]).await;
    assert!(said.starts_with("tenant `demo` goes on; it was stopped since 20"), "{said}");
    assert_eq!(raw_call(binary.listeners[0], wire.clone()).await.status, StatusCode::OK);
    let nothing = tollgate(&world.dir, &["stop", "--admin", &format!("http://{}", binary.admin)]).await;
    assert!(!nothing.status.success() && text(&nothing.stderr).contains("say one of"), "{}", text(&nothing.stderr));
    let events = binary.stop().await;
    assert!(
        events.contains("calls are stopped") && events.contains("an operator lifted a stop") && events.contains("\"by\":\"127.0.0.1:"),
        "{events}"
    );
    let binary = Binary::run(&world.dir, &text_of, &[]).await;
    assert_eq!(raw_call(binary.listeners[0], wire).await.status, StatusCode::OK, "lifted is lifted");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ledger_a_stop_works_at_once_and_is_said_to_end_with_the_process() {
    let world = world("").await;
    let text_of = yaml(&world, "");
    let binary = Binary::run(&world.dir, &text_of, &[]).await;
    let admin = format!("http://{}", binary.admin);
    let output = tollgate(&world.dir, &["stop", "--tenant", "demo", "--admin", &admin]).await;
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains("it ends when the gateway does: there is no ledger"), "{said}");
    let wire = Ask::post(CONVERSE, converse("one")).token(&world.token).wire();
    is_stopped(&raw_call(binary.listeners[0], wire.clone()).await, "tenant `demo`");
    let events = binary.stop().await;
    assert!(events.contains("an operator stopped calls") && events.contains("a stop ends with the process"), "{events}");
    let binary = Binary::run(&world.dir, &text_of, &[]).await;
    assert_eq!(raw_call(binary.listeners[0], wire).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_writes_into_the_ledger_is_stopped_here_within_a_second_or_so() {
    let world = world("record: { access_log: off, ledger: ledger.sqlite }").await;
    let mut changes = world.gateway.live().stops.changes();
    let other = rusqlite::Connection::open(world.dir.join("ledger.sqlite")).unwrap();
    other.execute("INSERT INTO stops VALUES ('tenant', 'acme', '', 7, '', '')", []).unwrap();
    tokio::time::timeout(PATIENCE, changes.changed()).await.expect("a change within 30 s").unwrap();
    let answer = call(&world, Way::Http1, &ask(&world, "acme", CONVERSE)).await;
    assert!(answer.json()["message"].as_str().unwrap().contains("since 1970-01-01T00:00:07Z"), "{}", answer.json());
    assert_eq!(lift(world.gateway.admin(), "tenant=acme").await.status, StatusCode::OK);
    let left: i64 = other.query_row("SELECT count(*) FROM stops", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

/// Over each HTTP version and each kind of stream: a running stream ends well, by an exception of its own kind; the upstream is let go; and
/// another tenant's goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_stream_ends_with_the_stop_and_anothers_goes_on() {
    for way in Way::ALL {
        for (ask, content_type) in streams() {
            let world = world("record: { access_log: { to: access.log } }").await;
            world.emulator.release(2);
            let mut running = open(&world, way, &ask.clone().token(&token(&world, "acme")).fault("words-300,gated")).await;
            running.piece().await.unwrap().unwrap();
            let mut other = open(&world, way, &ask.clone().token(&token(&world, "other")).fault("words-300,gated")).await;
            assert_eq!(stop(world.gateway.admin(), &json!({ "tenant": "acme" })).await.status, StatusCode::CREATED);
            let (got, end) = tokio::time::timeout(PATIENCE, running.rest()).await.expect("an end within 30 s");
            assert_eq!(end, Ok(()), "{way:?} {content_type}: it ends well");
            let told = String::from_utf8_lossy(&got);
            assert!(told.contains("tenant `acme` is stopped by the operator since 20"), "{told}");
            // The upstream of the stopped one is let go: only the other's is left.
            eventually("the upstream is let go", || world.metric("tollgate_in_flight") == 1.0).await;
            world.emulator.release(1_000);
            let (_, end) = other.rest().await;
            assert_eq!(end, Ok(()), "another tenant's stream goes on to its end");
            world.until_idle().await;
            let lines = log(&world).await;
            let line = lines.iter().find(|line| line["tenant"] == "acme").unwrap();
            assert_eq!((&line["status"], &line["reason"], &line["complete"]), (&json!(200), &json!("stopped"), &json!(false)), "{line}");
            assert_eq!(world.metric(r#"tollgate_refusals_total{reason="stopped"}"#), 1.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_stream_ends_when_another_process_stops_it() {
    let world = world("record: { access_log: off, ledger: ledger.sqlite }").await;
    let (ask, _) = streams().into_iter().next().unwrap();
    world.emulator.release(2);
    let mut running = open(&world, Way::Http1, &ask.token(&token(&world, "acme")).fault("words-300,gated")).await;
    running.piece().await.unwrap().unwrap();
    let other = rusqlite::Connection::open(world.dir.join("ledger.sqlite")).unwrap();
    other.execute("INSERT INTO stops VALUES ('model', '*', '', 7, '', '')", []).unwrap();
    let (_, end) = tokio::time::timeout(PATIENCE, running.rest()).await.expect("an end within 30 s");
    assert_eq!(end, Ok(()));
}
