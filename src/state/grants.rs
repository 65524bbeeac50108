//! Grants as operators make and revoke them: kept in the ledger, and in force at once.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::config::limits::{Count, Rule};
use crate::domain::{Clock, Grant};
use crate::limits::Grants;
use crate::record::{KeptGrant, LedgerError, Recorder};

/// Every grant, in the ledger and in force. Whoever asks it waits for a disk.
pub struct GrantBook {
    recorder: Arc<Recorder>,
    grants: Arc<Grants>,
    clock: Clock,
    /// The rules in force, by name. Held while grants change, so that what is put in force last is what was kept last.
    rules: Mutex<Vec<(Arc<str>, Count)>>,
}

/// What an operator grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The name of the rule.
    pub rule: String,
    /// The tenant.
    pub tenant: String,
    /// The user; none for the tenant's own bucket, and for each of its users'.
    pub user: Option<String>,
    /// So much more, in the rule's units of account.
    pub more: u64,
    /// Until then.
    pub until: SystemTime,
    /// Why.
    pub note: String,
}

impl GrantBook {
    pub(super) fn new(recorder: Arc<Recorder>, grants: Arc<Grants>, clock: Clock) -> Self {
        Self { recorder, grants, clock, rules: Mutex::default() }
    }

    /// From now on these are the rules; what the ledger has for them is in force. A rule that counts something else than when a grant was made is another.
    ///
    /// # Errors
    /// Where the ledger can't be read.
    pub fn open(&self, rules: &[Rule]) -> Result<(), LedgerError> {
        let mut known = self.rules.lock();
        let rules: Vec<_> = rules.iter().map(|rule| (rule.name.as_str().into(), rule.count)).collect();
        self.enforce(&rules)?;
        *known = rules;
        Ok(())
    }

    /// Puts in force what the ledger has now: another process may have made or revoked some.
    ///
    /// # Errors
    /// Where the ledger can't be read.
    pub fn refresh(&self) -> Result<(), LedgerError> {
        self.enforce(&self.rules.lock())
    }

    /// The rules in force, and what each counts.
    #[must_use]
    pub fn rules(&self) -> Vec<(Arc<str>, Count)> {
        self.rules.lock().clone()
    }

    /// Whether a grant counts now.
    #[must_use]
    pub fn counts(&self, kept: &KeptGrant) -> bool {
        kept.revoked.is_none() && kept.grant.until > self.clock.wall() && is_for(kept, &self.rules.lock())
    }

    /// Every grant, until 30 days after its end.
    ///
    /// # Errors
    /// Where the ledger can't be read.
    pub fn all(&self) -> Result<Vec<KeptGrant>, LedgerError> {
        self.recorder.grants()
    }

    /// Makes a grant. Once this returns, it is on the disk and in force. None where there is no such rule.
    ///
    /// # Errors
    /// Where there is no ledger, or it can't be written or read.
    pub fn grant(&self, wish: Wish) -> Result<Option<KeptGrant>, LedgerError> {
        let rules = self.rules.lock();
        let Some((rule, count)) = rules.iter().find(|(rule, _)| **rule == *wish.rule) else { return Ok(None) };
        let Wish { rule: _, tenant, user, more, until, note } = wish;
        let made = self.clock.wall();
        let grant = Grant { id: 0, rule: Arc::clone(rule), tenant: tenant.into(), user: user.map(Into::into), more, until, made, note };
        let kept = self.recorder.grant(grant, count.label())?;
        self.enforce(&rules)?;
        Ok(Some(kept))
    }

    /// Takes a grant back. Once this returns, that is on the disk, and it counts no more. None where there is no such grant.
    ///
    /// # Errors
    /// Where there is no ledger, or it can't be written or read.
    pub fn revoke(&self, id: u64) -> Result<Option<KeptGrant>, LedgerError> {
        let rules = self.rules.lock();
        let kept = self.recorder.revoke(id)?;
        self.enforce(&rules)?;
        Ok(kept)
    }

    fn enforce(&self, rules: &[(Arc<str>, Count)]) -> Result<(), LedgerError> {
        let now = self.clock.wall();
        let counts = |kept: &KeptGrant| kept.revoked.is_none() && kept.grant.until > now && is_for(kept, rules);
        self.grants.set(self.recorder.grants()?.into_iter().filter(counts).map(|kept| kept.grant).collect());
        Ok(())
    }
}

fn is_for(kept: &KeptGrant, rules: &[(Arc<str>, Count)]) -> bool {
    rules.iter().any(|(rule, count)| *rule == kept.grant.rule && count.label() == kept.count)
}

impl fmt::Debug for GrantBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantBook").field("grants", &self.grants).finish_non_exhaustive()
    }
}
