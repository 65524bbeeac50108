//! What holds of any routes and any call.

use http::HeaderName;
use proptest::prelude::*;

use super::super::*;
use super::{Of, routes};
use crate::config::routes::{Conditions, Failover, Operation, Stage, Target as Written};
use crate::domain::Glob;

/// Patterns, and which of `0..4` of a kind's names are of them: by hand, not by `Glob`.
const NAMES: [&str; 4] = ["eu-a", "eu-b", "us-a", "x"];
const PATTERNS: [(&str, [bool; 4]); 5] = [
    ("eu-*", [true, true, false, false]),
    ("*-a", [true, false, true, false]),
    ("x", [false, false, false, true]),
    ("*", [true, true, true, true]),
    ("eu", [false, false, false, false]),
];

/// Conditions as places in [`PATTERNS`]; empty: none.
#[derive(Clone, Debug)]
struct Wanted {
    stage: Option<usize>,
    lists: [Vec<usize>; 6],
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let list = || prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(0..PATTERNS.len(), 1..3)];
    (prop::option::weighted(0.3, 0..2_usize), [list(), list(), list(), list(), list(), list()])
        .prop_map(|(stage, lists)| Wanted { stage, lists })
}

const STAGES: [&str; 2] = ["beta", "prod"];
/// Neither `acme` nor any real id: a model's spelling is itself.
const KINDS: usize = 6;

impl Wanted {
    fn route(&self, name: usize) -> Config {
        let globs = |kind: usize| self.lists[kind].iter().map(|at| Glob::new(PATTERNS[*at].0)).collect::<Vec<_>>();
        let headers = if self.lists[4].is_empty() { Vec::new() } else { vec![(HeaderName::from_static("x-team"), globs(4))] };
        let operations =
            self.lists[5].iter().map(|at| Operation { method: Glob::new("POST"), path: Glob::new(format!("/{}", PATTERNS[*at].0)) });
        let when = Conditions {
            tenants: globs(0),
            users: globs(1),
            models: globs(2),
            hosts: globs(3),
            headers,
            operations: operations.collect(),
            ..Conditions::default()
        };
        let stages = self.stage.map(|at| Stage { name: STAGES[at].into(), variables: Vec::new() });
        Config { when, stages: stages.into_iter().collect(), ..Config::new(&format!("r{name}"), "use1") }
    }

    fn holds(&self, stage: Option<usize>, has: &[Option<usize>; KINDS]) -> bool {
        (self.stage.is_none() || self.stage == stage)
            && self
                .lists
                .iter()
                .zip(has)
                .all(|(list, has)| list.is_empty() || has.is_some_and(|name| list.iter().any(|at| PATTERNS[*at].1[name])))
    }
}

proptest! {
    #[test]
    fn the_first_match_is_that_of_an_independent_reading(
        wanted in prop::collection::vec(wanted(), 1..8),
        stage in prop::option::of(0..2_usize),
        has in prop::array::uniform6(0..NAMES.len()),
        lacks in prop::array::uniform4(prop::bool::weighted(0.2)),
    ) {
        let routes = Routes::build(&wanted.iter().enumerate().map(|(at, wanted)| wanted.route(at)).collect::<Vec<_>>());
        // Every call has a tenant and a path.
        let [tenant, user, model, host, team, path] = has;
        let mut has = has.map(Some);
        for (place, lacks) in [1, 2, 3, 4].into_iter().zip(lacks) {
            has[place] = has[place].filter(|_| !lacks);
        }
        let mut of = Of::path(&format!("/{}", NAMES[path]), has[2].map(|_| NAMES[model])).by(NAMES[tenant], has[1].map(|_| NAMES[user]), &[]);
        of.stage = stage.map(|at| STAGES[at]);
        of.host = has[3].map(|_| NAMES[host]);
        if has[4].is_some() {
            of = of.header("x-team", NAMES[team].as_bytes());
        }
        let expected = wanted.iter().position(|wanted| wanted.holds(stage, &has)).map(|at| format!("r{at}"));
        prop_assert_eq!(of.found(&routes), expected.clone());
        let said = routes.explain(&of.asking());
        prop_assert_eq!(said.iter().find(|(_, why)| why.is_none()).map(|(route, _)| route.name.to_string()), expected);
    }

    #[test]
    fn taking_a_stage_off_leaves_the_other_bytes_alone(path in prop_oneof!["\\PC*", "/(beta|v2|Beta|be|betas)(/[a-z%/]{0,9})?"]) {
        let routes = routes("- { name: r, stage: [beta, v2], to: [{ upstream: use1 }] }");
        match routes.stage(&path) {
            (None, rest) => {
                prop_assert_eq!(rest, &*path);
                let begins = ["/beta", "/v2"].iter().any(|stage| path == *stage || path.starts_with(&[*stage, "/"].concat()));
                prop_assert!(!begins);
            }
            (Some(stage), "/") => prop_assert!([["/", stage, ""].concat(), ["/", stage, "/"].concat()].contains(&path)),
            (Some(stage), rest) => prop_assert_eq!(["/", stage, rest].concat(), path),
        }
    }

    #[test]
    fn an_order_begins_with_what_can_be_drawn_and_holds_nothing_twice(
        weights in prop::collection::vec(0_u32..4, 1..5),
        failover in prop::collection::vec(0..4_usize, 0..4),
        sticky in prop::sample::select(vec![None, Some(Sticky::User), Some(Sticky::Tenant)]),
        user in prop::option::of("[a-z]{1,5}"),
    ) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let upstreams = ["use1", "usw2", "euw1"];
        let place = |at: usize| Place { name: format!("t{at}").into(), upstream: upstreams[at % 3].into(), model: None };
        let mut config = Config { sticky, ..Config::new("r", "use1") };
        config.places.to = weights.iter().enumerate().map(|(at, weight)| Written { place: place(at), weight: *weight, promote: None }).collect();
        // Names of targets, and of upstreams.
        config.places.failover = failover.iter().map(|at| Failover::Word(if at % 2 == 0 { format!("t{at}").into() } else { upstreams[at % 3].into() })).collect();
        let routes = Routes::build(&[config]);
        let of = Of::model("x").by("acme", user.as_deref(), &[]);
        let order = routes.routes[0].order(&of.asking());
        prop_assert!(order[0].weight.now() > 0);
        for (at, target) in order.iter().enumerate() {
            prop_assert!(order.iter().skip(at + 1).all(|other| other.upstream != target.upstream), "{order:?}");
        }
    }
}
