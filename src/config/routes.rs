//! `routes`: which upstream answers. The first that matches.

use std::sync::Arc;
use std::time::Duration;

use super::reader::{Checked, FromValue, Map, Name, Value, listed, suggest};

/// One route. It matches every call: conditions come with later keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name in logs; unique.
    pub name: Arc<str>,
    /// The key of an upstream.
    pub to: Arc<str>,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// What becomes of an answer whose client left. Default [`OnDisconnect::Cancel`].
    pub on_disconnect: OnDisconnect,
}

/// What becomes of an answer whose client left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The upstream call ends, and its usage is estimated.
    #[default]
    Cancel,
    /// The answer is read to its end, so that its usage is known exactly.
    Drain(Drain),
}

/// The bounds of draining; beyond them it is [`OnDisconnect::Cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// For so long after the client left. Default 5 minutes.
    pub time: Duration,
    /// So many answers of the route at once: 1 to 100,000. Default 256.
    pub max: u32,
}

/// How long each step of an upstream call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS together. Default 3 s.
    pub connect: Duration,
    /// Until the answer's first byte; of a stream, its first event. Default 3600 s: a model may think for an hour (the Nova guide asks clients to wait
    /// as long).
    pub first_byte: Duration,
    /// The longest silence after that. Default 3600 s, as above.
    pub idle: Duration,
    /// The whole call, from the request handed over to the answer's end. Default 4 h.
    pub total: Duration,
}

/// Reads `routes`, given the names of the upstreams. Without `routes`, everything goes to the only upstream.
pub(super) fn read(map: &mut Map<'_>, upstreams: &[&str]) -> Checked<Vec<Route>> {
    let Some(value) = map.value("routes") else {
        return match upstreams {
            [only] => Ok(vec![Route {
                name: "everything".into(),
                to: (*only).into(),
                timeouts: Timeouts::default(),
                on_disconnect: OnDisconnect::default(),
            }]),
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
    let mut first: Option<&Value<'_>> = None;
    let items = value.some_items("route")?;
    let mut routes = Vec::new();
    for item in &items {
        routes.push(Route::from_value(item, upstreams));
        if let Err(reported) = item.claim_name(&mut names) {
            routes.push(Err(reported));
        }
        match first {
            None => first = Some(item),
            Some(first) => {
                let message = format!("can never be reached: `{}` takes every call", first.path());
                routes.push(item.refuse_with(message, "routes have no conditions yet: keep one"));
            }
        }
    }
    routes.into_iter().collect()
}

impl Route {
    fn from_value(value: &Value<'_>, upstreams: &[&str]) -> Checked<Self> {
        let mut map = value.map()?;
        let name = map.required::<Name>("name", "everything");
        let example = upstreams.first().map_or("use1", |first| first);
        let to = map.required_by("to", &format!("[{{ upstream: {example} }}]"), |value| target(value, upstreams));
        let timeouts = map.or("timeouts", Timeouts::default());
        let on_disconnect = map.or("on_disconnect", OnDisconnect::default());
        map.finish()?;
        Ok(Self { name: name?.0.into(), to: to?, timeouts: timeouts?, on_disconnect: on_disconnect? })
    }
}

/// The one target of a route.
fn target(value: &Value<'_>, upstreams: &[&str]) -> Checked<Arc<str>> {
    let items = value.items()?;
    let item = match items.as_slice() {
        [] => return value.refuse("needs at least one target"),
        [item] => item,
        [_, second, ..] => return second.refuse("a second target: a route has exactly one for now"),
    };
    let mut map = item.map()?;
    let upstream = map.required_by("upstream", upstreams.first().map_or("use1", |first| first), |name| {
        let text = name.text()?;
        // None at all: `upstreams` is at fault, and that is told there.
        if upstreams.contains(&text) || upstreams.is_empty() {
            return Ok(text.into());
        }
        name.refuse_with(format!("there is no upstream {}", name.quoted()), suggest(text, upstreams))
    });
    map.finish()?;
    upstream
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_hours(1),
            idle: Duration::from_hours(1),
            total: Duration::from_hours(4),
        }
    }
}

impl FromValue for Timeouts {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let default = Self::default();
        let mut map = value.map()?;
        let connect = map.or("connect", default.connect);
        let first_byte = map.or("first_byte", default.first_byte);
        let idle = map.or("idle", default.idle);
        let total = map.or("total", default.total);
        map.finish()?;
        Ok(Self { connect: connect?, first_byte: first_byte?, idle: idle?, total: total? })
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { time: Duration::from_mins(5), max: 256 }
    }
}

/// `cancel`, `drain`, or `{ drain: { time: 5m, max: 256 } }`.
impl FromValue for OnDisconnect {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        match value.as_text() {
            Some("cancel") => return Ok(Self::Cancel),
            Some("drain") => return Ok(Self::Drain(Drain::default())),
            Some(other) => {
                return value.refuse_with(
                    format!("{} is nothing to do when a client leaves", value.quoted()),
                    suggest(other, &["cancel", "drain"]),
                );
            }
            None => {}
        }
        let mut map = value.map()?;
        let drain = map.required::<Drain>("drain", "{ time: 5m, max: 256 }");
        map.finish()?;
        Ok(Self::Drain(drain?))
    }
}

impl FromValue for Drain {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let default = Self::default();
        let mut map = value.map()?;
        let time = map.or("time", default.time);
        let max = map.value("max").map_or(Ok(default.max), |value| match u64::from_value(&value)? {
            max @ 1..=100_000 => Ok(u32::try_from(max).unwrap_or(u32::MAX)),
            _ => value.refuse_with(format!("{} answers at once", value.quoted()), "1 to 100000"),
        });
        map.finish()?;
        Ok(Self { time: time?, max: max? })
    }
}
