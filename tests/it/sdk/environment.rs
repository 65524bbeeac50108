//! The SDKs themselves: a virtual environment and a `node_modules` under `target/sdk/`, made once for each set of pins.
//!
//! A file lock keeps parallel test runs apart. The stamp is written last, so an installation that was interrupted is made anew.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A program with its arguments, ready to run a suite, and where to run it.
pub(crate) struct Runner {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) directory: PathBuf,
}

const WITHOUT: &str = "TOLLGATE_SKIP_SDK=1 runs the other tests without it";

/// pytest over `tests/sdk/python`.
///
/// # Errors
/// Where Python is missing or too old, or a package cannot be installed; in words, with the output.
pub(crate) fn python() -> Result<Runner, String> {
    let suite = suites().join("python");
    let interpreter = packages(&suite.join("requirements.txt"), "python")?;
    Ok(Runner { program: interpreter, arguments: ["-m", "pytest", "--durations=5"].map(OsString::from).into(), directory: suite })
}

/// moto's server, a stand-in for STS and much of AWS, on a free port.
///
/// # Errors
/// As [`python`].
pub(crate) fn moto() -> Result<Runner, String> {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/moto");
    let interpreter = packages(&suite.join("requirements.txt"), "moto")?;
    Ok(Runner {
        program: interpreter,
        arguments: ["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"].map(OsString::from).into(),
        directory: suite,
    })
}

/// The interpreter of `target/sdk/{name}`, with the packages of `requirements`.
fn packages(requirements: &Path, name: &str) -> Result<PathBuf, String> {
    let home = target().join(name);
    let version = output(
        Command::new("python3").args(["-c", "import ensurepip, sys, venv; print(sys.version); sys.exit(sys.version_info < (3, 10))"]),
        &format!("{} needs Python 3.10 with venv (Debian: apt-get install python3-venv); {WITHOUT}", requirements.display()),
    )?;
    let interpreter = home.join("bin/python");
    once(&home, &[requirements], &version, || {
        output(Command::new("python3").args(["-m", "venv"]).arg(&home), "the virtual environment could not be made")?;
        let mut pip = Command::new(&interpreter);
        pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--requirement"]).arg(requirements);
        output(&mut pip, "the Python packages could not be installed").map(drop)
    })?;
    Ok(interpreter)
}

/// `node --test` over a copy of `tests/sdk/node`, since modules are looked for beside the file that imports them.
///
/// # Errors
/// Where Node is missing or too old, or a package cannot be installed; in words, with the output.
pub(crate) fn node() -> Result<Runner, String> {
    let suite = suites().join("node");
    let home = modules(&suite, "node")?;

    let directory = home.join(format!("suite-{}-{}", std::process::id(), COPIES.fetch_add(1, Ordering::Relaxed)));
    create(&directory)?;
    let mut arguments: Vec<OsString> = ["--test", "--test-concurrency=2", "--test-reporter=spec"].map(OsString::from).into();
    let entries = fs::read_dir(&suite).map_err(|error| format!("{}: {error}", suite.display()))?;
    let mut sources: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    sources.sort();
    for source in sources.iter().filter(|source| source.extension().is_some_and(|extension| extension == "js")) {
        copy(source, &directory)?;
        arguments.extend(source.file_name().filter(|name| name.to_string_lossy().ends_with(".test.js")).map(OsString::from));
    }
    Ok(Runner { program: "node".into(), arguments, directory })
}

/// A stock OpenID provider: `tests/oidc/provider.js`, beside a `node_modules` of its own.
///
/// # Errors
/// As [`node`].
pub(crate) fn provider() -> Result<Runner, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc");
    let home = modules(&source, "oidc")?;
    let directory = home.join(format!("provider-{}-{}", std::process::id(), COPIES.fetch_add(1, Ordering::Relaxed)));
    create(&directory)?;
    copy(&source.join("provider.js"), &directory)?;
    copy(&source.join("package.json"), &directory)?;
    Ok(Runner { program: "node".into(), arguments: vec!["provider.js".into()], directory })
}

/// Copies of suites that run at once, each in a directory of its own.
static COPIES: AtomicU32 = AtomicU32::new(0);

/// `target/sdk/{name}`, with the packages that `suite` pins.
fn modules(suite: &Path, name: &str) -> Result<PathBuf, String> {
    let home = target().join(name);
    let version = output(
        Command::new("node").args(["-e", "console.log(process.version); process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)"]),
        &format!("{} needs Node 20 (Debian: apt-get install nodejs npm); {WITHOUT}", suite.display()),
    )?;
    let packages = ["package.json", "package-lock.json", ".npmrc"].map(|name| suite.join(name));
    once(&home, &packages.each_ref().map(PathBuf::as_path), &version, || {
        for package in &packages {
            copy(package, &home)?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&home);
        output(&mut npm, "the packages could not be installed").map(drop)
    })?;
    Ok(home)
}

fn suites() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

/// `target/sdk`, wherever `target` is.
pub(super) fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("sdk")
}

/// Runs `install` in an empty `home`, unless it ran before for the same pins and the same interpreter.
fn once(home: &Path, pins: &[&Path], version: &str, install: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let told = |what: &Path| {
        let what = what.display().to_string();
        move |error: std::io::Error| format!("{what}: {error}")
    };
    create(&target())?;
    let guard = home.with_extension("lock");
    let lock = File::create(&guard).map_err(told(&guard))?;
    lock.lock().map_err(told(&guard))?; // until it is dropped

    let mut wanted = version.to_owned();
    for pin in pins {
        wanted += &fs::read_to_string(pin).map_err(told(pin))?;
    }
    let stamp = home.join("stamp");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if home.exists() {
        fs::remove_dir_all(home).map_err(told(home))?;
    }
    create(home)?;
    install()?;
    fs::write(&stamp, wanted).map_err(told(&stamp))
}

fn create(directory: &Path) -> Result<(), String> {
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))
}

fn copy(file: &Path, into: &Path) -> Result<(), String> {
    let name = file.file_name().unwrap_or_default();
    fs::copy(file, into.join(name)).map(drop).map_err(|error| format!("{}: {error}", file.display()))
}

/// What a command prints; `need` and all that it printed where it fails.
fn output(command: &mut Command, need: &str) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{need}: {}: {error}", command.get_program().display()))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    Err(format!("{need}: {command:?}: {}\n{printed}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
