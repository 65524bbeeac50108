//! Whose address a client's is, and how many connections it may have.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use tokio::net::TcpStream;

use crate::client::{Raw, eventually, h2_call, h2_over};
use crate::proxy_protocol::connect_from;
use crate::record::log;
use crate::wire::{ECHO, both};
use crate::world::{World, world};

fn get(world: &World, extra: &str) -> String {
    format!("GET {ECHO}/x HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n{extra}\r\n", world.token)
}

async fn last_client(world: &World) -> String {
    world.until_idle().await;
    log(world).await.last().unwrap()["client"].as_str().unwrap().to_owned()
}

async fn served(raw: &mut Raw, world: &World) -> bool {
    raw.try_send(get(world, "")).await && raw.try_answer().await.is_some_and(|answer| answer.status == StatusCode::OK)
}

const TURNED_AWAY: &str = "tollgate_client_connections_turned_away_total";

#[tokio::test(flavor = "multi_thread")]
async fn x_forwarded_for_is_believed_from_trusted_proxies_only() {
    let world = world(
        "
record: { access_log: { to: access.log } }
listeners:
  - { address: '127.0.0.1:0', trusted_proxies: [127.0.0.1, 10.0.0.0/8] }
  - { address: '127.0.0.1:0' }
",
    )
    .await;
    for (forwarded, client) in [
        ("198.51.100.1", "198.51.100.1"),
        ("203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("203.0.113.9, 198.51.100.1, 10.1.2.3", "198.51.100.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("not an address", "127.0.0.1"),
    ] {
        // The balancer's word.
        for answer in both(&world, &Method::GET, &format!("{ECHO}/x"), &[("x-forwarded-for", forwarded)], "").await {
            assert_eq!(answer.status, StatusCode::OK);
        }
        world.until_idle().await;
        let lines = log(&world).await;
        assert!(lines[lines.len() - 2..].iter().all(|line| line["client"] == client), "{forwarded}: {lines:#?}");
        // A stranger's, and one on a listener that trusts nobody.
        let (stranger, untrusting) = (connect_from("127.0.0.2", world.plain).await, TcpStream::connect(world.tls).await.unwrap());
        for (stream, expected) in [(stranger, "127.0.0.2"), (untrusting, "127.0.0.1")] {
            let mut raw = Raw::over(stream);
            raw.send(get(&world, &format!("X-Forwarded-For: {forwarded}\r\nForwarded: for={forwarded}\r\nX-Real-IP: 192.0.2.9\r\n"))).await;
            assert_eq!(raw.answer().await.status, StatusCode::OK);
            assert_eq!(last_client(&world).await, expected, "{forwarded}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_are_told_apart_by_the_clients_own_address() {
    let world =
        world("firewall: { flood: { rate: 1/second } }\nlisteners: [{ address: '127.0.0.1:0', trusted_proxies: [127.0.0.1] }, { address: '127.0.0.1:0' }]")
            .await;
    let mut raw = Raw::connect(world.plain).await;
    for client in 1..100 {
        raw.send(get(&world, &format!("X-Forwarded-For: 198.51.100.{client}\r\n"))).await;
        assert_eq!(raw.answer().await.status, StatusCode::OK, "each has a second of its own");
    }
    let mut raw = Raw::connect(world.tls).await;
    let mut refused = false;
    for client in 1..100 {
        raw.send(get(&world, &format!("X-Forwarded-For: 198.51.100.{client}\r\n"))).await;
        refused |= raw.answer().await.status == StatusCode::TOO_MANY_REQUESTS;
    }
    assert!(refused, "one client, whatever it writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_max_connections_a_connection_is_closed_at_once_and_one_that_ends_makes_room() {
    let world = world("listeners: [{ address: '127.0.0.1:0', max_connections: 3 }, { address: '127.0.0.1:0' }]").await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(world.plain).await;
        assert!(served(&mut raw, &world).await);
        held.push(raw);
    }
    // The third speaks HTTP/2, the bound is for connections.
    let (mut h2, _driven) = h2_over(TcpStream::connect(world.plain).await.unwrap()).await;
    for _ in 0..5 {
        let request = Request::get(format!("https://gateway{ECHO}/x")).header("authorization", format!("Bearer {}", world.token));
        assert_eq!(h2_call(&mut h2, request.body(()).unwrap(), Bytes::new()).await.status, StatusCode::OK);
    }
    assert_eq!(world.metric("tollgate_client_connections"), 3.0);
    for _ in 0..4 {
        let mut more = Raw::connect(world.plain).await;
        assert_eq!(more.answer().await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(more.is_ended().await);
    }
    assert_eq!(world.metric(&format!(r#"{TURNED_AWAY}{{reason="full"}}"#)), 4.0);
    assert!(served(&mut held[0], &world).await, "those that are there go on");
    assert!(served(&mut Raw::connect(world.tls).await, &world).await, "another listener has room of its own");

    drop(held);
    eventually("their places are free", || world.metric("tollgate_client_connections") <= 1.0).await;
    assert!(served(&mut Raw::connect(world.plain).await, &world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_connections_and_another_has_its_own() {
    let world = world(
        "
listeners:
  - { address: '127.0.0.1:0', max_connections_per_address: 2 }
  - { address: '127.0.0.1:0', max_connections_per_address: 2, trusted_proxies: [127.0.0.1] }
",
    )
    .await;
    let mut held = Vec::new();
    for source in ["127.0.0.1", "127.0.0.1", "127.0.0.2"] {
        let mut raw = Raw::over(connect_from(source, world.plain).await);
        assert!(served(&mut raw, &world).await);
        held.push(raw);
    }
    for _ in 0..3 {
        assert!(Raw::connect(world.plain).await.is_ended().await);
    }
    // A connection is closed before it is counted.
    eventually("all three are counted", || world.metric(&format!(r#"{TURNED_AWAY}{{reason="address_full"}}"#)) == 3.0).await;
    let mut raw = Raw::over(connect_from("127.0.0.2", world.plain).await);
    assert!(served(&mut raw, &world).await);

    drop(held.remove(0));
    eventually("its place is free", || world.metric("tollgate_client_connections") == 3.0).await;
    assert!(served(&mut Raw::connect(world.plain).await, &world).await);

    // A trusted proxy brings many clients.
    let mut proxied = Vec::new();
    for _ in 0..5 {
        let mut raw = Raw::connect(world.tls).await;
        assert!(served(&mut raw, &world).await);
        proxied.push(raw);
    }
}
