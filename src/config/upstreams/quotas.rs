//! `quotas` of an upstream: what AWS grants its account, so that what Bedrock would throttle is never sent.

use std::time::Duration;

use super::super::limits::{
    Account, Bound, Calendar, Count, Dimension, Every, Measure, Rule, Wait, Zone, by_name, queueing, quota_units, within,
};
use super::super::reader::{Checked, FromValue, Map, Numeral, Value};
use crate::domain::Glob;

/// What an account may use of some models in one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The models that it is for, in any spelling: the first quota that has one of them counts.
    pub models: Vec<Glob>,
    /// What all of them count as: a model's id, or that of an inference profile. None: each as itself, with a quota of its own.
    pub counts_as: Option<String>,
    /// Tokens a minute, in units of account.
    pub tpm: Option<u64>,
    /// Requests a minute.
    pub rpm: Option<u64>,
    /// Tokens in a day of UTC, in units of account.
    pub tpd: Option<u64>,
    /// How often output counts, before what is known of Bedrock's models.
    pub burndown: Vec<(Glob, u32)>,
    /// Output tokens that Bedrock reserves for a call that does not say how many it allows. Default: the most that the model gives, as far as that is known.
    pub reserve: Option<u64>,
    /// What is left unused of tokens and requests, in percent: 0 to 50. Default 2.
    pub headroom: u8,
    /// Whether calls wait where no other target is left; none: they are refused at once.
    pub wait: Option<Wait>,
}

/// Reads `quotas`.
pub(super) fn read(map: &mut Map<'_>) -> Checked<Vec<Quota>> {
    let Some(value) = map.value("quotas") else { return Ok(Vec::new()) };
    let all: Vec<Checked<Quota>> = value.items()?.iter().map(Quota::from_value).collect();
    all.into_iter().collect()
}

impl FromValue for Quota {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let models = map.required_by("models", "[\"*claude-sonnet-4*\"]", |value| match value.distinct("model") {
            Ok(models) if models.is_empty() => value.refuse_with("is for no model", "name one, or remove the quota"),
            models => models,
        });
        let counts_as = map.value("counts_as").map(|value| model(&value)).transpose();
        let mut number = |key, count| map.value(key).map(|value| granted(&value, count)).transpose();
        let tpm = number("tpm", Count::Tokens);
        let rpm = number("rpm", Count::Requests);
        let tpd = number("tpd", Count::Tokens);
        let burndown = map.value("burndown").map_or(Ok(Vec::new()), |value| by_name(&value, "model", &(1..=100)));
        let reserve = map.value("reserve").map(|value| within(&value, 1..=1_000_000)).transpose();
        let headroom = map.value("headroom").map_or(Ok(Self::HEADROOM), |value| headroom(&value));
        let wait = queueing(&mut map);
        let bounded = match (&tpm, &rpm, &tpd) {
            (Ok(None), Ok(None), Ok(None)) => map.missing("tpm", "add `tpm: 400000`; or `rpm`, or `tpd`"),
            _ => Ok(()),
        };
        map.finish()?;
        bounded?;
        Ok(Self {
            models: models?,
            counts_as: counts_as?,
            tpm: tpm?,
            rpm: rpm?,
            tpd: tpd?,
            burndown: burndown?,
            reserve: reserve?,
            headroom: headroom?,
            wait: wait?,
        })
    }
}

impl Quota {
    /// The headroom where nothing is said, in percent.
    pub const HEADROOM: u8 = 2;

    /// The quota as limits, whose names begin with `name`: of requests, tokens and a day's tokens, as far as they are bounded. A quota that is shared by all that
    /// it is for has one bucket, else every model has its own.
    #[must_use]
    pub fn rules(&self, name: &str) -> Vec<Rule> {
        let account = Account { model: self.counts_as.clone(), reserve: self.reserve };
        let per = if self.counts_as.is_some() { Vec::new() } else { vec![Dimension::Model] };
        let rule = |name: String, count, bound| Rule {
            per: per.clone(),
            measure: if count == Count::Tokens { Measure::Bedrock { burndown: self.burndown.clone() } } else { Measure::default() },
            account: Some(account.clone()),
            ..Rule::new(name, count, bound)
        };
        let rate = |amount: u64| {
            let amount = (amount - (amount * u64::from(self.headroom)).div_ceil(100)).max(1);
            Bound::Rate { amount, period: Duration::from_mins(1), burst: amount }
        };
        let waits = |rule| Rule { wait: self.wait.clone(), ..rule };
        let day = Calendar { every: Every::Day, starts_on: 1, zone: Zone::UTC };
        let requests = self.rpm.map(|rpm| waits(rule(format!("{name} requests"), Count::Requests, rate(rpm))));
        let tokens = self.tpm.map(|tpm| waits(rule(format!("{name} tokens"), Count::Tokens, rate(tpm))));
        let of_a_day = self.tpd.map(|limit| rule(format!("{name} tokens a day"), Count::Tokens, Bound::Quota { limit, calendar: day }));
        requests.into_iter().chain(tokens).chain(of_a_day).collect()
    }
}

/// What Service Quotas shows: a plain number.
fn granted(value: &Value<'_>, count: Count) -> Checked<u64> {
    match value.written() {
        Some(text) if text.contains('/') => value.refuse_with(
            format!("{} is not a plain number", value.quoted()),
            "`tpm` and `rpm` are by the minute, `tpd` is by the day, as Service Quotas shows them",
        ),
        _ => quota_units(value, count),
    }
}

/// The id of a model or a profile: what a quota of AWS's is named after.
fn model(value: &Value<'_>) -> Checked<String> {
    let text = value.text()?;
    if text.is_empty() || text.contains(['*', ' ']) {
        return value
            .refuse_with(format!("{} is not the id of one model", value.quoted()), "as in `us.anthropic.claude-sonnet-4-5-20250929-v1:0`");
    }
    Ok(text.to_owned())
}

fn headroom(value: &Value<'_>) -> Checked<u8> {
    match value.numeral() {
        Numeral::WithUnit(percent @ 0..=50, "%") => Ok(u8::try_from(percent).unwrap_or(50)),
        Numeral::Bare(percent @ 0..=50) => {
            value.refuse_with(format!("{} is not a share of a quota", value.quoted()), format!("`{percent}%`"))
        }
        Numeral::Bare(_) | Numeral::WithUnit(..) | Numeral::Other => {
            value.refuse_with(format!("{} is not a share of a quota", value.quoted()), "`0%` to `50%`, without decimals")
        }
    }
}
