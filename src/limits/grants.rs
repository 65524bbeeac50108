//! What was granted beyond the rules, for a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};

use crate::domain::Grant;

/// Every grant that may still count. It outlives reloads.
#[derive(Debug, Default)]
pub struct Grants(ArcSwap<HashMap<Arc<str>, Vec<Grant>>>);

impl Grants {
    /// From now on these count.
    pub fn set(&self, grants: Vec<Grant>) {
        let mut by_tenant: HashMap<Arc<str>, Vec<Grant>> = HashMap::new();
        for grant in grants {
            by_tenant.entry(Arc::clone(&grant.tenant)).or_default().push(grant);
        }
        self.0.store(Arc::new(by_tenant));
    }

    /// Those that may count now.
    pub(super) fn load(&self) -> Granted {
        Granted(self.0.load())
    }
}

/// What was granted, as it is at a moment.
pub(super) struct Granted(Guard<Arc<HashMap<Arc<str>, Vec<Grant>>>>);

impl Granted {
    /// How much more a rule gives a caller at `now`, in its units of account.
    pub(super) fn more(&self, rule: &str, tenant: &str, user: Option<&str>, now: SystemTime) -> u64 {
        if self.0.is_empty() {
            return 0;
        }
        let counts = |grant: &&Grant| &*grant.rule == rule && grant.until > now && (grant.user.is_none() || grant.user.as_deref() == user);
        let of = self.0.get(tenant).map(Vec::as_slice).unwrap_or_default();
        of.iter().filter(counts).fold(0, |sum, grant| sum.saturating_add(grant.more))
    }
}
