//! Our signatures, judged by botocore's (tests/vectors/sigv4.json) and by the crate's own request signer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use proptest::prelude::*;
use serde_json::Value;

use super::signature::Signing;
use super::{Keys, Request, Signer};
use crate::domain::{Secret, push_hex};

fn vectors() -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../../tests/vectors/sigv4.json")).unwrap();
    all["vectors"].as_array().unwrap().clone()
}

fn keys(id: &str, secret: &str, token: Option<&str>) -> Arc<Keys> {
    Arc::new(Keys {
        access_key_id: id.into(),
        secret_access_key: Secret::new(secret.to_owned()),
        session_token: token.map(|token| Secret::new(token.to_owned())),
        expires: None,
    })
}

/// The headers that a vector signs, less those that signing adds, as [`Request::headers`] wants them.
fn headers(vector: &Value) -> Vec<(String, Vec<u8>)> {
    let signed: Vec<&str> = vector["expected"]["signed_headers"].as_str().unwrap().split(';').collect();
    let request = &vector["request"];
    let given = request["headers"].as_array().unwrap().iter().map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    let added =
        vector["expected"]["added_headers"].as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
    let mut headers: Vec<(String, Vec<u8>)> = given
        .chain(added)
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_bytes().to_vec()))
        .filter(|(name, _)| signed.contains(&name.as_str()) && name != "x-amz-date" && name != "x-amz-security-token")
        .collect();
    if !headers.iter().any(|(name, _)| name == "host") {
        headers.push(("host".into(), host_header(request).into_bytes()));
    }
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    headers
}

/// As SDKs send it: without the port that the scheme implies.
fn host_header(request: &Value) -> String {
    let host = request["host"].as_str().unwrap();
    host.strip_suffix(":443").unwrap_or(host).to_owned()
}

#[test]
fn every_vector_of_botocore_is_signed_to_the_letter() {
    let (mut in_headers, mut presigned) = (0, 0);
    for vector in vectors() {
        let name = vector["name"].as_str().unwrap();
        let (request, signing, expected) = (&vector["request"], &vector["signing"], &vector["expected"]);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(signing["epoch"].as_u64().unwrap());
        let keys = keys(
            signing["access_key_id"].as_str().unwrap(),
            signing["secret_access_key"].as_str().unwrap(),
            signing["session_token"].as_str(),
        );
        // Scope names are 'static in the gateway: they come from the table of services.
        let service = ["bedrock", "bedrock-agentcore", "bedrock-mantle"].into_iter().find(|known| *known == signing["service"]).unwrap();
        let signer = Signer::new(signing["region"].as_str().unwrap(), service);
        if signing["mode"] == "query" {
            // The gateway does not presign; what it shares with presigning is the key and the last step.
            let mut signature = String::new();
            push_hex(&mut signature, signer.seal(&keys, expected["string_to_sign"].as_str().unwrap().as_bytes(), now).as_ref());
            assert_eq!(signature, expected["signature"].as_str().unwrap(), "{name}");
            presigned += 1;
            continue;
        }
        let headers = headers(&vector);
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let request = Request {
            method: request["method"].as_str().unwrap(),
            path: request["raw_path"].as_str().unwrap(),
            query: request["raw_query"].as_str().unwrap(),
            headers: &headers,
            payload: expected["payload_hash"].as_str().unwrap(),
        };
        let trace = Signing::of(&request, expected["added_headers"]["X-Amz-Date"].as_str().unwrap(), signing["session_token"].as_str());
        assert_eq!(String::from_utf8(trace.canonical).unwrap(), expected["canonical_request"].as_str().unwrap(), "{name}");
        let ours = signer.sign(&keys, &request, now);
        assert_eq!(ours.authorization, expected["authorization"].as_str().unwrap(), "{name}");
        assert_eq!(ours.date, expected["added_headers"]["X-Amz-Date"].as_str().unwrap(), "{name}");
        in_headers += 1;
    }
    assert_eq!((in_headers, presigned), (39, 1));
}

#[test]
fn the_kept_key_follows_day_and_credentials() {
    let signer = Signer::new("us-east-1", "bedrock");
    let fresh = || Signer::new("us-east-1", "bedrock");
    let (first, second) = (keys("AKIDEXAMPLE", "one", None), keys("AKIDEXAMPLE", "two", None));
    let request = Request { method: "POST", path: "/", query: "", headers: &[("host", b"h")], payload: "p" };
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_768_480_496);
    for (keys, now) in [(&first, noon), (&second, noon), (&first, noon + Duration::from_hours(24)), (&first, noon)] {
        assert_eq!(signer.sign(keys, &request, now), fresh().sign(keys, &request, now));
    }
}

/// What the crate's signer makes of the same request.
fn crates_own(keys: &Keys, uri: &str, method: &str, headers: &[(&str, &str)], payload: &str, now: SystemTime) -> String {
    let token = keys.session_token.as_ref().map(|token| token.expose().clone());
    let identity = Credentials::new(&*keys.access_key_id, keys.secret_access_key.expose().clone(), token, None, "test").into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
    let params =
        v4::SigningParams::builder().identity(&identity).region("us-east-1").name("bedrock").time(now).settings(settings).build().unwrap();
    let body = SignableBody::Precomputed(payload.to_owned());
    let request = SignableRequest::new(method, uri, headers.iter().copied(), body).unwrap();
    let (instructions, _) = sign(request, &params.into()).unwrap().into_parts();
    let (headers, _) = instructions.into_parts();
    headers.iter().find(|header| header.name() == "authorization").unwrap().value().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the gateway may send: safe paths, strict queries, any header values.
    #[test]
    fn the_crates_signer_agrees(
        segments in prop::collection::vec("([A-Za-z0-9_~!$'()*+,;=:@-]|%[0-9A-Fa-f]{2}){1,12}", 0..5),
        trailing in any::<bool>(),
        query in prop::collection::vec(("([A-Za-z0-9_.~-]|%2F|%3A|%20){1,8}", prop::option::of("([A-Za-z0-9_.~-]|%2B|%3D){0,8}")), 0..4),
        values in prop::collection::vec("[ -~]{0,24}", 3),
        token in prop::option::of("[A-Za-z0-9+/=]{1,40}"),
        second in 0_u64..4_000_000_000,
    ) {
        let mut path = format!("/{}", segments.join("/"));
        if trailing && !segments.is_empty() {
            path.push('/');
        }
        let pair = |(name, value): &(String, Option<String>)| value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}"));
        let query = query.iter().map(pair).collect::<Vec<_>>().join("&");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let keys = keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token.as_deref());
        let host = "bedrock-runtime.us-east-1.amazonaws.com";
        let headers = [("content-type", values[0].as_str()), ("host", host), ("x-amz-target", values[1].as_str()), ("x-amz-z", values[2].as_str())];
        let payload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let bytes: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let ours = Signer::new("us-east-1", "bedrock")
            .sign(&keys, &Request { method: "POST", path: &path, query: &query, headers: &bytes, payload }, now);
        let uri = if query.is_empty() { format!("https://{host}{path}") } else { format!("https://{host}{path}?{query}") };
        prop_assert_eq!(ours.authorization, crates_own(&keys, &uri, "POST", &headers, payload, now));
    }
}
