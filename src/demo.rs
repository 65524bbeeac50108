//! `tollgate demo`: the gateway of the root's gateway.yaml with the emulator behind it, and all that a first call needs: a CA made on the spot, an
//! issuer of tokens, a token. The integration tests build their worlds from the same parts.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer as Signer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use crate::config::{Config, Faults};
use crate::domain::{Clock, Service};
use crate::emulator::{Credential, Emulator, Options};
use crate::server::{Running, StartError};

/// The key pair of AWS's documentation, which opens nothing: what the demo signs with and its emulator takes.
pub const ACCESS_KEY_ID: &str = "AKIDEXAMPLE";
/// The secret half of it.
pub const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// `iss` of the demo's tokens.
pub const ISSUER: &str = "https://demo.tollgate.invalid";
/// `aud` of the demo's tokens.
pub const AUDIENCE: &str = "tollgate";

/// The demo runs what a newcomer reads.
const CONFIG: &str = include_str!("../gateway.yaml");

/// Where [`CONFIG`] says that the demo's files are.
const DIR: &str = "target/demo";

/// The demo's token outlasts a working day.
const TOKEN_LIFE: Duration = Duration::from_hours(12);

/// Why a demo did not start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file can't be written, or a port is taken.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Keys or certificates can't be made.
    #[error("no certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A token can't be signed.
    #[error("no token: the key could not be made or used")]
    Token,
    /// The built-in configuration is faulty.
    #[error("{0}")]
    Config(Faults),
    /// The gateway did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A running demo.
pub struct Demo {
    gateway: Running,
    _emulator: Emulator,
    token: String,
    dir: PathBuf,
}

impl Demo {
    /// Writes what the demo needs into `dir`, and starts emulator and gateway on the ports of the root's gateway.yaml.
    ///
    /// # Errors
    /// [`DemoError`], such as a port that is taken.
    pub async fn start(dir: &Path) -> Result<Self, DemoError> {
        let dir = std::path::absolute(dir).map_err(|source| DemoError::Io { what: dir.display().to_string(), source })?;
        let issuer = Issuer::new()?;
        let authority = Authority::new()?;
        let server = authority.issue(&["localhost", "127.0.0.1", "::1"])?;
        write(&dir, "ca.pem", &authority.pem())?;
        write(&dir, "tls.pem", &server.certificate)?;
        write(&dir, "tls-key.pem", &server.key)?;
        write(&dir, "jwks.json", &issuer.jwks().to_string())?;
        write(&dir, "secret", SECRET_ACCESS_KEY)?;
        let token = issuer.token("demo", "alice", Clock::System.wall() + TOKEN_LIFE)?;
        write(&dir, "token", &token)?;

        let text = CONFIG.replace(DIR, &dir.display().to_string());
        let config = Config::parse(&text, Path::new("gateway.yaml")).map_err(DemoError::Config)?;
        let endpoint = config
            .upstreams
            .first()
            .and_then(|upstream| upstream.endpoint.of(Service::BEDROCK_RUNTIME))
            .map_or(4566, |endpoint| endpoint.port);
        let address = SocketAddr::from(([127, 0, 0, 1], endpoint));
        let credentials = vec![Credential::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY, None)];
        let emulator = Emulator::start(Options { address, credentials, ..Options::default() })
            .await
            .map_err(|source| DemoError::Io { what: format!("the emulator can't listen on {address}"), source })?;
        let gateway = Running::start(&config, Clock::System)?;
        Ok(Self { gateway, _emulator: emulator, token, dir })
    }

    /// The gateway of it.
    #[must_use]
    pub const fn gateway(&self) -> &Running {
        &self.gateway
    }

    /// Ends it.
    pub async fn stop(self) {
        self.gateway.drain(Duration::from_secs(1)).await;
    }

    /// What to paste, for curl, boto3 and JavaScript.
    #[must_use]
    pub fn instructions(&self) -> String {
        let address = |at: usize| self.gateway.listeners().get(at).map(ToString::to_string).unwrap_or_default();
        INSTRUCTIONS
            .trim_start()
            .replace("{plain}", &address(0))
            .replace("{tls}", &address(1))
            .replace("{admin}", &self.gateway.admin().to_string())
            .replace("{dir}", &self.dir.display().to_string())
            .replace("{token}", &self.token)
    }
}

const INSTRUCTIONS: &str = r#"
Tollgate is up, with a Bedrock emulator behind it. Ctrl-C stops both.

  clients   http://{plain} (HTTP/1.1 and h2c)   https://{tls} (TLS, CA in {dir}/ca.pem)
  operators http://{admin}/ (live), /metrics, /config

The token below is for tenant `demo`, user `alice`, and lasts 12 hours. Paste this into another shell first:

  export AWS_BEARER_TOKEN_BEDROCK={token}
  export AWS_ENDPOINT_URL_BEDROCK_RUNTIME=https://{tls} AWS_CA_BUNDLE={dir}/ca.pem NODE_EXTRA_CA_CERTS={dir}/ca.pem
  export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1

curl:

  curl -sS http://{plain}/model/amazon.nova-lite-v1:0/converse -H "Authorization: Bearer $AWS_BEARER_TOKEN_BEDROCK" \
    -H 'Content-Type: application/json' -d '{"messages":[{"role":"user","content":[{"text":"Hello, toll gate"}]}]}'

Python (pip install boto3):

  python3 -c '
  import boto3
  client = boto3.client("bedrock-runtime")
  messages = [{"role": "user", "content": [{"text": "Hello, toll gate"}]}]
  for event in client.converse_stream(modelId="amazon.nova-lite-v1:0", messages=messages)["stream"]:
      print(event)
  '

JavaScript (npm install @aws-sdk/client-bedrock-runtime):

  node --input-type=module -e '
  import { BedrockRuntimeClient, ConverseCommand } from "@aws-sdk/client-bedrock-runtime";
  const messages = [{ role: "user", content: [{ text: "Hello, toll gate" }] }];
  const answer = await new BedrockRuntimeClient().send(new ConverseCommand({ modelId: "amazon.nova-lite-v1:0", messages }));
  console.log(answer.output.message.content, answer.usage);
  '
"#;

fn write(dir: &Path, name: &str, content: &str) -> Result<(), DemoError> {
    let file = dir.join(name);
    let fault = |source| DemoError::Io { what: format!("can't write `{}`", file.display()), source };
    fs::create_dir_all(dir).map_err(fault)?;
    let mut open = fs::OpenOptions::new();
    let mut out = open.write(true).create(true).truncate(true).mode(0o600).open(&file).map_err(fault)?;
    io::Write::write_all(&mut out, content.as_bytes()).map_err(fault)
}

/// Issues tokens: an ES256 key that nobody else has.
pub struct Issuer {
    key: EcdsaKeyPair,
}

impl Issuer {
    /// A new key.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn new() -> Result<Self, DemoError> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(|key| Self { key }).map_err(|_| DemoError::Token)
    }

    /// The public half, as a JWK set (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> Value {
        // An uncompressed point: 0x04, x, y.
        let point = self.key.public_key().as_ref();
        let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "demo",
            "x": coordinate(1..33), "y": coordinate(33..65),
        }] })
    }

    /// A token for `user` of `tenant`, until `expires`.
    ///
    /// # Errors
    /// Where the key refuses to sign.
    pub fn token(&self, tenant: &str, user: &str, expires: SystemTime) -> Result<String, DemoError> {
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.sign(&json!({ "iss": ISSUER, "aud": AUDIENCE, "tenant": tenant, "sub": user, "exp": expires }))
    }

    /// A token with just these claims.
    ///
    /// # Errors
    /// Where the key refuses to sign.
    pub fn sign(&self, claims: &Value) -> Result<String, DemoError> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = json!({ "alg": "ES256", "typ": "JWT", "kid": "demo" });
        let signed = format!("{}.{}", part(&head), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).map_err(|_| DemoError::Token)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// A certificate authority made on the spot.
pub struct Authority {
    issuer: Signer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// Where no key can be made.
    pub fn new() -> Result<Self, DemoError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "Tollgate demo CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Signer::new(params, key), pem })
    }

    /// Its own certificate, for clients to trust.
    #[must_use]
    pub fn pem(&self) -> String {
        self.pem.clone()
    }

    /// A certificate for a server of these names or addresses.
    ///
    /// # Errors
    /// Where a name can't be in a certificate.
    pub fn issue(&self, names: &[&str]) -> Result<Certificate, DemoError> {
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("tollgate"));
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Certificate { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}
