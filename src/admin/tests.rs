use std::path::Path;
use std::time::{Duration, SystemTime};

use pingora::apps::HttpServerApp;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::watch;

use super::*;
use crate::domain::{ManualClock, Subject};

struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Sends raw bytes on a connection of its own. Returns the answer, and whether the connection would have been kept after it.
async fn ask(admin: &Arc<Admin>, request: &str) -> (Answer, bool) {
    let (mut client, far_end) = duplex(1 << 20);
    let (_shutdown, watch) = watch::channel(false);
    let session = ServerSession::new_http1(Box::new(far_end));
    let served = async { admin.process_new_http(session, &watch).await.is_some() };
    let asked = async {
        client.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer { head: head.to_owned(), body: body.to_owned() }
    };
    let (kept, answer) = tokio::join!(served, asked);
    (answer, kept)
}

fn config(more: &str) -> Config {
    let text = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nidentity: [anonymous: {{ tenant: public }}]\nupstreams: {{ primary: {{ region: us-east-1 }} }}\n{more}"
    );
    Config::parse(&text, Path::new("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"))
}

fn admin_with(readiness: &Readiness, more: &str) -> Arc<Admin> {
    let clock = Clock::Manual(ManualClock::starting_at(SystemTime::UNIX_EPOCH));
    Arc::new(Admin::new(&Live::build(&config(""), clock).unwrap(), readiness.clone(), &config(more)))
}

fn admin(readiness: &Readiness) -> Arc<Admin> {
    admin_with(readiness, "")
}

async fn get(admin: &Arc<Admin>, path: &str) -> Answer {
    ask(admin, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await.0
}

#[tokio::test]
async fn a_scrape_is_answered_in_prometheus_text_format() {
    let admin = admin(&Readiness::new());
    admin.metrics.set_credential_expiry("primary", Some(SystemTime::UNIX_EPOCH + Duration::from_mins(1)));
    let answer = get(&admin, "/metrics?name[]=x").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    assert!(answer.body.contains("# TYPE tollgate_requests_total counter\n"));
    assert!(answer.body.contains("tollgate_credential_expiry_seconds{upstream=\"primary\"} 60\n"));
}

#[tokio::test]
async fn a_living_process_says_so_even_while_it_is_not_ready() {
    let readiness = Readiness::new();
    let _unmet = readiness.condition("credentials of `primary`");
    let answer = get(&admin(&readiness), "/livez").await;
    assert_eq!((answer.status(), answer.body.as_str()), (200, "ok"));
}

#[tokio::test]
async fn it_is_ready_when_every_condition_is_met_and_tells_which_are_not() {
    let readiness = Readiness::new();
    let admin = admin(&readiness);
    let credentials = readiness.condition("credentials of `primary`");
    let answer = get(&admin, "/readyz").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.json(),
        json!({ "message": "not ready", "unmet": [{ "condition": "credentials of `primary`", "detail": "not known yet" }] })
    );
    credentials.met();
    let answer = get(&admin, "/readyz").await;
    assert_eq!((answer.status(), answer.body.as_str()), (200, "ready"));
}

#[tokio::test]
async fn another_path_names_those_that_there_are() {
    let answer = get(&admin(&Readiness::new()), "/metrics/\"x").await;
    assert_eq!(answer.status(), 404);
    assert_eq!(
        answer.json()["paths"],
        json!([
            "/",
            "/live.json",
            "/usage",
            "/limits",
            "/limits/grants",
            "/stops",
            "/canaries",
            "/drain",
            "/config",
            "/reload",
            "/metrics",
            "/livez",
            "/readyz"
        ])
    );
}

#[tokio::test]
async fn another_method_is_refused_and_its_body_not_read() {
    let admin = admin(&Readiness::new());
    let request = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\nx";
    let (answer, kept) = ask(&admin, request).await;
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(!kept);
}

#[tokio::test]
async fn head_is_answered_like_get_without_the_body_and_the_connection_is_kept() {
    let admin = admin(&Readiness::new());
    let (answer, kept) = ask(&admin, "HEAD /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!((answer.status(), answer.body.as_str()), (200, ""));
    assert_eq!(answer.header("content-length"), Some("2"));
    assert!(kept);
}

#[tokio::test]
async fn the_page_runs_its_own_script_and_no_other() {
    let answer = get(&admin(&Readiness::new()), "/").await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert!(answer.body.contains("<title>Tollgate</title>"));
}

#[tokio::test]
async fn what_is_in_force_is_shown_without_secrets_and_changes_with_a_reload() {
    let admin = admin(&Readiness::new());
    let text = "identity: [external: { url: 'https://authorizer/ask?code=hunter2' }]\nupstreams: { primary: { region: us-east-1 } }\n\
                listeners: [{ address: '127.0.0.1:0' }]\n";
    admin.show(&Config::parse(text, Path::new("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}")));
    let answer = get(&admin, "/config").await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    assert!(answer.body.contains("  max_body: 25000000\n") && answer.body.contains("url: https://authorizer/ask?***\n"), "{}", answer.body);
    assert!(!answer.body.contains("hunter2"));
    let reloaded = config("firewall: { max_body: 1MB }");
    admin.show(&reloaded);
    let answer = get(&admin, "/config").await;
    assert!(answer.body.starts_with(&format!("# Configuration {}, ", reloaded.version)), "{}", answer.body);
    assert!(answer.body.contains("  max_body: 1000000\n"));
}

#[tokio::test]
async fn the_limits_are_told_and_what_is_left_of_them_to_a_tenant() {
    let limits = "limits: [{ name: rpm, count: requests, rate: 600/minute, burst: 50 }]";
    let admin = admin_with(&Readiness::new(), limits);
    let rules = json!([{ "name": "rpm", "count": "requests", "rate": "600/minute", "burst": 50, "per": ["tenant"], "shadow": false }]);
    assert_eq!(get(&admin, "/limits").await.json(), json!({ "rules": rules }));
    let told = |subject: &Subject, used| crate::record::LimitLevel {
        limit: if subject.user.is_some() { "mine".into() } else { "rpm".into() },
        count: if subject.user.is_some() { "usd" } else { "requests" },
        scale: if subject.user.is_some() { 1_000_000_000_000 } else { 1 },
        capacity: 50_000_000_000_000,
        used,
        held: 1,
        reset: Duration::from_millis(1_001),
        ends: subject.user.is_some().then_some(86_400),
    };
    admin.metrics.limits(move |subject| {
        let Subject { tenant, user, group: None, model: None, key: None, address: None } = subject else { return Vec::new() };
        if tenant.as_deref() == Some("a b") && user.as_deref().is_none_or(|user| user == "eve") {
            vec![told(subject, 7)]
        } else {
            Vec::new()
        }
    });
    let answer = get(&admin, "/limits?tenant=a%20b").await.json();
    let rpm = json!({
        "rule": "rpm", "count": "requests", "capacity": 50_000_000_000_000_u64, "used": 7, "held": 1, "remaining": 49_999_999_999_992_u64,
        "resets_in": 2,
    });
    assert_eq!(answer, json!({ "rules": rules, "tenant": "a b", "left": [rpm] }));
    let answer = get(&admin, "/limits?tenant=a+b&user=eve&model=m").await.json();
    let mine = json!({
        "rule": "mine", "count": "usd", "capacity": "50", "used": "0.000000000007", "held": "0.000000000001",
        "remaining": "49.999999999992", "resets_in": 2, "ends": "1970-01-02T00:00:00Z",
    });
    assert_eq!((&answer["left"], &answer["user"]), (&json!([mine, rpm]), &json!("eve")));
    for (query, message) in [
        ("name=a", "`name` is no parameter of this page; there are `tenant`, `user`, `group`, `model`, `key`, `address`"),
        ("user=a", "a user is one of a tenant: say `tenant` too"),
        ("address=a", "`a` is no address"),
    ] {
        let wrong = get(&admin, &format!("/limits?{query}")).await;
        assert_eq!((wrong.status(), wrong.json()["message"].as_str()), (400, Some(message)));
    }
}

#[tokio::test]
async fn a_group_is_told_to_every_rule_for_tiers_go_by_it() {
    let admin = admin_with(&Readiness::new(), "limits: [{ name: rpm, count: requests, rate: 600/minute, burst: 50 }]");
    admin.metrics.limits(|subject| {
        let level = |capacity| crate::record::LimitLevel {
            limit: "rpm".into(),
            count: "requests",
            scale: 1,
            capacity,
            used: 0,
            held: 0,
            reset: Duration::ZERO,
            ends: Some(u64::MAX),
        };
        let is_of_tenant = subject.tenant.is_some() && subject.user.is_none();
        is_of_tenant.then(|| level(if subject.group.is_some() { 100 } else { 50 })).into_iter().collect()
    });
    for (query, capacity) in
        [("tenant=a", 50), ("tenant=a&user=eve", 50), ("tenant=a&group=gold", 100), ("tenant=a&user=eve&group=gold", 100)]
    {
        let told = get(&admin, &format!("/limits?{query}")).await.json();
        let left = told["left"].as_array().unwrap();
        assert_eq!((left.len(), &left[0]["capacity"]), (1, &json!(capacity)), "{query}: {told}");
        assert_eq!(left[0]["ends"], Value::Null, "what never ends");
    }
}

#[tokio::test]
async fn usage_without_a_ledger_says_how_to_have_one() {
    let admin = admin(&Readiness::new());
    let answer = get(&admin, "/usage").await;
    assert_eq!(answer.status(), 404);
    assert!(answer.json()["message"].as_str().unwrap().contains("`record: { ledger: /var/lib/tollgate/ledger.sqlite }`"));
    assert_eq!(get(&admin, "/usage?by=team").await.status(), 400);
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_is_told_and_no_empty_answer() {
    let admin = admin_with(&Readiness::new(), "record: { ledger: /nowhere/ledger.sqlite }");
    let answer = get(&admin, "/usage").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.json()["message"].as_str().unwrap().contains("/nowhere/ledger.sqlite"), "{}", answer.body);
}

#[tokio::test]
async fn figures_tell_version_readiness_and_upstreams_before_anyone_has_called() {
    let readiness = Readiness::new();
    let condition = readiness.condition(credentials_of("primary"));
    let admin = admin(&readiness);
    let told = get(&admin, "/live.json").await.json();
    assert_eq!((&told["ready"], &told["version"], &told["requests"]), (&json!(false), &json!(env!("CARGO_PKG_VERSION")), &json!(0)));
    assert_eq!(told["upstreams"], json!([{ "name": "primary", "credentials": "missing", "credentials_expire_in": null }]));
    assert_eq!(told["unmet"], json!([{ "condition": "credentials of upstream `primary`", "detail": "not known yet" }]));
    assert_eq!((&told["stopped"], &told["stops"]), (&json!(0), &json!([])));
    assert_eq!((&told["cost_usd"], &told["tenants"], &told["ledger"]), (&json!("0"), &json!([]), &json!(false)));
    assert_eq!(told["overhead"]["bounds"].as_array().unwrap().len() + 1, told["overhead"]["counts"].as_array().unwrap().len());
    condition.met();
    admin.metrics.set_credential_expiry("primary", Some(SystemTime::UNIX_EPOCH + Duration::from_mins(1)));
    let told = get(&admin, "/live.json").await.json();
    assert_eq!(told["ready"], true);
    assert_eq!(told["upstreams"], json!([{ "name": "primary", "credentials": "there", "credentials_expire_in": 60 }]));
}

#[tokio::test]
async fn a_page_of_another_site_gets_no_figures() {
    let admin = admin(&Readiness::new());
    let status = async |path: &str, headers: &str| ask(&admin, &format!("GET {path} HTTP/1.1\r\n{headers}\r\n")).await.0.status();
    for path in ["/live.json", "/usage", "/limits", "/config", "/metrics"] {
        assert_eq!(status(path, "Host: localhost:9090\r\nSec-Fetch-Site: cross-site\r\n").await, 403, "{path}");
        assert_eq!(status(path, "Host: rebound.example.com:9090\r\n").await, 403, "{path}");
        for site in ["none", "same-origin", "same-site"] {
            assert_ne!(status(path, &format!("Host: 127.0.0.1:9090\r\nSec-Fetch-Site: {site}\r\n")).await, 403, "{path} {site}");
        }
    }
    for path in ["/", "/livez", "/readyz"] {
        assert_eq!(status(path, "Host: gateway.internal\r\nSec-Fetch-Site: cross-site\r\n").await, 200, "{path}");
    }
}

#[tokio::test]
async fn a_listener_for_other_machines_may_have_any_name() {
    let admin = admin_with(&Readiness::new(), "admin: { address: '0.0.0.0:9090' }");
    let answer = ask(&admin, "GET /config HTTP/1.1\r\nHost: gateway.internal:9090\r\n\r\n").await.0;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn the_name_of_a_tenant_is_text_and_nothing_else() {
    const NAME: &str = "<img src=x onerror=alert(1)>\"'&";
    let admin = admin_with(&Readiness::new(), "");
    let answer =
        get(&admin, &format!("/limits?tenant={}", percent_encoding::utf8_percent_encode(NAME, percent_encoding::NON_ALPHANUMERIC))).await;
    assert_eq!((answer.header("content-type"), answer.header("x-content-type-options")), (Some("application/json"), Some("nosniff")));
    assert_eq!(answer.json()["tenant"], NAME);
}
