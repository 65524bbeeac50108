//! `routes`: where calls go. The first that matches.

mod conditions;
mod places;
mod promote;
mod reach;
mod stages;
mod steps;
mod together;

use std::sync::Arc;

use http::HeaderName;

use self::conditions::header_name;
use self::places::Scope;
use super::reader::{Checked, FromValue, Map, Name, Value, listed};
use crate::domain::Glob;

pub use self::conditions::Conditions;
pub use self::places::{Failover, Mirror, Model, Place, Places, Target};
pub use self::promote::Promote;
pub use self::stages::Stage;
pub use self::steps::{Drain, OnDisconnect, Retries, Timeouts};
pub use super::limits::Rate;
pub use super::policy::Operation;

/// One route: which calls it is for, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name in logs; unique.
    pub name: Arc<str>,
    /// The stages it is for, each once; none: for calls of any stage, and of none.
    pub stages: Vec<Stage>,
    /// The other conditions, all of which must hold.
    pub when: Conditions,
    /// Where calls go: as it is written, with the stages' variables in it. [`Route::variants`] puts them in.
    pub places: Places,
    /// By what a call is given its target; none: each call is drawn anew.
    pub sticky: Option<Sticky>,
    /// How testers choose a target themselves; none: they can't.
    pub chosen_by: Option<ChosenBy>,
    /// How much is tried again.
    pub retries: Retries,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// What becomes of an answer whose client left. Default [`OnDisconnect::Cancel`].
    pub on_disconnect: OnDisconnect,
}

/// By what a call is given its target: calls that are equal in it go to the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// By the caller's user, within the tenant.
    User,
    /// By the caller's tenant.
    Tenant,
    /// By the first value of a header.
    Header(HeaderName),
}

/// A header by which testers choose a target by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenBy {
    /// It begins with `x-tollgate-`: such headers never reach AWS.
    pub header: HeaderName,
    /// Who may.
    pub testers: Testers,
}

/// Who may choose a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Testers {
    /// Whoever calls.
    Everyone,
    /// Callers who are in one of these groups; at least one.
    Groups(Vec<Glob>),
}

/// A route at one of its stages, with the stage's variables put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The stage; none where the route has none.
    pub stage: Option<Arc<str>>,
    /// Where calls go.
    pub places: Places,
}

impl Route {
    /// A route of the defaults for every call, to one upstream.
    #[must_use]
    pub fn new(name: &str, upstream: &str) -> Self {
        let place = Place { name: upstream.into(), upstream: upstream.into(), model: None };
        Self {
            name: name.into(),
            stages: Vec::new(),
            when: Conditions::default(),
            places: Places { to: vec![Target { place, weight: 1, promote: None }], failover: Vec::new(), mirror: None },
            sticky: None,
            chosen_by: None,
            retries: Retries::default(),
            timeouts: Timeouts::default(),
            on_disconnect: OnDisconnect::default(),
        }
    }

    /// The route at each of its stages; just one where it has none.
    #[must_use]
    pub fn variants(&self) -> Vec<Variant> {
        if self.stages.is_empty() {
            return vec![Variant { stage: None, places: self.places.clone() }];
        }
        let at = |stage: &Stage| Variant { stage: Some(Arc::clone(&stage.name)), places: self.places.at(stage) };
        self.stages.iter().map(at).collect()
    }

    /// Every upstream that it may lead to, mirrors left out; one may come several times.
    #[must_use]
    pub fn upstreams(&self) -> Vec<Arc<str>> {
        self.variants().iter().flat_map(|variant| variant.places.upstreams()).collect()
    }
}

/// Reads `routes`, given the names of the upstreams. Without `routes`, everything goes to the only upstream.
pub(super) fn read(map: &mut Map<'_>, upstreams: &[&str]) -> Checked<Vec<Route>> {
    let Some(value) = map.value("routes") else {
        return match upstreams {
            [only] => Ok(vec![Route::new("everything", only)]),
            // That is told of `upstreams` itself.
            [] => Ok(Vec::new()),
            [first, ..] => map.missing(
                "routes",
                format!(
                    "say which of {} is to answer: `routes: [{{ name: everything, to: [{{ upstream: {first} }}] }}]`",
                    listed(upstreams)
                ),
            ),
        };
    };
    let mut names = Vec::new();
    let mut routes = Vec::new();
    let mut faulty = Ok(());
    for item in value.some_items("route")? {
        let route = Route::from_value(&item, upstreams);
        if let Err(reported) = item.claim_name(&mut names) {
            faulty = Err(reported);
        }
        match route {
            Ok(route) => routes.push((item, route)),
            Err(reported) => faulty = Err(reported),
        }
    }
    reach::check(&routes).and(faulty)?;
    Ok(routes.into_iter().map(|(_, route)| route).collect())
}

impl Route {
    fn from_value(value: &Value<'_>, upstreams: &[&str]) -> Checked<Self> {
        let mut map = value.map()?;
        let name = map.required::<Name>("name", "everything");
        let stages = map.value("stage").map_or(Ok(Vec::new()), |value| stages::read(&value));
        let when = Conditions::read(&mut map);
        let places = Places::read(&mut map, &Scope { stages: stages.as_deref().ok(), upstreams });
        let sticky = map.optional("sticky");
        let chosen_by = chosen_by(&mut map);
        let retries = map.or("retries", Retries::default());
        let timeouts = map.or("timeouts", Timeouts::default());
        let on_disconnect = map.or("on_disconnect", OnDisconnect::default());
        map.finish()?;
        Ok(Self {
            name: name?.0.into(),
            stages: stages?,
            when: when?,
            places: places?,
            sticky: sticky?,
            chosen_by: chosen_by?,
            retries: retries?,
            timeouts: timeouts?,
            on_disconnect: on_disconnect?,
        })
    }
}

impl FromValue for Sticky {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        match value.as_text() {
            Some("user") => return Ok(Self::User),
            Some("tenant") => return Ok(Self::Tenant),
            Some(_) => {
                let help = "`user`, `tenant`, or a header, as in `{ header: x-session-id }`";
                return value.refuse_with(format!("{} is nothing that calls stick by", value.quoted()), help);
            }
            None => {}
        }
        let mut map = value.map()?;
        let header = map.required_by("header", "x-session-id", header_name);
        map.finish()?;
        Ok(Self::Header(header?))
    }
}

/// Reads `override` and `testers`, which go together.
fn chosen_by(map: &mut Map<'_>) -> Checked<Option<ChosenBy>> {
    let (header, testers) = (map.value("override"), map.value("testers"));
    let header = match (header, &testers) {
        (None, None) => return Ok(None),
        (None, Some(testers)) => return testers.refuse_key("there is nothing to test by", "add `override: x-tollgate-target`"),
        (Some(header), _) => header,
    };
    let named = header_name(&header).and_then(|name| {
        if name.as_str().starts_with("x-tollgate-") {
            return Ok(name);
        }
        let help = "headers that begin with `x-tollgate-` never reach AWS: `x-tollgate-target`";
        header.refuse_with(format!("{} would reach AWS", header.quoted()), help)
    });
    let testers = match testers {
        None => map.missing("testers", "the groups that may choose a target, as in `testers: [qa]`; or `testers: everyone`"),
        Some(value) if value.as_text() == Some("everyone") => Ok(Testers::Everyone),
        Some(value) => value.distinct("group").map(Testers::Groups),
    };
    Ok(Some(ChosenBy { header: named?, testers: testers? }))
}
