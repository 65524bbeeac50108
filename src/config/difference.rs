//! What is different between two configurations, as gateway.yaml would say it, and what becomes of what runs by the one when the other takes its place.
//!
//! Nothing secret is told: it compares what [`Config::effective`] shows. Where only something hidden differs, that is said, and no more.

use serde::Serialize;
use serde_yaml::{Mapping, Value};

use super::Config;

/// What stands for a value that is not shown.
const HIDDEN: &str = "***";

/// One key that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its path, as faults name it; an item of a list goes by its name: `limits[rpm].rate`.
    pub path: String,
    /// What it was; none where it was not there.
    pub old: Option<String>,
    /// What it is; none where it is there no more.
    pub new: Option<String>,
}

/// What becomes of things that have names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fates {
    /// As they were.
    pub kept: Vec<String>,
    /// Another of the same name.
    pub changed: Vec<String>,
    /// Not there before.
    pub new: Vec<String>,
    /// There no more.
    pub gone: Vec<String>,
}

/// What becomes of everything that has a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AllFates {
    /// Listeners, by their address: one that changed goes on with its socket and its connections.
    pub listeners: Fates,
    /// Upstreams: one that changed is built anew.
    pub upstreams: Fates,
    /// Limits: one that is kept knows what is used, though its bound may be another; one that changed counts otherwise, and begins anew.
    pub limits: Fates,
    /// Routes.
    pub routes: Fates,
}

impl Fates {
    /// Of what has these names, in place of what had those; `same` tells of the places of two of one name whether the one goes on as the other.
    pub fn of(old: &[String], new: &[String], same: impl Fn(usize, usize) -> bool) -> Self {
        let mut fates = Self::default();
        for (at, name) in new.iter().enumerate() {
            let fate = match old.iter().position(|known| known == name) {
                Some(known) if same(known, at) => &mut fates.kept,
                Some(_) => &mut fates.changed,
                None => &mut fates.new,
            };
            fate.push(name.clone());
        }
        fates.gone = old.iter().filter(|name| !new.contains(name)).cloned().collect();
        fates
    }

    /// Whether all goes on as it was.
    #[must_use]
    pub const fn is_same(&self) -> bool {
        self.changed.is_empty() && self.new.is_empty() && self.gone.is_empty()
    }
}

impl Config {
    /// What is different in `new`, in the order of the documentation. It is empty only where both say the same.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        let (Value::Mapping(old_shown), Value::Mapping(new_shown)) = (self.shown_value(), new.shown_value()) else { return found };
        for key in keys(&old_shown, &new_shown) {
            let before = found.len();
            let name = text(&key);
            compare(&name, old_shown.get(&key), new_shown.get(&key), &mut found);
            if found.len() == before && !self.says_the_same(new, &name) {
                found.push(Difference { path: name, old: Some(HIDDEN.to_owned()), new: Some(format!("{HIDDEN}, another one")) });
            }
        }
        found
    }

    /// The paths of what is different in `new` and can't change while a gateway runs: the operators' address, and everything of `record`.
    #[must_use]
    pub fn frozen(&self, new: &Self) -> Vec<String> {
        let frozen = |difference: &Difference| needs_restart(&difference.path);
        self.differences(new).into_iter().filter(frozen).map(|difference| difference.path).collect()
    }

    /// What becomes of what has a name, as far as the configuration tells: files that it names may have changed, too.
    #[must_use]
    pub fn fates(&self, new: &Self) -> AllFates {
        let upstreams = |config: &Self| config.upstreams.iter().map(|upstream| upstream.name.to_string()).collect::<Vec<_>>();
        let limits = |config: &Self| config.limits.iter().map(|rule| rule.name.clone()).collect::<Vec<_>>();
        let routes = |config: &Self| config.routes.iter().map(|route| route.name.to_string()).collect::<Vec<_>>();
        AllFates {
            listeners: Fates::of(&self.addresses(), &new.addresses(), |a, b| self.listeners.get(a) == new.listeners.get(b)),
            upstreams: Fates::of(&upstreams(self), &upstreams(new), |a, b| self.upstreams.get(a) == new.upstreams.get(b)),
            limits: Fates::of(&limits(self), &limits(new), |a, b| {
                self.limits.get(a).zip(new.limits.get(b)).is_some_and(|(old, new)| new.continues(old))
            }),
            routes: Fates::of(&routes(self), &routes(new), |a, b| self.routes.get(a) == new.routes.get(b)),
        }
    }

    /// The listeners' addresses, each once: where two leave their port to the system, the second is `127.0.0.1:0#2`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        numbered(self.listeners.iter().map(|listener| listener.address.to_string()))
    }

    /// Whether a top-level key has the very same value in both, hidden things included.
    fn says_the_same(&self, new: &Self, key: &str) -> bool {
        let Self { listeners, admin, firewall, identity, policy, limits, upstreams, routes, prices, record, version: _ } = self;
        match key {
            "listeners" => *listeners == new.listeners,
            "admin" => *admin == new.admin,
            "firewall" => *firewall == new.firewall,
            "identity" => *identity == new.identity,
            "policy" => *policy == new.policy,
            "limits" => *limits == new.limits,
            "upstreams" => *upstreams == new.upstreams,
            "routes" => *routes == new.routes,
            "prices" => *prices == new.prices,
            "record" => *record == new.record,
            // A key that is not named here would be told as different whenever anything is.
            _ => Self { version: String::new(), ..self.clone() } == Self { version: String::new(), ..new.clone() },
        }
    }
}

/// Whether what is at this path can't change while a gateway runs.
#[must_use]
pub fn needs_restart(path: &str) -> bool {
    path.starts_with("admin") || path.starts_with("record")
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Difference>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Some(Value::Mapping(old)), Some(Value::Mapping(new))) => {
            for key in keys(old, new) {
                compare(&format!("{path}.{}", text(&key)), old.get(&key), new.get(&key), found);
            }
        }
        (Some(Value::Sequence(old)), Some(Value::Sequence(new))) if old.iter().chain(new).all(|item| name_of(item).is_some()) => {
            items(path, old, new, found);
        }
        _ => found.push(Difference { path: path.to_owned(), old: old.map(text), new: new.map(text) }),
    }
}

/// Lists of things that have names.
fn items(path: &str, old: &[Value], new: &[Value], found: &mut Vec<Difference>) {
    let names = |items: &[Value]| numbered(items.iter().filter_map(name_of));
    let (old_names, new_names) = (names(old), names(new));
    let find =
        |names: &[String], items: &[Value], name: &String| names.iter().position(|n| n == name).and_then(|at| items.get(at).cloned());
    let all = old_names.iter().chain(new_names.iter().filter(|name| !old_names.contains(name)));
    for name in all {
        let (old, new) = (find(&old_names, old, name), find(&new_names, new, name));
        compare(&format!("{path}[{name}]"), old.as_ref(), new.as_ref(), found);
    }
    let common = |names: &[String], others: &[String]| names.iter().filter(|n| others.contains(n)).cloned().collect::<Vec<_>>().join(", ");
    let (before, after) = (common(&old_names, &new_names), common(&new_names, &old_names));
    if before != after {
        found.push(Difference { path: format!("{path} (order)"), old: Some(before), new: Some(after) });
    }
}

/// What an item of a list goes by: its name or address; a way to prove who is calling by its kind, and its issuer.
fn name_of(item: &Value) -> Option<String> {
    let map = item.as_mapping()?;
    if let Some(name) = map.get("name").or_else(|| map.get("address")) {
        return Some(text(name));
    }
    let (kind, inner) = map.iter().next().filter(|_| map.len() == 1)?;
    let issuer = inner.as_mapping().and_then(|inner| inner.get("issuer"));
    Some(issuer.map_or_else(|| text(kind), |issuer| format!("{} {}", text(kind), text(issuer))))
}

/// Names, each once: the second of a name is `name#2`.
fn numbered(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen: Vec<(String, usize)> = Vec::new();
    let number = |name: String| {
        if let Some((name, count)) = seen.iter_mut().find(|(known, _)| *known == name) {
            *count += 1;
            return format!("{name}#{count}");
        }
        seen.push((name.clone(), 1));
        name
    };
    names.map(number).collect()
}

/// The keys of both, in the order of the first.
fn keys(old: &Mapping, new: &Mapping) -> Vec<Value> {
    old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))).cloned().collect()
}

/// A value in one line, as YAML has it. What a terminal would obey is escaped.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(switch) => switch.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.is_empty() || text.chars().any(char::is_control) => format!("{text:?}"),
        Value::String(text) => text.clone(),
        Value::Sequence(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", ")),
        Value::Mapping(map) if map.is_empty() => "{}".to_owned(),
        Value::Mapping(map) => {
            let entries: Vec<String> = map.iter().map(|(key, value)| format!("{}: {}", text(key), text(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Tagged(tagged) => text(&tagged.value),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BASE: &str = "\
listeners: [{ address: '127.0.0.1:0' }, { address: '127.0.0.1:0' }]
identity: [{ anonymous: { tenant: a } }]
limits:
- { name: rpm, count: requests, rate: 600/minute }
- { name: day, count: tokens, quota: 5/day }
upstreams: { use1: { region: us-east-1 } }
";

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn told(old: &str, new: &str) -> Vec<String> {
        let told = |found: Difference| {
            let side = |side: Option<String>| side.unwrap_or_else(|| "-".to_owned());
            format!("{}: {} -> {}", found.path, side(found.old), side(found.new))
        };
        config(old).differences(&config(new)).into_iter().map(told).collect()
    }

    #[test]
    fn what_is_different_is_told_by_path_and_name_and_nothing_else_is() {
        assert_eq!(told(BASE, &format!("# a comment\n{BASE}")), [""; 0]);
        assert_eq!(
            told(BASE, &BASE.replace("rate: 600/minute", "rate: 100/minute, burst: 10")),
            ["limits[rpm].rate: 600/minute -> 100/minute"]
        );
        assert_eq!(
            told(BASE, &BASE.replace("region: us-east-1", "region: eu-west-1, fips: true")),
            ["upstreams.use1.region: us-east-1 -> eu-west-1", "upstreams.use1.fips: false -> true"]
        );
        let gone = told(BASE, &BASE.replace("- { name: day, count: tokens, quota: 5/day }\n", ""));
        assert!(
            gone.len() == 1 && gone[0].starts_with("limits[day]: { name: day, count: tokens,") && gone[0].ends_with(" -> -"),
            "{gone:?}"
        );
        let second = told(BASE, &BASE.replace("'127.0.0.1:0' }]", "'127.0.0.1:0', max_connections: 5 }]"));
        assert_eq!(second, ["listeners[127.0.0.1:0#2].max_connections: 20000 -> 5"]);
    }

    #[test]
    fn another_order_is_a_difference() {
        let turned = BASE.replace("name: rpm", "name: x").replace("name: day", "name: rpm").replace("name: x", "name: day");
        let turned = turned.replace("count: requests, rate: 600/minute", "count: tokens, quota: 5/day#").replacen(
            "count: tokens, quota: 5/day }",
            "count: requests, rate: 600/minute }",
            1,
        );
        assert_eq!(told(BASE, &turned.replace("5/day#", "5/day")), ["limits (order): rpm, day -> day, rpm"]);
    }

    #[test]
    fn a_secret_that_changed_is_told_without_it() {
        let with = |secret: &str| format!("{BASE}record: {{ webhook: {{ url: 'https://hooks.example/x?key={secret}' }} }}\n");
        let told = told(&with("aaaa-one"), &with("bbbb-two"));
        assert_eq!(told, ["record: *** -> ***, another one"]);
        assert_eq!(config(&with("a")).frozen(&config(&with("b"))), ["record"]);
    }

    #[test]
    fn what_becomes_of_limits_is_a_matter_of_what_they_count() {
        let fates = config(BASE).fates(&config(&BASE.replace("600/minute", "5/hour").replace("quota: 5/day", "quota: 5/day, per: [user]")));
        assert_eq!((fates.limits.kept, fates.limits.changed), (vec!["rpm".to_owned()], vec!["day".to_owned()]));
        assert!(fates.listeners.is_same() && fates.upstreams.is_same() && fates.routes.is_same());
    }
}
