//! An issuer's public keys (RFC 7517), and the one question put to them: is this its signature?
//!
//! Each key is bound, when it is read, to the algorithms that its own type, its `alg`, `use` and `key_ops`, and the configuration all
//! allow; a token's header only picks among those. So no token can talk a key into an algorithm that it was not made for.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use jsonwebtoken::crypto;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::KeySetError;
use super::fault::{Fault, excerpt};
use super::jwk::{self, Key};
use crate::config::identity::Algorithm;

/// The longest file that is read, in bytes: over a thousand keys.
pub(super) const MAX_FILE: u64 = 1024 * 1024;

/// Members that hold a private or symmetric key (RFC 7518, section 6; `priv` by RFC 9964).
const PRIVATE: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// The keys of one issuer that can verify something.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads the set in `file` and keeps what can verify one of the `allowed` algorithms.
    pub(super) fn read(file: &Path, allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let mut json = Vec::new();
        let file = File::open(file).map_err(KeySetError::Unreadable)?;
        file.take(MAX_FILE + 1).read_to_end(&mut json).map_err(KeySetError::Unreadable)?;
        Self::parse(&json, allowed)
    }

    /// As [`read`](Self::read), from the file's bytes.
    pub(super) fn parse(json: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Map<String, Value>>,
        }
        if u64::try_from(json.len()).is_ok_and(|length| length > MAX_FILE) {
            return Err(KeySetError::TooLong);
        }
        let set: Set = serde_json::from_slice(json).map_err(KeySetError::Syntax)?;
        // Before anything else is said about the set: a secret that lies about matters more than a malformed neighbour.
        for (key, members) in set.keys.iter().enumerate() {
            if let Some(member) = PRIVATE.into_iter().find(|member| members.contains_key(*member)) {
                return Err(KeySetError::PrivateKey { key, member });
            }
        }
        let keys = set.keys.len();
        let mut usable: Vec<Key> = Vec::with_capacity(keys);
        for (at, members) in set.keys.into_iter().enumerate() {
            let Some(key) = jwk::read(at, members, allowed)? else { continue };
            if let Some(kid) = key.kid.as_ref().filter(|kid| usable.iter().any(|other| other.kid.as_ref() == Some(kid))) {
                return Err(KeySetError::KidTwice { kid: excerpt(kid) });
            }
            usable.push(key);
        }
        if usable.is_empty() { Err(KeySetError::NoUsableKey { keys, algorithms: allowed.to_vec() }) } else { Ok(Self(usable)) }
    }

    /// Whether `signature` (base64url) was made over `message` with the key called `kid`; with the only one that fits, where there is no `kid`.
    pub(super) fn verify(&self, kid: Option<&str>, algorithm: Algorithm, message: &str, signature: &str) -> Result<(), Fault> {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.algorithms.contains(&algorithm))
            .filter(|key| kid.is_none_or(|kid| key.kid.as_deref() == Some(kid)));
        let (Some(key), None) = (fitting.next(), fitting.next()) else {
            return Err(kid.map_or(Fault::NoKid, |kid| Fault::UnknownKey(excerpt(kid))));
        };
        match crypto::verify(signature, message.as_bytes(), &key.public, library_name(algorithm)) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Fault::Signature),
        }
    }
}

/// The algorithm with this name (RFC 7518, section 3.1), if it is one of ours. `none` and the HMAC algorithms are not.
pub(super) fn named(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

fn library_name(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    }
}
