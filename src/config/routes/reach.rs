//! Routes that no call ever gets to, since an earlier one takes all that they would.

use super::super::reader::{Checked, Value};
use super::{Conditions, Operation, Route};
use crate::domain::Glob;

/// Refuses what can be told never to be reached.
///
/// What is told is always right. Not everything is told: a route that only several earlier ones take together is not.
pub(super) fn check(routes: &[(Value<'_>, Route)]) -> Checked<()> {
    let mut reachable = Ok(());
    for (at, (value, route)) in routes.iter().enumerate() {
        let Some((earlier, taking)) = routes.iter().take(at).find(|(_, earlier)| takes(earlier, route)) else { continue };
        reachable = if taking.stages.is_empty() && taking.when == Conditions::default() {
            let help = "the first route that matches is taken: give that one a condition, or move it to the end";
            value.refuse_with(format!("can never be reached: `{}` takes every call", earlier.path()), help)
        } else {
            let help = "the first route that matches is taken: move this one up, or give it another condition";
            value.refuse_with(format!("can never be reached: `{}` takes every call that it is for", earlier.path()), help)
        };
    }
    reachable
}

/// Whether `earlier` matches every call that `later` does.
fn takes(earlier: &Route, later: &Route) -> bool {
    let stages = earlier.stages.is_empty()
        || !later.stages.is_empty() && later.stages.iter().all(|stage| earlier.stages.iter().any(|other| other.name == stage.name));
    let (one, other) = (&earlier.when, &later.when);
    stages
        && covers(&one.hosts, &other.hosts, Case::Any)
        && one
            .headers
            .iter()
            .all(|(name, patterns)| other.headers.iter().any(|(wanted, narrower)| wanted == name && covers(patterns, narrower, Case::Same)))
        && covers(&one.services, &other.services, Case::Same)
        && operations(&one.operations, &other.operations)
        && covers(&one.models, &other.models, Case::Any)
        && covers(&one.tenants, &other.tenants, Case::Same)
        && covers(&one.users, &other.users, Case::Same)
        && covers(&one.groups, &other.groups, Case::Same)
}

/// Whether letters in another case are the same.
#[derive(Clone, Copy)]
enum Case {
    Any,
    Same,
}

/// Whether whatever one of `narrower` matches, one of `wide` does too. No pattern at all: everything.
fn covers(wide: &[Glob], narrower: &[Glob], case: Case) -> bool {
    wide.is_empty() || !narrower.is_empty() && narrower.iter().all(|narrow| wide.iter().any(|wide| includes(wide, narrow, case)))
}

/// A star of the narrower pattern can only be matched by a star of the wide one, which then takes any run that stands for it.
fn includes(wide: &Glob, narrow: &Glob, case: Case) -> bool {
    match case {
        Case::Same => wide.matches(&narrow.to_string()),
        Case::Any => Glob::new(wide.to_string().to_lowercase()).matches(&narrow.to_string().to_lowercase()),
    }
}

fn operations(wide: &[Operation], narrower: &[Operation]) -> bool {
    let one = |wide: &Operation, narrow: &Operation| {
        includes(&wide.method, &narrow.method, Case::Any) && includes(&wide.path, &narrow.path, Case::Any)
    };
    wide.is_empty() || !narrower.is_empty() && narrower.iter().all(|narrow| wide.iter().any(|wide| one(wide, narrow)))
}
