//! `record`: what is written down.

use std::path::PathBuf;

/// What is written down of each exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The access log; none switches it off. Default: JSON to stdout.
    pub access_log: Option<AccessLog>,
}

/// One JSON line an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Where the lines go.
    pub to: Destination,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output (journald, under systemd).
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}
