//! What holds of any body that is weighed.

use tollgate::call::weigh;
use tollgate::domain::{Asked, Call, Service};

/// Nothing panics, and nothing weighs more than it is.
pub(crate) fn judge(body: &[u8]) {
    let (path, query) = ("/v1/chat/completions".into(), "".into());
    let call = Call { service: Service::BEDROCK_MANTLE, path, query, model: None, asked: Asked::default() };
    let asked = weigh(&call, body);
    assert!(asked.text_bytes <= body.len() as u64 && u64::from(asked.media) <= body.len() as u64);
    // A bound that two readers could read in two ways is the larger of both.
    if let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(body) {
        let told = fields.get("max_tokens").and_then(serde_json::Value::as_u64);
        assert!(asked.max_tokens >= told || !is_plain(body), "{told:?} {asked:?}");
        // A stream is reserved less for: it must be one.
        let stream = fields.get("stream").and_then(serde_json::Value::as_bool);
        assert!(!asked.streamed || stream == Some(true) || !is_plain(body), "{stream:?}");
    }
}

/// Keys written with escapes are not read as what they are.
fn is_plain(body: &[u8]) -> bool {
    !body.contains(&b'\\')
}
