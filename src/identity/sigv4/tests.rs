//! Signatures that botocore made (`tests/vectors/sigv4.json`), and every way to spoil one.

use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::domain::Reason;
use crate::identity::issued::index_of;

/// A request as it comes off the wire, owned.
#[derive(Clone)]
struct Request {
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Vec<u8>,
    /// What is registered, which need not be what it is signed with.
    key_id: String,
    secret: String,
    at: u64,
}

impl Request {
    fn of(vector: &Value) -> Self {
        let text = |pointer: &str| vector.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut request = Self {
            method: text("/request/method"),
            path: text("/request/raw_path"),
            query: text("/request/raw_query"),
            headers: HeaderMap::new(),
            body: base64::prelude::BASE64_STANDARD.decode(text("/request/body_base64")).unwrap(),
            key_id: text("/signing/access_key_id"),
            secret: text("/signing/secret_access_key"),
            at: vector["signing"]["epoch"].as_u64().unwrap(),
        };
        for pair in vector["request"]["headers"].as_array().unwrap() {
            request.add(pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        }
        for (name, value) in vector["expected"]["added_headers"].as_object().into_iter().flatten() {
            request.headers.insert(name.parse::<HeaderName>().unwrap(), value.as_str().unwrap().parse().unwrap());
        }
        // A client sends no default port.
        request.add("host", text("/request/host").trim_end_matches(":443"));
        if text("/signing/mode") == "query" {
            text("/expected/presigned_url").split_once('?').unwrap().1.clone_into(&mut request.query);
        } else {
            request.add("authorization", &text("/expected/authorization"));
        }
        request
    }

    fn add(&mut self, name: &str, value: &str) {
        self.headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }

    fn set(&mut self, name: &str, value: &str) {
        self.headers.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }

    fn value(&self, name: &str) -> String {
        String::from_utf8(self.headers[name].as_bytes().to_vec()).unwrap()
    }

    fn shown(&self) -> Presented<'_> {
        Presented {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            host: self.headers.get(header::HOST).and_then(|host| host.to_str().ok()),
            headers: &self.headers,
            address: None,
            certificate: None,
        }
    }

    fn verify(&self) -> Result<Arc<Principal>, Rejection> {
        self.verify_as(&self.shown())
    }

    fn verify_as(&self, shown: &Presented<'_>) -> Result<Arc<Principal>, Rejection> {
        let index = Arc::new(index_of(&self.key_id, &self.secret));
        let now = UNIX_EPOCH + Duration::from_secs(self.at);
        let sent = Sent::of(shown)?.expect("a signature");
        let claim = Claim::judge(&sent, shown, index, now)?;
        claim.settle(&hex(digest(&SHA256, &self.body).as_ref()))
    }
}

fn vectors() -> Vec<(String, Value)> {
    let file: Value = serde_json::from_str(include_str!("../../../tests/vectors/sigv4.json")).unwrap();
    file["vectors"].as_array().unwrap().iter().map(|vector| (vector["name"].as_str().unwrap().to_owned(), vector.clone())).collect()
}

/// What a vector asks that this gateway refuses: what it never issued, and bodies that are left out.
fn refused_on_purpose(vector: &Value) -> Option<Reason> {
    let unhashed = |payload: &str| payload.starts_with("UNSIGNED") || payload.starts_with("STREAMING");
    if !vector["signing"]["session_token"].is_null() {
        Some(Reason::UnknownAccessKey)
    } else if vector["expected"]["payload_hash"].as_str().is_some_and(unhashed) {
        Some(Reason::InvalidSignature)
    } else {
        None
    }
}

fn vector(name: &str) -> Request {
    Request::of(&vectors().into_iter().find(|(other, _)| other == name).unwrap().1)
}

/// One with headers enough, made by botocore.
fn usual() -> Request {
    vector("bedrock-headers")
}

#[track_caller]
fn assert_refused(request: &Request, message: &str) {
    let refusal = request.verify().expect_err(message);
    assert_eq!(refusal.reason, Reason::InvalidSignature, "{refusal}");
    assert!(refusal.message.contains(message), "{refusal}");
}

#[test]
fn every_signature_that_botocore_made_verifies() {
    let mut verified = 0;
    for (name, vector) in vectors() {
        match (Request::of(&vector).verify(), refused_on_purpose(&vector)) {
            (Ok(principal), None) => {
                assert_eq!((&*principal.tenant, principal.key_id.as_deref()), ("acme", vector["signing"]["access_key_id"].as_str()));
                verified += 1;
            }
            (Err(refusal), Some(reason)) => assert_eq!(refusal.reason, reason, "{name}"),
            (answer, _) => panic!("{name}: {answer:?}"),
        }
    }
    assert_eq!(verified, 35);
}

/// Those that are refused on purpose included: it is their policy that is wrong, not their form.
#[test]
fn every_canonical_request_is_the_one_that_botocore_made() {
    for (name, vector) in vectors() {
        let request = Request::of(&vector);
        let names = vector["expected"]["signed_headers"].as_str().unwrap();
        let Canonical { before, query, after, .. } = Canonical::of(&request.shown(), &request.value("host"), names).unwrap();
        let canonical = [&before, query.as_bytes(), &after, vector["expected"]["payload_hash"].as_str().unwrap().as_bytes()].concat();
        assert_eq!(String::from_utf8(canonical).unwrap(), vector["expected"]["canonical_request"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn every_vector_is_refused_once_any_signed_part_of_it_is_changed() {
    for (name, vector) in vectors().into_iter().filter(|(_, vector)| refused_on_purpose(vector).is_none()) {
        let refused = |what: &str, change: &dyn Fn(&mut Request)| {
            let mut request = Request::of(&vector);
            change(&mut request);
            assert!(request.verify().is_err(), "{name}: {what} changed and not noticed");
        };
        refused("method", &|sent| sent.method = "DELETE".to_owned());
        refused("path", &|sent| sent.path.push_str("/x"));
        refused("path's encoding", &|sent| sent.path.push_str("/%41"));
        refused("query", &|sent| sent.query.push_str("&x=1"));
        refused("body", &|sent| sent.body.push(b' '));
        refused("secret", &|sent| sent.secret.push('x'));
        refused("key id", &|sent| sent.key_id.push('X'));
        refused("a new x-amz- header", &|sent| sent.add("x-amz-new", "1"));
        refused("a service chosen by another header", &|sent| sent.add("aws-endpoint-prefix", "bedrock-agent"));
        refused("a second host", &|sent| sent.add("host", "elsewhere"));
        refused("a session token", &|sent| sent.add("x-amz-security-token", "t"));
        refused("earlier", &|sent| sent.at -= 301);
        let holds = vector["signing"]["expires"].as_u64();
        refused("later", &|sent| sent.at += holds.unwrap_or(300) + 1);
        for name in vector["expected"]["signed_headers"].as_str().unwrap().split(';') {
            refused(name, &|sent| sent.set(name, &format!("{}1", sent.value(name))));
            refused(name, &|sent| sent.add(name, "1"));
            refused(name, &|sent| drop(sent.headers.remove(name)));
        }
        if holds.is_none() {
            let region = format!("/{}/", vector["signing"]["region"].as_str().unwrap());
            for (from, to) in [("/20260115/", "/20260116/"), (&region, "/eu-central-9/"), ("host;", "host;x;"), ("aws4_request", "aws4")] {
                refused(from, &|sent| sent.set("authorization", &sent.value("authorization").replace(from, to)));
            }
            for at in 1..=64 {
                refused("signature", &|sent| {
                    let mut value = sent.value("authorization").into_bytes();
                    let end = value.len() - at;
                    value[end] = if value[end] == b'0' { b'1' } else { b'0' };
                    sent.set("authorization", std::str::from_utf8(&value).unwrap());
                });
            }
        } else {
            for part in
                ["X-Amz-Date=2026", "X-Amz-Expires=4320", "X-Amz-SignedHeaders=host", "us-east-1", "X-Amz-Signature=", "Action=CallWith"]
            {
                refused(part, &|sent| sent.query = sent.query.replace(part, &format!("{part}1")));
            }
        }
    }
}

#[test]
fn five_minutes_either_way_pass_and_the_refusal_tells_both_times() {
    let later = |seconds: i64| {
        let mut request = usual();
        request.at = request.at.checked_add_signed(seconds).unwrap();
        request
    };
    for within in [-300, 0, 300] {
        assert!(later(within).verify().is_ok(), "{within}");
    }
    assert_refused(
        &later(301),
        "Signature expired: the request was signed at 2026-01-15T12:34:56Z and it is 2026-01-15T12:39:57Z here: more than 5 minutes apart",
    );
    assert_refused(
        &later(-301),
        "Signature not yet current: the request was signed at 2026-01-15T12:34:56Z and it is 2026-01-15T12:29:55Z here: more than 5 minutes apart",
    );
}

#[test]
fn a_presigned_url_holds_as_long_as_it_says_and_no_longer_than_twelve_hours() {
    let presigned = vector("presign-bedrock-api-key");
    assert!(presigned.query.contains("X-Amz-Expires=43200"));
    let at = |at: u64| Request { at, ..presigned.clone() };
    assert!(at(presigned.at + 43_200).verify().is_ok());
    assert_refused(&at(presigned.at + 43_201), "Signature expired: the URL was signed at 2026-01-15T12:34:56Z for 43200 seconds");
    for expires in ["43201", "604800", "0", "-1", "+5", "1e3", ""] {
        let query = presigned.query.replace("X-Amz-Expires=43200", &format!("X-Amz-Expires={expires}"));
        assert_refused(&Request { query, ..presigned.clone() }, "`X-Amz-Expires` is not 1 to 43200 seconds");
    }
    let query = format!("{}&X-Amz-Date=20260115T123456Z", presigned.query);
    assert_refused(&Request { query, ..presigned.clone() }, "once");
    let mut twice = presigned.clone();
    twice.add("authorization", &usual().value("authorization"));
    assert_refused(&twice, "signed twice");
}

#[test]
fn what_a_body_could_hide_behind_is_refused_from_the_head() {
    for (payload, told) in [("UNSIGNED-PAYLOAD", "UNSIGNED-PAYLOAD"), ("STREAMING-AWS4-HMAC-SHA256-EVENTS", "STREAMING-…")] {
        let mut request = vector("content-sha256-header-signed");
        request.set("x-amz-content-sha256", payload);
        assert_refused(&request, &format!("`x-amz-content-sha256: {told}` leaves the body out"));
    }
    let mut request = vector("content-sha256-header-signed");
    request.body.push(b' ');
    assert_refused(&request, "The provided 'x-amz-content-sha256' header does not match what was computed.");
    let mut stolen = usual();
    stolen.body = b"{\"another\":\"body\"}".to_vec();
    assert_refused(&stolen, "The request signature we calculated does not match");
}

#[test]
fn an_id_that_was_not_issued_says_the_same_as_one_that_counts_no_more() {
    let mut request = usual();
    request.key_id = "TGAKANOTHER".to_owned();
    let refusal = request.verify().unwrap_err();
    assert_eq!((refusal.reason, &*refusal.message), (Reason::UnknownAccessKey, "The security token included in the request is invalid."));
    assert_eq!((refusal.reason.status(), refusal.reason.aws_type()), (403, "UnrecognizedClientException"));
}

#[test]
fn the_host_may_come_as_authority_and_be_signed_under_either_name() {
    // Over HTTP/2 there is no `host` among the headers.
    let mut request = usual();
    let host = request.value("host");
    request.headers.remove("host");
    assert!(request.verify_as(&Presented { host: Some(&host), ..request.shown() }).is_ok());
    assert!(request.verify_as(&Presented { host: Some("elsewhere"), ..request.shown() }).is_err());
    assert!(request.verify_as(&Presented { host: None, ..request.shown() }).is_err());
    // One name in place of the other is another signature.
    let swapped = request.value("authorization").replace("accept;content-type;host;", ":authority;accept;content-type;");
    request.set("authorization", &swapped);
    assert!(request.verify_as(&Presented { host: Some(&host), ..request.shown() }).unwrap_err().message.contains("does not match"));
}

#[test]
fn a_malformed_credential_is_told_what_it_lacks() {
    let cases = [
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512", "the only algorithm taken is `AWS4-HMAC-SHA256`"),
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "the only algorithm taken is `AWS4-HMAC-SHA256`"),
        ("/bedrock/", "/s3/", "Credential should be scoped to a valid service"),
        ("/us-east-1/", "//", "Credential should be scoped to a valid region"),
        ("/20260115/", "/20260114/", "Credential should be scoped to a valid date"),
        ("/bedrock/", "/", "the credential is not"),
        ("SignedHeaders=", "SignedHeader=", "has a part other than"),
        ("accept;content-type;host", "host;accept;content-type", "sorted"),
        ("accept;content-type;host", "accept;content-type;content-type;host", "sorted"),
        ("accept;content-type;host", "Accept;content-type;host", "lower-case"),
        ("accept;content-type;host;", "accept;content-type;", "'host' must be a 'SignedHeader'"),
        ("host;x-amz-date", "host;x-amz-cake;x-amz-date", "a signed header is not there: 'x-amz-cake'"),
        ("x-amz-date;", "", "'x-amz-date' must be a 'SignedHeader'"),
    ];
    for (from, to, message) in cases {
        let mut request = usual();
        let value = request.value("authorization");
        assert!(value.contains(from), "{from}");
        request.set("authorization", &value.replacen(from, to, 1));
        assert_refused(&request, message);
    }
    let mut request = usual();
    request.headers.remove("x-amz-date");
    assert_refused(&request, "needs one `X-Amz-Date`");
}

#[test]
fn a_signing_key_is_kept_for_who_proved_it_and_bounded() {
    let request = usual();
    let index = Arc::new(index_of(&request.key_id, &request.secret));
    let now = UNIX_EPOCH + Duration::from_secs(request.at);
    let claim =
        |request: &Request| Claim::judge(&Sent::of(&request.shown()).unwrap().unwrap(), &request.shown(), Arc::clone(&index), now).unwrap();
    let scope = "20260115/us-east-1/bedrock/aws4_request";
    assert!(claim(&request).settle("0").is_err());
    assert!(index.derived.find(&request.key_id, scope).is_none(), "a stranger leaves nothing");
    let hash = hex(digest(&SHA256, &request.body).as_ref());
    assert!(claim(&request).settle(&hash).is_ok());
    assert!(index.derived.find(&request.key_id, scope).is_some());
    assert!(index.derived.find("other", scope).is_none());
    assert!(claim(&request).settle(&hash).is_ok(), "with the kept key");
    assert!(claim(&request).settle("0").is_err());
    for n in 0..10_000 {
        index.derived.remember(&Arc::new(SigningKey::new(&n.to_string(), scope, hmac::Key::new(hmac::HMAC_SHA256, b"k"))));
    }
    assert!(index.derived.len() <= 4096);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_is_received_panics_and_nothing_verifies(
        path in ".{0,40}", query in "(X-Amz-Signature=.{0,20}&.{0,60}|.{0,60})", date in "(20260115T123456Z|.{0,20})",
        authorization in "(AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260115/us-east-1/bedrock/aws4_request, SignedHeaders=[a-z;:-]{0,30}, Signature=[0-9a-f]{64}|AWS4-.{0,80}|.{0,80})",
        host in ".{0,20}", bytes in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut request = Request { path, query, ..usual() };
        for (name, value) in [("authorization", authorization.as_bytes()), ("x-amz-date", date.as_bytes()), ("host", host.as_bytes()), ("x-amz-content-sha256", &bytes)] {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                request.headers.insert(name, value);
            }
        }
        if let Ok(Some(sent)) = Sent::of(&request.shown()) {
            let index = Arc::new(index_of("AKIDEXAMPLE", "secret"));
            let now = UNIX_EPOCH + Duration::from_secs(request.at);
            prop_assert!(Claim::judge(&sent, &request.shown(), index, now).and_then(|claim| claim.settle("0")).is_err());
        }
    }

    /// Each of the two forms of a query leads to the same pairs, so either may stand for it.
    #[test]
    fn a_query_encoded_anew_is_its_own_canonical_form(query in "[a-zA-Z0-9%&=+/:~ -]{0,60}") {
        let request = Request { query, ..usual() };
        let canonical = |request: &Request| Canonical::of(&request.shown(), "h", "host").unwrap();
        let first = canonical(&request);
        let strict = first.strict.unwrap_or(first.query);
        let again = canonical(&Request { query: strict.clone(), ..usual() });
        prop_assert_eq!((again.query, again.strict), (strict, None));
    }
}
