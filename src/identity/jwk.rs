//! One published key (RFC 7517, section 4; RFC 7518, section 6; RFC 8037): read, checked, and bound to what it may verify.

use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, crypto};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::KeySetError;
use crate::config::identity::Algorithm;
use crate::domain::Secret;

/// A key, and all that it may be used for.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) kid: Option<String>,
    /// At least one; all of the key's own type.
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) verifier: Verifier,
    /// The SHA-256 of all that was published of it: the same key with another use is another key.
    pub(super) fingerprint: [u8; 32],
}

/// What verifies.
#[derive(Debug)]
pub(super) enum Verifier {
    /// A public key that the library knows how to use.
    Public(DecodingKey),
    /// On P-521, which the library does not know.
    P521(Box<ParsedPublicKey>),
    /// A shared secret. Never made from anything that was published.
    Shared(Secret<Vec<u8>>),
}

impl Verifier {
    /// Whether `signature` (base64url) is this key's over `message`. The caller has checked that the key is for the algorithm.
    pub(super) fn accepts(&self, algorithm: Algorithm, message: &str, signature: &str) -> bool {
        let (message, decoded) = (message.as_bytes(), || URL_SAFE_NO_PAD.decode(signature).ok());
        match self {
            Self::Public(key) => {
                library_name(algorithm).is_some_and(|name| crypto::verify(signature, message, key, name).is_ok_and(|good| good))
            }
            Self::P521(key) => decoded().is_some_and(|signature| key.verify_sig(message, &signature).is_ok()),
            Self::Shared(secret) => {
                let Some((name, tag)) = hmac_name(algorithm).zip(decoded()) else { return false };
                // In constant time.
                hmac::verify(&hmac::Key::new(name, secret.expose()), message, &tag).is_ok()
            }
        }
    }
}

/// What the library calls it, where it knows it and the key is public.
const fn library_name(algorithm: Algorithm) -> Option<jsonwebtoken::Algorithm> {
    Some(match algorithm {
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::ES512 | Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => return None,
    })
}

const fn hmac_name(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

/// A key as it is published. Members beyond these say nothing about verifying.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The types of key that are known.
#[derive(Clone, Copy)]
enum Kind {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

impl Kind {
    const fn algorithms(self) -> &'static [Algorithm] {
        match self {
            Self::Rsa => {
                use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
                &[RS256, RS384, RS512, PS256, PS384, PS512]
            }
            Self::P256 => &[Algorithm::ES256],
            Self::P384 => &[Algorithm::ES384],
            Self::P521 => &[Algorithm::ES512],
            Self::Ed25519 => &[Algorithm::EdDSA],
        }
    }
}

/// Reads the key at the place `at` of its set; `None` where its type is unknown or it is for something that is not `allowed`.
///
/// # Errors
/// Where it would be used, and does not hold together or is too weak.
pub(super) fn read(at: usize, members: Map<String, Value>, allowed: &[Algorithm]) -> Result<Option<Key>, KeySetError> {
    // Members of a map stand in the order of their names, so that the order in which a provider writes them makes no difference.
    let published = Value::Object(members.clone()).to_string();
    let jwk: Jwk = serde_json::from_value(Value::Object(members)).map_err(|error| malformed(at, error.to_string()))?;
    let Some(kind) = jwk.kind() else { return Ok(None) };
    let algorithms: Vec<_> = kind.algorithms().iter().copied().filter(|one| allowed.contains(one) && jwk.admits(*one)).collect();
    if algorithms.is_empty() {
        return Ok(None);
    }
    let verifier = match kind {
        Kind::Rsa => Verifier::Public(jwk.rsa(at)?),
        Kind::P256 => Verifier::Public(DecodingKey::from_ec_der(&jwk.point(at, &ECDSA_P256_SHA256_FIXED, 32)?.0)),
        Kind::P384 => Verifier::Public(DecodingKey::from_ec_der(&jwk.point(at, &ECDSA_P384_SHA384_FIXED, 48)?.0)),
        Kind::P521 => Verifier::P521(Box::new(jwk.point(at, &ECDSA_P521_SHA512_FIXED, 66)?.1)),
        Kind::Ed25519 => Verifier::Public(jwk.edwards(at)?),
    };
    Ok(Some(Key { kid: jwk.kid, algorithms, verifier, fingerprint: fingerprint(published.as_bytes()) }))
}

/// The key that `secret` is, for HMAC. RFC 7518, section 3.2: a secret is at least as long as the hash that it is used with.
///
/// # Errors
/// Where it is shorter than the longest hash of `allowed`.
pub(super) fn shared(secret: Vec<u8>, allowed: &[Algorithm]) -> Result<Key, KeySetError> {
    let algorithms: Vec<_> = allowed.iter().copied().filter(|algorithm| algorithm.is_hmac()).collect();
    let least = algorithms.iter().filter_map(|algorithm| hmac_name(*algorithm)).map(|name| name.digest_algorithm().output_len()).max();
    let Some(least) = least else { return Err(KeySetError::NoUsableKey { keys: 1, algorithms: allowed.to_vec() }) };
    if secret.len() < least {
        return Err(KeySetError::ShortSecret { bytes: secret.len(), least });
    }
    Ok(Key { kid: None, algorithms, fingerprint: fingerprint(&secret), verifier: Verifier::Shared(Secret::new(secret)) })
}

fn fingerprint(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

impl Jwk {
    fn kind(&self) -> Option<Kind> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Some(Kind::Rsa),
            ("EC", Some("P-256")) => Some(Kind::P256),
            ("EC", Some("P-384")) => Some(Kind::P384),
            ("EC", Some("P-521")) => Some(Kind::P521),
            ("OKP", Some("Ed25519")) => Some(Kind::Ed25519),
            _ => None,
        }
    }

    /// Whether `alg`, `use` and `key_ops`, as far as they are there, let the key verify signatures of this algorithm.
    fn admits(&self, algorithm: Algorithm) -> bool {
        self.alg.as_deref().is_none_or(|name| Algorithm::named(name) == Some(algorithm))
            && self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|operation| operation == "verify"))
    }

    fn rsa(&self, at: usize) -> Result<DecodingKey, KeySetError> {
        let (n, e) = (bytes(at, "n", self.n.as_deref())?, bytes(at, "e", self.e.as_deref())?);
        // Java's BigInteger writes a zero byte before a modulus whose first bit is set; it is no part of the number.
        let (n, e) = (without_zeros(&n), without_zeros(&e));
        let bits = n.first().map_or(0, |first| n.len() * 8 - usize::try_from(first.leading_zeros()).unwrap_or(0));
        if !(2048..=8192).contains(&bits) {
            return Err(KeySetError::RsaSize { key: at, bits });
        }
        // With 1 for an exponent everyone can sign; an even one has no private key; beyond 32 bits AWS-LC verifies nothing.
        if e.len() > 4 || e == [1] || e.last().is_none_or(|last| last % 2 == 0) {
            return Err(malformed(at, "`e` must be odd, above 1 and of 32 bits at most".into()));
        }
        Ok(DecodingKey::from_rsa_raw_components(n, e))
    }

    fn point(
        &self,
        at: usize,
        curve: &'static dyn VerificationAlgorithm,
        length: usize,
    ) -> Result<(Vec<u8>, ParsedPublicKey), KeySetError> {
        let (x, y) = (bytes(at, "x", self.x.as_deref())?, bytes(at, "y", self.y.as_deref())?);
        if x.len() != length || y.len() != length {
            return Err(malformed(at, format!("`x` and `y` must be {length} bytes each")));
        }
        let uncompressed = [&[4], x.as_slice(), y.as_slice()].concat();
        let parsed = ParsedPublicKey::new(curve, &uncompressed);
        let parsed = parsed.map_err(|_| malformed(at, "`x` and `y` are no point on the curve".into()))?;
        Ok((uncompressed, parsed))
    }

    fn edwards(&self, at: usize) -> Result<DecodingKey, KeySetError> {
        let x = bytes(at, "x", self.x.as_deref())?;
        ParsedPublicKey::new(&ED25519, &x).map_err(|_| malformed(at, "`x` is no public key of Ed25519".into()))?;
        Ok(DecodingKey::from_ed_der(&x))
    }
}

fn bytes(at: usize, member: &str, value: Option<&str>) -> Result<Vec<u8>, KeySetError> {
    let value = value.ok_or_else(|| malformed(at, format!("`{member}` is missing")))?;
    URL_SAFE_NO_PAD.decode(value).map_err(|_| malformed(at, format!("`{member}` is not base64url without padding")))
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn malformed(key: usize, what: String) -> KeySetError {
    KeySetError::Malformed { key, what }
}
