//! `tollgate usage`: who used what, and what it cost, from the ledger.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;

use super::period::{Moment, moment};
use super::table::{Align, aligned, csv};
use crate::admin::usage_json;
use crate::config::Config;
use crate::domain::TokenKind;
use crate::record::{By, UsageQuery, UsageRow, usage};

/// Where the ledger is.
#[derive(clap::Args)]
pub(super) struct Source {
    /// The ledger
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    ledger: Option<PathBuf>,
    /// The configuration that names the ledger
    #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
}

impl Source {
    pub(super) fn file(self) -> Result<PathBuf, String> {
        if let Some(file) = self.ledger {
            return Ok(file);
        }
        let config = Config::load(&self.config).map_err(|faults| faults.to_string())?;
        let ledger = config.record.ledger.map(|ledger| ledger.file);
        ledger.ok_or_else(|| format!("{}: there is no `record.ledger`", self.config.display()))
    }
}

#[derive(clap::Args)]
pub(super) struct Usage {
    #[command(flatten)]
    source: Source,
    /// Of this tenant only
    #[arg(long)]
    tenant: Option<String>,
    /// What rows are told apart by; tenant and model, if left out
    #[arg(long, value_name = "WHAT", value_parser = by, help = by_help())]
    by: Option<By>,
    /// From when on: days or hours ago, or a date or time (UTC); the hour that it lies in counts whole
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = moment)]
    since: Moment,
    /// Until when; now, if left out. A date is its beginning
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    /// For a person, with a line of totals
    #[default]
    Table,
    /// For a spreadsheet (RFC 4180)
    Csv,
    /// For a program; see docs/ledger.md
    Json,
}

fn by(word: &str) -> Result<By, String> {
    By::named(word).ok_or_else(|| format!("one of {}", By::ALL.map(By::label).join(", ")))
}

fn by_help() -> String {
    format!("What rows are told apart by: {}; tenant and model, if left out", By::ALL.map(By::label).join(", "))
}

impl Usage {
    /// What is printed, at the time `now`.
    pub(super) fn run(self, now: SystemTime) -> Result<String, String> {
        let since = self.since.from(now);
        // What is used within this second is in, too.
        let until = self.until.map_or(now + Duration::from_secs(1), |until| until.from(now));
        let query = UsageQuery { tenant: self.tenant, by: self.by, since, until };
        let rows = usage(&self.source.file()?, &query).map_err(|error| error.to_string())?;
        let total = total(&rows);
        Ok(match self.format {
            Format::Table => table(&rows, &total),
            Format::Csv => csv(&cells(&rows)),
            Format::Json => json(&query, &rows)?,
        })
    }
}

fn total(rows: &[UsageRow]) -> UsageRow {
    let mut total = UsageRow::default();
    for row in rows {
        total.add(row);
    }
    total
}

/// Calls, then tokens, then money.
fn figures(row: &UsageRow) -> Vec<String> {
    let calls = [row.calls, row.refused, row.failed, row.estimated_calls];
    let tokens = TokenKind::ALL.map(|kind| row.tokens.of(kind));
    let numbers = calls.into_iter().chain(tokens).chain([row.tokens.reasoning]).map(|number| number.to_string());
    numbers.chain([row.cost.to_string(), row.unpriced_calls.to_string()]).collect()
}

/// The words over [`figures`].
fn heads() -> Vec<String> {
    let tokens = TokenKind::ALL.map(TokenKind::label);
    let words = ["calls", "refused", "failed", "estimated_calls"].into_iter().chain(tokens);
    words.chain(["reasoning", "cost_usd", "unpriced_calls"]).map(str::to_owned).collect()
}

fn cells(rows: &[UsageRow]) -> Vec<Vec<String>> {
    let Some(first) = rows.first() else { return Vec::new() };
    let head = first.keys.iter().map(|(name, _)| (*name).to_owned()).chain(heads()).collect();
    let body = rows.iter().map(|row| row.keys.iter().map(|(_, value)| value.clone()).chain(figures(row)).collect());
    std::iter::once(head).chain(body).collect()
}

fn table(rows: &[UsageRow], total: &UsageRow) -> String {
    let Some(first) = rows.first() else { return "no usage in that time\n".to_owned() };
    let keys = first.keys.len();
    let mut cells = cells(rows);
    if let Some(head) = cells.first_mut() {
        for word in head {
            *word = word.replace('_', " ").to_uppercase();
        }
    }
    for cell in cells.iter_mut().flat_map(|row| row.iter_mut().take(keys)).filter(|cell| cell.is_empty()) {
        cell.push('-');
    }
    let names = std::iter::once("TOTAL".to_owned()).chain(std::iter::repeat_n(String::new(), keys.saturating_sub(1)));
    cells.push(names.chain(figures(total)).collect());
    let columns: Vec<Align> = (0..keys + heads().len()).map(|column| if column < keys { Align::Left } else { Align::Right }).collect();
    aligned(&columns, &cells)
}

/// As the admin listener says it, too.
fn json(query: &UsageQuery, rows: &[UsageRow]) -> Result<String, String> {
    serde_json::to_string_pretty(&usage_json(query, rows)).map(|text| text + "\n").map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Tokens, Usd};

    fn rows() -> Vec<UsageRow> {
        let row = |tenant: &str, calls, picos| UsageRow {
            keys: vec![("tenant", tenant.to_owned())],
            calls,
            tokens: Tokens { input: 1_000, output: 20, reasoning: 5, ..Tokens::default() },
            cost: Usd::from_picos(picos),
            unpriced_calls: 1,
            ..UsageRow::default()
        };
        vec![row("=cmd", 7, 12_500_000_000), row("", 3, 1)]
    }

    #[test]
    fn a_table_has_totals() {
        let rows = rows();
        let text = table(&rows, &total(&rows));
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["=cmd", "7", "0", "0", "0", "1000", "20", "0", "0", "0", "5", "0.0125", "1"]);
        assert_eq!(words[2], ["-", "3", "0", "0", "0", "1000", "20", "0", "0", "0", "5", "0.000000000001", "1"]);
        assert_eq!(words[3], ["TOTAL", "10", "0", "0", "0", "2000", "40", "0", "0", "0", "10", "0.012500000001", "2"]);
        let ends: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(ends.iter().all(|end| *end == ends[0]), "{text}");
        assert_eq!(table(&[], &UsageRow::default()), "no usage in that time\n");
    }

    #[test]
    fn csv_has_a_head_and_no_formula() {
        let text = csv(&cells(&rows()));
        let head = "tenant,calls,refused,failed,estimated_calls,input,output,cache_read,cache_write_5m,cache_write_1h,reasoning,cost_usd,unpriced_calls";
        assert_eq!(text.lines().next(), Some(head));
        assert_eq!(text.lines().nth(1), Some("\"'=cmd\",7,0,0,0,1000,20,0,0,0,5,0.0125,1"));
    }

    #[test]
    fn json_has_money_as_decimal_text_and_names_as_they_are() {
        let rows = rows();
        let query = UsageQuery { tenant: None, by: Some(By::Tenant), since: SystemTime::UNIX_EPOCH, until: SystemTime::UNIX_EPOCH };
        let text = json(&query, &rows).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["since"], "1970-01-01T00:00:00Z");
        assert_eq!(value["rows"][0]["tenant"], "=cmd");
        assert_eq!(value["rows"][0]["cost_usd"], "0.0125");
        assert_eq!(value["rows"][0]["tokens"]["reasoning"], 5);
        assert_eq!(value["total"]["tokens"]["input"], 2_000);
        assert_eq!(value["total"]["unpriced_calls"], 2);
    }
}
