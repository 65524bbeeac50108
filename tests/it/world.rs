//! A gateway with the emulator behind it, built in three lines.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::json;
use tollgate::config::Config;
use tollgate::demo::{AUDIENCE, Authority, ISSUER, Issuer};
use tollgate::domain::{Clock, ManualClock, Secret, Stopped};
use tollgate::emulator::{Credential, Emulator, Options, TlsOptions};
use tollgate::identity::{KeysFile, Owner};
use tollgate::server::{Changes, ReloadError, Running};

use crate::client::{PATIENCE, call, converse, post};

/// An emulator, a gateway before it, and what a client needs.
pub(crate) struct World {
    pub(crate) emulator: Emulator,
    /// Another region: the upstream `second`.
    pub(crate) second: Option<Emulator>,
    pub(crate) gateway: Running,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) plain_url: String,
    pub(crate) tls_url: String,
    pub(crate) ca_path: PathBuf,
    pub(crate) ca_pem: String,
    pub(crate) issuer: Issuer,
    /// For tenant `demo`, user `alice`.
    pub(crate) token: String,
    pub(crate) expired_token: String,
    /// A gateway that asks nobody.
    pub(crate) anonymous_url: String,
    anonymous: Option<Running>,
    /// A gateway that knows issued keys too.
    pub(crate) issued: Option<Running>,
    /// For tenant `demo`, user `alice`, as [`ISSUED`] lets them in.
    pub(crate) api_key: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    /// For tenant `limited`.
    pub(crate) limited_token: String,
    /// For tenant `metered`.
    pub(crate) metered_token: String,
    /// For tenant `paced`.
    pub(crate) paced_token: String,
    /// For tenant `brief`.
    pub(crate) brief_token: String,
    /// For tenant `spent`.
    pub(crate) spent_token: String,
    /// For tenant `stopped`.
    pub(crate) stopped_token: String,
    pub(crate) dir: Dir,
    /// The gateway's gateway.yaml.
    pub(crate) yaml: String,
}

/// A directory that goes with its world.
pub(crate) struct Dir(PathBuf);

/// How a world differs from the usual one.
#[derive(Default)]
pub(crate) struct Setting {
    /// More of gateway.yaml: whole top-level keys.
    pub(crate) yaml: String,
    /// More keys of the upstream.
    pub(crate) upstream: String,
    /// The emulator's options, address and credentials apart.
    pub(crate) emulator: Options,
    /// Whether the gateway reaches the emulator over TLS.
    pub(crate) upstream_tls: UpstreamTls,
    /// The gateway's clock, where it is not the system's.
    pub(crate) clock: Option<ManualClock>,
    /// Whether there is another region, us-west-2: the upstream `second`. Routes must say what it is for.
    pub(crate) second: bool,
}

/// How the gateway reaches the emulator.
#[derive(Default, PartialEq)]
pub(crate) enum UpstreamTls {
    #[default]
    Plain,
    /// With the CA of the emulator's certificate.
    Trusted,
    /// With the system's roots, which do not know that CA.
    Untrusted,
    /// With that CA, and a certificate for another name.
    OtherName,
}

/// The keys that every world has been issued.
pub(crate) const ISSUED: &str = "- api_keys: { file: keys.yaml }\n- aws_credentials: { file: keys.yaml, key_file: key }\n";

static WORLDS: AtomicU32 = AtomicU32::new(0);

/// The usual world: `yaml` is more of gateway.yaml.
pub(crate) async fn world(yaml: &str) -> World {
    World::build(Setting { yaml: yaml.to_owned(), ..Setting::default() }).await
}

/// The limits of the SDK suites' tenants.
const SDK_LIMITS: &str = "
limits:
  - { name: rps, count: requests, rate: 1/second, burst: 1, per: [user], tenants: [limited] }
  - { name: daily, count: tokens, quota: 10000/day, tenants: [metered] }
  - { name: tps, count: tokens, rate: 10000/second, burst: 2000, tenants: [paced] }
  - { name: brevity, count: tokens, rate: 1000/second, burst: 40, reserve: 1, cut: true, tenants: [brief] }
  - { name: budget, count: requests, quota: 1/day, tenants: [spent] }
";

/// The world of the SDK suites: a tenant `limited` that may do next to nothing, one that has spent the one call a day it may make, one that is stopped, others that may use so
/// many tokens, and a gateway beside it that asks nobody.
pub(crate) async fn start_for_sdks() -> World {
    let mut world = world(SDK_LIMITS).await;
    let ask = post("/model/amazon.nova-lite-v1:0/converse", &world.spent_token, "", &converse("one"));
    assert_eq!(call(world.plain, ask).await.status, 200);
    world.gateway.live().stop_book.stop(Stopped::Tenant("stopped".into()), String::new(), "Ask ops.".to_owned()).unwrap();
    let endpoint = [Some(format!("http://{}", world.emulator.address()))];
    let anonymous = start(&base("", &endpoint, "", "identity: [anonymous: { tenant: public }]"), &world.dir);
    world.anonymous_url = format!("http://{}", anonymous.listeners()[0]);
    world.anonymous = Some(anonymous);
    let methods = format!("identity:\n{}\n{ISSUED}", jwt().replace("identity: [", "- { ").replace("}]", "} }"));
    world.issued = Some(start(&base("", &endpoint, "", &methods), &world.dir));
    world
}

impl World {
    pub(crate) async fn build(setting: Setting) -> Self {
        // Every gateway connects over TLS with the process's provider; the first test to come installs it.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let dir = Dir::new();
        let authority = Authority::new().unwrap();
        let server = authority.issue(&["localhost", "127.0.0.1"]).unwrap();
        let issuer = Issuer::new().unwrap();
        for (name, text) in [
            ("ca.pem", authority.pem()),
            ("tls.pem", server.certificate),
            ("tls-key.pem", server.key),
            ("jwks.json", issuer.jwks().to_string()),
            ("secret", tollgate::demo::SECRET_ACCESS_KEY.to_owned()),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }

        let keys = KeysFile::at(&dir.join("keys.yaml"));
        let alice = || Owner { tenant: "demo".to_owned(), user: Some("alice".to_owned()), ..Owner::default() };
        let (_, api_key) = keys.new_api_key(alice()).unwrap();
        let (access_key_id, secret_access_key) = keys.new_aws_credential(&dir.join("key"), alice()).unwrap();

        let mut options = setting.emulator;
        options.credentials = vec![Credential::example()];
        if setting.upstream_tls != UpstreamTls::Plain {
            let names: &[&str] =
                if setting.upstream_tls == UpstreamTls::OtherName { &["elsewhere.example"] } else { &["localhost", "127.0.0.1"] };
            let certificate = authority.issue(names).unwrap();
            options.tls = Some(TlsOptions {
                address: "127.0.0.1:0".parse().unwrap(),
                certificate_pem: certificate.certificate,
                key_pem: Secret::new(certificate.key),
            });
        }
        let clock = options.clock.clone();
        let emulator = Emulator::start(options).await.unwrap();
        let endpoint = match setting.upstream_tls {
            UpstreamTls::Plain => format!("http://{}", emulator.address()),
            _ => format!("https://localhost:{}", emulator.tls_address().unwrap().port()),
        };
        let elsewhere = Options { region: Some("us-west-2".to_owned()), clock, ..Options::default() };
        let second = if setting.second { Some(Emulator::start(elsewhere).await.unwrap()) } else { None };
        let ca = if matches!(setting.upstream_tls, UpstreamTls::Trusted | UpstreamTls::OtherName) { "ca: ca.pem" } else { "" };
        let endpoints = [Some(endpoint), second.as_ref().map(|second| format!("http://{}", second.address()))];
        let keys: Vec<&str> = [ca, &setting.upstream].into_iter().filter(|keys| !keys.is_empty()).collect();
        let text = base(&setting.yaml, &endpoints, &keys.join(", "), &jwt());
        let gateway = start_at(&text, &dir, setting.clock.map_or(Clock::System, Clock::Manual));
        let (plain, tls) = (gateway.listeners()[0], gateway.listeners()[1]);
        let now = SystemTime::now();
        let hour = Duration::from_hours(1);
        Self {
            plain,
            tls,
            plain_url: format!("http://{plain}"),
            tls_url: format!("https://{tls}"),
            ca_path: dir.join("ca.pem"),
            ca_pem: authority.pem(),
            token: issuer.token("demo", "alice", now + hour).unwrap(),
            expired_token: issuer.token("demo", "alice", now - hour).unwrap(),
            limited_token: issuer.token("limited", "larry", now + hour).unwrap(),
            metered_token: issuer.token("metered", "mary", now + hour).unwrap(),
            paced_token: issuer.token("paced", "paul", now + hour).unwrap(),
            brief_token: issuer.token("brief", "bob", now + hour).unwrap(),
            stopped_token: issuer.token("stopped", "steve", now + hour).unwrap(),
            spent_token: issuer.token("spent", "sam", now + hour).unwrap(),
            issuer,
            emulator,
            second,
            gateway,
            anonymous_url: String::new(),
            anonymous: None,
            issued: None,
            api_key: api_key.expose().clone(),
            access_key_id,
            secret_access_key: secret_access_key.expose().clone(),
            dir,
            yaml: text,
        }
    }

    /// Puts `yaml` in force, whose files are in the world's directory.
    pub(crate) async fn reload(&self, yaml: &str) -> Result<Changes, ReloadError> {
        self.gateway.reload(&Config::parse(yaml, &self.dir.join("gateway.yaml"))?).await
    }

    /// Where the gateway that knows issued keys serves, plainly and over TLS.
    pub(crate) fn issued_urls(&self) -> [String; 2] {
        let listeners = self.issued.as_ref().expect("a world for SDKs").listeners();
        [format!("http://{}", listeners[0]), format!("https://{}", listeners[1])]
    }

    /// The admin listener's metrics.
    pub(crate) fn metrics(&self) -> String {
        self.gateway.live().metrics.render(SystemTime::now())
    }

    /// The sum of the series of a name in the metrics that have these labels, and perhaps more: `name{label="value"}`.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let metrics = self.metrics();
        let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
        let labels: Vec<&str> = labels.split_inclusive("\",").map(|label| label.trim_end_matches(',')).collect();
        let found = metrics.lines().filter(|line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']));
            rest.is_some_and(|rest| labels.iter().all(|label| rest.contains(label)))
        });
        let values: Vec<f64> = found.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert!(!values.is_empty(), "no series {series} in\n{metrics}");
        values.iter().sum()
    }

    /// Waits until nothing is in flight any more: an exchange is over, its line recorded and its upstream connection kept, a little after its client knows.
    pub(crate) async fn until_idle(&self) {
        let idle = async {
            while self.metric("tollgate_in_flight") > 0.0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, idle).await.expect("nothing in flight within 30 s");
    }

    /// A token with just these claims beside issuer, audience and an expiry in an hour.
    pub(crate) fn token_with(&self, claims: &serde_json::Value) -> String {
        let expires = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 3600;
        let mut all = json!({ "iss": ISSUER, "aud": AUDIENCE, "exp": expires });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        self.issuer.sign(&all).unwrap()
    }
}

impl Dir {
    pub(crate) fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("tollgate-it-{}-{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl std::ops::Deref for Dir {
    type Target = std::path::Path;

    fn deref(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn start(text: &str, dir: &std::path::Path) -> Running {
    start_at(text, dir, Clock::System)
}

fn start_at(text: &str, dir: &std::path::Path, clock: Clock) -> Running {
    let config = Config::parse(text, &dir.join("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"));
    Running::start(&config, clock).unwrap()
}

pub(crate) fn jwt() -> String {
    format!("identity: [jwt: {{ issuer: '{ISSUER}', audiences: [{AUDIENCE}], algorithms: [ES256], jwks_file: jwks.json, tenant: tenant }}]")
}

/// A gateway.yaml of `more` and what it lacks.
fn base(more: &str, endpoints: &[Option<String>], ca: &str, identity: &str) -> String {
    let upstreams = [("emulator", "us-east-1"), ("second", "us-west-2")].into_iter().zip(endpoints).filter_map(|((name, region), endpoint)| {
        let endpoint = endpoint.as_ref()?;
        Some(format!("{name}: {{ region: {region}, endpoint: '{endpoint}', credentials: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: secret }}, {ca} }}"))
    });
    let upstreams = upstreams.collect::<Vec<_>>().join(", ");
    let mut text = format!("{more}\n");
    let parts = [
        ("listeners", "listeners: [{ address: '127.0.0.1:0' }, { address: '127.0.0.1:0', tls: { certificates: [{ certificate: tls.pem, key: tls-key.pem }] } }]".to_owned()),
        ("admin", "admin: { address: '127.0.0.1:0' }".to_owned()),
        ("identity", identity.to_owned()),
        ("upstreams", format!("upstreams: {{ {upstreams} }}")),
        ("record", "record: { access_log: off }".to_owned()),
    ];
    for (key, part) in parts {
        if !more.lines().any(|line| line.starts_with(&format!("{key}:"))) {
            text.push_str(&part);
            text.push('\n');
        }
    }
    text
}
