//! `record`: what is written down.

mod ledger;
mod metrics;
mod traces;
mod webhook;

use std::path::PathBuf;

use super::reader::{Checked, FromValue, Value, suggest};
pub use ledger::Ledger;
pub use metrics::Metrics;
pub use traces::Traces;
pub use webhook::{Webhook, WebhookUrl};

/// What is written down of each exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The access log; none switches it off. Default: JSON to stdout.
    pub access_log: Option<AccessLog>,
    /// The metrics.
    pub metrics: Metrics,
    /// The ledger; none without the key.
    pub ledger: Option<Ledger>,
    /// Traces; none without the key.
    pub traces: Option<Traces>,
    /// Who else is told that a quota is nearly used up; nobody without the key.
    pub webhook: Option<Webhook>,
}

/// One JSON line an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Where the lines go.
    pub to: Destination,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output (journald, under systemd).
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

impl Default for Record {
    fn default() -> Self {
        Self {
            access_log: Some(AccessLog { to: Destination::Stdout }),
            metrics: Metrics::default(),
            ledger: None,
            traces: None,
            webhook: None,
        }
    }
}

impl FromValue for Record {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let access_log = map.value("access_log").map_or(Ok(Self::default().access_log), |value| access_log(&value));
        let metrics = map.or("metrics", Metrics::default());
        let ledger = map.optional("ledger");
        let traces = map.optional("traces");
        let webhook = map.optional("webhook");
        map.finish()?;
        Ok(Self { access_log: access_log?, metrics: metrics?, ledger: ledger?, traces: traces?, webhook: webhook? })
    }
}

/// `off`, or where the lines go.
fn access_log(value: &Value<'_>) -> Checked<Option<AccessLog>> {
    if value.is_false() || value.as_text() == Some("off") {
        return Ok(None);
    }
    let mut map = value.map()?;
    let to = map.or("to", Destination::Stdout);
    let format = map.value("format").map_or(Ok(()), |format| match format.text()? {
        "json" => Ok(()),
        other => format.refuse_with(format!("{} is not a log format", format.quoted()), suggest(other, &["json"])),
    });
    map.finish()?;
    format?;
    Ok(Some(AccessLog { to: to? }))
}

impl FromValue for Destination {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        match value.text()? {
            "stdout" => Ok(Self::Stdout),
            word if word == "-" || word == "stderr" || word.eq_ignore_ascii_case("stdout") => value.refuse_with(
                format!("{} is neither `stdout` nor a path", value.quoted()),
                format!("`stdout`; or `./{word}`, for a file of that name"),
            ),
            _ => PathBuf::from_value(value).map(Self::File),
        }
    }
}
