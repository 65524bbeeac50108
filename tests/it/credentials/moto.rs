//! An implementation of STS that no one here wrote: moto's server, as a child process.
//!
//! It tells no tags; of IMDS it has no TTL beside the token, without which the SDK takes none.

use std::process::Stdio;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tollgate::emulator::{Emulator, Options};

use crate::client::{call as send, converse};
use crate::downstream::{Ask, Way, call};
use crate::sdk::{environment, skipped};
use crate::world::world;

/// Python's start, and some hundred modules on a busy core.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn motos_sts_grants_sessions_by_which_it_knows_the_role_and_the_sessions_name() {
    if skipped() {
        eprintln!("NOT RUN: a test with moto's server, because TOLLGATE_SKIP_SDK=1");
        return;
    }
    let runner = tokio::task::spawn_blocking(environment::moto).await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    let mut command = Command::new(&runner.program);
    command.args(&runner.arguments).current_dir(&runner.directory).env_clear().env("PYTHONUNBUFFERED", "1");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line =
            tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in a minute").unwrap().expect("a server that runs");
        if let Some((_, url)) = line.split_once("Running on http://") {
            break url.trim().parse().unwrap();
        }
    };

    // It makes keys up: what they sign, the emulator can't verify.
    let emulator = Emulator::start(Options { verify: false, ..Options::default() }).await.unwrap();
    let world = world(&format!(
        "upstreams: {{ role: {{ region: us-east-1, endpoint: 'http://{}', credentials: {{ assume_role: 'arn:aws:iam::111122223333:role/bedrock', \
         external_id: abc, session_name: by-moto, session_tags: {{ tenant: tenant, who: user }}, sts_endpoint: 'http://{address}', \
         from: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: secret }} }} }} }}",
        emulator.address()
    ))
    .await;
    for tenant in ["acme", "other"] {
        let token = world.issuer.token(tenant, "u", SystemTime::now() + Duration::from_hours(1)).unwrap();
        let ask = Ask::post("/model/m/converse", converse("one")).token(&token);
        assert_eq!(call(&world, Way::Http1, &ask).await.status, 200);
    }
    let seen = emulator.requests();
    let key =
        |at: usize| seen[at].header("authorization").unwrap().split("Credential=").nth(1).unwrap().split('/').next().unwrap().to_owned();
    assert_ne!(key(0), key(1), "each its own session");
    assert!(seen.iter().all(|request| request.header("x-amz-security-token").is_some()));
    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let question = format!(
        "POST / HTTP/1.1\r\nHost: sts.us-east-1.amazonaws.com\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={}/20260101/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n{body}",
        body.len(),
        key(0)
    );
    let said = String::from_utf8(send(address, question).await.body).unwrap();
    assert!(said.contains("arn:aws:sts::111122223333:assumed-role/bedrock/by-moto"), "{said}");
}
