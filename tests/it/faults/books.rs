//! What is written down, against what both regions billed.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tollgate::domain::TokenKind;
use tollgate::emulator::{Bill, Fault};
use tollgate::record::{By, UsageQuery, usage};

use super::Got;
use super::draw::Run;
use crate::world::World;

fn number(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or(0)
}

/// What a line, or a try in it, says was used: what went in, came out, and was cached.
fn booked(of: &Value) -> [u64; 4] {
    let written = number(of, "cache_write_5m_tokens") + number(of, "cache_write_1h_tokens");
    [number(of, "input_tokens"), number(of, "output_tokens"), number(of, "cache_read_tokens"), written]
}

fn billed(bill: &Bill) -> [u64; 4] {
    let usage = bill.usage;
    [usage.input, usage.output, usage.cache_read, usage.cache_write_5m + usage.cache_write_1h]
}

/// What is wrong in the books.
pub(super) async fn wrong(world: &World, all: &[(Run, Got)], lines: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let second = world.second.as_ref().unwrap();
    let mut bills: BTreeMap<String, Bill> =
        world.emulator.bills().into_iter().chain(second.bills()).map(|bill| (bill.request_id.clone(), bill)).collect();
    let (mut guessed, mut owed, mut nameless, mut tries) = (0, 0, 0, 0.0);
    for line in lines {
        tries += line["attempts"].as_f64().unwrap_or(0.0);
        let run = all.iter().map(|(run, _)| run).find(|run| line["user_agent"] == run.mark().as_str());
        let given_up = line["tried"].as_array().map_or(&[][..], Vec::as_slice);
        for (at, attempt) in given_up.iter().chain([line]).enumerate() {
            let is_last = at == given_up.len();
            let region = usize::from(attempt["upstream"] == "second");
            let fault = run.and_then(|run| run.fault(region));
            let Some(bill) = attempt["upstream_request_id"].as_str().and_then(|id| bills.remove(id)) else {
                nameless += 1;
                if attempt["usage"] == "reported" {
                    wrong.push(format!("nobody billed {attempt}"));
                }
                continue;
            };
            // Of an exception before the first word AWS bills nothing, and the emulator its input.
            let failed = matches!(fault, Some(Fault::Exception { .. } | Fault::ErrorFrame(_)));
            match attempt["usage"].as_str() {
                Some("reported") if booked(attempt) != billed(&bill) => wrong.push(format!("{bill:?} is not {attempt}")),
                Some("reported") => {}
                Some(_) => {
                    guessed += booked(attempt)[1];
                    owed += bill.usage.output;
                    let untold = matches!(fault, Some(Fault::NoUsage | Fault::BadCrc));
                    if is_last && bill.whole && line["complete"] == true && !untold && !failed {
                        wrong.push(format!("{bill:?} was told, and guessed by {line}"));
                    }
                }
                None if failed && bill.usage.output == 0 => {}
                None => wrong.push(format!("{bill:?} is not booked by {attempt}\n  {line}")),
            }
        }
    }
    // What nobody could name: its head came too late, or not at all.
    if bills.len() as u64 > nameless {
        wrong.push(format!("billed and in no line, with {nameless} tries without a name: {bills:?}"));
    }
    if guessed < owed {
        wrong.push(format!("estimates are {guessed}, and bills {owed}"));
    }
    if world.metric("tollgate_upstream_attempts_total") != tries {
        wrong.push(format!("{tries} tries are told, and counted {}", world.metric("tollgate_upstream_attempts_total")));
    }
    wrong.extend(ledger(world, lines));
    wrong.extend(held(world).await);
    wrong
}

/// The ledger's sums are the log's.
fn ledger(world: &World, lines: &[Value]) -> Option<String> {
    let now = SystemTime::now();
    let hours = Duration::from_hours(2);
    let query = UsageQuery { tenant: None, by: Some(By::Model), since: now - hours, until: now + hours };
    let rows = usage(&world.dir.join("ledger.sqlite"), &query).unwrap();
    let sum = |kind| rows.iter().map(|row| row.tokens.of(kind)).sum::<u64>();
    let ledger = [sum(TokenKind::Input), sum(TokenKind::Output)];
    let each = lines.iter().flat_map(|line| line["tried"].as_array().into_iter().flatten().chain([line])).map(booked);
    let told = each.fold([0; 2], |sum, [input, output, ..]| [sum[0] + input, sum[1] + output]);
    (ledger != told).then(|| format!("the ledger has {ledger:?}, the log {told:?}"))
}

/// Nothing is held any more.
async fn held(world: &World) -> Vec<String> {
    world.until_idle().await;
    let levels = [
        "tollgate_limit_held{limit=\"busy\"}",
        "tollgate_limit_used{limit=\"busy\"}",
        "tollgate_limit_held{limit=\"tokens\"}",
        "tollgate_bodies_held_bytes",
        "tollgate_answers_draining",
        "tollgate_limit_waiting",
    ];
    levels.into_iter().filter(|level| world.metric(level) != 0.0).map(|level| format!("{level} is {}", world.metric(level))).collect()
}
