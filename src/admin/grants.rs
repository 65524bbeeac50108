//! `/limits/grants`: what operators grant beyond the limits.

use std::time::{Duration, SystemTime};

use http::request::Parts;
use http::{Method, Response, StatusCode};
use pingora::protocols::http::ServerSession;
use serde::Deserialize;
use serde_json::{Value, json};

use super::change::{self, MAX_NAME, MAX_NOTE, Refused};
use super::query::Parameters;
use super::usage::moment;
use super::{Admin, Page, apart, in_json};
use crate::config::limits::Count;
use crate::domain::rfc3339;
use crate::record::KeptGrant;
use crate::state::{GrantBook, Wish};

/// No grant lasts longer: beyond the year 9999 no time can be told (RFC 3339).
const MAX_TIME: Duration = Duration::from_hours(36_525 * 24);

const WITHOUT_LEDGER: &str = "grants are kept in the ledger, and there is none: name a file for it in gateway.yaml, as in \
     `record: { ledger: /var/lib/tollgate/ledger.sqlite }`";

/// A grant as it is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(alias = "limit")]
    rule: String,
    tenant: String,
    user: Option<String>,
    more: Value,
    until: String,
    #[serde(default)]
    note: String,
}

/// Whether a request would change grants.
pub(super) fn is_change(request: &Parts) -> bool {
    let path = request.uri.path();
    let below = path.strip_prefix(Page::Grants.path());
    match request.method {
        Method::POST => below == Some(""),
        Method::DELETE => below.is_some_and(|rest| rest.starts_with('/')),
        _ => false,
    }
}

impl Admin {
    /// The grants, those of the last 30 days that have ended included.
    pub(super) async fn grants(&self, query: Option<&str>) -> Response<Vec<u8>> {
        let parameters = match Parameters::read(query, &["tenant"]) {
            Ok(parameters) => parameters,
            Err(message) => return in_json(StatusCode::BAD_REQUEST, &json!({ "message": message })),
        };
        let Some(book) = self.book.clone() else { return Refused(StatusCode::CONFLICT, WITHOUT_LEDGER.to_owned()).answer() };
        let (tenant, now) = (parameters.value("tenant").map(str::to_owned), self.clock.wall());
        apart(move || match book.all() {
            Ok(all) => {
                let of = all.iter().filter(|kept| tenant.as_deref().is_none_or(|tenant| *kept.grant.tenant == *tenant));
                in_json(StatusCode::OK, &json!({ "grants": of.map(|kept| told(&book, kept, now)).collect::<Vec<_>>() }))
            }
            Err(error) => Refused::from(error).answer(),
        })
        .await
    }

    /// Makes a grant, or takes one back: for what [`is_change`] says is one.
    pub(super) async fn change_grants(&self, session: &mut ServerSession) -> Result<Response<Vec<u8>>, Refused> {
        let by = self.asker(session)?;
        let Some(book) = self.book.clone() else { return Err(Refused(StatusCode::CONFLICT, WITHOUT_LEDGER.to_owned())) };
        let now = self.clock.wall();
        let request = session.req_header();
        if request.method == Method::DELETE {
            let below = request.uri.path().strip_prefix(Page::Grants.path()).unwrap_or_default();
            let id = below.strip_prefix('/').unwrap_or_default().to_owned();
            return Ok(apart(move || revoke(&book, &id, &by, now).unwrap_or_else(Refused::answer)).await);
        }
        let body = change::body(session, "what is granted").await?;
        Ok(apart(move || grant(&book, &body, &by, now).unwrap_or_else(Refused::answer)).await)
    }
}

fn grant(book: &GrantBook, body: &[u8], by: &str, now: SystemTime) -> Result<Response<Vec<u8>>, Refused> {
    let rules = book.rules();
    let wrong = |message| Refused(StatusCode::BAD_REQUEST, message);
    let wish = read(body, &rules.iter().map(|(rule, count)| (&**rule, *count)).collect::<Vec<_>>(), now).map_err(wrong)?;
    let rule = wish.rule.clone();
    let kept = book.grant(wish)?.ok_or_else(|| wrong(format!("there is no rule `{rule}` any more")))?;
    let told = told(book, &kept, now);
    let (grant, count) = (&kept.grant, &kept.count);
    let (id, rule, tenant, user) = (grant.id, &*grant.rule, &*grant.tenant, grant.user.as_deref());
    let (more, until) = (told.get("more").and_then(Value::as_str), rfc3339(grant.until));
    tracing::info!(id, rule, count, tenant, user, more, until, note = ?grant.note, by, "a grant was made");
    Ok(in_json(StatusCode::CREATED, &told))
}

fn revoke(book: &GrantBook, id: &str, by: &str, now: SystemTime) -> Result<Response<Vec<u8>>, Refused> {
    let unknown = || Refused(StatusCode::NOT_FOUND, format!("there is no grant `{id}`"));
    let number: u64 = id.parse().map_err(|_| unknown())?;
    let kept = book.revoke(number)?.ok_or_else(unknown)?;
    tracing::info!(id = number, rule = &*kept.grant.rule, tenant = &*kept.grant.tenant, by, "a grant was revoked");
    Ok(in_json(StatusCode::OK, &told(book, &kept, now)))
}

/// Reads what is asked for, under one of these rules.
fn read(body: &[u8], rules: &[(&str, Count)], now: SystemTime) -> Result<Wish, String> {
    let Asked { rule, tenant, user, more, until, note } =
        serde_json::from_slice(body).map_err(|error| format!("the body is no grant: {error}"))?;
    let Some((_, count)) = rules.iter().find(|(name, _)| *name == rule) else {
        let names = rules.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let there = if names.is_empty() { "no limits".to_owned() } else { names };
        return Err(format!("there is no rule `{rule}`; there are {there}"));
    };
    let user = user.filter(|user| !user.is_empty());
    if tenant.is_empty() {
        return Err("`tenant` is empty".to_owned());
    }
    for (what, text, most) in [("tenant", Some(&tenant), MAX_NAME), ("user", user.as_ref(), MAX_NAME), ("note", Some(&note), MAX_NOTE)] {
        if text.is_some_and(|text| text.len() > most) {
            return Err(format!("`{what}` is longer than {most} bytes"));
        }
    }
    let amount = match &more {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let more = units(&amount, *count).map_err(|why| format!("`more` is `{amount}`: {why}"))?;
    let until = later(&until, now).ok_or_else(|| format!("`until` is `{until}`: {MOMENTS}"))?;
    if until <= now {
        return Err(format!("`until` is over: it is {} now", rfc3339(now)));
    }
    if until.duration_since(now).is_ok_and(|time| time > MAX_TIME) {
        return Err("`until` is more than a hundred years away".to_owned());
    }
    Ok(Wish { rule, tenant, user, more, until, note })
}

const MOMENTS: &str =
    "it may be a day (`2026-12-01`, its beginning in UTC), a time (`2026-12-01T13:00:00Z`), or how long from now (`90m`, `24h`, `+7d`)";

/// A moment to come.
fn later(text: &str, now: SystemTime) -> Option<SystemTime> {
    let ahead = text.strip_prefix('+').unwrap_or(text);
    let unit = match ahead.as_bytes().last()? {
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        _ => return moment(text, now),
    };
    let digits = ahead.get(..ahead.len() - 1).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let ahead = Duration::from_secs(digits.parse::<u64>().ok()?.checked_mul(unit)?);
    now.checked_add(ahead)
}

/// Units of account of an amount in what a rule counts: a decimal number of dollars, or a whole number.
fn units(amount: &str, count: Count) -> Result<u64, String> {
    let decimals = if count == Count::Usd { count.scale().ilog10() } else { 0 };
    let help = if decimals == 0 { "a whole number above 0" } else { "a decimal number of dollars above 0, with 12 decimals at most" };
    let text = amount.trim().trim_start_matches('+');
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !fraction.is_none_or(is_number) {
        return Err(help.to_owned());
    }
    let fraction = fraction.unwrap_or_default().trim_end_matches('0');
    let places = u32::try_from(fraction.len()).unwrap_or(u32::MAX);
    let small = match decimals.checked_sub(places) {
        None => return Err(help.to_owned()),
        Some(_) if fraction.is_empty() => Some(0),
        Some(more) => fraction.parse::<u64>().ok().and_then(|digits| digits.checked_mul(10_u64.checked_pow(more)?)),
    };
    let units = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(count.scale())?.checked_add(small?));
    // What a column of the ledger holds.
    match units.filter(|units| i64::try_from(*units).is_ok()) {
        Some(0) => Err(help.to_owned()),
        Some(units) => Ok(units),
        None => Err(format!("the most is {}", amount_of(i64::MAX.cast_unsigned(), count.scale()))),
    }
}

/// Units of account as what a rule counts: exact, without trailing zeros.
fn amount_of(units: u64, scale: u64) -> String {
    let (whole, rest) = (units / scale.max(1), units % scale.max(1));
    if rest == 0 {
        return whole.to_string();
    }
    let places = usize::try_from(scale.ilog10()).unwrap_or(0);
    format!("{whole}.{}", format!("{rest:0places$}").trim_end_matches('0'))
}

fn told(book: &GrantBook, kept: &KeptGrant, now: SystemTime) -> Value {
    let KeptGrant { grant, count, revoked } = kept;
    let scale = Count::ALL.into_iter().find(|known| known.label() == count).map_or(1, Count::scale);
    let state = match revoked {
        Some(_) => "revoked",
        None if grant.until <= now => "expired",
        None if book.counts(kept) => "in force",
        // Its rule is gone, or counts something else.
        None => "without a rule",
    };
    json!({
        "id": grant.id, "rule": &*grant.rule, "count": count, "tenant": &*grant.tenant, "user": grant.user.as_deref(),
        "more": amount_of(grant.more, scale), "until": rfc3339(grant.until), "made": rfc3339(grant.made),
        "revoked": revoked.map(rfc3339), "note": grant.note, "state": state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn an_amount_is_exact_in_what_is_counted() {
        for (text, count, expected) in [
            ("100", Count::Usd, 100_000_000_000_000),
            ("+0.50", Count::Usd, 500_000_000_000),
            ("0.000000000001", Count::Usd, 1),
            ("1.0", Count::Usd, 1_000_000_000_000),
            ("7", Count::Tokens, 7_000),
            ("7.0", Count::Tokens, 7_000),
            ("3", Count::Requests, 3),
            ("3", Count::Concurrency, 3),
        ] {
            assert_eq!(units(text, count), Ok(expected), "{text}");
        }
        assert_eq!(amount_of(500_000_000_000, Count::Usd.scale()), "0.5");
        assert_eq!(amount_of(7_000, Count::Tokens.scale()), "7");
        assert_eq!(amount_of(3, 1), "3");
    }

    #[test]
    fn an_amount_that_is_none_is_refused() {
        for (text, count) in [
            ("", Count::Usd),
            ("0", Count::Usd),
            ("-1", Count::Usd),
            ("1e3", Count::Usd),
            ("1.", Count::Usd),
            (".5", Count::Usd),
            ("0.0000000000001", Count::Usd),
            ("1.5", Count::Tokens),
            ("true", Count::Requests),
            ("99999999999", Count::Usd),
            ("99999999999999999999", Count::Requests),
        ] {
            assert!(units(text, count).is_err(), "{text}");
        }
    }

    #[test]
    fn a_grant_ends_at_a_day_a_time_or_so_long_from_now() {
        for (text, expected) in [
            ("+7d", "1970-01-08T00:00:00Z"),
            ("24h", "1970-01-02T00:00:00Z"),
            ("90m", "1970-01-01T01:30:00Z"),
            ("2026-12-01", "2026-12-01T00:00:00Z"),
            ("2026-12-01T13:00:00+01:00", "2026-12-01T12:00:00Z"),
        ] {
            assert_eq!(later(text, NOW).map(rfc3339).as_deref(), Some(expected), "{text}");
        }
        for wrong in ["", "d", "+d", "-1d", "++1d", "tomorrow", "99999999999999999999d", "999999999999999999m", "2026-13-01"] {
            assert_eq!(later(wrong, NOW), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_grant_is_said() {
        let rules = [("budget", Count::Usd), ("rpm", Count::Requests)];
        let asked = |body: Value| read(body.to_string().as_bytes(), &rules, NOW);
        let good = json!({ "limit": "budget", "tenant": "acme", "user": "", "more": 100.5, "until": "+7d" });
        let wish = asked(good.clone()).unwrap();
        assert_eq!((wish.rule.as_str(), wish.user, wish.more), ("budget", None, 100_500_000_000_000));
        for (key, value, expected) in [
            ("limit", json!("bugdet"), "there is no rule `bugdet`; there are `budget`, `rpm`"),
            ("tenant", json!(""), "`tenant` is empty"),
            ("user", json!("x".repeat(1025)), "`user` is longer than 1024 bytes"),
            ("more", json!(-1), "`more` is `-1`: a decimal number of dollars"),
            ("until", json!("soon"), "`until` is `soon`: it may be a day"),
            ("until", json!("1970-01-01"), "`until` is over: it is 1970-01-01T00:00:00Z now"),
            ("until", json!("99999999999d"), "`until` is more than a hundred years away"),
            ("until", json!("9999-12-31T23:59:59-23:00"), "`until` is more than a hundred years away"),
            ("untli", json!("+7d"), "the body is no grant: unknown field `untli`"),
        ] {
            let mut asked_for = good.clone();
            asked_for[key] = value;
            let message = asked(asked_for).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
        assert!(read(b"rule=budget", &rules, NOW).unwrap_err().starts_with("the body is no grant"));
    }
}
