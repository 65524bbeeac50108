//! What requests read, and what lives on while configurations come and go.
//!
//! A [`Snapshot`] follows from the configuration: immutable, built whole, swapped at once; a request keeps the one it began with. [`Live`] is what a
//! reload must not lose. Who owns what stands in one table in ARCHITECTURE.md.

mod grants;
mod quotas;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

pub use self::grants::{GrantBook, Wish};
pub use self::quotas::{QuotaLevel, UpstreamQuotas};

use crate::config::Config;
use crate::domain::{Clock, LimitWarning, QuotaChange};
use crate::firewall::{BodyMemory, Firewall};
use crate::identity::{Identity, IdentityError};
use crate::limits::{Buckets, Grants, Limits, Now, Observer};
use crate::policy::Policy;
use crate::prices::{Prices, PricesError};
use crate::record::{Metrics, RecordError, Recorder};
use crate::routes::Routes;
use crate::upstreams::{UpstreamError, Upstreams};

/// So many callers may have a bucket of their own (75 to 85 MB of them); what comes beyond shares one, loudly.
const BUCKETS: usize = 1_000_000;

/// A configuration that can't be put to work.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A key set can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A credential file or CA bundle can't be used.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The prices can't be used.
    #[error(transparent)]
    Prices(#[from] PricesError),
    /// The access log or the ledger can't be had, or spans can't be exported.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Everything that follows from the configuration.
pub struct Snapshot {
    /// May a request be looked at at all?
    pub firewall: Firewall,
    /// The largest body, in bytes.
    pub max_body: u64,
    /// The time for a whole body.
    pub body_timeout: Duration,
    /// Who is calling?
    pub identity: Identity,
    /// May they?
    pub policy: Policy,
    /// Can they now?
    pub limits: Arc<Limits>,
    /// Where to?
    pub routes: Routes,
    /// How is it said to AWS?
    pub upstreams: Upstreams,
    /// What would Bedrock throttle?
    pub quotas: UpstreamQuotas,
    /// What does usage cost?
    pub prices: Prices,
}

/// What lives on.
pub struct Live {
    /// The time.
    pub clock: Clock,
    /// How much each caller has used of what they may.
    pub buckets: Arc<Buckets>,
    /// What was granted beyond the rules.
    pub grants: Arc<Grants>,
    /// Where grants are made and revoked; none without a ledger.
    pub grant_book: Option<Arc<GrantBook>>,
    /// All bodies held at once.
    pub bodies: Arc<BodyMemory>,
    /// Every count.
    pub metrics: Arc<Metrics>,
    /// The access log, the ledger and traces.
    pub recorder: Arc<Recorder>,
    /// Cancelled when everything ends, what still runs included.
    pub over: CancellationToken,
}

impl Live {
    /// The state that a process begins with.
    ///
    /// # Errors
    /// Where the access log or the ledger can't be had, or spans can't be exported.
    pub fn build(config: &Config, clock: Clock) -> Result<Self, BuildError> {
        let metrics = Arc::new(Metrics::build(&config.record.metrics, config.upstreams.len()));
        let recorder = Arc::new(Recorder::build_at(&config.record, Arc::clone(&metrics), clock.clone())?);
        let grants = Arc::<Grants>::default();
        let book = || GrantBook::new(Arc::clone(&recorder), Arc::clone(&grants), clock.clone());
        let grant_book = recorder.has_ledger().then(|| Arc::new(book()));
        if let Some(book) = &grant_book {
            book.open(&config.limits).map_err(RecordError::from)?;
        }
        Ok(Self {
            buckets: Buckets::new(BUCKETS, clock.monotonic()),
            grants,
            grant_book,
            bodies: BodyMemory::new(config.firewall.body_memory),
            recorder,
            metrics,
            over: CancellationToken::new(),
            clock,
        })
    }

    /// The monotonic time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.monotonic()
    }
}

impl Snapshot {
    /// Builds everything that follows from a checked configuration, on top of what lives on.
    ///
    /// # Errors
    /// Where a file that the configuration names can't be used. Nothing has changed then.
    pub fn build(config: &Config, live: &Live) -> Result<Self, BuildError> {
        let policy = Policy::build(&config.policy, &regions(config));
        policy.shadows().for_each(|rule| live.metrics.policy_shadow(rule));
        let scribe: Arc<dyn Observer> = Arc::new(Scribe(Arc::downgrade(&live.recorder)));
        Ok(Self {
            firewall: Firewall::build(&config.firewall),
            max_body: config.firewall.max_body,
            body_timeout: config.firewall.body_timeout,
            identity: Identity::build(&config.identity)?,
            policy,
            limits: Limits::build(&config.limits, Arc::clone(&live.buckets), Arc::clone(&live.grants), Arc::clone(&scribe)),
            quotas: UpstreamQuotas::build(&config.upstreams, live, &scribe),
            routes: Routes::build(&config.routes),
            upstreams: Upstreams::build(&config.upstreams)?,
            prices: Prices::build(&config.prices)?,
        })
    }

    /// Puts back what had been used of quotas when the process before this one ended: once, before anyone is served.
    ///
    /// # Errors
    /// Where the ledger can't be read.
    pub fn restore(&self, live: &Live) -> Result<(), BuildError> {
        let quotas = live.recorder.quotas().map_err(RecordError::from)?;
        let now = Now::of(&live.clock);
        self.limits.restore(&quotas, now);
        self.quotas.restore(&quotas, now);
        Ok(())
    }
}

/// Writes down what happens to limits. It keeps no recorder alive: the recorder's metrics ask limits what they leave, and so keep them.
struct Scribe(Weak<Recorder>);

impl Observer for Scribe {
    fn quota(&self, change: QuotaChange) {
        if let Some(recorder) = self.0.upgrade() {
            recorder.quota(&change);
        }
    }

    fn warn(&self, warning: LimitWarning) {
        if let Some(recorder) = self.0.upgrade() {
            recorder.warn(&warning);
        }
    }
}

/// The regions that some route leads to.
fn regions(config: &Config) -> Vec<&str> {
    let routed = |name: &str| config.routes.iter().any(|route| *route.to == *name);
    config.upstreams.iter().filter(|upstream| routed(&upstream.name)).map(|upstream| upstream.region.as_str()).collect()
}
