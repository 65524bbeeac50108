//! The credential headers of a stranger: two lines, `Authorization` and `x-tollgate-token`, through every method that judges them.
//!
//! Shared by the fuzz target of this name and by `tests/it/fuzz.rs`, which replays the corpus. Nothing that a stranger can think of is signed
//! by a key of ours, so anything but a refusal is a hole.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};
use tollgate::config::identity::{Algorithm, ClaimPath, Jwt, KeySource, Method, Scalar};
use tollgate::identity::{Identity, Presented};

/// A moment in 2027, by which the tokens of the corpus have not expired.
const NOW: Duration = Duration::from_hours(500_000);

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let file = std::env::temp_dir().join(format!("tollgate-fuzz-{}.json", std::process::id()));
    std::fs::write(&file, include_str!("authorization.jwks.json")).expect("a key file");
    let jwt = |issuer: &str, algorithms: &[Algorithm]| {
        Method::Jwt(Jwt {
            issuer: issuer.into(),
            audiences: vec!["tollgate".into()],
            algorithms: algorithms.to_vec(),
            keys: KeySource::File(file.clone()),
            tenant: ClaimPath("org.tenant".into()),
            user: ClaimPath("sub".into()),
            groups: Some(ClaimPath("groups".into())),
            required_claims: vec![(ClaimPath("token_use".into()), Scalar::Text("access".into()))],
        })
    };
    Identity::build(&[
        jwt("https://idp.example", &[Algorithm::RS256, Algorithm::PS256]),
        jwt("https://second.example", &[Algorithm::ES256, Algorithm::EdDSA]),
    ])
    .expect("good rules")
});

/// Has `data` judged.
pub(crate) fn judge(data: &[u8]) {
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in ["authorization", "x-tollgate-token"] {
        if let Some(Ok(value)) = lines.next().map(HeaderValue::from_bytes) {
            headers.append(name, value);
        }
    }
    assert!(IDENTITY.identify(&Presented::by(&headers), UNIX_EPOCH + NOW).is_err());
}
