//! The table of docs/failover.md, row by row.

use std::fs;

use futures_util::StreamExt as _;
use tollgate::emulator::Options;

use crate::client::converse;
use crate::downstream::{Ask, Client, Way};
use crate::world::{Setting, World};

/// What stands in the table of a fault: for a whole answer without another region and with one, and the same for a stream.
fn rows() -> Vec<(String, [String; 4])> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/failover.md");
    let text = fs::read_to_string(path).unwrap();
    let table = text.split("| the emulator's fault |").nth(1).unwrap().lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = table.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    cells.map(|cells| (cells[1].trim_matches('`').to_owned(), [2, 3, 4, 5].map(|at: usize| cells[at].clone()))).collect()
}

/// Sends one call, and tells what came of it: as the table does, or nearly.
async fn call(world: &World, way: Way, mark: &str, fault: &str, streamed: bool, regions: &str) -> (String, bool) {
    let path = format!("/model/amazon.nova-lite-v1:0/{}", if streamed { "converse-stream" } else { "converse" });
    let ask = Ask::post(&path, converse("one two three four")).token(&world.token).header("user-agent", mark);
    let ask = ask.header("x-regions", regions).header("x-emulator-fault-us-east-1", fault);
    let Some(incoming) = Client::connect(world, way).await.send(&ask).await.try_head().await else {
        return ("broken off".to_owned(), false);
    };
    let status = incoming.status;
    let (body, end, _) = incoming.whole().await;
    let text = String::from_utf8_lossy(&body);
    let is_whole = text.contains("echo:") && text.contains(" four") && (text.contains("\"usage\"") || fault == "no-usage");
    let told = match (status.as_u16(), end.is_ok()) {
        (200, false) => "broken off",
        (200, true) if text.contains("xception") || text.contains(":error-code") => "exception",
        (200, true) if is_whole => "200",
        (200, true) => "as it came",
        _ => status.as_str(),
    };
    (told.to_owned(), is_whole)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_comes_to_what_the_documentation_says() {
    let times = "timeouts: { first_byte: 700ms, idle: 500ms }, retries: { budget: 100%, min: 100000/second }";
    let yaml = format!(
        "routes:\n- {{ name: two, headers: {{ x-regions: [two] }}, to: [{{ upstream: emulator }}], failover: [second], {times} }}\n\
         - {{ name: one, to: [{{ upstream: emulator }}], {times} }}"
    );
    let emulator = Options { region: Some("us-east-1".to_owned()), ..Options::default() };
    let world = World::build(Setting { yaml, second: true, emulator, upstream: "health: off".to_owned(), ..Setting::default() }).await;
    let rows = rows();
    assert!(rows.len() > 25, "{rows:?}");
    let mut cases = Vec::new();
    for (at, (fault, cells)) in rows.iter().enumerate() {
        for (column, expected) in cells.iter().enumerate().filter(|(_, cell)| *cell != "–") {
            for way in [Way::Http1, Way::TlsHttp2] {
                cases.push((format!("{at}-{column}-{way:?}"), fault, column, expected, way));
            }
        }
    }
    let world = &world;
    let calls = cases.iter().map(|(mark, fault, column, _, way)| async move {
        call(world, *way, mark, fault, *column >= 2, if column % 2 == 1 { "two" } else { "one" }).await
    });
    // Some at once, for many only wait; not all, or the machine is late for everything.
    let answers: Vec<_> = futures_util::stream::iter(calls).buffered(16).collect().await;
    let second = world.second.as_ref().unwrap().requests();
    let mut wrong = Vec::new();
    for ((mark, fault, _, expected, _), (told, is_whole)) in cases.iter().zip(answers) {
        let turned = second.iter().filter(|seen| seen.header("user-agent") == Some(mark)).count();
        let right = match expected.as_str() {
            "the next" => turned == 1 && told == "200" && is_whole,
            // Nothing of the answer may have reached the client.
            "broken off" => turned == 0 && (told == "broken off" || told == "502"),
            expected => turned == 0 && told == expected,
        };
        if !right {
            wrong.push(format!("{mark} {fault}: {expected}, but {told}, {turned} at the second region"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
