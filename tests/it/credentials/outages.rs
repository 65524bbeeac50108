//! The default chain, in a process of its own whose environment names a metadata service.

use std::time::Duration;

use tollgate::emulator::{Credential, Emulator, Options};

use super::aws::{Imds, Instance};
use crate::binary::Binary;
use crate::client::{PATIENCE, call as send, converse};
use crate::downstream::Ask;
use crate::world::Dir;

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";

fn instance(number: u32, lasts: Duration) -> Instance {
    let key = Credential::new(format!("ASIAINSTANCE{number}"), format!("secret{number}"), Some(&format!("token{number}")));
    Instance { key, lasts }
}

/// A gateway in a process of its own, with the default chain.
async fn run(dir: &Dir, emulator: &Emulator, environment: &[(&str, &str)]) -> Binary {
    let yaml = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nidentity: [anonymous: {{ tenant: public }}]\n\
         record: {{ access_log: off }}\nupstreams: {{ use1: {{ region: us-east-1, endpoint: 'http://{}' }} }}",
        emulator.address()
    );
    Binary::run(dir, &yaml, environment).await
}

/// Calls until an answer has this status; other answers must have `meanwhile`.
async fn called_until(gateway: &Binary, status: u16, meanwhile: u16) {
    let calling = async {
        loop {
            let answer = send(gateway.listeners[0], Ask::post(CONVERSE, converse("one")).wire()).await.status;
            if answer == status {
                return;
            }
            assert_eq!(answer, meanwhile);
        }
    };
    tokio::time::timeout(PATIENCE, calling).await.unwrap_or_else(|_| panic!("no {status} in 30 s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instances_role_signs_and_an_outage_of_imds_is_felt_only_once_its_keys_have_expired() {
    let (short, long) = (instance(0, Duration::from_secs(6)), instance(1, Duration::from_hours(6)));
    let credentials = vec![short.key.clone(), long.key.clone()];
    let emulator = Emulator::start(Options { credentials, ..Options::default() }).await.unwrap();
    let (dir, imds) = (Dir::new(), Imds::start(short).await);
    let endpoint = format!("http://{}", imds.address);
    let environment = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*endpoint), ("AWS_EC2_METADATA_DISABLED", "false")];
    let gateway = run(&dir, &emulator, &environment).await;
    called_until(&gateway, 200, 503).await;
    assert_eq!(emulator.requests()[0].header("x-amz-security-token"), Some("token0"));

    imds.has(None);
    let before = emulator.requests().len();
    called_until(&gateway, 503, 200).await;
    assert!(emulator.requests().len() > before, "calls went on while the keys lasted");
    let ready = send(gateway.admin, "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let ready = async {
        let mut ready = ready;
        while ready.status != 503 {
            ready = send(gateway.admin, "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("unready within 30 s");

    imds.has(Some(long));
    called_until(&gateway, 200, 503).await;
    assert_eq!(emulator.requests().last().unwrap().header("x-amz-security-token"), Some("token1"));
    let said = gateway.stop().await;
    assert!(!said.contains("secret0") && !said.contains("token0"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_found_by_its_name_and_no_other_is_taken() {
    let emulator = Emulator::start(Options { credentials: vec![Credential::new("AKIDPROD", "prodsecret", None)], ..Options::default() })
        .await
        .unwrap();
    let dir = Dir::new();
    let file = dir.join("aws-credentials");
    std::fs::write(
        &file,
        "[default]\naws_access_key_id = AKIDDEFAULT\naws_secret_access_key = no\n[prod]\naws_access_key_id = AKIDPROD\naws_secret_access_key = prodsecret\n",
    )
    .unwrap();
    let yaml = |profile: &str| {
        format!(
            "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nidentity: [anonymous: {{ tenant: public }}]\n\
             record: {{ access_log: off }}\nupstreams: {{ use1: {{ region: us-east-1, endpoint: 'http://{}', credentials: {{ profile: {profile} }} }} }}",
            emulator.address()
        )
    };
    let environment = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())];
    let gateway = Binary::run(&dir, &yaml("prod"), &environment).await;
    called_until(&gateway, 200, 503).await;
    gateway.stop().await;
    let gateway = Binary::run(&dir, &yaml("other"), &environment).await;
    let ready = async {
        loop {
            let ready = send(gateway.admin, "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
            if ready.json()["unmet"].to_string().contains("other") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("it says which profile is not there");
    assert_eq!(send(gateway.listeners[0], Ask::post(CONVERSE, converse("one")).wire()).await.status, 503);
}
