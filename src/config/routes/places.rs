//! `to`, `failover` and `mirror`: where calls go.

use std::sync::Arc;

use super::super::reader::{Checked, FromValue, Map, Name, Value, parts_in_a_million, suggest};
use super::promote::Promote;
use super::stages::{Stage, substitute};
use crate::domain::fold_model;

/// Where the calls of a route go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Of these a call gets one: at least one, at most 32.
    pub to: Vec<Target>,
    /// What is tried after that one, in this order: at most 16.
    pub failover: Vec<Failover>,
    /// Where copies go.
    pub mirror: Option<Mirror>,
}

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name in logs and metrics. Default: its upstream's; `mirror` for a mirror.
    pub name: Arc<str>,
    /// The key of an upstream.
    pub upstream: Arc<str>,
    /// What the model is called there; none: as the client named it, or, in `failover`, as the target that failed calls it.
    pub model: Option<Model>,
}

/// A place that calls are drawn for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The place.
    pub place: Place,
    /// Its share among the weights of all that have no `promote`: 0 to 10,000, not all of them 0. Default 1; 0 where it has `promote`.
    pub weight: u32,
    /// How its share grows by itself; at most one target of a route has this, and the others are its baseline.
    pub promote: Option<Promote>,
}

/// A place that is tried when another has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failover {
    /// The target of this name; else the upstream of this name, for the same model.
    Word(Arc<str>),
    /// Its own.
    Place(Place),
}

/// Where copies of calls go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The place.
    pub place: Place,
    /// Of so many of a million calls.
    pub share: u32,
}

/// What a model is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Model {
    /// The same for every tenant.
    Name(Arc<str>),
    /// By the tenant.
    ByTenant {
        /// Tenants and their names for it, each tenant once.
        tenants: Vec<(Arc<str>, Arc<str>)>,
        /// For all others; none: they keep the name that they gave it.
        default: Option<Arc<str>>,
    },
}

impl Places {
    /// What is tried after `to[chosen]`, each place once; with its index in `failover`.
    #[must_use]
    pub fn after(&self, chosen: usize) -> Vec<(usize, Place)> {
        let Some(Target { place: chosen, .. }) = self.to.get(chosen) else { return Vec::new() };
        let mut chain: Vec<(usize, Place)> = Vec::new();
        for (at, next) in self.failover.iter().enumerate() {
            let place = match next {
                Failover::Word(word) => self.to.iter().find(|target| target.place.name == *word).map_or_else(
                    || Place { name: Arc::clone(word), upstream: Arc::clone(word), model: chosen.model.clone() },
                    |target| target.place.clone(),
                ),
                Failover::Place(place) => Place { model: place.model.clone().or_else(|| chosen.model.clone()), ..place.clone() },
            };
            if !place.is_same(chosen) && !chain.iter().any(|(_, earlier)| place.is_same(earlier)) {
                chain.push((at, place));
            }
        }
        chain
    }

    /// Every upstream that calls may go to, those of mirrors left out; one may come several times.
    pub(super) fn upstreams(&self) -> Vec<Arc<str>> {
        let to = self.to.iter().map(|target| Arc::clone(&target.place.upstream));
        let failover = (0..self.to.len()).flat_map(|chosen| self.after(chosen)).map(|(_, place)| place.upstream);
        to.chain(failover).collect()
    }

    /// With the variables of a stage put in.
    pub(super) fn at(&self, stage: &Stage) -> Self {
        let failover = |failover: &Failover| match failover {
            Failover::Word(word) => Failover::Word(put_in(word, stage)),
            Failover::Place(place) => Failover::Place(place.at(stage)),
        };
        Self {
            to: self.to.iter().map(|target| Target { place: target.place.at(stage), ..target.clone() }).collect(),
            failover: self.failover.iter().map(failover).collect(),
            mirror: self.mirror.as_ref().map(|mirror| Mirror { place: mirror.place.at(stage), share: mirror.share }),
        }
    }
}

impl Place {
    fn is_same(&self, other: &Self) -> bool {
        (&self.upstream, &self.model) == (&other.upstream, &other.model)
    }

    fn at(&self, stage: &Stage) -> Self {
        let model = |model: &Model| match model {
            Model::Name(name) => Model::Name(put_in(name, stage)),
            Model::ByTenant { tenants, default } => Model::ByTenant {
                tenants: tenants.iter().map(|(tenant, name)| (Arc::clone(tenant), put_in(name, stage))).collect(),
                default: default.as_ref().map(|name| put_in(name, stage)),
            },
        };
        Self { name: put_in(&self.name, stage), upstream: put_in(&self.upstream, stage), model: self.model.as_ref().map(model) }
    }
}

/// Variables that the stage does not have were refused when the text was read.
fn put_in(text: &Arc<str>, stage: &Stage) -> Arc<str> {
    substitute(text, Some(stage)).map_or_else(|_| Arc::clone(text), Into::into)
}

/// What the places of a route are read with.
pub(super) struct Scope<'a> {
    /// The route's stages; none where they are at fault.
    pub(super) stages: Option<&'a [Stage]>,
    /// The names of all upstreams; empty where `upstreams` is at fault, which is told there.
    pub(super) upstreams: &'a [&'a str],
}

impl Scope<'_> {
    /// A text that is right at every stage of the route, with the stage's variables put in.
    fn text(&self, value: &Value<'_>, check: impl Fn(&str, Option<&Stage>) -> Checked<()>) -> Checked<Arc<str>> {
        let text = value.text()?;
        let at = |stage: Option<&Stage>| match substitute(text, stage) {
            Ok(whole) => check(&whole, stage),
            Err(unknown) => unknown.refuse(value, stage),
        };
        match self.stages {
            None => {}
            Some([]) => at(None)?,
            Some(stages) => stages.iter().try_for_each(|stage| at(Some(stage)))?,
        }
        Ok(text.into())
    }

    fn upstream(&self, value: &Value<'_>) -> Checked<Arc<str>> {
        self.text(value, |name, stage| self.exists(value, name, stage, &[]))
    }

    fn exists(&self, value: &Value<'_>, name: &str, stage: Option<&Stage>, targets: &[&str]) -> Checked<()> {
        if self.upstreams.contains(&name) || self.upstreams.is_empty() || targets.contains(&name) {
            return Ok(());
        }
        let at = stage.filter(|_| value.as_text() != Some(name)).map(|stage| format!(" `{name}` at the stage `{}`", stage.name));
        let what = if targets.is_empty() { "upstream" } else { "target and no upstream" };
        let known: Vec<&str> = targets.iter().chain(self.upstreams).copied().collect();
        value.refuse_with(format!("there is no {what}{}", at.unwrap_or_else(|| format!(" {}", value.quoted()))), suggest(name, &known))
    }

    fn model_name(&self, value: &Value<'_>) -> Checked<Arc<str>> {
        self.text(value, |name, stage| {
            if fold_model(name).is_some() {
                return Ok(());
            }
            let at = stage.filter(|_| value.as_text() != Some(name)).map(|stage| format!("`{name}` at the stage `{}`", stage.name));
            value.refuse_with(
                format!("{} is written as no model of Bedrock's", at.unwrap_or_else(|| value.quoted())),
                "an id, as in `us.amazon.nova-lite-v1:0`, or an ARN, as of an inference profile",
            )
        })
    }

    /// A name, or a mapping of tenants to names with `default`.
    fn model(&self, value: &Value<'_>) -> Checked<Model> {
        if !value.is_mapping() {
            return self.model_name(value).map(Model::Name);
        }
        let map = value.map()?;
        let named: Vec<Checked<(&str, Arc<str>)>> =
            map.named().iter().map(|(tenant, value)| Ok((*tenant, self.model_name(value)?))).collect();
        let named: Vec<(&str, Arc<str>)> = named.into_iter().collect::<Checked<_>>()?;
        if named.is_empty() {
            return value.refuse_with("needs at least one tenant", "as in `{ acme: …, default: … }`");
        }
        let default = named.iter().find(|(tenant, _)| *tenant == "default").map(|(_, name)| Arc::clone(name));
        let tenants = named.into_iter().filter(|(tenant, _)| *tenant != "default").map(|(tenant, name)| (tenant.into(), name)).collect();
        Ok(Model::ByTenant { tenants, default })
    }

    /// A place in `map`; its name is `name` where it says none and that is some.
    fn place(&self, map: &mut Map<'_>, name: Option<&str>) -> Checked<Place> {
        let own = map.optional::<Name>("name");
        let upstream = map.required_by("upstream", self.upstreams.first().map_or("use1", |first| first), |value| self.upstream(value));
        let model = map.value("model").map(|value| self.model(&value)).transpose();
        let (own, upstream, model) = (own?, upstream?, model?);
        let name = own.map(|name| name.0.into()).or_else(|| name.map(Into::into)).unwrap_or_else(|| Arc::clone(&upstream));
        Ok(Place { name, upstream, model })
    }
}

impl Places {
    pub(super) fn read(map: &mut Map<'_>, scope: &Scope<'_>) -> Checked<Self> {
        let example = scope.upstreams.first().map_or("use1", |first| first);
        let written = map.value("to");
        let to = map.required_by("to", &format!("[{{ upstream: {example} }}]"), |value| targets(value, scope));
        let names: Vec<Arc<str>> = to.iter().flatten().map(|target| Arc::clone(&target.place.name)).collect();
        let failed = map.value("failover");
        let failover = failed.as_ref().map_or(Ok(Vec::new()), |value| {
            let read: Vec<Checked<Failover>> = bounded(value, "place", 16)?.iter().map(|item| failover(item, scope, &names)).collect();
            read.into_iter().collect()
        });
        let mirrored = map.value("mirror");
        let mirror = mirrored.as_ref().map(|value| mirror(value, scope)).transpose();
        let places = Self { to: to?, failover: failover?, mirror: mirror? };
        let blame = super::together::Blame { to: written, failover: failed, mirror: mirrored };
        match scope.stages {
            // That is told already.
            None => {}
            Some([]) => blame.check(&places)?,
            Some(stages) => stages.iter().try_for_each(|stage| blame.check(&places.at(stage)))?,
        }
        Ok(places)
    }
}

/// The items of a list, one at least and `most` at most.
fn bounded<'a>(value: &Value<'a>, what: &str, most: usize) -> Checked<Vec<Value<'a>>> {
    let items = value.some_items(what)?;
    match items.get(most) {
        Some(beyond) => beyond.refuse(format!("more than {most} are not thought of")),
        None => Ok(items),
    }
}

fn targets(value: &Value<'_>, scope: &Scope<'_>) -> Checked<Vec<Target>> {
    let items = bounded(value, "target", 32)?;
    let mut weighed = Vec::new();
    let mut read = Vec::new();
    for item in &items {
        let mut map = item.map()?;
        let place = scope.place(&mut map, None);
        let said = map.value("weight");
        let promote = map.value("promote").map(|value| Promote::from_value(&value)).transpose();
        let weight = match (&said, &promote) {
            (Some(value), Ok(Some(_)) | Err(_)) => value.refuse_key("does not go with `promote`, whose steps are the share", "remove it"),
            (Some(value), Ok(None)) => weight(value),
            (None, Ok(None)) => Ok(1),
            (None, Ok(Some(_)) | Err(_)) => Ok(0),
        };
        weighed.push(said.map_or(if matches!(promote, Ok(None)) { Weighed::No } else { Weighed::Otherwise }, |_| Weighed::Yes));
        let finished = map.finish();
        let target = place.and_then(|place| Ok(Target { place, weight: weight?, promote: promote? }));
        read.push(target.and_then(|target| finished.map(|()| target)));
    }
    // Beside a 95 it could mean 5 or 1.
    let without = items.iter().zip(&weighed).find(|(_, weighed)| **weighed == Weighed::No);
    if let (true, Some((item, _))) = (weighed.contains(&Weighed::Yes), without) {
        read.push(item.refuse_with("has no `weight`, and others have", "add one to each: `weight: 0` is never drawn"));
    }
    read.into_iter().collect()
}

/// Whether a target says its weight.
#[derive(PartialEq)]
enum Weighed {
    Yes,
    No,
    /// Its share is said in another way.
    Otherwise,
}

fn weight(value: &Value<'_>) -> Checked<u32> {
    match u64::from_value(value)? {
        weight @ 0..=10_000 => Ok(u32::try_from(weight).unwrap_or(u32::MAX)),
        _ => value.refuse_with(format!("a weight of {}", value.quoted()), "0 to 10000"),
    }
}

fn failover(value: &Value<'_>, scope: &Scope<'_>, targets: &[Arc<str>]) -> Checked<Failover> {
    if !value.is_mapping() {
        let word = scope.text(value, |name, stage| {
            let named: Vec<_> = targets.iter().filter_map(|target| substitute(target, stage).ok()).collect();
            let named: Vec<&str> = named.iter().map(AsRef::as_ref).collect();
            scope.exists(value, name, stage, &named)
        });
        return word.map(Failover::Word);
    }
    let mut map = value.map()?;
    let place = scope.place(&mut map, None);
    map.finish()?;
    place.map(Failover::Place)
}

fn mirror(value: &Value<'_>, scope: &Scope<'_>) -> Checked<Mirror> {
    let mut map = value.map()?;
    let place = scope.place(&mut map, Some("mirror"));
    let share = map.required_by("share", "5%", parts_in_a_million);
    map.finish()?;
    Ok(Mirror { place: place?, share: share? })
}
