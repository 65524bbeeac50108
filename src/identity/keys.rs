//! An issuer's public keys (RFC 7517), and the one question put to them: is this its signature?
//!
//! Each key is bound, when it is read, to the algorithms that its own type, its `alg`, `use` and `key_ops`, and the configuration all
//! allow; a token's header only picks among those. So no token can talk a key into an algorithm that it was not made for.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::KeySetError;
use super::fault::{Fault, excerpt};
use super::jwk::{self, Key, Verifier};
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
        Self::parse(&bytes(file)?, allowed)
    }

    /// Reads the secret in `file`, for the HMAC algorithms among the `allowed`. A line break at its end is no part of it.
    pub(super) fn read_secret(file: &Path, allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let mut secret = bytes(file)?;
        if u64::try_from(secret.len()).is_ok_and(|length| length > MAX_FILE) {
            return Err(KeySetError::TooLong);
        }
        if secret.last() == Some(&b'\n') {
            secret.pop();
        }
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
        Ok(Self(vec![jwk::shared(secret, allowed)?]))
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
        let mut fitting = self.0.iter().filter(|key| key.algorithms.contains(&algorithm)).filter(|key| key.is_called(kid));
        let (Some(key), None) = (fitting.next(), fitting.next()) else {
            return Err(kid.map_or(Fault::NoKid, |kid| Fault::UnknownKey(excerpt(kid))));
        };
        if key.verifier.accepts(algorithm, message, signature) { Ok(()) } else { Err(Fault::Signature) }
    }

    /// Whether every key of `old` is here too: then what verified under `old` verifies here.
    pub(super) fn hold_all_of(&self, old: &Self) -> bool {
        old.0.iter().all(|old| self.0.iter().any(|new| new.fingerprint == old.fingerprint && new.kid == old.kid))
    }
}

impl Key {
    /// Whether a token that names `kid`, or no key, may mean this one. A shared secret is the only one of its issuer, whatever tokens call it.
    fn is_called(&self, kid: Option<&str>) -> bool {
        kid.is_none_or(|kid| self.kid.as_deref() == Some(kid)) || matches!(self.verifier, Verifier::Shared(_))
    }
}

fn bytes(file: &Path) -> Result<Vec<u8>, KeySetError> {
    let mut bytes = Vec::new();
    let file = File::open(file).map_err(KeySetError::Unreadable)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(KeySetError::Unreadable)?;
    Ok(bytes)
}
