//! `record.ledger`: where usage and cost are kept.

use std::path::PathBuf;
use std::time::Duration;

use super::super::reader::{Checked, FromValue, Value};

/// The ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// The file, of `SQLite`, made where there is none; its directory must exist.
    pub file: PathBuf,
    /// How long hours are kept. Default 400 days: a year, and the month that it is compared with.
    pub keep: Duration,
    /// How long single exchanges are kept, for `tollgate reconcile`. Default 7 days; zero keeps none.
    pub keep_exchanges: Duration,
}

const DAY: Duration = Duration::from_hours(24);

impl Ledger {
    fn at(file: PathBuf) -> Self {
        Self { file, keep: DAY * 400, keep_exchanges: DAY * 7 }
    }
}

/// A path, or a map of it and for how long what is kept.
impl FromValue for Ledger {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        if value.as_text().is_some() {
            return PathBuf::from_value(value).map(Self::at);
        }
        let mut map = value.map()?;
        let file = map.required::<PathBuf>("file", "/var/lib/tollgate/ledger.sqlite");
        let default = Self::at(PathBuf::new());
        let keep = map.or("keep", default.keep);
        let keep_exchanges = map.or("keep_exchanges", default.keep_exchanges);
        map.finish()?;
        Ok(Self { file: file?, keep: keep?, keep_exchanges: keep_exchanges? })
    }
}
