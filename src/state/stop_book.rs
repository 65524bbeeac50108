//! Stops as operators make and lift them: in force at once, and kept in the ledger where there is one.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::Stops;
use crate::domain::{Clock, Stop, Stopped};
use crate::record::{LedgerError, Metrics, Recorder, StopsWatch};

/// So many things are stopped at most.
pub const MOST_STOPS: usize = 10_000;
/// So many of them by a pattern of models: a call's model is held against each.
pub const MOST_PATTERNS: usize = 100;

/// Every stop, in force and in the ledger. Whoever changes it waits for a disk; what is stopped does not.
pub struct StopBook {
    recorder: Arc<Recorder>,
    stops: Arc<Stops>,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// Taken before the disk is asked, and kept until what it said is in force. None without a ledger.
    disk: Mutex<Option<StopsWatch>>,
    /// Taken for a moment, and after `disk` where both are.
    held: Mutex<Held>,
}

/// What is in force.
#[derive(Default)]
struct Held {
    /// As the ledger has it.
    kept: BTreeMap<Stopped, Stop>,
    /// What the ledger has not, or not so: these count.
    loose: BTreeMap<Stopped, Stop>,
}

/// What became of a stop.
#[derive(Debug)]
pub struct Made {
    /// It, as it is in force.
    pub stop: Stop,
    /// Whether it was not stopped before.
    pub is_new: bool,
    /// Why it ends with the process, where it does.
    pub kept: Result<(), LedgerError>,
}

/// There is no more room for a stop.
#[derive(Debug, thiserror::Error)]
#[error("{most} {what} are stopped already: lift some first, or stop more by one tenant, route or pattern")]
pub struct TooMany {
    most: usize,
    what: &'static str,
}

impl StopBook {
    pub(super) fn new(recorder: Arc<Recorder>, stops: Arc<Stops>, metrics: Arc<Metrics>, clock: Clock) -> Self {
        let disk = Mutex::new(recorder.watch_stops());
        Self { recorder, stops, metrics, clock, disk, held: Mutex::default() }
    }

    /// What is in force, in the order of what is stopped; with each whether it outlives the process.
    #[must_use]
    pub fn all(&self) -> Vec<(Stop, bool)> {
        self.first(usize::MAX).0
    }

    /// The first `most` of [`StopBook::all`], and how many there are.
    #[must_use]
    pub fn first(&self, most: usize) -> (Vec<(Stop, bool)>, usize) {
        let held = self.held.lock();
        let mut all: Vec<&Stop> = held.all().collect();
        all.sort_unstable_by_key(|stop| &stop.what);
        let told = all.iter().take(most).map(|stop| ((*stop).clone(), !held.loose.contains_key(&stop.what)));
        (told.collect(), all.len())
    }

    /// Whether stops outlive the process.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.recorder.has_ledger()
    }

    /// Stops something: at once, and then on the disk, where that can be. What is stopped already stays so since it was, for this reason.
    ///
    /// # Errors
    /// [`TooMany`]; nothing is stopped then.
    pub fn stop(&self, what: Stopped, reason: String, message: String) -> Result<Made, TooMany> {
        let (stop, is_new) = {
            let mut held = self.held.lock();
            let before = held.get(&what).map(|stop| stop.since);
            if before.is_none() {
                held.has_room_for(&what)?;
            }
            let stop = Stop { since: before.unwrap_or_else(|| whole_seconds(self.clock.wall())), what, reason, message };
            held.loose.insert(stop.what.clone(), stop.clone());
            self.enforce(&held);
            (stop, before.is_none())
        };
        let disk = self.disk.lock();
        let kept = self.recorder.stop(stop.clone());
        if kept.is_ok() {
            let mut held = self.held.lock();
            held.loose.remove(&stop.what);
            held.kept.insert(stop.what.clone(), stop.clone());
            self.enforce(&held);
        }
        drop(disk);
        Ok(Made { stop, is_new, kept })
    }

    /// Lifts a stop, and returns it: once this does, that is on the disk. None where it was not stopped.
    ///
    /// # Errors
    /// Where the ledger has it and can't be written: it stays stopped.
    pub fn lift(&self, what: &Stopped) -> Result<Option<Stop>, LedgerError> {
        let mut disk = self.disk.lock();
        if disk.is_some() {
            // Another process may have stopped it a moment ago.
            drop(self.read(&mut disk));
            let lifted = self.recorder.lift(what.clone());
            // What only this process knows of needs no disk to be forgotten.
            if let Err(error) = lifted
                && self.held.lock().kept.contains_key(what)
            {
                return Err(error);
            }
        }
        let mut held = self.held.lock();
        let kept = held.kept.remove(what);
        let lifted = held.loose.remove(what).or(kept);
        self.enforce(&held);
        Ok(lifted)
    }

    /// Reads what the ledger has, where that changed since the last time: another process may have it, too. Returns whether something else is in force now.
    ///
    /// # Errors
    /// Where the ledger can't be read. What was in force stays so.
    pub fn refresh(&self) -> Result<bool, LedgerError> {
        self.read(&mut self.disk.lock())
    }

    fn read(&self, disk: &mut Option<StopsWatch>) -> Result<bool, LedgerError> {
        let Some(stops) = disk.as_mut().map_or(Ok(None), StopsWatch::look)? else { return Ok(false) };
        let mut held = self.held.lock();
        held.kept = stops.into_iter().map(|stop| (stop.what.clone(), stop)).collect();
        Ok(self.enforce(&held))
    }

    fn enforce(&self, held: &Held) -> bool {
        let changed = self.stops.set(held.all().cloned().collect());
        if changed {
            self.metrics.stops(self.stops.counts());
        }
        changed
    }
}

impl Held {
    fn get(&self, what: &Stopped) -> Option<&Stop> {
        self.loose.get(what).or_else(|| self.kept.get(what))
    }

    fn all(&self) -> impl Iterator<Item = &Stop> {
        let only_kept = self.kept.iter().filter(|(what, _)| !self.loose.contains_key(*what));
        self.loose.iter().chain(only_kept).map(|(_, stop)| stop)
    }

    fn has_room_for(&self, what: &Stopped) -> Result<(), TooMany> {
        let is_pattern = |what: &Stopped| matches!(what, Stopped::Model(pattern) if pattern.contains('*'));
        if self.all().count() >= MOST_STOPS {
            return Err(TooMany { most: MOST_STOPS, what: "tenants, keys, models and routes" });
        }
        if is_pattern(what) && self.all().filter(|stop| is_pattern(&stop.what)).count() >= MOST_PATTERNS {
            return Err(TooMany { most: MOST_PATTERNS, what: "patterns of models" });
        }
        Ok(())
    }
}

/// As the ledger has it.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

impl fmt::Debug for StopBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopBook").field("stops", &self.stops).finish_non_exhaustive()
    }
}
