//! Which calls a route is for.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

use super::Asking;
use crate::config::routes::{Conditions, Operation};
use crate::domain::{CanonicalPath, Glob, SERVICES, lower_case, spellings};

/// The conditions of a route, ready to compare with. Empty: all.
#[derive(Debug)]
pub(super) struct Matching {
    pub(super) stage: Option<Arc<str>>,
    services: Box<[&'static str]>,
    tenants: Box<[Glob]>,
    users: Box<[Glob]>,
    groups: Box<[Glob]>,
    models: Box<[Glob]>,
    hosts: Box<[Glob]>,
    headers: Box<[(HeaderName, Box<[Glob]>)]>,
    operations: Box<[Operation]>,
}

/// What a call lacks for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lacks {
    Stage,
    Service,
    Tenant,
    User,
    Group,
    Model,
    Host,
    /// The header at this place.
    Header(usize),
    Operation,
}

/// A call as routes see it: what takes time to find is found once for all of them.
pub(super) struct Facts<'a> {
    asking: &'a Asking<'a>,
    /// Its model's spellings; empty where it names none.
    models: OnceCell<SmallVec<[Cow<'a, str>; 3]>>,
    /// The model in lower case, which the spellings are of.
    lower: Option<&'a str>,
    host: OnceCell<Option<Cow<'a, str>>>,
    operation: OnceCell<(String, CanonicalPath<'a>)>,
}

impl<'a> Facts<'a> {
    /// `lower` is the call's model in [`lower_case`].
    pub(super) fn of(asking: &'a Asking<'a>, lower: Option<&'a str>) -> Self {
        Self { asking, models: OnceCell::new(), lower, host: OnceCell::new(), operation: OnceCell::new() }
    }

    fn models(&self) -> &[Cow<'a, str>] {
        self.models.get_or_init(|| self.lower.into_iter().flat_map(spellings).collect())
    }

    fn host(&self) -> Option<&str> {
        self.host.get_or_init(|| self.asking.host.map(bare_host)).as_deref()
    }

    fn operation(&self) -> &(String, CanonicalPath<'a>) {
        self.operation.get_or_init(|| (self.asking.method.to_ascii_lowercase(), CanonicalPath::of(&self.asking.call.path)))
    }
}

/// The model of a call in lower case, for [`Facts::of`].
pub(super) fn model_of<'a>(asking: &Asking<'a>) -> Option<Cow<'a, str>> {
    asking.call.model.as_deref().map(lower_case)
}

/// A host in lower case, without port and the dot of the root.
fn bare_host(host: &str) -> Cow<'_, str> {
    let name = match host.rsplit_once(':') {
        // An IPv6 address stands in brackets: its last colon may be within.
        Some((name, port)) if !port.ends_with(']') => name,
        Some(_) | None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
}

impl Matching {
    pub(super) fn new(stage: Option<Arc<str>>, when: &Conditions) -> Self {
        let same = |globs: &[Glob]| globs.to_vec().into_boxed_slice();
        let fold = |glob: &Glob| Glob::new(glob.to_string().to_ascii_lowercase());
        let folded = |globs: &[Glob]| globs.iter().map(fold).collect();
        let served = |prefix: &&str| when.services.iter().any(|glob| glob.matches(prefix));
        Self {
            stage,
            services: SERVICES.iter().map(|service| service.prefix).filter(served).collect(),
            tenants: same(&when.tenants),
            users: same(&when.users),
            groups: same(&when.groups),
            models: folded(&when.models),
            hosts: folded(&when.hosts),
            headers: when.headers.iter().map(|(name, patterns)| (name.clone(), same(patterns))).collect(),
            operations: when.operations.iter().map(|one| Operation { method: fold(&one.method), path: fold(&one.path) }).collect(),
        }
    }

    /// Whether a call matches: its conditions in the order of what they cost. Otherwise, the first that does not hold.
    pub(super) fn check(&self, call: &Facts<'_>) -> Result<(), Lacks> {
        let Asking { principal, stage, headers, .. } = call.asking;
        let holds = |condition: bool, lacks| if condition { Ok(()) } else { Err(lacks) };
        holds(self.stage.is_none() || self.stage.as_deref() == *stage, Lacks::Stage)?;
        holds(self.services.is_empty() || self.services.contains(&call.asking.call.service.prefix), Lacks::Service)?;
        holds(self.tenants.is_empty() || any(&self.tenants, &principal.tenant), Lacks::Tenant)?;
        holds(self.users.is_empty() || principal.user.as_deref().is_some_and(|user| any(&self.users, user)), Lacks::User)?;
        holds(self.groups.is_empty() || principal.groups.iter().any(|group| any(&self.groups, group)), Lacks::Group)?;
        holds(self.models.is_empty() || call.models().iter().any(|name| any(&self.models, name)), Lacks::Model)?;
        holds(self.hosts.is_empty() || call.host().is_some_and(|host| any(&self.hosts, host)), Lacks::Host)?;
        for (place, (name, patterns)) in self.headers.iter().enumerate() {
            holds(sent(headers, name).any(|value| any(patterns, value)), Lacks::Header(place))?;
        }
        let is = |operation: &Operation| {
            let (method, path) = call.operation();
            operation.method.matches(method) && operation.path.matches(path.as_str())
        };
        holds(self.operations.is_empty() || self.operations.iter().any(is), Lacks::Operation)
    }

    /// Whether it is for a model of this name, in lower case, whatever else a call must be.
    pub(super) fn is_for_model(&self, lower: &str) -> bool {
        self.models.is_empty() || spellings(lower).any(|name| any(&self.models, &name))
    }

    /// What a call lacks, in words: what it has, and what the route wants.
    pub(super) fn why(&self, lacks: Lacks, call: &Facts<'_>) -> String {
        let Asking { principal, method, call: asked, stage, headers, .. } = call.asking;
        let has = |what: Option<&str>| what.map_or_else(|| "none".to_owned(), |what| format!("`{what}`"));
        match lacks {
            Lacks::Stage => format!("stage: asked for {}, wants {}", has(*stage), has(self.stage.as_deref())),
            Lacks::Service => format!("service: is {}, wants {}", has(Some(asked.service.prefix)), listed(&self.services)),
            Lacks::Tenant => format!("tenant: is {}, wants {}", has(Some(&principal.tenant)), listed(&self.tenants)),
            Lacks::User => format!("user: is {}, wants {}", has(principal.user.as_deref()), listed(&self.users)),
            Lacks::Group if principal.groups.is_empty() => format!("groups: in none, wants {}", listed(&self.groups)),
            Lacks::Group => format!("groups: in {}, wants {}", listed(&principal.groups), listed(&self.groups)),
            Lacks::Model => format!("model: is {}, wants {}", has(asked.model.as_deref()), listed(&self.models)),
            Lacks::Host => format!("host: is {}, wants {}", has(call.host()), listed(&self.hosts)),
            Lacks::Header(place) => self.headers.get(place).map_or_else(String::new, |(name, patterns)| {
                let values: Vec<&str> = sent(headers, name).collect();
                let values = if values.is_empty() { "none".to_owned() } else { listed(&values) };
                format!("header `{name}`: is {values}, wants {}", listed(patterns))
            }),
            Lacks::Operation => {
                let wanted: Vec<String> =
                    self.operations.iter().map(|one| format!("{} {}", one.method.to_string().to_ascii_uppercase(), one.path)).collect();
                format!("operation: is `{method} {}`, wants {}", asked.path, listed(&wanted))
            }
        }
    }
}

fn any(globs: &[Glob], name: &str) -> bool {
    globs.iter().any(|glob| glob.matches(name))
}

/// The values of a header, those that are no text left out.
fn sent<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    headers.get_all(name).iter().filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
}

/// One, or one of several, in backticks.
fn listed(items: &[impl std::fmt::Display]) -> String {
    let mut text = String::new();
    for (at, item) in items.iter().enumerate() {
        // Nothing fails to be written into memory.
        let _: Result<(), _> = write!(text, "{}`{item}`", if at == 0 { "" } else { " or " });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_its_name_in_lower_case_alone() {
        for (host, bare) in [
            ("ai.example.com", "ai.example.com"),
            ("AI.Example.com:8443", "ai.example.com"),
            ("ai.example.com.", "ai.example.com"),
            ("ai.example.com.:443", "ai.example.com"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:8080", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("", ""),
            (":", ""),
        ] {
            assert_eq!(bare_host(host), bare, "{host}");
        }
    }
}
