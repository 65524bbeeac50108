//! What changes without an exchange: levels that other rooms hold, and times that run.

use std::time::SystemTime;

use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts};

use super::super::families::{Families, known_good};
use super::super::labels::{KeyFetch, Level};
use super::Metrics;
use crate::domain::STOP_KINDS;

/// A level, and who knows it.
pub(super) struct Sample {
    level: Level,
    shown: Shown,
    read: Box<dyn Fn() -> u64 + Send>,
}

/// What shows a level.
#[derive(Clone)]
enum Shown {
    Gauge(IntGauge),
    Counter(IntCounter),
}

impl Sample {
    /// Asks for the level, and shows it.
    pub(super) fn take(&self) {
        let value = (self.read)();
        match &self.shown {
            Shown::Gauge(gauge) => gauge.set(i64::try_from(value).unwrap_or(i64::MAX)),
            Shown::Counter(counter) => counter.inc_by(value.saturating_sub(counter.get())),
        }
    }
}

impl Metrics {
    /// Notes when the credentials of `upstream` (its key in `upstreams`) expire; none where they don't, or the upstream is no more.
    /// The metric tells the seconds left at each scrape, below zero once they are over.
    pub fn set_credential_expiry(&self, upstream: &str, expiry: Option<SystemTime>) {
        let mut expiries = self.expiries.lock();
        match expiry {
            Some(expiry) => _ = expiries.insert(upstream.into(), expiry),
            None => _ = expiries.remove(upstream),
        }
    }

    /// Counts an attempt to have the keys of `issuer` (its name in the configuration).
    pub fn key_fetch(&self, issuer: &str, outcome: KeyFetch) {
        self.jwks_fetches.with_label_values(&[issuer, outcome.label()]).inc();
    }

    /// Notes that the keys of `issuer` were fetched well at `fetched`; none where it is an issuer no more. The metric tells their age at each scrape.
    pub fn set_keys_fetched(&self, issuer: &str, fetched: Option<SystemTime>) {
        let mut times = self.jwks_fetched.lock();
        match fetched {
            Some(fetched) => _ = times.insert(issuer.into(), fetched),
            None => _ = times.remove(issuer),
        }
    }

    /// Has a level asked for at each scrape, from now on by `read`, which must not block. A level that nobody asks for is not shown.
    ///
    /// `read` should own no more than what it reads: these metrics keep it until another takes its place.
    pub fn sample(&self, level: Level, read: impl Fn() -> u64 + Send + 'static) {
        let mut samples = self.samples.lock();
        let families = Families { registry: &self.registry };
        let shown = match samples.iter().position(|sample| sample.level == level) {
            Some(old) => samples.swap_remove(old).shown,
            None if level.only_grows() => Shown::Counter(families.counter(level.name(), level.help())),
            None => Shown::Gauge(families.gauge(level.name(), level.help(), None)),
        };
        samples.push(Sample { level, shown, read: Box::new(read) });
    }

    /// Notes how many stops of each of [`STOP_KINDS`] are in force.
    pub fn stops(&self, counts: [usize; STOP_KINDS.len()]) {
        for (kind, count) in STOP_KINDS.iter().zip(counts) {
            self.stops.with_label_values(&[kind]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Notes that the configuration of this `version` is served from `at` on.
    pub fn config_loaded(&self, version: &str, at: SystemTime) {
        self.config_version.reset();
        self.config_version.with_label_values(&[version]).set(1.0);
        self.config_loaded.set(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    }
}

/// What operators stopped: all kinds at zero.
pub(super) fn stops(families: &Families<'_>) -> IntGaugeVec {
    let help = "What operators stopped, by kind, and have not lifted.";
    let stops = families.register(known_good(IntGaugeVec::new(Opts::new("tollgate_stops", help), &["kind"])));
    for kind in STOP_KINDS {
        stops.with_label_values(&[kind]).set(0);
    }
    stops
}
