//! Issued keys, ready to be found: immutable, made anew whenever their file changes.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::{constant_time, digest, hmac};
use parking_lot::Mutex;

use super::entry::{AtRest, Entry, Kind};
use super::error::KeysError;
use super::seal::Sealer;
use crate::domain::{Method, Principal, Secret};

/// What of a file is wanted: the methods that read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) api_keys: bool,
    pub(super) aws_credentials: bool,
}

/// All keys of a file that are wanted.
#[derive(Debug, Default)]
pub(in super::super) struct Index {
    /// By the first half of the key's SHA-256; the whole is compared in constant time.
    api_keys: HashMap<[u8; 16], ApiKey>,
    credentials: HashMap<Box<str>, Arc<Credential>>,
    /// Signing keys that were derived for them.
    pub(in super::super) derived: Derived,
}

#[derive(Debug)]
struct ApiKey {
    sha256: [u8; 32],
    owner: Owner,
}

/// An access key id and its secret.
#[derive(Debug)]
pub(in super::super) struct Credential {
    pub(in super::super) access_key_id: Box<str>,
    pub(in super::super) secret: Secret<String>,
    pub(in super::super) owner: Owner,
}

/// Whom a key speaks for, and for how long.
#[derive(Debug)]
pub(in super::super) struct Owner {
    pub(in super::super) principal: Arc<Principal>,
    expires: Option<SystemTime>,
    disabled: bool,
}

/// Why a key that is known counts no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Lapsed {
    Disabled,
    Expired,
}

impl Owner {
    /// Whom it speaks for at `now`.
    pub(in super::super) fn at(&self, now: SystemTime) -> Result<&Arc<Principal>, Lapsed> {
        if self.disabled {
            Err(Lapsed::Disabled)
        } else if self.expires.is_some_and(|expires| now >= expires) {
            Err(Lapsed::Expired)
        } else {
            Ok(&self.principal)
        }
    }
}

impl Index {
    /// Checks every entry and takes in those that are wanted. `mode` is the file's permissions.
    pub(super) fn build(entries: &[Entry], wanted: Wanted, sealer: Option<&Sealer>, mode: u32) -> Result<Self, KeysError> {
        let mut index = Self::default();
        let mut names = std::collections::HashSet::new();
        let mut tenants: HashMap<&str, Arc<str>> = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            let (at, name) = (at + 1, || entry.name().unwrap_or("unnamed").chars().take(128).flat_map(char::escape_default).collect());
            let (kind, expires) = entry.check().map_err(|what| KeysError::Entry { at, name: name(), what })?;
            let mut twice = entry.name().is_some_and(|name| !names.insert(name));
            let method = match kind {
                Kind::ApiKey { .. } => Method::ApiKeys,
                Kind::Aws { .. } => Method::AwsCredentials,
            };
            let tenant = tenants.entry(&entry.tenant).or_insert_with(|| entry.tenant.as_str().into());
            let principal = Arc::new(Principal {
                tenant: Arc::clone(tenant),
                user: entry.user.as_deref().map(Arc::from),
                groups: entry.groups.iter().map(|group| Arc::from(group.as_str())).collect(),
                method,
                key_id: entry.name().map(Arc::from),
            });
            let owner = Owner { principal, expires: expires.map(SystemTime::from), disabled: entry.disabled };
            match kind {
                Kind::ApiKey { sha256, .. } => {
                    if wanted.api_keys {
                        twice |= index.api_keys.insert(half(&sha256), ApiKey { sha256, owner }).is_some();
                    }
                }
                Kind::Aws { access_key_id, secret } => {
                    if matches!(secret, AtRest::Clear(_)) && mode & 0o077 != 0 {
                        return Err(KeysError::Exposed { at, name: name(), mode });
                    }
                    if wanted.aws_credentials {
                        let secret = match secret {
                            AtRest::Clear(clear) => clear.0.clone(),
                            AtRest::Sealed(secret) => {
                                let sealer = sealer.ok_or_else(|| KeysError::NoKeyFile { at, name: name() })?;
                                sealer.open(access_key_id, secret).ok_or_else(|| KeysError::Sealed { at, name: name() })?
                            }
                        };
                        let credential = Credential { access_key_id: access_key_id.into(), secret, owner };
                        index.credentials.insert(access_key_id.into(), Arc::new(credential));
                    }
                }
            }
            if twice {
                return Err(KeysError::Twice { at, name: name() });
            }
        }
        Ok(index)
    }

    /// Whose API key this is.
    pub(in super::super) fn api_key(&self, key: &str) -> Option<&Owner> {
        let digest = digest::digest(&digest::SHA256, key.as_bytes());
        let found = self.api_keys.get(digest.as_ref().first_chunk()?)?;
        constant_time::verify_slices_are_equal(&found.sha256, digest.as_ref()).ok()?;
        Some(&found.owner)
    }

    /// The credential of this public name.
    pub(in super::super) fn credential(&self, access_key_id: &str) -> Option<&Arc<Credential>> {
        self.credentials.get(access_key_id)
    }
}

fn half(sha256: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|at| sha256.get(at).copied().unwrap_or_default())
}

/// How many derived keys are kept: some 4 MB. Beyond that they push each other out, and are merely derived more often, at some 2 µs.
const PLACES: u16 = 4096;

/// Signing keys by credential and scope, each in the one place where it may stand: bounded, and no order to keep.
pub(in super::super) struct Derived {
    places: Box<[Mutex<Option<Arc<SigningKey>>>]>,
    hasher: RandomState,
}

/// The key of one credential for one day, region and service.
pub(in super::super) struct SigningKey {
    access_key_id: Box<str>,
    scope: Box<str>,
    pub(in super::super) hmac: hmac::Key,
}

impl SigningKey {
    pub(in super::super) fn new(access_key_id: &str, scope: &str, hmac: hmac::Key) -> Self {
        Self { access_key_id: access_key_id.into(), scope: scope.into(), hmac }
    }
}

impl Default for Derived {
    fn default() -> Self {
        Self { places: (0..PLACES).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }
}

impl Derived {
    fn place(&self, access_key_id: &str, scope: &str) -> Option<&Mutex<Option<Arc<SigningKey>>>> {
        let hash = self.hasher.hash_one((access_key_id, scope)) % u64::from(PLACES);
        self.places.get(usize::try_from(hash).unwrap_or(0))
    }

    /// The key that was derived for these before.
    pub(in super::super) fn find(&self, access_key_id: &str, scope: &str) -> Option<Arc<SigningKey>> {
        let held = self.place(access_key_id, scope)?.lock();
        held.as_ref().filter(|key| *key.access_key_id == *access_key_id && *key.scope == *scope).map(Arc::clone)
    }

    /// Keeps a key under which a signature verified, so that a stranger can push nothing out.
    pub(in super::super) fn remember(&self, key: &Arc<SigningKey>) {
        if let Some(place) = self.place(&key.access_key_id, &key.scope) {
            *place.lock() = Some(Arc::clone(key));
        }
    }

    #[cfg(test)]
    pub(in super::super) fn len(&self) -> usize {
        self.places.iter().filter(|place| place.lock().is_some()).count()
    }
}

impl fmt::Debug for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derived").finish_non_exhaustive()
    }
}
