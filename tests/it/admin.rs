//! What operators see of real traffic: the live page's figures, the ledger's, and the configuration.

use std::net::SocketAddr;

use http::StatusCode;
use serde_json::Value;
use tollgate::demo::SECRET_ACCESS_KEY;

use crate::client::{Answer, call, converse, post};
use crate::world::{World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";

pub(crate) async fn get(admin: SocketAddr, path: &str) -> Answer {
    call(admin, format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")).await
}

/// One call that is answered, and one that a limit refuses.
async fn traffic(world: &World, token: &str) {
    let request = post(CONVERSE, token, "", &converse("one two"));
    assert_eq!(call(world.plain, &request).await.status, StatusCode::OK);
    assert_eq!(call(world.plain, &request).await.status, StatusCode::TOO_MANY_REQUESTS);
    world.until_idle().await;
}

fn tenant<'a>(told: &'a Value, name: &str) -> &'a Value {
    let tenants = told["tenants"].as_array().unwrap();
    tenants.iter().find(|tenant| tenant["tenant"] == name).unwrap_or_else(|| panic!("no {name} in {told}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_usage_and_limits_tell_the_same_of_a_tenant_whatever_it_is_called() {
    const NAME: &str = "<img src=x onerror=alert(1)>";
    let world =
        world("record: { access_log: off, ledger: ledger.sqlite }\nlimits: [{ name: one, count: requests, rate: 1/hour, burst: 1 }]").await;
    let admin = world.gateway.admin();
    traffic(&world, &world.token_with(&serde_json::json!({ "tenant": NAME, "sub": "eve" }))).await;

    let told = get(admin, "/live.json").await.json();
    let eve = tenant(&told, NAME);
    assert_eq!((&eve["requests"], &eve["refused"], &told["in_flight"]), (&2.into(), &1.into(), &0.into()), "{told}");
    let one = &eve["limits"][0];
    assert_eq!((&one["rule"], &one["count"], &one["capacity"], &one["used"]), (&"one".into(), &"requests".into(), &1.into(), &1.into()));
    assert_eq!((&one["held"], &one["remaining"]), (&0.into(), &0.into()));
    assert_eq!((&told["refusals"]["rate_limited"], &told["attempts"]["answered"]), (&1.into(), &1.into()));
    assert_eq!(told["failovers"], 0);
    assert_eq!((&told["ready"], &told["ledger"]), (&true.into(), &true.into()));
    assert_eq!(told["overhead"]["counts"].as_array().unwrap().last(), Some(&2.into()), "{told}");

    let live = std::sync::Arc::clone(world.gateway.live());
    tokio::task::spawn_blocking(move || live.recorder.flush()).await.unwrap();
    let usage = get(admin, "/usage?by=tenant&since=1h").await.json();
    let [row] = usage["rows"].as_array().unwrap().as_slice() else { panic!("{usage}") };
    assert_eq!(row["tenant"], NAME);
    assert_eq!((&row["calls"], &row["refused"]), (&eve["requests"], &eve["refused"]), "{usage}");
    assert_eq!((&row["tokens"], &row["cost_usd"]), (&eve["tokens"], &eve["cost_usd"]), "{usage}\n{told}");
    assert_eq!(usage["total"]["calls"], 2);
    let nobody = get(admin, "/usage?tenant=nobody").await.json();
    assert_eq!((nobody["rows"].as_array().map(Vec::len), &nobody["total"]["calls"]), (Some(0), &0.into()));

    let page = String::from_utf8(get(admin, "/").await.body).unwrap();
    assert!(!page.contains("onerror"), "the page itself holds no figures");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_that_is_shown_holds_none_of_the_secrets_it_works_with() {
    let world = world("admin: { address: '127.0.0.1:0' }").await;
    let shown = get(world.gateway.admin(), "/config").await;
    assert_eq!(shown.status, StatusCode::OK);
    let shown = String::from_utf8(shown.body).unwrap();
    for key in ["listeners:", "admin:", "firewall:", "identity:", "policy:", "limits:", "upstreams:", "routes:", "record:"] {
        assert!(shown.lines().any(|line| line.starts_with(key)), "{key} in\n{shown}");
    }
    assert!(shown.contains("secret_access_key_file: ") && shown.contains("access_key_id: AKIDEXAMPLE"), "{shown}");
    for file in ["secret", "tls-key.pem", "key"] {
        let content = std::fs::read(world.dir.join(file)).unwrap();
        let content = String::from_utf8_lossy(&content);
        let line = content.lines().find(|line| !line.starts_with("-----")).unwrap();
        assert!(!shown.contains(line), "{file} in\n{shown}");
    }
    assert!(!shown.contains(SECRET_ACCESS_KEY) && !shown.contains(&world.token));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_comes_with_a_policy_and_another_site_gets_no_figures() {
    let world = world("").await;
    let admin = world.gateway.admin();
    let page = get(admin, "/").await;
    assert!(page.header("content-security-policy").unwrap().contains("script-src 'sha256-"));
    assert!(page.body.starts_with(b"<!doctype html>"));
    for headers in ["Host: rebound.example.com", "Host: localhost\r\nSec-Fetch-Site: cross-site"] {
        let refused = call(admin, format!("GET /live.json HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{headers}");
    }
}
