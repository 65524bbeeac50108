//! `tollgate prices`: what usage is priced at.

use std::path::PathBuf;

use super::keys::Said;
use super::{load, table};
use crate::config::prices::Prices as Config;
use crate::domain::{Tier, TokenKind, Usd};
use crate::prices::{Line, Origin, Prices};

#[derive(clap::Args)]
pub(super) struct Asked {
    /// The configuration whose prices are asked first; without it, only those that the gateway ships
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Show what prices this model, as a client names it
    #[arg(long)]
    model: Option<String>,
    /// The region that the call is sent to
    #[arg(long, default_value = "us-east-1", requires = "model")]
    region: String,
    /// The service tier of the call: default, priority, flex or reserved
    #[arg(long, default_value = "default", requires = "model", value_parser = tier)]
    tier: Tier,
}

impl Asked {
    /// The table, or the entries that price a model.
    pub(super) fn run(self) -> Result<Said, String> {
        let config = self.config.map(|file| load(&file)).transpose()?.map_or_else(Config::default, |config| config.prices);
        let prices = Prices::build(&config).map_err(|error| error.to_string())?;
        let Some(model) = self.model else {
            let lines: Vec<&Line> = prices.table().collect();
            return Ok(Said {
                note: format!("{} entries, USD per million tokens; the first that matches counts", lines.len()),
                answer: shown(&lines),
            });
        };
        let entries = prices.entries(&model, &self.region, self.tier);
        let lines: Vec<&Line> = entries
            .iter()
            .map(|line| &**line)
            .filter(|line| TokenKind::ALL.iter().any(|kind| line.entry.prices.of(*kind).is_some()))
            .collect();
        if lines.is_empty() {
            return Err(format!(
                "`{model}` has no price in {}, tier {}: what it uses is counted as unpriced",
                self.region,
                self.tier.label()
            ));
        }
        Ok(Said { note: "USD per million tokens".to_owned(), answer: shown(&lines) })
    }
}

fn shown(lines: &[&Line]) -> String {
    const HEAD: [&str; 12] =
        ["MODEL", "REGIONS", "TIERS", "INPUT UP TO", "INPUT", "OUTPUT", "CACHE READ", "WRITE 5M", "WRITE 1H", "DATE", "FROM", "SOURCE"];
    let cells: Vec<[String; 12]> = lines.iter().map(|line| cells(line)).collect();
    let rows: Vec<[&str; 12]> = std::iter::once(HEAD).chain(cells.iter().map(|row| row.each_ref().map(String::as_str))).collect();
    table::rendered(&rows)
}

fn cells(line: &Line) -> [String; 12] {
    let entry = &line.entry;
    let all = || "all".to_owned();
    let regions = entry.regions.as_ref().map_or_else(all, |regions| regions.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    let tiers = entry.tiers.as_ref().map_or_else(all, |tiers| tiers.iter().map(|tier| tier.label()).collect::<Vec<_>>().join(","));
    let bound = entry.up_to_input.map_or_else(|| "-".to_owned(), |bound| bound.to_string());
    let [input, output, cache_read, five_minutes, one_hour] =
        TokenKind::ALL.map(|kind| entry.prices.of(kind).map_or_else(|| "-".to_owned(), by_the_million));
    let date = entry.date.map_or_else(|| "-".to_owned(), |date| date.to_string());
    let from = match line.origin {
        Origin::Own => "yours",
        Origin::Shipped => "shipped",
    };
    let source = entry.source.clone().unwrap_or_else(|| "-".to_owned());
    [entry.model.to_string(), regions, tiers, bound, input, output, cache_read, five_minutes, one_hour, date, from.to_owned(), source]
}

fn by_the_million(price: Usd) -> String {
    price.times(1_000_000).to_string()
}

fn tier(word: &str) -> Result<Tier, String> {
    Tier::named(word).ok_or_else(|| format!("one of {}", Tier::ALL.map(Tier::label).join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(model: Option<&str>, region: &str, tier: Tier) -> Result<Said, String> {
        Asked { config: None, model: model.map(str::to_owned), region: region.to_owned(), tier }.run()
    }

    #[test]
    fn the_table_shows_every_entry_and_a_model_only_its_own() {
        let whole = asked(None, "us-east-1", Tier::Default).unwrap().answer;
        assert!(whole.lines().count() > 200);
        let one = asked(Some("eu.anthropic.claude-sonnet-4-5-20250929-v1:0"), "eu-west-1", Tier::Default).unwrap().answer;
        let rows: Vec<Vec<&str>> = one.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows.len(), 2, "one up to 200,000 tokens, one beyond: {one}");
        assert_eq!(rows[0][3..9], ["200000", "3.3", "16.5", "0.33", "4.125", "6.6"]);
        assert_eq!(rows[1][3..6], ["-", "6.6", "24.75"]);
    }

    #[test]
    fn a_model_without_a_price_is_an_error() {
        assert!(asked(Some("acme.unheard-of-v1:0"), "us-east-1", Tier::Default).err().unwrap().contains("unpriced"));
        assert!(asked(Some("amazon.nova-lite-v1:0"), "us-east-1", Tier::Reserved).err().unwrap().contains("tier reserved"));
    }
}
