//! Callers whom the gateway itself gave a key: API keys, and requests that they sign. Signed by AWS's own crate, sent by a raw client.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign as sign_request,
};
use aws_sigv4::sign::v4;
use http::StatusCode;
use tollgate::domain::ManualClock;
use tollgate::identity::{KeysFile, Owner};

use crate::client::{Answer, PATIENCE, Raw, call as raw_call, converse};
use crate::downstream::{Ask, Way, call};
use crate::world::{ISSUED, Setting, World, jwt};

pub(crate) const CONVERSE: &str = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc/converse";

async fn world() -> World {
    crate::world::world(&format!("identity:\n{ISSUED}")).await
}

/// The headers that sign a request by `world`'s credential as of `at`, with the body's hash among them or not.
fn signature(world: &World, at: SystemTime, method: &str, path: &str, body: &[u8], checksum: PayloadChecksumKind) -> Vec<(String, String)> {
    let identity = Credentials::new(&world.access_key_id, &world.secret_access_key, None, None, "test").into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = checksum;
    let params = v4::SigningParams::builder().identity(&identity).region("eu-west-3").name("bedrock").time(at).settings(settings);
    let uri = format!("http://gateway{path}");
    let headers = [("host", "gateway"), ("content-type", "application/json"), ("x-amz-target", "a  b")];
    let request = SignableRequest::new(method, uri, headers.into_iter(), SignableBody::Bytes(body)).unwrap();
    let (instructions, _) = sign_request(request, &params.build().unwrap().into()).unwrap().into_parts();
    let signed = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned()));
    signed.chain([("x-amz-target".to_owned(), "a  b".to_owned())]).collect()
}

pub(crate) fn signed(world: &World, body: &[u8]) -> Vec<(String, String)> {
    signed_for(world, CONVERSE, body)
}

pub(crate) fn signed_for(world: &World, path: &str, body: &[u8]) -> Vec<(String, String)> {
    signature(world, SystemTime::now(), "POST", path, body, PayloadChecksumKind::NoHeader)
}

pub(crate) fn ask(path: &str, headers: &[(String, String)], body: &[u8]) -> Ask {
    headers.iter().fold(Ask::post(path, body.to_vec()), |ask, (name, value)| ask.header(name, value))
}

#[track_caller]
fn is_refused(answer: &Answer, kind: &str, message: &str) {
    assert_eq!((answer.status, answer.header("x-amzn-errortype")), (StatusCode::FORBIDDEN, Some(kind)), "{}", answer.json());
    assert!(answer.json()["message"].as_str().unwrap().contains(message), "{}", answer.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_passes_on_every_way_and_is_signed_anew() {
    let world = world().await;
    let body = converse("one two");
    for way in Way::ALL {
        for checksum in [PayloadChecksumKind::NoHeader, PayloadChecksumKind::XAmzSha256] {
            let headers = signature(&world, SystemTime::now(), "POST", CONVERSE, &body, checksum);
            let answer = call(&world, way, &ask(CONVERSE, &headers, &body)).await;
            assert_eq!(answer.status, 200, "{way:?} {}", answer.json());
        }
        for path in ["/bedrock-agent/agents/", "/inference-profiles?type=SYSTEM_DEFINED&maxResults=5&b=a:b&B=%41"] {
            let headers = signature(&world, SystemTime::now(), "POST", path, b"", PayloadChecksumKind::NoHeader);
            let answer = call(&world, way, &ask(path, &headers, b"")).await;
            assert_ne!(answer.status, StatusCode::FORBIDDEN, "{way:?} {path} {}", answer.json());
        }
    }
    for seen in world.emulator.requests() {
        let authorization = seen.header("authorization").unwrap();
        assert!(authorization.contains("Credential=AKIDEXAMPLE/") && !authorization.contains(&world.access_key_id), "{authorization}");
        assert!(authorization.contains("/us-east-1/"), "in the gateway's region, not in the client's");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_signed_part_changed_on_the_wire_is_refused_and_reaches_nobody() {
    let world = world().await;
    let body = converse("one two");
    let headers = signed(&world, &body);
    let changed = |name: &str, change: &dyn Fn(&str) -> String| -> Vec<(String, String)> {
        assert!(headers.iter().any(|(other, _)| other == name), "{name}");
        headers.iter().map(|(other, value)| (other.clone(), if other == name { change(value) } else { value.clone() })).collect()
    };
    let with = |name: &str, value: &str| [&headers[..], &[(name.to_owned(), value.to_owned())]].concat();
    let (earlier, other) = (CONVERSE.replace("abc", "abd"), converse("one three"));
    for way in Way::ALL {
        for (what, asked) in [
            ("path", ask(&earlier, &headers, &body)),
            ("the path's encoding", ask(&CONVERSE.replace("%3Aaws", ":aws"), &headers, &body)),
            ("a prefix", ask(&format!("/bedrock-runtime{CONVERSE}"), &headers, &body)),
            ("query", ask(&format!("{CONVERSE}?a=1"), &headers, &body)),
            ("body", ask(CONVERSE, &headers, &other)),
            ("no body", ask(CONVERSE, &headers, b"")),
            ("a signed header", ask(CONVERSE, &changed("x-amz-target", &|_| "a b c".to_owned()), &body)),
            ("date", ask(CONVERSE, &changed("x-amz-date", &|date| date.replace('Z', "0Z")), &body)),
            ("region", ask(CONVERSE, &changed("authorization", &|value| value.replace("eu-west-3", "us-east-1")), &body)),
            ("service", ask(CONVERSE, &changed("authorization", &|value| value.replace("/bedrock/", "/s3/")), &body)),
            (
                "signature",
                ask(
                    CONVERSE,
                    &changed("authorization", &|value| format!("{}{}", value.split_at(value.len() - 1).0, i32::from(value.ends_with('0')))),
                    &body,
                ),
            ),
            ("a new header", ask(CONVERSE, &with("x-amz-new", "1"), &body)),
            ("a header twice", ask(CONVERSE, &with("x-amz-target", "a b"), &body)),
            ("another service", ask(CONVERSE, &with("aws-endpoint-prefix", "bedrock-agent"), &body)),
            ("another hash", ask(CONVERSE, &with("x-amz-content-sha256", &"0".repeat(64)), &body)),
            ("no hash", ask(CONVERSE, &with("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), &body)),
        ] {
            let answer = call(&world, way, &asked).await;
            assert_eq!(answer.header("x-amzn-errortype"), Some("InvalidSignatureException"), "{way:?} {what}");
            is_refused(&answer, "InvalidSignatureException", "");
        }
    }
    assert_eq!(world.emulator.connections(), 0);
    assert_eq!(world.metric("tollgate_refusals_total{reason=\"invalid_signature\"}"), 64.0);
    let elsewhere = String::from_utf8(ask(CONVERSE, &headers, &body).wire()).unwrap().replace("host: gateway", "host: elsewhere");
    is_refused(&raw_call(world.plain, elsewhere).await, "InvalidSignatureException", "does not match");
    let get = String::from_utf8(ask(CONVERSE, &headers, &body).wire()).unwrap().replace("POST ", "PUT ");
    is_refused(&raw_call(world.plain, get).await, "InvalidSignatureException", "does not match");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_outside_the_window_is_refused_with_both_times() {
    let now = SystemTime::now();
    let clock = ManualClock::starting_at(now);
    let setting = Setting { yaml: format!("identity:\n{ISSUED}"), clock: Some(clock.clone()), ..Setting::default() };
    let world = World::build(setting).await;
    let body = converse("one two");
    let asked = ask(CONVERSE, &signature(&world, now, "POST", CONVERSE, &body, PayloadChecksumKind::NoHeader), &body);
    assert_eq!(call(&world, Way::Http1, &asked).await.status, 200);
    clock.advance(Duration::from_secs(299));
    assert_eq!(call(&world, Way::Http1, &asked).await.status, 200);
    clock.advance(Duration::from_secs(3));
    let answer = call(&world, Way::Http1, &asked).await;
    is_refused(&answer, "InvalidSignatureException", "Signature expired: the request was signed at ");
    is_refused(&answer, "InvalidSignatureException", "Z here: more than 5 minutes apart");
    let tomorrow = signature(&world, now + Duration::from_hours(1), "POST", CONVERSE, &body, PayloadChecksumKind::NoHeader);
    is_refused(&call(&world, Way::Http1, &ask(CONVERSE, &tomorrow, &body)).await, "InvalidSignatureException", "Signature not yet current");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_presigned_url_passes_and_none_that_was_changed_does() {
    let world = world().await;
    let identity = Credentials::new(&world.access_key_id, &world.secret_access_key, None, None, "test").into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_hours(1));
    let params = v4::SigningParams::builder().identity(&identity).region("us-east-1").name("bedrock").time(SystemTime::now());
    let request = SignableRequest::new(
        "GET",
        "http://gateway/foundation-models?byProvider=a%2Fb",
        [("host", "gateway")].into_iter(),
        SignableBody::Bytes(b""),
    );
    let (instructions, _) = sign_request(request.unwrap(), &params.settings(settings).build().unwrap().into()).unwrap().into_parts();
    let mut url = http::Request::builder().uri("http://gateway/foundation-models?byProvider=a%2Fb").body(()).unwrap();
    instructions.apply_to_request_http1x(&mut url);
    let path = url.uri().path_and_query().unwrap().as_str().to_owned();
    for way in Way::ALL {
        assert_eq!(call(&world, way, &Ask::get(&path)).await.status, 200, "{way:?}");
        for (from, to) in [("a%2Fb", "a%2Fc"), ("X-Amz-Expires=3600", "X-Amz-Expires=3601"), ("/foundation-models", "/guardrails")] {
            assert!(path.contains(from), "{path}");
            is_refused(&call(&world, way, &Ask::get(&path.replace(from, to))).await, "InvalidSignatureException", "does not match");
        }
    }
    assert!(
        world.emulator.requests().iter().all(|seen| !seen.query.as_deref().unwrap_or_default().contains("X-Amz-")),
        "none of it reaches AWS"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_body_is_never_read() {
    let world = world().await;
    let body = converse("one");
    let headers = signed(&world, &body);
    let stranger: Vec<_> =
        headers.iter().map(|(name, value)| (name.clone(), value.replace(&world.access_key_id, "TGAKAAAAAAAAAAAAAAAA"))).collect();
    let head = |headers: &[(String, String)]| {
        let wire = String::from_utf8(ask(CONVERSE, headers, &body).wire()).unwrap();
        let head = wire.split_once("\r\n\r\n").unwrap().0;
        format!("{}\r\n\r\n", head.replace(&format!("content-length: {}", body.len()), "content-length: 1000000"))
    };
    let mut raw = Raw::connect(world.plain).await;
    raw.send(head(&stranger)).await;
    let answer = tokio::time::timeout(PATIENCE, raw.answer()).await.expect("an answer before the body");
    is_refused(&answer, "UnrecognizedClientException", "The security token included in the request is invalid.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_unknown_length_is_judged_by_the_head_that_was_signed() {
    let world = world().await;
    // More than Pingora's buffer, so that the head is read a second time, changed.
    let body = converse(&"word ".repeat(40_000));
    let mut wire = format!("POST {CONVERSE} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n");
    for (name, value) in signed(&world, &body) {
        wire.extend([&*name, ": ", &value, "\r\n"]);
    }
    let mut wire = wire.into_bytes();
    wire.extend_from_slice(b"\r\n");
    for chunk in body.chunks(9_000) {
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(raw_call(world.plain, wire).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_passes_in_each_header_and_stays_with_the_gateway() {
    let world = world().await;
    let key = world.api_key.clone();
    let plain = Ask::post("/model/amazon.nova-lite-v1:0/converse", converse("one two"));
    for way in Way::ALL {
        for asked in [plain.clone().token(&key), plain.clone().header("x-api-key", &key), plain.clone().header("x-tollgate-token", &key)] {
            assert_eq!(call(&world, way, &asked).await.status, 200, "{way:?}");
        }
        for wrong in [key.split_at(52).0, "sk-1", &key.replace("tgk_", "tgk_0")] {
            let answer = call(&world, way, &plain.clone().header("x-api-key", wrong)).await;
            assert_eq!((answer.status, answer.header("x-amzn-errortype")), (StatusCode::UNAUTHORIZED, Some("UnrecognizedClientException")));
            assert!(!String::from_utf8_lossy(&answer.body).contains(wrong));
        }
    }
    for seen in world.emulator.requests() {
        assert!(seen.header("x-api-key").is_none() && seen.header("x-tollgate-token").is_none());
        assert!(seen.header("authorization").unwrap().starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_its_own_header_comes_before_a_dummy_signature() {
    let methods = format!("identity:\n{}\n{ISSUED}", jwt().replace("identity: [", "- { ").replace("}]", "} }"));
    let world = crate::world::world(&methods).await;
    let body = converse("one two");
    let dummy: Vec<_> = signed(&world, &body)
        .into_iter()
        .map(|(name, value)| (name, value.replace(&world.access_key_id, "AKIADUMMYDUMMYDUMMY1")))
        .collect();
    is_refused(&call(&world, Way::Http1, &ask(CONVERSE, &dummy, &body)).await, "UnrecognizedClientException", "security token");
    for token in [&world.token, &world.api_key] {
        let asked = ask(CONVERSE, &dummy, &body).header("x-tollgate-token", token);
        assert_eq!(call(&world, Way::Http1, &asked).await.status, 200);
    }
}

/// Eight callers call by every way in, without a pause, until `change` is done; none loses a call.
async fn under_load(world: &World, ask: &Ask, change: impl Future<Output = ()>) {
    let done = AtomicBool::new(false);
    let callers = (0..8).map(async |n: usize| {
        let mut calls = 0;
        while calls == 0 || !done.load(Ordering::Relaxed) {
            let way = Way::ALL[n % Way::ALL.len()];
            assert_eq!(call(world, way, ask).await.status, 200, "call {calls} by {way:?}");
            calls += 1;
        }
    });
    let change = async {
        change.await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(futures_util::future::join_all(callers), change);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_issued_and_revoked_counts_without_a_restart_and_disturbs_nobody() {
    let world = world().await;
    let keys = KeysFile::at(&world.dir.join("keys.yaml"));
    let (id, fresh) = keys.new_api_key(Owner { tenant: "new".to_owned(), ..Owner::default() }).unwrap();
    let asked = |key: &str| Ask::post("/model/amazon.nova-lite-v1:0/converse", converse("one")).token(key);
    let until = async |wanted: StatusCode, message: &str| {
        let turning = async {
            loop {
                assert_eq!(call(&world, Way::Http1, &asked(&world.api_key)).await.status, 200, "another's call goes on");
                let answer = call(&world, Way::Http1, &asked(fresh.expose())).await;
                if answer.status == wanted {
                    return assert!(answer.json().to_string().contains(message), "{}", answer.json());
                }
            }
        };
        tokio::time::timeout(PATIENCE, turning).await.expect("within 30 s");
    };
    let others = asked(&world.api_key);
    under_load(&world, &others, until(StatusCode::OK, "echo")).await;
    keys.revoke(&id).unwrap();
    under_load(&world, &others, until(StatusCode::UNAUTHORIZED, "the API key was revoked")).await;

    keys.revoke(&world.access_key_id).unwrap();
    let body = converse("one");
    let turning = async {
        loop {
            let answer = call(&world, Way::Http1, &ask(CONVERSE, &signed(&world, &body), &body)).await;
            if answer.status != StatusCode::OK {
                return is_refused(&answer, "UnrecognizedClientException", "The security token included in the request is invalid.");
            }
        }
    };
    tokio::time::timeout(PATIENCE, turning).await.expect("within 30 s");

    std::fs::write(world.dir.join("keys.yaml"), "- nonsense").unwrap();
    let refused = async {
        while world.metric("tollgate_identity_key_file_errors_total") == 0.0 {
            assert_eq!(call(&world, Way::Http1, &asked(&world.api_key)).await.status, 200);
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("within 30 s");
    assert_eq!(call(&world, Way::Http1, &asked(&world.api_key)).await.status, 200, "the last good keys stay");
}
