//! `tollgate canary`: how far the canaries of a gateway that runs have come. It asks the admin listener.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::gateway::{Gateway, of, table, text};
use super::table::Align;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Canary {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Subcommand)]
enum Other {
    /// Have the canary of a route begin anew at its first step, also where it was stepped back
    Reset {
        #[command(flatten)]
        gateway: Gateway,
        /// The route, by its name
        route: String,
    },
}

impl Canary {
    /// What is printed.
    pub(super) fn run(self) -> Result<String, String> {
        match self.other {
            None => self.gateway.told(&self.gateway.ask(Method::GET, "/canaries", None)?, listed),
            Some(Other::Reset { gateway, route }) => {
                gateway.told(&gateway.ask(Method::POST, "/canaries", Some(&json!({ "route": route })))?, reset)
            }
        }
    }
}

fn reset(canary: &Value) -> String {
    let name = |field| text(of(canary, field));
    format!("the canary `{}` of route `{}` begins anew at {}\n", name("target"), name("route"), percent(of(canary, "share")))
}

fn listed(told: &Value) -> String {
    let canaries = of(told, "canaries").as_array().map(Vec::as_slice).unwrap_or_default();
    if canaries.is_empty() {
        return "no route has a target with `promote`\n".to_owned();
    }
    let rows: Vec<Value> = canaries
        .iter()
        .map(|canary| {
            let next = if of(canary, "stepped_back") == true { "stepped back".to_owned() } else { percent(of(canary, "next")) };
            let failed = |side| {
                let side = of(canary, side);
                format!("{} of {}", text(of(side, "failed")), text(of(side, "calls")))
            };
            let time = |side| of(of(canary, side), "first_token").as_f64().map(|seconds| format!("{seconds:.3} s"));
            json!({
                "route": of(canary, "route"), "target": of(canary, "target"), "share": percent(of(canary, "share")), "next": next,
                "since": of(canary, "since"), "failed": failed("canary"), "baseline_failed": failed("baseline"),
                "first_token": time("canary"), "baseline_first_token": time("baseline"),
            })
        })
        .collect();
    let left = ["route", "target"].map(|name| (name, Align::Left));
    let right = ["share", "next"].map(|name| (name, Align::Right));
    let rest = ["since", "failed", "baseline_failed", "first_token", "baseline_first_token"].map(|name| (name, Align::Left));
    table(&rows.into(), &[&left[..], &right[..], &rest[..]].concat())
}

fn percent(share: &Value) -> String {
    share.as_f64().map(|share| format!("{}%", (share * 1e6).round() / 1e4)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_are_told_in_words() {
        let side = |failed: u32, time: Value| json!({ "calls": 200, "failed": failed, "first_token": time });
        let one = json!({
            "route": "chat", "target": "new", "share": 0.05, "next": 0.25, "stepped_back": false, "since": "s",
            "canary": side(3, json!(0.51234)), "baseline": side(2, Value::Null),
        });
        let back = json!({
            "route": "code", "target": "new", "share": 0.0, "next": null, "stepped_back": true, "since": "s",
            "canary": side(90, Value::Null), "baseline": side(2, Value::Null),
        });
        let told = json!({ "canaries": [one, back] });
        let lines: Vec<String> = listed(&told).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "ROUTE TARGET SHARE NEXT SINCE FAILED BASELINE FAILED FIRST TOKEN",
            "chat new 5% 25% s 3 of 200 2 of 200 0.512 s",
            "code new 0% stepped back s 90 of 200 2 of 200 -",
        ];
        assert_eq!(lines, expected);
        assert_eq!(reset(&one), "the canary `new` of route `chat` begins anew at 5%\n");
        assert_eq!(listed(&json!({ "canaries": [] })), "no route has a target with `promote`\n");
    }
}
