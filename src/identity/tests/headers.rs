//! Where a credential is looked for, and what counts as one.

use proptest::prelude::*;

use super::issuer::rsa;
use super::*;

const NOT_A_TOKEN: &str = "the credential is not a signed token (JWT)";
const NO_CREDENTIAL: &str = "no credential: send a token as `Authorization: Bearer` or in `x-tollgate-token`";

fn token() -> String {
    rsa().token(&json!({ "alg": "RS256", "kid": "k1" }), &claims())
}

/// `jwt`, and `anonymous` behind it where asked for.
fn gateway(then: &[Method]) -> Identity {
    let file = KeyFile::holding(&[rsa().jwk("k1")]);
    let methods: Vec<_> = [Method::Jwt(rules(&file))].into_iter().chain(then.iter().cloned()).collect();
    Identity::build(&methods).unwrap()
}

#[test]
fn a_token_is_found_wherever_it_may_stand() {
    let (identity, token) = (gateway(&[]), token());
    for (header, value) in [
        ("authorization", format!("Bearer {token}")),
        ("authorization", format!("bearer {token}")),
        ("authorization", format!("BEARER   {token}  ")),
        ("x-tollgate-token", token.clone()),
        ("x-tollgate-token", format!("Bearer {token}")),
        ("x-tollgate-token", format!("  {token} ")),
    ] {
        let caller = who(&identity, &headers(&[(header, &value)]), at(NOW)).expect(&value);
        assert_eq!((&*caller.tenant, caller.user.as_deref()), ("acme", Some("ann")));
    }
}

#[test]
fn the_own_header_comes_before_authorization() {
    let (identity, token) = (gateway(&[]), token());
    for dummy in ["AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/bedrock/aws4_request", "Bearer nonsense"] {
        assert!(who(&identity, &headers(&[("authorization", dummy), ("x-tollgate-token", &token)]), at(NOW)).is_ok());
    }
    let good = format!("Bearer {token}");
    let answer = who(&identity, &headers(&[("authorization", &good), ("x-tollgate-token", "nonsense")]), at(NOW));
    assert_refused(answer, NOT_A_TOKEN, &token, "a wrong own header");
}

#[test]
fn a_credential_of_another_kind_counts_as_absent() {
    let absent: [&[(&str, &str)]; 5] = [
        &[],
        &[("authorization", "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/bedrock/aws4_request, Signature=00")],
        &[("authorization", "Basic YTpi")],
        &[("authorization", "")],
        &[("authorization", "Bearerish a.b.c")],
    ];
    let (strict, open) = (gateway(&[]), gateway(&[anonymous()]));
    for sent in absent {
        assert_refused(who(&strict, &headers(sent), at(NOW)), NO_CREDENTIAL, "", "absent");
        assert_eq!(&*who(&open, &headers(sent), at(NOW)).unwrap().tenant, "everyone");
    }
}

#[test]
fn a_wrong_credential_is_refused_though_anonymous_callers_are_let_in() {
    let token = token();
    let long = format!("Bearer {}", "a".repeat(16 * 1024 + 1));
    let twice = format!("Bearer {token}");
    let split = format!("Bearer {} {}", token.split_at(20).0, token.split_at(20).1);
    let padded = format!("Bearer {token}==");
    let wrong: [(&[(&str, &str)], &str); 15] = [
        (&[("authorization", "Bearer")], NOT_A_TOKEN),
        (&[("authorization", "Bearer ")], NOT_A_TOKEN),
        (&[("x-tollgate-token", "")], NOT_A_TOKEN),
        (&[("x-tollgate-token", "Bearer ")], NOT_A_TOKEN),
        (&[("authorization", "Bearer sk-live-0123456789")], NOT_A_TOKEN),
        (&[("authorization", "Bearer a.b")], NOT_A_TOKEN),
        (&[("authorization", "Bearer a.b.c.d")], NOT_A_TOKEN),
        (&[("authorization", "Bearer ..")], NOT_A_TOKEN),
        (&[("authorization", "Bearer tök.en.x")], NOT_A_TOKEN),
        (&[("x-tollgate-token", "tök.en.x")], NOT_A_TOKEN),
        (&[("authorization", &split)], NOT_A_TOKEN),
        (&[("authorization", &padded)], "the token's signature can't be verified"),
        (&[("authorization", &long)], "the token is longer than 16384 bytes"),
        (&[("authorization", &twice), ("authorization", &twice)], "more than one credential was sent"),
        (&[("x-tollgate-token", &token), ("x-tollgate-token", &token)], "more than one credential was sent"),
    ];
    for identity in [gateway(&[]), gateway(&[anonymous()])] {
        for (sent, message) in &wrong {
            assert_refused(who(&identity, &headers(sent), at(NOW)), message, &token, &format!("{sent:?}"));
        }
    }
}

#[test]
fn an_anonymous_gateway_asks_for_nothing() {
    let identity = Identity::build(&[anonymous()]).unwrap();
    for sent in [&[][..], &[("authorization", "Bearer nonsense")], &[("authorization", "a"), ("authorization", "b")]] {
        let caller = who(&identity, &headers(sent), at(NOW)).unwrap();
        assert_eq!((&*caller.tenant, caller.method.label()), ("everyone", "anonymous"));
    }
}

proptest! {
    #[test]
    fn no_value_of_a_header_panics(value in prop::collection::vec(any::<u8>(), 0..200), scheme: bool, own: bool) {
        static IDENTITY: std::sync::LazyLock<Identity> = std::sync::LazyLock::new(|| gateway(&[]));
        let value = if scheme { [b"Bearer ", &value[..]].concat() } else { value };
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            let mut sent = HeaderMap::new();
            sent.insert(if own { "x-tollgate-token" } else { "authorization" }, value);
            prop_assert!(who(&IDENTITY, &sent, at(NOW)).is_err());
        }
    }

    /// Strings that get further than random bytes do: three parts of arbitrary JSON or none.
    #[test]
    fn no_token_of_arbitrary_parts_panics(header in "\\PC{0,60}", claims in "\\PC{0,60}", exp: f64, crit: bool) {
        static IDENTITY: std::sync::LazyLock<Identity> = std::sync::LazyLock::new(|| gateway(&[]));
        let parts = |header: &str, claims: &str| {
            format!("{}.{}.AAAA", super::issuer::base64url(header), super::issuer::base64url(claims))
        };
        prop_assert!(ask(&IDENTITY, &parts(&header, &claims), at(NOW)).is_err());
        let mut odd = claims_with(json!({ "tenant": claims, "exp": exp }));
        odd[&header] = json!(exp);
        let token = rsa().token(&json!({ "alg": "RS256", "kid": "k1" }), &odd);
        drop(ask(&IDENTITY, &token, at(NOW)));
        let mut head = json!({ "alg": header, "kid": claims });
        if crit { head["crit"] = json!([header]); }
        prop_assert!(ask(&IDENTITY, &parts(&head.to_string(), &odd.to_string()), at(NOW)).is_err());
    }
}

#[test]
fn a_refusal_names_the_ways_that_are_open() {
    let name = |from| crate::config::identity::CertificateName { from, prefix: None };
    let certificate = Method::ClientCertificate(crate::config::identity::ClientCertificate {
        tenant: name(crate::config::identity::CertificateField::Organization),
        user: name(crate::config::identity::CertificateField::CommonName),
    });
    let told = |identity: &Identity| who(identity, &headers(&[]), at(NOW)).unwrap_err().message;
    assert_eq!(told(&Identity::build(std::slice::from_ref(&certificate)).unwrap()), "no credential: connect with a client certificate");
    assert_eq!(told(&gateway(&[certificate])), format!("{NO_CREDENTIAL}, or connect with a client certificate"));
}
