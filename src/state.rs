//! What requests read, and what lives on while configurations come and go.
//!
//! A [`Snapshot`] follows from the configuration: immutable, built whole, swapped at once; a request keeps the one it began with. [`Live`] is what a
//! reload must not lose. Who owns what stands in one table in ARCHITECTURE.md.

mod grants;
mod leaving;
mod mirrors;
mod quotas;
mod stop_book;
mod stops;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio_util::sync::CancellationToken;

pub use self::grants::{GrantBook, Wish};
pub use self::leaving::Leaving;
pub use self::mirrors::{MOST_MIRRORED, Mirrors};
pub use self::quotas::{QuotaLevel, UpstreamQuotas};
pub use self::stop_book::{MOST_PATTERNS, MOST_STOPS, Made, StopBook, TooMany};
pub use self::stops::{Stops, Subject};

/// As operators are told of them.
pub use crate::routes::{Canaries, CanaryLevel, Figures as CanaryFigures};

use crate::config::Config;
use crate::domain::{Clock, LimitWarning, Quota, QuotaChange};
use crate::firewall::{BodyMemory, Firewall, Requests};
use crate::identity::{Identity, IdentityError};
use crate::limits::{Buckets, Grants, Limits, Now, Observer};
use crate::policy::Policy;
use crate::prices::{Prices, PricesError};
use crate::record::{Metrics, RecordError, Recorder};
use crate::routes::Routes;
use crate::upstreams::health::Healths;
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
    pub firewall: Arc<Firewall>,
    /// The largest body, in bytes.
    pub max_body: u64,
    /// The time for a whole body.
    pub body_timeout: Duration,
    /// Who is calling?
    pub identity: Arc<Identity>,
    /// May they?
    pub policy: Policy,
    /// Can they now?
    pub limits: Arc<Limits>,
    /// Where to?
    pub routes: Arc<Routes>,
    /// How is it said to AWS?
    pub upstreams: Upstreams,
    /// What would Bedrock throttle?
    pub quotas: UpstreamQuotas,
    /// What does usage cost?
    pub prices: Arc<Prices>,
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
    /// What operators stopped.
    pub stops: Arc<Stops>,
    /// Where stops are made and lifted.
    pub stop_book: Arc<StopBook>,
    /// How far each canary has come.
    pub canaries: Arc<Canaries>,
    /// How each upstream is.
    pub healths: Arc<Healths>,
    /// The rules in force: what another process tells of quotas is theirs. None before the first.
    pub limits: ArcSwapOption<Limits>,
    /// All bodies held at once.
    pub bodies: Arc<BodyMemory>,
    /// All requests under way at once.
    pub requests: Arc<Requests>,
    /// The copies of calls that are under way.
    pub mirrors: Mirrors,
    /// Every count.
    pub metrics: Arc<Metrics>,
    /// The access log, the ledger and traces.
    pub recorder: Arc<Recorder>,
    /// Whether clients are to go elsewhere.
    pub leaving: Leaving,
    /// Cancelled when the time to drain is over: answers that still run are ended as well as they can be, within a second.
    pub ending: CancellationToken,
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
        let stops = Arc::<Stops>::default();
        let stop_book = Arc::new(StopBook::new(Arc::clone(&recorder), Arc::clone(&stops), Arc::clone(&metrics), clock.clone()));
        stop_book.refresh().map_err(RecordError::from)?;
        let canaries = Arc::new(Canaries::new(recorder.canaries().map_err(RecordError::from)?));
        Ok(Self {
            buckets: Buckets::new(BUCKETS, clock.monotonic()),
            grants,
            grant_book,
            stops,
            stop_book,
            canaries,
            healths: Healths::new(),
            limits: ArcSwapOption::empty(),
            bodies: BodyMemory::new(config.firewall.body_memory),
            requests: Requests::new(config.firewall.max_requests),
            mirrors: Mirrors::new(config.firewall.body_memory),
            leaving: Leaving::default(),
            ending: CancellationToken::new(),
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
        Self::make(config, live, None)
    }

    /// The same in place of `before`: a room of which nothing was said anew is the same room, with what it remembers; in others, what did not change
    /// lives on.
    ///
    /// # Errors
    /// Where a file that the configuration names can't be used. Nothing has changed then.
    pub fn rebuild(config: &Config, live: &Live, before: Before<'_>) -> Result<Self, BuildError> {
        Self::make(config, live, Some(before))
    }

    fn make(config: &Config, live: &Live, before: Option<Before<'_>>) -> Result<Self, BuildError> {
        let rooms = before.map(|before| before.snapshot);
        // A room that is as it was, where `same` finds its part of the configuration so.
        let kept = |same: fn(&Config, &Config) -> bool| before.filter(|before| same(before.config, config)).map(|before| before.snapshot);
        let identity = kept(|old, new| old.identity == new.identity).filter(|kept| kept.identity.is_current(&config.identity));
        let policy = Policy::build(&config.policy, &regions(config));
        policy.shadows().for_each(|rule| live.metrics.policy_shadow(rule));
        config.upstreams.iter().for_each(|upstream| live.metrics.upstream(&upstream.name));
        let routes = kept(|old, new| old.routes == new.routes)
            .map_or_else(|| Arc::new(Routes::build_among(&config.routes, &live.canaries)), |kept| Arc::clone(&kept.routes));
        routes.targets().for_each(|(route, target)| live.metrics.route_target(route, &target.name));
        let mirrored = routes.all().filter(|route| route.mirrored().is_some());
        mirrored.for_each(|route| live.metrics.mirror(&route.name));
        let scribe: Arc<dyn Observer> = Arc::new(Scribe(Arc::downgrade(&live.recorder)));
        Ok(Self {
            // What an address has sent in this second.
            firewall: kept(|old, new| old.firewall.flood == new.firewall.flood)
                .map_or_else(|| Arc::new(Firewall::build(&config.firewall)), |kept| Arc::clone(&kept.firewall)),
            max_body: config.firewall.max_body,
            body_timeout: config.firewall.body_timeout,
            // Verified tokens, and what an authorizer said.
            identity: match identity {
                Some(kept) => Arc::clone(&kept.identity),
                None => Arc::new(Identity::rebuild(&config.identity, rooms.map(|rooms| &*rooms.identity))?),
            },
            policy,
            // Which warnings were told.
            limits: kept(|old, new| old.limits == new.limits)
                .map_or_else(|| limits(config, live, &scribe), |kept| Arc::clone(&kept.limits)),
            quotas: UpstreamQuotas::build(&config.upstreams, live, &scribe),
            // How many answers outlive their clients.
            routes,
            upstreams: Upstreams::rebuild(&config.upstreams, rooms.map(|rooms| &rooms.upstreams))?,
            // A file may say something else than it did.
            prices: match kept(|old, new| old.prices == new.prices && new.prices.file.is_none()) {
                Some(kept) => Arc::clone(&kept.prices),
                None => Arc::new(Prices::build(&config.prices)?),
            },
        })
    }

    /// What had been used of quotas whose rules are not those of `before`, as the ledger has it; `restore` puts it back. It waits for a disk.
    ///
    /// # Errors
    /// Where the ledger can't be read.
    pub fn lost(config: &Config, live: &Live, before: &Config) -> Result<Vec<Quota>, BuildError> {
        let new = config.limits.iter().filter(|rule| !before.limits.iter().any(|old| rule.continues(old)));
        let new: Vec<&str> = new.map(|rule| rule.name.as_str()).collect();
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let quotas = live.recorder.quotas().map_err(RecordError::from)?;
        Ok(quotas.into_iter().filter(|quota| new.contains(&&*quota.rule)).collect())
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

/// What a new snapshot takes the place of.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// What follows from it.
    pub snapshot: &'a Snapshot,
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

fn limits(config: &Config, live: &Live, scribe: &Arc<dyn Observer>) -> Arc<Limits> {
    Limits::build(&config.limits, Arc::clone(&live.buckets), Arc::clone(&live.grants), Arc::clone(scribe))
}

/// The regions that some route leads to, at any of its stages, to fail over to too.
fn regions(config: &Config) -> Vec<&str> {
    let routed: Vec<Arc<str>> = config.routes.iter().flat_map(crate::config::routes::Route::upstreams).collect();
    config.upstreams.iter().filter(|upstream| routed.contains(&upstream.name)).map(|upstream| upstream.region.as_str()).collect()
}
