//! The command line. The only code that prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what a command answers belongs on its standard streams")]

mod canary;
mod diff;
mod explain;
mod files;
mod gateway;
mod keys;
mod limits;
mod period;
mod prices;
mod reconcile;
mod stop;
mod table;
mod usage;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Config;
use crate::demo::{self, Demo};
use crate::domain::Clock;
use crate::emulator::{Emulator, Options, Quota};
use crate::prices::Prices;
use crate::server::notify::Herald;
use crate::server::{Running, Sockets, Source};

/// What is logged unless `RUST_LOG` says otherwise.
const LOG: &str = "info,aws_config=warn";

/// Never logged, whatever `RUST_LOG` says: these write whole heads, credentials included, when a request is malformed. The gateway tells in its own
/// words what goes wrong.
const QUIET: [&str; 3] = ["pingora_proxy", "pingora_core", "h2"];

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
        /// Where operators are served, instead of `admin.address`: for two gateways of one configuration side by side
        #[arg(long, value_name = "HOST:PORT")]
        admin: Option<SocketAddr>,
    },
    /// Check a configuration: prints every fault of it, and exits with 1 where there is one
    Check {
        /// The configuration
        #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml")]
        config: PathBuf,
    },
    /// Show which route a call takes and why, and where it goes; exits with 1 where no route matches
    Explain(explain::Explain),
    /// Show what a gateway that runs by one configuration would do with another; none needs to run
    ///
    /// Exits with 0, and with `--exit-code` with 1 where anything is different; with 2 where one of the
    /// two has a fault.
    Diff(diff::Diff),
    /// Issue, list and revoke API keys and AWS credentials
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Show the limits of a gateway that runs, and grant more than they give
    #[command(subcommand)]
    Limits(limits::Limits),
    /// Stop a tenant, a key, a model or a route of a gateway that runs: new calls are refused, and running streams end
    ///
    /// Say which one; `tollgate stop list` shows what is stopped, `tollgate stop lift` lifts it. It is kept in the
    /// ledger, over restarts.
    Stop(stop::Stop),
    /// Show how far the canaries of a gateway that runs have come, or have one begin anew
    Canary(canary::Canary),
    /// Show the prices of tokens: the whole table, or what prices one model
    Prices(prices::Asked),
    /// Show who used what and what it cost, from the ledger; also while a gateway writes it
    Usage(usage::Usage),
    /// Compare the ledger with Bedrock's model-invocation logs, request by request
    ///
    /// Exits with 0 where they agree, with 1 where a figure that was not estimated is off by more than is
    /// tolerated, or tokens are known to one side only, and with 2 where they can't be compared.
    Reconcile(reconcile::Reconcile),
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
        /// Throttle each model at so many tokens a minute, as Bedrock counts them (output five times)
        #[arg(long, value_name = "TOKENS", conflicts_with = "quick", value_parser = clap::value_parser!(u64).range(1..))]
        tpm: Option<u64>,
        /// Throttle each model at so many requests a minute
        #[arg(long, value_name = "REQUESTS", conflicts_with = "quick", value_parser = clap::value_parser!(u64).range(1..))]
        rpm: Option<u64>,
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
        Command::Check { config } => check(&config).map(|()| println!("{}: no fault found", config.display())),
        Command::Run { config: file, admin } => {
            let source = Source { file, admin };
            load_from(&source).and_then(|config| in_runtime(run(passed()?, config, source)))
        }
        Command::Explain(command) => return explained(command.run()),
        Command::Diff(command) => return compared(command.run()),
        Command::Keys(command) => command.run(Clock::System.wall()).map(|said| say(&said)),
        Command::Limits(command) => command.run().map(|answer| print!("{answer}")),
        Command::Canary(command) => command.run().map(|answer| print!("{answer}")),
        Command::Stop(command) => command.run().map(|answer| print!("{answer}")),
        Command::Prices(asked) => asked.run().map(|said| say(&said)),
        Command::Usage(command) => command.run(Clock::System.wall()).map(|answer| print!("{answer}")),
        Command::Reconcile(command) => return reconciled(command.run(Clock::System.wall())),
        Command::Demo { dir } => in_runtime(demo(dir)),
        Command::Emulator { address, quick, tpm, rpm } => {
            let quotas = if tpm.is_none() && rpm.is_none() { Vec::new() } else { vec![Quota::a_minute(tpm, rpm)] };
            in_runtime(emulator(Options { address, quick, quotas, ..Options::default() }))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn say(said: &keys::Said) {
    eprintln!("{}", said.note);
    print!("{}", said.answer);
}

/// The configuration, and the file of prices that it names: it is made of the same kind of text.
fn check(file: &Path) -> Result<(), String> {
    let config = load(file)?;
    Prices::build(&config.prices).map(drop).map_err(|error| error.to_string())
}

fn explained(said: Result<explain::Explained, String>) -> ExitCode {
    match said {
        Ok(explain::Explained { answer, matches }) => {
            print!("{answer}");
            ExitCode::from(u8::from(!matches))
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn compared(compared: Result<diff::Compared, String>) -> ExitCode {
    match compared {
        Ok(diff::Compared { answer, code }) => {
            print!("{answer}");
            ExitCode::from(code)
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn reconciled(compared: Result<reconcile::Compared, String>) -> ExitCode {
    match compared {
        Ok(reconcile::Compared { answer, drifts }) => {
            print!("{answer}");
            ExitCode::from(u8::from(drifts))
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn load(file: &Path) -> Result<Config, String> {
    Config::load(file).map_err(|faults| faults.to_string())
}

/// The configuration, with the admin listener at `admin` where that is told.
fn load_from(source: &Source) -> Result<Config, String> {
    let config = source.load().map_err(|faults| faults.to_string())?;
    match source.admin {
        Some(address) if address.port() != 0 && config.listeners.iter().any(|listener| listener.address == address) => {
            Err(format!("--admin {address}: `{}` has a listener for clients there", source.file.display()))
        }
        _ => Ok(config),
    }
}

fn in_runtime(command: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("tollgate").build();
    runtime.map_err(|error| format!("no runtime: {error}"))?.block_on(command)
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| LOG.into()).and(filter_fn(tells_no_secret));
    // The default hook prints the message, which may hold what the panic was about.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a task panicked");
    }));
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // Text for a person; JSON for a collector.
    if std::io::stderr().is_terminal() {
        tracing_subscriber::registry().with(log.with_target(false).with_filter(filter)).init();
    } else {
        tracing_subscriber::registry().with(log.json().with_filter(filter)).init();
    }
}

/// Whether what is said holds no token, key, prompt or completion. Below `info`, what is not the gateway's own may: hyper and the AWS crates print heads
/// and canonical requests there.
fn tells_no_secret(event: &Metadata<'_>) -> bool {
    let target = event.target();
    target.starts_with("tollgate") || (*event.level() <= Level::INFO && !QUIET.iter().any(|quiet| target.starts_with(quiet)))
}

/// The sockets that a service manager passes. Before there is a runtime: the environment is changed.
fn passed() -> Result<Sockets, String> {
    #[expect(clippy::disallowed_methods, reason = "the protocol of sd_listen_fds(3); it is no configuration of ours")]
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    Sockets::passed(&names).map_err(|error| error.to_string())
}

async fn run(sockets: Sockets, config: Config, source: Source) -> Result<(), String> {
    let mut signals = Signals::register()?;
    files::raise(&config);
    let gateway = Running::start_from(source, sockets, &config, Clock::System).map_err(|error| error.to_string())?;
    let _herald = Herald::start(gateway.readiness().clone());
    signals.until_stopped(&gateway).await;
    tracing::info!("draining; a second signal ends it at once");
    gateway.leave(signals.stop()).await;
    Ok(())
}

async fn demo(dir: PathBuf) -> Result<(), String> {
    let mut signals = Signals::register()?;
    let demo = Demo::start(&dir).await.map_err(|error| error.to_string())?;
    println!("{}", demo.instructions());
    signals.until_stopped(demo.gateway()).await;
    demo.stop().await;
    Ok(())
}

async fn emulator(options: Options) -> Result<(), String> {
    let mut signals = Signals::register()?;
    let address = options.address;
    let emulator = Emulator::start(options).await.map_err(|error| format!("{address}: {error}"))?;
    println!("Bedrock emulator on http://{}; keys {} / {}", emulator.address(), demo::ACCESS_KEY_ID, demo::SECRET_ACCESS_KEY);
    signals.stop().await;
    Ok(())
}

/// The signals that are heard. Registered before anything starts: one that comes before would end the process at once.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn register() -> Result<Self, String> {
        let on = |kind| signal(kind).map_err(|error| format!("no signals: {error}"));
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())?, hangup: on(SignalKind::hangup())? })
    }

    /// Waits for SIGTERM or SIGINT; SIGHUP opens the access log anew, and has the configuration loaded anew.
    async fn until_stopped(&mut self, gateway: &Running) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    gateway.reopen_log();
                    gateway.ask_reload();
                }
            }
        }
    }

    /// Waits for SIGTERM or SIGINT.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_check_tells_every_fault_of_the_prices_that_a_configuration_names() {
        let directory = std::env::temp_dir().join(format!("tollgate-check-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("gateway.yaml");
        let gateway =
            "listeners: [{ address: 127.0.0.1:1 }]\nidentity: [anonymous: { tenant: x }]\nupstreams: { a: { region: us-east-1 } }\n";
        std::fs::write(&file, format!("{gateway}prices: own.yaml\n")).unwrap();
        assert!(check(&file).unwrap_err().contains("own.yaml: can't be read"));
        std::fs::write(directory.join("own.yaml"), "models:\n- { model: a, input: -1 }\n- { model: b, inptu: 1 }\n").unwrap();
        let told = check(&file).unwrap_err();
        assert!(told.contains("own.yaml:2:22: models[0].input: must not be negative"), "{told}");
        assert!(told.contains("own.yaml:3:15: models[1].inptu: unknown key") && told.contains("did you mean `input`?"), "{told}");
        std::fs::write(directory.join("own.yaml"), "models: [{ model: a, input: 1 }]\n").unwrap();
        assert_eq!(check(&file), Ok(()));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
