//! What Bedrock would throttle, by upstream: the accounts' quotas, as limits of their own.
//!
//! AWS counts a quota for each account, region and model, and for each way to ask for the model: on demand, by a geography's inference profile (`us.`), and by
//! the global one. So has it each upstream here: whoever asks at one upstream takes nothing of another's. Two upstreams of one account and region are one
//! quota to AWS and two here; divide it between them. What is taken is of one attempt, and settled with that attempt's own usage.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;

use super::Live;
use crate::config::upstreams::{Quota as Granted, Upstream};
use crate::domain::{Call, Glob, ModelArn, Quota, Service, Subject, fold_model, is_model, model_name, split_geography, unknown_geography};
use crate::limits::{Admission, Ask, Limits, Now, Observer, Refused, Standing, Turn};

/// So many models of one quota are shown in the metrics at most.
const MOST_SHOWN: usize = 100;

/// The quotas of every upstream.
#[derive(Clone, Default)]
pub struct UpstreamQuotas {
    by_upstream: Arc<HashMap<Arc<str>, Box<[Quotas]>>>,
}

/// One entry of an upstream's `quotas`: the models that it is for, and its limits by the way to ask for them.
struct Quotas {
    upstream: Arc<str>,
    models: Box<[Glob]>,
    counts_as: Option<(Way, Box<str>)>,
    ways: [Of; 3],
}

/// The quota of one way to ask.
struct Of {
    limits: Arc<Limits>,
    names: Box<[Box<str>]>,
    /// The models that were asked for.
    seen: RwLock<HashSet<Box<str>>>,
}

/// How a model is asked for: AWS grants each way a quota of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    OnDemand,
    /// By the inference profile of a geography.
    CrossRegion,
    /// By the global one.
    Global,
}

/// Where an upstream's account stands with one model.
#[derive(Clone, Debug)]
pub struct QuotaLevel {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The model, in its one spelling.
    pub model: Box<str>,
    /// Where it stands. The rule's name tells which quota it is.
    pub standing: Standing,
}

impl Way {
    const ALL: [Self; 3] = [Self::OnDemand, Self::CrossRegion, Self::Global];

    /// How a model id is asked for. A profile of the account's own does not tell; it counts as on demand.
    fn of(model: &str) -> Self {
        let folded = fold_model(model).unwrap_or_else(|| model.to_ascii_lowercase().into());
        let id = ModelArn::read(&folded).map_or(&*folded, |arn| if arn.is_model_or_profile() { arn.name } else { "" });
        match id.split_once('.') {
            Some(("global", _)) => Self::Global,
            _ if split_geography(id).is_some_and(|(_, model)| model.contains('.')) || unknown_geography(id).is_some() => Self::CrossRegion,
            _ => Self::OnDemand,
        }
    }

    /// What the names of its limits begin with.
    fn name(self, upstream: &str) -> String {
        match self {
            Self::OnDemand => format!("upstream {upstream}"),
            Self::CrossRegion => format!("upstream {upstream} cross-region"),
            Self::Global => format!("upstream {upstream} global"),
        }
    }
}

impl UpstreamQuotas {
    /// Makes the quotas of `upstreams` ready, over the buckets that live on: after a reload what is used of a quota stays used. `observer` is told of what is
    /// used of a day's tokens.
    pub(super) fn build(upstreams: &[Upstream], live: &Live, observer: &Arc<dyn Observer>) -> Self {
        let of = |upstream: &Upstream, granted: &Granted, way: Way| {
            // Two quotas of an upstream that count as different models may not share a bucket.
            let name = way.name(&upstream.name);
            let name = granted.counts_as.as_deref().map_or(name.clone(), |model| format!("{name} {}", model_name(model)));
            let rules = granted.rules(&name);
            let limits = Limits::build(&rules, Arc::clone(&live.buckets), Arc::default(), Arc::clone(observer));
            Of { limits, names: rules.into_iter().map(|rule| rule.name.into()).collect(), seen: RwLock::default() }
        };
        let quotas = |upstream: &Upstream| {
            let quota = |granted: &Granted| Quotas {
                upstream: Arc::clone(&upstream.name),
                models: granted.models.iter().map(|models| Glob::new(models.to_string().to_ascii_lowercase())).collect(),
                counts_as: granted.counts_as.as_deref().map(|model| (Way::of(model), model_name(model).into())),
                ways: Way::ALL.map(|way| of(upstream, granted, way)),
            };
            (Arc::clone(&upstream.name), upstream.quotas.iter().map(quota).collect())
        };
        let granted = upstreams.iter().filter(|upstream| !upstream.quotas.is_empty());
        Self { by_upstream: Arc::new(granted.map(quotas).collect()) }
    }

    /// Takes what an attempt at `upstream` may come to from its account's quota of the model; none where it has none for that model. `ask.call.model` is the
    /// model as that upstream gets it. What is admitted is settled or dropped when the attempt ends, as that of [`Limits`] is, and
    /// [`Admission::grow`]s with every event of its stream: what Bedrock counts beyond what it reserved must be known here no later than at the stream's end.
    ///
    /// # Errors
    /// [`Refused`], where Bedrock would throttle it: nothing was taken, and its `retry_after` is when the same attempt would pass.
    pub fn admit(&self, upstream: &str, ask: &Ask<'_>, now: Now) -> Result<Option<Admission>, Box<Refused>> {
        self.of(upstream, ask.call).map(|of| of.limits.admit(ask, now)).transpose()
    }

    /// The same, where no other target is left: it may wait, if the quota says so.
    ///
    /// # Errors
    /// [`Refused`], as [`UpstreamQuotas::admit`]; and where as many wait as may.
    pub fn admit_or_wait<'a>(&'a self, upstream: &str, ask: &'a Ask<'a>, now: Now) -> Result<Option<Turn<'a>>, Box<Refused>> {
        self.of(upstream, ask.call).map(|of| of.limits.admit_or_wait(ask, now)).transpose()
    }

    /// The limits of the first quota that is for the model that is asked for.
    fn of(&self, upstream: &str, call: &Call) -> Option<&Of> {
        let quotas = self.by_upstream.get(upstream)?;
        // Mantle's quotas are its own, and agents name no model.
        if call.service != Service::BEDROCK_RUNTIME || call.asked.of_no_model {
            return None;
        }
        let model = call.model.as_deref()?;
        let quota = quotas.iter().find(|quota| is_model(&quota.models, model))?;
        if is_provisioned(model) {
            return None;
        }
        let way = quota.counts_as.as_ref().map_or_else(|| Way::of(model), |(way, _)| *way);
        let of = quota.ways.get(way as usize)?;
        let name = quota.counts_as.as_ref().map_or_else(|| model_name(model), |(_, name)| (&**name).into());
        if !of.seen.read().contains(&*name) {
            let mut seen = of.seen.write();
            if seen.len() < MOST_SHOWN {
                seen.insert(name.into());
            }
        }
        Some(of)
    }

    /// Where every upstream's account stands, of the models that were asked for since the configuration was loaded: a hundred of a quota at most.
    #[must_use]
    pub fn levels(&self, now: Now) -> Vec<QuotaLevel> {
        let mut levels = Vec::new();
        for quota in self.by_upstream.values().flatten() {
            for of in &quota.ways {
                for model in &*of.seen.read() {
                    let subject = Subject { model: quota.counts_as.is_none().then(|| (&**model).into()), ..Subject::default() };
                    let level = |standing| QuotaLevel { upstream: Arc::clone(&quota.upstream), model: model.clone(), standing };
                    levels.extend(of.limits.standing(&subject, now).into_iter().map(level));
                }
            }
        }
        levels
    }

    /// The names of its limits, as refusals tell them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_upstream.values().flatten().flat_map(|quota| &quota.ways).flat_map(|of| of.names.iter().map(|name| &**name))
    }

    /// Puts back what had been used of a day's tokens when the process before this one ended.
    pub(super) fn restore(&self, quotas: &[Quota], now: Now) {
        let mut restored: HashSet<&str> = HashSet::new();
        for of in self.by_upstream.values().flatten().flat_map(|quota| &quota.ways) {
            // Entries of one upstream have limits of one name, and one bucket for a model: it takes back what was used once.
            if of.names.iter().all(|name| !restored.contains(&**name)) {
                let own: Vec<Quota> = quotas.iter().filter(|quota| of.names.iter().any(|name| **name == *quota.rule)).cloned().collect();
                of.limits.restore(&own, now);
            }
            restored.extend(of.names.iter().filter(|name| name.ends_with(" a day")).map(|name| &**name));
        }
    }
}

/// Whether a model is asked for on throughput that was bought: no quota of an account's is for it.
fn is_provisioned(model: &str) -> bool {
    let folded = fold_model(model).unwrap_or_else(|| model.to_ascii_lowercase().into());
    ModelArn::read(&folded).is_some_and(|arn| arn.kind == "provisioned-model")
}

#[cfg(test)]
mod tests;
