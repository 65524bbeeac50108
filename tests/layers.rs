//! The layers of ARCHITECTURE.md, checked on every file under `src/`:
//!
//! ```text
//! main, cli, demo -> server, reload, admin, emulator -> proxy -> state -> rooms -> config -> domain
//! ```
//!
//! Imports run one way along that line; a room imports `domain` and its own `config::<room>`, never another room; Pingora stays where it
//! belongs. The checker reads tokens, not lines, so that a nested `use`, a `super::super::` and a path in the middle of an expression are
//! all seen. What is under `#[cfg(test)]` may import what it likes. The module `synthetic` proves that each rule can fail.

#![cfg(test)]

#[path = "layers/lexer.rs"]
mod lexer;
#[path = "layers/paths.rs"]
mod paths;
#[path = "layers/rules.rs"]
mod rules;
#[path = "layers/synthetic.rs"]
mod synthetic;

use std::fs;
use std::path::{Path, PathBuf};

use rules::Source;

/// Every `.rs` file under `src/`, by its path there, in order.
fn sources() -> Vec<Source> {
    fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| Source {
            path: path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/"),
            text: fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        })
        .collect()
}

#[test]
fn imports_run_one_way_and_no_file_is_too_long() {
    let sources = sources();
    let seen: usize = sources.iter().map(|source| paths::references(source).len()).sum();
    assert!(sources.len() > 20 && seen > 0, "the checker saw {} files and {seen} imports: it looks in the wrong place", sources.len());
    let faults = rules::faults(&sources);
    let report: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{} faults against the layers of ARCHITECTURE.md:\n  {}", faults.len(), report.join("\n  "));
}
