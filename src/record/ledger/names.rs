//! Whose usage a row holds: what exchanges are told apart by.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::time::SystemTime;

use super::HOUR;
use super::query::seconds;
use crate::record::entry::{Entry, Tried};

/// No name is longer, in bytes: the rest of it is cut off.
const MOST_NAME: usize = 256;

/// Stands for what a caller could have made up, and for what came when there was no room for it.
pub(super) const OTHER: &str = "other";

/// What exchanges are told apart by, as an exchange tells it. What it does not tell is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Names<'a> {
    /// Seconds since 1970 of the hour that it began in.
    pub(super) hour: i64,
    pub(super) tenant: &'a str,
    pub(super) user: &'a str,
    pub(super) model: &'a str,
    pub(super) upstream: &'a str,
    pub(super) operation: &'a str,
}

impl<'a> Names<'a> {
    /// The names of an exchange; none where it is not known who called. Model and operation are the caller's own words until an upstream has answered to them.
    pub(super) fn of(entry: &Entry<'a>) -> Option<Self> {
        let answered = entry.answered();
        // What is mirrored is no user's.
        let user = entry.principal.filter(|_| !entry.is_mirror()).and_then(|principal| principal.user.as_deref());
        Some(Self {
            hour: hour(entry.began),
            tenant: short(entry.tenant()?),
            user: user.map_or("", short),
            model: word(entry.model, answered),
            upstream: entry.upstream.map_or("", short),
            operation: word(entry.operation, answered),
        })
    }

    /// The names of a try that its exchange, which has these, gave up. Its hour is that of the call, so that both stand in one.
    pub(super) fn of_try<'t>(self, entry: &'t Entry<'a>, tried: &'t Tried) -> Names<'t>
    where
        'a: 't,
    {
        let answered = tried.answered();
        let model = entry.model_of(tried);
        Names {
            model: word(model, answered || entry.answered() && model == entry.model),
            upstream: short(&tried.upstream),
            operation: word(entry.operation, answered || entry.answered()),
            ..self
        }
    }

    /// The same without what there may be many of within a tenant.
    pub(super) const fn folded(self) -> Self {
        Self { user: OTHER, model: OTHER, operation: OTHER, ..self }
    }
}

/// A word of the caller's, once it is known to mean something.
fn word(word: Option<&str>, known: bool) -> &str {
    word.map_or("", |word| if known { short(word) } else { OTHER })
}

fn hour(time: SystemTime) -> i64 {
    let seconds = seconds(time);
    seconds - seconds % HOUR
}

fn short(name: &str) -> &str {
    name.get(..name.floor_char_boundary(MOST_NAME)).unwrap_or(name)
}

/// The same, owned.
#[derive(Debug)]
pub(super) struct Key {
    hour: i64,
    tenant: Box<str>,
    user: Box<str>,
    model: Box<str>,
    upstream: Box<str>,
    operation: Box<str>,
}

impl From<Names<'_>> for Key {
    fn from(names: Names<'_>) -> Self {
        let Names { hour, tenant, user, model, upstream, operation } = names;
        Self { hour, tenant: tenant.into(), user: user.into(), model: model.into(), upstream: upstream.into(), operation: operation.into() }
    }
}

/// Something with names: so that a map of [`Key`]s is asked by [`Names`], and only a newcomer costs an allocation.
pub(super) trait Named {
    fn names(&self) -> Names<'_>;
}

impl Named for Names<'_> {
    fn names(&self) -> Names<'_> {
        *self
    }
}

impl Named for Key {
    fn names(&self) -> Names<'_> {
        let Self { hour, tenant, user, model, upstream, operation } = self;
        Names { hour: *hour, tenant, user, model, upstream, operation }
    }
}

impl<'a> Borrow<dyn Named + 'a> for Key {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl Hash for dyn Named + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().hash(state);
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for dyn Named + '_ {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for Key {}
