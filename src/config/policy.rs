//! `policy`: what each caller may ask for. Every rule that matches must allow.

use std::sync::Arc;

use super::reader::{Checked, FromValue, Name, Value, suggest};
use super::upstreams::looks_like_a_region;
use crate::domain::{Glob, Method, SERVICES};

/// One rule: whom it is for, and what those may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name in logs, metrics and refusals; unique.
    pub name: Arc<str>,
    /// The tenants it is for; empty for all.
    pub tenants: Vec<Glob>,
    /// The users it is for; empty for all. A caller without a user is none of them.
    pub users: Vec<Glob>,
    /// The groups it is for, of which a caller must be in one; empty for all.
    pub groups: Vec<Glob>,
    /// The identity methods it is for, by their words in the access log; empty for all.
    pub methods: Vec<Glob>,
    /// The services that are allowed, by endpoint prefix.
    pub services: Lists<Glob>,
    /// The models that are allowed.
    pub models: Lists<Glob>,
    /// The operations that are allowed.
    pub operations: Lists<Operation>,
    /// The regions that a call may be answered in, by the names of regions and of [`GEOGRAPHIES`].
    pub regions: Lists<Glob>,
    /// Whether a call passes of which the model, or the regions that it may be answered in, can't be told. Default: no.
    pub allow_unknown: bool,
    /// Whether it is only counted and logged. Default: no.
    pub shadow: bool,
}

/// What is allowed of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists<T> {
    /// One of these must match; empty where anything is allowed.
    pub allow: Vec<T>,
    /// None of these may match. It wins over `allow`.
    pub deny: Vec<T>,
}

/// `POST /model/*/converse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The HTTP method.
    pub method: Glob,
    /// The path, without what chose the service. `*` stands for any run of characters, `/` included.
    pub path: Glob,
}

/// The geographies that an inference profile may be named after, and the regions that each may have a call answered in: all that AWS documents, for
/// any model (Bedrock user guide, "Geographic cross-Region inference"; aws-cdk, `CrossRegionInferenceProfileRegion`, 2.275). `global` may
/// go anywhere. AWS may add regions to a geography: whoever lists all of them singly today is asked again by a later release.
pub const GEOGRAPHIES: [(&str, &[&str]); 8] = [
    ("global", &[]),
    ("us-gov", &["us-gov-east-1", "us-gov-west-1"]),
    ("us", &["us-east-1", "us-east-2", "us-west-1", "us-west-2"]),
    ("eu", &["eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3"]),
    (
        "apac",
        &[
            "ap-east-2",
            "ap-northeast-1",
            "ap-northeast-2",
            "ap-northeast-3",
            "ap-south-1",
            "ap-south-2",
            "ap-southeast-1",
            "ap-southeast-2",
            "ap-southeast-3",
            "ap-southeast-4",
            "ap-southeast-5",
            "ap-southeast-7",
            // The United Arab Emirates: not where one looks for it.
            "me-central-1",
        ],
    ),
    ("jp", &["ap-northeast-1", "ap-northeast-3"]),
    ("au", &["ap-southeast-2", "ap-southeast-4"]),
    ("ca", &["ca-central-1", "ca-west-1"]),
];

/// Reads `policy`, where every rule has a name of its own.
pub(super) fn read(value: &Value<'_>) -> Checked<Vec<Rule>> {
    value.named_items()
}

impl FromValue for Rule {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let name = map.required::<Name>("name", "interns");
        let mut globs = |key, what| map.value(key).map_or(Ok(Vec::new()), |value| value.distinct::<Glob>(what));
        let tenants = globs("tenants", "tenant");
        let users = globs("users", "user");
        let groups = globs("groups", "group");
        let methods = map.value("methods").map_or(Ok(Vec::new()), |value| some(&value, "identity method", identity_method));
        let services = Lists::read(map.value("services"), "service", service);
        let models = Lists::read(map.value("models"), "model", Glob::from_value);
        let operations = Lists::read(map.value("operations"), "operation", Operation::from_value);
        let regions = Lists::read(map.value("regions"), "region", region);
        let allow_unknown = map.or("allow_unknown", false);
        let shadow = map.or("shadow", false);
        map.finish()?;
        let rule = Self {
            name: name?.0.into(),
            tenants: tenants?,
            users: users?,
            groups: groups?,
            methods: methods?,
            services: services?,
            models: models?,
            operations: operations?,
            regions: regions?,
            allow_unknown: allow_unknown?,
            shadow: shadow?,
        };
        if rule.services.is_empty() && rule.models.is_empty() && rule.operations.is_empty() && rule.regions.is_empty() {
            return value
                .refuse_with("a rule that allows everything", "say what is allowed: `services`, `models`, `operations` or `regions`");
        }
        Ok(rule)
    }
}

impl<T> Lists<T> {
    /// Whether nothing is said.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { allow: Vec::new(), deny: Vec::new() }
    }
}

impl<T: PartialEq> Lists<T> {
    /// A list is what is allowed; a mapping says `allow`, `deny` or both.
    fn read(value: Option<Value<'_>>, what: &str, one: fn(&Value<'_>) -> Checked<T>) -> Checked<Self> {
        let Some(value) = value else { return Ok(Self::default()) };
        if value.is_list() {
            return Ok(Self { allow: some(&value, what, one)?, deny: Vec::new() });
        }
        let mut map = value.map()?;
        let mut list = |key| map.value(key).map_or(Ok(Vec::new()), |value| some(&value, what, one));
        let (allow, deny) = (list("allow"), list("deny"));
        map.finish()?;
        let lists = Self { allow: allow?, deny: deny? };
        if lists.is_empty() {
            value.refuse_with("says nothing", "a list of what is allowed; or `allow`, `deny` or both")
        } else {
            Ok(lists)
        }
    }
}

/// The items of a list, at least one, each once.
pub(super) fn some<T: PartialEq>(value: &Value<'_>, what: &str, one: fn(&Value<'_>) -> Checked<T>) -> Checked<Vec<T>> {
    let mut seen = Vec::new();
    let mut all = Ok(());
    for item in value.some_items(what)? {
        match one(&item) {
            Ok(one) if seen.contains(&one) => all = item.refuse(format!("{} is named twice", item.quoted())),
            Ok(one) => seen.push(one),
            Err(reported) => all = Err(reported),
        }
    }
    all.map(|()| seen)
}

/// A pattern that matches nothing there is would deny nothing.
fn known(value: &Value<'_>, what: &str, names: &[&str]) -> Checked<Glob> {
    let glob = Glob::from_value(value)?;
    if names.iter().any(|name| glob.matches(name)) {
        return Ok(glob);
    }
    value.refuse_with(format!("{} is no {what}", value.quoted()), suggest(value.text()?, names))
}

fn identity_method(value: &Value<'_>) -> Checked<Glob> {
    known(value, "identity method", &Method::ALL.map(Method::label))
}

/// A pattern of services by endpoint prefix, which matches one at least.
pub(super) fn service(value: &Value<'_>) -> Checked<Glob> {
    let names: Vec<&str> = SERVICES.iter().map(|service| service.prefix).collect();
    known(value, "service", &names)
}

fn region(value: &Value<'_>) -> Checked<Glob> {
    let text = value.text()?;
    if text.contains('*') || looks_like_a_region(text) || GEOGRAPHIES.iter().any(|(name, _)| *name == text) {
        return Glob::from_value(value);
    }
    let help = "a region, as in `eu-central-1`; a pattern, as in `eu-*`; or a geography of inference profiles, as in `eu` or `global`";
    value.refuse_with(format!("{} is no region", value.quoted()), help)
}

impl FromValue for Operation {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let text = value.text()?;
        let is_method = |method: &str| !method.is_empty() && method.chars().all(|c| c.is_ascii_uppercase() || c == '*');
        match text.split_once(' ') {
            Some((method, path)) if is_method(method) && path.starts_with(['/', '*']) && !path.contains(' ') => {
                Ok(Self { method: Glob::new(method), path: Glob::new(path) })
            }
            _ => value.refuse_with(
                format!("{} is no operation", value.quoted()),
                "a method in capitals, a blank, and a path, as in `POST /model/*/converse` or `GET *`",
            ),
        }
    }
}
