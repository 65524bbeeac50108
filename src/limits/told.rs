//! What the room tells others, who write it down.

use crate::domain::{LimitWarning, QuotaChange};

/// Is told what happens to limits. It is called while a request waits, but never under a lock, and must not block.
pub trait Observer: Send + Sync {
    /// The use of a quota changed. Changes of one quota may come in any order: their sum counts.
    fn quota(&self, change: QuotaChange);

    /// The use of a quota has passed a share at which its rule warns.
    fn warn(&self, warning: LimitWarning);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Observer for Nobody {
    fn quota(&self, _change: QuotaChange) {}
    fn warn(&self, _warning: LimitWarning) {}
}
