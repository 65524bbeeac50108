//! Whose bucket it is: of a call, what each dimension of a rule stands for.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use super::Ask;
use super::key::{Key, Part, Seed};
use crate::config::limits::Dimension;
use crate::domain::{Subject, client_network, model_name};

/// The parts of a caller's keys, each hashed at most once a request.
pub(super) struct Caller<'a> {
    pub(super) ask: &'a Ask<'a>,
    /// The model in its one spelling.
    model: OnceCell<Option<Cow<'a, str>>>,
    seed: &'a Seed,
    parts: [OnceCell<Key>; Dimension::ALL.len()],
    address: OnceCell<Box<str>>,
}

impl<'a> Caller<'a> {
    pub(super) const fn new(ask: &'a Ask<'a>, seed: &'a Seed) -> Self {
        Self { ask, model: OnceCell::new(), seed, parts: [const { OnceCell::new() }; Dimension::ALL.len()], address: OnceCell::new() }
    }

    /// The model in its one spelling, made once and only where a rule asks for it; none where the call names none.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.get_or_init(|| self.ask.call.model.as_deref().map(model_name)).as_deref()
    }

    /// The part of a key that stands for the caller in this dimension. `group`: the one that the rule is for.
    #[inline]
    pub(super) fn part(&self, dimension: Dimension, group: Option<&str>) -> Key {
        let value = || self.value(dimension, group);
        let find = || part(self.seed, dimension, &self.ask.principal.tenant, value());
        match self.parts.get(dimension as usize) {
            // Rules may be for different groups of one caller.
            Some(cell) if dimension != Dimension::Group => *cell.get_or_init(find),
            _ => find(),
        }
    }

    /// Empty where the caller has no such thing.
    fn value<'v>(&'v self, dimension: Dimension, group: Option<&'v str>) -> &'v str {
        let principal = self.ask.principal;
        match dimension {
            Dimension::Tenant => &principal.tenant,
            Dimension::User => principal.user.as_deref().unwrap_or_default(),
            Dimension::Group => group.unwrap_or_default(),
            Dimension::Model => self.model().unwrap_or_default(),
            Dimension::Key => principal.key_id.as_deref().unwrap_or_default(),
            Dimension::Address => self.address.get_or_init(|| self.ask.address.map(client_network).unwrap_or_default().into()),
        }
    }

    /// The same as names. What the principal has is shared.
    pub(super) fn subject(&self, per: &[Dimension], group: Option<&str>) -> Subject {
        let principal = self.ask.principal;
        let mut subject = Subject::default();
        for dimension in per {
            if is_within_tenant(*dimension) {
                subject.tenant = Some(Arc::clone(&principal.tenant));
            }
            let shared = match dimension {
                Dimension::Tenant => Some(&principal.tenant),
                Dimension::User => principal.user.as_ref(),
                Dimension::Key => principal.key_id.as_ref(),
                Dimension::Group | Dimension::Model | Dimension::Address => None,
            };
            *place(&mut subject, *dimension) = Some(shared.map_or_else(|| self.value(*dimension, group).into(), Arc::clone));
        }
        subject
    }
}

/// The key of a bucket under a rule whose part is `rule`. The model may be in any spelling.
pub(super) fn key(seed: &Seed, rule: Key, per: &[Dimension], subject: &Subject) -> Key {
    let mut subject = subject.clone();
    let tenant = subject.tenant.clone().unwrap_or_default();
    subject.model = subject.model.map(|model| model_name(&model).into());
    per.iter()
        .fold(rule, |key, dimension| key ^ part(seed, *dimension, &tenant, place(&mut subject, *dimension).as_deref().unwrap_or_default()))
}

/// Whether a subject has a value for each dimension of a rule, and for none besides, but the tenant of what is within one, and its group, by which tiers go.
pub(super) fn is_told(per: &[Dimension], subject: &Subject) -> bool {
    let mut subject = subject.clone();
    let tenant_too = per.iter().any(|dimension| is_within_tenant(*dimension));
    Dimension::ALL.into_iter().all(|dimension| {
        let is_asked = per.contains(&dimension) || dimension == Dimension::Tenant && tenant_too;
        let is_there = place(&mut subject, dimension).is_some();
        is_there == is_asked || is_there && dimension == Dimension::Group
    })
}

/// Whether names of this dimension mean something within a tenant only.
pub(super) const fn is_within_tenant(dimension: Dimension) -> bool {
    matches!(dimension, Dimension::User | Dimension::Group | Dimension::Key)
}

fn part(seed: &Seed, dimension: Dimension, tenant: &str, value: &str) -> Key {
    let part = match dimension {
        Dimension::Tenant => Part::Tenant,
        Dimension::User => Part::User,
        Dimension::Group => Part::Group,
        Dimension::Model => Part::Model,
        Dimension::Key => Part::KeyId,
        Dimension::Address => Part::Address,
    };
    if is_within_tenant(dimension) { seed.part(part, &[tenant, value]) } else { seed.part(part, &[value]) }
}

fn place(subject: &mut Subject, dimension: Dimension) -> &mut Option<Arc<str>> {
    match dimension {
        Dimension::Tenant => &mut subject.tenant,
        Dimension::User => &mut subject.user,
        Dimension::Group => &mut subject.group,
        Dimension::Model => &mut subject.model,
        Dimension::Key => &mut subject.key,
        Dimension::Address => &mut subject.address,
    }
}
