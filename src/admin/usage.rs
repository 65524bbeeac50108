//! `/usage`: what the ledger says.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use super::query::Parameters;
use crate::domain::{Tokens, rfc3339};
use crate::record::{By, LedgerError, UsageQuery, UsageRow, usage};

/// What is asked for, where nothing is said of when.
const USUAL: Duration = Duration::from_hours(24);

/// Reads `tenant`, `by`, `since` and `until`. Without the times: the last 24 hours up to `now`.
///
/// # Errors
/// For the operator, which parameter is wrong and what it may be.
pub(super) fn read(query: Option<&str>, now: SystemTime) -> Result<UsageQuery, String> {
    let parameters = Parameters::read(query, &["tenant", "by", "since", "until"])?;
    let by = match parameters.value("by") {
        None => None,
        Some(word) => {
            let words = By::ALL.map(|by| format!("`{}`", by.label())).join(", ");
            Some(By::named(word).ok_or_else(|| format!("`by` is `{word}`: it may be {words}; without it, tenant and model"))?)
        }
    };
    let moment = |name: &str| {
        let read = |text| moment(text, now).ok_or_else(|| format!("`{name}` is `{text}`: {MOMENTS}"));
        parameters.value(name).map(read).transpose()
    };
    let until = moment("until")?.unwrap_or(now);
    let since = moment("since")?.unwrap_or_else(|| until.checked_sub(USUAL).unwrap_or(SystemTime::UNIX_EPOCH));
    if since > until {
        return Err("`since` is after `until`".to_owned());
    }
    Ok(UsageQuery { tenant: parameters.value("tenant").map(str::to_owned), by, since, until })
}

const MOMENTS: &str = "it may be a day (`2026-11-22`), a time (`2026-11-22T13:00:00Z`), or how long ago (`90m`, `24h`, `7d`)";

/// A moment as people write it: a day, a time (RFC 3339), or how long before `now`.
#[must_use]
pub fn moment(text: &str, now: SystemTime) -> Option<SystemTime> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        _ => {
            let day = Date::parse(text, format_description!("[year]-[month]-[day]")).ok().map(|day| day.midnight().assume_utc());
            return day.or_else(|| OffsetDateTime::parse(text, &Rfc3339).ok()).map(SystemTime::from);
        }
    };
    let digits = text.get(..text.len() - 1).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    now.checked_sub(Duration::from_secs(digits.parse::<u64>().ok()?.checked_mul(unit)?)).filter(|then| *then >= SystemTime::UNIX_EPOCH)
}

/// Asks the ledger. It waits for a disk.
///
/// # Errors
/// Where it can't be read.
pub(super) fn ask(file: &Path, query: &UsageQuery) -> Result<Value, LedgerError> {
    usage(file, query).map(|rows| usage_json(query, &rows))
}

/// What the ledger answered to `query`: the span of whole hours, each row, and their total. Money is a decimal text, exact: a number would be read as a
/// float. `/usage` and `tollgate usage --format json` both say it so.
#[must_use]
pub fn usage_json(query: &UsageQuery, rows: &[UsageRow]) -> Value {
    let mut total = UsageRow::default();
    for row in rows {
        total.add(row);
    }
    let rows: Vec<Value> = rows.iter().map(|row| row_json(row).into()).collect();
    json!({ "since": rfc3339(query.since), "until": rfc3339(query.until), "rows": rows, "total": row_json(&total) })
}

fn row_json(row: &UsageRow) -> Map<String, Value> {
    let UsageRow { keys, calls, refused, failed, estimated_calls, tokens, cost, unpriced_calls } = row;
    let figures = [
        ("calls", json!(calls)),
        ("refused", json!(refused)),
        ("failed", json!(failed)),
        ("estimated_calls", json!(estimated_calls)),
        ("tokens", tokens_json(*tokens)),
        ("cost_usd", cost.to_string().into()),
        ("unpriced_calls", json!(unpriced_calls)),
    ];
    let keys = keys.iter().map(|(key, value)| (*key, Value::from(value.as_str())));
    keys.chain(figures).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Tokens, by kind.
pub(super) fn tokens_json(tokens: Tokens) -> Value {
    let Tokens { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning } = tokens;
    json!({
        "input": input, "output": output, "cache_read": cache_read,
        "cache_write_5m": cache_write_5m, "cache_write_1h": cache_write_1h, "reasoning": reasoning,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Usd;

    /// 2026-11-22T13:20:00Z
    const NOW: Duration = Duration::from_mins(29_922_560);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + NOW
    }

    #[test]
    fn a_moment_is_a_day_a_time_or_how_long_ago() {
        assert_eq!(rfc3339(now()), "2026-11-22T13:20:00Z");
        for (text, expected) in [
            ("2026-11-22", "2026-11-22T00:00:00Z"),
            ("2026-11-22T13:00:00Z", "2026-11-22T13:00:00Z"),
            ("2026-11-22T13:00:00.5+01:00", "2026-11-22T12:00:00Z"),
            ("90m", "2026-11-22T11:50:00Z"),
            ("24h", "2026-11-21T13:20:00Z"),
            ("7d", "2026-11-15T13:20:00Z"),
            ("30s", "2026-11-22T13:19:30Z"),
        ] {
            assert_eq!(moment(text, now()).map(rfc3339).as_deref(), Some(expected), "{text}");
        }
        for wrong in
            ["", "d", "-1d", "1.5h", "yesterday", "2026-13-01", "99999999999999999999d", "99999999d", "2026-11-22T25:00:00Z", "+5m", "5ä"]
        {
            assert_eq!(moment(wrong, now()), None, "{wrong}");
        }
    }

    #[test]
    fn without_parameters_it_is_the_last_day_by_tenant_and_model() {
        let query = read(None, now()).unwrap();
        assert_eq!(query, UsageQuery { tenant: None, by: None, since: now() - USUAL, until: now() });
        let query = read(Some("until=2026-11-20&by=day&tenant=a%26b"), now()).unwrap();
        assert_eq!((query.tenant.as_deref(), query.by), (Some("a&b"), Some(By::Day)));
        assert_eq!((rfc3339(query.since), rfc3339(query.until)), ("2026-11-19T00:00:00Z".to_owned(), "2026-11-20T00:00:00Z".to_owned()));
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (query, expected) in [
            ("by=team", "`by` is `team`: it may be `tenant`, `user`, `model`"),
            ("since=yesterday", "`since` is `yesterday`: it may be a day"),
            ("until=x", "`until` is `x`"),
            ("since=1h&until=2h", "`since` is after `until`"),
            ("user=a", "`user` is no parameter of this page"),
        ] {
            let message = read(Some(query), now()).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn money_is_exact_and_rows_are_added_up() {
        let row = |tenant: &str, picos| UsageRow {
            keys: vec![("tenant", tenant.to_owned())],
            calls: 2,
            tokens: Tokens { input: 3, ..Tokens::default() },
            cost: Usd::from_picos(picos),
            ..UsageRow::default()
        };
        let query = UsageQuery { tenant: None, by: Some(By::Tenant), since: now() - USUAL, until: now() };
        let told = usage_json(&query, &[row("a", 1), row("b", Usd::PICOS)]);
        assert_eq!(told["rows"][0]["tenant"], "a");
        assert_eq!(told["rows"][0]["cost_usd"], "0.000000000001");
        assert_eq!(told["total"]["cost_usd"], "1.000000000001");
        assert_eq!((&told["total"]["calls"], &told["total"]["tokens"]["input"]), (&json!(4), &json!(6)));
        assert_eq!((&told["since"], &told["until"]), (&json!("2026-11-21T13:20:00Z"), &json!("2026-11-22T13:20:00Z")));
    }
}
