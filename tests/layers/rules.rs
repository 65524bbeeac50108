//! The rules themselves: which part of the crate may know which.

use std::fmt;

use super::paths::{Reference, references};

/// The rooms, in the order in which a call passes them. A new room is entered here, in ARCHITECTURE.md and in `proxy/admit.rs`.
const ROOMS: [&str; 13] = [
    "listeners",
    "firewall",
    "identity",
    "call",
    "policy",
    "content",
    "limits",
    "cache",
    "routes",
    "upstreams",
    "reply",
    "prices",
    "record",
];

/// Files of `src/config/` that are no top-level key of gateway.yaml: what reads, reports, shows and compares.
const CONFIG_MACHINERY: [&str; 5] = ["mod", "difference", "effective", "reader", "tests"];

/// Keys of gateway.yaml that belong to a room of another name.
const CONFIG_ELSEWHERE: [(&str, &str); 1] = [("cache_memory", "cache")];

/// 150 lines are usual, 300 long, 500 the end.
const LONGEST: usize = 500;

/// A file under `src/`: its path there, with `/`, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// One breach: where, what stands there, and the rule that forbids it.
pub(crate) struct Fault {
    path: String,
    line: usize,
    what: String,
    rule: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}: {}", self.path, self.line, self.what, self.rule)
    }
}

/// Where a part of the crate stands in the line, the innermost first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Domain,
    Config,
    Room,
    State,
    Proxy,
    /// `server`, `reload`, `admin`, `emulator`.
    Around,
    /// `main`, `cli`, `demo`.
    Top,
}

fn layer(part: &str) -> Option<Layer> {
    Some(match part {
        "domain" => Layer::Domain,
        "config" => Layer::Config,
        "state" => Layer::State,
        "proxy" => Layer::Proxy,
        "server" | "reload" | "admin" | "emulator" => Layer::Around,
        "main" | "lib" | "cli" | "demo" => Layer::Top,
        room if ROOMS.contains(&room) => Layer::Room,
        _ => return None,
    })
}

/// Every breach in `sources`, in their order.
pub(crate) fn faults(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources {
        let part = source.path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let fault = |line, what: String, rule: &str| Fault { path: source.path.clone(), line, what, rule: rule.to_owned() };
        let lines = source.text.lines().count();
        if lines > LONGEST {
            faults.push(fault(LONGEST + 1, format!("{lines} lines"), "a file has one subject, and 500 lines are the end"));
        }
        if layer(part).is_none() {
            faults.push(fault(
                1,
                format!("`{part}`"),
                "it stands in no layer; give it its place in tests/layers/rules.rs and ARCHITECTURE.md",
            ));
        }
        if let Some(name) = orphan(&source.path, sources) {
            faults.push(fault(1, format!("`{name}`"), "a key of gateway.yaml has the name of its room, and there is no such room"));
        }
        if is_test(&source.path) {
            continue;
        }
        for Reference { line, path } in references(source) {
            if let Some(rule) = breach(part, &path) {
                faults.push(fault(line, format!("`{}`", path.join("::")), &rule));
            }
        }
    }
    faults
}

/// `room/tests.rs` and what lies in a folder `tests`.
fn is_test(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs"))
}

/// The key that this file of `config/` is for, when nothing of that name is there to read it.
fn orphan<'a>(path: &'a str, sources: &[Source]) -> Option<&'a str> {
    let name = path.strip_prefix("config/")?.trim_end_matches(".rs").split('/').next()?;
    if CONFIG_MACHINERY.contains(&name) {
        return None;
    }
    let room = CONFIG_ELSEWHERE.iter().find(|(key, _)| *key == name).map_or(name, |(_, room)| room);
    let found = sources.iter().any(|other| other.path == format!("{room}.rs") || other.path.starts_with(&format!("{room}/")));
    (!found).then_some(name)
}

/// The rule that forbids `part` to name `path`; none when it may.
fn breach(part: &str, path: &[String]) -> Option<String> {
    let first = path.first().map_or("", String::as_str);
    let second = path.get(1).map(String::as_str);
    match (first, second) {
        ("mod tests", _) => Some("a file `tests.rs` is exempt from the layers, so `mod tests;` stands under #[cfg(test)]".to_owned()),
        ("crate", None | Some("*")) => Some("name what is needed, not the whole crate".to_owned()),
        ("crate", Some(target)) => inward(part, target, path.get(2).map(String::as_str)),
        (pingora, member) => pingora_breach(part, pingora, member),
    }
}

/// The rules for paths within the crate.
fn inward(part: &str, target: &str, member: Option<&str>) -> Option<String> {
    use Layer::{Around, Config, Domain, Proxy, Room, Top};
    if part == target {
        return None;
    }
    let here = layer(part)?;
    let Some(there) = layer(target) else {
        return Some(format!("`{target}` stands in no layer; name it by the module that it lives in"));
    };
    match (here, there) {
        _ if part == "emulator" && there != Domain => {
            Some("the emulator imports `domain` at most: sharing more, it would share the gateway's faults".to_owned())
        }
        _ if target == "emulator" && here != Top => Some("only the command line starts the emulator".to_owned()),
        // `use crate::config;` alone: what is named by it is judged where it is named.
        (Room, Config) if member.is_none_or(|section| section == part) => None,
        (Room, Config) => Some(format!("a room imports `config::{part}` only: its own key of gateway.yaml")),
        (Room, Room) => Some("a room knows no other room; what they share is a word of `domain`, what joins them is `proxy`".to_owned()),
        (Around, Room | Proxy) if part == "admin" && target != "record" => {
            Some("the admin listener reads `record` and `state`: no other room, and not the corridor".to_owned())
        }
        (Around, Around) | (Top, Top) if stage(part) < stage(target) => None,
        _ if there < here => None,
        _ => Some(format!(
            "`{part}` may not know `{target}`: main, cli, demo -> server, reload, admin, emulator -> proxy -> state -> rooms -> config -> domain"
        )),
    }
}

/// The order within one layer, so that it stays free of cycles.
fn stage(part: &str) -> usize {
    ["main", "lib", "cli", "demo", "server", "reload", "admin", "emulator"].iter().position(|name| *name == part).unwrap_or(usize::MAX)
}

/// Where Pingora may be named. The facade `pingora` re-exports all of it, its `prelude` the proxy too.
fn pingora_breach(part: &str, name: &str, member: Option<&str>) -> Option<String> {
    let (parts, rule): (&[&str], _) = match (name, member) {
        ("pingora_limits", _) | ("pingora", Some("limits")) => (&["firewall"], "pingora_limits holds sketches, for `firewall` alone"),
        ("pingora_proxy" | "pingora_cache", _) | ("pingora", Some("proxy" | "prelude" | "cache" | "*") | None) => {
            (&["proxy"], "only `proxy` knows Pingora's proxy API")
        }
        _ => (&["proxy", "server", "listeners", "admin"], "Pingora is known to `proxy`, `server`, `listeners` and `admin` only"),
    };
    (!parts.contains(&part)).then(|| rule.to_owned())
}
