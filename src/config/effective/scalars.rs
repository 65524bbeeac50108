//! Values of a single word.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Uri};
use ipnet::IpNet;
use serde_yaml::Value;

use super::Shown;
use crate::domain::{Glob, Secret};

/// What stands in place of a secret.
const MASK: &str = "***";

impl<T> Shown for Secret<T> {
    fn shown(&self) -> Value {
        MASK.into()
    }
}

/// Every text goes this way, so that a URL in it is never shown with what may be a secret.
impl Shown for str {
    fn shown(&self) -> Value {
        without_secrets(self).into()
    }
}

impl Shown for &str {
    fn shown(&self) -> Value {
        (**self).shown()
    }
}

impl Shown for String {
    fn shown(&self) -> Value {
        self.as_str().shown()
    }
}

impl Shown for Glob {
    fn shown(&self) -> Value {
        self.to_string().shown()
    }
}

impl Shown for Uri {
    fn shown(&self) -> Value {
        self.to_string().shown()
    }
}

impl Shown for HeaderName {
    fn shown(&self) -> Value {
        self.as_str().shown()
    }
}

/// A path is where a secret may be, and is none itself.
impl Shown for PathBuf {
    fn shown(&self) -> Value {
        self.to_string_lossy().into()
    }
}

impl Shown for SocketAddr {
    fn shown(&self) -> Value {
        self.to_string().into()
    }
}

impl Shown for IpNet {
    fn shown(&self) -> Value {
        self.to_string().into()
    }
}

impl Shown for bool {
    fn shown(&self) -> Value {
        (*self).into()
    }
}

impl Shown for u64 {
    fn shown(&self) -> Value {
        (*self).into()
    }
}

/// In the largest unit that leaves a whole number. No time at all is what switches something off.
impl Shown for Duration {
    fn shown(&self) -> Value {
        const UNITS: [(u128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        let milliseconds = self.as_millis();
        if milliseconds == 0 {
            return "off".into();
        }
        match UNITS.into_iter().find(|(unit, _)| milliseconds >= *unit && milliseconds.is_multiple_of(*unit)) {
            Some((unit, name)) => format!("{}{name}", milliseconds / unit).into(),
            None => format!("{milliseconds}ms").into(),
        }
    }
}

impl Shown for Value {
    fn shown(&self) -> Value {
        self.clone()
    }
}

/// Parts in a million, as `0.5%`.
pub(super) fn percent(parts: u32) -> String {
    let (whole, rest) = (parts / 10_000, parts % 10_000);
    if rest == 0 {
        return format!("{whole}%");
    }
    let decimals = format!("{rest:04}");
    format!("{whole}.{}%", decimals.trim_end_matches('0'))
}

/// Hides, where the text is a URL (RFC 3986, section 3), user and password, query and fragment: each is where a secret may be put.
fn without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    // A password may hold what should have been escaped: the last `@` of what stands before the query ends it, a `/` or none.
    let (before, after) = rest.split_at_checked(rest.find(['?', '#']).unwrap_or(rest.len())).unwrap_or((rest, ""));
    let end = after.chars().next().map(|mark| format!("{mark}{MASK}")).unwrap_or_default();
    match before.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{MASK}@{host}{end}"),
        // The password itself may hold a `?` or `#`.
        None if after.contains('@') => format!("{scheme}://{MASK}"),
        None => format!("{scheme}://{before}{end}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_nothing_is_shown_that_may_be_a_secret() {
        for (text, shown) in [
            ("https://idp.example.com/realms/a", "https://idp.example.com/realms/a"),
            ("https://me:hunter2@idp.example.com/a", "https://***@idp.example.com/a"),
            ("https://me:hun/ter2@idp.example.com/a", "https://***@idp.example.com/a"),
            ("https://me:hun?ter2@idp.example.com/a", "https://***"),
            ("https://me:hun#ter2@idp.example.com/a", "https://***"),
            ("http://127.0.0.1:1/?code=hunter2", "http://127.0.0.1:1/?***"),
            ("http://127.0.0.1:1/#hunter2", "http://127.0.0.1:1/#***"),
            ("spiffe://corp/tenant/", "spiffe://corp/tenant/"),
            ("urn:internal", "urn:internal"),
            ("trial-*", "trial-*"),
            ("me@example.com", "me@example.com"),
        ] {
            assert_eq!(without_secrets(text), shown, "{text}");
        }
    }

    #[test]
    fn a_duration_has_the_largest_unit_that_fits() {
        for (milliseconds, shown) in
            [(1, "1ms"), (1500, "1500ms"), (30_000, "30s"), (90_000, "90s"), (3_600_000, "1h"), (86_400_000 * 400, "400d"), (0, "off")]
        {
            assert_eq!(Duration::from_millis(milliseconds).shown(), Value::from(shown));
        }
    }

    #[test]
    fn a_share_is_written_exactly() {
        for (parts, shown) in [(0, "0%"), (1, "0.0001%"), (5_000, "0.5%"), (10_000, "1%"), (123_400, "12.34%"), (1_000_000, "100%")] {
            assert_eq!(percent(parts), shown);
        }
    }

    #[test]
    fn a_secret_is_stars() {
        assert_eq!(Secret::new("hunter2").shown(), Value::from("***"));
    }
}
