//! The command line. The only code that prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what a command answers belongs on its standard streams")]

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::demo::{self, Demo};
use crate::domain::Clock;
use crate::emulator::{Emulator, Options};
use crate::server::Running;

/// How long a stopped gateway lets running answers end. systemd's `TimeoutStopSec` must be longer.
const DRAIN: Duration = Duration::from_mins(1);

/// What is logged unless `RUST_LOG` says otherwise.
const LOG: &str = "info,aws_config=warn";

/// Never logged, whatever `RUST_LOG` says: these write whole heads, credentials included, when a request is malformed or at `debug`. The gateway tells
/// in its own words what goes wrong.
const QUIET: [&str; 3] = ["pingora_proxy=off", "pingora_core=off", "h2=off"];

/// An edge proxy for Amazon Bedrock: it authenticates, limits, signs, streams and counts.
#[derive(Parser)]
#[command(name = "tollgate", version, max_term_width = 100, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    Run {
        /// The configuration
        #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml")]
        config: PathBuf,
    },
    /// Check a configuration: prints every fault of it, and exits with 1 where there is one
    Check {
        /// The configuration
        #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml")]
        config: PathBuf,
    },
    /// Run a gateway with a Bedrock emulator behind it, on loopback, and print how to call it; needs no AWS account
    Demo {
        /// Where certificates, keys and the token are written
        #[arg(long, value_name = "DIR", default_value = "target/demo")]
        dir: PathBuf,
    },
    /// Run the Bedrock emulator alone: it verifies signatures and answers like Bedrock
    ///
    /// Requests must be signed with the example key of AWS's documentation: AKIDEXAMPLE and
    /// wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY.
    Emulator {
        /// Where to listen; port 0 takes a free one
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4566")]
        address: SocketAddr,
        /// For load tests: answer every Converse call with so many bytes of text, unverified
        #[arg(long, value_name = "BYTES")]
        quick: Option<usize>,
    },
    /// Print the version
    Version,
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let done = match command {
        Command::Version => {
            println!("tollgate {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Check { config } => load(&config).map(|_| println!("{}: no fault found", config.display())),
        Command::Run { config } => load(&config).and_then(|config| in_runtime(run(config))),
        Command::Demo { dir } => in_runtime(demo(dir)),
        Command::Emulator { address, quick } => in_runtime(emulator(Options { address, quick, ..Options::default() })),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn load(file: &Path) -> Result<Config, String> {
    Config::load(file).map_err(|faults| faults.to_string())
}

fn in_runtime(command: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("tollgate").build();
    runtime.map_err(|error| format!("no runtime: {error}"))?.block_on(command)
}

fn log_to_stderr() {
    let mut filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| LOG.into());
    for directive in QUIET.iter().filter_map(|quiet| quiet.parse().ok()) {
        filter = filter.add_directive(directive);
    }
    // The default hook prints the message, which may hold what the panic was about.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a task panicked");
    }));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Text for a person; JSON for a collector.
    if std::io::stderr().is_terminal() { log.with_target(false).init() } else { log.json().init() }
}

async fn run(config: Config) -> Result<(), String> {
    let gateway = Running::start(&config, Clock::System).map_err(|error| error.to_string())?;
    until_stopped(&gateway).await?;
    tracing::info!("draining");
    gateway.drain(DRAIN).await;
    Ok(())
}

async fn demo(dir: PathBuf) -> Result<(), String> {
    let demo = Demo::start(&dir).await.map_err(|error| error.to_string())?;
    println!("{}", demo.instructions());
    until_stopped(demo.gateway()).await?;
    demo.stop().await;
    Ok(())
}

async fn emulator(options: Options) -> Result<(), String> {
    let address = options.address;
    let emulator = Emulator::start(options).await.map_err(|error| format!("{address}: {error}"))?;
    println!("Bedrock emulator on http://{}; keys {} / {}", emulator.address(), demo::ACCESS_KEY_ID, demo::SECRET_ACCESS_KEY);
    stop_signal().await
}

/// Waits for SIGTERM or SIGINT; SIGHUP opens the access log anew.
async fn until_stopped(gateway: &Running) -> Result<(), String> {
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| format!("no signals: {error}"))?;
    let stop = stop_signal();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            stopped = &mut stop => return stopped,
            _ = hangup.recv() => gateway.reopen_log(),
        }
    }
}

async fn stop_signal() -> Result<(), String> {
    let on = |kind| signal(kind).map_err(|error| format!("no signals: {error}"));
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use tracing_subscriber::filter::Directive;

    use super::*;

    #[test]
    fn what_must_stay_quiet_is_well_formed() {
        assert!(QUIET.iter().all(|quiet| quiet.parse::<Directive>().is_ok()));
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
