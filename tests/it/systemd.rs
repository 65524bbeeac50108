//! What the service manager hears: the real binary, and a socket that stands in for systemd's.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixDatagram};

use crate::binary::Binary;
use crate::client::{PATIENCE, converse, eventually};
use crate::downstream::Ask;
use crate::world::{World, world};

/// What a role's endpoint says to a container that has it.
const ROLE: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 108\r\nConnection: close\r\n\r\n\
{\"AccessKeyId\":\"AKIDEXAMPLE\",\"SecretAccessKey\":\"secret\",\"Token\":\"token\",\"Expiration\":\"2099-01-01T00:00:00Z\"}";

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn new(world: &World) -> Self {
        let path = world.dir.join("notify").display().to_string();
        Self { socket: UnixDatagram::bind(&path).unwrap(), path }
    }

    /// The next message's lines.
    async fn hears(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = tokio::time::timeout(PATIENCE, self.socket.recv(&mut buffer)).await.expect("a message in 30 s").unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    /// Waits for a message with a line that begins so; returns that line, and all lines before it.
    async fn hears_of(&self, beginning: &str) -> (String, Vec<String>) {
        let mut before = Vec::new();
        loop {
            for line in self.hears().await {
                if line.starts_with(beginning) {
                    return (line, before);
                }
                before.push(line);
            }
        }
    }
}

fn yaml(upstream: &str) -> String {
    format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nrecord: {{ access_log: off }}\n{}\n{upstream}",
        crate::world::jwt(),
    )
}

fn emulated(world: &World) -> String {
    yaml(&crate::scripted::upstream(&format!("http://{}", world.emulator.address()), ""))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_once_its_credentials_are_there_and_says_what_it_waits_for_until_then() {
    let world = world("").await;
    let manager = Manager::new(&world);
    let text = yaml("upstreams: { chain: { region: us-east-1 } }");
    let role = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/role", role.local_addr().unwrap());
    let environment = [("NOTIFY_SOCKET", manager.path.as_str()), ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)];
    let (grant, mut granted) = tokio::sync::oneshot::channel::<()>();
    let answering = tokio::spawn(async move {
        let mut there = false;
        loop {
            let (mut stream, _) = role.accept().await.unwrap();
            there = there || granted.try_recv().is_ok();
            let answer = if there { ROLE } else { "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" };
            drop(stream.read(&mut [0; 4096]).await);
            drop(stream.write_all(answer.as_bytes()).await);
            drop(stream.shutdown().await);
            drop(stream.read_to_end(&mut Vec::new()).await);
        }
    });
    let binary = Binary::run(&world.dir, &text, &environment).await;
    let (status, before) = manager.hears_of("STATUS=not ready: credentials of upstream `chain`: ").await;
    assert!(!before.iter().any(|line| line == "READY=1"), "{before:?}");
    assert!(!status.contains("READY"), "{status}");
    grant.send(()).unwrap();
    let (_, before) = manager.hears_of("READY=1").await;
    assert!(!before.iter().any(|line| line.starts_with("STOPPING")), "{before:?}");
    binary.stop().await;
    answering.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_that_it_stops_and_how_much_is_left_and_a_second_signal_ends_it() {
    let world = world("").await;
    let manager = Manager::new(&world);
    let binary = Binary::run(&world.dir, &emulated(&world), &[("NOTIFY_SOCKET", &manager.path)]).await;
    manager.hears_of("READY=1").await;
    let mut hangs = crate::client::Raw::connect(binary.listeners[0]).await;
    hangs.send(Ask::post("/model/amazon.nova-lite-v1:0/converse", converse("one")).token(&world.token).fault("hang").wire()).await;
    let seen = world.emulator.requests_until(|seen| !seen.is_empty());
    tokio::time::timeout(PATIENCE, seen).await.expect("a call under way");
    binary.signal("-TERM").await;
    manager.hears_of("STOPPING=1").await;
    // More than once: the service manager waits no longer than it was told last.
    for _ in 0..2 {
        let (more, _) = manager.hears_of("EXTEND_TIMEOUT_USEC=").await;
        assert_eq!(more, "EXTEND_TIMEOUT_USEC=30000000");
        let (status, _) = manager.hears_of("STATUS=").await;
        assert_eq!(status, "STATUS=draining: 1 exchanges on 1 connections left");
    }
    binary.signal("-INT").await;
    let said = binary.ended().await;
    assert!(said.contains("told to end at once"), "{said}");
    assert!(hangs.is_ended().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_hears_of_it_as_long_as_it_runs_and_not_while_it_stands_still() {
    let world = world("").await;
    let manager = Manager::new(&world);
    let environment = [("NOTIFY_SOCKET", manager.path.as_str()), ("WATCHDOG_USEC", "200000")];
    let binary = Binary::run(&world.dir, &emulated(&world), &environment).await;
    for _ in 0..5 {
        manager.hears_of("WATCHDOG=1").await;
    }
    binary.signal("-STOP").await;
    let mut buffer = [0; 4096];
    eventually("all that it had said is heard", || manager.socket.try_recv(&mut buffer).is_err()).await;
    let silence = tokio::time::timeout(Duration::from_millis(500), manager.socket.recv(&mut buffer)).await;
    assert!(silence.is_err(), "who stands still says nothing");
    binary.signal("-CONT").await;
    manager.hears_of("WATCHDOG=1").await;
    binary.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_admin_address_is_told_on_the_command_line() {
    let world = world("").await;
    let text = emulated(&world).replace("admin: { address: '127.0.0.1:0' }", "admin: { address: '192.0.2.1:9' }");
    let binary = Binary::run_with(&world.dir, &text, &[], &["--admin", "127.0.0.1:0"]).await;
    assert_eq!(crate::admin::get(binary.admin, "/livez").await.status, 200);
    binary.stop().await;
    let text = text.replace("listeners: [{ address: '127.0.0.1:0' }]", "listeners: [{ address: '127.0.0.1:8443' }]");
    std::fs::write(world.dir.join("taken.yaml"), text).unwrap();
    let taken = crate::binary::tollgate(&world.dir, &["run", "--config", "taken.yaml", "--admin", "127.0.0.1:8443"]).await;
    let said = crate::binary::text(&taken.stderr);
    assert!(!taken.status.success() && said.contains("--admin 127.0.0.1:8443: `taken.yaml` has a listener for clients there"), "{said}");
}
