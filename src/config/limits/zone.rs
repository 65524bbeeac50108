//! Time zones, by name.

use std::collections::BTreeSet;

use jiff::tz::TimeZoneDatabase;
use parking_lot::Mutex;

use super::super::reader::{Checked, FromValue, Value, nearest};

/// A time zone of the IANA that is known to exist, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Zone(&'static str);

/// The names in use. What is in it stays for ever, so that a zone is a mere name: at most as many as there are zones.
static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

impl Zone {
    /// UTC.
    pub const UTC: Self = Self("UTC");

    /// The zone of that name, as the IANA writes it, in any case: of those that the gateway brings along, so that every host knows the same.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let zone = TimeZoneDatabase::bundled().get(name).ok()?;
        let name = zone.iana_name()?;
        if name == Self::UTC.0 {
            return Some(Self::UTC);
        }
        let mut names = NAMES.lock();
        if let Some(known) = names.get(name) {
            return Some(Self(known));
        }
        let name: &'static str = Box::leak(name.into());
        names.insert(name);
        Some(Self(name))
    }

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl FromValue for Zone {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let text = value.text()?;
        let unknown = || {
            let names: Vec<String> = TimeZoneDatabase::bundled().available().map(|name| name.as_str().to_owned()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let help = nearest(text, &names).map_or_else(
                || "a name of the IANA's, as in `Europe/Berlin`, `America/New_York` or `UTC`".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            value.refuse_with(format!("{} is no time zone", value.quoted()), help)
        };
        Self::named(text).map_or_else(unknown, Ok)
    }
}
