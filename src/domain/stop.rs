//! What an operator stopped: no call of it is answered until that is lifted.

use std::fmt;
use std::time::SystemTime;

/// What is stopped, by the names that calls are known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stopped {
    /// All that a tenant asks.
    Tenant(Box<str>),
    /// All that is asked with a key, by its public name.
    Key {
        /// The public name of the key or credential.
        key: Box<str>,
        /// The one tenant whose key it is; none for every tenant that has a key of that name.
        tenant: Option<Box<str>>,
    },
    /// A model in every spelling, or a pattern of models, in lower case.
    Model(Box<str>),
    /// All that takes a route.
    Route(Box<str>),
}

/// The kinds of what can be stopped: the labels of metrics, and the fields of what operators send.
pub const STOP_KINDS: [&str; 4] = ["tenant", "key", "model", "route"];

/// A stop that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// What is stopped. No two stops are of the same.
    pub what: Stopped,
    /// Since when, in whole seconds.
    pub since: SystemTime,
    /// Why, for operators; may be empty.
    pub reason: String,
    /// What callers are told beside that they are stopped; may be empty.
    pub message: String,
}

impl Stopped {
    /// One of [`STOP_KINDS`].
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tenant(_) => "tenant",
            Self::Key { .. } => "key",
            Self::Model(_) => "model",
            Self::Route(_) => "route",
        }
    }

    /// The name of the tenant, key or route, or the pattern of models.
    #[must_use]
    pub const fn name(&self) -> &str {
        match self {
            Self::Tenant(name) | Self::Key { key: name, .. } | Self::Model(name) | Self::Route(name) => name,
        }
    }

    /// The tenant whose key alone is stopped.
    #[must_use]
    pub fn tenant_of_key(&self) -> Option<&str> {
        match self {
            Self::Key { tenant, .. } => tenant.as_deref(),
            Self::Tenant(_) | Self::Model(_) | Self::Route(_) => None,
        }
    }

    /// What is stopped, of its [`Stopped::kind`], [`Stopped::name`] and [`Stopped::tenant_of_key`]; none where there is no such kind.
    #[must_use]
    pub fn of(kind: &str, name: &str, tenant_of_key: Option<&str>) -> Option<Self> {
        match kind {
            "tenant" => Some(Self::Tenant(name.into())),
            "key" => Some(Self::Key { key: name.into(), tenant: tenant_of_key.map(Into::into) }),
            "model" => Some(Self::Model(name.to_ascii_lowercase().into())),
            "route" => Some(Self::Route(name.into())),
            _ => None,
        }
    }
}

/// As an operator, or whoever is stopped, reads it.
impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind(), self.name())?;
        self.tenant_of_key().map_or(Ok(()), |tenant| write!(f, " of tenant `{tenant}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stopped_is_told_by_kind_and_name_and_found_again_by_them() {
        for (kind, name, tenant, told) in [
            ("tenant", "acme", None, "tenant `acme`"),
            ("key", "tgk-1", None, "key `tgk-1`"),
            ("key", "tgk-1", Some("acme"), "key `tgk-1` of tenant `acme`"),
            ("model", "*opus*", None, "model `*opus*`"),
            ("route", "main", None, "route `main`"),
        ] {
            let what = Stopped::of(kind, name, tenant).unwrap();
            assert_eq!((what.kind(), what.name(), what.tenant_of_key(), what.to_string().as_str()), (kind, name, tenant, told));
            assert!(STOP_KINDS.contains(&what.kind()));
        }
        assert_eq!(Stopped::of("Tenant", "acme", None), None);
        assert_eq!(Stopped::of("model", "Anthropic.*", None), Some(Stopped::Model("anthropic.*".into())));
    }
}
