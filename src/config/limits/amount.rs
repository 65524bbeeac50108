//! Amounts: `600/minute`, `0.50/day`, `64`.

use std::time::Duration;

use super::super::reader::{Checked, NotDecimal, Value, decimal};
use super::{Count, Every};

/// The periods of rates.
pub(in super::super) const PERIODS: [(&str, Duration); 3] =
    [("second", Duration::from_secs(1)), ("minute", Duration::from_mins(1)), ("hour", Duration::from_hours(1))];

impl Count {
    /// The most of it that a rule may grant: no sum of its units of account overflows.
    const fn most(self) -> u64 {
        match self {
            Self::Requests => 1_000_000_000,
            Self::Tokens => 1_000_000_000_000,
            Self::Usd => 9_000_000,
            Self::Concurrency => 1_000_000,
        }
    }

    /// The same, in units of account.
    pub(super) const fn most_units(self) -> u64 {
        self.most() * self.scale()
    }

    const fn decimals(self) -> u8 {
        match self {
            Self::Requests | Self::Tokens | Self::Concurrency => 0,
            Self::Usd => 12,
        }
    }
}

/// What an amount may be of, where that is not known: so that what is wrong with its form is told all the same.
pub(super) fn assumed(value: &Value<'_>) -> Count {
    if value.written().is_some_and(|text| text.contains('.')) { Count::Usd } else { Count::Tokens }
}

/// `600/minute`: in units of account, and by what time.
pub(super) fn rate(value: &Value<'_>, count: Count) -> Checked<(u64, Duration)> {
    let text = value.written().unwrap_or_default();
    match text.split_once('/') {
        Some((_, unit)) if Every::named(unit).is_some() => {
            let form = Form { what: "rate", count, value };
            form.other(&format!("a {unit} is a period of the calendar: `quota: {text}`"))
        }
        Some(_) | None => rate_by_clock(value, count),
    }
}

/// The same, where there are no quotas.
pub(super) fn rate_by_clock(value: &Value<'_>, count: Count) -> Checked<(u64, Duration)> {
    let (text, form) = (value.written().unwrap_or_default(), Form { what: "rate", count, value });
    let example = if count == Count::Usd { "0.50/hour" } else { "600/minute" };
    let help = format!("{} by `second`, `minute` or `hour`, as in `{example}`", form.number());
    let Some((number, unit)) = text.split_once('/') else { return form.timeless(&text, &help, ["second", "minute", "hour"]) };
    let amount = form.units(number, &help)?;
    match PERIODS.into_iter().find(|(name, _)| *name == unit) {
        Some((_, period)) => Ok((amount, period)),
        None => form.other(&help),
    }
}

/// `500/month`.
pub(super) fn quota(value: &Value<'_>, count: Count) -> Checked<(u64, Every)> {
    let (text, form) = (value.written().unwrap_or_default(), Form { what: "quota", count, value });
    let example = if count == Count::Usd { "500/month" } else { "100000/day" };
    let help = format!("{} by `day`, `week` or `month`, as in `{example}`", form.number());
    let Some((number, unit)) = text.split_once('/') else { return form.timeless(&text, &help, Every::ALL.map(Every::label)) };
    let amount = form.units(number, &help);
    match Every::named(unit) {
        Some(every) => Ok((amount?, every)),
        None if PERIODS.iter().any(|(name, _)| *name == unit) => {
            form.other(&format!("quotas go by the calendar; a rate is `rate: {text}`"))
        }
        None => {
            amount?;
            form.other(&help)
        }
    }
}

/// The quota of a tier, which has the rule's period whether it says so or not.
pub(super) fn quota_of_tier(value: &Value<'_>, count: Count, every: Every) -> Checked<u64> {
    let (text, form) = (value.written().unwrap_or_default(), Form { what: "quota", count, value });
    let help = format!("{}, as in `500` or `500/{}`", form.number(), every.label());
    match text.split_once('/') {
        None => form.units(&text, &help),
        Some((number, unit)) if unit == every.label() => form.units(number, &help),
        Some((_, unit)) if Every::named(unit).is_some() => value.refuse_with(
            format!("{} is of another period than the rule's", value.quoted()),
            format!("a tier has its rule's period, `{}`; for another, make a rule with `groups`", every.label()),
        ),
        Some(_) => form.other(&help),
    }
}

/// A plain number, in units of account. `what` it is of.
pub(in super::super) fn quota_units(value: &Value<'_>, count: Count) -> Checked<u64> {
    let form = Form { what: "quota", count, value };
    form.units(&value.written().unwrap_or_default(), &format!("{}, as in `144000000`", form.number()))
}

/// The burst of a rate.
pub(super) fn burst(value: &Value<'_>, count: Count) -> Checked<u64> {
    let form = Form { what: "burst", count, value };
    form.units(&value.written().unwrap_or_default(), &format!("{}, as in `100`", form.number()))
}

/// So many calls at once.
pub(super) fn max(value: &Value<'_>) -> Checked<u64> {
    let form = Form { what: "maximum", count: Count::Concurrency, value };
    form.units(&value.written().unwrap_or_default(), "a whole number, as in `64`: so many at once")
}

/// What is read, and as what.
struct Form<'a> {
    what: &'static str,
    count: Count,
    value: &'a Value<'a>,
}

impl Form<'_> {
    const fn number(&self) -> &'static str {
        match self.count {
            Count::Requests | Count::Tokens | Count::Concurrency => "a whole number",
            Count::Usd => "a number of dollars",
        }
    }

    /// At least 1.
    fn units(&self, number: &str, help: &str) -> Checked<u64> {
        let (count, value) = (self.count, self.value);
        let beyond = || {
            let dollars = if count == Count::Usd { " dollars" } else { "" };
            value.refuse(format!("{} is beyond {}{dollars}", value.quoted(), count.most()))
        };
        match decimal(number, count.decimals()) {
            Ok(0) => {
                let help = match (count, self.what) {
                    (Count::Usd, _) | (_, "quota") => "calls are forbidden by `policy`",
                    (_, "rate") => "the least is `1/hour`",
                    _ => "the least is 1",
                };
                value.refuse_with(format!("a {} of 0 lets no call pass", self.what), help)
            }
            Ok(read) => {
                let units = if count == Count::Usd { Some(read) } else { read.checked_mul(count.scale()) };
                units.filter(|units| *units <= count.most_units()).map_or_else(beyond, Ok)
            }
            Err(NotDecimal::TooLarge) => beyond(),
            Err(NotDecimal::TooFine) if count == Count::Usd => {
                value.refuse(format!("{} has more than {} decimals", value.quoted(), count.decimals()))
            }
            Err(NotDecimal::Negative | NotDecimal::NotPlain | NotDecimal::TooFine) => self.other(help),
        }
    }

    /// Refuses what has another form.
    fn other<T>(&self, help: &str) -> Checked<T> {
        self.value.refuse_with(format!("{} is not a {}", self.value.quoted(), self.what), help)
    }

    /// Refuses a number without a time, if it is one.
    fn timeless<T>(&self, text: &str, help: &str, [one, two, three]: [&str; 3]) -> Checked<T> {
        match decimal(text, self.count.decimals()) {
            Ok(_) | Err(NotDecimal::TooLarge) => self.value.refuse_with(
                format!("{} is not a {}: in what time?", self.value.quoted(), self.what),
                format!("`{text}/{one}`, `{text}/{two}` or `{text}/{three}`"),
            ),
            Err(NotDecimal::Negative | NotDecimal::NotPlain | NotDecimal::TooFine) => self.other(help),
        }
    }
}
