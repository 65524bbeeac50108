//! What was granted beyond the rules, for a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

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

    /// How much more a rule gives a caller at `now`, in its units of account.
    pub(super) fn more(&self, rule: &str, tenant: &str, user: Option<&str>, now: SystemTime) -> u64 {
        let grants = self.0.load();
        if grants.is_empty() {
            return 0;
        }
        let counts = |grant: &&Grant| &*grant.rule == rule && grant.until > now && (grant.user.is_none() || grant.user.as_deref() == user);
        let of = grants.get(tenant).map(Vec::as_slice).unwrap_or_default();
        of.iter().filter(counts).fold(0, |sum, grant| sum.saturating_add(grant.more))
    }
}
