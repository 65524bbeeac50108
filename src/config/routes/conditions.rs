//! The conditions of a route, but for its stage.

use http::HeaderName;

use super::super::policy::{Operation, service, some};
use super::super::reader::{Checked, FromValue, Map, Value};
use crate::domain::Glob;

/// What a call must be for a route to match; an empty list: anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The host that the client asked for, without its port, in any case.
    pub hosts: Vec<Glob>,
    /// Headers, each once, and what one of their values must be.
    pub headers: Vec<(HeaderName, Vec<Glob>)>,
    /// The service, by endpoint prefix.
    pub services: Vec<Glob>,
    /// The operation.
    pub operations: Vec<Operation>,
    /// The model, in any of its spellings; a call that names none is of none.
    pub models: Vec<Glob>,
    /// The tenant.
    pub tenants: Vec<Glob>,
    /// The user; a caller without one is none of them.
    pub users: Vec<Glob>,
    /// A group that the caller is in.
    pub groups: Vec<Glob>,
}

/// Headers that hold credentials: what is compared with them would be a secret in this file.
const CREDENTIALS: [HeaderName; 6] = [
    HeaderName::from_static("authorization"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("cookie"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-amz-security-token"),
    HeaderName::from_static("x-tollgate-token"),
];

impl Conditions {
    pub(super) fn read(map: &mut Map<'_>) -> Checked<Self> {
        let hosts = map.value("hosts").map_or(Ok(Vec::new()), |value| some(&value, "host", host));
        let headers = map.value("headers").map_or(Ok(Vec::new()), |value| headers(&value));
        let services = map.value("services").map_or(Ok(Vec::new()), |value| some(&value, "service", service));
        let operations = map.value("operations").map_or(Ok(Vec::new()), |value| value.distinct::<Operation>("operation"));
        let mut globs = |key, what| map.value(key).map_or(Ok(Vec::new()), |value| value.distinct::<Glob>(what));
        let models = globs("models", "model");
        let tenants = globs("tenants", "tenant");
        let users = globs("users", "user");
        let groups = globs("groups", "group");
        Ok(Self {
            hosts: hosts?,
            headers: headers?,
            services: services?,
            operations: operations?,
            models: models?,
            tenants: tenants?,
            users: users?,
            groups: groups?,
        })
    }
}

/// A host, or a pattern of hosts.
fn host(value: &Value<'_>) -> Checked<Glob> {
    let glob = Glob::from_value(value)?;
    let text = value.text()?;
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !text.ends_with(']') && port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port)),
        _ => (text, None),
    };
    // Of names, and of addresses; IPv6 in brackets, as in a URL.
    let is_host = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte))
        || name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|address| address.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.*".contains(&byte)));
    match (is_host, port) {
        (true, None) => Ok(glob),
        (true, Some(_)) => value.refuse_with(format!("{} has a port, which is not looked at", value.quoted()), format!("`{name}`")),
        (false, _) => value.refuse_with(format!("{} is no host", value.quoted()), "as in `ai.example.com` or `\"*.example.com\"`"),
    }
}

/// Names of headers, and what one of their values must be: a pattern, or several.
fn headers(value: &Value<'_>) -> Checked<Vec<(HeaderName, Vec<Glob>)>> {
    let map = value.map()?;
    if map.named().is_empty() {
        return value.refuse_with("needs at least one header", "as in `{ x-team: \"ml-*\" }`");
    }
    let mut seen: Vec<HeaderName> = Vec::new();
    let mut read = Vec::new();
    for (name, value) in map.named() {
        let patterns = if value.is_list() { value.distinct::<Glob>("pattern") } else { Glob::from_value(value).map(|glob| vec![glob]) };
        read.push(match HeaderName::from_bytes(name.as_bytes()) {
            Err(_) => value.refuse_key("is no name of a header", "as in `x-team`"),
            Ok(name) if CREDENTIALS.contains(&name) => {
                value.refuse_key("holds a credential, and would be a secret here", "tell callers apart by `tenants`, `users` or `groups`")
            }
            Ok(name) if name == http::header::HOST => value.refuse_key("is no header of every HTTP version", "use `hosts`"),
            Ok(name) if seen.contains(&name) => value.refuse_key("is named twice, in another case", "remove one of the two"),
            Ok(name) => {
                seen.push(name.clone());
                patterns.map(|patterns| (name, patterns))
            }
        });
    }
    read.into_iter().collect()
}

/// The name of a header that is no credential.
pub(super) fn header_name(value: &Value<'_>) -> Checked<HeaderName> {
    match HeaderName::from_bytes(value.text()?.as_bytes()) {
        Err(_) => value.refuse_with(format!("{} is no name of a header", value.quoted()), "as in `x-session-id`"),
        Ok(name) if CREDENTIALS.contains(&name) => {
            value.refuse_with(format!("{} holds a credential", value.quoted()), "another header, as in `x-session-id`")
        }
        Ok(name) => Ok(name),
    }
}
