//! `record.ledger`: where usage and cost are kept.

use std::path::PathBuf;
use std::time::Duration;

use super::super::reader::{Checked, FromValue, Numeral, Value};

/// The ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// The file, of `SQLite`, made where there is none; its directory must exist.
    pub file: PathBuf,
    /// How long hours are kept: a day to ten years. Default 400 days: a year, and the month that it is compared with.
    pub keep: Duration,
    /// How long single exchanges are kept, for `tollgate reconcile`: an hour to ten years. Default 7 days; zero keeps none.
    pub keep_exchanges: Duration,
}

const DAY: Duration = Duration::from_hours(24);

/// Nothing is kept longer.
const LONGEST: Duration = Duration::from_hours(24 * 3650);

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
        let keep = map.value("keep").map_or(Ok(default.keep), |value| retention(&value, DAY));
        let keep_exchanges = map.value("keep_exchanges").map_or(Ok(default.keep_exchanges), |value| {
            if value.is_false() || value.as_text() == Some("off") {
                return Ok(Duration::ZERO);
            }
            retention(&value, Duration::from_hours(1))
        });
        map.finish()?;
        Ok(Self { file: file?, keep: keep?, keep_exchanges: keep_exchanges? })
    }
}

/// Days or hours: longer than any timeout may be, and no shorter than `least`.
fn retention(value: &Value<'_>, least: Duration) -> Checked<Duration> {
    let hours = match value.numeral() {
        Numeral::WithUnit(number, "d") => number.checked_mul(24),
        Numeral::WithUnit(number, "h") => Some(number),
        Numeral::WithUnit(..) | Numeral::Bare(_) | Numeral::Other => None,
    };
    let kept = hours.and_then(|hours| hours.checked_mul(3600)).map(Duration::from_secs);
    kept.filter(|kept| (least..=LONGEST).contains(kept)).map_or_else(
        || {
            let least = if least < DAY { "`1h` to `3650d`, or `off` for none" } else { "`1d` to `3650d`" };
            value.refuse_with(format!("{} is not how long something is kept", value.quoted()), least)
        },
        Ok,
    )
}
