use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use prometheus::IntCounter;
use serde_json::{Value, json};

use super::*;
use crate::domain::{Secret, Subject, Usd};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a server does with one post.
#[derive(Clone, Copy)]
enum Does {
    Answer(&'static str),
    Close,
}

/// A server that does these things with the posts that come, one after the other, and hands on their heads and bodies.
fn server(script: Vec<Does>) -> (Uri, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/services/hunter2", listener.local_addr().unwrap()).parse().unwrap();
    let (sender, posts) = channel();
    thread::spawn(move || {
        for does in script {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            let post = loop {
                let mut some = [0; 4096];
                let read = stream.read(&mut some).unwrap();
                assert!(read > 0, "a post came whole");
                bytes.extend_from_slice(&some[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                if let Ok(body) = serde_json::from_str(body) {
                    break (head.to_owned(), body);
                }
            };
            sender.send(post).unwrap();
            if let Does::Answer(status) = does {
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        }
    });
    (url, posts)
}

fn start(url: Uri, capacity: usize, pauses: [Duration; 3]) -> Webhook {
    let posts = Posted::ALL.map(|outcome| IntCounter::new(outcome.label(), "of a test").unwrap());
    let config = Config { url: WebhookUrl::Given(Secret::new(url)), timeout: Duration::from_secs(5) };
    Webhook::start_with(&config, posts, capacity, pauses).unwrap()
}

fn warning() -> LimitWarning {
    LimitWarning {
        rule: "budget".into(),
        count: "usd",
        subject: Subject { tenant: Some("acme <!channel>".into()), user: Some("".into()), ..Subject::default() },
        percent: 80,
        used: 400_250_000_000_000,
        limit: 500 * Usd::PICOS,
        scale: Usd::PICOS,
        ends: 1_795_305_600,
    }
}

fn counts(webhook: &Webhook) -> [u64; 3] {
    webhook.posts.each_ref().map(IntCounter::get)
}

#[test]
fn a_warning_is_posted_as_json_that_a_chat_can_show() {
    let (url, posts) = server(vec![Does::Answer("200 OK")]);
    let webhook = start(url, CAPACITY, PAUSES);
    webhook.post(&warning());
    assert!(webhook.flush(PATIENCE));
    let (head, mut body) = posts.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("POST /services/hunter2 HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: application/json\r\n"), "{head}");
    assert!(!body["gateway"].take().as_str().unwrap().is_empty());
    assert_eq!(
        body,
        json!({
            "text": "Limit budget of tenant acme &lt;!channel&gt;: more than 80% used ($400.25 of $500), until 2026-11-22T00:00:00Z",
            "limit": "budget", "tenant": "acme <!channel>", "count": "usd", "percent": 80, "used": "400.25", "limit_amount": "500",
            "ends": "2026-11-22T00:00:00Z", "gateway": null,
        })
    );
    assert_eq!(counts(&webhook), [1, 0, 0]);
}

#[test]
fn a_post_that_fails_is_tried_again_and_counted_once() {
    let (url, posts) = server(vec![Does::Answer("500 Oh"), Does::Close, Does::Answer("204 Fine")]);
    let webhook = start(url, CAPACITY, [Duration::ZERO; 3]);
    webhook.post(&warning());
    assert!(webhook.flush(PATIENCE));
    assert_eq!((posts.iter().count(), counts(&webhook)), (3, [1, 0, 0]));
}

#[test]
fn after_three_tries_a_warning_is_given_up_and_the_next_one_goes_out() {
    let (url, posts) = server(vec![Does::Answer("503 No"), Does::Close, Does::Answer("429 Later"), Does::Answer("200 OK")]);
    let webhook = start(url, CAPACITY, [Duration::ZERO; 3]);
    webhook.post(&warning());
    webhook.post(&warning());
    assert!(webhook.flush(PATIENCE));
    assert_eq!((posts.iter().count(), counts(&webhook)), (4, [1, 1, 0]));
}

#[test]
fn what_another_try_would_not_better_is_given_up_at_once_and_no_redirect_is_followed() {
    let (elsewhere, followed) = server(vec![Does::Answer("200 OK")]);
    let redirect: &'static str = format!("307 There\r\nLocation: {elsewhere}").leak();
    let (url, posts) = server(vec![Does::Answer("404 Gone"), Does::Answer(redirect)]);
    let webhook = start(url, CAPACITY, [Duration::ZERO; 3]);
    webhook.post(&warning());
    webhook.post(&warning());
    assert!(webhook.flush(PATIENCE));
    assert_eq!((posts.iter().count(), counts(&webhook)), (2, [0, 2, 0]));
    assert!(followed.try_recv().is_err());
}

#[test]
fn beyond_the_queue_warnings_are_dropped_and_nobody_waits_for_a_dead_webhook() {
    // It takes no connection that it was offered: each post hangs.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let webhook = start(url, 4, PAUSES);
    for _ in 0..20 {
        webhook.post(&warning());
    }
    // One is on its way at most, and four wait.
    let [sent, failed, dropped] = counts(&webhook);
    assert_eq!((sent, failed), (0, 0));
    assert!((15..=16).contains(&dropped), "{dropped}");
    assert!(!webhook.flush(Duration::from_millis(50)));
}

#[test]
fn a_url_may_come_from_a_file_and_no_error_tells_it() {
    let file = std::env::temp_dir().join(format!("tollgate-{}-webhook-url", std::process::id()));
    std::fs::write(&file, "https://hooks.example.com/services/hunter2\n").unwrap();
    assert_eq!(url(&WebhookUrl::File(file.clone())).unwrap().path(), "/services/hunter2");
    std::fs::write(&file, "ftp://hooks.example.com/services/hunter2").unwrap();
    let error = url(&WebhookUrl::File(file.clone())).unwrap_err();
    assert!(error.ends_with("holds no URL that can be posted to") && !error.contains("hunter2"), "{error}");
    std::fs::remove_file(&file).unwrap();
    assert!(url(&WebhookUrl::File(file)).is_err());
}
