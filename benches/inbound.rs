//! What it costs to know a caller by a key that the gateway issued. Budget: 1.5 µs for an API key; 6 µs beyond the body's hash for a signature over
//! 1.5 KB. The hash alone stands beside, for 1.5 KB and 1 MB.

#![expect(clippy::expect_used, clippy::panic, reason = "a bench that can't be set up should stop")]
#![expect(missing_docs, reason = "`criterion_group!` makes a public function")]

use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_lc_rs::digest::{SHA256, digest};
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use tollgate::config::identity::{ApiKeys, AwsCredentials, Method};
use tollgate::identity::{Finding, Identity, KeysFile, Owner, Presented};

const PATH: &str = "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |out, byte| format!("{out}{byte:02x}"))
}

/// The headers of a request as boto3 signs it.
fn signed(id: &str, secret: &str, body: &[u8], now: SystemTime) -> HeaderMap {
    let identity = Credentials::new(id, secret, None, None, "bench").into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
    let params = v4::SigningParams::builder().identity(&identity).region("us-east-1").name("bedrock").time(now).settings(settings);
    let sent = [
        ("host", "gateway.example.com"),
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("amz-sdk-invocation-id", "3b2f7f1e-7d5c-4a87-9a50-000000000000"),
        ("amz-sdk-request", "attempt=1; max=3"),
    ];
    let request = SignableRequest::new("POST", format!("https://gateway.example.com{PATH}"), sent.into_iter(), SignableBody::Bytes(body));
    let params = params.build().expect("parameters").into();
    let (instructions, _) = sign(request.expect("a request"), &params).expect("a signature").into_parts();
    let pairs = sent.into_iter().chain(instructions.headers());
    pairs.map(|(name, value)| (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"))).collect()
}

fn inbound(criterion: &mut Criterion) {
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_001);
    let directory = std::env::temp_dir().join(format!("tollgate-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let (file, key_file) = (directory.join("keys.yaml"), directory.join("key"));
    let keys = KeysFile::at(&file);
    let owner = || Owner { tenant: "acme".to_owned(), ..Owner::default() };
    let (_, api_key) = keys.new_api_key(owner()).expect("a key");
    let (id, secret) = keys.new_aws_credential(&key_file, owner()).expect("a credential");
    let methods =
        [Method::ApiKeys(ApiKeys { file: file.clone() }), Method::AwsCredentials(AwsCredentials { file, key_file: Some(key_file) })];
    let identity = Identity::build(&methods).expect("a good configuration");

    let bearer = HeaderValue::from_str(&format!("Bearer {}", api_key.expose())).expect("a header");
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, bearer)]);
    criterion.bench_function("inbound/API key", |bench| {
        bench.iter(|| identity.identify(&Presented::by(black_box(&headers)), now).expect("a good key"));
    });

    for (name, length) in [("1.5 KB", 1_500), ("1 MB", 1_000_000)] {
        let body = vec![b'x'; length];
        let headers = signed(&id, secret.expose(), &body, now);
        let sha256 = hex(digest(&SHA256, &body).as_ref());
        let shown = Presented { path: PATH, host: Some("gateway.example.com"), ..Presented::by(&headers) };
        let verify = || match identity.identify(black_box(&shown), now).expect("a good head") {
            Finding::Signed(claim) => claim.settle(&sha256).expect("a good signature"),
            Finding::Known(known) => known,
            Finding::Ask(_) => panic!("no authorizer is configured"),
        };
        criterion.bench_function(&format!("inbound/SigV4 beyond the hash of {name}"), |bench| bench.iter(verify));
        criterion.bench_function(&format!("inbound/the hash of {name}"), |bench| bench.iter(|| digest(&SHA256, black_box(&body))));
    }
    std::fs::remove_dir_all(directory).expect("the directory");
}

criterion_group!(benches, inbound);
criterion_main!(benches);
