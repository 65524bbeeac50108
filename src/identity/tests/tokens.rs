//! Each way in which a token can be right or wrong.

use aws_lc_rs::hmac;

use super::issuer::{Signer, base64url, ed25519, other_rsa, p256, p384, p521, rsa, signed_part};
use super::*;

const SIGNATURE: &str = "the token's signature can't be verified";
const ALGORITHM: &str = "the token's signature algorithm is not accepted";
const NOT_A_TOKEN: &str = "the credential is not a signed token (JWT)";
const ISSUER: &str = "the token's issuer is not accepted";
const AUDIENCE: &str = "the token is meant for another audience";
const EXPIRED: &str = "the token has expired";
const NO_TENANT: &str = "the token names no tenant";
const CLAIM: &str = "a claim of the token that names the tenant, the user or a group is malformed";

fn head() -> Value {
    json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" })
}

fn identity() -> Identity {
    identity_of(rules(&KeyFile::holding(&[rsa().jwk("k1")])))
}

#[test]
fn a_good_token_names_its_tenant_and_user() {
    let caller = ask(&identity(), &rsa().token(&head(), &claims()), at(NOW)).unwrap();
    assert_eq!((&*caller.tenant, caller.user.as_deref(), caller.method.label()), ("acme", Some("ann"), "jwt"));
    assert!(caller.groups.is_empty());
}

#[test]
fn a_token_with_wrong_claims_is_refused() {
    let long = "x".repeat(257);
    let cases = [
        (json!({ "iss": "https://idp.example/" }), ISSUER),
        (json!({ "iss": "https://evil.example" }), ISSUER),
        (json!({ "iss": null }), ISSUER),
        (json!({ "iss": ["https://idp.example"] }), NOT_A_TOKEN),
        (json!({ "aud": "somebody" }), AUDIENCE),
        (json!({ "aud": [] }), AUDIENCE),
        (json!({ "aud": ["a", "b"] }), AUDIENCE),
        (json!({ "aud": "Tollgate" }), AUDIENCE),
        (json!({ "aud": null }), AUDIENCE),
        (json!({ "aud": null, "client_id": "somebody" }), AUDIENCE),
        (json!({ "aud": "somebody", "client_id": "tollgate" }), AUDIENCE),
        (json!({ "aud": ["somebody"], "client_id": "tollgate" }), AUDIENCE),
        (json!({ "aud": 7 }), NOT_A_TOKEN),
        (json!({ "exp": null }), "the token has no expiry"),
        (json!({ "exp": (NOW + 600).to_string() }), NOT_A_TOKEN),
        (json!({ "exp": NOW - 61 }), EXPIRED),
        (json!({ "exp": -1 }), EXPIRED),
        (json!({ "nbf": NOW + 61 }), "the token is not valid yet"),
        (json!({ "nbf": 1e300 }), "the token is not valid yet"),
        (json!({ "tenant": null }), NO_TENANT),
        (json!({ "tenant": "" }), CLAIM),
        (json!({ "tenant": "  " }), CLAIM),
        (json!({ "tenant": "a\u{0}b" }), CLAIM),
        (json!({ "tenant": "a\nb" }), CLAIM),
        (json!({ "tenant": "(mirror)" }), CLAIM),
        (json!({ "tenant": long }), CLAIM),
        (json!({ "tenant": 7 }), CLAIM),
        (json!({ "tenant": ["acme"] }), CLAIM),
        (json!({ "sub": 7 }), CLAIM),
        (json!({ "sub": "a\rb" }), CLAIM),
    ];
    let identity = identity();
    for (changes, message) in cases {
        let token = rsa().token(&head(), &claims_with(changes.clone()));
        assert_refused(ask(&identity, &token, at(NOW)), message, &token, &changes.to_string());
    }
}

#[test]
fn a_token_with_other_good_claims_is_accepted() {
    let identity = identity();
    for changes in [
        json!({ "aud": ["somebody", "other"] }),
        json!({ "aud": null, "client_id": "tollgate" }),
        json!({ "exp": f64::from(u32::MAX) + 0.5 }),
        json!({ "exp": 1e300 }),
        json!({ "nbf": NOW }),
        json!({ "nbf": -5 }),
        json!({ "tenant": "x".repeat(256) }),
        json!({ "tenant": "Zoë & Söhne" }),
    ] {
        let token = rsa().token(&head(), &claims_with(changes.clone()));
        assert!(ask(&identity, &token, at(NOW)).is_ok(), "{changes}");
    }
    let nobody = ask(&identity, &rsa().token(&head(), &claims_with(json!({ "sub": null }))), at(NOW)).unwrap();
    assert_eq!(nobody.user, None);
}

#[test]
fn the_leeway_ends_at_the_second() {
    let token = rsa().token(&head(), &claims_with(json!({ "exp": NOW, "nbf": NOW - 100 })));
    let almost = at(NOW + 59) + Duration::from_nanos(999_999_999);
    for (now, good) in [(at(NOW - 160), true), (at(NOW), true), (almost, true), (at(NOW + 60), false)] {
        assert_eq!(ask(&identity(), &token, now).is_ok(), good, "{now:?}");
    }
    assert!(ask(&identity(), &token, at(NOW - 161)).is_err());
    let token = rsa().token(&head(), &claims());
    assert!(ask(&identity(), &token, UNIX_EPOCH - Duration::from_secs(1)).is_err(), "a broken clock makes no token good");
}

#[test]
fn a_remembered_token_expires_all_the_same() {
    let (identity, token) = (identity(), rsa().token(&head(), &claims_with(json!({ "exp": NOW }))));
    let first = ask(&identity, &token, at(NOW)).unwrap();
    let again = ask(&identity, &token, at(NOW + 59)).unwrap();
    assert!(Arc::ptr_eq(&first, &again), "the second answer is remembered");
    assert_refused(ask(&identity, &token, at(NOW + 60)), EXPIRED, &token, "remembered");
}

#[test]
fn tokens_of_one_tenant_share_its_name() {
    let identity = identity();
    let [ann, bob] =
        ["ann", "bob"].map(|user| ask(&identity, &rsa().token(&head(), &claims_with(json!({ "sub": user }))), at(NOW)).unwrap());
    assert_ne!(ann.user, bob.user);
    assert!(Arc::ptr_eq(&ann.tenant, &bob.tenant));
}

#[test]
fn a_token_with_any_character_changed_is_refused() {
    let (identity, token) = (identity(), rsa().token(&head(), &claims()));
    assert!(ask(&identity, &token, at(NOW)).is_ok());
    for place in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(ask(&identity, &changed, at(NOW)).is_err(), "character {place}");
    }
    for cut in 0..token.len() {
        assert!(ask(&identity, token.split_at(cut).0, at(NOW)).is_err(), "cut at {cut}");
    }
    // The last character of 256 bytes carries 4 spare bits: another spelling of the same signature would be another token to the cache.
    let mut spare = token.into_bytes();
    *spare.last_mut().unwrap() += 1;
    let spare = String::from_utf8(spare).unwrap();
    assert!(ask(&identity, &spare, at(NOW)).is_err(), "spare bits");
}

#[test]
fn parts_of_two_good_tokens_make_no_third() {
    let identity = identity();
    let [one, two] = ["acme", "globex"].map(|tenant| rsa().token(&head(), &claims_with(json!({ "tenant": tenant }))));
    assert!(ask(&identity, &one, at(NOW)).is_ok() && ask(&identity, &two, at(NOW)).is_ok());
    let (mine, signature) = (one.rsplit_once('.').unwrap().0, two.rsplit_once('.').unwrap().1);
    assert_refused(ask(&identity, &format!("{mine}.{signature}"), at(NOW)), SIGNATURE, &one, "mixed");
}

#[test]
fn an_unsigned_token_is_refused_however_it_says_so() {
    let identity = identity();
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256", "RS256 ", "rs256"] {
        let signed = signed_part(&json!({ "alg": alg, "kid": "k1" }), &claims());
        for token in [format!("{signed}."), format!("{signed}.AAAA")] {
            assert_refused(ask(&identity, &token, at(NOW)), ALGORITHM, &token, alg);
        }
    }
    let token = format!("{}.", signed_part(&head(), &claims()));
    assert_refused(ask(&identity, &token, at(NOW)), SIGNATURE, &token, "an empty signature");
}

#[test]
fn a_public_key_is_never_an_hmac_secret() {
    let everything = [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];
    let identity = identity_of(Jwt { algorithms: everything.to_vec(), ..rules(&KeyFile::holding(&[rsa().jwk("k1")])) });
    for (name, algorithm) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)] {
        for secret in rsa().public_encodings() {
            // As the header says, and under a header that lies about it.
            for (said, message) in [(name, ALGORITHM), ("RS256", SIGNATURE)] {
                let signed = signed_part(&json!({ "alg": said, "kid": "k1" }), &claims());
                let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), signed.as_bytes());
                let token = format!("{signed}.{}", base64url(tag));
                assert_refused(ask(&identity, &token, at(NOW)), message, &token, name);
            }
        }
    }
}

#[test]
fn each_algorithm_verifies_under_its_own_name_and_no_other() {
    use Algorithm::{ES256, ES384, ES512, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    let all = [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA];
    let keys: [(&str, &Signer); 5] = [("rsa", rsa()), ("p256", &p256()), ("p384", &p384()), ("p521", &p521()), ("ed", &ed25519())];
    let published: Vec<_> = keys.iter().map(|(kid, key)| key.jwk(kid)).collect();
    let identity = identity_of(Jwt { algorithms: all.to_vec(), ..rules(&KeyFile::holding(&published)) });
    let own = |algorithm: Algorithm| match algorithm {
        RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => "rsa",
        ES256 => "p256",
        ES384 => "p384",
        ES512 => "p521",
        EdDSA => "ed",
        HS256 | HS384 | HS512 => "",
    };
    for (kid, key) in keys {
        for made in all.into_iter().filter(|made| own(*made) == kid) {
            for said in all {
                let signed = signed_part(&json!({ "alg": format!("{said:?}"), "kid": kid }), &claims());
                let token = format!("{signed}.{}", base64url(key.sign(&format!("{made:?}"), signed.as_bytes())));
                assert_eq!(ask(&identity, &token, at(NOW)).is_ok(), made == said, "{kid}: made {made:?}, said {said:?}");
            }
        }
    }
}

#[test]
fn an_algorithm_that_is_not_configured_is_refused() {
    let token = rsa().token(&json!({ "alg": "RS512", "kid": "k1" }), &claims());
    assert_refused(ask(&identity(), &token, at(NOW)), ALGORITHM, &token, "RS512");
}

#[test]
fn a_header_that_is_wrong_is_refused() {
    let identity = identity();
    let cases = [
        (json!({ "alg": "RS256", "kid": "k2" }), SIGNATURE),
        (json!({ "alg": "RS256", "kid": "" }), SIGNATURE),
        (json!({ "alg": "RS256", "kid": 1 }), NOT_A_TOKEN),
        (json!({ "kid": "k1" }), NOT_A_TOKEN),
        (json!(["RS256", "k1"]), NOT_A_TOKEN),
        (
            json!({ "alg": "RS256", "kid": "k1", "crit": ["exp"], "exp": 1 }),
            "the token has critical header parameters, of which none is supported",
        ),
        (json!({ "alg": "RS256", "kid": "k1", "crit": [] }), "the token has critical header parameters, of which none is supported"),
        (json!({ "alg": "RS256", "kid": "k1", "crit": null }), "the token has critical header parameters, of which none is supported"),
    ];
    for (header, message) in cases {
        let token = rsa().token(&header, &claims());
        assert_refused(ask(&identity, &token, at(NOW)), message, &token, &header.to_string());
    }
}

#[test]
fn a_key_that_the_token_brings_along_counts_for_nothing() {
    let identity = identity();
    for kid in [json!("k1"), json!("mine"), Value::Null] {
        let mut header = json!({ "alg": "RS256", "jwk": other_rsa().jwk("mine"), "jku": "https://evil.example/keys" });
        if !kid.is_null() {
            header["kid"] = kid;
        }
        let token = other_rsa().token(&header, &claims());
        assert_refused(ask(&identity, &token, at(NOW)), SIGNATURE, &token, &header.to_string());
    }
}

#[test]
fn a_claim_that_stands_twice_is_refused() {
    let twice = claims().to_string().replacen('{', r#"{"iss":"https://evil.example","#, 1);
    let signed = format!("{}.{}", base64url(head().to_string()), base64url(twice));
    let token = format!("{signed}.{}", base64url(rsa().sign("RS256", signed.as_bytes())));
    assert_refused(ask(&identity(), &token, at(NOW)), NOT_A_TOKEN, &token, "iss twice");
}

#[test]
fn claims_nested_beyond_all_measure_are_refused() {
    let deep = format!("{{\"iss\":\"https://idp.example\",\"x\":{}", "[".repeat(8000));
    let token = format!("{}.{}.AAAA", base64url(head().to_string()), base64url(deep));
    assert_refused(ask(&identity(), &token, at(NOW)), NOT_A_TOKEN, &token, "deep");
}

#[test]
fn a_token_without_kid_is_tried_only_where_one_key_fits() {
    let (one, ec) = (p256(), p256());
    let token = one.token(&json!({ "alg": "ES256" }), &claims());
    let with = |keys: &[Value]| identity_of(Jwt { algorithms: vec![Algorithm::RS256, Algorithm::ES256], ..rules(&KeyFile::holding(keys)) });
    assert!(ask(&with(&[rsa().jwk("r"), one.jwk("a")]), &token, at(NOW)).is_ok());
    assert_refused(ask(&with(&[one.jwk("a"), ec.jwk("b")]), &token, at(NOW)), SIGNATURE, &token, "two keys fit");
    assert_refused(ask(&with(&[rsa().jwk("r")]), &token, at(NOW)), SIGNATURE, &token, "no key fits");
}

#[test]
fn a_tenant_stands_where_the_path_says() {
    let file = KeyFile::holding(&[rsa().jwk("k1")]);
    let org = json!({ "org": { "team": { "id": "nested" }, "list": ["x"] } });
    let cases = [
        ("org.team.id", org.clone(), Ok("nested")),
        ("org.team", org.clone(), Err(CLAIM)),
        ("org.team.id.more", org.clone(), Err(NO_TENANT)),
        ("org.list.0", org.clone(), Err(NO_TENANT)),
        ("org..id", org.clone(), Err(NO_TENANT)),
        ("custom:tenant", json!({ "custom:tenant": "cognito" }), Ok("cognito")),
        ("https://example.com/tenant.id", json!({ "https://example.com/tenant.id": "url" }), Ok("url")),
        ("org.team.id", json!({ "org.team.id": "exact", "org": { "team": { "id": "nested" } } }), Ok("exact")),
    ];
    for (path, extra, expected) in cases {
        let identity = identity_of(Jwt { tenant: ClaimPath(path.into()), ..rules(&file) });
        let token = rsa().token(&head(), &claims_with(extra));
        let answer = ask(&identity, &token, at(NOW));
        match expected {
            Ok(tenant) => assert_eq!(&*answer.expect(path).tenant, tenant, "{path}"),
            Err(message) => assert_refused(answer, message, &token, path),
        }
    }
}

#[test]
fn an_access_token_as_cognito_makes_it_is_accepted() {
    let issuer = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Ab12Cd34E";
    let file = KeyFile::holding(&[rsa().jwk("k1"), other_rsa().jwk("k2")]);
    let identity = identity_of(Jwt {
        issuer: issuer.into(),
        audiences: vec!["4h57k2example".into()],
        tenant: ClaimPath("client_id".into()),
        ..rules(&file)
    });
    let token = other_rsa().token(
        &json!({ "kid": "k2", "alg": "RS256" }),
        &json!({
            "sub": "f2a5c4d4-8081-70b5-a2c9-0d2f6a3e7b11", "iss": issuer, "version": 2, "client_id": "4h57k2example", "token_use": "access",
            "scope": "bedrock/invoke", "auth_time": NOW, "exp": NOW + 3600, "iat": NOW, "jti": "b1c6", "username": "ann"
        }),
    );
    assert_eq!(&*ask(&identity, &token, at(NOW)).unwrap().tenant, "4h57k2example");
}

#[test]
fn an_issuer_s_key_and_rules_hold_for_its_own_tokens_only() {
    let (ours, theirs) = (KeyFile::holding(&[rsa().jwk("k1")]), KeyFile::holding(&[other_rsa().jwk("k1")]));
    let second = Jwt {
        issuer: "https://second.example".into(),
        audiences: vec!["second".into()],
        tenant: ClaimPath("org".into()),
        ..rules(&theirs)
    };
    let identity = Identity::build(&[Method::Jwt(rules(&ours)), Method::Jwt(second)]).unwrap();
    let seconds = json!({ "iss": "https://second.example", "aud": "second", "exp": NOW + 600, "org": "globex", "tenant": "acme" });

    assert_eq!(&*ask(&identity, &rsa().token(&head(), &claims()), at(NOW)).unwrap().tenant, "acme");
    assert_eq!(&*ask(&identity, &other_rsa().token(&head(), &seconds), at(NOW)).unwrap().tenant, "globex");
    for (token, message) in [
        (other_rsa().token(&head(), &claims()), SIGNATURE),
        (rsa().token(&head(), &seconds), SIGNATURE),
        (rsa().token(&head(), &claims_with(json!({ "aud": "second" }))), AUDIENCE),
    ] {
        assert_refused(ask(&identity, &token, at(NOW)), message, &token, "crossed");
    }
}
