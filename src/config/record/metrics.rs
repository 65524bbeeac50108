//! `record.metrics`: how many time series there may be.

use super::super::reader::{Checked, FromValue, Value};

/// The metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Time series with labels that come from calls (tenants, models): 1,000 to 1,000,000. What comes beyond is counted under `other`. Default 50,000.
    pub max_series: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { max_series: 50_000 }
    }
}

impl FromValue for Metrics {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let max_series = map.value("max_series").map_or(Ok(Self::default().max_series), |value| match u64::from_value(&value)? {
            max @ 1_000..=1_000_000 => Ok(max),
            _ => value.refuse_with(format!("{} time series", value.quoted()), "1000 to 1000000"),
        });
        map.finish()?;
        Ok(Self { max_series: max_series? })
    }
}
