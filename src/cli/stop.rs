//! `tollgate stop`: the kill switch of a gateway that runs. It asks the admin listener.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::gateway::{Gateway, of, query, table, text};
use super::table::Align;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Stop {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    what: What,
    /// Why, for the log and `tollgate stop list`; callers are not told
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// What callers are told beside that they are stopped
    #[arg(long, value_name = "TEXT", default_value = "")]
    message: String,
}

#[derive(Subcommand)]
enum Other {
    /// Show what is stopped
    List {
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Lift a stop: say what was stopped
    Lift {
        #[command(flatten)]
        gateway: Gateway,
        #[command(flatten)]
        what: What,
    },
}

/// One of these; or a key and its tenant.
#[derive(Args)]
struct What {
    /// A tenant; beside `--key`, the one whose key it is
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// A key or credential, by its public name: `key_id` of the access log
    #[arg(long, value_name = "KEY_ID")]
    key: Option<String>,
    /// A model in every spelling, its inference profiles included; or a pattern, as in '*opus*'
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["tenant", "key"])]
    model: Option<String>,
    /// A route, by its name
    #[arg(long, value_name = "ROUTE", conflicts_with_all = ["tenant", "key", "model"])]
    route: Option<String>,
}

impl Stop {
    /// What is printed.
    pub(super) fn run(self) -> Result<String, String> {
        match self.other {
            Some(Other::List { gateway }) => gateway.told(&gateway.ask(Method::GET, "/stops", None)?, listed),
            Some(Other::Lift { gateway, what }) => {
                let answer = gateway.ask(Method::DELETE, &format!("/stops{}", query(&what.pairs())), None)?;
                gateway.told(&answer, |lifted| format!("{} goes on; it was stopped since {}\n", named(lifted), text(of(lifted, "since"))))
            }
            None => {
                let [tenant, key, model, route] = self.what.pairs().map(|(_, name)| name);
                let asked = json!({
                    "tenant": tenant, "key": key, "model": model, "route": route, "reason": self.reason, "message": self.message,
                });
                let gateway = &self.gateway;
                gateway.told(&gateway.ask(Method::POST, "/stops", Some(&asked))?, made)
            }
        }
    }
}

impl What {
    fn pairs(&self) -> [(&'static str, Option<&str>); 4] {
        let Self { tenant, key, model, route } = self;
        [("tenant", tenant.as_deref()), ("key", key.as_deref()), ("model", model.as_deref()), ("route", route.as_deref())]
    }
}

/// What a stop is of, in words.
fn named(stop: &Value) -> String {
    let name = |kind| of(stop, kind).as_str().map(|name| format!("{kind} `{name}`"));
    match (name("key"), name("tenant")) {
        (Some(key), Some(tenant)) => format!("{key} of {tenant}"),
        (key, tenant) => key.or(tenant).or_else(|| name("model")).or_else(|| name("route")).unwrap_or_default(),
    }
}

fn made(stop: &Value) -> String {
    let mut words = format!("{} is stopped since {}\n", named(stop), text(of(stop, "since")));
    if let Some(note) = of(stop, "note").as_str() {
        words.push_str(note);
        words.push('\n');
    }
    words
}

fn listed(told: &Value) -> String {
    let stops = of(told, "stops");
    if stops.as_array().is_none_or(Vec::is_empty) {
        return "nothing is stopped\n".to_owned();
    }
    let columns = ["tenant", "key", "model", "route", "since", "reason", "message"].map(|name| (name, Align::Left));
    let words = table(stops, &columns);
    let loose = stops.as_array().into_iter().flatten().filter(|stop| of(stop, "kept") == false).count();
    if loose == 0 {
        return words;
    }
    format!("{words}{loose} of these end when the gateway does: they are in no ledger\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        stop: Stop,
    }

    #[test]
    fn one_thing_is_stopped_and_a_key_may_be_one_tenants() {
        for (line, good) in [
            (&["--tenant", "a"][..], true),
            (&["--key", "k", "--tenant", "a", "--reason", "leak", "--message", "call us"], true),
            (&["--model", "*opus*", "--admin", "http://localhost:1"], true),
            (&["--route", "main"], true),
            (&["list", "--json"], true),
            (&["lift", "--tenant", "a"], true),
            (&["--model", "m", "--tenant", "a"], false),
            (&["--route", "r", "--key", "k"], false),
            (&["--tenant", "a", "list"], false),
        ] {
            let read = Line::try_parse_from(std::iter::once("stop").chain(line.iter().copied()));
            assert_eq!(read.is_ok(), good, "{line:?}");
        }
    }

    #[test]
    fn stops_are_told_in_words() {
        let key = json!({ "key": "k", "tenant": "a", "since": "s", "reason": "leak", "message": "", "kept": false, "note": "it ends when the gateway does: why" });
        assert_eq!(made(&key), "key `k` of tenant `a` is stopped since s\nit ends when the gateway does: why\n");
        assert_eq!(named(&json!({ "model": "*opus*" })), "model `*opus*`");
        let told = json!({ "stops": [key, { "route": "r", "since": "s", "reason": "", "message": "", "kept": true }] });
        let lines: Vec<String> = listed(&told).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected =
            ["TENANT KEY ROUTE SINCE REASON", "a k - s leak", "- - r s -", "1 of these end when the gateway does: they are in no ledger"];
        assert_eq!(lines, expected);
        assert_eq!(listed(&json!({ "stops": [] })), "nothing is stopped\n");
    }
}
