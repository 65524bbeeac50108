//! Where lines end up: a file that may be rotated, or standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use tracing::warn;

use super::super::complaints::Complaints;
use super::Faults;
use super::buffer::GATHER;
use crate::config::record::Destination;
use crate::domain::Clock;

/// Where the lines end up. Only the writer has it.
pub(super) struct Sink {
    pub(super) file: File,
    /// Where the file is to be opened anew; none for standard output.
    path: Option<PathBuf>,
    /// The last byte written was not the end of a line.
    pub(super) torn: bool,
    faults: Faults,
    complaints: Complaints,
}

impl Sink {
    /// Opens the destination.
    ///
    /// # Errors
    /// When the file can't be opened for appending.
    pub(super) fn open(to: &Destination, faults: Faults) -> io::Result<Self> {
        match to {
            // Not std's `Stdout`: its own buffer would keep half a line, and its lock would make others wait for us.
            Destination::Stdout => Ok(Self::new(File::from(io::stdout().as_fd().try_clone_to_owned()?), None, faults)),
            Destination::File(path) => Ok(Self::new(open_to_append(path)?, Some(path.clone()), faults)),
        }
    }

    pub(super) fn new(file: File, path: Option<PathBuf>, faults: Faults) -> Self {
        Self { file, path, torn: false, faults, complaints: Complaints::default() }
    }

    /// Opens the file anew; keeps the old one where that fails.
    pub(super) fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open_to_append(path) {
            Ok(file) => (self.file, self.torn) = (file, false),
            Err(error) => self.complain("the access log could not be opened anew, the old file is kept", &error),
        }
    }

    /// Writes whole lines. What can't be written is lost and counted; the next batch is tried again.
    pub(super) fn write(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        if self.torn {
            match write_all(&mut self.file, b"\n") {
                Ok(()) => self.torn = false,
                Err((_, error)) => return self.lose(lines, &error),
            }
        }
        if let Err((rest, error)) = write_all(&mut self.file, lines) {
            self.torn = lines.strip_suffix(rest).and_then(<[u8]>::last).is_some_and(|&byte| byte != b'\n');
            self.lose(rest, &error);
        }
    }

    /// A torn line counts too: its end is in `rest`.
    fn lose(&mut self, rest: &[u8], error: &io::Error) {
        self.faults.dropped.inc_by(memchr::memchr_iter(b'\n', rest).count() as u64);
        self.complain("the access log could not be written, lines are lost", error);
    }

    fn complain(&mut self, message: &'static str, error: &io::Error) {
        self.faults.errors.inc();
        if self.complaints.is_due(Clock::System.monotonic()) {
            warn!(path = ?self.path, %error, dropped_total = self.faults.dropped.get(), errors_total = self.faults.errors.get(), "{message}");
        }
    }
}

/// Readable by the owner and the group: tenants, users and addresses are nobody else's business.
fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Writes all, or returns what was not written and why.
fn write_all<'a>(file: &mut File, mut rest: &'a [u8]) -> Result<(), (&'a [u8], io::Error)> {
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err((rest, ErrorKind::WriteZero.into())),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Standard output may be a pipe that another process made non-blocking. Only the writer waits here.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(GATHER),
            Err(error) => return Err((rest, error)),
        }
    }
    Ok(())
}
