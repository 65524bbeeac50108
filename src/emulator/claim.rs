//! What a request says of its own signature: in `Authorization`, or in the query where it is presigned.

use time::Duration;

use super::canonical;
use super::verify::{Received, SignatureError};

/// The one algorithm that is known.
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What the request says of its signature.
pub(super) struct Claim {
    pub(super) key_id: String,
    pub(super) date: String,
    pub(super) region: String,
    pub(super) service: String,
    pub(super) signed: Vec<String>,
    pub(super) signature: String,
    pub(super) timestamp: String,
    pub(super) token: Option<Vec<u8>>,
    /// How long a presigned request holds.
    pub(super) expires: Option<Duration>,
}

impl Claim {
    pub(super) fn of(received: &Received<'_>) -> Result<Self, SignatureError> {
        let mut authorizations = received.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        let presigned = canonical::pairs(received.query);
        let in_query = |name: &str| presigned.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        match (authorizations.next(), authorizations.next(), in_query("X-Amz-Signature")) {
            (None, _, None) => Err(SignatureError::Missing),
            (None, _, Some(signature)) => {
                let part = |name, what| in_query(name).ok_or(SignatureError::Incomplete(what));
                let expires =
                    part("X-Amz-Expires", "no X-Amz-Expires")?.parse().map_err(|_| SignatureError::Incomplete("X-Amz-Expires"))?;
                Self::scoped(
                    &part("X-Amz-Credential", "no X-Amz-Credential")?,
                    &part("X-Amz-SignedHeaders", "no X-Amz-SignedHeaders")?,
                    &signature,
                    part("X-Amz-Date", "no X-Amz-Date")?,
                    in_query("X-Amz-Security-Token").map(String::into_bytes),
                    Some(Duration::seconds(expires)),
                )
            }
            (Some((_, value)), None, None) => Self::in_header(value, received),
            _ => Err(SignatureError::Incomplete("more than one signature")),
        }
    }

    fn in_header(value: &[u8], received: &Received<'_>) -> Result<Self, SignatureError> {
        let text = std::str::from_utf8(value).map_err(|_| SignatureError::Incomplete("not text"))?;
        let fields = text.strip_prefix(ALGORITHM).ok_or(SignatureError::Missing)?;
        let field = |name: &str| fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
        let date = canonical::header(received.headers, "x-amz-date").ok_or(SignatureError::Incomplete("no x-amz-date"))?;
        Self::scoped(
            field("Credential").ok_or(SignatureError::Incomplete("no Credential"))?,
            field("SignedHeaders").ok_or(SignatureError::Incomplete("no SignedHeaders"))?,
            field("Signature").ok_or(SignatureError::Incomplete("no Signature"))?,
            String::from_utf8(date).map_err(|_| SignatureError::Incomplete("x-amz-date is not text"))?,
            canonical::header(received.headers, "x-amz-security-token"),
            None,
        )
    }

    fn scoped(
        credential: &str,
        signed: &str,
        signature: &str,
        timestamp: String,
        token: Option<Vec<u8>>,
        expires: Option<Duration>,
    ) -> Result<Self, SignatureError> {
        let parts: Vec<&str> = credential.split('/').collect();
        let &[key_id, date, region, service, "aws4_request"] = parts.as_slice() else {
            return Err(SignatureError::Incomplete("the credential is not key/date/region/service/aws4_request"));
        };
        let signed: Vec<String> = signed.split(';').map(str::to_owned).collect();
        if !signed.is_sorted() || signed.iter().any(|name| name.chars().any(char::is_uppercase)) {
            return Err(SignatureError::Incomplete("SignedHeaders are not sorted lower-case names"));
        }
        let [key_id, date, region, service, signature] = [key_id, date, region, service, signature].map(str::to_owned);
        Ok(Self { key_id, date, region, service, signed, signature, timestamp, token, expires })
    }
}
