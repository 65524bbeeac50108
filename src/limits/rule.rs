//! One rule, with what follows from it worked out beforehand.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::bucket::{Blocked, Terms};
use super::key::{Key, Part, Seed};
use super::measure::Counting;
use super::period::{Calendar, Period};
use super::subject::Caller;
use super::warned::Warned;
use crate::config::limits::{Bound, Count, Dimension, Matching, Rule, Tier, Wait};
use crate::domain::{Glob, Principal, Reason, Rejection, Subject, is_model};

/// A refusal that nobody can time says so long.
const SOON: Duration = Duration::from_secs(1);

/// A rule, ready to judge by.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) name: Arc<str>,
    pub(super) count: Count,
    pub(super) per: Box<[Dimension]>,
    of: Matching,
    bound: Bound,
    tiers: Box<[Tier]>,
    pub(super) counting: Counting,
    pub(super) warn_at: Box<[u8]>,
    pub(super) cut: bool,
    pub(super) shadow: bool,
    pub(super) unpriced: bool,
    pub(super) wait: Option<Wait>,
    /// The rule's part of its buckets' keys.
    pub(super) id: Key,
    /// The key of the bucket that its newcomers share when there is no room for more.
    pub(super) overflow: Key,
    /// Its periods, and its tiers'; none where it has none.
    calendar: Option<Calendar>,
    /// The period of its calendar that was looked at last.
    period: ArcSwap<Period>,
    pub(super) warned: Warned,
}

/// A call that a rule is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Covered<'a> {
    /// The first of the caller's groups that the rule is for.
    pub(super) group: Option<&'a str>,
}

impl Judge {
    /// A rule finds the buckets of its predecessor of the same name that counted the same in the same way.
    pub(super) fn new(rule: &Rule, seed: &Seed) -> Self {
        let kind = match rule.bound {
            Bound::Rate { .. } => "rate",
            Bound::Quota { .. } => "quota",
            Bound::Max(_) => "max",
        };
        let id = [&*rule.name, rule.count.label(), kind];
        // Named twice, a dimension's parts of the key would cancel each other out.
        let mut per = Vec::with_capacity(rule.per.len());
        for dimension in &rule.per {
            if !per.contains(dimension) {
                per.push(*dimension);
            }
        }
        let per = per.into_boxed_slice();
        Self {
            name: rule.name.as_str().into(),
            count: rule.count,
            per,
            of: Matching { models: rule.of.models.iter().map(folded).collect(), ..rule.of.clone() },
            bound: rule.bound,
            tiers: rule.tiers.as_slice().into(),
            counting: Counting::of(rule),
            warn_at: rule.warn_at.as_slice().into(),
            cut: rule.cut,
            shadow: rule.shadow,
            unpriced: rule.unpriced,
            wait: rule.wait.clone(),
            id: seed.part(Part::Rule, &id),
            overflow: seed.part(Part::Overflow, &id),
            calendar: match &rule.bound {
                Bound::Quota { calendar, .. } => Some(Calendar::new(calendar)),
                Bound::Rate { .. } | Bound::Max(_) => None,
            },
            period: ArcSwap::from_pointee(Period { starts: 0, ends: 0 }),
            warned: Warned::default(),
        }
    }

    /// Whose call it is, to the rule; none where the rule is not for it.
    #[inline]
    pub(super) fn covers<'a>(&self, caller: &Caller<'a>) -> Option<Covered<'a>> {
        let Matching { tenants, users, groups, models, services, routes } = &self.of;
        let (principal, call) = (caller.ask.principal, caller.ask.call);
        let any = |globs: &[Glob], name: &str| globs.is_empty() || globs.iter().any(|glob| glob.matches(name));
        let covers = any(tenants, &principal.tenant)
            && any(services, call.service.prefix)
            && any(routes, caller.ask.route)
            && (users.is_empty() || principal.user.as_deref().is_some_and(|user| any(users, user)))
            && (models.is_empty() || call.model.as_deref().is_some_and(|model| is_model(models, model)));
        if !covers {
            return None;
        }
        let group = principal.groups.iter().find(|group| any(groups, group)).map(|group| &**group);
        (groups.is_empty() || group.is_some()).then_some(Covered { group })
    }

    /// Whether it is for a subject, as far as that tells: what it does not tell may be anything.
    pub(super) fn is_for(&self, subject: &Subject) -> bool {
        let Matching { tenants, users, groups, models, .. } = &self.of;
        let may_be = |globs: &[Glob], name: &Option<Arc<str>>| {
            globs.is_empty() || name.as_deref().is_none_or(|name| globs.iter().any(|glob| glob.matches(name)))
        };
        may_be(tenants, &subject.tenant)
            && may_be(users, &subject.user)
            && may_be(groups, &subject.group)
            && (models.is_empty() || subject.model.as_deref().is_none_or(|model| is_model(models, model)))
    }

    /// The tier of a caller, by its place; none where they have the rule's own bound.
    pub(super) fn tier(&self, caller: &Caller<'_>) -> Option<u16> {
        self.tier_where(|tier| caller.ask.principal.groups.iter().any(|group| tier.group.matches(group)))
    }

    /// The tier of a subject: the one that its group is in.
    pub(super) fn tier_of(&self, subject: &Subject) -> Option<u16> {
        self.tier_where(|tier| subject.group.as_deref().is_some_and(|group| tier.group.matches(group)))
    }

    fn tier_where(&self, is_in: impl FnMut(&Tier) -> bool) -> Option<u16> {
        self.tiers.iter().position(is_in).and_then(|place| u16::try_from(place).ok())
    }

    /// What the bound of a tier, or the rule's own, and `more` that was granted come to at `now`, in seconds since 1970.
    #[inline]
    pub(super) fn terms(&self, tier: Option<u16>, more: u64, now: u64) -> Terms {
        match tier.and_then(|tier| self.tiers.get(usize::from(tier))).map_or(self.bound, |tier| tier.bound) {
            Bound::Rate { amount, period, burst } => Terms::Rate {
                amount: amount.saturating_add(more).max(1),
                period: u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1),
                capacity: burst.saturating_add(more).max(1),
            },
            Bound::Quota { limit, .. } => {
                let mut period = **self.period.load();
                if let Some(calendar) = self.calendar.as_ref().filter(|_| !period.holds(now)) {
                    period = Period::of(calendar, now);
                    self.period.store(Arc::new(period));
                }
                let ends_in = period.ends.saturating_sub(now).saturating_mul(1_000_000_000);
                Terms::Quota { limit: limit.saturating_add(more), starts: period.starts, ends: period.ends, ends_in }
            }
            Bound::Max(limit) => Terms::Max { limit: limit.saturating_add(more) },
        }
    }

    /// The user whose bucket a call takes from, where it is one user's: what was granted to a user is for no bucket that others share.
    pub(super) fn user<'a>(&self, principal: &'a Principal) -> Option<&'a str> {
        principal.user.as_deref().filter(|_| self.per.contains(&Dimension::User))
    }

    #[inline]
    pub(super) fn key(&self, caller: &Caller<'_>, group: Option<&str>) -> Key {
        self.per.iter().fold(self.id, |key, dimension| key ^ caller.part(*dimension, group))
    }

    /// What a caller is told.
    pub(super) fn refuse(&self, why: Blocked, terms: Terms, asked: u64) -> Rejection {
        let name = &self.name;
        match why {
            _ if self.counting.is_accounts() => self.refuse_for_account(why, terms, asked),
            Blocked::TooMuch => {
                let (asked, most) = (amount(self.count, asked), amount(self.count, terms.capacity()));
                let hint = if self.count == Count::Requests { "" } else { "; lower the most output tokens that it allows" };
                Rejection::new(
                    Reason::AsksTooMuch,
                    format!("the call may use {asked}, and limit `{name}` never gives more than {most}{hint}"),
                )
            }
            Blocked::Spent(nanos) => {
                let message = format!(
                    "budget `{name}` is spent: {}; it begins anew in {}",
                    self.wording(terms),
                    roughly(Duration::from_nanos(nanos))
                );
                Rejection::new(Reason::BudgetSpent, message)
            }
            Blocked::Held => {
                let message = format!("limit `{name}` reached: {}; calls under way hold what is left", self.wording(terms));
                Rejection::new(Reason::RateLimited, message).retry_after(SOON)
            }
            Blocked::Drains(nanos) => {
                let wait = Duration::from_nanos(nanos);
                let message = format!("limit `{name}` reached: {}; try again in {}", self.wording(terms), roughly(wait));
                Rejection::new(Reason::RateLimited, message).retry_after(wait)
            }
        }
    }

    /// What a caller is told whom no limit of their own keeps: Bedrock would say the same, and when it would not, nobody but the gateway can tell.
    fn refuse_for_account(&self, why: Blocked, terms: Terms, asked: u64) -> Rejection {
        let (name, wording) = (&self.name, self.wording(terms));
        let reached = format!("the account's quota at Bedrock is used up (`{name}`: {wording})");
        match why {
            Blocked::TooMuch => {
                let (asked, most) = (amount(self.count, asked), amount(self.count, terms.capacity()));
                let message = format!(
                    "the call may use {asked}, and the account's quota at Bedrock (`{name}`) is never more than {most}; lower the most output tokens that it allows"
                );
                Rejection::new(Reason::AsksTooMuch, message)
            }
            Blocked::Held => Rejection::new(Reason::RateLimited, format!("{reached}; calls under way hold what is left")).retry_after(SOON),
            Blocked::Spent(nanos) | Blocked::Drains(nanos) => {
                let wait = Duration::from_nanos(nanos);
                Rejection::new(Reason::RateLimited, format!("{reached}; try again in {}", roughly(wait))).retry_after(wait)
            }
        }
    }

    /// What a caller is told who has others before them.
    pub(super) fn refuse_behind(&self, terms: Terms) -> Rejection {
        if self.counting.is_accounts() {
            let message = format!("the account's quota at Bedrock is used up (`{}`); others wait before this call", self.name);
            return Rejection::new(Reason::RateLimited, message).retry_after(SOON);
        }
        let message = format!("limit `{}` reached: {}; others wait before this call", self.name, self.wording(terms));
        Rejection::new(Reason::RateLimited, message).retry_after(SOON)
    }

    /// What the client of a stream is told that ends.
    pub(super) fn cut_short(&self, terms: Terms) -> String {
        format!("the stream ends here, for `{}` leaves no more: {}", self.name, self.wording(terms))
    }

    /// `600 requests a minute per tenant`.
    pub(super) fn wording(&self, terms: Terms) -> String {
        let of = match (terms, self.bound) {
            (Terms::Rate { amount: units, period, .. }, _) => {
                format!("{} {}", amount(self.count, units), every(Duration::from_nanos(period)))
            }
            (Terms::Quota { limit, .. }, Bound::Quota { calendar, .. }) => {
                format!("{} a {}", amount(self.count, limit), calendar.every.label())
            }
            (Terms::Quota { limit, .. }, _) => amount(self.count, limit),
            (Terms::Max { limit }, _) => format!("{} at once", amount(self.count, limit)),
        };
        let per: Vec<&str> = self.per.iter().map(|dimension| dimension.label()).collect();
        if per.is_empty() { of } else { format!("{of} per {}", per.join(" and ")) }
    }
}

/// Models are compared in lower case.
fn folded(models: &Glob) -> Glob {
    Glob::new(models.to_string().to_ascii_lowercase())
}

/// `600 requests`, `$5`.
pub(super) fn amount(count: Count, units: u64) -> String {
    let whole = units / count.scale();
    match (count, whole) {
        (Count::Usd, _) => format!("${}", crate::domain::Usd::from_picos(units)),
        (Count::Requests | Count::Concurrency, 1) => "1 request".to_owned(),
        (Count::Requests | Count::Concurrency, _) => format!("{whole} requests"),
        (Count::Tokens, 1) => "1 token".to_owned(),
        (Count::Tokens, _) => format!("{whole} tokens"),
    }
}

fn every(period: Duration) -> Cow<'static, str> {
    match period.as_secs_f64() {
        1.0 => "a second".into(),
        60.0 => "a minute".into(),
        3600.0 => "an hour".into(),
        seconds => format!("in {seconds} s").into(),
    }
}

/// A wait as people read it; rounded up, so that nobody who keeps to it comes early.
fn roughly(wait: Duration) -> String {
    let millis = wait.as_nanos().div_ceil(1_000_000);
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..10_000 => {
            let tenths = millis.div_ceil(100);
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        10_000..180_000 => format!("{} s", millis.div_ceil(1_000)),
        180_000..10_800_000 => format!("{} min", millis.div_ceil(60_000)),
        10_800_000..259_200_000 => format!("{} h", millis.div_ceil(3_600_000)),
        _ => format!("{} days", millis.div_ceil(86_400_000)),
    }
}
