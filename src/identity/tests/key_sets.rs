//! What a key set may hold.

use super::issuer::{base64url, ed25519, p256, p384, rsa};
use super::*;
use crate::identity::KeySetError;

fn with(mut key: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else { panic!("an object of changes") };
    for (name, value) in changes {
        key[name] = value;
    }
    key
}

fn build(bytes: &[u8], algorithms: &[Algorithm]) -> Result<Identity, KeySetError> {
    let file = KeyFile::of_bytes(bytes);
    Identity::build(&[Method::Jwt(Jwt { algorithms: algorithms.to_vec(), ..rules(&file) })]).map_err(|error| {
        assert!(error.to_string().contains(file.0.to_str().unwrap()), "the error names the file");
        match error {
            IdentityError::KeySet { cause, .. } => cause,
            other => panic!("{other}"),
        }
    })
}

fn build_keys(keys: &[Value]) -> Result<Identity, KeySetError> {
    use Algorithm::{ES256, ES384, EdDSA, RS256};
    build(json!({ "keys": keys }).to_string().as_bytes(), &[RS256, ES256, ES384, EdDSA])
}

#[test]
fn keys_of_unknown_types_and_for_other_purposes_are_passed_over() {
    let strangers = [
        json!({ "kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "pub": "AAAA" }),
        json!({ "kty": "EC", "crv": "secp256k1", "kid": "btc", "x": "AAAA", "y": "AAAA" }),
        json!({ "kty": "OKP", "crv": "X25519", "kid": "dh", "x": "AAAA" }),
        with(p256().jwk("enc"), json!({ "use": "enc" })),
        with(rsa().jwk("weak, but not for us"), json!({ "use": "enc", "n": base64url([0xff; 128]) })),
        with(p256().jwk("ops"), json!({ "key_ops": ["deriveKey"] })),
        with(p256().jwk("alg"), json!({ "alg": "ECDH-ES" })),
        with(rsa().jwk("alg2"), json!({ "alg": "ES256" })),
        with(rsa().jwk("alg3"), json!({ "alg": "HS256" })),
        with(rsa().jwk("alg4"), json!({ "alg": "RS512" })),
    ];
    let error = build_keys(&strangers).unwrap_err();
    assert!(matches!(error, KeySetError::NoUsableKey { keys: 10, .. }), "{error}");
    let all: Vec<_> = strangers.into_iter().chain([with(rsa().jwk("ok"), json!({ "alg": "RS256", "key_ops": ["verify"] }))]).collect();
    let token = rsa().token(&json!({ "alg": "RS256" }), &claims());
    assert!(ask(&build_keys(&all).unwrap(), &token, at(NOW)).is_ok());
}

#[test]
fn a_key_that_is_bound_to_one_algorithm_verifies_no_other() {
    let keys = json!({ "keys": [with(rsa().jwk("k1"), json!({ "alg": "PS256" }))] }).to_string();
    let identity = build(keys.as_bytes(), &[Algorithm::RS256, Algorithm::PS256]).unwrap();
    assert!(ask(&identity, &rsa().token(&json!({ "alg": "PS256", "kid": "k1" }), &claims()), at(NOW)).is_ok());
    assert!(ask(&identity, &rsa().token(&json!({ "alg": "RS256", "kid": "k1" }), &claims()), at(NOW)).is_err());
}

#[test]
fn private_and_symmetric_keys_are_refused_by_name() {
    for (key, told) in [
        (with(rsa().jwk("k1"), json!({ "d": "AAAA" })), "d"),
        (with(rsa().jwk("k1"), json!({ "qi": "AAAA" })), "qi"),
        (with(p256().jwk("k1"), json!({ "d": "AAAA" })), "d"),
        (json!({ "kty": "oct", "k": "AAAA" }), "k"),
        (json!({ "kty": "AKP", "pub": "AAAA", "priv": "AAAA" }), "priv"),
    ] {
        let error = build_keys(&[json!({ "kty": 7 }), rsa().jwk("k0"), key]).unwrap_err();
        assert!(matches!(error, KeySetError::PrivateKey { key: 2, member } if member == told), "{error}");
        assert!(error.to_string().contains("publish only public keys"));
    }
}

#[test]
fn weak_and_malformed_keys_are_refused_by_place() {
    let short = |bytes: usize| json!({ "n": base64url(vec![0xff; bytes]) });
    for (key, told) in [
        (with(rsa().jwk("k"), short(128)), "`keys[0]` is an RSA key of 1024 bits: use one of 2048 to 8192"),
        (
            with(rsa().jwk("k"), json!({ "n": base64url([&[0x7f][..], &[0xff; 255]].concat()) })),
            "`keys[0]` is an RSA key of 2047 bits: use one of 2048 to 8192",
        ),
        (
            with(rsa().jwk("k"), json!({ "n": base64url([&[0; 9][..], &[0xff; 250]].concat()) })),
            "`keys[0]` is an RSA key of 2000 bits: use one of 2048 to 8192",
        ),
        (with(rsa().jwk("k"), short(1025)), "`keys[0]` is an RSA key of 8200 bits: use one of 2048 to 8192"),
        (with(rsa().jwk("k"), json!({ "n": "" })), "`keys[0]` is an RSA key of 0 bits: use one of 2048 to 8192"),
        (with(rsa().jwk("k"), json!({ "e": "AQ" })), "`keys[0]` is malformed: `e` must be odd, above 1 and of 32 bits at most"),
        (with(rsa().jwk("k"), json!({ "e": "AA" })), "`keys[0]` is malformed: `e` must be odd, above 1 and of 32 bits at most"),
        (with(rsa().jwk("k"), json!({ "e": "AAEAAQ==" })), "`keys[0]` is malformed: `e` is not base64url without padding"),
        (json!({ "kty": "RSA", "e": "AQAB" }), "`keys[0]` is malformed: `n` is missing"),
        (with(p256().jwk("k"), json!({ "x": base64url([0; 31]) })), "`keys[0]` is malformed: `x` and `y` must be 32 bytes each"),
        (
            with(p256().jwk("k"), json!({ "x": base64url([0; 32]), "y": base64url([0; 32]) })),
            "`keys[0]` is malformed: `x` and `y` are no point on the curve",
        ),
        (with(p384().jwk("k"), json!({ "crv": "P-256" })), "`keys[0]` is malformed: `x` and `y` must be 32 bytes each"),
        (with(ed25519().jwk("k"), json!({ "x": base64url([7; 31]) })), "`keys[0]` is malformed: `x` is no public key of Ed25519"),
        (json!({ "kid": "k" }), "`keys[0]` is malformed: missing field `kty`"),
    ] {
        assert_eq!(build_keys(&[key]).unwrap_err().to_string(), told);
    }
}

#[test]
fn a_modulus_with_a_leading_zero_byte_is_read_as_the_number_it_is() {
    let bare = rsa().jwk("k1");
    let n = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bare["n"].as_str().unwrap()).unwrap();
    let identity = build_keys(&[with(bare, json!({ "n": base64url([&[0], n.as_slice()].concat()) }))]).unwrap();
    assert!(ask(&identity, &rsa().token(&json!({ "alg": "RS256" }), &claims()), at(NOW)).is_ok());
}

#[test]
fn two_keys_of_one_name_are_refused() {
    let error = build_keys(&[rsa().jwk("k1"), p256().jwk("k1")]).unwrap_err();
    assert!(matches!(error, KeySetError::KidTwice { kid } if kid == "k1"));
}

#[test]
fn what_is_no_key_set_is_refused() {
    for bytes in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[7]}"#, "-----BEGIN PUBLIC KEY-----"] {
        assert!(matches!(build(bytes.as_bytes(), &[Algorithm::RS256]), Err(KeySetError::Syntax(_))), "{bytes}");
    }
    assert!(matches!(build(br#"{"keys":[]}"#, &[Algorithm::RS256]), Err(KeySetError::NoUsableKey { keys: 0, .. })));
}

#[test]
fn a_file_of_more_than_a_mebibyte_or_none_at_all_is_refused() {
    let set = json!({ "keys": [rsa().jwk("k1")] }).to_string();
    let padded = |length: usize| format!("{set}{}", " ".repeat(length - set.len()));
    assert!(build(padded(1024 * 1024).as_bytes(), &[Algorithm::RS256]).is_ok());
    assert!(matches!(build(padded(1024 * 1024 + 1).as_bytes(), &[Algorithm::RS256]), Err(KeySetError::TooLong)));

    let mut missing = rules(&KeyFile::holding(&[]));
    missing.keys = KeySource::File("/nonexistent/keys.json".into());
    let error = Identity::build(&[Method::Jwt(missing)]).unwrap_err().to_string();
    assert!(error.starts_with("`jwks_file` `/nonexistent/keys.json`: can't be read: No such file"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_answer_of_a_provider_panics(kty in "RSA|EC|OKP|oct|[a-zA-Z]{0,4}", crv in "P-256|P-384|P-521|Ed25519|", x in "[A-Za-z0-9_=-]{0,90}", y in "[A-Za-z0-9_-]{88}", junk: Vec<u8>) {
        use Algorithm::{ES256, ES384, ES512, EdDSA, RS256};
        let all = [RS256, ES256, ES384, ES512, EdDSA];
        let key = json!({ "kty": kty, "crv": crv, "x": x, "y": y, "n": x, "e": y, "kid": x });
        drop(crate::identity::keys::KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes(), &all).map_err(|error| error.to_string()));
        drop(crate::identity::keys::KeySet::parse(&junk, &all).map_err(|error| error.to_string()));
    }
}
