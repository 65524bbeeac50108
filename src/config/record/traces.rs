//! `record.traces`: where spans go.

use super::super::reader::{Checked, FromValue, Value};

/// Spans, exported by OTLP over gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// The collector: `http://` or `https://`, host and port.
    pub otlp: String,
    /// How many of a million traces that begin here are exported. Traces that a caller samples always are. Default 10,000: one in a hundred.
    pub sample: u32,
}

impl FromValue for Traces {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let otlp = map.required_by("otlp", "http://127.0.0.1:4317", |value| {
            let text = value.text()?;
            if (text.starts_with("http://") || text.starts_with("https://"))
                && text.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some())
            {
                return Ok(text.to_owned());
            }
            value.refuse_with(format!("{} is not the address of a collector", value.quoted()), "`http://HOST:PORT` or `https://HOST:PORT`")
        });
        let sample = map.value("sample").map_or(Ok(10_000), |value| parts_in_a_million(&value));
        map.finish()?;
        Ok(Self { otlp: otlp?, sample: sample? })
    }
}

/// `1%`, `0.5%`, `100%`: at most four decimals.
fn parts_in_a_million(value: &Value<'_>) -> Checked<u32> {
    let text = value.text()?;
    let parsed = text.strip_suffix('%').and_then(|number| {
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
