//! What a reload does to listeners: their sockets, their settings, their certificates.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tollgate::config::Config;
use tollgate::demo::Authority;
use tollgate::domain::Clock;
use tollgate::server::{Running, Sockets};

use super::{CONVERSE, STREAM, and, h2_post, with};
use crate::client::{PATIENCE, Raw, call, converse, eventually, h2_call, h2c, post};
use crate::connections::client_config;
use crate::world::{Dir, world};

#[tokio::test(flavor = "multi_thread")]
async fn listeners_come_change_and_go_and_their_connections_end_well() {
    let world = world("").await;
    let before = world.gateway.listeners();
    let mut kept = Raw::connect(world.plain).await;
    let ask = post(CONVERSE, &world.token, "", &converse("one"));
    kept.send(&ask).await;
    assert_eq!(kept.answer().await.status, 200);

    // Another bound, and another listener: the socket is the same, and so is the connection.
    let more = with(&world, "[{ address: '127.0.0.1:0' },", "[{ address: '127.0.0.1:0', max_connections: 2 },");
    let more = more.replace("tls-key.pem }] } }]", "tls-key.pem }] } }, { address: '127.0.0.1:0' }]");
    let changes = world.reload(&more).await.unwrap();
    assert_eq!((changes.fates.listeners.changed, changes.fates.listeners.new.len()), (vec!["127.0.0.1:0".to_owned()], 1));
    let after = world.gateway.listeners();
    assert_eq!((after.len(), &after[..2]), (3, &before[..]));
    assert_eq!(call(after[2], &ask).await.status, 200);
    kept.send(&ask).await;
    assert_eq!(kept.answer().await.status, 200);
    let mut second = Raw::connect(world.plain).await;
    second.send(&ask).await;
    assert_eq!(second.answer().await.status, 200);
    let mut third = Raw::connect(world.plain).await;
    // It is told so where there is time for it, and closed.
    let told = if third.try_send(&ask).await { third.try_answer().await } else { None };
    assert!(told.is_none_or(|told| told.status == 503), "the bound is two");

    // Gone: it takes no more, what goes on there ends well, and what does nothing ends.
    let mut stream = Raw::connect(after[2]).await;
    stream.send(post(STREAM, &world.token, "x-emulator-fault: gated\r\n", &converse("one two"))).await;
    assert_eq!(stream.head().await.expect("a head").0, 200);
    let mut idle = Raw::connect(after[2]).await;
    idle.send(&ask).await;
    assert_eq!(idle.answer().await.status, 200);
    let mut h2 = h2c(after[2]).await;
    assert_eq!(h2_call(&mut h2, h2_post(&world, CONVERSE, ""), converse("one").into()).await.status, 200);
    world.reload(&world.yaml).await.unwrap();
    assert!(idle.is_ended().await);
    eventually("no more is accepted", || std::net::TcpStream::connect(after[2]).is_err()).await;
    world.emulator.release(1000);
    assert!(stream.rest().await.len() > 100);
    assert!(stream.is_ended().await, "no further request is wanted on it");
    let gone = async {
        while h2.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("GOAWAY within 30 s");
    assert_eq!(world.gateway.listeners(), before);
    kept.send(&ask).await;
    assert_eq!(kept.answer().await.status, 200);
    drop((kept, second, third));
    let open = || world.metric("tollgate_client_connections");
    eventually("no connection is counted for ever", || open() == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_sockets_take_the_place_of_binding_and_none_is_overlooked() {
    let (dir, emulator) = (Dir::new(), crate::streams::reference().await);
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    std::fs::write(dir.join("secret"), tollgate::demo::SECRET_ACCESS_KEY).unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let text = format!(
        "listeners: [{{ address: '{address}' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nidentity: [anonymous: {{ tenant: demo }}]\nrecord: {{ access_log: off }}\n{}\n",
        crate::scripted::upstream(&format!("http://{}", emulator.address()), "")
    );
    let config = |text: &str| Config::parse(text, &dir.join("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"));
    let passed =
        |sockets: &[&std::net::TcpListener]| Sockets::of(sockets.iter().map(|socket| socket.try_clone().unwrap()).collect()).unwrap();
    let stray = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = Running::start_on(passed(&[&socket, &stray]), &config(&text), Clock::System).err().expect("no start").to_string();
    assert!(error.contains(&format!("2 at {}", stray.local_addr().unwrap())) && !error.contains(&address.to_string()), "{error}");

    let gateway = Running::start_on(passed(&[&socket]), &config(&text), Clock::System).unwrap();
    let ask = post(CONVERSE, "", "", &converse("one"));
    assert_eq!(call(address, &ask).await.status, 200);
    // Taken away and brought back, it is found again; a stranger's connection waits in it meanwhile.
    gateway.reload(&config(&text.replace(&address.to_string(), "127.0.0.1:0"))).await.unwrap();
    let waiting = TcpStream::connect(address).await.unwrap();
    gateway.reload(&config(&text)).await.unwrap();
    let mut raw = Raw::over(waiting);
    raw.send(&ask).await;
    assert_eq!(raw.answer().await.status, 200);
    gateway.drain(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_certificate_is_shown_to_new_connections_and_sessions_resume_where_it_is_the_same() {
    let world = world("").await;
    let (authority, shown) = (Authority::new().unwrap(), |ca: &str| client_config(ca, &rustls::version::TLS13, &[b"http/1.1"]));
    let connect = async |config: &Arc<rustls::ClientConfig>| {
        let stream = TcpStream::connect(world.tls).await.unwrap();
        TlsConnector::from(Arc::clone(config)).connect("localhost".try_into().unwrap(), stream).await
    };
    let ask = post(CONVERSE, &world.token, "", &converse("one"));
    let before = shown(&world.ca_pem);
    let mut kept = Raw::over(connect(&before).await.unwrap());
    kept.send(&ask).await;
    assert_eq!(kept.answer().await.status, 200);
    // Everything about the listener but its TLS.
    world.reload(&and(&world, "firewall: { header_timeout: 7s }")).await.unwrap();
    let resumed = connect(&before).await.unwrap();
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));

    let other = authority.issue(&["localhost"]).unwrap();
    std::fs::write(world.dir.join("other.pem"), other.certificate).unwrap();
    std::fs::write(world.dir.join("other-key.pem"), other.key).unwrap();
    world.reload(&with(&world, "certificate: tls.pem, key: tls-key.pem", "certificate: other.pem, key: other-key.pem")).await.unwrap();
    drop(connect(&shown(&authority.pem())).await.unwrap());
    assert!(connect(&shown(&world.ca_pem)).await.is_err());
    kept.send(&ask).await;
    assert_eq!(kept.answer().await.status, 200, "a connection under way goes on");
}
