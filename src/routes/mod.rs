//! Where to?
//!
//! The first route that matches a call gives its targets, in the order to try them, and how long each step may take. Knows names of upstreams, nothing
//! of hosts; and names of models, nothing of requests.

mod canary;
mod choice;
mod matching;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use smallvec::SmallVec;
use tokio::sync::Semaphore;

use self::choice::{Choice, Key};
use self::matching::{Facts, Matching, model_of};
use crate::config::routes::{ChosenBy, Drain, OnDisconnect, Place, Retries, Route as Config, Sticky, Testers, Timeouts, Variant};
use crate::domain::{Call, Principal, Reason, Rejection, lower_case};

pub use self::canary::{Canaries, Canary, CanaryLevel, Figures, Outcome, Share, Side, Step, Why};
pub use self::target::{Target, Weight};

/// What a route is found by.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// Who calls.
    pub principal: &'a Principal,
    /// The HTTP method.
    pub method: &'a str,
    /// For what. Its model is as the client named it.
    pub call: &'a Call,
    /// The stage that the path began with, as [`Routes::stage`] found it.
    pub stage: Option<&'a str>,
    /// The `Host` header, or HTTP/2's `:authority`.
    pub host: Option<&'a str>,
    /// The head's fields.
    pub headers: &'a HeaderMap,
}

/// The targets of one call, in the order to try them: never none, and none twice.
pub type Order = SmallVec<[Arc<Target>; 2]>;

/// A route at one of its stages, ready to send by.
#[derive(Debug)]
pub struct Route {
    /// Its name; that of the same route at another stage is the same.
    pub name: Arc<str>,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How much is tried again.
    pub retries: Retries,
    /// How the answer outlives its client; none where it ends with it.
    pub outlive: Option<Outlive>,
    matching: Matching,
    choice: Choice,
    /// What is tried after each target of the choice, by its place there.
    after: Box<[Box<[Arc<Target>]>]>,
    sticky: Option<Sticky>,
    chosen_by: Option<ChosenBy>,
    mirror: Option<(Arc<Target>, u32)>,
    /// Which target of the choice has a share that grows by itself.
    canary: Option<(usize, Arc<Canary>)>,
    /// Whether some target gives the model a name of its own.
    renames: bool,
}

/// Why a call gets the target that it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenAs {
    /// A tester named it.
    Tested,
    /// The call sticks to it.
    Stuck,
    /// It was drawn, and the next call may get another.
    Drawn,
}

impl Route {
    fn new(config: &Config, variant: Variant, outlive: Option<Outlive>, canary: Option<&Arc<Canary>>) -> Self {
        let Variant { stage, places } = variant;
        let canary = canary.and_then(|canary| Some((places.to.iter().position(|target| target.promote.is_some())?, Arc::clone(canary))));
        let weights: Vec<u32> = places.to.iter().map(|target| target.weight).collect();
        let weights = match &canary {
            Some((at, canary)) => Weight::beside(&weights, *at, canary.share()),
            None => weights.into_iter().map(Weight::new).collect(),
        };
        let targets = places.to.iter().zip(weights).map(|(target, weight)| Arc::new(Target::new(&target.place, weight)));
        let targets: Vec<Arc<Target>> = targets.collect();
        let shared = |place: &Place| places.to.iter().position(|target| target.place == *place).and_then(|at| targets.get(at));
        let after = |chosen| {
            let chain = places.after(chosen).into_iter();
            chain.map(|(_, place)| shared(&place).map_or_else(|| Arc::new(Target::new(&place, Weight::new(0))), Arc::clone)).collect()
        };
        let after: Box<[Box<[Arc<Target>]>]> = (0..targets.len()).map(after).collect();
        Self {
            name: Arc::clone(&config.name),
            timeouts: config.timeouts,
            retries: config.retries,
            outlive,
            renames: targets.iter().chain(after.iter().flatten()).any(|target| target.renames()),
            choice: Choice::new(&config.name, &targets),
            after,
            matching: Matching::new(stage, &config.when),
            sticky: config.sticky.clone(),
            chosen_by: config.chosen_by.clone(),
            mirror: places.mirror.map(|mirror| (Arc::new(Target::new(&mirror.place, Weight::new(0))), mirror.share)),
            canary,
        }
    }

    /// The stage that it is for; none where it is for calls of any stage, and of none.
    #[must_use]
    pub fn stage(&self) -> Option<&Arc<str>> {
        self.matching.stage.as_ref()
    }

    /// The targets of a call, in the order to try them: the one that weights, stickiness and a tester's header choose, and then those to fail over to.
    #[must_use]
    pub fn order(&self, asking: &Asking<'_>) -> Order {
        let (_, place) = self.choose(asking);
        let chosen = self.choice.at(place).cloned();
        chosen.into_iter().chain(self.after.get(place).into_iter().flatten().cloned()).collect()
    }

    /// Why a call gets its first target; drawn anew where it is drawn.
    #[must_use]
    pub fn chosen_as(&self, asking: &Asking<'_>) -> ChosenAs {
        self.choose(asking).0
    }

    fn choose(&self, asking: &Asking<'_>) -> (ChosenAs, usize) {
        if let Some(place) = self.tested(asking) {
            return (ChosenAs::Tested, place);
        }
        let principal = asking.principal;
        let key = self.sticky.as_ref().and_then(|sticky| match sticky {
            Sticky::User => Some(Key { first: principal.tenant.as_bytes(), second: principal.user.as_deref()?.as_bytes() }),
            Sticky::Tenant => Some(Key { first: principal.tenant.as_bytes(), second: b"" }),
            Sticky::Header(name) => Some(Key { first: asking.headers.get(name)?.as_bytes(), second: b"" }),
        });
        match key {
            Some(key) => (ChosenAs::Stuck, self.choice.stuck(&key)),
            None => (ChosenAs::Drawn, self.choice.drawn(|all| fastrand::u64(..all))),
        }
    }

    /// The place of the target that a tester asks for by its name. What is none is not heard: the log tells where the call went.
    fn tested(&self, asking: &Asking<'_>) -> Option<usize> {
        let ChosenBy { header, testers } = self.chosen_by.as_ref()?;
        let named = asking.headers.get(header)?;
        let may = match testers {
            Testers::Everyone => true,
            Testers::Groups(groups) => asking.principal.groups.iter().any(|group| groups.iter().any(|glob| glob.matches(group))),
        };
        self.choice.targets().position(|target| target.name.as_bytes() == named.as_bytes()).filter(|_| may)
    }

    /// Which target each call sticks to, by what; none where every call is drawn anew.
    #[must_use]
    pub const fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref()
    }

    /// The targets that calls are drawn for, with what is tried after each.
    pub fn ways(&self) -> impl Iterator<Item = (&Arc<Target>, &[Arc<Target>])> {
        self.choice.targets().zip(self.after.iter().map(|after| &**after))
    }

    /// A try at `target` came to `outcome`: for the canary, where there is one and the target is it or one of those that it is compared with.
    pub fn saw(&self, target: &Arc<Target>, outcome: Outcome, now: Instant) {
        let Some((canary, rule)) = &self.canary else { return };
        if let Some(at) = self.choice.targets().position(|drawn| Arc::ptr_eq(drawn, target)) {
            rule.saw(if at == *canary { Side::Canary } else { Side::Baseline }, outcome, now);
        }
    }

    /// The canary of the route, where it has one.
    #[must_use]
    pub fn canary(&self) -> Option<&Arc<Canary>> {
        self.canary.as_ref().map(|(_, canary)| canary)
    }

    /// Where copies go, and of how many of a million calls.
    #[must_use]
    pub fn mirrored(&self) -> Option<(&Arc<Target>, u32)> {
        self.mirror.as_ref().map(|(target, share)| (target, *share))
    }

    /// Where a copy of this call goes, of which the answer is dropped: for the share of calls that are to be mirrored.
    #[must_use]
    pub fn mirror(&self) -> Option<Arc<Target>> {
        let (target, share) = self.mirror.as_ref()?;
        (fastrand::u32(..1_000_000) < *share).then(|| Arc::clone(target))
    }
}

/// How answers outlive their clients.
#[derive(Clone, Debug)]
pub struct Outlive {
    /// For so long.
    pub time: Duration,
    /// So many at once, over all calls of the route.
    pub places: Arc<Semaphore>,
}

impl Outlive {
    fn of(rule: OnDisconnect) -> Option<Self> {
        match rule {
            OnDisconnect::Cancel => None,
            OnDisconnect::Drain(Drain { time, max }) => {
                Some(Self { time, places: Arc::new(Semaphore::new(usize::try_from(max).unwrap_or(Semaphore::MAX_PERMITS))) })
            }
        }
    }
}

/// The routes, in their order. Immutable, but for the weights.
#[derive(Debug)]
pub struct Routes {
    /// Each at each of its stages.
    routes: Box<[Arc<Route>]>,
    /// Every stage, once.
    stages: Box<[Arc<str>]>,
}

impl Routes {
    /// Builds the routes of a checked configuration.
    #[must_use]
    pub fn build(routes: &[Config]) -> Self {
        Self::build_among(routes, &Canaries::default())
    }

    /// The same with canaries that go on where one of `canaries` has the same rule. Those that are new are not among them before
    /// [`Canaries::follow`].
    #[must_use]
    pub fn build_among(routes: &[Config], canaries: &Canaries) -> Self {
        let mut stages: Vec<Arc<str>> = routes.iter().flat_map(|route| &route.stages).map(|stage| Arc::clone(&stage.name)).collect();
        stages.sort_unstable();
        stages.dedup();
        let variants = |route: &Config| {
            let (outlive, canary) = (Outlive::of(route.on_disconnect), canaries.of(route));
            let at = |variant| Arc::new(Route::new(route, variant, outlive.clone(), canary.as_ref()));
            route.variants().into_iter().map(at).collect::<Vec<_>>()
        };
        Self { routes: routes.iter().flat_map(variants).collect(), stages: stages.into() }
    }

    /// The stage that a raw path begins with, where it is one of the configuration's, and the path without it; else the path as it is.
    ///
    /// A stage is its bytes: `/%62eta` does not begin with the stage `beta`. Of `/beta` and `/beta/` there is `/` left.
    #[must_use]
    pub fn stage<'p>(&self, path: &'p str) -> (Option<&Arc<str>>, &'p str) {
        let split = || {
            let after = path.strip_prefix('/')?;
            let (first, rest) = after.split_at_checked(after.find('/').unwrap_or(after.len()))?;
            let stage = self.stages.iter().find(|stage| ***stage == *first)?;
            Some((stage, if rest.is_empty() { "/" } else { rest }))
        };
        split().map_or((None, path), |(stage, rest)| (Some(stage), rest))
    }

    /// Whether some route gives this model, as a client named it, another name: whether it is allowed is told then by the name it gets.
    #[must_use]
    pub fn is_alias(&self, model: &str) -> bool {
        let lower = lower_case(model);
        self.routes.iter().any(|route| route.renames && route.matching.is_for_model(&lower))
    }

    /// The first route that matches.
    ///
    /// # Errors
    /// [`Reason::UnknownService`] where none does.
    pub fn find(&self, asking: &Asking<'_>) -> Result<&Arc<Route>, Rejection> {
        let model = model_of(asking);
        let facts = Facts::of(asking, model.as_deref());
        let found = self.routes.iter().find(|route| route.matching.check(&facts).is_ok());
        found.ok_or_else(|| Rejection::new(Reason::UnknownService, "no route matches this call"))
    }

    /// Every canary, once for each stage of its route.
    pub fn canaries(&self) -> impl Iterator<Item = &Arc<Canary>> {
        self.routes.iter().filter_map(|route| route.canary())
    }

    /// Every route, at each of its stages.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// Every route's name with each target that it may turn to, some more than once.
    pub fn targets(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Target>)> {
        self.routes.iter().flat_map(|route| {
            let targets = route.ways().flat_map(|(target, after)| std::iter::once(target).chain(after));
            targets.map(move |target| (&route.name, target))
        })
    }

    /// Every route at each of its stages, in their order, and what of the call it does not match; none where it matches. The first of those is taken.
    #[must_use]
    pub fn explain(&self, asking: &Asking<'_>) -> Vec<(&Arc<Route>, Option<String>)> {
        let model = model_of(asking);
        let facts = Facts::of(asking, model.as_deref());
        let verdict = |route: &Route| route.matching.check(&facts).err().map(|lacks| route.matching.why(lacks, &facts));
        self.routes.iter().map(|route| (route, verdict(route))).collect()
    }
}
