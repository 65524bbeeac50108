//! What of `to`, `failover` and `mirror` does not go together.

use super::super::reader::{Checked, Value};
use super::places::{Failover, Places};

/// Where they stand in the file.
pub(super) struct Blame<'a> {
    pub(super) to: Option<Value<'a>>,
    pub(super) failover: Option<Value<'a>>,
    pub(super) mirror: Option<Value<'a>>,
}

impl Blame<'_> {
    /// Checks the places of a route at one of its stages.
    pub(super) fn check(&self, places: &Places) -> Checked<()> {
        let names = self.names(places);
        let weights = match &self.to {
            Some(_) if places.to.iter().any(|target| target.promote.is_some()) => self.promoted(places),
            Some(to) if places.to.iter().all(|target| target.weight == 0) => {
                to.refuse_with("all weights are 0, so no target is ever drawn", "give one of them more")
            }
            Some(_) | None => Ok(()),
        };
        let mirror = match (&self.mirror, &places.mirror) {
            (Some(value), Some(mirror)) if mirror.place.model.is_none() && places.to.iter().any(|target| target.place.model.is_some()) => {
                value
                    .refuse_with("targets of the route give the model a name, and this does not", "add `model: …`: what it is called there")
            }
            (Some(_) | None, _) => Ok(()),
        };
        names.and(weights).and(self.tried(places)).and(mirror)
    }

    /// A canary is compared with the other targets of its route.
    fn promoted(&self, places: &Places) -> Checked<()> {
        let items = items(self.to.as_ref());
        let mut promoted = items.iter().zip(&places.to).filter(|(_, target)| target.promote.is_some()).map(|(item, _)| item);
        match (promoted.next(), promoted.next()) {
            (_, Some(second)) => second.refuse_with(
                "has `promote`, and another target has it too",
                "one canary a route: promote one after the other, or on routes of their own",
            ),
            (Some(only), None) if places.to.iter().all(|target| target.weight == 0) => only.refuse_with(
                "has `promote`, and nothing to be compared with",
                "add a target without `promote` and with a weight, which is its baseline",
            ),
            _ => Ok(()),
        }
    }

    /// Names tell targets apart, in logs and for testers.
    fn names(&self, places: &Places) -> Checked<()> {
        let to = items(self.to.as_ref()).into_iter().zip(places.to.iter().map(|target| Some(&target.place)));
        let failover = items(self.failover.as_ref()).into_iter().zip(places.failover.iter().map(|failover| match failover {
            // Another's name, or an upstream's: it is tried under that, whichever target failed.
            Failover::Word(_) => None,
            Failover::Place(place) => Some(place),
        }));
        let mirror = self.mirror.clone().into_iter().zip(places.mirror.iter().map(|mirror| Some(&mirror.place)));
        let mut seen: Vec<(&str, Value<'_>)> = Vec::new();
        let mut unique = Ok(());
        for (value, place) in to.chain(failover).chain(mirror) {
            let Some(place) = place else { continue };
            match seen.iter().find(|(name, _)| *name == &*place.name) {
                Some((name, owner)) => {
                    let message = format!("`{name}` is the name of `{}` too", owner.path());
                    unique = value.refuse_with(message, "give it a name of its own, as in `name: canary`");
                }
                None => seen.push((&place.name, value)),
            }
        }
        unique
    }

    /// Each place to fail over to must be another than where the call was already.
    fn tried(&self, places: &Places) -> Checked<()> {
        let tried: Vec<usize> = (0..places.to.len()).flat_map(|chosen| places.after(chosen)).map(|(at, _)| at).collect();
        let mut all = Ok(());
        for (at, value) in items(self.failover.as_ref()).iter().enumerate() {
            if !tried.contains(&at) {
                all = value.refuse_with(
                    "is never tried: the call has been there by then, for the same model",
                    "remove it, or give it another `upstream` or `model`",
                );
            }
        }
        all
    }
}

fn items<'a>(value: Option<&Value<'a>>) -> Vec<Value<'a>> {
    // Lists, or they would not have been read.
    value.and_then(|value| value.items().ok()).unwrap_or_default()
}
