//! Past the bounds: a quick 503, and an admin listener that answers always.

use http::StatusCode;

use crate::admin::get;
use crate::binary::Binary;
use crate::client::{PATIENCE, Raw, converse, eventually, post};
use crate::downstream::{Ask, Client, Way, open};
use crate::world::world;

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const STREAM: &str = "/model/amazon.nova-lite-v1:0/converse-stream";

#[tokio::test(flavor = "multi_thread")]
async fn past_the_bound_on_requests_a_call_is_told_to_come_back_and_its_connection_serves_on() {
    let world = world("firewall: { max_requests: 2 }").await;
    let gated = Ask::post(STREAM, converse("one two")).token(&world.token).fault("gated");
    let mut held = [open(&world, Way::Http1, &gated).await, open(&world, Way::TlsHttp2, &gated).await];
    let mut clients = Vec::new();
    for way in Way::ALL {
        let mut client = Client::connect(&world, way).await;
        // Nothing of it is looked at: no credential is asked for.
        for ask in [Ask::post(CONVERSE, converse("one")).token(&world.token), Ask::get("/no/such"), Ask::post(CONVERSE, vec![b'x'; 50_000])]
        {
            let answer = client.call(&ask).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{way:?}");
            assert_eq!(answer.header("x-amzn-errortype"), Some("ServiceUnavailableException"));
            assert_eq!(answer.json()["error"]["code"], "overloaded");
            assert_eq!(answer.header("retry-after").map(|after| after == "1" || after == "2"), Some(true), "{:?}", answer.headers);
            let millis: u64 = answer.header("retry-after-ms").unwrap().parse().unwrap();
            assert!((1000..2000).contains(&millis), "{millis}");
        }
        clients.push((way, client));
    }
    world.emulator.release(1_000);
    for stream in &mut held {
        stream.rest().await.1.unwrap();
    }
    world.until_idle().await;
    for (way, mut client) in clients {
        let answer = client.call(&Ask::post(CONVERSE, converse("one")).token(&world.token)).await;
        assert_eq!(answer.status, StatusCode::OK, "{way:?}");
    }
    world.until_idle().await;
    assert_eq!(world.metric(r#"tollgate_refusals_total{reason="overloaded"}"#), 12.0);
    assert_eq!(world.gateway.live().requests.taken(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_connection_past_the_bound_is_told_so_and_one_of_tls_is_closed() {
    const TLS: &str = "tls: { certificates: [{ certificate: tls.pem, key: tls-key.pem }] }";
    let listeners =
        format!("listeners: [{{ address: '127.0.0.1:0', max_connections: 1 }}, {{ address: '127.0.0.1:0', max_connections: 1, {TLS} }}]");
    let world = world(&listeners).await;
    let _held = [Raw::connect(world.plain).await, Raw::connect(world.tls).await];
    eventually("both are held", || world.metric("tollgate_client_connections") == 2.0).await;
    for _ in 0..20 {
        let mut more = Raw::connect(world.plain).await;
        let answer = more.try_answer().await.expect("an answer to whatever it would ask");
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, Some("1")));
        assert_eq!((answer.header("connection"), answer.json()["__type"].as_str()), (Some("close"), Some("ServiceUnavailableException")));
        assert!(more.is_ended().await);
        assert!(Raw::connect(world.tls).await.is_ended().await);
    }
    assert_eq!(world.metric(r#"tollgate_client_connections_turned_away_total{reason="full"}"#), 40.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_answers_with_every_connection_body_and_request_taken() {
    let yaml = "firewall: { max_body: 100KB, body_memory: 100KB, max_requests: 2 }\n\
                listeners: [{ address: '127.0.0.1:0', max_connections: 3 }, { address: '127.0.0.1:0' }]";
    let world = world(yaml).await;
    let gated = Ask::post(STREAM, converse("one two")).token(&world.token).fault("gated");
    let _stream = open(&world, Way::Http1, &gated).await;
    let mut body = Raw::connect(world.plain).await;
    let wire = post(CONVERSE, &world.token, "", &vec![b'x'; 99_000]);
    body.send(&wire[..wire.len() - 10]).await;
    eventually("the memory for bodies is taken", || world.metric("tollgate_bodies_held_bytes") > 90_000.0).await;
    let mut third = Raw::connect(world.plain).await;
    third.send(post(CONVERSE, &world.token, "", &converse("one"))).await;
    assert_eq!(third.answer().await.status, StatusCode::SERVICE_UNAVAILABLE, "every request is taken");
    assert_eq!(Raw::connect(world.plain).await.answer().await.status, StatusCode::SERVICE_UNAVAILABLE, "every connection is taken");

    let admin = world.gateway.admin();
    for path in ["/livez", "/metrics", "/readyz", "/live.json"] {
        assert_eq!(get(admin, path).await.status, StatusCode::OK, "{path}");
    }
    // An exchange is counted a little after its client knows.
    eventually("the refusal is counted", || world.metric(r#"tollgate_refusals_total{reason="overloaded"}"#) == 1.0).await;
    assert_eq!(world.metric("tollgate_in_flight"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_files_are_raised_to_what_the_process_may_have_and_too_few_are_told() {
    let world = world("").await;
    let yaml = |most: u64| {
        format!(
            "listeners: [{{ address: '127.0.0.1:0', max_connections: {most} }}]\nadmin: {{ address: '127.0.0.1:0' }}\nrecord: {{ access_log: off }}\n\
             firewall: {{ max_requests: 100 }}\n{}\n{}",
            crate::world::jwt(),
            crate::scripted::upstream(&format!("http://{}", world.emulator.address()), ""),
        )
    };
    for (connections, warns) in [(10, false), (4_000, true)] {
        let binary = Binary::run_with_files(256, 4096, &world.dir, &yaml(connections)).await;
        let scraped = get(binary.admin, "/metrics").await;
        assert!(String::from_utf8_lossy(&scraped.body).contains("process_max_fds 4096"), "the soft bound of 256 was raised");
        let said = tokio::time::timeout(PATIENCE, binary.stop()).await.unwrap();
        assert_eq!(said.contains("raise `LimitNOFILE`"), warns, "{said}");
    }
}
