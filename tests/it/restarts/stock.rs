//! Stock SDKs over restarts: none is disturbed so much as to try again.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{Site, start};
use crate::downstream::Way;
use crate::sdk::environment::{self, Runner};
use crate::sdk::skipped;

/// Each waits for a drain, and so for the grace of connections that are idle.
const RESTARTS: usize = 3;

/// Runs `program` while gateways take over from one another; what it says in the end.
async fn over_restarts(runner: &Runner, program: &str) -> Value {
    let site = Site::new().await;
    std::fs::write(site.dir.join("ca.pem"), site.authority.pem()).unwrap();
    let (plain, tls, ca) = (site.address(Way::Http1), site.address(Way::TlsHttp1), site.dir.join("ca.pem"));
    let mut binary = start(&site, &site.yaml(0, "AKIDEXAMPLE")).await;
    let mut command = Command::new(&runner.program);
    command.arg(program).current_dir(&runner.directory).env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.env("HOME", &*site.dir).env("AWS_EC2_METADATA_DISABLED", "true").env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("AWS_BEARER_TOKEN_BEDROCK", &site.token).env("AWS_CA_BUNDLE", &ca).env("NODE_EXTRA_CA_CERTS", &ca);
    command.env("TOLLGATE_TOKEN", &site.token).env("TOLLGATE_PLAIN_URL", format!("http://{plain}"));
    command.env("TOLLGATE_TLS_URL", format!("https://localhost:{}", tls.port()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let running = site.emulator.requests_until(|seen| seen.len() > 20);
    tokio::time::timeout(Duration::from_mins(1), running).await.expect("calls within a minute");
    for round in 1..=RESTARTS {
        let next = start(&site, &site.yaml(round, "AKIDEXAMPLE")).await;
        std::mem::replace(&mut binary, next).stop().await;
    }
    stdin.shutdown().await.unwrap();
    drop(stdin);
    let ended = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await.expect("an end").unwrap();
    binary.stop().await;
    let (said, complained) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    serde_json::from_str(said.trim()).unwrap_or_else(|error| panic!("{error}: {said} {complained}"))
}

fn is_undisturbed(told: &Value) {
    eprintln!("{told}");
    assert!(told["calls"].as_u64().unwrap() > 100, "{told}");
    assert_eq!((&told["errors"], &told["retries"]), (&serde_json::json!([]), &0.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_calls_and_streams_over_restarts_without_a_retry() {
    if skipped() {
        eprintln!("NOT RUN: boto3 over restarts, because TOLLGATE_SKIP_SDK=1");
        return;
    }
    let python = tokio::task::spawn_blocking(environment::python).await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    is_undisturbed(&over_restarts(&python, "over_restarts.py").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_sdk_calls_and_streams_over_restarts_without_a_retry() {
    if skipped() {
        eprintln!("NOT RUN: the JavaScript SDK over restarts, because TOLLGATE_SKIP_SDK=1");
        return;
    }
    let node = tokio::task::spawn_blocking(environment::node).await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    let told = over_restarts(&node, "over_restarts.js").await;
    std::fs::remove_dir_all(&node.directory).unwrap();
    is_undisturbed(&told);
}
