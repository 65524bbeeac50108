//! What Prometheus scrapes. A label's values are a closed set, or come from the configuration, or from calls; of the last there is a [`Table`], which bounds them.
//!
//! The children of a family with a closed set are made once and kept in arrays, so that counting hashes no label and takes no lock.

mod canaries;
mod figures;
mod health;
mod levels;
mod limits;
mod quotas;
pub(super) mod upstreams;

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use parking_lot::Mutex;
use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use self::canaries::Canaries;
pub use self::canaries::CanaryShare;
pub use self::figures::{Distribution, Figures};
use self::health::Health;
pub use self::health::UpstreamLevel;
use self::levels::{Reloads, Sample};
pub use self::limits::LimitLevel;
use self::limits::Limits;
pub use self::quotas::QuotaLevel;
use self::upstreams::Upstreams;

use super::access_log::Faults;
use super::entry::Entry;
use super::families::{Families, known_good};
use super::labels::{Connection, Unheard};
use super::ledger::Faults as LedgerFaults;
use super::process::Process;
use super::table::Table;
use super::tenants::{TenantFigures, figures};
use super::{count, render};
use crate::config::record::Metrics as Config;
use crate::domain::{Reread, TurnedAway};

/// Our own delay: the budget of a call is some tens of microseconds, so that is where the steps are fine.
const OVERHEAD_SECONDS: [f64; 17] =
    [1e-5, 2e-5, 3e-5, 4e-5, 5e-5, 7.5e-5, 1e-4, 1.5e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1];
/// A model's first byte: from a cached control-plane answer to an agent that works for an hour.
const UPSTREAM_SECONDS: [f64; 18] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// The gateway's own metrics: one registry, not the process's global one. It outlives a reload.
pub struct Metrics {
    registry: Registry,
    /// What has labels that come from calls.
    pub(super) table: Table,
    /// By rule; the names are the configuration's.
    policy_shadow: IntCounterVec,
    upstreams: Upstreams,
    connections: [IntCounter; Connection::ALL.len()],
    turned_away: [IntCounter; TurnedAway::ALL.len()],
    certificates: [IntCounter; Reread::ALL.len()],
    in_flight: IntGauge,
    draining: IntGauge,
    clients_left: [IntCounter; Unheard::ALL.len()],
    retries: IntCounter,
    overhead: Histogram,
    upstream: Histogram,
    bytes_in: IntCounter,
    bytes_out: IntCounter,
    access_log: Faults,
    ledger: LedgerFaults,
    traces_dropped: IntCounter,
    issued_keys_refused: IntCounter,
    credential_expiry: GaugeVec,
    /// When the credentials of an upstream expire, by its key.
    expiries: Mutex<BTreeMap<Box<str>, SystemTime>>,
    sts_calls: IntCounterVec,
    sts_sessions: GaugeVec,
    jwks_fetches: IntCounterVec,
    jwks_age: GaugeVec,
    /// When the keys of an issuer were last fetched, by its name in the configuration.
    jwks_fetched: Mutex<BTreeMap<Box<str>, SystemTime>>,
    /// What is asked for its level at each scrape. At most one a level.
    samples: Mutex<Vec<Sample>>,
    limits: Limits,
    stops: IntGaugeVec,
    health: Health,
    canaries: Canaries,
    /// What is asked where upstreams' accounts stand.
    quotas: Mutex<Option<Box<quotas::Read>>>,
    config_version: GaugeVec,
    config_loaded: Gauge,
    reloads: Reloads,
}

impl Metrics {
    /// All at zero, process metrics (`process_*`) and `tollgate_build_info` included; as large as by default, for one upstream.
    #[must_use]
    pub fn new() -> Self {
        Self::build(&Config::default(), 1)
    }

    /// The same with room for as many series as `config` allows, of which each of so many `upstreams` has its part of those of `other`.
    #[must_use]
    pub fn build(config: &Config, upstreams: usize) -> Self {
        let registry = Registry::new();
        let families = Families { registry: &registry };
        let overflows = families.counter(
            "tollgate_metrics_overflow_total",
            "Exchanges that were counted under `other`, in part or whole, because record.metrics.max_series is reached.",
        );
        let policy_shadow =
            families.counters("tollgate_policy_shadow_total", "Exchanges that a policy rule in shadow would have refused.", &["rule"]);
        let connections = families.counters("tollgate_upstream_connections_total", "Connections taken for a try.", &["kind"]);
        let turned_away = families.counters(
            "tollgate_client_connections_turned_away_total",
            "Client connections that were closed before they carried a request.",
            &["reason"],
        );
        let clients_left = families.counters(
            "tollgate_clients_left_total",
            "Clients that left before the end of their answers, by what became of the answer.",
            &["answer"],
        );
        let certificates =
            families.counters("tollgate_certificate_reloads_total", "Changes of certificate files, by what became of them.", &["outcome"]);
        families
            .gauge("tollgate_build_info", "Always 1; the label tells the version.", Some(("version", env!("CARGO_PKG_VERSION"))))
            .set(1);
        known_good(registry.register(Box::new(Process::new())));
        Self {
            table: Table::new(config.max_series, u64::try_from(upstreams).unwrap_or(u64::MAX), overflows),
            policy_shadow,
            upstreams: Upstreams::build(&families),
            connections: Connection::ALL.map(|kind| connections.with_label_values(&[kind.label()])),
            turned_away: TurnedAway::ALL.map(|reason| turned_away.with_label_values(&[reason.label()])),
            certificates: Reread::ALL.map(|outcome| certificates.with_label_values(&[outcome.label()])),
            in_flight: families.gauge("tollgate_in_flight", "Exchanges that have begun and not ended.", None),
            clients_left: Unheard::ALL.map(|answer| clients_left.with_label_values(&[answer.label()])),
            draining: families.gauge("tollgate_answers_draining", "Answers that are read to their end though their client left.", None),
            retries: families.counter("tollgate_retries_total", "Tries to have a request answered upstream beyond the first."),
            overhead: families.histogram(
                "tollgate_overhead_seconds",
                "The gateway's own delay of an exchange, waiting for client and upstream apart.",
                &OVERHEAD_SECONDS,
            ),
            upstream: families.histogram(
                "tollgate_upstream_seconds",
                "From the first byte sent to the upstream to the head of its answer.",
                &UPSTREAM_SECONDS,
            ),
            bytes_in: families.counter("tollgate_request_bytes_total", "Body bytes that clients sent."),
            bytes_out: families.counter("tollgate_response_bytes_total", "Body bytes that clients were sent."),
            access_log: access_log(&families),
            ledger: ledger(&families),
            traces_dropped: families.counter("tollgate_traces_dropped_total", "Sampled exchanges whose spans never reached the collector."),
            issued_keys_refused: families.counter(
                "tollgate_identity_key_file_errors_total",
                "Looks at a file of issued keys that could not be used; the last good keys stay.",
            ),
            credential_expiry: families.register(known_good(GaugeVec::new(
                Opts::new(
                    "tollgate_credential_expiry_seconds",
                    "Seconds until the AWS credentials of an upstream expire; none where they don't.",
                ),
                &["upstream"],
            ))),
            expiries: Mutex::default(),
            sts_calls: families.counters(
                "tollgate_sts_calls_total",
                "Questions to STS for a session of an upstream's role.",
                &["upstream", "outcome"],
            ),
            sts_sessions: families.register(known_good(GaugeVec::new(
                Opts::new("tollgate_sts_sessions", "Sessions held of the role of an upstream whose sessions are tagged."),
                &["upstream"],
            ))),
            jwks_fetches: families.counters(
                "tollgate_jwks_fetches_total",
                "Attempts to have the keys of an issuer of tokens.",
                &["issuer", "outcome"],
            ),
            jwks_age: families.register(known_good(GaugeVec::new(
                Opts::new("tollgate_jwks_age_seconds", "Seconds since the keys of an issuer were last fetched well; none before that."),
                &["issuer"],
            ))),
            jwks_fetched: Mutex::default(),
            samples: Mutex::default(),
            limits: Limits::build(&families),
            stops: levels::stops(&families),
            health: Health::build(&families),
            canaries: Canaries::build(&families),
            quotas: Mutex::default(),
            config_version: families.register(known_good(GaugeVec::new(
                Opts::new("tollgate_config_version_info", "Always 1; the label begins the SHA-256 of the configuration that is served."),
                &["version"],
            ))),
            config_loaded: families.register(known_good(Gauge::new(
                "tollgate_config_loaded_timestamp_seconds",
                "When the configuration that is served was loaded, in seconds since the epoch.",
            ))),
            reloads: Reloads::build(&families),
            registry,
        }
    }

    /// Counts an exchange that ended.
    pub(super) fn count(&self, entry: &Entry<'_>) {
        count::count(&self.table, entry);
        self.retries.inc_by(u64::from(entry.attempts.saturating_sub(1)));
        for rule in entry.shadow_policy {
            self.policy_shadow.with_label_values(&[&**rule]).inc();
        }
        self.limits.count(entry);
        self.upstreams.count(entry);
        // Nobody sent a mirrored call, and nobody waits for its end.
        if !entry.is_mirror() {
            self.bytes_in.inc_by(entry.bytes_in);
            self.bytes_out.inc_by(entry.bytes_out);
            self.overhead.observe(entry.overhead.as_secs_f64());
        }
        if let Some(time) = entry.upstream_time {
            self.upstream.observe(time.as_secs_f64());
        }
    }

    /// Counts a client that left before the end of its answer.
    pub fn client_left(&self, answer: Unheard) {
        if let Some(counter) = child(&self.clients_left, &Unheard::ALL, &answer) {
            counter.inc();
        }
    }

    /// How many exchanges are in flight.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        u64::try_from(self.in_flight.get()).unwrap_or(0)
    }

    /// Counts an exchange as in flight until the guard is dropped.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts an answer that outlives its client, until the guard is dropped.
    #[must_use]
    pub fn draining(&self) -> InFlight {
        self.draining.inc();
        InFlight(self.draining.clone())
    }

    /// Shows a policy rule in shadow from the beginning, at zero.
    pub fn policy_shadow(&self, rule: &str) {
        drop(self.policy_shadow.with_label_values(&[rule]));
    }

    /// Counts a connection that was taken for a try.
    pub fn upstream_connection(&self, kind: Connection) {
        if let Some(counter) = child(&self.connections, &Connection::ALL, &kind) {
            counter.inc();
        }
    }

    /// Counts a connection that was closed before it carried a request.
    pub fn turned_away(&self, why: TurnedAway) {
        if let Some(counter) = child(&self.turned_away, &TurnedAway::ALL, &why) {
            counter.inc();
        }
    }

    /// Counts a change of certificate files.
    pub fn certificates(&self, what: Reread) {
        if let Some(counter) = child(&self.certificates, &Reread::ALL, &what) {
            counter.inc();
        }
    }

    /// Counts a look at a file of issued keys that could not be used.
    pub fn issued_keys_refused(&self) {
        self.issued_keys_refused.inc();
    }

    /// What each tenant did since the process began, by name.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantFigures> {
        figures(&self.table.all())
    }

    /// The exposition in [`Metrics::CONTENT_TYPE`], with levels as they are and seconds counted from `now`. It takes milliseconds where there are many series, and holds up no
    /// exchange; call it off the threads that serve.
    #[must_use]
    pub fn render(&self, now: SystemTime) -> String {
        // Held to the end: of two scrapes at once, one must not clear what the other is about to show.
        let samples = self.samples.lock();
        for sample in samples.iter() {
            sample.take();
        }
        self.health.take();
        self.canaries.take();
        self.credential_expiry.reset();
        for (upstream, expiry) in self.expiries.lock().iter() {
            let left = match expiry.duration_since(now) {
                Ok(left) => left.as_secs_f64(),
                Err(past) => -past.duration().as_secs_f64(),
            };
            self.credential_expiry.with_label_values(&[&**upstream]).set(left);
        }
        self.jwks_age.reset();
        for (issuer, fetched) in self.jwks_fetched.lock().iter() {
            self.jwks_age.with_label_values(&[&**issuer]).set(now.duration_since(*fetched).unwrap_or_default().as_secs_f64());
        }
        let mut text = String::with_capacity(32 << 10);
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics are incomplete");
        }
        drop(samples);
        let series = self.table.all();
        render::append(&mut text, &series);
        if let Some(read) = &*self.limits.read.lock() {
            render::limits(&mut text, &series, self.table.limit_lines(), read);
        }
        if let Some(read) = &*self.quotas.lock() {
            render::quotas(&mut text, &read());
        }
        text
    }

    /// Prometheus' text format, which [`Metrics::render`] writes.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    pub(super) fn traces_dropped(&self) -> IntCounter {
        self.traces_dropped.clone()
    }

    pub(super) fn access_log_faults(&self) -> Faults {
        self.access_log.clone()
    }

    pub(super) fn ledger_faults(&self) -> LedgerFaults {
        self.ledger.clone()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// One exchange in flight, until it is dropped.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What goes wrong with the access log.
fn access_log(families: &Families<'_>) -> Faults {
    Faults {
        dropped: families.counter("tollgate_access_log_dropped_total", "Access-log lines that never reached their destination."),
        errors: families.counter("tollgate_access_log_errors_total", "Failures to write or open the access log."),
    }
}

/// What goes wrong with the ledger.
fn ledger(families: &Families<'_>) -> LedgerFaults {
    let help = "Exchanges, and changes of quotas, that never reached a table of the ledger.";
    let dropped = families.counters("tollgate_ledger_dropped_total", help, &["table"]);
    LedgerFaults {
        usage_dropped: dropped.with_label_values(&["usage"]),
        exchanges_dropped: dropped.with_label_values(&["exchanges"]),
        quotas_dropped: dropped.with_label_values(&["quotas"]),
        folded: families.counter("tollgate_ledger_folded_total", "Exchanges whose names became `other` in the ledger, for want of room."),
        errors: families.counter("tollgate_ledger_errors_total", "Failures to write, open or prune the ledger."),
    }
}

/// The child for `value` of a family whose children were made from `all`.
pub(super) fn child<'a, T: PartialEq, const N: usize>(children: &'a [IntCounter; N], all: &[T; N], value: &T) -> Option<&'a IntCounter> {
    all.iter().position(|known| known == value).and_then(|at| children.get(at))
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("in_flight", &self.in_flight.get()).finish_non_exhaustive()
    }
}
