//! What can be wrong with a ledger.

use std::io;
use std::path::{Path, PathBuf};

/// Why a ledger can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Two others write it, processes or recorders of this one.
    #[error("ledger `{}`: two gateways write it, one that ends and its successor; wait for the end of the one, or give this one a file of its own", .0.display())]
    Taken(PathBuf),
    /// A later gateway wrote it.
    #[error("ledger `{}`: its schema is version {found}, and this gateway knows {known} at most; run the newer one", .file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// An earlier gateway wrote it, and whoever only reads does not change it.
    #[error("ledger `{}`: its schema is version {found}; start the gateway once, it brings it to {known}", .file.display())]
    Older {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: i64,
        /// The version that is read.
        known: i64,
    },
    /// Some other program's database.
    #[error("`{}` is a database, and no ledger of a gateway", .0.display())]
    Foreign(PathBuf),
    /// The file, or the lock beside it, can't be had.
    #[error("ledger `{}`: {source}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `SQLite` refused.
    #[error("ledger `{}`: {source}", .file.display())]
    Sqlite {
        /// The file.
        file: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// What was to be written at once was not, and will not be.
    #[error("ledger `{}`: it did not take the change in time; nothing was changed", .0.display())]
    Slow(PathBuf),
    /// There are as many grants as are kept.
    #[error("ledger `{}`: it keeps {most} grants, those that ended in the last 30 days included, and has them", .file.display())]
    ManyGrants {
        /// The file.
        file: PathBuf,
        /// So many.
        most: u32,
    },
    /// The gateway has none.
    #[error("there is no ledger: name a file for it in gateway.yaml, as in `record: {{ ledger: /var/lib/tollgate/ledger.sqlite }}`")]
    Absent,
    /// The thread that writes can't be started.
    #[error("no thread for the ledger: {0}")]
    Thread(io::Error),
}

impl LedgerError {
    /// Tells of which file `SQLite` spoke.
    pub(super) fn sqlite(file: &Path) -> impl Fn(rusqlite::Error) -> Self {
        move |source| Self::Sqlite { file: file.to_owned(), source }
    }

    /// Tells of which file the system spoke.
    pub(super) fn file(file: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::File { file: file.to_owned(), source }
    }
}
