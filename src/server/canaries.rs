//! Canaries step up and back by themselves; every step is told, and kept in the ledger where there is one.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::KeptCanary;
use crate::record::LedgerError;
use crate::routes::Step;
use crate::state::Live;

/// Canaries are looked at so often.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at canaries until it is dropped.
pub(super) async fn promote(live: &Arc<Live>) {
    let mut failing = false;
    loop {
        look(live, &mut failing).await;
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks once.
async fn look(live: &Arc<Live>, failing: &mut bool) {
    live.canaries.tick(live.now(), live.clock.wall()).iter().for_each(tell);
    let unkept = live.canaries.unkept();
    // While there are two, what one does the other takes over.
    let is_beside = live.recorder.is_beside_another();
    if unkept.is_empty() && !is_beside {
        return;
    }
    let disk = Arc::clone(live);
    // It waits for a disk. A panic in it is its own report.
    let Ok(kept) = tokio::task::spawn_blocking(move || keep(&disk, unkept)).await else { return };
    match kept {
        Err(error) if !*failing => {
            tracing::warn!(%error, "how far canaries have come is not in the ledger: it would be forgotten by a restart");
            *failing = true;
        }
        Err(_) => {}
        Ok(elsewhere) => {
            *failing = false;
            for canary in live.canaries.adopt(&elsewhere, live.now()) {
                let share = f64::from(canary.share().now()) / 1e6;
                tracing::info!(route = %canary.route, target = %canary.target, share, "another process on the same ledger changed a canary's share");
            }
        }
    }
}

/// Writes down what is to be kept, and returns what there is where another process writes, too.
fn keep(live: &Live, unkept: Vec<KeptCanary>) -> Result<Vec<KeptCanary>, LedgerError> {
    for canary in unkept {
        if live.recorder.has_ledger() {
            live.recorder.keep_canary(canary.clone())?;
        }
        live.canaries.keep(canary);
    }
    if live.recorder.is_beside_another() { live.recorder.canaries() } else { Ok(Vec::new()) }
}

/// Says a step in the log.
fn tell(step: &Step) {
    let Step { route, target, from, to, why, canary, baseline } = step;
    let (from, to) = (f64::from(*from) / 1e6, f64::from(*to) / 1e6);
    let (calls, baseline_calls) = (canary.calls, baseline.calls);
    let (errors, baseline_errors) = (canary.error_rate(), baseline.error_rate());
    let (first_token, baseline_first_token) = (canary.first_token(), baseline.first_token());
    match why {
        None => tracing::info!(
            %route, %target, from, to, calls, errors, first_token, baseline_calls, baseline_errors, baseline_first_token, "a canary was stepped up"
        ),
        Some(why) => tracing::warn!(
            %route, %target, from, to, why = why.label(), calls, errors, first_token, baseline_calls, baseline_errors, baseline_first_token,
            "a canary was stepped back"
        ),
    }
}
