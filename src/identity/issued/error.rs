//! What can be wrong with a file of issued keys: told to the operator.

use std::io;
use std::path::PathBuf;

use super::entry::{MAX_ENTRIES, MAX_FILE};
use super::seal::SealError;

/// Why a file of issued keys is refused. Entries count from 1.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The system's answer.
    #[error("can't be read: {0}")]
    Unreadable(#[source] io::Error),
    /// Too long to be right.
    #[error("is longer than {MAX_FILE} bytes")]
    TooLong,
    /// Too many to be right.
    #[error("holds more than {MAX_ENTRIES} entries")]
    TooMany,
    /// No list of entries.
    #[error("is no list of keys: {0}")]
    Syntax(String),
    /// An entry that does not hold together.
    #[error("entry {at} (`{name}`): {what}")]
    Entry {
        /// Its place.
        at: usize,
        /// Its public name.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Which of the two is meant would be a matter of chance.
    #[error("entry {at} (`{name}`): an entry above has the same name or the same key")]
    Twice {
        /// Its place.
        at: usize,
        /// Its public name.
        name: String,
    },
    /// Secrets lie open.
    #[error(
        "entry {at} (`{name}`) holds its secret in the clear, and the file is open to others than its owner (mode {mode:o}): `chmod 600` it, or issue credentials with `--key-file`"
    )]
    Exposed {
        /// Its place.
        at: usize,
        /// Its public name.
        name: String,
        /// The file's permissions.
        mode: u32,
    },
    /// A sealed secret, and nothing to open it with.
    #[error("entry {at} (`{name}`) is sealed: add `key_file` to `aws_credentials`")]
    NoKeyFile {
        /// Its place.
        at: usize,
        /// Its public name.
        name: String,
    },
    /// The wrong key, or a changed secret.
    #[error("entry {at} (`{name}`): its secret can't be opened: it was sealed under another key file, for another id, or was changed")]
    Sealed {
        /// Its place.
        at: usize,
        /// Its public name.
        name: String,
    },
    /// The key file can't be used.
    #[error("its key file `{}` {cause}", file.display())]
    KeyFile {
        /// The file as it was configured.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: SealError,
    },
}
