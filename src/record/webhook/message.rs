//! What is posted.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::super::warning::Told;
use crate::domain::LimitWarning;

/// The machine's name.
static GATEWAY: LazyLock<String> =
    LazyLock::new(|| std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned());

/// The body of a post.
pub(super) fn json(warning: &LimitWarning) -> Value {
    let told = Told::of(warning);
    let mut body = json!({
        "text": text(warning, &told),
        "limit": &*warning.rule,
        "count": warning.count,
        "percent": warning.percent,
        "used": told.used,
        "limit_amount": told.limit,
        "ends": told.ends,
        "gateway": &*GATEWAY,
    });
    if let Value::Object(body) = &mut body {
        body.extend(subject(warning).map(|(name, value)| (name.to_owned(), value.into())).collect::<Map<_, _>>());
    }
    body
}

/// What a chat shows.
fn text(warning: &LimitWarning, told: &Told) -> String {
    let whose: Vec<String> = subject(warning).map(|(name, value)| format!("{name} {value}")).collect();
    let of = if whose.is_empty() { String::new() } else { format!(" of {}", whose.join(", ")) };
    let amount = |value: &Value| if warning.count == "usd" { format!("${}", plain(value)) } else { plain(value) };
    let unit = if warning.count == "usd" { String::new() } else { format!(" {}", warning.count) };
    let (used, limit) = (amount(&told.used), amount(&told.limit));
    let text = format!("Limit {}{of}: more than {}% used ({used} of {limit}{unit}), until {}", warning.rule, warning.percent, told.ends);
    // Names are others' text: to Slack these three characters begin a mention or a link ("Escaping text", Slack's API).
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whose quota it is; what a caller does not have is left out.
fn subject<'w>(warning: &'w LimitWarning) -> impl Iterator<Item = (&'static str, &'w str)> {
    let there = |(name, value): (&'static str, Option<&'w str>)| Some((name, value.filter(|value| !value.is_empty())?));
    warning.subject.parts().into_iter().filter_map(there)
}
