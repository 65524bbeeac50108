//! Runs one suite as a child process: nothing of this machine's environment in it, a bound on its time, all that it says when it fails.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::environment::{Runner, target};
use crate::world::World;

/// Runs the suite against `world`.
///
/// # Errors
/// Where a test fails or `limit` is over; in words, with the suite's whole output.
pub(super) async fn run(name: &str, runner: &Runner, world: &World, limit: Duration) -> Result<(), String> {
    let log = target().join(format!("{name}-{}.log", std::process::id()));
    let home = target().join(format!("{name}-{}.home", std::process::id()));
    let told = |error: std::io::Error| format!("the {name} suite: {error}");
    let file = File::create(&log).map_err(told)?;
    fs::create_dir_all(&home).map_err(told)?;

    let mut command = Command::new(&runner.program);
    // Nothing is inherited but PATH: no AWS_*, no proxies, and an empty home, so no ~/.aws either.
    command.args(&runner.arguments).current_dir(&runner.directory).env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.env("HOME", &home).env("LANG", "C.UTF-8").env("AWS_EC2_METADATA_DISABLED", "true").env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("TOLLGATE_CA", &world.ca_path).env("NODE_EXTRA_CA_CERTS", &world.ca_path);
    command.env("TOLLGATE_PLAIN_URL", &world.plain_url).env("TOLLGATE_TLS_URL", &world.tls_url);
    command.env("TOLLGATE_ANONYMOUS_URL", &world.anonymous_url).env("TOLLGATE_TOKEN", &world.token);
    command.env("TOLLGATE_EXPIRED_TOKEN", &world.expired_token).env("TOLLGATE_LIMITED_TOKEN", &world.limited_token);
    command.env("TOLLGATE_BRIEF_TOKEN", &world.brief_token);
    command.env("TOLLGATE_METERED_TOKEN", &world.metered_token).env("TOLLGATE_PACED_TOKEN", &world.paced_token);
    command.env("TOLLGATE_SPENT_TOKEN", &world.spent_token).env("TOLLGATE_STOPPED_TOKEN", &world.stopped_token);
    let [plain, tls] = world.issued_urls();
    command.env("TOLLGATE_ISSUED_PLAIN_URL", plain).env("TOLLGATE_ISSUED_TLS_URL", tls).env("TOLLGATE_API_KEY", &world.api_key);
    command.env("TOLLGATE_ACCESS_KEY_ID", &world.access_key_id).env("TOLLGATE_SECRET_ACCESS_KEY", &world.secret_access_key);
    command.stdin(Stdio::null()).stdout(file.try_clone().map_err(told)?).stderr(file);
    // A group of its own, so that what it starts ends with it.
    command.process_group(0).kill_on_drop(true);

    let mut child = command.spawn().map_err(|error| format!("the {name} suite: {}: {error}", runner.program.display()))?;
    let group = child.id();
    let ended = timeout(limit, child.wait()).await;
    if let (Err(_), Some(group)) = (&ended, group) {
        Command::new("sh").args(["-c", "kill -KILL -- \"-$0\""]).arg(group.to_string()).status().await.map_err(told)?;
        child.wait().await.map_err(told)?;
    }

    let said = fs::read(&log).map_err(told)?;
    fs::remove_dir_all(&home).map_err(told)?;
    if runner.directory.starts_with(target()) {
        fs::remove_dir_all(&runner.directory).map_err(told)?;
    }
    let fate = match ended {
        Ok(status) => match status.map_err(told)? {
            status if status.success() => return fs::remove_file(&log).map_err(told),
            status => format!("failed ({status})"),
        },
        Err(_) => format!("was not done within {limit:?}"),
    };
    Err(format!("the {name} suite {fate}; {} holds what it said:\n{}", log.display(), String::from_utf8_lossy(&said)))
}
