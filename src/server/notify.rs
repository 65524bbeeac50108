//! What the service manager is told (`sd_notify(3)`): that the gateway is ready, reloads, lives, leaves, and what it waits for meanwhile.
//!
//! Where nobody listens (`NOTIFY_SOCKET` is not set) all of it does nothing. That one can't be told stops nothing either: it is logged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState as State;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Readiness, Unmet};

/// Whether the gateway is ready is looked at so often until it is,
const SOON: Duration = Duration::from_millis(50);
/// and so often from then on, for whoever reads `systemctl status`.
const LATER: Duration = Duration::from_secs(2);

/// Whether the first `READY=1` has been sent. Of this process, as the socket is: a reload that ends before must not tell that the start has.
static STARTED: AtomicBool = AtomicBool::new(false);

/// A reload begins: to be followed by [`ready`] however it ends. It tells the time, too, which `Type=notify-reload` asks for.
pub fn reloading() {
    if !STARTED.load(Ordering::Relaxed) {
        return;
    }
    match State::monotonic_usec_now() {
        Ok(now) => tell(&[State::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager could not be told"),
    }
}

/// A reload has ended.
pub fn ready() {
    if STARTED.load(Ordering::Relaxed) {
        tell(&[State::Ready]);
    }
}

/// What the gateway does, for whoever reads `systemctl status`: one line.
pub fn status(said: &str) {
    tell(&[State::Status(&one_line(said))]);
}

/// The gateway ends.
pub(super) fn stopping() {
    tell(&[State::Stopping]);
}

/// It still ends, which may take as long as `more` from now; `said` is what is left to do. So no `TimeoutStopSec` must know how long a drain may take.
pub(super) fn still_stopping(more: Duration, said: &str) {
    let more = u32::try_from(more.as_micros()).unwrap_or(u32::MAX);
    tell(&[State::ExtendTimeoutUsec(more), State::Status(&one_line(said))]);
}

fn tell(states: &[State<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// A message is lines of assignments: no text from elsewhere may begin another.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Tells the service manager how a gateway fares, until it is dropped.
pub struct Herald {
    over: CancellationToken,
}

impl Herald {
    /// Says `READY=1` once all of `readiness` is met for the first time, and what is waited for until then. Where the service manager keeps a watchdog
    /// (`WatchdogSec`), it is told `WATCHDOG=1` at half of that time: by a task of the runtime that serves. When its threads are stuck or its timers
    /// stand still, nobody tells.
    #[must_use]
    pub fn start(readiness: Readiness) -> Self {
        let (tasks, over) = (TaskTracker::new(), CancellationToken::new());
        if let Some(within) = sd_notify::watchdog_enabled() {
            let until = over.clone();
            tasks.spawn(async move { until.run_until_cancelled(beat(within / 2)).await });
        }
        let until = over.clone();
        tasks.spawn(async move { until.run_until_cancelled(watch(readiness)).await });
        Self { over }
    }
}

impl Drop for Herald {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

async fn beat(every: Duration) {
    let mut times = tokio::time::interval(every);
    times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        tell(&[State::Watchdog]);
    }
}

/// Tells what becomes of `readiness`, until the gateway leaves: from then on the drain has the word.
async fn watch(readiness: Readiness) {
    let mut said = String::new();
    loop {
        let unmet = readiness.check().err().unwrap_or_default();
        if unmet.iter().any(|unmet| *unmet.condition == *super::SERVING && unmet.detail == super::DRAINING) {
            return;
        }
        let says = if unmet.is_empty() { "serving".to_owned() } else { format!("not ready: {}", list(&unmet)) };
        if unmet.is_empty() && !STARTED.swap(true, Ordering::Relaxed) {
            tell(&[State::Ready, State::Status(&says)]);
        } else if says != said {
            status(&says);
        }
        said = says;
        tokio::time::sleep(if STARTED.load(Ordering::Relaxed) { LATER } else { SOON }).await;
    }
}

fn list(unmet: &[Unmet]) -> String {
    unmet.iter().map(|unmet| format!("{}: {}", unmet.condition, unmet.detail)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_whatever_is_in_it() {
        assert_eq!(one_line("refused:\nREADY=1\r\n\u{0}"), "refused: READY=1   ");
        let readiness = Readiness::new();
        readiness.condition("a").unmet("b\nc");
        readiness.condition("d").unmet("e");
        assert_eq!(one_line(&list(&readiness.check().unwrap_err())), "a: b c; d: e");
    }
}
