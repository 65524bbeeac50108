//! `tollgate limits`: the limits of a gateway that runs, and what is granted beyond them. It asks the admin listener.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::gateway::{Failed, Gateway, of, query, table, text};
use super::table::Align;

#[derive(Subcommand)]
pub(super) enum Limits {
    /// Show the rules in force, and what was granted beyond them
    List {
        #[command(flatten)]
        gateway: Gateway,
        /// Grants of this tenant only
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Show what is left to a tenant, or to a user of it
    Show {
        #[command(flatten)]
        gateway: Gateway,
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The user within the tenant
        #[arg(long)]
        user: Option<String>,
        /// The group that the caller is in, by which a rule chooses its tier
        #[arg(long)]
        group: Option<String>,
    },
    /// Grant a tenant more than a rule gives, for a time
    ///
    /// Dollars where the rule counts usd, else tokens or requests. A rate gives so much more in its period and at
    /// once, a quota in each period, a bound on calls under way at once. It is kept in the ledger.
    Grant {
        #[command(flatten)]
        gateway: Gateway,
        /// The tenant
        tenant: String,
        /// The name of the rule
        rule: String,
        /// How much more, as in +100; dollars may have decimals
        #[arg(value_name = "+AMOUNT")]
        amount: String,
        /// For one user's own bucket, of rules `per: user`; if left out, for the tenant's, and for each of its users'
        #[arg(long)]
        user: Option<String>,
        /// Until when: so long from now, as in +7d or 24h; a date, which is its beginning in UTC; or a time
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        until: String,
        /// Why
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Take a grant back
    Revoke {
        #[command(flatten)]
        gateway: Gateway,
        /// Its number, as `tollgate limits list` shows it
        id: u64,
    },
}

impl Limits {
    /// What is printed.
    pub(super) fn run(self) -> Result<String, String> {
        match self {
            Self::List { gateway, tenant } => {
                let rules = gateway.ask(Method::GET, "/limits", None)?;
                let path = format!("/limits/grants{}", query(&[("tenant", tenant.as_deref())]));
                // Without a ledger there are none.
                let grants = gateway.ask(Method::GET, &path, None).or_else(Failed::without_ledger)?;
                gateway.told(&json!({ "rules": of(&rules, "rules"), "grants": of(&grants, "grants") }), listed)
            }
            Self::Show { gateway, tenant, user, group } => {
                let path =
                    format!("/limits{}", query(&[("tenant", Some(&tenant)), ("user", user.as_deref()), ("group", group.as_deref())]));
                gateway.told(&gateway.ask(Method::GET, &path, None)?, |told| left(told, &tenant))
            }
            Self::Grant { gateway, tenant, rule, amount, user, until, note } => {
                let asked = json!({ "tenant": tenant, "rule": rule, "more": amount, "user": user, "until": until, "note": note });
                gateway.told(&gateway.ask(Method::POST, "/limits/grants", Some(&asked))?, |grant| {
                    let (id, more, until) = (of(grant, "id"), text(of(grant, "more")), text(of(grant, "until")));
                    format!("grant {id}: {more} {} more of `{rule}` for `{tenant}` until {until}\n", text(of(grant, "count")))
                })
            }
            Self::Revoke { gateway, id } => {
                let told = gateway.ask(Method::DELETE, &format!("/limits/grants/{id}"), None)?;
                gateway.told(&told, |_| format!("grant {id} is revoked\n"))
            }
        }
    }
}

fn listed(told: &Value) -> String {
    use Align::{Left, Right};
    let is_empty = |name: &str| of(told, name).as_array().is_none_or(Vec::is_empty);
    if is_empty("rules") {
        return "no limits\n".to_owned();
    }
    let bounds = [("rate", Right), ("quota", Right), ("max", Right), ("burst", Right)];
    let rules: Vec<_> = [("name", Left), ("count", Left)].into_iter().chain(bounds).chain([("per", Left), ("shadow", Left)]).collect();
    let mut words = table(of(told, "rules"), &rules);
    if is_empty("grants") {
        return words + "\nno grants\n";
    }
    let grants = [
        ("id", Right),
        ("tenant", Left),
        ("user", Left),
        ("rule", Left),
        ("more", Right),
        ("count", Left),
        ("until", Left),
        ("state", Left),
        ("note", Left),
    ];
    words.push('\n');
    words + &table(of(told, "grants"), &grants)
}

fn left(told: &Value, tenant: &str) -> String {
    use Align::{Left, Right};
    if of(told, "left").as_array().is_none_or(Vec::is_empty) {
        return format!("no limit counts what `{tenant}` does together\n");
    }
    let figures = ["used", "held", "remaining", "capacity"].map(|name| (name, Right));
    let columns = [("rule", Left), ("count", Left)].into_iter().chain(figures).chain([("ends", Left)]);
    table(of(told, "left"), &columns.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn rules_and_grants_are_two_tables() {
        let told = json!({
            "rules": [{ "name": "rpm", "count": "requests", "rate": "600/minute", "burst": 50, "per": ["tenant", "user"], "shadow": false }],
            "grants": [{ "id": 1, "tenant": "a\u{1b}", "user": null, "rule": "rpm", "more": "100", "count": "requests", "until": "u", "state": "in force", "note": "" }],
        });
        let lines: Vec<String> = listed(&told).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "NAME COUNT RATE BURST PER",
            "rpm requests 600/minute 50 tenant, user",
            "",
            "ID TENANT RULE MORE COUNT UNTIL STATE",
            "1 a\u{fffd} rpm 100 requests u in force",
        ];
        assert_eq!(lines, expected);
        assert_eq!(listed(&json!({ "rules": [] })), "no limits\n");
        let told = json!({ "left": [{ "rule": "rpm", "remaining": 7, "capacity": 50 }] });
        assert_eq!(left(&told, "a"), "RULE  REMAINING  CAPACITY\nrpm           7        50\n");
        assert_eq!(left(&json!({ "left": [] }), "a"), "no limit counts what `a` does together\n");
    }

    #[test]
    fn where_nobody_listens_the_gateway_is_said_not_to_run() {
        // Nothing listens there any more.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let gateway = |admin: String| Gateway { admin: Some(admin), config: PathBuf::new(), json: false };
        let why = Limits::Revoke { gateway: gateway(format!("http://{address}")), id: 1 }.run().unwrap_err();
        assert!(why.contains("no gateway answers at") && why.contains("does it run"), "{why}");
        let why = Limits::Revoke { gateway: gateway("https://localhost".to_owned()), id: 1 }.run().unwrap_err();
        assert!(why.contains("by `http://`"), "{why}");
    }
}
