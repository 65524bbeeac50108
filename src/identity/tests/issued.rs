//! API keys and issued AWS credentials beside the other methods: which of them judges what.

use super::issuer::rsa;
use super::*;
use crate::config::identity::{ApiKeys, AwsCredentials};
use crate::identity::{KeysFile, Owner};

/// A directory with a file of keys in it; it goes when the test ends.
struct Keys {
    directory: PathBuf,
    api_key: String,
    access_key_id: String,
}

impl Keys {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let directory = std::env::temp_dir().join(format!("tollgate-keys-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&directory).unwrap();
        let file = KeysFile::at(&directory.join("keys.yaml"));
        let owner = |tenant: &str| Owner { tenant: tenant.to_owned(), ..Owner::default() };
        let (_, key) = file.new_api_key(owner("keyed")).unwrap();
        let (access_key_id, _) = file.new_aws_credential(&directory.join("key"), owner("signed")).unwrap();
        Self { directory, api_key: key.expose().clone(), access_key_id }
    }

    fn api_keys(&self) -> Method {
        Method::ApiKeys(ApiKeys { file: self.directory.join("keys.yaml") })
    }

    fn aws_credentials(&self) -> Method {
        Method::AwsCredentials(AwsCredentials { file: self.directory.join("keys.yaml"), key_file: Some(self.directory.join("key")) })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// A signature that the head alone shows nothing wrong with.
fn signature(access_key_id: &str) -> String {
    let scope = "20270115/us-east-1/bedrock/aws4_request";
    format!("AWS4-HMAC-SHA256 Credential={access_key_id}/{scope}, SignedHeaders=host;x-amz-date, Signature={}", "0".repeat(64))
}

/// The tenant, or the start of the refusal.
fn ask_with(identity: &Identity, sent: &[(&'static str, &str)]) -> String {
    let headers = headers(sent);
    match identity.identify(&Presented { host: Some("gateway"), ..Presented::by(&headers) }, at(NOW)) {
        Ok(Finding::Known(principal)) => principal.tenant.to_string(),
        Ok(Finding::Signed(_)) => "signed".to_owned(),
        Ok(Finding::Ask(question)) => panic!("{question:?}"),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn an_api_key_is_found_wherever_it_may_stand() {
    let keys = Keys::new();
    let identity = Identity::build(&[keys.api_keys()]).unwrap();
    let (key, bearer) = (&*keys.api_key, format!("Bearer {}", keys.api_key));
    for sent in [
        ("authorization", &*bearer),
        ("x-api-key", key),
        ("x-tollgate-token", key),
        ("x-tollgate-token", &bearer),
        ("x-api-key", &format!(" {key} ")),
    ] {
        assert_eq!(ask_with(&identity, &[sent]), "keyed", "{sent:?}");
    }
    assert_eq!(ask_with(&identity, &[("authorization", &bearer), ("x-api-key", key)]), "keyed", "Claude Code's apiKeyHelper says it twice");
    for (sent, message) in [
        (vec![("authorization", "Bearer nonsense")], "unauthenticated: the credential is not an API key of this gateway"),
        (vec![("x-api-key", "")], "unauthenticated: the credential is not an API key of this gateway"),
        (vec![("x-api-key", "sk-ant-1")], "unauthenticated: the credential is not an API key of this gateway"),
        (vec![("x-api-key", key.split_at(52).0)], "unauthenticated: the API key is incomplete or mistyped"),
        (vec![("x-api-key", key), ("x-api-key", key)], "unauthenticated: more than one credential was sent"),
        (vec![("x-tollgate-token", "nonsense"), ("x-api-key", key)], "unauthenticated: the credential is not an API key of this gateway"),
        (vec![], "unauthenticated: no credential: send a token as `Authorization: Bearer` or in `x-tollgate-token`"),
        (
            vec![("authorization", "Basic YTpi")],
            "unauthenticated: no credential: send a token as `Authorization: Bearer` or in `x-tollgate-token`",
        ),
    ] {
        assert_eq!(ask_with(&identity, &sent), message);
    }
}

#[test]
fn a_token_and_an_api_key_are_each_judged_by_their_own_method() {
    let (keys, file) = (Keys::new(), KeyFile::holding(&[rsa().jwk("k1")]));
    let jwt = Method::Jwt(rules(&file));
    let token = rsa().token(&json!({ "alg": "RS256", "kid": "k1" }), &claims());
    let wrong_key = format!("Bearer {}x", keys.api_key);
    for methods in [[jwt.clone(), keys.api_keys()], [keys.api_keys(), jwt]] {
        let identity = Identity::build(&methods).unwrap();
        assert_eq!(ask_with(&identity, &[("authorization", &format!("Bearer {token}"))]), "acme");
        assert_eq!(ask_with(&identity, &[("authorization", &format!("Bearer {}", keys.api_key))]), "keyed");
        assert_eq!(ask_with(&identity, &[("x-api-key", &keys.api_key)]), "keyed");
        assert_eq!(ask_with(&identity, &[("authorization", &format!("Bearer {token}")), ("x-api-key", &token)]), "acme");
        for (sent, message) in [
            (("authorization", &*wrong_key), "the API key is incomplete or mistyped"),
            (("authorization", "Bearer nonsense"), "the credential is not a signed token (JWT)"),
            (("x-api-key", &token), "the credential is not an API key of this gateway"),
        ] {
            assert_eq!(ask_with(&identity, &[sent]), format!("unauthenticated: {message}"));
        }
    }
}

#[test]
fn an_api_key_in_front_of_no_such_method_counts_as_absent() {
    let keys = Keys::new();
    let (open, file) = (Identity::build(&[anonymous()]).unwrap(), KeyFile::holding(&[rsa().jwk("k1")]));
    let bearer = format!("Bearer {}", keys.api_key);
    for sent in [("authorization", &*bearer), ("x-api-key", &keys.api_key), ("authorization", &signature("TGAKDUMMY"))] {
        assert_eq!(ask_with(&open, &[sent]), "everyone");
    }
    let strict = Identity::build(&[Method::Jwt(rules(&file)), anonymous()]).unwrap();
    assert_eq!(ask_with(&strict, &[("x-api-key", &keys.api_key)]), "everyone");
    assert!(ask_with(&strict, &[("authorization", &bearer)]).contains("not a signed token"), "a bearer token is for `jwt` there");
}

#[test]
fn a_signature_by_a_strangers_key_is_refused_where_credentials_are_issued() {
    let keys = Keys::new();
    let identity = Identity::build(&[keys.aws_credentials(), anonymous()]).unwrap();
    let date = ("x-amz-date", "20270115T080000Z");
    assert_eq!(ask_with(&identity, &[("authorization", &signature(&keys.access_key_id)), date]), "signed");
    let stranger = ask_with(&identity, &[("authorization", &signature("AKIADUMMY")), date]);
    assert_eq!(stranger, "unknown_access_key: The security token included in the request is invalid.");
    assert_eq!(ask_with(&identity, &[]), "everyone");
    assert_eq!(ask_with(&identity, &[("x-tollgate-token", "a"), ("authorization", &signature(&keys.access_key_id)), date]), "signed");
}

#[test]
fn a_token_in_its_own_header_is_judged_before_a_signature() {
    let (keys, file) = (Keys::new(), KeyFile::holding(&[rsa().jwk("k1")]));
    let token = rsa().token(&json!({ "alg": "RS256", "kid": "k1" }), &claims());
    let date = ("x-amz-date", "20270115T080000Z");
    let dummy = signature("AKIADUMMY");
    for methods in [[keys.aws_credentials(), Method::Jwt(rules(&file))], [Method::Jwt(rules(&file)), keys.aws_credentials()]] {
        let identity = Identity::build(&methods).unwrap();
        assert_eq!(ask_with(&identity, &[("x-tollgate-token", &token), ("authorization", &dummy), date]), "acme");
        assert!(ask_with(&identity, &[("x-tollgate-token", "nonsense"), ("authorization", &dummy), date]).contains("not a signed token"));
        assert!(ask_with(&identity, &[("authorization", &dummy), date]).starts_with("unknown_access_key"));
        assert!(ask_with(&identity, &[]).ends_with("or sign the request (SigV4) with a credential of this gateway"));
    }
}

#[test]
fn two_methods_read_one_file_once() {
    let keys = Keys::new();
    let identity = Identity::build(&[keys.api_keys(), keys.aws_credentials()]).unwrap();
    assert_eq!(identity.issued().count(), 1);
    std::fs::remove_file(keys.directory.join("keys.yaml")).unwrap();
    let told = Identity::build(&[keys.api_keys()]).unwrap_err().to_string();
    assert!(told.contains("keys.yaml` can't be read: No such file"), "{told}");
}
