//! The provider as a child process that does what it is told, line by line.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::client::{Answer, call};
use crate::sdk::environment::{self, Runner};

/// Two RSA keys on a busy core, and Node's own start.
const PATIENCE: Duration = Duration::from_mins(1);

/// A provider on a port of its own. It ends when it is dropped.
pub(super) struct Provider {
    pub(super) issuer: String,
    runner: Runner,
    algorithm: &'static str,
    running: Option<Process>,
}

struct Process {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Provider {
    /// Starts one that signs by `algorithm`; none where such tests are not wanted.
    pub(super) async fn start(algorithm: &'static str) -> Option<Self> {
        if crate::sdk::skipped() {
            eprintln!("NOT RUN: a test with an OpenID provider, because TOLLGATE_SKIP_SDK=1");
            return None;
        }
        let runner = tokio::task::spawn_blocking(environment::provider).await.unwrap().unwrap_or_else(|error| panic!("{error}"));
        let (process, issuer) = Process::start(&runner, 0, algorithm).await;
        Some(Self { issuer, runner, algorithm, running: Some(process) })
    }

    /// What it answers to `order`.
    pub(super) async fn tell(&mut self, order: &str) -> Value {
        let process = self.running.as_mut().expect("a provider that runs");
        process.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        process.answer().await
    }

    /// An access token of `client`, which may be followed by the resource that it is for.
    pub(super) async fn token(&mut self, client: &str) -> String {
        self.tell(&format!("token {client}")).await["token"].as_str().expect("a token").to_owned()
    }

    /// How often its keys were asked for.
    pub(super) async fn asked(&mut self) -> u64 {
        self.tell("count").await["count"].as_u64().unwrap()
    }

    /// What it serves under `path`.
    pub(super) async fn get(&self, path: &str) -> Answer {
        let address = self.issuer.strip_prefix("http://").unwrap();
        call(address.parse().unwrap(), format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")).await
    }

    /// Ends it, and tells where it was.
    pub(super) async fn stop(&mut self) -> SocketAddr {
        let mut process = self.running.take().expect("a provider that runs");
        process.child.kill().await.unwrap();
        self.issuer.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Starts it again where it was, with new keys.
    pub(super) async fn start_again(&mut self, address: SocketAddr) {
        let (process, issuer) = Process::start(&self.runner, address.port(), self.algorithm).await;
        assert_eq!(issuer, self.issuer);
        self.running = Some(process);
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.runner.directory));
    }
}

impl Process {
    async fn start(runner: &Runner, port: u16, algorithm: &str) -> (Self, String) {
        let mut command = Command::new(&runner.program);
        command.args(&runner.arguments).args([&port.to_string(), algorithm]).current_dir(&runner.directory);
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Self { child, orders, answers };
        let issuer = process.answer().await["issuer"].as_str().unwrap().to_owned();
        (process, issuer)
    }

    async fn answer(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.answers.next_line()).await.expect("an answer in a minute").unwrap();
        let answer: Value = serde_json::from_str(&line.expect("a provider that runs")).unwrap();
        assert!(answer["error"].is_null(), "{answer}");
        answer
    }
}
