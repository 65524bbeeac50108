//! Two processes that serve from one ledger, for as long as one takes over from the other: what each admits, the other counts.

use std::sync::Arc;
use std::time::Duration;

use super::Works;
use crate::limits::Now;

/// How often is asked what the other process told, while there is one,
const NEAR: Duration = Duration::from_millis(50);
/// and whether there is one, while there is none.
const LOOK: Duration = Duration::from_secs(1);

impl Works {
    /// Takes in what the other process does to quotas and grants, for ever.
    pub(super) fn listen_to_the_other(&self) {
        if !self.live.recorder.has_ledger() {
            return;
        }
        let live = Arc::clone(&self.live);
        self.spawn(async move {
            let mut since = Duration::ZERO;
            let mut was_beside = false;
            loop {
                let is_beside = live.recorder.is_beside_another();
                let changes = live.recorder.quotas_elsewhere();
                if let Some(limits) = live.limits.load_full().filter(|_| !changes.is_empty()) {
                    limits.learn(&changes, Now::of(&live.clock));
                }
                if is_beside != was_beside {
                    let said = if is_beside {
                        "another gateway writes the ledger, too: quotas are shared with it"
                    } else {
                        "the ledger is ours alone"
                    };
                    tracing::info!("{said}");
                }
                // Once more after its end: a grant may have been its last deed.
                if was_beside && (since >= LOOK || !is_beside) {
                    since = Duration::ZERO;
                    if let Some(book) = live.grant_book.clone() {
                        let refreshed = tokio::task::spawn_blocking(move || book.refresh()).await;
                        if let Ok(Err(error)) = refreshed {
                            tracing::warn!(%error, "grants that another gateway made may not be known here");
                        }
                    }
                }
                was_beside = is_beside;
                let rest = if is_beside { NEAR } else { LOOK };
                since += rest;
                tokio::time::sleep(rest).await;
            }
        });
    }
}
