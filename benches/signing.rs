//! Signing: what a request costs beyond the hash of its body. Budget: 2 to 6 µs; the crate's own request signer stands beside it.
#![expect(clippy::unwrap_used, reason = "a bench that can't be set up should stop")]
#![expect(missing_docs, reason = "`criterion_group!` makes a public function")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::domain::Secret;
use tollgate::upstreams::{Keys, Request, Signer};

const HOST: &str = "bedrock-runtime.us-east-1.amazonaws.com";
const PATH: &str = "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse";
const PAYLOAD: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn signing(c: &mut Criterion) {
    let token = "x".repeat(900);
    let keys = Arc::new(Keys {
        access_key_id: "ASIAEXAMPLE".into(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
        session_token: Some(Secret::new(token.clone())),
        expires: None,
    });
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_768_480_496);
    let signer = Signer::new("us-east-1", "bedrock");
    let headers: [(&str, &[u8]); 2] = [("content-type", b"application/json"), ("host", HOST.as_bytes())];
    c.bench_function("sign: ours, session token of 900 bytes", |b| {
        let request = Request { method: "POST", path: PATH, query: "", headers: &headers, payload: PAYLOAD };
        b.iter(|| signer.sign(black_box(&keys), black_box(&request), now));
    });

    let identity = Credentials::new("ASIAEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", Some(token), None, "bench").into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
    let builder = v4::SigningParams::builder().identity(&identity).region("us-east-1").name("bedrock").time(now).settings(settings);
    let params = builder.build().unwrap().into();
    let uri = format!("https://{HOST}{PATH}");
    c.bench_function("sign: the crate's request signer", |b| {
        b.iter(|| {
            let headers = [("content-type", "application/json"), ("host", HOST)].into_iter();
            let request = SignableRequest::new("POST", &uri, headers, SignableBody::Precomputed(PAYLOAD.into())).unwrap();
            sign(black_box(request), &params).unwrap()
        });
    });
}

criterion_group!(benches, signing);
criterion_main!(benches);
