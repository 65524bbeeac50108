//! What a request says of its own signature: in `Authorization`, or in the query where it is presigned.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use time::{Date, Month, PrimitiveDateTime, Time};

use super::super::{Presented, hex, presented};
use super::fault::Fault;
use crate::domain::Rejection;

/// The one algorithm that is taken.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The query parameter whose presence makes a request presigned; the one that its signature leaves out.
pub(super) const SIGNATURE: &str = "X-Amz-Signature";

/// A signature and its particulars, well-formed and not believed.
pub(in super::super) struct Sent<'r> {
    pub(super) key_id: Cow<'r, str>,
    /// `20260115/us-east-1/bedrock/aws4_request`
    pub(super) scope: Cow<'r, str>,
    /// With semicolons, as sent.
    pub(super) names: Cow<'r, str>,
    pub(super) signature: [u8; 32],
    /// `20260115T123456Z`
    pub(super) timestamp: Cow<'r, str>,
    /// The same, in Unix seconds.
    pub(super) signed_at: i64,
    /// How many seconds a presigned URL holds; none where the signature stands in a header.
    pub(super) expires: Option<u32>,
}

impl<'r> Sent<'r> {
    /// The signature of a request; `None` where it has none.
    ///
    /// # Errors
    /// Where there are two, or the one can't be read.
    pub(in super::super) fn of(request: &Presented<'r>) -> Result<Option<Self>, Rejection> {
        let header = presented::aws_authorization(request.headers)?;
        let presigned = request.query.contains(SIGNATURE) && pairs(request.query).any(|(name, _)| name == SIGNATURE);
        match (header, presigned) {
            (None, false) => Ok(None),
            (Some(_), true) => Err(Fault::Malformed("the request is signed twice: in `Authorization` and in the query").into()),
            (Some(value), false) => Ok(Some(Self::in_header(value, request)?)),
            (None, true) => Ok(Some(Self::in_query(request.query)?)),
        }
    }

    fn in_header(value: &'r str, request: &Presented<'r>) -> Result<Self, Fault> {
        let fields = value.strip_prefix(ALGORITHM).filter(|rest| rest.starts_with([' ', '\t']));
        let fields = fields.ok_or(Fault::Malformed("the only algorithm taken is `AWS4-HMAC-SHA256`"))?;
        let (mut credential, mut names, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) =
                field.trim().split_once('=').ok_or(Fault::Malformed("`Authorization` has a part that is no `name=value`"))?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut names,
                "Signature" => &mut signature,
                _ => return Err(Fault::Malformed("`Authorization` has a part other than `Credential`, `SignedHeaders` and `Signature`")),
            };
            if place.replace(value).is_some() {
                return Err(Fault::Malformed("`Authorization` says one thing twice"));
            }
        }
        let missing = Fault::Malformed("`Authorization` needs `Credential`, `SignedHeaders` and `Signature`");
        let (Some(credential), Some(names), Some(signature)) = (credential, names, signature) else { return Err(missing) };
        let mut dates = request.headers.get_all("x-amz-date").iter();
        let date = dates.next().and_then(|value| value.to_str().ok()).filter(|_| dates.next().is_none());
        let date = date.ok_or(Fault::Malformed("a signed request needs one `X-Amz-Date`"))?.trim();
        Self::read(credential.into(), names.into(), signature, date.into(), None)
    }

    fn in_query(query: &'r str) -> Result<Self, Fault> {
        let value = |wanted: &str| {
            let mut values = pairs(query).filter(|(name, _)| *name == wanted).map(|(_, value)| value);
            match (values.next(), values.next()) {
                (Some(value), None) => percent_decode_str(value).decode_utf8().ok(),
                _ => None,
            }
        };
        let missing = || {
            Fault::Malformed(
                "a presigned URL needs each of `X-Amz-Algorithm`, `X-Amz-Credential`, `X-Amz-Date`, `X-Amz-Expires`, `X-Amz-SignedHeaders` and \
                 `X-Amz-Signature` once",
            )
        };
        let part = |name| value(name).ok_or_else(missing);
        if part("X-Amz-Algorithm")? != ALGORITHM {
            return Err(Fault::Malformed("the only algorithm taken is `AWS4-HMAC-SHA256`"));
        }
        let expires = part("X-Amz-Expires")?;
        let expires: Option<u32> = expires.bytes().all(|byte| byte.is_ascii_digit()).then(|| expires.parse().ok()).flatten();
        let expires = expires.filter(|seconds| (1..=super::LONGEST).contains(seconds));
        let expires = expires.ok_or(Fault::Malformed("`X-Amz-Expires` is not 1 to 43200 seconds"))?;
        let signature = part(SIGNATURE)?;
        Self::read(part("X-Amz-Credential")?, part("X-Amz-SignedHeaders")?, &signature, part("X-Amz-Date")?, Some(expires))
    }

    fn read(
        credential: Cow<'r, str>,
        names: Cow<'r, str>,
        signature: &str,
        timestamp: Cow<'r, str>,
        expires: Option<u32>,
    ) -> Result<Self, Fault> {
        let signature = hex::sha256(signature).ok_or(Fault::Malformed("the signature is not 64 lower-case hexadecimal digits"))?;
        let signed_at = seconds(&timestamp).ok_or(Fault::Malformed("the signature's date is not as in `20260115T123456Z`"))?;
        // Without a slash, a scope that fits nothing.
        let (key_id, scope) = match credential {
            Cow::Borrowed(text) => text.split_once('/').map(|(id, scope)| (Cow::Borrowed(id), Cow::Borrowed(scope))),
            Cow::Owned(text) => text.split_once('/').map(|(id, scope)| (Cow::Owned(id.to_owned()), Cow::Owned(scope.to_owned()))),
        }
        .ok_or(Fault::Malformed("the credential is not `id/date/region/service/aws4_request`"))?;
        Ok(Self { key_id, scope, names, signature, timestamp, signed_at, expires })
    }
}

/// The names and values of a query, as sent.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The Unix time of `20260115T123456Z`.
fn seconds(timestamp: &str) -> Option<i64> {
    let bytes: &[u8; 16] = timestamp.as_bytes().try_into().ok()?;
    let number = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0_u16, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u16::from(byte - b'0')))
    };
    let small = |from, to| u8::try_from(number(from, to)?).ok();
    if bytes.get(8) != Some(&b'T') || bytes.get(15) != Some(&b'Z') {
        return None;
    }
    let date = Date::from_calendar_date(number(0, 4)?.into(), Month::try_from(small(4, 6)?).ok()?, small(6, 8)?).ok()?;
    let time = Time::from_hms(small(9, 11)?, small(11, 13)?, small(13, 15)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_read_to_the_second_and_in_one_form_only() {
        assert_eq!(seconds("20260115T123456Z"), Some(1_768_480_496));
        assert_eq!(seconds("20240229T000000Z"), Some(1_709_164_800));
        for wrong in
            ["", "20260115T123456", "20260115t123456z", "20230229T000000Z", "20260115T246060Z", "2026-115T123456Z", "２260115T123Z"]
        {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
