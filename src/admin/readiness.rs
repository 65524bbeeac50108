//! Whether the gateway should be sent traffic.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

/// Named conditions, all of which must be met. Clones share them.
///
/// Safe by default: a condition is unmet until it is said to be met, and it stays when its handle is dropped. With no condition at all, it is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    board: Board,
    /// What an operator should know though it is ready.
    remark: Arc<Mutex<Option<Arc<str>>>>,
}

/// Why each condition is unmet, by its name; none where it is met.
type Board = Arc<Mutex<BTreeMap<Arc<str>, Option<Cow<'static, str>>>>>;

/// A condition that is not met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unmet {
    /// Its name.
    pub condition: Box<str>,
    /// Why, for an operator.
    pub detail: Cow<'static, str>,
}

/// The name of the condition that `upstream` has credentials.
#[must_use]
pub fn credentials_of(upstream: &str) -> String {
    format!("credentials of upstream `{upstream}`")
}

impl Readiness {
    /// No conditions yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The handle of the condition `name`, which is added, unmet, where there is none of that name.
    pub fn condition(&self, name: impl Into<Arc<str>>) -> Condition {
        let name = name.into();
        self.board.lock().entry(Arc::clone(&name)).or_insert(Some(Cow::Borrowed("not known yet")));
        Condition { name, board: Arc::clone(&self.board) }
    }

    /// The same, but it is met where there is none of that name: for what was waited for before it was told of.
    pub fn met_condition(&self, name: impl Into<Arc<str>>) -> Condition {
        let name = name.into();
        self.board.lock().entry(Arc::clone(&name)).or_insert(None);
        Condition { name, board: Arc::clone(&self.board) }
    }

    /// The names of all conditions.
    #[must_use]
    pub fn conditions(&self) -> Vec<Arc<str>> {
        self.board.lock().keys().cloned().collect()
    }

    /// What an operator should know though the gateway is ready, from now on; without a secret, in one line.
    pub fn remark(&self, remark: Option<String>) {
        *self.remark.lock() = remark.map(Into::into);
    }

    /// What was said last to [`Readiness::remark`].
    #[must_use]
    pub fn remarked(&self) -> Option<Arc<str>> {
        self.remark.lock().clone()
    }

    /// Whether all conditions are met.
    ///
    /// # Errors
    /// Those that are not, by name.
    pub fn check(&self) -> Result<(), Vec<Unmet>> {
        let unmet: Vec<_> = self
            .board
            .lock()
            .iter()
            .filter_map(|(name, why)| Some(Unmet { condition: Box::from(&**name), detail: why.clone()? }))
            .collect();
        if unmet.is_empty() { Ok(()) } else { Err(unmet) }
    }
}

/// One condition of a [`Readiness`]; clones are the same one.
#[derive(Clone, Debug)]
pub struct Condition {
    name: Arc<str>,
    board: Board,
}

impl Condition {
    /// From now on it is met.
    pub fn met(&self) {
        self.set(None);
    }

    /// From now on it is not. `why` is shown to operators, so it holds no secret.
    pub fn unmet(&self, why: impl Into<Cow<'static, str>>) {
        self.set(Some(why.into()));
    }

    /// Takes the condition away, for all its handles: what it was about is no more, such as an upstream after a reload.
    pub fn retire(self) {
        self.board.lock().remove(&self.name);
    }

    fn set(&self, why: Option<Cow<'static, str>>) {
        if let Some(condition) = self.board.lock().get_mut(&self.name) {
            *condition = why;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_condition_is_met() {
        let readiness = Readiness::new();
        assert_eq!(readiness.check(), Ok(()));
        let (first, second) = (readiness.condition("a"), readiness.condition("b"));
        first.met();
        assert_eq!(readiness.check(), Err(vec![Unmet { condition: "b".into(), detail: "not known yet".into() }]));
        second.met();
        assert_eq!(readiness.check(), Ok(()));
        first.unmet(format!("expired {} s ago", 3));
        assert_eq!(readiness.check(), Err(vec![Unmet { condition: "a".into(), detail: "expired 3 s ago".into() }]));
    }

    #[test]
    fn a_condition_outlives_its_handle_and_ends_when_retired() {
        let readiness = Readiness::new();
        drop(readiness.condition("a"));
        assert!(readiness.check().is_err());
        let again = readiness.condition("a");
        again.met();
        let other = readiness.condition("a");
        assert_eq!(readiness.check(), Ok(()), "the same condition");
        again.unmet("no");
        other.retire();
        assert_eq!(readiness.check(), Ok(()));
        again.unmet("nothing to say any more");
        assert_eq!(readiness.check(), Ok(()));
    }
}
