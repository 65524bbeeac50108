//! What an issuer's rules ask beyond a good signature: the kind of token, groups, required claims, a shared secret.

use aws_lc_rs::hmac;

use super::issuer::{base64url, rsa, signed_part};
use super::*;
use crate::config::identity::Scalar;
use crate::identity::KeySetError;

const KIND: &str = "the token is of a kind that admits nobody";
const REQUIRED: &str = "the token lacks a required claim";
const CLAIM: &str = "a claim of the token that names the tenant, the user or a group is malformed";

fn head() -> Value {
    json!({ "alg": "RS256", "kid": "k1" })
}

fn identity_with(change: impl FnOnce(&mut Jwt)) -> Identity {
    let file = KeyFile::holding(&[rsa().jwk("k1")]);
    let mut rules = rules(&file);
    change(&mut rules);
    identity_of(rules)
}

#[test]
fn only_identity_and_access_tokens_admit_anybody() {
    let identity = identity_with(|_| {});
    let ask_with = |typ: &str| {
        let token = rsa().token(&json!({ "alg": "RS256", "kid": "k1", "typ": typ }), &claims());
        (ask(&identity, &token, at(NOW)), token)
    };
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT", "JOSE"] {
        assert!(ask_with(typ).0.is_ok(), "{typ}");
    }
    let others = ["logout+jwt", "secevent+jwt", "dpop+jwt", "oauth-authz-req+jwt", "token-introspection+jwt", "application/logout+jwt"];
    for typ in others.into_iter().chain(["kb+jwt", "", "application/", "application/application/jwt", "JWT ", "äpplication/jwt"]) {
        let (answer, token) = ask_with(typ);
        assert_refused(answer, KIND, &token, typ);
    }
}

#[test]
fn a_security_event_without_a_type_is_told_by_its_claims() {
    let identity = identity_with(|_| {});
    let logout = json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": {} }, "sid": "08a5019c" });
    let token = rsa().token(&head(), &claims_with(logout));
    assert_refused(ask(&identity, &token, at(NOW)), KIND, &token, "a logout token");
    let token = rsa().token(&head(), &claims_with(json!({ "events": 7, "event_id": "a" })));
    assert!(ask(&identity, &token, at(NOW)).is_ok(), "a claim of that name that is no event");
}

#[test]
fn groups_are_a_text_or_a_list_of_texts() {
    let identity = identity_with(|rules| rules.groups = Some(ClaimPath("cognito:groups".into())));
    let groups = |claim: Value| {
        let token = rsa().token(&head(), &claims_with(json!({ "cognito:groups": claim })));
        (ask(&identity, &token, at(NOW)), token)
    };
    let names = |claim: Value| groups(claim).0.unwrap().groups.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(json!(["developers", "ops"])), ["developers", "ops"]);
    assert_eq!(names(json!("developers")), ["developers"]);
    assert!(names(Value::Null).is_empty() && names(json!([])).is_empty());
    for wrong in [json!(7), json!([7]), json!(["a", null]), json!([["a"]]), json!({ "a": true }), json!(["a\nb"]), json!([""])] {
        let (answer, token) = groups(wrong.clone());
        assert_refused(answer, CLAIM, &token, &wrong.to_string());
    }
    let [one, two] = ["ann", "bob"].map(|user| {
        let token = rsa().token(&head(), &claims_with(json!({ "cognito:groups": ["developers"], "sub": user })));
        ask(&identity, &token, at(NOW)).unwrap()
    });
    assert!(Arc::ptr_eq(&one.groups[0], &two.groups[0]), "one copy of each name");
}

#[test]
fn a_required_claim_is_there_with_its_value() {
    let wanted = [
        ("token_use", Scalar::Text("access".into())),
        ("level", Scalar::Whole(3)),
        ("email_verified", Scalar::Bool(true)),
        ("realm_access.roles", Scalar::Text("bedrock".into())),
    ];
    let identity = identity_with(|rules| {
        rules.required_claims = wanted.map(|(claim, value)| (ClaimPath(claim.into()), value)).to_vec();
    });
    let good = json!({ "token_use": "access", "level": 3, "email_verified": true, "realm_access": { "roles": ["other", "bedrock"] } });
    assert!(ask(&identity, &rsa().token(&head(), &claims_with(good.clone())), at(NOW)).is_ok());
    for (claim, wrong) in [
        ("token_use", json!("id")),
        ("token_use", Value::Null),
        ("token_use", json!(["id"])),
        ("token_use", json!("access ")),
        ("token_use", json!({ "access": true })),
        ("level", json!("3")),
        ("level", json!(3.5)),
        ("level", json!(-3)),
        ("email_verified", json!("true")),
        ("email_verified", json!(1)),
        ("email_verified", json!(false)),
        ("realm_access", json!({ "roles": ["bedroc"] })),
        ("realm_access", json!({ "roles": [] })),
        ("realm_access", json!("bedrock")),
    ] {
        let mut changed = good.clone();
        changed[claim] = wrong;
        let token = rsa().token(&head(), &claims_with(changed.clone()));
        assert_refused(ask(&identity, &token, at(NOW)), REQUIRED, &token, &changed.to_string());
    }
}

#[test]
fn cognito_s_id_and_access_tokens_are_told_apart_where_that_is_asked() {
    let issuer = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Ab12Cd34E";
    let only = |kind: Option<&str>| {
        identity_with(|rules| {
            rules.issuer = issuer.into();
            rules.audiences = vec!["4h57k2example".into()];
            rules.tenant = ClaimPath("iss".into());
            rules.groups = Some(ClaimPath("cognito:groups".into()));
            rules.required_claims = kind.map(|kind| (ClaimPath("token_use".into()), Scalar::Text(kind.into()))).into_iter().collect();
        })
    };
    let common = json!({
        "sub": "f2a5c4d4-8081-70b5-a2c9-0d2f6a3e7b11", "iss": issuer, "auth_time": NOW, "exp": NOW + 3600, "iat": NOW,
        "cognito:groups": ["developers"], "jti": "b1c6", "origin_jti": "a0",
    });
    let with = |more: Value| {
        let mut all = common.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rsa().token(&head(), &all)
    };
    let id =
        with(json!({ "aud": "4h57k2example", "token_use": "id", "email": "ann@example.com", "email_verified": true, "event_id": "e" }));
    let access =
        with(json!({ "client_id": "4h57k2example", "token_use": "access", "scope": "bedrock/invoke", "version": 2, "username": "ann" }));
    for (kind, takes_id, takes_access) in [(None, true, true), (Some("id"), true, false), (Some("access"), false, true)] {
        let identity = only(kind);
        assert_eq!(ask(&identity, &id, at(NOW)).is_ok(), takes_id, "{kind:?}");
        assert_eq!(ask(&identity, &access, at(NOW)).is_ok(), takes_access, "{kind:?}");
    }
    assert_eq!(&*ask(&only(None), &id, at(NOW)).unwrap().groups[0], "developers");
}

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn shared(secret: &[u8], algorithms: &[Algorithm]) -> Result<Identity, IdentityError> {
    let file = KeyFile::of_bytes(secret);
    Identity::build(&[Method::Jwt(Jwt { keys: KeySource::Secret(file.0.clone()), algorithms: algorithms.to_vec(), ..rules(&file) })])
}

fn mac(algorithm: hmac::Algorithm, said: &str, secret: &[u8]) -> String {
    let signed = signed_part(&json!({ "alg": said, "kid": "any" }), &claims());
    format!("{signed}.{}", base64url(hmac::sign(&hmac::Key::new(algorithm, secret), signed.as_bytes())))
}

#[test]
fn a_shared_secret_verifies_hmac_and_nothing_else() {
    use Algorithm::{HS256, HS384, HS512};
    let all = [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)];
    let identity = shared(&[SECRET, b"\n"].concat(), &[HS256, HS384, HS512]).unwrap();
    for (made_name, made) in all {
        for (said, _) in all {
            let good = ask(&identity, &mac(made, said, SECRET), at(NOW)).is_ok();
            assert_eq!(good, said == made_name, "made {made_name}, said {said}");
        }
        assert!(ask(&identity, &mac(made, made_name, &SECRET[1..]), at(NOW)).is_err(), "another secret");
        let truncated = mac(made, made_name, SECRET);
        assert!(ask(&identity, truncated.split_at(truncated.len() - 4).0, at(NOW)).is_err(), "a shortened tag");
    }
    let narrow = shared(SECRET, &[HS256]).unwrap();
    assert!(ask(&narrow, &mac(hmac::HMAC_SHA512, "HS512", SECRET), at(NOW)).is_err());
    assert!(ask(&narrow, &rsa().token(&head(), &claims()), at(NOW)).is_err());
    assert!(!format!("{narrow:?}").contains("0123456789abcdef"), "no secret is printed");
}

#[test]
fn a_short_secret_is_refused() {
    use Algorithm::{HS256, HS512, RS256};
    for (bytes, algorithms, least) in [(31, &[HS256][..], 32), (63, &[HS256, HS512], 64), (0, &[HS256], 32)] {
        let error = shared(&SECRET[..bytes], algorithms).unwrap_err();
        let IdentityError::Secret { cause: KeySetError::ShortSecret { bytes: found, least: told }, .. } = error else { panic!("{error}") };
        assert_eq!((found, told), (bytes, least));
    }
    assert!(shared(&SECRET[..32], &[HS256]).is_ok());
    assert!(matches!(shared(SECRET, &[RS256]), Err(IdentityError::Secret { cause: KeySetError::NoUsableKey { .. }, .. })));
}
