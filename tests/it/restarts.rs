//! Restarts side by side and reloads of every kind, under load of every kind: no request is lost, and none is answered twice.
//!
//! The test holds the sockets, as systemd does, and passes them to one process after another. Its clients retry nothing: a connection that they were not told
//! to leave must answer. `TOLLGATE_ROUNDS` asks for more or fewer rounds.

mod clients;
mod stock;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use rustls::ClientConfig;
use tokio::task::JoinSet;
use tollgate::demo::{Authority, Issuer};
use tollgate::emulator::{Credential, Emulator, Options};

use self::clients::{Habit, client, outlives};
use crate::admin::get;
use crate::binary::Binary;
use crate::client::{PATIENCE, call};
use crate::downstream::Way;
use crate::world::Dir;

const ROUNDS: usize = 20;

/// What most calls ask, and what the long ones do: apart, for the ends of those are estimated.
const MODEL: &str = "amazon.nova-lite-v1:0";
const LONG: &str = "anthropic.claude-3-haiku-20240307-v1:0";

/// What outlives the processes.
struct Site {
    dir: Dir,
    emulator: Emulator,
    authority: Authority,
    token: String,
    /// As systemd holds them: plain, and TLS.
    sockets: [TcpListener; 2],
    /// Clients' TLS by the protocol that they speak.
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    stop: AtomicBool,
    /// Calls of which HTTP/2 said that they were not looked at: any client sends them again (RFC 9113, section 6.8).
    unprocessed: AtomicU64,
}

impl Site {
    async fn new() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let (dir, authority, issuer) = (Dir::new(), Authority::new().unwrap(), Issuer::new().unwrap());
        let keys = [Credential::example(), Credential::new("AKIDOTHER", "another", None)];
        for key in &keys {
            fs::write(dir.join(&key.access_key_id), key.secret_access_key.expose()).unwrap();
        }
        fs::write(dir.join("jwks.json"), issuer.jwks().to_string()).unwrap();
        let tls = |alpn: &[u8]| crate::connections::client_config(&authority.pem(), &rustls::version::TLS13, &[alpn]);
        let site = Self {
            emulator: Emulator::start(Options { credentials: keys.into(), ..Options::default() }).await.unwrap(),
            token: issuer.token("demo", "alice", SystemTime::now() + Duration::from_hours(1)).unwrap(),
            sockets: [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap()),
            http1: tls(b"http/1.1"),
            http2: tls(b"h2"),
            stop: AtomicBool::new(false),
            unprocessed: AtomicU64::new(0),
            authority,
            dir,
        };
        site.replace_certificate();
        site
    }

    /// Where clients go by `way`.
    fn address(&self, way: Way) -> SocketAddr {
        let [plain, tls] = &self.sockets;
        if matches!(way, Way::Http1 | Way::H2c) { plain } else { tls }.local_addr().unwrap()
    }

    /// The configuration of a round: limits change with each, credentials with some.
    fn yaml(&self, round: usize, key: &str) -> String {
        let [plain, tls] = self.sockets.each_ref().map(|socket| socket.local_addr().unwrap());
        let upstream = format!("http://{}", self.emulator.address());
        format!(
            "listeners: [{{ address: '{plain}' }}, {{ address: '{tls}', tls: {{ certificates: [{{ certificate: tls.pem, key: tls-key.pem }}] }} }}]\n\
             admin: {{ address: '127.0.0.1:0', drain_timeout: 5s }}\n\
             record: {{ access_log: off, ledger: ledger.sqlite }}\n\
             limits: [{{ name: daily, count: requests, quota: {}/day }}]\n\
             upstreams: {{ emulator: {{ region: us-east-1, endpoint: '{upstream}', credentials: {{ access_key_id: {key}, secret_access_key_file: {key} }} }} }}\n{}\n",
            1_000_000 + round,
            crate::world::jwt(),
        )
    }

    fn replace(&self, file: &str, text: &str) {
        fs::write(self.dir.join("new"), text).unwrap();
        fs::rename(self.dir.join("new"), self.dir.join(file)).unwrap();
    }

    fn replace_certificate(&self) {
        let issued = self.authority.issue(&["localhost"]).unwrap();
        self.replace("tls-key.pem", &issued.key);
        self.replace("tls.pem", &issued.certificate);
    }
}

/// A process that is ready.
async fn start(site: &Site, yaml: &str) -> Binary {
    let [plain, tls] = &site.sockets;
    let binary = Binary::run_with_two_sockets([plain, tls], &site.dir, yaml).await;
    let ready = async {
        while get(binary.admin, "/readyz").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("ready within 30 s");
    binary
}

/// Waits until the process has said `what` once more than `before` times.
async fn says(binary: &Binary, what: &str, before: usize) {
    let said = async {
        while binary.said().matches(what).count() <= before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("no `{what}` in 30 s: {}", binary.said()));
}

/// What an operator does in a round.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// Another process takes over.
    Restart,
    /// The same while streams run for longer than a drain takes.
    RestartUnderLongStreams,
    /// Other limits, by a signal.
    Signal,
    /// Other limits, by the file alone.
    File,
    /// Other limits, by an operator's request.
    Post,
    /// Other certificates, found by themselves.
    Certificates,
    /// Other AWS credentials.
    Credentials,
}

const DEEDS: [Deed; 10] = [
    Deed::Restart,
    Deed::Signal,
    Deed::RestartUnderLongStreams,
    Deed::File,
    Deed::Restart,
    Deed::Credentials,
    Deed::Restart,
    Deed::Certificates,
    Deed::Restart,
    Deed::Post,
];

#[tokio::test(flavor = "multi_thread")]
async fn twenty_restarts_and_reloads_under_mixed_load_lose_no_request() {
    const LOADED: &str = "the configuration was loaded anew";
    let rounds = std::env::var("TOLLGATE_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let site = Arc::new(Site::new().await);
    let (mut key, mut other_key) = ("AKIDEXAMPLE", "AKIDOTHER");
    let mut binary = start(&site, &site.yaml(0, key)).await;
    let mut load = JoinSet::new();
    for (name, (way, habit)) in Way::ALL.into_iter().flat_map(|way| Habit::ALL.map(|habit| (way, habit))).enumerate() {
        load.spawn(client(Arc::clone(&site), way, habit, name));
    }
    let (mut long, mut restarts) = (0, 0);
    for round in 1..=rounds {
        let deed = DEEDS[(round - 1) % DEEDS.len()];
        let began = std::time::Instant::now();
        let loaded = binary.said().matches(LOADED).count();
        match deed {
            Deed::Restart | Deed::RestartUnderLongStreams => {
                let mut streams = Vec::new();
                if matches!(deed, Deed::RestartUnderLongStreams) {
                    for way in Way::ALL {
                        streams.push(outlives(&site, way).await);
                    }
                }
                let next = start(&site, &site.yaml(round, key)).await;
                let old = std::mem::replace(&mut binary, next);
                old.signal("-TERM").await;
                long += streams.len();
                for stream in streams {
                    stream.await.unwrap();
                }
                let said = old.ended().await;
                assert!(!said.contains("cut what outlived the drain") && !said.contains("panicked"), "{said}");
                restarts += 1;
            }
            Deed::Signal | Deed::Credentials => {
                if matches!(deed, Deed::Credentials) {
                    std::mem::swap(&mut key, &mut other_key);
                }
                site.replace("binary.yaml", &site.yaml(round, key));
                binary.signal("-HUP").await;
                says(&binary, LOADED, loaded).await;
            }
            Deed::File => {
                site.replace("binary.yaml", &site.yaml(round, key));
                says(&binary, LOADED, loaded).await;
            }
            Deed::Post => {
                site.replace("binary.yaml", &site.yaml(round, key));
                let ask = "POST /reload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let told = call(binary.admin, ask).await;
                assert_eq!((told.status.as_u16(), &told.json()["changed"]), (200, &true.into()));
            }
            Deed::Certificates => {
                let taken = "certificate files have changed and are in use";
                let before = binary.said().matches(taken).count();
                site.replace_certificate();
                says(&binary, taken, before).await;
            }
        }
        eprintln!("round {round}: {deed:?}, {:?}", began.elapsed());
        let lost = load.try_join_next();
        assert!(lost.is_none(), "a client lost a request: {lost:?}");
    }
    site.stop.store(true, Relaxed);
    let mut asked = 0;
    while let Some(ended) = tokio::time::timeout(PATIENCE, load.join_next()).await.expect("an end") {
        asked += ended.expect("no request is lost");
    }
    let said = binary.stop().await;
    assert!(!said.contains("panicked"), "{said}");
    eprintln!("{asked} calls over {restarts} restarts, {} sent again as HTTP/2 says", site.unprocessed.load(Relaxed));
    assert!(asked > 20 * rounds as u64, "{asked} calls are no load");
    every_call_is_written_down_once(&site, asked, long as u64);
}

fn every_call_is_written_down_once(site: &Site, asked: u64, long: u64) {
    let ledger = rusqlite::Connection::open(site.dir.join("ledger.sqlite")).unwrap();
    let numbers = |sql: &str| -> [u64; 6] {
        let row = |row: &rusqlite::Row<'_>| Ok([0, 1, 2, 3, 4, 5].map(|at| row.get::<_, i64>(at).unwrap().cast_unsigned()));
        ledger.query_row(sql, [], row).unwrap()
    };
    let of = |model| {
        let sums = ["calls", "refused", "failed", "estimated_calls", "input", "output"].map(|column| format!("ifnull(sum({column}), 0)"));
        numbers(&format!("SELECT {} FROM usage WHERE model = '{model}'", sums.join(", ")))
    };
    let (bill, written) = (site.emulator.bill(), of(MODEL));
    let billed = bill[MODEL];
    assert_eq!(billed.calls, asked, "each is asked for once");
    assert_eq!(written, [asked, 0, 0, 0, billed.usage.input, billed.usage.output], "what is written down is what is billed");
    if long > 0 {
        let [calls, refused, _, estimated, input, _] = of(LONG);
        assert_eq!([calls, refused, estimated], [long; 3], "ended by the gateway, and reckoned up to there");
        assert_eq!((bill[LONG].calls, bill[LONG].usage.input), (long, input));
    }
    let used: i64 = ledger.query_row("SELECT sum(used) FROM quotas", [], |row| row.get(0)).unwrap();
    assert_eq!(used.cast_unsigned(), asked + long, "of the quota, too");
}
