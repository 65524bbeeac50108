//! Stock SDKs that no one here wrote, through the gateway, to the emulator: the suites under `tests/sdk/`, run as child processes.
//!
//! They need Python (3.10, venv) and Node (20, npm); `TOLLGATE_SKIP_SDK=1` does without them. Their packages come from exact pins into
//! `target/sdk/`, once for each set of pins.

pub(crate) mod environment;
mod suite;

use std::time::Duration;

use crate::world;

/// How long a suite may take; each is done in a third of it on two busy cores.
const LIMIT: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread")]
async fn stock_python_sdks_pass() {
    if skipped() {
        eprintln!("NOT RUN: the suite of Python SDKs, because TOLLGATE_SKIP_SDK=1");
        return;
    }
    let python = tokio::task::spawn_blocking(environment::python).await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    let world = world::start_for_sdks().await;
    suite::run("python", &python, &world, LIMIT).await.unwrap_or_else(|error| panic!("{error}"));
    nobody_asks_a_spent_budget_again(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_javascript_sdks_pass() {
    if skipped() {
        eprintln!("NOT RUN: the suite of JavaScript SDKs, because TOLLGATE_SKIP_SDK=1");
        return;
    }
    let node = tokio::task::spawn_blocking(environment::node).await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    let world = world::start_for_sdks().await;
    suite::run("node", &node, &world, LIMIT).await.unwrap_or_else(|error| panic!("{error}"));
    nobody_asks_a_spent_budget_again(&world).await;
}

/// Each suite has three SDKs call once as the tenant that has spent what it had.
async fn nobody_asks_a_spent_budget_again(world: &world::World) {
    world.until_idle().await;
    assert_eq!(world.metric(r#"tollgate_refusals_total{reason="budget_spent",tenant="spent"}"#), 3.0);
}

pub(crate) fn skipped() -> bool {
    std::env::var_os("TOLLGATE_SKIP_SDK").is_some_and(|value| value == "1")
}
