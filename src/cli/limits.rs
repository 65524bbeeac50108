//! `tollgate limits`: the limits of a gateway that runs, and what is granted beyond them. It asks the admin listener.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Subcommand;
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

#[derive(Subcommand)]
pub(super) enum Limits {
    /// Show the rules in force, and what was granted beyond them
    List {
        #[command(flatten)]
        gateway: Gateway,
        /// Grants of this tenant only
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Show what is left to a tenant, or to a user of it
    Show {
        #[command(flatten)]
        gateway: Gateway,
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The user within the tenant
        #[arg(long)]
        user: Option<String>,
        /// The group that the caller is in, by which a rule chooses its tier
        #[arg(long)]
        group: Option<String>,
    },
    /// Grant a tenant more than a rule gives, for a time
    ///
    /// Dollars where the rule counts usd, else tokens or requests. A rate gives so much more in its period and at
    /// once, a quota in each period, a bound on calls under way at once. It is kept in the ledger.
    Grant {
        #[command(flatten)]
        gateway: Gateway,
        /// The tenant
        tenant: String,
        /// The name of the rule
        rule: String,
        /// How much more, as in +100; dollars may have decimals
        #[arg(value_name = "+AMOUNT")]
        amount: String,
        /// For one user's own bucket, of rules `per: user`; if left out, for the tenant's, and for each of its users'
        #[arg(long)]
        user: Option<String>,
        /// Until when: so long from now, as in +7d or 24h; a date, which is its beginning in UTC; or a time
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        until: String,
        /// Why
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Take a grant back
    Revoke {
        #[command(flatten)]
        gateway: Gateway,
        /// Its number, as `tollgate limits list` shows it
        id: u64,
    },
}

/// Which gateway is asked, and how it is told.
#[derive(clap::Args)]
pub(super) struct Gateway {
    /// Its admin listener; if left out, the one that the configuration names
    #[arg(long, value_name = "http://HOST:PORT", conflicts_with = "config")]
    admin: Option<String>,
    /// The configuration that names its admin listener
    #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// As JSON, for a program; see docs/admin.md
    #[arg(long)]
    json: bool,
}

impl Limits {
    /// What is printed.
    pub(super) fn run(self) -> Result<String, String> {
        match self {
            Self::List { gateway, tenant } => {
                let rules = gateway.ask(Method::GET, "/limits", None)?;
                let path = format!("/limits/grants{}", query(&[("tenant", tenant.as_deref())]));
                // Without a ledger there are none.
                let grants = gateway.ask(Method::GET, &path, None).or_else(Failed::without_ledger)?;
                gateway.told(&json!({ "rules": of(&rules, "rules"), "grants": of(&grants, "grants") }), listed)
            }
            Self::Show { gateway, tenant, user, group } => {
                let path =
                    format!("/limits{}", query(&[("tenant", Some(&tenant)), ("user", user.as_deref()), ("group", group.as_deref())]));
                gateway.told(&gateway.ask(Method::GET, &path, None)?, |told| left(told, &tenant))
            }
            Self::Grant { gateway, tenant, rule, amount, user, until, note } => {
                let asked = json!({ "tenant": tenant, "rule": rule, "more": amount, "user": user, "until": until, "note": note });
                gateway.told(&gateway.ask(Method::POST, "/limits/grants", Some(&asked))?, |grant| {
                    let (id, more, until) = (of(grant, "id"), text(of(grant, "more")), text(of(grant, "until")));
                    format!("grant {id}: {more} {} more of `{rule}` for `{tenant}` until {until}\n", text(of(grant, "count")))
                })
            }
            Self::Revoke { gateway, id } => {
                let told = gateway.ask(Method::DELETE, &format!("/limits/grants/{id}"), None)?;
                gateway.told(&told, |_| format!("grant {id} is revoked\n"))
            }
        }
    }
}

/// Why there is no answer, or none that helps.
enum Failed {
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
    fn without_ledger(self) -> Result<Value, Self> {
        if matches!(self, Self::Refused(409, _)) { Ok(json!({ "grants": [] })) } else { Err(self) }
    }
}

impl Gateway {
    fn told(&self, answer: &Value, words: impl FnOnce(&Value) -> String) -> Result<String, String> {
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

    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failed> {
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

fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let pairs = pairs.iter().filter_map(|(name, value)| Some((name, utf8_percent_encode((*value)?, NON_ALPHANUMERIC))));
    let pairs = pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// A field of an object; null where there is none.
fn of<'a>(value: &'a Value, field: &str) -> &'a Value {
    value.get(field).unwrap_or(&Value::Null)
}

/// A value as a cell shows it.
fn text(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(false) => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Rows of objects, by these columns: what is empty in all of them has no column.
fn table(rows: &Value, columns: &[(&str, Align)]) -> String {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let shown: Vec<_> = columns.iter().filter(|(name, _)| rows.iter().any(|row| !text(of(row, name)).is_empty())).collect();
    let head = shown.iter().map(|(name, _)| name.replace('_', " ").to_uppercase()).collect();
    let cell = |row: &Value, name: &str| Some(text(of(row, name))).filter(|cell| !cell.is_empty()).unwrap_or_else(|| "-".to_owned());
    let body = rows.iter().map(|row| shown.iter().map(|(name, _)| cell(row, name)).collect());
    let aligns: Vec<Align> = shown.iter().map(|(_, align)| *align).collect();
    aligned(&aligns, &std::iter::once(head).chain(body).collect::<Vec<_>>())
}

fn listed(told: &Value) -> String {
    use Align::{Left, Right};
    let is_empty = |name: &str| of(told, name).as_array().is_none_or(Vec::is_empty);
    if is_empty("rules") {
        return "no limits\n".to_owned();
    }
    let bounds = [("rate", Right), ("quota", Right), ("max", Right), ("burst", Right)];
    let rules: Vec<_> = [("name", Left), ("count", Left)].into_iter().chain(bounds).chain([("per", Left), ("shadow", Left)]).collect();
    let mut words = table(of(told, "rules"), &rules);
    if is_empty("grants") {
        return words + "\nno grants\n";
    }
    let grants = [
        ("id", Right),
        ("tenant", Left),
        ("user", Left),
        ("rule", Left),
        ("more", Right),
        ("count", Left),
        ("until", Left),
        ("state", Left),
        ("note", Left),
    ];
    words.push('\n');
    words + &table(of(told, "grants"), &grants)
}

fn left(told: &Value, tenant: &str) -> String {
    use Align::{Left, Right};
    if of(told, "left").as_array().is_none_or(Vec::is_empty) {
        return format!("no limit counts what `{tenant}` does together\n");
    }
    let figures = ["used", "held", "remaining", "capacity"].map(|name| (name, Right));
    let columns = [("rule", Left), ("count", Left)].into_iter().chain(figures).chain([("ends", Left)]);
    table(of(told, "left"), &columns.collect::<Vec<_>>())
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

    #[test]
    fn rules_and_grants_are_two_tables() {
        let told = json!({
            "rules": [{ "name": "rpm", "count": "requests", "rate": "600/minute", "burst": 50, "per": ["tenant", "user"], "shadow": false }],
            "grants": [{ "id": 1, "tenant": "a\u{1b}", "user": null, "rule": "rpm", "more": "100", "count": "requests", "until": "u", "state": "in force", "note": "" }],
        });
        let lines: Vec<String> = listed(&told).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "NAME COUNT RATE BURST PER",
            "rpm requests 600/minute 50 tenant, user",
            "",
            "ID TENANT RULE MORE COUNT UNTIL STATE",
            "1 a\u{fffd} rpm 100 requests u in force",
        ];
        assert_eq!(lines, expected);
        assert_eq!(listed(&json!({ "rules": [] })), "no limits\n");
        let told = json!({ "left": [{ "rule": "rpm", "remaining": 7, "capacity": 50 }] });
        assert_eq!(left(&told, "a"), "RULE  REMAINING  CAPACITY\nrpm           7        50\n");
        assert_eq!(left(&json!({ "left": [] }), "a"), "no limit counts what `a` does together\n");
    }

    #[test]
    fn where_nobody_listens_the_gateway_is_said_not_to_run() {
        // Nothing listens there any more.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let gateway = |admin: String| Gateway { admin: Some(admin), config: PathBuf::new(), json: false };
        let why = Limits::Revoke { gateway: gateway(format!("http://{address}")), id: 1 }.run().unwrap_err();
        assert!(why.contains("no gateway answers at") && why.contains("does it run"), "{why}");
        let why = Limits::Revoke { gateway: gateway("https://localhost".to_owned()), id: 1 }.run().unwrap_err();
        assert!(why.contains("by `http://`"), "{why}");
    }
}
