//! Values of a single word: text, switches, numbers, durations, sizes, addresses, paths.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::document::Content;
use super::secrets::names_a_secret;
use crate::domain::Glob;

use super::{Checked, FromValue, Value};

/// No timeout is longer: sums with the clock stay far from overflowing.
const LONGEST: Duration = Duration::from_hours(365 * 24);

impl Value<'_> {
    /// The text; not empty, on one line.
    pub(in super::super) fn text(&self) -> Checked<&str> {
        let Some(text) = self.as_text() else {
            return self.unexpected("text");
        };
        if text.trim().is_empty() {
            return self.refuse("must not be empty");
        }
        if text.chars().any(char::is_control) {
            return self.refuse("holds a line break or another control character");
        }
        Ok(text)
    }

    /// The value as a message may quote it, in backticks.
    pub(in super::super) fn quoted(&self) -> String {
        match &self.node.content {
            _ if names_a_secret(self.last_key()) => "`***`".to_owned(),
            Content::Text(text) if text.contains('@') => "the value".to_owned(),
            Content::Text(text) | Content::Number(text) => format!("`{}`", shorten(text)),
            Content::Whole(number) => format!("`{number}`"),
            Content::Nothing | Content::Bool(_) | Content::List(_) | Content::Map(_) | Content::Tagged => "the value".to_owned(),
        }
    }

    /// A number with a unit, or a number alone, or neither.
    pub(in super::super) fn numeral(&self) -> Numeral<'_> {
        match &self.node.content {
            Content::Whole(number) => Numeral::Bare(*number),
            Content::Text(text) => split_number(text).map_or(Numeral::Other, |(number, unit)| Numeral::WithUnit(number, unit)),
            Content::Nothing | Content::Bool(_) | Content::Number(_) | Content::List(_) | Content::Map(_) | Content::Tagged => {
                Numeral::Other
            }
        }
    }
}

/// `1%`, `0.5%`, `100%`: at most four decimals.
pub(in super::super) fn parts_in_a_million(value: &Value<'_>) -> Checked<u32> {
    // A number without `%` is no text, and nobody could tell whether one is all or a hundredth.
    let parsed = value.as_text().and_then(|text| text.strip_suffix('%')).and_then(|number| {
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 3 || decimals.len() > 4 || !digits(whole) || !digits(decimals) {
            return None;
        }
        format!("{whole}{decimals:0<4}").parse::<u32>().ok().filter(|parts| *parts <= 1_000_000)
    });
    match parsed {
        Some(parts) => Ok(parts),
        None => value
            .refuse_with(format!("{} is not a share", value.quoted()), "`0%` to `100%`, with four decimals at most, as in `1%` or `0.05%`"),
    }
}

/// What a value looks like to whoever wants a number with a unit.
pub(in super::super) enum Numeral<'a> {
    /// `600`
    Bare(u64),
    /// `600/minute`: 600 and `/minute`; the unit is perhaps none at all.
    WithUnit(u64, &'a str),
    /// Something else.
    Other,
}

/// Splits `30s` into 30 and `s`. None where there is no number in front, or one beyond 64 bits.
pub(in super::super) fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit))
}

/// The beginning of a text from the file, short enough for a message.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

impl FromValue for String {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        value.text().map(str::to_owned)
    }
}

impl FromValue for Glob {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let pattern = value.text()?;
        if pattern.is_empty() {
            return value.refuse_with("an empty pattern matches nothing", "a name, in which `*` stands for any run of characters");
        }
        Ok(Self::new(pattern))
    }
}

impl FromValue for bool {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        match value.node.content {
            Content::Bool(switch) => Ok(switch),
            _ => value.unexpected("`true` or `false`"),
        }
    }
}

/// A value of a single word: what a claim is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Text.
    Text(String),
    /// A whole number.
    Whole(u64),
    /// A switch.
    Bool(bool),
}

impl FromValue for Scalar {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        match value.node.content {
            Content::Bool(switch) => Ok(Self::Bool(switch)),
            Content::Whole(number) => Ok(Self::Whole(number)),
            Content::Text(_) => value.text().map(|text| Self::Text(text.to_owned())),
            _ => value.unexpected("text, a whole number, `true` or `false`"),
        }
    }
}

impl FromValue for u64 {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        match value.node.content {
            Content::Whole(number) => Ok(number),
            Content::Number(_) => value.refuse("expected a whole number, not negative and below 2^64"),
            _ => value.unexpected("a whole number"),
        }
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    /// All items are read before any is found wanting.
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let items: Vec<Checked<T>> = value.items()?.iter().map(T::from_value).collect();
        items.into_iter().collect()
    }
}

/// The name of a rule, an upstream, a route. It goes into logs, metrics and messages as it is.
#[derive(Debug)]
pub(in super::super) struct Name(pub(in super::super) String);

impl Name {
    const MAX: usize = 64;

    pub(in super::super) fn is_valid(name: &str) -> bool {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.len() <= Self::MAX
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    }

    pub(in super::super) const RULE: &'static str =
        "a name has 1 to 64 ASCII letters, digits, `-`, `_` and `.`, and begins with a letter or digit";
}

impl FromValue for Name {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let text = value.text()?;
        if Self::is_valid(text) {
            Ok(Self(text.to_owned()))
        } else {
            value.refuse_with(format!("{} is not a valid name", value.quoted()), Self::RULE)
        }
    }
}

impl FromValue for Duration {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        const UNITS: &str = "a whole number with `ms`, `s`, `m`, `h` or `d`, as in `30s`";
        let (number, unit) = match value.numeral() {
            Numeral::Bare(number) | Numeral::WithUnit(number, "") => {
                return value
                    .refuse_with(format!("a duration needs a unit, and `{number}` has none"), format!("{number} seconds are `{number}s`"));
            }
            Numeral::WithUnit(number, unit) => (number, unit),
            Numeral::Other => return value.refuse_with(format!("{} is not a duration", value.quoted()), UNITS),
        };
        let milliseconds = match unit {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60 * 1000),
            "h" => Some(60 * 60 * 1000),
            "d" => Some(24 * 60 * 60 * 1000),
            _ => None,
        };
        let Some(milliseconds) = milliseconds else {
            return value.refuse_with(format!("{} is not a duration", value.quoted()), UNITS);
        };
        match number.checked_mul(milliseconds).map(Self::from_millis) {
            Some(Self::ZERO) => value.refuse_with("must not be zero", "a timeout can't be switched off; the longest is `365d`"),
            Some(duration) if duration <= LONGEST => Ok(duration),
            _ => value.refuse_with(format!("{} is too long", value.quoted()), "the longest is `365d`"),
        }
    }
}

/// A number of bytes, at least 1.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct ByteSize(pub(in super::super) u64);

impl FromValue for ByteSize {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        const UNITS: &str =
            "a whole number of bytes, or one with `KB`, `MB`, `GB` (thousands) or `KiB`, `MiB`, `GiB` (1024s), as in `25MB`";
        let (number, unit) = match value.numeral() {
            Numeral::Bare(number) => (number, "B"),
            Numeral::WithUnit(number, unit) => (number, unit),
            Numeral::Other => return value.refuse_with(format!("{} is not a size", value.quoted()), UNITS),
        };
        let bytes = match unit {
            "B" | "" => Some(1),
            "KB" => Some(1_000),
            "MB" => Some(1_000_000),
            "GB" => Some(1_000_000_000),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let Some(bytes) = bytes else {
            return value.refuse_with(format!("{} is not a size", value.quoted()), UNITS);
        };
        match number.checked_mul(bytes) {
            Some(0) => value.refuse("must be at least 1 byte"),
            Some(size) => Ok(Self(size)),
            None => value.refuse(format!("{} is too large", value.quoted())),
        }
    }
}

impl FromValue for SocketAddr {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let refuse = |help: String| value.refuse_with(format!("{} is not an IP address with a port", value.quoted()), help);
        let text = match value.numeral() {
            Numeral::Bare(port) => return refuse(format!("`127.0.0.1:{port}` for this machine alone, `\"[::]:{port}\"` for everyone")),
            Numeral::WithUnit(..) | Numeral::Other => value.text()?,
        };
        if let Ok(address) = text.parse() {
            return Ok(address);
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return refuse(format!("add the port: `\"{}\"`", SocketAddr::new(address, 8080)));
        }
        match text.rsplit_once(':') {
            Some(("" | "*", port)) => refuse(format!("for every address of this machine: `\"[::]:{port}\"`")),
            Some(("localhost", port)) => refuse(format!("names are not looked up here: `127.0.0.1:{port}`")),
            _ => refuse("as in `127.0.0.1:8080` or `\"[::]:8080\"`; names are not looked up here".to_owned()),
        }
    }
}

impl FromValue for IpNet {
    /// A network as in `10.0.0.0/8`, or one address. An IPv4 one is never written as IPv6: addresses are compared in their own form.
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let text = value.text()?;
        let read = text.parse::<Self>().ok().or_else(|| text.parse::<IpAddr>().ok().map(Self::from));
        match read {
            Some(network) if network.addr().to_canonical() != network.addr() => {
                value.refuse_with(format!("{} is an IPv4 network written as IPv6", value.quoted()), "write it as in `10.0.0.0/8`")
            }
            Some(network) if network.trunc() != network => value.refuse_with(
                format!("{} has bits beyond its prefix", value.quoted()),
                format!("the network is `{}`; one address alone is `{}`", network.trunc(), network.addr()),
            ),
            Some(network) => Ok(network),
            None => value.refuse_with(format!("{} is no network", value.quoted()), "as in `10.0.0.0/8`, `2001:db8::/32` or `192.0.2.7`"),
        }
    }
}

impl FromValue for PathBuf {
    /// Relative paths start from the directory of the file that they stand in.
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let text = value.text()?;
        if text.starts_with('~') {
            return value.refuse_with("`~` is not expanded", "write the path out");
        }
        if text.starts_with("-----BEGIN") {
            return value.refuse("expected the path of a file, found what such a file holds");
        }
        Ok(value.directory().join(text))
    }
}
