//! What does usage cost?
//!
//! Invariants: money is exact, no float in it; a model without a price is unpriced, never free.

use std::path::PathBuf;

use crate::config::prices::Prices as Config;
use crate::domain::{Cost, Usage};

/// Prices that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    /// The file can't be read.
    #[error("can't read the prices in `{}`: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The prices of a configuration. Immutable.
#[derive(Debug)]
pub struct Prices;

impl Prices {
    /// Reads the file that `config` names, and puts what the gateway ships behind it.
    ///
    /// # Errors
    /// Where the file can't be read, or is not well formed.
    pub fn build(_config: &Config) -> Result<Self, PricesError> {
        Ok(Self)
    }

    /// What `usage` of `model` in `region` costs.
    #[must_use]
    pub fn cost(&self, _model: Option<&str>, _region: &str, _usage: &Usage) -> Cost {
        Cost::Unpriced
    }
}
