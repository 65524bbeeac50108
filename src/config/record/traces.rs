//! `record.traces`: where spans go.

use super::super::reader::{Checked, FromValue, Value, parts_in_a_million};

/// Spans, exported by OTLP over gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// The collector: `http://` or `https://` (then the system's roots vouch for it), host and port.
    pub otlp: String,
    /// How many of a million traces that begin here are exported; of a trace that a caller began, its caller says. Default 10,000: one in a hundred.
    pub sample: u32,
}

impl FromValue for Traces {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let otlp = map.required_by("otlp", "http://127.0.0.1:4317", collector);
        let sample = map.value("sample").map_or(Ok(10_000), |value| parts_in_a_million(&value));
        map.finish()?;
        Ok(Self { otlp: otlp?, sample: sample? })
    }
}

/// `http://` or `https://`, a host and a port, and nothing behind it.
fn collector(value: &Value<'_>) -> Checked<String> {
    let text = value.text()?;
    let help = "`http://HOST:PORT` or `https://HOST:PORT`, where OTLP over gRPC is heard, on port 4317 usually";
    let uri = text.parse::<http::Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    let Some((uri, authority)) = uri.as_ref().and_then(|uri| Some((uri, uri.authority()?))) else {
        return value.refuse_with(format!("{} is not the address of a collector", value.quoted()), help);
    };
    if authority.as_str().contains('@') {
        return value.refuse_with("a collector's address holds no credential", "`OTEL_EXPORTER_OTLP_HEADERS` in the environment takes one");
    }
    // Port 80 is nobody's collector, and a path is that of OTLP over HTTP.
    if authority.port_u16().is_none() || uri.path() != "/" || uri.query().is_some() {
        return value.refuse_with(format!("{} is not a host and a port", value.quoted()), help);
    }
    Ok(text.to_owned())
}
