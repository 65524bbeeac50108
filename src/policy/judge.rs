//! One rule: whom it is for, and what it says to each part of a call.

use std::sync::Arc;

use http::Method;

use super::model::ModelId;
use super::regions::Geography;
use crate::config::policy::{Lists, Operation, Rule};
use crate::domain::{Call, CanonicalPath, GEOGRAPHIES, Glob, Principal, Reason, Rejection, Service};

/// Of what a caller sent, at most so much is said back.
const SHOWN: usize = 128;

/// Whom a rule is for.
#[derive(Debug)]
pub(super) struct Whom {
    tenants: Box<[Glob]>,
    users: Box<[Glob]>,
    groups: Box<[Glob]>,
    methods: Box<[Glob]>,
}

impl Whom {
    pub(super) fn new(rule: &Rule) -> Self {
        let boxed = |globs: &[Glob]| globs.to_vec().into_boxed_slice();
        Self { tenants: boxed(&rule.tenants), users: boxed(&rule.users), groups: boxed(&rule.groups), methods: boxed(&rule.methods) }
    }

    /// Whether it is for this caller: every kind of matcher that the rule has must match.
    pub(super) fn includes(&self, principal: &Principal) -> bool {
        let any = |globs: &[Glob], name: &str| globs.iter().any(|glob| glob.matches(name));
        (self.tenants.is_empty() || any(&self.tenants, &principal.tenant))
            && (self.users.is_empty() || principal.user.as_deref().is_some_and(|user| any(&self.users, user)))
            && (self.groups.is_empty() || principal.groups.iter().any(|group| any(&self.groups, group)))
            && (self.methods.is_empty() || any(&self.methods, principal.method.label()))
    }
}

/// What a rule allows. All patterns are in lower case, as all that is compared with them.
#[derive(Debug)]
pub(super) struct Judge {
    name: Arc<str>,
    services: Lists<Glob>,
    models: Lists<Glob>,
    operations: Lists<Operation>,
    regions: Lists<Glob>,
    allow_unknown: bool,
    shadow: bool,
    /// Where no upstream that a route leads to is in a region that is allowed: one of those regions.
    nowhere: Option<Box<str>>,
    /// For each of [`GEOGRAPHIES`] a region of it, in words, that is not allowed; none where all are.
    beyond: [Option<Box<str>>; GEOGRAPHIES.len()],
}

impl Judge {
    pub(super) fn new(rule: &Rule, regions: &[&str]) -> Self {
        let fold = |glob: &Glob| Glob::new(glob.to_string().to_ascii_lowercase());
        let all =
            |lists: &Lists<Glob>| Lists { allow: lists.allow.iter().map(fold).collect(), deny: lists.deny.iter().map(fold).collect() };
        let operation = |operation: &Operation| Operation { method: fold(&operation.method), path: fold(&operation.path) };
        let mut judge = Self {
            name: Arc::clone(&rule.name),
            services: all(&rule.services),
            models: all(&rule.models),
            operations: Lists {
                allow: rule.operations.allow.iter().map(operation).collect(),
                deny: rule.operations.deny.iter().map(operation).collect(),
            },
            regions: all(&rule.regions),
            allow_unknown: rule.allow_unknown,
            shadow: rule.shadow,
            nowhere: None,
            beyond: [const { None }; GEOGRAPHIES.len()],
        };
        judge.beyond = GEOGRAPHIES.map(|(name, regions)| judge.beyond(name, regions).map(Into::into));
        if judge.rules_regions() && !regions.iter().any(|region| judge.may_be_in(region)) {
            judge.nowhere = regions.first().map(|region| (*region).into());
        }
        judge
    }

    pub(super) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) const fn is_shadow(&self) -> bool {
        self.shadow
    }

    pub(super) const fn rules_operations(&self) -> bool {
        !self.operations.is_empty()
    }

    pub(super) const fn rules_models(&self) -> bool {
        !self.models.is_empty()
    }

    pub(super) const fn rules_regions(&self) -> bool {
        !self.regions.is_empty()
    }

    /// Whether the service is allowed.
    pub(super) fn service(&self, service: &Service) -> Result<(), Rejection> {
        let prefix = service.prefix;
        if pass(&self.services, |glob| glob.matches(prefix), |glob| glob.matches(prefix)) {
            return Ok(());
        }
        Err(self.refuse(&format!("does not allow the service `{prefix}`")))
    }

    /// Whether the operation is allowed; `raw` is its path as it was sent, for the message.
    pub(super) fn operation(&self, method: &str, path: &CanonicalPath<'_>, raw: &str) -> Result<(), Rejection> {
        if !self.rules_operations() {
            return Ok(());
        }
        let folded = method.to_ascii_lowercase();
        let is = |operation: &Operation| operation.method.matches(&folded) && operation.path.matches(path.as_str());
        if pass(&self.operations, is, is) {
            return Ok(());
        }
        Err(self.refuse(&format!("does not allow the operation `{} {}`", shown(method), shown(raw))))
    }

    /// Whether any upstream is in a region that is allowed.
    pub(super) fn upstreams(&self) -> Result<(), Rejection> {
        match &self.nowhere {
            Some(region) => Err(self.refuse(&format!("does not allow the region `{region}`"))),
            None => Ok(()),
        }
    }

    /// Whether a named model is allowed, and the regions that its name speaks of. A name that a route may have made up is left to [`Judge::target`].
    pub(super) fn model(&self, model: &ModelId<'_>) -> Result<(), Rejection> {
        if !model.is_well_written() && (self.rules_models() || self.rules_regions()) {
            return Err(self.refuse(&format!("does not allow the model `{}`: no model of Bedrock's is written so", shown(model.sent()))));
        }
        let denied = |glob: &Glob| model.aliases().any(|name| glob.matches(name));
        let allowed = |glob: &Glob| model.names().any(|name| glob.matches(name));
        if !pass(&self.models, denied, allowed) {
            return Err(self.refuse(&format!("does not allow the model `{}`", shown(model.sent()))));
        }
        if self.rules_regions() && model.geography() != Geography::Nameless { self.residence(model) } else { Ok(()) }
    }

    /// Whether a call that names no model is allowed: one that reads or deletes runs none.
    pub(super) fn no_model(&self, method: &str, call: &Call) -> Result<(), Rejection> {
        let runs_none = [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE].iter().any(|idle| idle.as_str() == method);
        if self.allow_unknown || runs_none || is_guardrail(call) {
            return Ok(());
        }
        // The services of which a body alone may say which model is run, and where.
        let runs_any = [Service::BEDROCK_RUNTIME, Service::BEDROCK_MANTLE, Service::BEDROCK_AGENT_RUNTIME].contains(&call.service);
        if !self.models.allow.is_empty() || (runs_any && (self.rules_models() || self.rules_regions())) {
            let ruled = if self.rules_models() { "which model it is for" } else { "where it may be answered" };
            return Err(self.refuse(&format!("does not allow a call that does not tell {ruled}")));
        }
        Ok(())
    }

    /// Whether a call may be answered by an upstream in `region`.
    pub(super) fn target(&self, region: &str, model: Option<&ModelId<'_>>) -> Result<(), Rejection> {
        if !self.rules_regions() {
            return Ok(());
        }
        if !self.may_be_in(region) {
            return Err(self.refuse(&format!("does not allow the region `{region}`")));
        }
        model.map_or(Ok(()), |model| self.residence(model))
    }

    /// Whether all that a model's name says of where it is answered is allowed.
    fn residence(&self, model: &ModelId<'_>) -> Result<(), Rejection> {
        let refuse = |why: &str| Err(self.refuse(&format!("does not allow the model `{}`: {why}", shown(model.sent()))));
        if let Some(region) = model.region().filter(|region| !self.may_be_in(region)) {
            return refuse(&format!("it is in `{}`", shown(region)));
        }
        match model.geography() {
            Geography::None => Ok(()),
            Geography::Known(place) => match (GEOGRAPHIES.get(place), self.beyond.get(place)) {
                (Some(_), Some(None)) => Ok(()),
                (Some((name, _)), Some(Some(region))) => refuse(&format!("`{name}.` may have it answered in {region}")),
                (None, _) | (_, None) => refuse("its name does not tell where it is answered"),
            },
            Geography::Unknown(name) if self.allow_unknown || self.names_geography(name) => Ok(()),
            Geography::Unknown(name) => refuse(&format!("where `{}.` may have it answered is not known", shown(name))),
            Geography::Hidden | Geography::Nameless if self.allow_unknown => Ok(()),
            Geography::Hidden | Geography::Nameless => refuse("its name does not tell where it is answered"),
        }
    }

    /// A region of this geography, in words, that is not allowed.
    fn beyond(&self, name: &str, regions: &[&str]) -> Option<String> {
        let denied = |name: &str| self.regions.deny.iter().any(|glob| glob.matches(name));
        if denied(name) {
            return Some("any of its regions".to_owned());
        }
        if let Some(region) = regions.iter().find(|region| denied(region)) {
            return Some(format!("`{region}`"));
        }
        if self.names_geography(name) {
            return None;
        }
        if regions.is_empty() {
            return Some("any region".to_owned());
        }
        regions.iter().find(|region| !self.may_be_in(region)).map(|region| format!("`{region}`"))
    }

    fn names_geography(&self, name: &str) -> bool {
        self.regions.allow.iter().any(|glob| glob.matches(name)) && !self.regions.deny.iter().any(|glob| glob.matches(name))
    }

    fn may_be_in(&self, region: &str) -> bool {
        pass(&self.regions, |glob| glob.matches(region), |glob| glob.matches(region))
    }

    fn refuse(&self, what: &str) -> Rejection {
        Rejection::new(Reason::Forbidden, format!("policy `{}` {what}", self.name))
    }
}

/// Whether nothing denies, and something allows or nothing need.
fn pass<T>(lists: &Lists<T>, denied: impl Fn(&T) -> bool, allowed: impl Fn(&T) -> bool) -> bool {
    !lists.deny.iter().any(denied) && (lists.allow.is_empty() || lists.allow.iter().any(allowed))
}

/// The operations of bedrock-runtime that judge text, and run no model.
fn is_guardrail(call: &Call) -> bool {
    let path = CanonicalPath::of(&call.path);
    call.service == Service::BEDROCK_RUNTIME && ["/guardrail/", "/guardrail-checks/"].iter().any(|prefix| path.as_str().starts_with(prefix))
}

/// What a caller sent, fit for a message: its beginning, without control characters.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
