//! `external`: a service of the operator's own says who is calling.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Uri};

use super::super::reader::{Checked, FromValue, Value};
use super::Tenant;

/// An authorizer that is asked over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// What is posted to: `https`, or `http` on this machine.
    pub url: Uri,
    /// The time for one answer, the wait for a turn included. Default 500 ms; at most 30 s.
    pub timeout: Duration,
    /// How long an answer counts where it does not say; zero for not at all. Default 60 s; at most an hour.
    pub cache: Duration,
    /// The headers that it is told, beside the credential.
    pub headers: Vec<HeaderName>,
    /// The header that holds the credential, all of it; none for a bearer token or API key where clients send one.
    pub token_from: Option<HeaderName>,
    /// A PEM bundle that its certificate must chain to, instead of the system's roots.
    pub ca: Option<PathBuf>,
    /// Whom to take callers for while it can't be asked; none to refuse them.
    pub on_error: Option<String>,
}

/// What weakens it, said in so many words.
#[derive(Debug, Default)]
struct Insecure {
    tenant: Option<String>,
    plain_http: bool,
}

impl FromValue for External {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let insecure = map.or("insecure", Insecure::default());
        let plain_http = insecure.as_ref().is_ok_and(|insecure| insecure.plain_http);
        let url = map.required_by("url", "https://authorizer.internal/authorize", |value| url(value, plain_http));
        let timeout = map.value("timeout").map_or(Ok(Duration::from_millis(500)), |value| at_most(&value, Duration::from_secs(30)));
        let cache = map.value("cache").map_or(Ok(Duration::from_mins(1)), |value| cache(&value));
        let headers = map.value("headers").map_or(Ok(Vec::new()), |value| value.distinct("header"));
        let token_from = map.value("token_from").map(|value| token_header(&value)).transpose();
        let ca = map.optional("ca");
        map.finish()?;
        Ok(Self {
            url: url?,
            timeout: timeout?,
            cache: cache?,
            headers: headers?,
            token_from: token_from?,
            ca: ca?,
            on_error: insecure?.tenant,
        })
    }
}

impl FromValue for Insecure {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let on_error = map.value("on_error").map(|value| match value.text()? {
            "allow" => Ok(()),
            _ => value.refuse_with(format!("{} is not what can be done", value.quoted()), "`allow`; without the key, calls are refused"),
        });
        let tenant: Checked<Option<String>> = match &on_error {
            Some(Ok(())) => map.required("tenant", "unchecked").map(|Tenant(name)| Some(name)),
            Some(Err(_)) => map.optional("tenant").map(|tenant| tenant.map(|Tenant(name)| name)),
            None => Ok(None),
        };
        let plain_http = map.or("plain_http", false);
        map.finish()?;
        on_error.transpose()?;
        Ok(Self { tenant: tenant?, plain_http: plain_http? })
    }
}

fn url(value: &Value<'_>, plain_http: bool) -> Checked<Uri> {
    const SHAPE: &str = "as in `https://authorizer.internal/authorize`";
    let text = value.text()?;
    let Some(url) = text.parse::<Uri>().ok().filter(|url| url.host().is_some_and(|host| !host.is_empty())) else {
        return value.refuse_with(format!("{} is not a URL", value.quoted()), SHAPE);
    };
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return value
            .refuse_with("a URL with a user and password", "let the authorizer's own network or certificate vouch for the gateway");
    }
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if plain_http || is_loopback(&url) => Ok(url),
        Some("http") => value.refuse_with(
            "callers' credentials would cross the network in the clear",
            "use `https://`; or, where the network is to be trusted, say `insecure: { plain_http: true }`",
        ),
        _ => value.refuse_with(format!("{} begins with neither `https://` nor `http://`", value.quoted()), SHAPE),
    }
}

pub(in super::super) fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn at_most(value: &Value<'_>, most: Duration) -> Checked<Duration> {
    let duration = Duration::from_value(value)?;
    if duration <= most {
        Ok(duration)
    } else {
        value.refuse_with(format!("{} is too long", value.quoted()), format!("the most is {most:?}"))
    }
}

/// One that never goes on to AWS, whoever sends it.
fn token_header(value: &Value<'_>) -> Checked<HeaderName> {
    let name = HeaderName::from_value(value)?;
    if ["authorization", "x-api-key", "cookie"].contains(&name.as_str()) || name.as_str().starts_with("x-tollgate-") {
        return Ok(name);
    }
    value.refuse_with(
        "the credential would go on to AWS",
        "`authorization`, `x-api-key`, `cookie`, or a name that begins with `x-tollgate-`",
    )
}

fn cache(value: &Value<'_>) -> Checked<Duration> {
    if value.is_false() || value.as_text() == Some("off") {
        return Ok(Duration::ZERO);
    }
    at_most(value, Duration::from_hours(1))
}

impl FromValue for HeaderName {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let text = value.text()?;
        Self::try_from(text).or_else(|_| value.refuse_with(format!("{} is not the name of a header", value.quoted()), "as in `x-team`"))
    }
}
