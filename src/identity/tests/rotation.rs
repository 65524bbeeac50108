//! Keys that come, go, and are not there yet; providers that answer badly.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::issuer::{other_rsa, rsa};
use super::*;
use crate::config::identity::Url;
use crate::identity::Renewal;
use crate::identity::keys::KeySet;

const SIGNATURE: &str = "the token's signature can't be verified";

fn set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

fn keys(keys: &[Value]) -> KeySet {
    KeySet::parse(&set(keys), &[Algorithm::RS256]).unwrap()
}

fn remote(url: &str) -> Jwt {
    Jwt { keys: KeySource::Url { url: Url::parse(url).unwrap(), ca: None }, ..rules_without_file() }
}

fn rules_without_file() -> Jwt {
    rules(&KeyFile::holding(&[]))
}

fn token(signer: &super::issuer::Signer, kid: &str) -> String {
    signer.token(&json!({ "alg": "RS256", "kid": kid }), &claims())
}

#[test]
fn a_key_that_is_withdrawn_takes_its_tokens_with_it_and_others_stay() {
    let file = KeyFile::holding(&[rsa().jwk("k1"), other_rsa().jwk("k2")]);
    let identity = identity_of(rules(&file));
    let ring = Arc::clone(identity.keyrings().next().unwrap());
    let (first, second) = (token(rsa(), "k1"), token(other_rsa(), "k2"));
    let known = ask(&identity, &first, at(NOW)).unwrap();
    ask(&identity, &second, at(NOW)).unwrap();

    // The same keys, in another order, and one more: what is remembered stays.
    ring.publish(keys(&[other_rsa().jwk("k2"), rsa().jwk("k1"), other_rsa().jwk("k3")]));
    assert!(Arc::ptr_eq(&known, &ask(&identity, &first, at(NOW)).unwrap()));

    ring.publish(keys(&[other_rsa().jwk("k2")]));
    assert_refused(ask(&identity, &first, at(NOW)), SIGNATURE, &first, "withdrawn");
    assert!(ask(&identity, &second, at(NOW)).is_ok());

    // Another key under an old name.
    ring.publish(keys(&[rsa().jwk("k2")]));
    assert_refused(ask(&identity, &second, at(NOW)), SIGNATURE, &second, "replaced");
}

#[test]
fn tokens_of_one_issuer_are_kept_when_another_s_keys_change() {
    let (ours, theirs) = (KeyFile::holding(&[rsa().jwk("k1")]), KeyFile::holding(&[other_rsa().jwk("k1")]));
    let second = Jwt { issuer: "https://second.example".into(), ..rules(&theirs) };
    let identity = Identity::build(&[Method::Jwt(rules(&ours)), Method::Jwt(second)]).unwrap();
    let token = token(rsa(), "k1");
    let known = ask(&identity, &token, at(NOW)).unwrap();
    identity.keyrings().nth(1).unwrap().publish(keys(&[rsa().jwk("new")]));
    assert!(Arc::ptr_eq(&known, &ask(&identity, &token, at(NOW)).unwrap()));
}

#[test]
fn a_token_before_its_keys_is_told_to_come_again() {
    let identity = identity_of(remote("https://idp.example/keys"));
    let token = token(rsa(), "k1");
    let refusal = ask(&identity, &token, at(NOW)).unwrap_err();
    assert_eq!((refusal.reason, refusal.reason.status()), (Reason::KeysUnavailable, 503));
    assert!(refusal.retry_after.is_some());
    // What no key could make good is refused for good.
    let unsigned = super::issuer::signed_part(&json!({ "alg": "none" }), &claims());
    assert_eq!(ask(&identity, &format!("{unsigned}."), at(NOW)).unwrap_err().reason, Reason::Unauthenticated);

    identity.keyrings().next().unwrap().publish(keys(&[rsa().jwk("k1")]));
    assert!(ask(&identity, &token, at(NOW)).is_ok());
}

/// Runs the keyring of a `jwks_url` until its first attempt has ended; `answers` are what the server says, one a connection.
async fn first_attempt(answers: Vec<Vec<u8>>) -> (Renewal, bool) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", server.local_addr().unwrap());
    let serve = async {
        for answer in answers {
            let (mut stream, _) = server.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            // The client may leave in the middle of too long an answer.
            drop(stream.write_all(&answer).await);
        }
        std::future::pending::<()>().await;
    };
    attempt(&identity_of(remote(&url)), serve).await
}

async fn attempt(identity: &Identity, serve: impl Future<Output = ()>) -> (Renewal, bool) {
    let ring = identity.keyrings().next().unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let renewal = tokio::select! {
        () = ring.keep_fresh(move |renewal| tell.send(renewal).unwrap()) => unreachable!(),
        () = serve => unreachable!(),
        renewal = told.recv() => renewal.unwrap(),
    };
    (renewal, ring.is_there())
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn a_good_answer_is_put_in_force() {
    let good = answer("200 OK", "", &set(&[rsa().jwk("k1")]));
    assert_eq!(first_attempt(vec![good.clone()]).await, (Renewal::Fresh, true));
    assert_eq!(first_attempt(vec![answer("302 Found", "Location: /elsewhere\r\n", b""), good]).await, (Renewal::Fresh, true));
}

#[tokio::test]
async fn no_bad_answer_is_put_in_force() {
    let redirect = |to: &str| answer("302 Found", &format!("Location: {to}\r\n"), b"");
    let good = set(&[rsa().jwk("k1")]);
    let padded = [good.as_slice(), &vec![b' '; 1024 * 1024]].concat();
    for (answers, told) in [
        (vec![answer("500 Internal Server Error", "", &good)], "answered 500"),
        (vec![answer("404 Not Found", "", b"")], "answered 404"),
        (vec![answer("200 OK", "", &padded)], "longer than 1048576 bytes"),
        (vec![b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{".to_vec()], "breaks off"),
        (vec![b"SSH-2.0-OpenSSH\r\n".to_vec()], "can't be asked"),
        (vec![redirect("http://127.0.0.2:9/keys")], "points elsewhere"),
        (vec![redirect("//127.0.0.2:9/keys")], "points elsewhere"),
        (vec![redirect("https://127.0.0.1/keys")], "points elsewhere"),
        (vec![redirect("file:///etc/passwd")], "points elsewhere"),
        (vec![redirect("/a"), redirect("/b"), redirect("/c"), redirect("/d")], "points elsewhere"),
    ] {
        let (renewal, there) = first_attempt(answers).await;
        assert!(matches!(&renewal, Renewal::Unreachable(why) if why.contains(told)), "{told}: {renewal:?}");
        assert!(!there, "{told}");
    }
    for body in [&b"<html>"[..], b"{}", br#"{"keys":[]}"#, &set(&[json!({ "kty": "oct", "k": "AAAA" })])] {
        let (renewal, there) = first_attempt(vec![answer("200 OK", "", body)]).await;
        assert!(matches!(renewal, Renewal::Unusable(_)) && !there, "{renewal:?}");
    }
}

#[tokio::test]
async fn a_provider_speaks_for_its_own_issuer_only() {
    let discovered = |metadata: fn(&str) -> Value| async move {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", server.local_addr().unwrap());
        let url = Url::parse(&format!("{issuer}/.well-known/openid-configuration")).unwrap();
        let identity = identity_of(Jwt { issuer: issuer.clone(), keys: KeySource::Discovery { url, ca: None }, ..rules_without_file() });
        let answers = [metadata(&issuer).to_string().into_bytes(), set(&[rsa().jwk("k1")])];
        let serve = async {
            for body in answers {
                let (mut stream, _) = server.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                stream.write_all(&answer("200 OK", "", &body)).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        attempt(&identity, serve).await
    };
    assert_eq!(discovered(|issuer| json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/jwks") })).await, (Renewal::Fresh, true));
    for (metadata, told) in [
        ((|issuer| json!({ "issuer": format!("{issuer}/"), "jwks_uri": format!("{issuer}/jwks") })) as fn(&str) -> Value, "to the letter"),
        (|issuer| json!({ "issuer": "https://idp.example", "jwks_uri": format!("{issuer}/jwks") }), "to the letter"),
        (|issuer| json!({ "issuer": issuer, "jwks_uri": "http://169.254.169.254/latest" }), "is not `https`"),
        (|issuer| json!({ "issuer": issuer, "jwks_uri": "file:///etc/passwd" }), "`jwks_uri`"),
        (|issuer| json!({ "issuer": issuer }), "no OpenID provider metadata"),
        (|_| json!([]), "no OpenID provider metadata"),
    ] {
        let (renewal, there) = discovered(metadata).await;
        assert!(matches!(&renewal, Renewal::Unusable(why) if why.contains(told)), "{told}: {renewal:?}");
        assert!(!there, "{told}");
    }
}

#[tokio::test]
async fn a_file_of_keys_is_read_when_it_changes_and_a_broken_one_changes_nothing() {
    let file = KeyFile::holding(&[rsa().jwk("k1")]);
    let identity = identity_of(rules(&file));
    let ring = identity.keyrings().next().unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (old, new) = (token(rsa(), "k1"), token(other_rsa(), "second key"));
    let story = async {
        std::fs::write(&file.0, b"{").unwrap();
        assert!(matches!(told.recv().await, Some(Renewal::Unusable(_))));
        assert!(ask(&identity, &old, at(NOW)).is_ok(), "the last good keys stay");
        std::fs::write(&file.0, set(&[other_rsa().jwk("second key")])).unwrap();
        assert_eq!(told.recv().await, Some(Renewal::Fresh));
        assert!(ask(&identity, &new, at(NOW)).is_ok());
        assert!(ask(&identity, &old, at(NOW)).is_err());
    };
    tokio::select! {
        () = ring.keep_fresh(move |renewal| tell.send(renewal).unwrap()) => unreachable!(),
        () = story => {}
    }
}
