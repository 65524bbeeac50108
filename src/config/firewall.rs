//! `firewall`: what is refused before anyone is asked who they are.

use std::time::Duration;

use super::limits::Rate;
use super::reader::{ByteSize, Checked, FromValue, Value, suggest};

/// Bounds on what any client may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firewall {
    /// The largest request body, in bytes. Default 25,000,000: Bedrock's own bound for InvokeModel.
    pub max_body: u64,
    /// All request bodies held at once, in bytes. Default 1,000,000,000; never less than `max_body`.
    pub body_memory: u64,
    /// The time for a request's head, from its first byte, and for a new connection's first byte. Default 10 s.
    pub header_timeout: Duration,
    /// The time for a whole request body. Default 60 s.
    pub body_timeout: Duration,
    /// Requests under way at once, over all listeners. At least 1; default 20,000.
    pub max_requests: u64,
    /// Requests per address; none means no bound.
    pub flood: Option<Flood>,
}

/// A cheap guard against floods, by client address, counted before identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Requests that one address may send in one second; at least 1. A `rate` by minute or hour must come to a whole number a second.
    pub per_second: u32,
}

impl Default for Firewall {
    fn default() -> Self {
        Self {
            max_body: 25_000_000,
            body_memory: 1_000_000_000,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_mins(1),
            // As many as one listener holds connections: at some 80 KB each, 1.6 GB.
            max_requests: 20_000,
            flood: None,
        }
    }
}

impl FromValue for Firewall {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let default = Self::default();
        let mut map = value.map()?;
        let max_body = map.or("max_body", ByteSize(default.max_body));
        let body_memory = map.or("body_memory", ByteSize(default.body_memory));
        let header_timeout = map.or("header_timeout", default.header_timeout);
        let body_timeout = map.or("body_timeout", default.body_timeout);
        let max_requests = map.value("max_requests").map_or(Ok(default.max_requests), |value| match u64::from_value(&value)? {
            0 => value.refuse_with("must not be zero", "to take a gateway out of service, `POST /drain` on its admin listener"),
            most => Ok(most),
        });
        let flood = map.optional("flood");
        let either = map.value("body_memory").or(map.value("max_body"));
        let finished = map.finish();

        let (max_body, body_memory) = (max_body?.0, body_memory?.0);
        if let Some(either) = either.filter(|_| body_memory < max_body) {
            let message = format!("`body_memory` of {body_memory} bytes is less than `max_body` of {max_body}");
            return either.refuse_with(message, "the memory for all bodies must hold at least the largest one");
        }
        finished?;
        Ok(Self {
            max_body,
            body_memory,
            header_timeout: header_timeout?,
            body_timeout: body_timeout?,
            max_requests: max_requests?,
            flood: flood?,
        })
    }
}

impl FromValue for Flood {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let per_second = map.required_by("rate", "100/second", whole_per_second);
        let per = map.value("per").map_or(Ok(()), |per| match per.text()? {
            "address" => Ok(()),
            other => per.refuse_with(format!("{} is not what floods are counted by", per.quoted()), suggest(other, &["address"])),
        });
        map.finish()?;
        per?;
        Ok(Self { per_second: per_second? })
    }
}

/// The guard counts by seconds: a rate that it could only round is refused.
fn whole_per_second(value: &Value<'_>) -> Checked<u32> {
    let rate = Rate::from_value(value)?;
    let seconds = rate.period.as_secs().max(1);
    match u32::try_from(rate.events / seconds) {
        Ok(per_second) if rate.events % seconds == 0 => Ok(per_second),
        _ => {
            let near = rate.events.div_ceil(seconds);
            value.refuse_with(
                format!("{} is not a whole number a second", value.quoted()),
                format!("floods are counted by the second: `{near}/second`"),
            )
        }
    }
}
