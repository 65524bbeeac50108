//! Two gateways of one ledger: an old one that ends, and its successor, under load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use http::StatusCode;
use tokio::task::JoinSet;

use crate::admin::get;
use crate::binary::Binary;
use crate::client::{PATIENCE, Raw, call, converse, eventually};
use crate::downstream::Ask;
use crate::world::{World, world};

const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";

fn yaml(world: &World, limits: &str) -> String {
    format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0', drain_timeout: 20s }}\n\
         record: {{ access_log: off, ledger: ledger.sqlite }}\nlimits: [{limits}]\n{}\n{}",
        crate::world::jwt(),
        crate::scripted::upstream(&format!("http://{}", world.emulator.address()), ""),
    )
}

async fn left(admin: SocketAddr) -> u64 {
    get(admin, "/limits?tenant=demo").await.json()["left"][0]["remaining"].as_u64().unwrap()
}

async fn until_left(admin: SocketAddr, expected: u64) {
    let waiting = async { while left(admin).await != expected {} };
    let came = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(came.is_ok(), "{} left, and not {expected}", left(admin).await);
}

fn number(world: &World, sql: &str) -> u64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(world.dir.join("ledger.sqlite"), flags).unwrap();
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
}

/// Callers who ask a gateway until they are stopped or the gateway is gone.
struct Load {
    callers: JoinSet<()>,
    answered: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn on(address: SocketAddr, callers: usize, wire: &[u8]) -> Self {
        let mut load = Self { callers: JoinSet::new(), answered: Arc::default(), refused: Arc::default(), stop: Arc::default() };
        for _ in 0..callers {
            let (answered, refused, stop, wire) = (load.answered.clone(), load.refused.clone(), load.stop.clone(), wire.to_vec());
            load.callers.spawn(async move {
                while !stop.load(Relaxed) {
                    let Ok(stream) = tokio::net::TcpStream::connect(address).await else { return };
                    let mut raw = Raw::over(stream);
                    if !raw.try_send(&wire).await {
                        return;
                    }
                    match raw.try_answer().await {
                        Some(answer) if answer.status == StatusCode::OK => answered.fetch_add(1, Relaxed),
                        Some(answer) => {
                            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
                            refused.fetch_add(1, Relaxed)
                        }
                        None => return,
                    };
                }
            });
        }
        load
    }

    async fn end(mut self) -> (u64, u64) {
        self.stop.store(true, Relaxed);
        while let Some(ended) = tokio::time::timeout(PATIENCE, self.callers.join_next()).await.expect("an end") {
            ended.unwrap();
        }
        (self.answered.load(Relaxed), self.refused.load(Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_gateway_and_its_successor_lose_no_use_and_count_none_twice_under_load() {
    const QUOTA: u64 = 100_000;
    let world = world("").await;
    let text = yaml(&world, &format!("{{ name: daily, count: requests, quota: {QUOTA}/day }}"));
    let wire = Ask::post(CONVERSE, converse("one")).token(&world.token).wire();
    let old = Binary::run(&world.dir, &text, &[]).await;
    let load = Load::on(old.listeners[0], 4, &wire);
    eventually("the old one serves", || load.answered.load(Relaxed) > 50).await;

    // It comes while the other is busy; both serve; the old one is told to end.
    let new = Binary::run(&world.dir, &text, &[]).await;
    let more = Load::on(new.listeners[0], 4, &wire);
    eventually("both serve", || more.answered.load(Relaxed) > 50).await;
    let before = load.answered.load(Relaxed);
    eventually("the old one goes on", || load.answered.load(Relaxed) > before + 20).await;
    let (by_old, refused) = load.end().await;
    assert_eq!(refused, 0);
    old.stop().await;
    let (by_new, refused) = more.end().await;
    assert_eq!(refused, 0);

    let used = by_old + by_new;
    until_left(new.admin, QUOTA - used).await;
    new.stop().await;
    assert_eq!(number(&world, "SELECT sum(calls) FROM usage"), used, "each once");
    assert_eq!(number(&world, "SELECT sum(used) FROM quotas"), used);
    assert_eq!(number(&world, "SELECT count(*) FROM batches"), 2, "of two writers");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_one_settles_while_it_drains_its_successor_has_to_give() {
    const BUDGET: u64 = 10_000;
    let world = world("").await;
    let text = yaml(&world, &format!("{{ name: budget, count: tokens, quota: {BUDGET}/month }}"));
    let body = |most: u64| {
        let body = serde_json::json!({ "messages": [{ "role": "user", "content": [{ "text": "one two" }] }], "inferenceConfig": { "maxTokens": most } });
        Ask::post(CONVERSE, body.to_string()).token(&world.token)
    };
    let old = Binary::run(&world.dir, &text, &[]).await;
    let mut held = Raw::connect(old.listeners[0]).await;
    held.send(body(9_000).fault("gated").wire()).await;
    let seen = world.emulator.requests_until(|seen| !seen.is_empty());
    tokio::time::timeout(PATIENCE, seen).await.expect("a call under way");
    eventually("its reservation is in the ledger", || number(&world, "SELECT ifnull(sum(used), 0) FROM quotas") > 0).await;

    let new = Binary::run(&world.dir, &text, &[]).await;
    assert!(left(new.admin).await <= BUDGET - 9_000, "what the old one holds is not given again");
    assert_eq!(call(new.listeners[0], body(5_000).wire()).await.status, StatusCode::BAD_REQUEST);
    old.signal("-TERM").await;
    world.emulator.release(10_000);
    assert_eq!(held.answer().await.status, StatusCode::OK);
    old.ended().await;
    let waiting = async { while left(new.admin).await < 9_000 {} };
    tokio::time::timeout(PATIENCE, waiting).await.expect("what it did not use is given back");
    let after = left(new.admin).await;
    assert_eq!(number(&world, "SELECT sum(used) FROM quotas"), (BUDGET - after) * 1_000);
    assert_eq!(call(new.listeners[0], body(5_000).wire()).await.status, StatusCode::OK);
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_not_given_twice_and_a_successor_of_one_that_was_killed_goes_on_alone() {
    const QUOTA: u64 = 2_000;
    /// What both admit until each has heard of it: some tenths of a second of these callers.
    const UNDER_WAY: u64 = 600;
    let world = world("").await;
    let text = yaml(&world, &format!("{{ name: daily, count: requests, quota: {QUOTA}/day }}"));
    let wire = Ask::post(CONVERSE, converse("one")).token(&world.token).wire();
    let old = Binary::run(&world.dir, &text, &[]).await;
    let new = Binary::run(&world.dir, &text, &[]).await;
    let (load, more) = (Load::on(old.listeners[0], 2, &wire), Load::on(new.listeners[0], 2, &wire));
    eventually("it is used up for both", || load.refused.load(Relaxed) > 0 && more.refused.load(Relaxed) > 0).await;
    let ((by_old, _), (by_new, _)) = (load.end().await, more.end().await);
    let used = by_old + by_new;
    assert!((QUOTA..QUOTA + UNDER_WAY).contains(&used), "{by_old} and {by_new}");
    assert!(by_old > 0 && by_new > 0, "{by_old} and {by_new}");
    eventually("all of it is in the ledger", || number(&world, "SELECT sum(used) FROM quotas") == used).await;
    old.kill().await;

    let refused = call(new.listeners[0], &wire).await;
    assert_eq!((refused.status, refused.header("x-amzn-errortype")), (StatusCode::BAD_REQUEST, Some("ServiceQuotaExceededException")));
    assert_eq!(left(new.admin).await, 0);
    let said = new.stop().await;
    assert!(said.contains("another gateway writes the ledger, too"), "{said}");
    let third = Binary::run(&world.dir, &text, &[]).await;
    assert_eq!(left(third.admin).await, 0);
    third.stop().await;
}
