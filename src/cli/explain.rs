//! `tollgate explain`: which route a call takes and why, by the code that the gateway itself asks.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::load;
use super::table::{self, Align};
use crate::call;
use crate::config::Config;
use crate::config::routes::Sticky;
use crate::domain::{Call, Method, Principal};
use crate::firewall;
use crate::routes::{Asking, ChosenAs, Route, Routes, Target};
use crate::upstreams::Host;

#[derive(clap::Args)]
pub(super) struct Explain {
    /// The configuration
    #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// The caller's tenant
    #[arg(long, default_value = "example")]
    tenant: String,
    /// The caller's user; without it, the credential names none
    #[arg(long)]
    user: Option<String>,
    /// A group that the caller is in; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// The host that the client asks for
    #[arg(long)]
    host: Option<String>,
    /// A header of the call; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The HTTP method
    #[arg(long, default_value = "POST")]
    method: http::Method,
    /// The model, where it is the body that names it
    #[arg(long, conflicts_with = "body")]
    model: Option<String>,
    /// The body, which may name the model
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The path as the client sends it, with its query if there is one: /beta/model/sonnet/converse
    path: String,
}

/// What is said, and whether a route matches.
#[derive(Debug)]
pub(super) struct Explained {
    pub(super) answer: String,
    pub(super) matches: bool,
}

/// `NAME: VALUE`.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a name, a colon and a value, as in `x-team: ml`")?;
    let name = name.trim().parse::<HeaderName>().map_err(|error| error.to_string())?;
    Ok((name, value.trim().parse::<HeaderValue>().map_err(|error| error.to_string())?))
}

impl Explain {
    /// What the routes of the configuration make of the call.
    pub(super) fn run(self) -> Result<Explained, String> {
        let config = load(&self.config)?;
        let body = match &self.body {
            Some(file) => std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?,
            None => Vec::new(),
        };
        self.explain(&config, &body)
    }

    fn explain(self, config: &Config, body: &[u8]) -> Result<Explained, String> {
        let routes = Routes::build(&config.routes);
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        let host = self.host.as_deref().or_else(|| headers.get(header::HOST)?.to_str().ok());
        let (whole, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        firewall::path_is_safe(whole.as_bytes()).map_err(|refused| refused.message.into_owned())?;
        let (stage, path) = routes.stage(whole);
        let mut call = call::read(&headers, host, path, query).map_err(|error| error.to_string())?;
        if call.model.is_none() {
            let named = call::model_in_body(&call, body).map_err(|error| error.to_string())?;
            call.model = self.model.map(Into::into).or(named);
        } else if self.model.is_some() {
            return Err("the path names the model already: leave `--model` out".to_owned());
        }
        let principal = Principal {
            tenant: self.tenant.into(),
            user: self.user.map(Into::into),
            groups: self.groups.into_iter().map(Arc::from).collect(),
            method: Method::Anonymous,
            key_id: None,
        };
        let method = self.method.as_str();
        let asking = Asking { principal: &principal, method, call: &call, stage: stage.map(|stage| &**stage), host, headers: &headers };
        let mut answer = format!(
            "{method} {} of {}, for {}, stage {}\n\n",
            call.path,
            call.service.prefix,
            call.model.as_deref().map_or_else(|| "no model".to_owned(), |model| format!("model {model}")),
            asking.stage.unwrap_or("none"),
        );
        answer.push_str(&verdicts(&routes, &asking));
        let Ok(route) = routes.find(&asking) else {
            answer.push_str("\nNo route matches: the call is refused.\n");
            return Ok(Explained { answer, matches: false });
        };
        let told = Told { config, asking: &asking, body };
        // Nothing fails to be written into memory.
        told.route(&mut answer, route).map_err(|error| error.to_string())?;
        Ok(Explained { answer, matches: true })
    }
}

/// Every route, and what it says of the call.
fn verdicts(routes: &Routes, asking: &Asking<'_>) -> String {
    let mut rows = vec![["ROUTE", "STAGE", "VERDICT"].map(str::to_owned).to_vec()];
    let mut taken = false;
    for (route, why) in routes.explain(asking) {
        let verdict = match why {
            Some(why) => why,
            None if taken => "would match, but comes later".to_owned(),
            None => {
                taken = true;
                "matches".to_owned()
            }
        };
        rows.push(vec![route.name.to_string(), route.stage().map_or("any", |stage| stage).to_owned(), verdict]);
    }
    table::aligned(&[Align::Left; 3], &rows)
}

/// What is told of the route that is taken.
struct Told<'a> {
    config: &'a Config,
    asking: &'a Asking<'a>,
    body: &'a [u8],
}

impl Told<'_> {
    fn route(&self, answer: &mut String, route: &Route) -> std::fmt::Result {
        let all: u32 = route.ways().map(|(target, _)| target.weight.now()).sum();
        let share = |target: &Target| percent(target.weight.now(), all);
        let mut rows = vec![["TARGET", "UPSTREAM", "SHARE", "MODEL"].map(str::to_owned).to_vec()];
        rows.extend(route.ways().map(|(target, _)| self.row(target, &share(target))));
        write!(answer, "\n{}", table::aligned(&[Align::Left, Align::Left, Align::Right, Align::Left], &rows))?;
        let drawable = route.ways().filter(|(target, _)| target.weight.now() > 0).count();
        let why = match route.chosen_as(self.asking) {
            ChosenAs::Tested => "The call goes where its header asks for:".to_owned(),
            ChosenAs::Stuck => format!("The call sticks, by {}, to:", by(route.sticky())),
            ChosenAs::Drawn if drawable > 1 => {
                if let Some(sticky) = route.sticky() {
                    writeln!(answer, "\nThe call has nothing to stick by ({}), and is drawn.", by(Some(sticky)))?;
                }
                for (target, after) in route.ways().filter(|(target, _)| target.weight.now() > 0) {
                    writeln!(answer, "\n{} of calls go to:", share(target))?;
                    self.way(answer, std::iter::once(target).chain(after))?;
                }
                return self.mirror(answer, route);
            }
            ChosenAs::Drawn => "The call goes to:".to_owned(),
        };
        writeln!(answer, "\n{why}")?;
        self.way(answer, &route.order(self.asking))?;
        self.mirror(answer, route)
    }

    fn mirror(&self, answer: &mut String, route: &Route) -> std::fmt::Result {
        let Some((target, share)) = route.mirrored() else { return Ok(()) };
        writeln!(answer, "\n{} of calls are copied to:", percent(share, 1_000_000))?;
        self.way(answer, [target])
    }

    fn row(&self, target: &Target, share: &str) -> Vec<String> {
        let model = target.model(&self.asking.principal.tenant).or(self.asking.call.model.as_deref()).unwrap_or("-");
        vec![target.name.to_string(), target.upstream.to_string(), share.to_owned(), model.to_owned()]
    }

    /// Places in the order in which they are tried, each with the URL there.
    fn way<'t>(&self, answer: &mut String, targets: impl IntoIterator<Item = &'t Arc<Target>>) -> std::fmt::Result {
        for (at, target) in targets.into_iter().enumerate() {
            let mut call: Call = self.asking.call.clone();
            let named = target.model(&self.asking.principal.tenant);
            if let Some(name) = named {
                // In a body, too: that the body is not at hand here makes no difference to the path.
                drop(call::rename(&mut call, self.body, name));
            }
            let in_body = match named {
                Some(name) if call.path == self.asking.call.path && self.asking.call.model.is_some() => {
                    format!(", model {name} in the body")
                }
                Some(_) | None => String::new(),
            };
            let upstream = self.config.upstreams.iter().find(|upstream| upstream.name == target.upstream);
            let origin = upstream.map_or_else(String::new, |upstream| {
                let host = Host::of(upstream, call.service);
                format!("{}://{}", if host.tls { "https" } else { "http" }, host.header())
            });
            let query = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
            writeln!(answer, "  {}. {}: {} {origin}{}{query}{in_body}", at + 1, target.name, self.asking.method, call.path)?;
        }
        Ok(())
    }
}

fn by(sticky: Option<&Sticky>) -> String {
    match sticky {
        Some(Sticky::User) => "user".to_owned(),
        Some(Sticky::Tenant) => "tenant".to_owned(),
        Some(Sticky::Header(name)) => format!("the header {name}"),
        None => "nothing".to_owned(),
    }
}

/// A share, with one decimal at most.
fn percent(part: u32, all: u32) -> String {
    let percent = format!("{:.1}", f64::from(part) * 100.0 / f64::from(all.max(1)));
    format!("{}%", percent.strip_suffix(".0").unwrap_or(&percent))
}

#[cfg(test)]
mod tests;
