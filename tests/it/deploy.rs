//! What lies in deploy/systemd: units that parse, that are closed enough, and that name what the command line knows.

use std::path::{Path, PathBuf};
use std::process::Command;

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd")
}

#[test]
fn every_line_of_every_file_is_a_section_an_assignment_or_a_comment() {
    let mut files = 0;
    for entry in std::fs::read_dir(units()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            assert!(line.starts_with('[') && line.ends_with(']') || line.contains('='), "{}: {line}", path.display());
        }
        files += 1;
    }
    assert_eq!(files, 5);
}

#[test]
fn services_run_commands_that_there_are_and_are_closed_enough() {
    for name in ["tollgate.service", "tollgate@.service"] {
        let path = units().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        for (key, command) in [("ExecStart=", "run"), ("ExecStartPre=", "check")] {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            let mut words = line.split(' ');
            assert_eq!((words.next(), words.next()), (Some("/usr/local/bin/tollgate"), Some(command)), "{name}");
            let help = Command::new(env!("CARGO_BIN_EXE_tollgate")).args([command, "--help"]).output().unwrap();
            let help = String::from_utf8(help.stdout).unwrap();
            for flag in words.filter(|word| word.starts_with("--")) {
                assert!(help.contains(flag), "{name}: {flag}");
            }
        }
        // Where there is no systemd, nobody can tell.
        let Ok(judged) = Command::new("systemd-analyze").args(["security", "--offline=yes", "--threshold=20"]).arg(&path).output() else {
            continue;
        };
        assert!(judged.status.success(), "{name}: {}", String::from_utf8_lossy(&judged.stdout));
    }
}
