use serde_json::Value;
use time::OffsetDateTime;

use super::*;
use crate::emulator::verify::{Expected, Received, SignatureError, Unhashed, verify};

/// A vector's request as a client sends it.
struct Sent {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    credential: Credential,
    region: String,
    at: i64,
}

impl Sent {
    fn of(vector: &Value) -> Self {
        use base64::Engine as _;
        let text = |pointer: &str| vector.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
        for pair in vector["request"]["headers"].as_array().unwrap() {
            headers.push((pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().into()));
        }
        for (name, value) in vector["expected"]["added_headers"].as_object().into_iter().flatten() {
            if !headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                headers.push((name.clone(), value.as_str().unwrap().into()));
            }
        }
        // A client sends no default port.
        headers.push(("Host".to_owned(), text("/request/host").trim_end_matches(":443").into()));
        let mut query = text("/request/raw_query");
        if text("/signing/mode") == "query" {
            query = text("/expected/presigned_url").split_once('?').unwrap().1.to_owned();
        } else {
            headers.push(("Authorization".to_owned(), text("/expected/authorization").into()));
        }
        Self {
            method: text("/request/method"),
            path: text("/request/raw_path"),
            query,
            headers,
            body: base64::prelude::BASE64_STANDARD.decode(text("/request/body_base64")).unwrap(),
            credential: Credential::new(
                text("/signing/access_key_id"),
                text("/signing/secret_access_key"),
                vector.pointer("/signing/session_token").and_then(Value::as_str),
            ),
            region: text("/signing/region"),
            at: vector["signing"]["epoch"].as_i64().unwrap(),
        }
    }

    fn verify(&self, unhashed: Unhashed) -> Result<(), SignatureError> {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.body);
        let received = Received {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
            body_sha256: &crate::emulator::canonical::hex(digest.as_ref()),
        };
        let now = OffsetDateTime::from_unix_timestamp(self.at).unwrap();
        let expected = Expected { credentials: std::slice::from_ref(&self.credential), region: Some(&self.region), now, unhashed };
        verify(&received, &expected)
    }

    fn value(&mut self, name: &str) -> Option<&mut Vec<u8>> {
        self.headers.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn vectors() -> Vec<(String, Value)> {
    let file: Value = serde_json::from_str(include_str!("../../../tests/vectors/sigv4.json")).unwrap();
    file["vectors"].as_array().unwrap().iter().map(|vector| (vector["name"].as_str().unwrap().to_owned(), vector.clone())).collect()
}

#[test]
fn every_signature_that_botocore_made_verifies() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 40);
    for (name, vector) in vectors {
        assert_eq!(Sent::of(&vector).verify(Unhashed::Accept), Ok(()), "{name}");
    }
}

#[test]
fn a_mismatch_shows_the_canonical_request_and_string_to_sign_that_botocore_made() {
    for (name, vector) in vectors() {
        let mut sent = Sent::of(&vector);
        sent.credential.secret_access_key = crate::domain::Secret::new("another".to_owned());
        let expected = |field: &str| vector["expected"][field].as_str().unwrap().to_owned();
        let mismatch =
            SignatureError::Mismatch { canonical_request: expected("canonical_request"), string_to_sign: expected("string_to_sign") };
        assert_eq!(sent.verify(Unhashed::Accept), Err(mismatch), "{name}");
    }
}

#[test]
fn every_vector_is_refused_once_anything_in_it_is_changed() {
    for (name, vector) in vectors() {
        let hashed = !vector["expected"]["canonical_request"].as_str().unwrap().ends_with("UNSIGNED-PAYLOAD")
            && !vector["expected"]["canonical_request"].as_str().unwrap().ends_with("EVENTS");
        let refused = |what: &str, change: &dyn Fn(&mut Sent)| {
            let mut sent = Sent::of(&vector);
            change(&mut sent);
            assert!(sent.verify(Unhashed::Accept).is_err(), "{name}: {what} changed and not noticed");
        };
        refused("method", &|sent| sent.method = "DELETE".to_owned());
        refused("path", &|sent| sent.path.push_str("/x"));
        refused("path's encoding", &|sent| sent.path.push_str("/%41"));
        refused("query", &|sent| sent.query.push_str("&x=1"));
        refused("host", &|sent| sent.value("host").unwrap().push(b'x'));
        refused("key id", &|sent| sent.credential.access_key_id.push('X'));
        refused("region", &|sent| sent.region = "eu-west-1".to_owned());
        refused("clock", &|sent| sent.at -= 301);
        refused("a new x-amz- header", &|sent| sent.headers.push(("X-Amz-New".to_owned(), b"1".to_vec())));
        refused("a second host", &|sent| sent.headers.push(("host".to_owned(), b"elsewhere".to_vec())));
        if hashed {
            refused("body", &|sent| sent.body.push(b' '));
        }
        if vector["signing"]["mode"] == "header" {
            refused("clock", &|sent| sent.at += 301);
            refused("date", &|sent| *sent.value("x-amz-date").unwrap() = b"20260115T123457Z".to_vec());
            refused("signature", &|sent| {
                let last = sent.value("authorization").unwrap().last_mut().unwrap();
                *last = if *last == b'0' { b'1' } else { b'0' };
            });
            refused("scope", &|sent| {
                let value = String::from_utf8(sent.value("authorization").unwrap().clone()).unwrap();
                *sent.value("authorization").unwrap() = value.replace("/20260115/", "/20260116/").into();
            });
            refused("authorization gone", &|sent| sent.headers.retain(|(name, _)| name != "Authorization"));
        } else {
            refused("expiry", &|sent| sent.at += 43_201);
        }
        for header in vector["expected"]["signed_headers"].as_str().unwrap().split(';') {
            refused(header, &|sent| sent.value(header).unwrap().push(b'1'));
            refused(header, &|sent| sent.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(header)));
        }
    }
}

#[test]
fn a_body_left_out_of_the_signature_is_refused_unless_it_is_accepted() {
    for (name, vector) in vectors().into_iter().filter(|(name, _)| name.starts_with("unsigned-payload")) {
        assert_eq!(Sent::of(&vector).verify(Unhashed::Refuse), Err(SignatureError::Payload), "{name}");
    }
}

#[test]
fn the_service_must_be_the_one_that_the_host_or_the_path_names() {
    let vector = |name: &str| vectors().into_iter().find(|(other, _)| other == name).unwrap().1;
    let mut mantle = Sent::of(&vector("mantle-chat"));
    *mantle.value("host").unwrap() = b"bedrock-runtime.us-east-1.amazonaws.com".to_vec();
    assert_eq!(mantle.verify(Unhashed::Refuse), Err(SignatureError::Scope { part: "service", found: "bedrock-mantle".to_owned() }));

    let mut elsewhere = Sent::of(&vector("converse-plain-id-raw-colon"));
    *elsewhere.value("host").unwrap() = b"bedrock-runtime.eu-west-1.amazonaws.com".to_vec();
    assert_eq!(elsewhere.region, "us-east-1");
    assert_eq!(elsewhere.verify(Unhashed::Refuse), Err(SignatureError::Scope { part: "region", found: "us-east-1".to_owned() }));
}

proptest::proptest! {
    #[test]
    fn nothing_that_is_received_panics_the_verifier(
        path in ".{0,40}", query in ".{0,40}", date in "(20260115T123456Z|.{0,20})",
        authorization in "(AWS4-HMAC-SHA256 Credential=.{0,20}, SignedHeaders=.{0,20}, Signature=.{0,9}|.{0,80})", host in ".{0,20}",
    ) {
        let headers = [("authorization", authorization.as_bytes()), ("x-amz-date", date.as_bytes()), ("host", host.as_bytes())];
        let received = Received { method: "POST", path: &path, query: &query, headers: &headers, body_sha256: "" };
        let credentials = [Credential::example()];
        let expected = Expected { credentials: &credentials, region: None, now: OffsetDateTime::UNIX_EPOCH, unhashed: Unhashed::Refuse };
        proptest::prop_assert!(verify(&received, &expected).is_err());
    }
}
