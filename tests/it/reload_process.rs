//! What makes the binary itself load its configuration anew: its file, SIGHUP, and an operator.

use std::fs;

use tollgate::emulator::Emulator;

use crate::admin::get;
use crate::binary::Binary;
use crate::client::{PATIENCE, call, converse, post};
use crate::streams::reference;
use crate::world::Dir;

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";

fn yaml(dir: &Dir, emulator: &Emulator, more: &str) -> String {
    fs::write(dir.join("secret"), tollgate::demo::SECRET_ACCESS_KEY).unwrap();
    format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nidentity: [anonymous: {{ tenant: demo }}]\nrecord: {{ access_log: off }}\n{}\n{more}\n",
        crate::scripted::upstream(&format!("http://{}", emulator.address()), "")
    )
}

async fn until(binary: &Binary, what: &str, status: u16) {
    let asking = async {
        while call(binary.listeners[0], post(CONVERSE, "", "", &converse("one"))).await.status != status {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{what} within 30 s: {}", binary.said()));
}

const NOBODY: &str = "policy: [{ name: nobody, models: { deny: ['*'] } }]";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_is_taken_up_and_a_faulty_one_is_told_of() {
    let (dir, emulator) = (Dir::new(), reference().await);
    let binary = Binary::run(&dir, &yaml(&dir, &emulator, ""), &[]).await;
    until(&binary, "an answer", 200).await;
    // As editors do it: another file in its place.
    fs::write(dir.join("new"), yaml(&dir, &emulator, NOBODY)).unwrap();
    fs::rename(dir.join("new"), dir.join("binary.yaml")).unwrap();
    until(&binary, "the new policy", 403).await;
    fs::write(dir.join("binary.yaml"), yaml(&dir, &emulator, "polici: []")).unwrap();
    let told = async {
        while get(binary.admin, "/readyz").await.body == b"ready" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("a refusal within 30 s");
    assert!(binary.said().contains("did you mean `policy`?"), "{}", binary.said());
    until(&binary, "the policy before", 403).await;
    fs::remove_file(dir.join("binary.yaml")).unwrap();
    fs::write(dir.join("binary.yaml"), yaml(&dir, &emulator, "")).unwrap();
    until(&binary, "no policy", 200).await;
    assert_eq!(get(binary.admin, "/readyz").await.body, b"ready");
    let said = binary.stop().await;
    assert!(said.contains("\"because\":\"file changed\""), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_anew_what_the_configuration_names() {
    let (dir, emulator) = (Dir::new(), reference().await);
    fs::write(dir.join("own.yaml"), "models: [{ model: amazon.nova-lite-v1:0, input: 1, output: 1 }]").unwrap();
    let binary = Binary::run(&dir, &yaml(&dir, &emulator, "prices: own.yaml"), &[]).await;
    until(&binary, "an answer", 200).await;
    fs::write(dir.join("own.yaml"), "models: [{ model: amazon.nova-lite-v1:0, inptu: 1 }]").unwrap();
    binary.signal("-HUP").await;
    let told = async {
        while !binary.said().contains("did you mean `input`?") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the fault within 30 s");
    until(&binary, "an answer still", 200).await;
    drop(binary.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_whose_credentials_cannot_be_had_is_not_taken_up() {
    let (dir, emulator) = (Dir::new(), reference().await);
    let text = yaml(&dir, &emulator, "");
    let binary = Binary::run(&dir, &text, &[]).await;
    until(&binary, "an answer", 200).await;
    let other =
        text.replace("upstreams: {", "routes: [{ name: all, to: [{ upstream: other }] }]\nupstreams: { other: { region: us-west-2 },");
    fs::write(dir.join("binary.yaml"), other).unwrap();
    let admin = binary.admin;
    let answer = call(admin, format!("POST /reload HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")).await;
    let said = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 422, "{said}");
    assert!(said.starts_with("credentials of upstream `other` can't be had: "), "{said}");
    assert!(get(admin, "/readyz").await.body.starts_with(b"ready\n"));
    until(&binary, "an answer still", 200).await;
    drop(binary.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_the_service_manager_is_served() {
    let (dir, emulator) = (Dir::new(), reference().await);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let text = yaml(&dir, &emulator, "").replacen("127.0.0.1:0", &address.to_string(), 1);
    let binary = Binary::run_with_socket(socket, &dir, &text).await;
    assert_eq!(binary.listeners, [address]);
    until(&binary, "an answer", 200).await;
    drop(binary.stop().await);
}
