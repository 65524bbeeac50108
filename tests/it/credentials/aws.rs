//! Stand-ins for STS and for an instance's metadata service, on loopback: they say what a test wants said, and remember what they were asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tollgate::domain::Clock;
use tollgate::emulator::Credential;

/// What STS says.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Say {
    /// A session: the key `ASIA0`, then `ASIA1`, and so on.
    Grant,
    /// No.
    Deny,
    /// Nothing, and it hangs up.
    HangUp,
    /// Nothing yet.
    Wait,
}

/// An STS that grants sessions whose keys are known beforehand.
pub(super) struct Sts {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Question>>>,
    say: watch::Sender<Say>,
}

/// What STS was asked.
#[derive(Clone)]
pub(super) struct Question {
    /// The form's fields, decoded.
    pub(super) fields: BTreeMap<String, String>,
    /// What it was signed with.
    pub(super) access_key_id: String,
}

impl Question {
    fn read(head: &str, body: &[u8]) -> Self {
        Self { fields: form(body), access_key_id: head.split("Credential=").nth(1).unwrap().split('/').next().unwrap().to_owned() }
    }

    /// The tags, by key.
    pub(super) fn tags(&self) -> BTreeMap<&str, &str> {
        let field = |name: String| self.fields.get(&name).map(String::as_str);
        (1..).map_while(|n| Some((field(format!("Tags.member.{n}.Key"))?, field(format!("Tags.member.{n}.Value"))?))).collect()
    }
}

impl Sts {
    /// One whose sessions end by `clock`.
    pub(super) async fn start(clock: Clock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, say) = (Arc::<Mutex<Vec<Question>>>::default(), watch::Sender::new(Say::Grant));
        let (heard, saying) = (Arc::clone(&asked), say.subscribe());
        let granted = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, saying, granted, clock) = (Arc::clone(&heard), saying.clone(), Arc::clone(&granted), clock.clone());
                tokio::spawn(serve(stream, move |head, body| {
                    let question = Question::read(&head, &body);
                    let expires = clock.wall() + Duration::from_secs(question.fields["DurationSeconds"].parse().unwrap());
                    heard.lock().push(question);
                    let (mut saying, granted) = (saying.clone(), Arc::clone(&granted));
                    async move {
                        let say = *saying.wait_for(|say| *say != Say::Wait).await.ok()?;
                        match say {
                            Say::Grant => Some((200, "", grant(granted.fetch_add(1, Ordering::Relaxed), expires))),
                            Say::Deny => Some((403, "", DENIED.to_owned())),
                            Say::HangUp | Say::Wait => None,
                        }
                    }
                }));
            }
        });
        Self { url, asked, say }
    }

    pub(super) fn say(&self, say: Say) {
        self.say.send_replace(say);
    }

    pub(super) fn asked(&self) -> Vec<Question> {
        self.asked.lock().clone()
    }

    /// The keys that it grants one after the other.
    pub(super) fn keys() -> Vec<Credential> {
        (0..40).map(|n| Credential::new(format!("ASIA{n}"), format!("secret{n}"), Some(&format!("token{n}")))).collect()
    }
}

const DENIED: &str = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>";

fn grant(number: usize, expires: SystemTime) -> String {
    let expires = OffsetDateTime::from(expires).format(&Rfc3339).unwrap();
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
         <AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>secret{number}</SecretAccessKey><SessionToken>token{number}</SessionToken>\
         <Expiration>{expires}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}

/// An instance's metadata service (IMDSv2), with one role.
pub(super) struct Imds {
    pub(super) address: SocketAddr,
    say: watch::Sender<Option<Instance>>,
}

/// What the instance's role has.
#[derive(Clone)]
pub(super) struct Instance {
    pub(super) key: Credential,
    /// For how long from when it is asked for.
    pub(super) lasts: Duration,
}

impl Imds {
    pub(super) async fn start(instance: Instance) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, say) = (listener.local_addr().unwrap(), watch::Sender::new(Some(instance)));
        let saying = say.subscribe();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let saying = saying.clone();
                tokio::spawn(serve(stream, move |head, _| {
                    let instance = saying.borrow().clone();
                    async move { instance.map(|instance| instance.answer(&head)) }
                }));
            }
        });
        Self { address, say }
    }

    /// From now on it has this; or hangs up on everyone.
    pub(super) fn has(&self, instance: Option<Instance>) {
        self.say.send_replace(instance);
    }
}

impl Instance {
    fn answer(&self, head: &str) -> (u16, &'static str, String) {
        // Version 2: a token first.
        if head.starts_with("PUT /latest/api/token ") {
            return (200, "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", "the-token".to_owned());
        }
        if !head.to_lowercase().contains("x-aws-ec2-metadata-token: the-token") {
            return (401, "", String::new());
        }
        match head.split(' ').nth(1).unwrap() {
            "/latest/meta-data/iam/security-credentials/" => (200, "", "gateway".to_owned()),
            "/latest/meta-data/iam/security-credentials/gateway" => (200, "", self.credentials()),
            _ => (404, "", String::new()),
        }
    }

    fn credentials(&self) -> String {
        let Self { key, lasts } = self;
        let expires = OffsetDateTime::from(SystemTime::now() + *lasts).format(&Rfc3339).unwrap();
        serde_json::json!({
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": key.access_key_id,
            "SecretAccessKey": key.secret_access_key.expose(),
            "Token": key.session_token.as_ref().unwrap().expose(),
            "Expiration": expires,
        })
        .to_string()
    }
}

/// Answers requests with what `say` makes of their heads and bodies; ends the connection where that is nothing.
async fn serve<F>(mut stream: TcpStream, say: impl Fn(String, Vec<u8>) -> F)
where
    F: Future<Output = Option<(u16, &'static str, String)>>,
{
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await.map_or(true, |n| n == 0) {
                return;
            }
        };
        let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
        let length =
            head.to_ascii_lowercase().split("content-length: ").nth(1).map_or(0, |rest| rest.split('\r').next().unwrap().parse().unwrap());
        while buffer.len() < length {
            if stream.read_buf(&mut buffer).await.map_or(true, |n| n == 0) {
                return;
            }
        }
        let body = buffer.drain(..length).collect();
        let Some((status, headers, text)) = say(head, body).await else { return };
        let answer = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{text}", text.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    let decode = |part: &str| percent_encoding::percent_decode_str(&part.replace('+', " ")).decode_utf8().unwrap().into_owned();
    let text = std::str::from_utf8(body).unwrap();
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decode(name), decode(value))).collect()
}
