//! How long each step of a call may take, what becomes of an answer whose client left, and how much is tried again.

use std::time::Duration;

use super::super::limits::Rate;
use super::super::reader::{Checked, FromValue, Value, parts_in_a_million, suggest};

/// What becomes of an answer whose client left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The upstream call ends, and its usage is estimated.
    #[default]
    Cancel,
    /// The answer is read to its end, so that its usage is known exactly.
    Drain(Drain),
}

/// The bounds of draining; beyond them it is [`OnDisconnect::Cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// For so long after the client left. Default 5 minutes.
    pub time: Duration,
    /// So many answers of the route at once: 1 to 100,000. Default 256.
    pub max: u32,
}

/// How long each step of an upstream call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS together. Default 3 s.
    pub connect: Duration,
    /// Until the answer's first byte; of a stream, its first event. Default 3600 s: a model may think for an hour (the Nova guide asks clients to wait
    /// as long).
    pub first_byte: Duration,
    /// The longest silence after that. Default 3600 s, as above.
    pub idle: Duration,
    /// The whole call, from the request handed over to the answer's end. Default 4 h.
    pub total: Duration,
}

/// How many calls may be tried again at other targets, so that an outage isn't multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// So many of a million calls: 0 to 1,000,000. Default 200,000: one in five.
    pub budget: u32,
    /// So many whatever the budget says, for routes with few calls. Default 10 a second.
    pub min: Rate,
}

impl Default for Retries {
    fn default() -> Self {
        Self { budget: 200_000, min: Rate { events: 10, period: Duration::from_secs(1) } }
    }
}

impl FromValue for Retries {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let default = Self::default();
        let mut map = value.map()?;
        let budget = map.value("budget").map_or(Ok(default.budget), |value| parts_in_a_million(&value));
        let min = map.or("min", default.min);
        map.finish()?;
        Ok(Self { budget: budget?, min: min? })
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_hours(1),
            idle: Duration::from_hours(1),
            total: Duration::from_hours(4),
        }
    }
}

impl FromValue for Timeouts {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let default = Self::default();
        let mut map = value.map()?;
        let connect = map.or("connect", default.connect);
        let first_byte = map.or("first_byte", default.first_byte);
        let idle = map.or("idle", default.idle);
        let total = map.or("total", default.total);
        map.finish()?;
        Ok(Self { connect: connect?, first_byte: first_byte?, idle: idle?, total: total? })
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { time: Duration::from_mins(5), max: 256 }
    }
}

/// `cancel`, `drain`, or `{ drain: { time: 5m, max: 256 } }`.
impl FromValue for OnDisconnect {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        match value.as_text() {
            Some("cancel") => return Ok(Self::Cancel),
            Some("drain") => return Ok(Self::Drain(Drain::default())),
            Some(other) => {
                return value.refuse_with(
                    format!("{} is nothing to do when a client leaves", value.quoted()),
                    suggest(other, &["cancel", "drain"]),
                );
            }
            None => {}
        }
        let mut map = value.map()?;
        let drain = map.required::<Drain>("drain", "{ time: 5m, max: 256 }");
        map.finish()?;
        Ok(Self::Drain(drain?))
    }
}

impl FromValue for Drain {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let default = Self::default();
        let mut map = value.map()?;
        let time = map.or("time", default.time);
        let max = map.value("max").map_or(Ok(default.max), |value| match u64::from_value(&value)? {
            max @ 1..=100_000 => Ok(u32::try_from(max).unwrap_or(u32::MAX)),
            _ => value.refuse_with(format!("{} answers at once", value.quoted()), "1 to 100000"),
        });
        map.finish()?;
        Ok(Self { time: time?, max: max? })
    }
}
