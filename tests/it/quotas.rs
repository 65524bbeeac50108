//! What of limits outlives a gateway: how much of quotas is used, and what was granted beyond them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::{Value, json};
use tollgate::config::Config;
use tollgate::domain::{Clock, ManualClock};
use tollgate::emulator::{Emulator, Options};
use tollgate::server::Running;

use crate::binary::{Binary, text, tollgate};
use crate::client::{Answer, PATIENCE, Raw, call, converse, eventually};
use crate::downstream::Ask;
use crate::world::{Dir, World, world};

const DAY: Duration = Duration::from_hours(24);
const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
/// 2026-11-15T12:00:00Z.
const NOON: Duration = Duration::from_hours(498_540);

fn yaml(world: &World, limits: &str) -> String {
    format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nrecord: {{ access_log: off, ledger: ledger.sqlite }}\n\
         limits: [{limits}]\n{}\n{}",
        crate::world::jwt(),
        crate::scripted::upstream(&format!("http://{}", world.emulator.address()), ""),
    )
}

fn ask(world: &World, most: u64) -> Ask {
    let body = json!({ "messages": [{ "role": "user", "content": [{ "text": "one two" }] }], "inferenceConfig": { "maxTokens": most } });
    Ask::post(CONVERSE, body.to_string()).token(&world.token)
}

async fn get(admin: SocketAddr, path: &str) -> Value {
    let answer = call(admin, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}

/// What the first rule leaves tenant `demo`.
async fn left(admin: SocketAddr) -> u64 {
    get(admin, "/limits?tenant=demo").await["left"][0]["remaining"].as_u64().unwrap()
}

/// What the ledger has as used of the one quota, in units of account.
fn kept(dir: &Path) -> i64 {
    let connection = rusqlite::Connection::open_with_flags(dir.join("ledger.sqlite"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.query_row("SELECT ifnull(sum(used), 0) FROM quotas", [], |row| row.get(0)).unwrap()
}

async fn until_left_is(admin: SocketAddr, what: impl Fn(u64) -> bool) -> u64 {
    let waiting = async {
        loop {
            let left = left(admin).await;
            if what(left) {
                return left;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("what is left within 30 s")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_goes_on_after_a_kill_where_it_was_and_a_call_that_was_under_way_has_used_its_reservation() {
    const BUDGET: u64 = 10_000;
    let world = world("").await;
    let limits = format!("{{ name: budget, count: tokens, quota: {BUDGET}/month }}");
    let binary = Binary::run(&world.dir, &yaml(&world, &limits), &[]).await;
    assert_eq!(left(binary.admin).await, BUDGET);
    assert_eq!(call(binary.listeners[0], ask(&world, 100).wire()).await.status, StatusCode::OK);
    // What it reserved and did not use is given back as it ends.
    let settled = until_left_is(binary.admin, |left| left > BUDGET - 100).await;
    assert!(settled < BUDGET);

    let mut hangs = Raw::connect(binary.listeners[0]).await;
    hangs.send(ask(&world, 5_000).fault("hang").wire()).await;
    let before = until_left_is(binary.admin, |left| left < settled).await;
    assert!(before <= settled - 5_000, "{before} of {settled}");
    let used = i64::try_from((BUDGET - before) * 1_000).unwrap();
    eventually("a ledger that has it", || kept(&world.dir) == used).await;
    binary.kill().await;

    let binary = Binary::run(&world.dir, &yaml(&world, &limits), &[]).await;
    assert_eq!(left(binary.admin).await, before, "neither less nor more is left than before");
    let refused = call(binary.listeners[0], ask(&world, before + 1).wire()).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.header("x-amzn-errortype"), Some("ServiceQuotaExceededException"));
    assert_eq!(call(binary.listeners[0], ask(&world, before / 2).wire()).await.status, StatusCode::OK);

    // An orderly end has settled everything.
    let after = until_left_is(binary.admin, |left| left > before / 2).await;
    binary.stop().await;
    assert_eq!(kept(&world.dir), i64::try_from((BUDGET - after) * 1_000).unwrap());
    let binary = Binary::run(&world.dir, &yaml(&world, &limits), &[]).await;
    assert_eq!(left(binary.admin).await, after);
}

/// A gateway within this process, by its own clock, for callers who need no token.
struct Gateway {
    running: Running,
    hands: ManualClock,
}

impl Gateway {
    fn start(dir: &Dir, emulator: &Emulator, limits: &str, now: SystemTime) -> Self {
        Self::start_with(dir, emulator, &format!("limits: [{limits}]\nrecord: {{ access_log: off, ledger: ledger.sqlite }}"), now)
    }

    fn start_with(dir: &Dir, emulator: &Emulator, more: &str, now: SystemTime) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        std::fs::write(dir.join("secret"), tollgate::demo::SECRET_ACCESS_KEY).unwrap();
        let text = format!(
            "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nidentity: [anonymous: {{ tenant: demo }}]\n{}\n{more}\n",
            crate::scripted::upstream(&format!("http://{}", emulator.address()), ""),
        );
        let config = Config::parse(&text, &dir.join("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"));
        let hands = ManualClock::starting_at(now);
        Self { running: Running::start(&config, Clock::Manual(hands.clone())).unwrap(), hands }
    }

    /// How many of `tries` calls are admitted; the others' budget is spent.
    async fn admitted(&self, tries: usize) -> usize {
        let mut admitted = 0;
        for _ in 0..tries {
            let answer = call(self.running.listeners()[0], Ask::post(CONVERSE, converse("one")).wire()).await;
            match answer.status {
                StatusCode::OK => admitted += 1,
                status => assert_eq!(status, StatusCode::BAD_REQUEST, "{answer:?}"),
            }
        }
        admitted
    }

    async fn ask(&self, head: &str, body: &str) -> Answer {
        let length = body.len();
        call(self.running.admin(), format!("{head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")).await
    }

    async fn grant(&self, body: &Value) -> Answer {
        let head = "POST /limits/grants HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json; charset=utf-8";
        self.ask(head, &body.to_string()).await
    }

    async fn revoke(&self, id: &str) -> Answer {
        self.ask(&format!("DELETE /limits/grants/{id} HTTP/1.1\r\nhost: localhost"), "").await
    }

    async fn grants(&self) -> Value {
        get(self.running.admin(), "/limits/grants").await["grants"].take()
    }

    async fn stop(self) {
        self.running.drain(PATIENCE).await;
    }
}

async fn unverifying() -> Emulator {
    Emulator::start(Options { verify: false, ..Options::default() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_back_between_two_gateways_refills_nothing() {
    const LIMIT: &str = "{ name: daily, count: requests, quota: 10/day }";
    let (dir, emulator, noon) = (Dir::new(), unverifying().await, SystemTime::UNIX_EPOCH + NOON);
    let gateway = Gateway::start(&dir, &emulator, LIMIT, noon);
    assert_eq!(gateway.admitted(4).await, 4);
    gateway.stop().await;
    for (jump, admitted) in [(Duration::from_hours(2), 3), (Duration::from_hours(13), 2), (3 * DAY, 1), (3 * DAY, 0)] {
        let gateway = Gateway::start(&dir, &emulator, LIMIT, noon - jump);
        assert_eq!(gateway.admitted(admitted).await, admitted, "{jump:?} ago");
        if admitted == 0 {
            assert_eq!(gateway.admitted(1).await, 0);
        }
        gateway.stop().await;
    }
    // The next day is another.
    let gateway = Gateway::start(&dir, &emulator, LIMIT, noon + DAY);
    assert_eq!(gateway.admitted(12).await, 10);
    gateway.hands.advance(DAY);
    assert_eq!(gateway.admitted(1).await, 1);
    gateway.stop().await;
    let gateway = Gateway::start(&dir, &emulator, LIMIT, noon + 2 * DAY);
    assert_eq!(gateway.admitted(12).await, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_another_count_or_name_begins_anew() {
    let (dir, emulator, noon) = (Dir::new(), unverifying().await, SystemTime::UNIX_EPOCH + NOON);
    let gateway = Gateway::start(&dir, &emulator, "{ name: daily, count: requests, quota: 2/day }", noon);
    assert_eq!(gateway.admitted(3).await, 2);
    gateway.stop().await;
    for (limit, admitted) in [
        ("{ name: other, count: requests, quota: 2/day }", 2),
        // More of the same rule: what was used stays used.
        ("{ name: daily, count: requests, quota: 3/day }", 1),
    ] {
        let gateway = Gateway::start(&dir, &emulator, limit, noon);
        assert_eq!(gateway.admitted(3).await, admitted, "{limit}");
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_counts_at_once_survives_a_restart_expires_and_is_revoked() {
    const LIMIT: &str = "{ name: daily, count: requests, quota: 1/day }";
    let (dir, emulator, noon) = (Dir::new(), unverifying().await, SystemTime::UNIX_EPOCH + NOON);
    let gateway = Gateway::start(&dir, &emulator, LIMIT, noon);
    assert_eq!(gateway.admitted(2).await, 1);
    let told = gateway.grant(&json!({ "rule": "daily", "tenant": "demo", "more": "+2", "until": "36h", "note": "a launch" })).await;
    assert_eq!(told.status, StatusCode::CREATED, "{told:?}");
    let granted = json!({
        "id": 1, "rule": "daily", "count": "requests", "tenant": "demo", "user": null, "more": "2", "until": "2026-11-17T00:00:00Z",
        "made": "2026-11-15T12:00:00Z", "revoked": null, "note": "a launch", "state": "in force",
    });
    assert_eq!(told.json(), granted);
    assert_eq!(gateway.admitted(1).await, 1);
    assert_eq!(left(gateway.running.admin()).await, 1);
    gateway.stop().await;

    let gateway = Gateway::start(&dir, &emulator, LIMIT, noon);
    assert_eq!(gateway.grants().await, json!([granted]));
    assert_eq!(gateway.admitted(3).await, 1);
    assert_eq!(
        gateway.grant(&json!({ "rule": "daily", "tenant": "other", "more": 100, "until": "+7d" })).await.status,
        StatusCode::CREATED
    );
    assert_eq!(gateway.admitted(1).await, 0, "what is another's is another's");
    gateway.hands.advance(DAY);
    assert_eq!(gateway.admitted(4).await, 3);
    gateway.hands.advance(DAY);
    assert_eq!(gateway.admitted(4).await, 1, "it is over");
    assert_eq!(gateway.grants().await[0]["state"], "expired");

    let told = gateway.grant(&json!({ "limit": "daily", "tenant": "demo", "more": 5, "until": "2026-12-01" })).await.json();
    assert_eq!((&told["id"], &told["until"]), (&json!(3), &json!("2026-12-01T00:00:00Z")));
    assert_eq!(gateway.admitted(2).await, 2);
    let revoked = gateway.revoke("3").await;
    assert_eq!((revoked.status, &revoked.json()["state"]), (StatusCode::OK, &json!("revoked")));
    assert_eq!(gateway.admitted(1).await, 0);
    for unknown in ["9", "x", "-1", "3/4", "x/3"] {
        let answer = gateway.revoke(unknown).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{unknown}");
    }
    gateway.stop().await;
    // A rule that counts something else is another rule.
    let gateway = Gateway::start(&dir, &emulator, "{ name: daily, count: tokens, quota: 1000/day }", noon);
    let grants = gateway.grants().await;
    let states: Vec<_> = grants.as_array().unwrap().iter().map(|grant| grant["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["without a rule", "without a rule", "revoked"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_in_a_browser_and_no_form_can_grant() {
    const LIMIT: &str = "{ name: daily, count: requests, quota: 1/day }";
    const JSON: &str = "content-type: application/json";
    let (dir, emulator) = (Dir::new(), unverifying().await);
    let gateway = Gateway::start(&dir, &emulator, LIMIT, SystemTime::UNIX_EPOCH + NOON);
    let body = json!({ "rule": "daily", "tenant": "demo", "more": 1, "until": "+7d" }).to_string();
    assert_eq!(gateway.grant(&serde_json::from_str(&body).unwrap()).await.status, StatusCode::CREATED);
    for (headers, expected) in [
        (format!("host: localhost\r\n{JSON}\r\norigin: https://evil.example"), StatusCode::FORBIDDEN),
        (format!("host: localhost\r\n{JSON}\r\norigin: http://localhost:9090"), StatusCode::FORBIDDEN),
        (format!("host: localhost\r\n{JSON}\r\norigin: null"), StatusCode::FORBIDDEN),
        (format!("host: localhost\r\n{JSON}\r\nsec-fetch-site: cross-site"), StatusCode::FORBIDDEN),
        (format!("host: localhost\r\n{JSON}\r\nsec-fetch-site: same-site"), StatusCode::FORBIDDEN),
        (format!("host: rebound.example.com\r\n{JSON}"), StatusCode::FORBIDDEN),
        ("host: localhost\r\ncontent-type: text/plain".to_owned(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("host: localhost\r\ncontent-type: application/x-www-form-urlencoded".to_owned(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("host: localhost".to_owned(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let answer = gateway.ask(&format!("POST /limits/grants HTTP/1.1\r\n{headers}"), &body).await;
        assert_eq!(answer.status, expected, "{headers}");
        if expected == StatusCode::FORBIDDEN {
            let answer = gateway.ask(&format!("DELETE /limits/grants/1 HTTP/1.1\r\n{headers}"), "").await;
            assert_eq!(answer.status, expected, "{headers}");
        }
    }
    let wrong = gateway.grant(&json!({ "rule": "dialy", "tenant": "demo", "more": 1, "until": "+7d" })).await;
    assert_eq!(
        (wrong.status, wrong.json()["message"].as_str()),
        (StatusCode::BAD_REQUEST, Some("there is no rule `dialy`; there are `daily`"))
    );
    let large = gateway.grant(&json!({ "rule": "daily", "note": "x".repeat(70_000) })).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    let put = gateway.ask("PUT /limits/grants HTTP/1.1\r\nhost: localhost", "").await;
    assert_eq!((put.status, put.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD, POST")));
    assert_eq!(gateway.grants().await.as_array().map(Vec::len), Some(1), "the first one, and it stands");
    assert_eq!(gateway.admitted(3).await, 2);
    gateway.stop().await;

    let gateway = Gateway::start_with(&dir, &emulator, "record: { access_log: off }", SystemTime::UNIX_EPOCH + NOON);
    let without = gateway.grant(&json!({ "rule": "daily", "tenant": "demo", "more": 1, "until": "+7d" })).await;
    assert_eq!(without.status, StatusCode::CONFLICT);
    assert!(without.json()["message"].as_str().unwrap().contains("record: { ledger: "), "{without:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_shown_granted_and_revoked_on_the_command_line() {
    let world = world("").await;
    let limits = "{ name: budget, count: usd, quota: 0.50/month }, { name: rpm, count: requests, rate: 600/minute }";
    let binary = Binary::run(&world.dir, &yaml(&world, limits), &[]).await;
    let admin = format!("http://{}", binary.admin);
    let said = async |arguments: &[&str]| {
        let output = tollgate(&world.dir, &[&["limits"], arguments, &["--admin", &admin]].concat()).await;
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    let listed = said(&["list"]).await;
    assert!(listed.contains("budget") && listed.contains("rpm") && listed.ends_with("no grants\n"), "{listed}");
    let made = said(&["grant", "demo", "budget", "+99.5", "--until", "+7d", "--note", "a launch"]).await;
    assert!(made.starts_with("grant 1: 99.5 usd more of `budget` for `demo` until 20"), "{made}");
    let listed = said(&["list", "--tenant", "demo"]).await;
    let line = listed.lines().last().unwrap();
    assert!(line.contains("99.5") && line.contains("in force") && line.ends_with("a launch"), "{listed}");
    let shown = said(&["show", "--tenant", "demo"]).await;
    assert!(shown.lines().any(|line| line.starts_with("budget") && line.contains("100")), "{shown}");
    let shown: Value = serde_json::from_str(&said(&["list", "--json"]).await).unwrap();
    assert_eq!((&shown["rules"][0]["name"], &shown["grants"][0]["more"]), (&json!("budget"), &json!("99.5")));
    assert_eq!(said(&["revoke", "1"]).await, "grant 1 is revoked\n");

    let wrong = tollgate(&world.dir, &["limits", "grant", "demo", "rpm", "+1.5", "--until", "+7d", "--admin", &admin]).await;
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("`more` is `+1.5`: a whole number"), "{}", text(&wrong.stderr));
    let events = binary.stop().await;
    assert!(
        events.contains("a grant was made") && events.contains("a grant was revoked") && events.contains("\"by\":\"127.0.0.1:"),
        "{events}"
    );
    // By the configuration, which names port 0: nobody is there.
    let gone = tollgate(&world.dir, &["limits", "list", "--config", "binary.yaml"]).await;
    assert!(!gone.status.success() && text(&gone.stderr).contains("no gateway answers at http://127.0.0.1:0"), "{}", text(&gone.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_without_a_ledger_are_warned_of() {
    let world = world("").await;
    let quota = "{ name: budget, count: requests, quota: 5/day }";
    for (limits, ledger, warned) in
        [(quota, "", true), (quota, "ledger: ledger.sqlite", false), ("{ name: r, count: requests, rate: 5/hour }", "", false)]
    {
        let text = yaml(&world, limits).replace("ledger: ledger.sqlite", ledger);
        let said = Binary::run(&world.dir, &text, &[]).await.stop().await;
        assert_eq!(said.contains("quotas begin anew at each start"), warned, "{said}");
    }
}
