//! What it costs to know a caller: a token seen before, a new one, and more live tokens than fit in the processor's caches.

#![expect(clippy::expect_used, reason = "a bench that can't be set up should stop")]
#![expect(missing_docs, reason = "`criterion_group!` makes a public function")]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use tollgate::config::identity::{Algorithm, ClaimPath, Jwt, KeySource, Method};
use tollgate::identity::{Identity, Presented};

const NOW: u64 = 1_800_000_000;

/// Two keys and the gateway that trusts them.
struct World {
    random: SystemRandom,
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    rules: Jwt,
    jwks_file: PathBuf,
    now: SystemTime,
}

impl World {
    fn new() -> Self {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("an EC key");
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(rsa.public_key());
        let (x, y) = ec.public_key().as_ref().split_at(33);
        let keys = json!({ "keys": [
            { "kty": "RSA", "kid": "r", "n": encode(public.n), "e": encode(public.e) },
            { "kty": "EC", "kid": "e", "crv": "P-256", "x": encode(x.get(1..).expect("32 bytes")), "y": encode(y) },
        ] });
        let jwks_file: PathBuf = std::env::temp_dir().join(format!("tollgate-bench-{}.json", std::process::id()));
        std::fs::write(&jwks_file, keys.to_string()).expect("a key file");
        let rules = Jwt {
            issuer: "https://idp.example".into(),
            audiences: vec!["tollgate".into()],
            algorithms: vec![Algorithm::RS256, Algorithm::ES256],
            keys: KeySource::File(jwks_file.clone()),
            tenant: ClaimPath("custom:tenant".into()),
            user: ClaimPath("sub".into()),
            groups: None,
            required_claims: Vec::new(),
        };
        Self { random: SystemRandom::new(), rsa, ec, rules, jwks_file, now: UNIX_EPOCH + Duration::from_secs(NOW) }
    }

    fn identity(&self) -> Identity {
        Identity::build(&[Method::Jwt(self.rules.clone())]).expect("a good configuration")
    }

    /// A request with a token of some 900 bytes (RS256), as Cognito's are.
    fn request(&self, algorithm: &str, user: u32) -> HeaderMap {
        let kid = if algorithm == "RS256" { "r" } else { "e" };
        let claims = json!({
            "iss": "https://idp.example", "aud": "tollgate", "exp": NOW + 3600, "iat": NOW, "auth_time": NOW,
            "sub": format!("f2a5c4d4-8081-70b5-a2c9-{user:012}"), "custom:tenant": format!("tenant-{}", user % 500),
            "token_use": "id", "email": format!("user-{user}@example.com"), "cognito:username": format!("user-{user}"),
            "jti": format!("3b2f7f1e-7d5c-4a87-9a50-{user:012}"), "cognito:groups": ["developers", "bedrock-users"],
        });
        let signed = format!("{}.{}", encode(json!({ "alg": algorithm, "kid": kid }).to_string()), encode(claims.to_string()));
        let signature = if algorithm == "RS256" {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(&RSA_PKCS1_SHA256, &self.random, signed.as_bytes(), &mut signature).expect("a signature");
            signature
        } else {
            self.ec.sign(&self.random, signed.as_bytes()).expect("a signature").as_ref().to_vec()
        };
        let value = format!("Bearer {signed}.{}", encode(signature));
        HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_str(&value).expect("a header"))])
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.jwks_file));
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn identity(criterion: &mut Criterion) {
    let world = World::new();

    let (known, request) = (world.identity(), world.request("RS256", 0));
    criterion.bench_function("identity/known token", |bench| {
        bench.iter(|| known.identify(&Presented::by(black_box(&request)), world.now).expect("a good token"));
    });

    for algorithm in ["RS256", "ES256"] {
        let request = world.request(algorithm, 0);
        criterion.bench_function(&format!("identity/new {algorithm} token"), |bench| {
            bench.iter_batched_ref(
                || world.identity(),
                |fresh| fresh.identify(&Presented::by(black_box(&request)), world.now).expect("a good token"),
                BatchSize::SmallInput,
            );
        });
    }

    // ES256, because 100,000 RSA signatures take a minute to make.
    let requests: Vec<_> = (0..100_000).map(|user| world.request("ES256", user)).collect();
    let busy = world.identity();
    for request in &requests {
        busy.identify(&Presented::by(request), world.now).expect("a good token");
    }
    let mut rotation = requests.iter().cycle();
    criterion.bench_function("identity/100,000 tokens in rotation", |bench| {
        bench.iter(|| busy.identify(&Presented::by(black_box(rotation.next().expect("endless"))), world.now).expect("a good token"));
    });
}

criterion_group!(benches, identity);
criterion_main!(benches);
