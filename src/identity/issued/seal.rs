//! Secrets at rest: AES-256-GCM under a key file, each bound to its access key id (docs/decisions/0005-secrets-at-rest.md).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::domain::Secret;

/// The bytes of a key file.
const KEY: usize = 32;

/// Why a key file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The system's answer.
    #[error("can't be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The system's answer.
    #[error("can't be written: {0}")]
    Unwritable(#[source] io::Error),
    /// Others than its owner could open every secret.
    #[error("is open to others than its owner (mode {mode:o}): `chmod 600` it")]
    Exposed {
        /// Its permissions.
        mode: u32,
    },
    /// It is something else.
    #[error("holds {found} bytes: a key file holds exactly 32 random ones, as `tollgate keys init` writes them")]
    Length {
        /// How many there are.
        found: usize,
    },
    /// The cipher or the random numbers failed.
    #[error("the system gives no random numbers")]
    NoRandom,
}

/// The key of a key file.
pub(super) struct Sealer(RandomizedNonceKey);

impl Sealer {
    /// Reads a key file, which nobody but its owner may.
    pub(super) fn read(file: &Path) -> Result<Self, SealError> {
        let opened = File::open(file).map_err(SealError::Unreadable)?;
        let mode = opened.metadata().map_err(SealError::Unreadable)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SealError::Exposed { mode });
        }
        let mut key = Vec::with_capacity(KEY + 1);
        opened.take(KEY as u64 + 1).read_to_end(&mut key).map_err(SealError::Unreadable)?;
        RandomizedNonceKey::new(&AES_256_GCM, &key).map(Self).map_err(|_| SealError::Length { found: key.len() })
    }

    /// Writes a new key file, readable by its owner alone. One that exists is left as it is, and is an error.
    pub(super) fn create(file: &Path) -> Result<(), SealError> {
        let mut key = [0; KEY];
        rand::fill(&mut key).map_err(|_| SealError::NoRandom)?;
        let mut created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(SealError::Unwritable)?;
        created.write_all(&key).and_then(|()| created.sync_all()).map_err(SealError::Unwritable)
    }

    /// The nonce and the sealed secret, in base64. Nonces are random; one key seals at most the 100,000 secrets of its file, far from the 2^32
    /// after which random nonces get risky (NIST SP 800-38D, section 8.3).
    pub(super) fn seal(&self, access_key_id: &str, secret: &str) -> Result<String, SealError> {
        let mut sealed = secret.as_bytes().to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(access_key_id.as_bytes()), &mut sealed).map_err(|_| SealError::NoRandom)?;
        Ok(STANDARD.encode([nonce.as_ref().as_slice(), &sealed].concat()))
    }

    /// The secret again; `None` where it was sealed by another key, for another access key id, or was changed since.
    pub(super) fn open(&self, access_key_id: &str, sealed: &str) -> Option<Secret<String>> {
        let mut bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let secret = self.0.open_in_place(nonce, Aad::from(access_key_id.as_bytes()), sealed).ok()?;
        String::from_utf8(secret.to_vec()).ok().map(Secret::new)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn directory(name: &str) -> std::path::PathBuf {
        let directory = std::env::temp_dir().join(format!("tollgate-seal-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_secret_opens_under_its_key_and_its_name_alone() {
        let directory = directory("opens");
        let (one, other) = (directory.join("one"), directory.join("other"));
        Sealer::create(&one).unwrap();
        Sealer::create(&other).unwrap();
        let (key, wrong) = (Sealer::read(&one).unwrap(), Sealer::read(&other).unwrap());
        let sealed = key.seal("TGAK1", "wJalrXUtnFEMI").unwrap();
        assert!(!sealed.contains("wJalr"));
        assert_ne!(sealed, key.seal("TGAK1", "wJalrXUtnFEMI").unwrap(), "the nonce is random");
        assert_eq!(key.open("TGAK1", &sealed).unwrap().expose(), "wJalrXUtnFEMI");
        assert!(key.open("TGAK2", &sealed).is_none(), "moved to another name");
        assert!(wrong.open("TGAK1", &sealed).is_none(), "sealed by another key");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(key.open("TGAK1", std::str::from_utf8(&changed).unwrap()).is_none());
        }
        assert!(key.open("TGAK1", "").is_none() && key.open("TGAK1", "AAAA").is_none());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_key_file_is_its_owners_alone_and_is_never_overwritten() {
        let directory = directory("owner");
        let file = directory.join("key");
        Sealer::create(&file).unwrap();
        assert!(matches!(Sealer::create(&file), Err(SealError::Unwritable(_))));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Sealer::read(&file), Err(SealError::Exposed { mode: 0o640 })));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        for wrong in [&b""[..], &[7; 31], &[7; 33]] {
            std::fs::write(&file, wrong).unwrap();
            assert!(matches!(Sealer::read(&file), Err(SealError::Length { .. })));
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
