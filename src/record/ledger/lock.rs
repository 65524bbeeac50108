//! Who writes the file: two processes at most, so that one can take over from the other without a pause.
//!
//! The locks are on files beside it, `FILE.lock` and `FILE.lock2`, and the system takes them back from a process that ends in whatever way. Not on the file
//! itself: closing any handle of a file drops the locks that `SQLite` has on it (POSIX, fcntl).

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::LedgerError;
use super::schema::create;

/// A predecessor that is writing its last batch is waited for: a second at most.
const HAND_OVER: Duration = Duration::from_millis(20);
const HAND_OVER_TRIES: u32 = 50;

/// The places that there are.
const PLACES: [&str; 2] = [".lock", ".lock2"];

/// The right to write a ledger.
pub(super) struct Held {
    _lock: File,
    /// The other place, of which nothing is held.
    other: File,
}

/// Takes the right to write `file`.
pub(super) fn hold(file: &Path) -> Result<Held, LedgerError> {
    let place = |suffix: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        let name = PathBuf::from(name);
        create(&name).map_err(LedgerError::file(&name)).map(|file| (name, file))
    };
    let [first, second] = PLACES;
    let mut places = [place(first)?, place(second)?];
    for turn in 0..HAND_OVER_TRIES {
        for _ in 0..places.len() {
            let [(name, lock), _] = &places;
            match lock.try_lock() {
                Ok(()) => {
                    let [(_, lock), (_, other)] = places;
                    return Ok(Held { _lock: lock, other });
                }
                // Taken; or another looks whether it is, for a moment.
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(LedgerError::File { file: name.clone(), source }),
            }
            places.reverse();
        }
        if turn + 1 < HAND_OVER_TRIES {
            thread::sleep(HAND_OVER);
        }
    }
    Err(LedgerError::Taken(file.to_owned()))
}

impl Held {
    /// Whether another process writes the file now. Two system calls.
    pub(super) fn is_beside(&self) -> bool {
        match self.other.try_lock() {
            // What can't be given back is held: then nobody else ever is there.
            Ok(()) => self.other.unlock().is_err(),
            // What can't be told is taken for true: that costs rows that nobody reads.
            Err(_) => true,
        }
    }
}
