//! `prices`: the file of prices, and what such a file holds.

mod table;

use std::path::{Path, PathBuf};

use super::reader::{self, Checked, FromValue, Value};

pub use self::table::{Entry, Guardrail, PerToken, Table};
pub use super::reader::Faults;

/// Where prices come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// The operator's own, asked before those that the gateway ships; none without the key.
    pub file: Option<PathBuf>,
}

impl FromValue for Prices {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        PathBuf::from_value(value).map(|file| Self { file: Some(file) })
    }
}

impl Table {
    /// Reads a file of prices, of at most 1 MiB.
    ///
    /// # Errors
    /// Every fault of the file at once, with its place.
    pub fn load(file: &Path) -> Result<Self, Faults> {
        Self::parse(&reader::text_of(file)?, file)
    }

    /// Reads the text of a file of prices. `file` is the name that faults are shown under.
    ///
    /// # Errors
    /// Every fault of the text at once, with its place.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Faults> {
        reader::read(text, file, Self::from_value)
    }
}
