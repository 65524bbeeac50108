//! `upstreams.*.health`: when an upstream is left alone for a while. And the budget of retries.

use std::time::Duration;

use super::super::reader::{Checked, FromValue, Numeral, Value};

/// The longest window, and the longest time that an upstream is left alone: a gateway shall not forget what it no longer tries.
const LONGEST: Duration = Duration::from_hours(1);
/// The shortest window: it is counted in tenths.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

/// Whether an upstream's health is kept, and how it is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is always taken for well.
    Off,
    /// By this rule.
    On(HealthRule),
}

/// What makes an upstream ill, and for how long it is left alone then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRule {
    /// So many failures in a row eject it; none: they don't. Default 5.
    pub failures: Option<u32>,
    /// Failures that are so many percent of the tries in the window, or more, eject it: 1 to 100; none: they don't. Default 50.
    pub error_rate: Option<u8>,
    /// A first byte that takes longer is slow; none: no answer is. Default: none, for models think for long.
    pub first_byte: Option<Duration>,
    /// Slow answers that are so many percent of the tries in the window, or more, eject it: 1 to 100. Default 50: the median is slow.
    pub slow_rate: u8,
    /// What rates are counted over: 1 s to 1 h. Default 30 s.
    pub window: Duration,
    /// Rates say nothing of fewer tries in the window; at least 1. Default 20.
    pub min_requests: u32,
    /// The first ejection takes so long, the next in a row twice as long, and so on. Default 10 s.
    pub eject: Duration,
    /// No ejection takes longer: `eject` to 1 h. Nor is a model that was throttled left alone for longer. Default 5 min.
    pub max_eject: Duration,
}

/// How many retries there may be, so that an outage is not made worse by those who ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Retries may be so many percent of the requests of the last 10 s. Default 20.
    pub percent: u32,
    /// And so many a second beyond that, for when there is little traffic. Default 10.
    pub min_per_second: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self::On(HealthRule::default())
    }
}

impl Default for HealthRule {
    fn default() -> Self {
        Self {
            failures: Some(5),
            error_rate: Some(50),
            first_byte: None,
            slow_rate: 50,
            window: Duration::from_secs(30),
            min_requests: 20,
            eject: Duration::from_secs(10),
            max_eject: Duration::from_mins(5),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { percent: 20, min_per_second: 10 }
    }
}

impl FromValue for Health {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        if is_off(value) { Ok(Self::Off) } else { HealthRule::from_value(value).map(Self::On) }
    }
}

impl FromValue for HealthRule {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let default = Self::default();
        let mut map = value.map()?;
        let failures = map.value("failures").map_or(Ok(default.failures), |value| unless_off(&value, count));
        let error_rate = map.value("error_rate").map_or(Ok(default.error_rate), |value| unless_off(&value, share));
        let first_byte = map.value("first_byte").map_or(Ok(default.first_byte), |value| unless_off(&value, Duration::from_value));
        let slow = map.value("slow_rate");
        let slow_rate = slow.as_ref().map_or(Ok(default.slow_rate), share);
        let window = map.value("window").map_or(Ok(default.window), |value| window(&value));
        let min_requests = map.value("min_requests").map_or(Ok(default.min_requests), |value| count(&value));
        let eject = map.or("eject", default.eject);
        let max_eject = map.value("max_eject").map_or(Ok(default.max_eject), |value| no_longer_than_an_hour(&value));
        let either = map.value("max_eject").or(map.value("eject"));
        map.finish()?;

        let (first_byte, slow_rate, eject, max_eject) = (first_byte?, slow_rate?, eject?, max_eject?);
        if let Some(slow) = slow.filter(|_| first_byte.is_none()) {
            return slow.refuse_with("`slow_rate` says nothing without `first_byte`", "add `first_byte: 60s`: what takes longer is slow");
        }
        if let Some(either) = either.filter(|_| eject > max_eject) {
            return either
                .refuse_with("`eject` is longer than `max_eject`", "ejections begin with `eject` and grow to `max_eject` (default `5m`)");
        }
        Ok(Self {
            failures: failures?,
            error_rate: error_rate?,
            first_byte,
            slow_rate,
            window: window?,
            min_requests: min_requests?,
            eject,
            max_eject,
        })
    }
}

fn is_off(value: &Value<'_>) -> bool {
    value.is_false() || value.as_text() == Some("off")
}

fn unless_off<T>(value: &Value<'_>, read: impl FnOnce(&Value<'_>) -> Checked<T>) -> Checked<Option<T>> {
    if is_off(value) { Ok(None) } else { read(value).map(Some) }
}

/// At least 1, and no more than anyone means.
fn count(value: &Value<'_>) -> Checked<u32> {
    match u32::try_from(u64::from_value(value)?) {
        Ok(count @ 1..=1_000_000) => Ok(count),
        _ => value.refuse(format!("{} is not from 1 to 1000000", value.quoted())),
    }
}

/// `1%` to `100%`.
fn share(value: &Value<'_>) -> Checked<u8> {
    let refuse = |help: String| value.refuse_with(format!("{} is not a share", value.quoted()), help);
    match value.numeral() {
        Numeral::WithUnit(percent @ 1..=100, "%") => Ok(u8::try_from(percent).unwrap_or(100)),
        Numeral::Bare(percent @ 1..=100) => refuse(format!("`{percent}%`")),
        Numeral::Bare(_) | Numeral::WithUnit(..) | Numeral::Other => refuse("`1%` to `100%`, without decimals".to_owned()),
    }
}

fn window(value: &Value<'_>) -> Checked<Duration> {
    let window = no_longer_than_an_hour(value)?;
    if window < SHORTEST_WINDOW { value.refuse(format!("{} is shorter than `1s`", value.quoted())) } else { Ok(window) }
}

fn no_longer_than_an_hour(value: &Value<'_>) -> Checked<Duration> {
    let time = Duration::from_value(value)?;
    if time > LONGEST { value.refuse(format!("{} is longer than `1h`", value.quoted())) } else { Ok(time) }
}
