//! May they?
//!
//! Every rule that is for a caller must allow their call. Invariants, each held by a test:
//! * no spelling of a denied model, operation or region passes: case, percent-encoding, ARNs and inference profiles are seen through, and an id
//!   that is written as none of Bedrock's is refused where models are ruled;
//! * what can't be told is not allowed, unless the rule says `allow_unknown`;
//! * a rule with `shadow` refuses nothing;
//! * a message names the rule and what the caller asked for, and nothing of anyone else.
//!
//! A call is judged thrice: by its head, so that the body of one that is forbidden is never read; once its body has told the model; and by the
//! region that routing picked.

mod judge;
mod model;
mod regions;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::judge::{Judge, Whom};
use self::model::ModelId;
use crate::config::policy::Rule;
use crate::domain::{Call, CanonicalPath, Principal, Rejection, fold_model};

/// The names by which a rule may deny a model, of its id in lower case: itself, the model within an ARN, behind a geography, and beneath a customised model.
pub fn names_to_deny(id: &str) -> impl Iterator<Item = &str> {
    ModelId::read(id, Some(id)).into_aliases()
}

/// The rules, ready to judge by. Immutable.
#[derive(Debug)]
pub struct Policy {
    rules: Box<[(Whom, Judge)]>,
}

impl Policy {
    /// Makes the rules ready. `regions` are those that some route leads to: a rule that allows none of them refuses before a limit is touched.
    #[must_use]
    pub fn build(rules: &[Rule], regions: &[&str]) -> Self {
        Self { rules: rules.iter().map(|rule| (Whom::new(rule), Judge::new(rule, regions))).collect() }
    }

    /// The rules that are for this caller, to judge one call by.
    #[must_use]
    pub fn rules_for(&self, principal: &Principal) -> Ruling<'_> {
        Ruling(self.rules.iter().filter(|(whom, _)| whom.includes(principal)).map(|(_, judge)| judge).collect())
    }

    /// Whether a call of `principal` may be answered by an upstream in `region`: once routing has picked it, and again for every other that a
    /// failover turns to. `call` is as that upstream is to get it: where a route gives the model another name, by that name.
    ///
    /// Rules in shadow are passed over: they have been heard when the call was admitted.
    ///
    /// # Errors
    /// [`Reason::Forbidden`](crate::domain::Reason::Forbidden); the message names the rule.
    pub fn allows_target(&self, principal: &Principal, call: &Call, region: &str) -> Result<(), Rejection> {
        self.rules_for(principal).target(call, region, &mut Vec::new())
    }

    /// The names of the rules in shadow.
    pub fn shadows(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rules.iter().map(|(_, judge)| judge).filter(|judge| judge.is_shadow()).map(Judge::name)
    }
}

/// The rules for one caller.
///
/// Each step adds to `shadowed` the names of rules in shadow that would have refused, each once.
#[derive(Debug)]
pub struct Ruling<'p>(Vec<&'p Judge>);

impl Ruling<'_> {
    /// Judges what the head alone tells: service, operation, and the model where the path names it. `method` is the HTTP method.
    ///
    /// # Errors
    /// [`Reason::Forbidden`](crate::domain::Reason::Forbidden); the message names the first rule that refuses, and what.
    pub fn head(&self, method: &str, call: &Call, shadowed: &mut Vec<Arc<str>>) -> Result<(), Rejection> {
        self.judge_head(method, call, call.model.as_deref(), shadowed)
    }

    /// The same, but for the model, where a route may give it another name.
    ///
    /// # Errors
    /// As [`Ruling::head`].
    pub fn head_but_model(&self, method: &str, call: &Call, shadowed: &mut Vec<Arc<str>>) -> Result<(), Rejection> {
        self.judge_head(method, call, None, shadowed)
    }

    fn judge_head(&self, method: &str, call: &Call, sent: Option<&str>, shadowed: &mut Vec<Arc<str>>) -> Result<(), Rejection> {
        if self.0.is_empty() {
            return Ok(());
        }
        let path = self.0.iter().any(|judge| judge.rules_operations()).then(|| CanonicalPath::of(&call.path));
        let sent = sent.filter(|_| self.rule_models());
        let folded = sent.and_then(fold_model);
        let model = sent.map(|sent| ModelId::read(sent, folded.as_deref()));
        self.ask(shadowed, |judge| {
            judge.service(call.service)?;
            if let Some(path) = &path {
                judge.operation(method, path, &call.path)?;
            }
            judge.upstreams()?;
            if let Some(model) = &model { judge.model(model) } else { Ok(()) }
        })
    }

    /// Judges a call of which the path named no model, once its body is read: by the model that the body named, or by its having named none.
    ///
    /// # Errors
    /// As [`Ruling::head`].
    pub fn body(&self, method: &str, call: &Call, shadowed: &mut Vec<Arc<str>>) -> Result<(), Rejection> {
        if !self.rule_models() {
            return Ok(());
        }
        match call.model.as_deref() {
            Some(sent) => {
                let folded = fold_model(sent);
                let model = ModelId::read(sent, folded.as_deref());
                self.ask(shadowed, |judge| judge.model(&model))
            }
            None => self.ask(shadowed, |judge| judge.no_model(method, call)),
        }
    }

    /// Judges the model once a route has given it another name: each may be what a rule speaks of. What Bedrock calls it must be allowed, or `alias` must,
    /// which is what the client calls it; neither may be denied. `call` has Bedrock's name.
    ///
    /// # Errors
    /// As [`Ruling::head`].
    pub fn renamed(&self, method: &str, call: &Call, alias: &str, shadowed: &mut Vec<Arc<str>>) -> Result<(), Rejection> {
        let Some(sent) = call.model.as_deref().filter(|_| self.rule_models()) else { return self.body(method, call, shadowed) };
        let folded = fold_model(sent);
        let alias = alias.to_ascii_lowercase();
        let model = ModelId::read(sent, folded.as_deref()).or_alias(&alias);
        self.ask(shadowed, |judge| judge.model(&model))
    }

    /// Whether there is no rule for this caller.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Judges the region that routing picked, and the model by its name there: see [`Policy::allows_target`].
    ///
    /// # Errors
    /// As [`Ruling::head`].
    pub fn target(&self, call: &Call, region: &str, shadowed: &mut Vec<Arc<str>>) -> Result<(), Rejection> {
        if !self.0.iter().any(|judge| judge.rules_regions()) {
            return Ok(());
        }
        let folded = call.model.as_deref().and_then(fold_model);
        let model = call.model.as_deref().map(|sent| ModelId::read(sent, folded.as_deref()));
        self.ask(shadowed, |judge| judge.target(region, model.as_ref()))
    }

    fn rule_models(&self) -> bool {
        self.0.iter().any(|judge| judge.rules_models() || judge.rules_regions())
    }

    fn ask(&self, shadowed: &mut Vec<Arc<str>>, question: impl Fn(&Judge) -> Result<(), Rejection>) -> Result<(), Rejection> {
        for judge in &self.0 {
            let Err(refusal) = question(judge) else { continue };
            if !judge.is_shadow() {
                return Err(refusal);
            }
            if !shadowed.contains(judge.name()) {
                tracing::debug!(rule = %judge.name(), message = %refusal.message, "a rule in shadow would have refused");
                shadowed.push(Arc::clone(judge.name()));
            }
        }
        Ok(())
    }
}
