//! A gateway that runs, as commands ask its admin listener.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::table::{Align, aligned};
use crate::config::Config;
use crate::domain::causes;

/// The longest answer, in bytes: ten thousand grants with long notes.
const MAX_ANSWER: usize = 64 << 20;
/// A gateway that does not answer is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which gateway is asked, and how it is told.
#[derive(clap::Args)]
pub(super) struct Gateway {
    /// Its admin listener; if left out, the one that the configuration names
    #[arg(long, value_name = "http://HOST:PORT", conflicts_with = "config")]
    pub(super) admin: Option<String>,
    /// The configuration that names its admin listener
    #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml")]
    pub(super) config: PathBuf,
    /// As JSON, for a program; see docs/admin.md
    #[arg(long)]
    pub(super) json: bool,
}

/// Why there is no answer, or none that helps.
pub(super) enum Failed {
    /// The gateway refused, with this status.
    Refused(u16, String),
    /// There is no whole answer.
    Other(String),
}

impl From<Failed> for String {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(_, message) | Failed::Other(message) => message,
        }
    }
}

impl Failed {
    /// Without a ledger there are no grants.
    pub(super) fn without_ledger(self) -> Result<Value, Self> {
        if matches!(self, Self::Refused(409, _)) { Ok(json!({ "grants": [] })) } else { Err(self) }
    }
}

impl Gateway {
    /// An answer in JSON where that is asked for, or else in words.
    pub(super) fn told(&self, answer: &Value, words: impl FnOnce(&Value) -> String) -> Result<String, String> {
        if !self.json {
            return Ok(words(answer));
        }
        serde_json::to_string_pretty(answer).map(|text| text + "\n").map_err(|error| error.to_string())
    }

    fn url(&self) -> Result<String, String> {
        if let Some(url) = &self.admin {
            return Ok(url.trim_end_matches('/').to_owned());
        }
        let config = Config::load(&self.config).map_err(|faults| faults.to_string())?;
        Ok(format!("http://{}", reachable(config.admin.address)))
    }

    /// The gateway's answer in JSON.
    pub(super) fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failed> {
        let url = self.url().map_err(Failed::Other)?;
        let uri: Uri = format!("{url}{path}").parse().map_err(|error| Failed::Other(format!("`{url}` is no URL: {error}")))?;
        if uri.scheme_str() != Some("http") {
            return Err(Failed::Other(format!("`{url}`: the admin listener is asked by `http://`")));
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failed::Other(format!("no runtime: {error}")))?;
        let asked = runtime.block_on(async { tokio::time::timeout(PATIENCE, send(method, uri, body)).await });
        let (status, answer) = asked
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
            .map_err(|why| Failed::Other(format!("no gateway answers at {url}: {why}; does it run, and is that its admin listener?")))?;
        let read: Option<Value> = serde_json::from_slice(&answer).ok();
        match read {
            Some(told) if (200..300).contains(&status) => Ok(told),
            Some(told) if of(&told, "message").is_string() => Err(Failed::Refused(status, text(of(&told, "message")))),
            _ => Err(Failed::Other(format!("{url} answered {status}, and not as a gateway does"))),
        }
    }
}

async fn send(method: Method, uri: Uri, body: Bytes) -> Result<(u16, Bytes), String> {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let (head, body) = client.request(request).await.map_err(|error| causes(&error))?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| causes(&*error))?;
    Ok((head.status.as_u16(), body.to_bytes()))
}

/// An address to ask at, of a listener that may listen on every one.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A query of these pairs, where they have a value.
pub(super) fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let pairs = pairs.iter().filter_map(|(name, value)| Some((name, utf8_percent_encode((*value)?, NON_ALPHANUMERIC))));
    let pairs = pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// A field of an object; null where there is none.
pub(super) fn of<'a>(value: &'a Value, field: &str) -> &'a Value {
    value.get(field).unwrap_or(&Value::Null)
}

/// A value as a cell shows it.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(false) => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Rows of objects, by these columns: what is empty in all of them has no column.
pub(super) fn table(rows: &Value, columns: &[(&str, Align)]) -> String {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let shown: Vec<_> = columns.iter().filter(|(name, _)| rows.iter().any(|row| !text(of(row, name)).is_empty())).collect();
    let head = shown.iter().map(|(name, _)| name.replace('_', " ").to_uppercase()).collect();
    let cell = |row: &Value, name: &str| Some(text(of(row, name))).filter(|cell| !cell.is_empty()).unwrap_or_else(|| "-".to_owned());
    let body = rows.iter().map(|row| shown.iter().map(|(name, _)| cell(row, name)).collect());
    let aligns: Vec<Align> = shown.iter().map(|(_, align)| *align).collect();
    aligned(&aligns, &std::iter::once(head).chain(body).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_asked_on_this_machine() {
        for (told, asked) in [("0.0.0.0:9090", "127.0.0.1:9090"), ("[::]:9090", "[::1]:9090"), ("10.0.0.7:9090", "10.0.0.7:9090")] {
            assert_eq!(reachable(told.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn names_are_escaped_in_what_is_asked() {
        assert_eq!(query(&[("tenant", Some("a&b=c d")), ("user", None)]), "?tenant=a%26b%3Dc%20d");
        assert_eq!(query(&[("tenant", None)]), "");
    }
}
