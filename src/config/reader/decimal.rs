//! Decimal numbers, exact: read from what is written, never through a float.

use std::borrow::Cow;

use super::document::Content;
use super::{Checked, Value};

/// Why a text is no decimal number that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum NotDecimal {
    Negative,
    /// No plain one: digits, perhaps with a dot among them.
    NotPlain,
    /// With more decimals than count.
    TooFine,
    TooLarge,
}

/// A number of at most so many decimals, in units of the last of them: `0.15` of six decimals is 150,000.
pub(in super::super) fn decimal(text: &str, places: u8) -> Result<u64, NotDecimal> {
    if text.starts_with('-') {
        return Err(NotDecimal::Negative);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(NotDecimal::NotPlain);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > usize::from(places) {
        return Err(NotDecimal::TooFine);
    }
    let padded = format!("0{fraction:0<width$}", width = usize::from(places));
    let sum = || whole.parse::<u64>().ok()?.checked_mul(10_u64.checked_pow(places.into())?)?.checked_add(padded.parse().ok()?);
    sum().ok_or(NotDecimal::TooLarge)
}

impl Value<'_> {
    /// A number or a text, as it is written.
    pub(in super::super) fn written(&self) -> Option<Cow<'_, str>> {
        match &self.node.content {
            Content::Text(text) | Content::Number(text) => Some(text.as_str().into()),
            Content::Whole(number) => Some(number.to_string().into()),
            Content::Nothing | Content::Bool(_) | Content::List(_) | Content::Map(_) | Content::Tagged => None,
        }
    }

    /// A number of at most so many decimals, not negative: in units of the last of them.
    pub(in super::super) fn decimal(&self, places: u8) -> Checked<u64> {
        let written = match &self.node.content {
            Content::Whole(number) => number.to_string(),
            Content::Number(text) => text.clone(),
            Content::Text(_) => {
                return self.refuse_with(format!("{} is not a number", self.quoted()), "a number without quotes, as in `0.15`");
            }
            Content::Nothing | Content::Bool(_) | Content::List(_) | Content::Map(_) | Content::Tagged => {
                return self.unexpected("a number");
            }
        };
        match decimal(&written, places) {
            Ok(number) => Ok(number),
            Err(NotDecimal::Negative) => self.refuse("must not be negative"),
            Err(NotDecimal::NotPlain) => {
                self.refuse_with(format!("{} is not a plain decimal number", self.quoted()), "write it out, as in `0.15`")
            }
            Err(NotDecimal::TooFine) => self.refuse(format!("{} has more than {places} decimals", self.quoted())),
            Err(NotDecimal::TooLarge) => self.refuse(format!("{} is too large", self.quoted())),
        }
    }
}
