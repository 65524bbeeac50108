//! A real OpenID provider (npm `oidc-provider`, see `tests/oidc/`) issues the tokens; the gateway finds its keys by itself.
//!
//! It needs Node 20 and npm; `TOLLGATE_SKIP_SDK=1` does without.

mod provider;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tollgate::demo::{AUDIENCE, Authority, ISSUER};
use tollgate::domain::ManualClock;

use self::provider::Provider;
use crate::client::{Answer, Raw, call, converse, post};
use crate::world::{Dir, Setting, World};

const MODEL: &str = "/model/anthropic.claude-3-haiku-20240307-v1:0/converse";

/// A gateway that knows the provider by nothing but its name.
async fn gateway(provider: &Provider, clock: Option<ManualClock>) -> World {
    let issuer = &provider.issuer;
    let yaml = format!(
        "identity: [jwt: {{ issuer: '{issuer}', audiences: [tollgate], algorithms: [RS256, ES256], tenant: tenant, groups: groups, \
         required_claims: {{ scope: invoke }} }}]"
    );
    World::build(Setting { yaml, clock, ..Setting::default() }).await
}

async fn ready(world: &World) {
    crate::client::eventually("the keys are there", || world.gateway.readiness().check().is_ok()).await;
}

async fn ask(address: SocketAddr, token: &str) -> Answer {
    call(address, post(MODEL, token, "", &converse("Hello"))).await
}

/// Asks until the token is taken, or until it is not: keys come and go beside the requests.
async fn ask_until(address: SocketAddr, token: &str, status: u16) {
    let asking = async {
        while ask(address, token).await.status != status {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::client::PATIENCE, asking).await.unwrap_or_else(|_| panic!("not {status} in 30 s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_provider_that_is_known_by_name_only_are_taken() {
    for algorithm in ["RS256", "ES256"] {
        let Some(mut provider) = Provider::start(algorithm).await else { return };
        let world = gateway(&provider, None).await;
        ready(&world).await;
        let token = provider.token("acme").await;
        assert_eq!(ask(world.plain, &token).await.status, 200, "{algorithm}");
        let header: Value = part(&token, 0);
        assert_eq!((header["typ"].as_str(), header["alg"].as_str()), (Some("at+jwt"), Some(algorithm)));

        let wrong_audience = provider.token("acme urn:somebody-else").await;
        let answer = ask(world.plain, &wrong_audience).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("x-amzn-errortype"), Some("UnrecognizedClientException"));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));

        let age = format!(r#"tollgate_jwks_age_seconds{{issuer="{}"}}"#, provider.issuer);
        assert!((0.0..30.0).contains(&world.metric(&age)));
        let fresh = format!(r#"tollgate_jwks_fetches_total{{issuer="{}",outcome="fresh"}}"#, provider.issuer);
        assert_eq!(world.metric(&fresh), 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_may_be_rotated_while_the_gateway_serves() {
    let Some(mut provider) = Provider::start("RS256").await else { return };
    let world = gateway(&provider, None).await;
    ready(&world).await;
    let old = provider.token("acme").await;
    assert_eq!(ask(world.plain, &old).await.status, 200);

    // One more key: the first token to name it is refused at once and has the keys fetched.
    provider.tell("add").await;
    let new = provider.token("globex").await;
    assert_ne!(part(&old, 0)["kid"], part(&new, 0)["kid"]);
    assert_eq!(ask(world.plain, &new).await.status, 401);
    ask_until(world.plain, &new, 200).await;
    assert_eq!(ask(world.plain, &old).await.status, 200, "the old key is still published");
    assert_eq!(provider.asked().await, 2, "once at the start and once for the new key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_withdrawn_admits_nobody_from_the_next_request_on() {
    let Some(mut provider) = Provider::start("ES256").await else { return };
    let world = gateway(&provider, None).await;
    ready(&world).await;
    let old = provider.token("acme").await;
    assert_eq!(ask(world.plain, &old).await.status, 200, "and it is remembered");

    provider.tell("rotate").await;
    let new = provider.token("acme").await;
    ask_until(world.plain, &new, 200).await;
    assert_eq!(ask(world.plain, &old).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_may_be_down_and_come_back_with_other_keys() {
    let Some(mut provider) = Provider::start("RS256").await else { return };
    let world = gateway(&provider, None).await;
    ready(&world).await;
    let (known, unseen) = (provider.token("acme").await, provider.token("globex").await);
    assert_eq!(ask(world.plain, &known).await.status, 200);

    let address = provider.stop().await;
    assert_eq!(ask(world.plain, &known).await.status, 200);
    assert_eq!(ask(world.plain, &unseen).await.status, 200, "a token that was never seen verifies by the keys that are held");
    let mut unknown = unseen.split('.').map(str::to_owned).collect::<Vec<_>>();
    unknown[0] = URL_SAFE_NO_PAD.encode(json!({ "alg": "RS256", "kid": "unheard of" }).to_string());
    assert_eq!(ask(world.plain, &unknown.join(".")).await.status, 401);
    let failed = format!(r#"tollgate_jwks_fetches_total{{issuer="{}",outcome="unreachable"}}"#, provider.issuer);
    crate::client::eventually("a fetch failed", || world.metrics().contains(&failed)).await;
    assert_eq!(ask(world.plain, &known).await.status, 200, "the last good keys are kept");
    assert!(world.gateway.readiness().check().is_ok(), "and the gateway stays ready");

    provider.start_again(address).await;
    let new = provider.token("acme").await;
    ask_until(world.plain, &new, 200).await;
    assert_eq!(ask(world.plain, &known).await.status, 401, "its key is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_starts_before_its_provider() {
    let Some(mut provider) = Provider::start("RS256").await else { return };
    let token = provider.token("acme").await;
    let address = provider.stop().await;
    let world = gateway(&provider, None).await;

    let answer = ask(world.plain, &token).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("x-amzn-errortype"), Some("ServiceUnavailableException"));
    assert_eq!(answer.header("retry-after"), Some("5"));
    world.until_idle().await;
    assert_eq!(world.metric(r#"tollgate_refusals_total{reason="keys_unavailable"}"#), 1.0);
    let unmet = world.gateway.readiness().check().unwrap_err();
    assert!(unmet.iter().any(|unmet| *unmet.condition == *format!("keys of issuer `{}`", provider.issuer)), "{unmet:?}");
    // Nobody else is the worse for it.
    assert_eq!(call(world.plain, "GET /inference-profiles HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 401);

    provider.start_again(address).await;
    ready(&world).await;
    let token = provider.token("acme").await;
    assert_eq!(ask(world.plain, &token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_unknown_keys_cause_one_fetch() {
    let Some(mut provider) = Provider::start("ES256").await else { return };
    let world = gateway(&provider, None).await;
    ready(&world).await;
    let good = provider.token("acme").await;
    let before = provider.asked().await;
    let flood = (0..8).map(|client| {
        let (address, good) = (world.plain, good.clone());
        tokio::spawn(async move {
            let mut raw = Raw::connect(address).await;
            for n in 0..125 {
                let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "ES256", "kid": format!("{client}-{n}") }).to_string());
                raw.send(post(MODEL, &format!("{header}.{}", good.split_once('.').unwrap().1), "", &converse("Hello"))).await;
                let answer = raw.answer().await;
                assert_eq!(answer.status, 401);
                if answer.header("connection") == Some("close") {
                    raw = Raw::connect(address).await;
                }
            }
        })
    });
    for client in flood.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let fresh = format!(r#"tollgate_jwks_fetches_total{{issuer="{}",outcome="fresh"}}"#, provider.issuer);
    crate::client::eventually("the flood's fetch", || world.metric(&fresh) >= 2.0).await;
    assert_eq!(provider.asked().await, before + 1);
    assert_eq!(ask(world.plain, &good).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_s_token_that_was_tampered_with_is_refused() {
    let Some(mut provider) = Provider::start("RS256").await else { return };
    let world = gateway(&provider, None).await;
    ready(&world).await;
    let token = provider.token("acme").await;
    let other = provider.token("globex").await;
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());

    let mut forged = Vec::new();
    // Every claim: changed, and taken away.
    for (name, value) in part(&token, 1).as_object().unwrap() {
        let mut changed = part(&token, 1);
        changed[name] = match value {
            Value::Number(number) => json!(number.as_u64().unwrap() + 1),
            Value::Array(_) => json!(["admins"]),
            _ => json!("globex"),
        };
        forged.push((format!("{name} changed"), format!("{header}.{}.{signature}", encode(&changed))));
        changed.as_object_mut().unwrap().remove(name);
        forged.push((format!("{name} removed"), format!("{header}.{}.{signature}", encode(&changed))));
    }
    // Every field of the header, and other algorithms: none at all, and HMAC with the public key for its secret.
    for change in [
        json!({ "alg": "none" }),
        json!({ "alg": "RS512" }),
        json!({ "alg": "PS256" }),
        json!({ "alg": "ES256" }),
        json!({ "typ": "logout+jwt" }),
        json!({ "typ": "JWT" }),
        json!({ "kid": "other" }),
        json!({ "jku": "https://evil.example" }),
        json!({ "crit": ["exp"] }),
    ] {
        let mut changed = part(&token, 0);
        changed.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        forged.push((change.to_string(), format!("{}.{claims}.{signature}", encode(&changed))));
        forged.push((format!("{change}, unsigned"), format!("{}.{claims}.", encode(&changed))));
    }
    for (name, algorithm) in [("HS256", aws_lc_rs::hmac::HMAC_SHA256), ("RS256", aws_lc_rs::hmac::HMAC_SHA256)] {
        let keys = provider.get("/jwks").await.json();
        let modulus = keys["keys"][0]["n"].as_str().unwrap().to_owned();
        for secret in [modulus.as_bytes().to_vec(), URL_SAFE_NO_PAD.decode(&modulus).unwrap(), keys["keys"][0].to_string().into_bytes()] {
            let signed = format!("{}.{claims}", encode(&json!({ "alg": name, "typ": "JWT", "kid": part(&token, 0)["kid"] })));
            let tag = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(algorithm, &secret), signed.as_bytes());
            forged.push((format!("{name} by HMAC"), format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))));
        }
    }
    forged.push(("another's signature".to_owned(), format!("{header}.{claims}.{}", other.rsplit_once('.').unwrap().1)));
    for (what, forged) in forged {
        assert_eq!(ask(world.plain, &forged).await.status, 401, "{what}");
    }
    assert_eq!(ask(world.plain, &token).await.status, 200);
    assert!(world.emulator.requests().len() == 1, "no forgery went upstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_s_token_ends_when_it_says() {
    let Some(mut provider) = Provider::start("ES256").await else { return };
    let clock = ManualClock::starting_at(SystemTime::now());
    let world = gateway(&provider, Some(clock.clone())).await;
    ready(&world).await;
    let token = provider.token("acme").await;
    assert_eq!(ask(world.plain, &token).await.status, 200);
    // It lives for ten minutes, and a minute of leeway beyond.
    clock.advance(Duration::from_secs(650));
    assert_eq!(ask(world.plain, &token).await.status, 403, "the emulator finds a signature of so far ahead too new; the token was taken");
    clock.advance(Duration::from_secs(15));
    assert_eq!(ask(world.plain, &token).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_provider_is_believed_by_its_ca_alone() {
    let (authority, dir) = (Authority::new().unwrap(), Dir::new());
    let keys = tollgate::demo::Issuer::new().unwrap();
    std::fs::write(dir.join("provider-ca.pem"), authority.pem()).unwrap();
    let address = serve_tls(&authority, keys.jwks().to_string()).await;
    let gateway = |ca: &str| {
        let yaml = format!(
            "identity: [jwt: {{ issuer: '{ISSUER}', audiences: [{AUDIENCE}], algorithms: [ES256], jwks_url: 'https://localhost:{}/keys', tenant: tenant{ca} }}]",
            address.port()
        );
        World::build(Setting { yaml, ..Setting::default() })
    };
    let token = keys.token("acme", "ann", SystemTime::now() + Duration::from_hours(1)).unwrap();

    let world = gateway(&format!(", ca: '{}'", dir.join("provider-ca.pem").display())).await;
    ready(&world).await;
    assert_eq!(ask(world.plain, &token).await.status, 200);

    let world = gateway("").await;
    let unreachable = format!(r#"tollgate_jwks_fetches_total{{issuer="{ISSUER}",outcome="unreachable"}}"#);
    crate::client::eventually("a fetch failed", || world.metrics().contains(&unreachable)).await;
    let unmet = world.gateway.readiness().check().unwrap_err();
    assert!(unmet.iter().any(|unmet| unmet.detail.contains("UnknownIssuer")), "{unmet:?}");
    assert_eq!(ask(world.plain, &token).await.status, 503);
}

/// Serves a key set over TLS on `localhost`, for as long as the test's runtime lives.
async fn serve_tls(authority: &Authority, keys: String) -> SocketAddr {
    let certificate = authority.issue(&["localhost"]).unwrap();
    let chain = CertificateDer::pem_slice_iter(certificate.certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            drop(stream.read(&mut request).await);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{keys}", keys.len());
            drop(stream.write_all(answer.as_bytes()).await);
            drop(stream.shutdown().await);
        }
    });
    address
}

fn part(token: &str, at: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap()).unwrap()
}
