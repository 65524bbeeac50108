//! The binary itself, as a child process: for what depends on the environment, and for what it says on stderr.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::client::PATIENCE;

/// `tollgate run`. It is killed when it is dropped.
pub(crate) struct Binary {
    child: Child,
    pub(crate) listeners: Vec<std::net::SocketAddr>,
    pub(crate) admin: std::net::SocketAddr,
    stderr: Arc<Mutex<String>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Binary {
    /// Runs `yaml`, whose files are in `dir`, with this environment and no other, until it listens.
    pub(crate) async fn run(dir: &Path, yaml: &str, environment: &[(&str, &str)]) -> Self {
        Self::run_with(dir, yaml, environment, &[]).await
    }

    /// The same with more arguments.
    pub(crate) async fn run_with(dir: &Path, yaml: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::run_by(quiet(env!("CARGO_BIN_EXE_tollgate")), dir, yaml, environment, arguments).await
    }

    /// The same where no file may grow beyond so many blocks (of 512 or 1,024 bytes, as the shell has it): as on a disk that is full by then.
    pub(crate) async fn run_with_small_files(blocks: u32, dir: &Path, yaml: &str) -> Self {
        let mut shell = quiet("sh");
        // Ignored, the signal becomes an error of the write.
        shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tollgate")]);
        Self::run_by(shell, dir, yaml, &[], &[]).await
    }

    /// The same where a service manager passes the listener `socket`.
    pub(crate) async fn run_with_socket(socket: std::net::TcpListener, dir: &Path, yaml: &str) -> Self {
        let mut shell = quiet("sh");
        shell.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 0</dev/null", env!("CARGO_BIN_EXE_tollgate")]);
        shell.stdin(Stdio::from(std::os::fd::OwnedFd::from(socket)));
        Self::run_by(shell, dir, yaml, &[("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "gateway")], &[]).await
    }

    /// The same where a service manager passes two listeners, and each of two side by side has an admin address of its own.
    pub(crate) async fn run_with_two_sockets(sockets: [&std::net::TcpListener; 2], dir: &Path, yaml: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 4<&1 0</dev/null 1>/dev/null", env!("CARGO_BIN_EXE_tollgate")]);
        let [one, other] = sockets.map(|socket| Stdio::from(std::os::fd::OwnedFd::from(socket.try_clone().unwrap())));
        shell.stdin(one).stdout(other);
        Self::run_by(shell, dir, yaml, &[("LISTEN_FDS", "2")], &["--admin", "127.0.0.1:0"]).await
    }

    /// All that it said on stderr until now.
    pub(crate) fn said(&self) -> String {
        self.stderr.lock().clone()
    }

    /// The same where it may have so many open files: `soft` until it asks for more, `hard` at most.
    pub(crate) async fn run_with_files(soft: u32, hard: u32, dir: &Path, yaml: &str) -> Self {
        let mut shell = quiet("sh");
        shell.args(["-c", &format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tollgate")]);
        Self::run_by(shell, dir, yaml, &[], &[]).await
    }

    async fn run_by(mut command: Command, dir: &Path, yaml: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let file = dir.join("binary.yaml");
        std::fs::write(&file, yaml).unwrap();
        let mut child = command
            .args(["run", "--config"])
            .arg(&file)
            .args(arguments)
            .env_clear()
            // The default provider chain finds no profile there, and asks no network.
            .env("HOME", dir)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut listeners, mut admin, mut said) = (Vec::new(), None, String::new());
        while admin.is_none() || listeners.is_empty() {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in 30 s").unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended: {said}"));
            said.push_str(&line);
            said.push('\n');
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            let address = event["fields"]["address"].as_str().and_then(|address| address.parse().ok());
            match event["fields"]["message"].as_str() {
                Some("listening") => listeners.extend(address),
                Some("admin listening") => admin = address,
                _ => {}
            }
        }
        let stderr = Arc::new(Mutex::new(said));
        let writer = Arc::clone(&stderr);
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut said = writer.lock();
                said.push_str(&line);
                said.push('\n');
            }
        });
        Self { child, listeners, admin: admin.unwrap(), stderr, reader }
    }

    /// Ends it as nothing can be prepared for: SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Stops it as systemd does, and returns all that it said on stderr.
    pub(crate) async fn stop(self) -> String {
        self.signal("-TERM").await;
        self.ended().await
    }

    /// Sends it a signal, such as `-TERM`.
    pub(crate) async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }

    /// Waits for its end, which must be a good one, and returns all that it said on stderr.
    pub(crate) async fn ended(mut self) -> String {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("an end within 30 s").unwrap();
        assert!(status.success(), "{status}");
        tokio::time::timeout(PATIENCE, self.reader).await.expect("the end of stderr").unwrap();
        let said = self.stderr.lock();
        said.clone()
    }
}

/// A command whose stdout is nobody's.
fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdout(Stdio::null());
    command
}

/// Runs a command of the binary in `dir` to its end.
pub(crate) async fn tollgate(dir: &Path, arguments: &[&str]) -> Output {
    let run = Command::new(env!("CARGO_BIN_EXE_tollgate")).current_dir(dir).args(arguments).kill_on_drop(true).output();
    tokio::time::timeout(PATIENCE, run).await.expect("an end within 30 s").unwrap()
}

/// What a command said.
pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
