//! `prices`: the file of prices.

use std::path::PathBuf;

use super::reader::{Checked, FromValue, Value};

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
