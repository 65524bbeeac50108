//! `tollgate diff`: what a gateway that runs by one configuration would do with another.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::load;
use crate::config::{AllFates, Difference, Fates, needs_restart};

/// Two configurations.
#[derive(Args)]
pub(super) struct Diff {
    /// The configuration that is served
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The one that is to be
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Exit with 1 where anything is different, as `git diff --exit-code` does
    #[arg(long)]
    exit_code: bool,
}

/// What to print, and what to exit with.
pub(super) struct Compared {
    pub(super) answer: String,
    pub(super) code: u8,
}

impl Diff {
    /// Checks both, and compares them.
    pub(super) fn run(&self) -> Result<Compared, String> {
        let (old, new) = (load(&self.old)?, load(&self.new)?);
        let differences = old.differences(&new);
        let answer = if differences.is_empty() { "no difference\n".to_owned() } else { told(&differences, &old.fates(&new)) };
        Ok(Compared { answer, code: u8::from(self.exit_code && !differences.is_empty()) })
    }
}

fn told(differences: &[Difference], fates: &AllFates) -> String {
    let (frozen, applied): (Vec<_>, Vec<_>) = differences.iter().partition(|difference| needs_restart(&difference.path));
    let mut answer = String::new();
    let head = if frozen.is_empty() { "Applied at once, by a reload:" } else { "What a reload could apply, but for what is below:" };
    section(&mut answer, head, &applied);
    section(&mut answer, "Needs a restart; a reload is refused as a whole:", &frozen);
    let AllFates { listeners, upstreams, limits, routes } = fates;
    fate(&mut answer, "listeners", listeners, "kept", "go on, on their sockets, otherwise");
    fate(&mut answer, "upstreams", upstreams, "kept", "built anew");
    fate(&mut answer, "limits", limits, "kept, with what is used", "begin anew, for they count otherwise");
    fate(&mut answer, "routes", routes, "kept", "changed");
    answer
}

fn section(answer: &mut String, head: &str, differences: &[&Difference]) {
    if differences.is_empty() {
        return;
    }
    // Writing to a string can't fail.
    let _ = writeln!(answer, "{head}");
    for Difference { path, old, new } in differences {
        let _ = match (old, new) {
            (Some(old), Some(new)) => writeln!(answer, "  {path}: {old} -> {new}"),
            (None, Some(new)) => writeln!(answer, "  {path}: added: {new}"),
            (Some(old), None) => writeln!(answer, "  {path}: removed: {old}"),
            (None, None) => Ok(()),
        };
    }
    answer.push('\n');
}

fn fate(answer: &mut String, what: &str, fates: &Fates, kept: &str, changed: &str) {
    let Fates { kept: same, changed: others, new, gone } = fates;
    let parts = [(kept, same), (changed, others), ("new", new), ("gone", gone)];
    let parts: Vec<String> =
        parts.iter().filter(|(_, names)| !names.is_empty()).map(|(how, names)| format!("{how}: {}", names.join(", "))).collect();
    if !parts.is_empty() {
        let _ = writeln!(answer, "{what}: {}", parts.join("; "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "\
listeners: [{ address: '127.0.0.1:1' }]
identity: [anonymous: { tenant: a }]
limits: [{ name: rpm, count: requests, rate: 600/minute, burst: 600 }, { name: day, count: tokens, quota: 5/day }]
upstreams: { use1: { region: us-east-1 } }
";

    fn diff(test: &str, old: &str, new: &str) -> Result<Compared, String> {
        let directory = std::env::temp_dir().join(format!("tollgate-diff-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = |name: &str, text: &str| {
            let file = directory.join(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        let diff = Diff { old: file("old.yaml", old), new: file("new.yaml", new), exit_code: true };
        let compared = diff.run();
        std::fs::remove_dir_all(&directory).unwrap();
        compared
    }

    #[test]
    fn what_would_change_is_told_by_when_it_would() {
        let same = diff("same", OLD, &format!("# the same\n{OLD}")).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((same.answer.as_str(), same.code), ("no difference\n", 0));
        let new = OLD.replace("600/minute", "60/minute").replace("quota: 5/day", "quota: 5/day, per: [user]").replace("1:1'", "1:2'");
        let new = format!("{new}admin: {{ address: '127.0.0.1:9' }}\n");
        let told = diff("told", OLD, &new).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(told.code, 1);
        for expected in [
            "What a reload could apply, but for what is below:\n",
            "  limits[rpm].rate: 600/minute -> 60/minute\n",
            "  limits[day].per: [tenant] -> [user]\n",
            "Needs a restart; a reload is refused as a whole:\n  admin.address: 127.0.0.1:9090 -> 127.0.0.1:9\n",
            "listeners: new: 127.0.0.1:2; gone: 127.0.0.1:1\n",
            "upstreams: kept: use1\n",
            "limits: kept, with what is used: rpm; begin anew, for they count otherwise: day\n",
            "routes: kept: everything\n",
        ] {
            assert!(told.answer.contains(expected), "no {expected:?} in\n{}", told.answer);
        }
    }

    #[test]
    fn a_file_with_a_fault_is_not_compared() {
        let Err(faults) = diff("faults", OLD, &OLD.replace("rate:", "rtae:")) else { panic!("it was compared") };
        assert!(faults.contains("limits[0].rtae: unknown key"), "{faults}");
    }
}
