use std::time::{Duration, SystemTime};

use pingora::apps::HttpServerApp;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::watch;

use super::*;
use crate::domain::ManualClock;

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

fn admin(readiness: &Readiness) -> Arc<Admin> {
    let clock = Clock::Manual(ManualClock::starting_at(SystemTime::UNIX_EPOCH));
    Arc::new(Admin::new(Arc::new(Metrics::new()), readiness.clone(), clock))
}

async fn get(admin: &Arc<Admin>, path: &str) -> Answer {
    ask(admin, &format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n")).await.0
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
    assert_eq!(answer.json()["paths"], json!(["/metrics", "/livez", "/readyz"]));
}

#[tokio::test]
async fn another_method_is_refused_and_its_body_not_read() {
    let admin = admin(&Readiness::new());
    let request = "POST /metrics HTTP/1.1\r\nHost: admin\r\nContent-Length: 1000000000\r\n\r\nx";
    let (answer, kept) = ask(&admin, request).await;
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(!kept);
}

#[tokio::test]
async fn head_is_answered_like_get_without_the_body_and_the_connection_is_kept() {
    let admin = admin(&Readiness::new());
    let (answer, kept) = ask(&admin, "HEAD /livez HTTP/1.1\r\nHost: admin\r\n\r\n").await;
    assert_eq!((answer.status(), answer.body.as_str()), (200, ""));
    assert_eq!(answer.header("content-length"), Some("2"));
    assert!(kept);
}
