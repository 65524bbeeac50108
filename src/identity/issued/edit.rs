//! Issuing and revoking: what `tollgate keys` does to a file of issued keys.
//!
//! A file is written whole beside itself and takes its own place at once, so that a gateway, or a machine that stops, finds either the old one or the
//! new one. Two that write at once wait for each other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::digest;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::entry::{self, Entry, Hidden};
use super::error::KeysError;
use super::index::{Index, Wanted};
use super::seal::{SealError, Sealer};
use super::text::{self, NoRandom};
use crate::domain::{Secret, hex};

/// Why no key was issued or revoked. The file is as it was then.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// What is there can't be used.
    #[error("`{}` {cause}", file.display())]
    Keys {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        cause: KeysError,
    },
    /// The key file can't be used.
    #[error("the key file `{}` {cause}", file.display())]
    KeyFile {
        /// The key file.
        file: PathBuf,
        /// What is wrong with it.
        cause: SealError,
    },
    /// The system's answer.
    #[error("`{}` can't be written: {cause}", file.display())]
    Unwritable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// There is no such key.
    #[error("`{}` holds no key `{id}`: `tollgate keys list` shows them all", file.display())]
    NoSuchKey {
        /// The file.
        file: PathBuf,
        /// What was asked for.
        id: String,
    },
    /// The system's fault.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
    /// It does not fit any time.
    #[error("the expiry is too far away")]
    Expiry,
    /// It can't be put in YAML.
    #[error("the keys can't be written as YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
}

/// Whom a new key is to speak for.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// The tenant.
    pub tenant: String,
    /// The user within it.
    pub user: Option<String>,
    /// Groups that it asserts.
    pub groups: Vec<String>,
    /// When it ends, where it does.
    pub expires: Option<SystemTime>,
}

/// A key as `tollgate keys list` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// `api key` or `aws`.
    pub kind: String,
    /// The public name.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// The user within it; empty where there is none.
    pub user: String,
    /// With commas.
    pub groups: String,
    /// RFC 3339, or `never`.
    pub expires: String,
    /// `active`, `expired` or `revoked`.
    pub state: &'static str,
}

/// A file of issued keys, to be changed.
#[derive(Debug)]
pub struct KeysFile(PathBuf);

impl KeysFile {
    /// The file at this path, which need not exist yet.
    #[must_use]
    pub fn at(file: &Path) -> Self {
        // A link stays a link: what it leads to is replaced.
        Self(fs::canonicalize(file).unwrap_or_else(|_| file.to_owned()))
    }

    /// Makes a key file to seal secrets under.
    ///
    /// # Errors
    /// Where there is one already, or it can't be written.
    pub fn init(key_file: &Path) -> Result<(), EditError> {
        Sealer::create(key_file).map_err(|cause| EditError::KeyFile { file: key_file.to_owned(), cause })
    }

    /// Issues an API key: its public name, and the key, of which only the hash is kept.
    ///
    /// # Errors
    /// [`EditError`]; the file is as it was then.
    pub fn new_api_key(&self, owner: Owner) -> Result<(String, Secret<String>), EditError> {
        let (id, key) = (text::id()?, text::api_key()?);
        let hash = hex(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
        self.add(Entry { id: Some(id.clone()), sha256: Some(hash), ..entry_of(owner)? })?;
        Ok((id, Secret::new(key)))
    }

    /// Issues an AWS credential: its access key id and its secret, which is kept sealed under `key_file`; made, where there is none.
    ///
    /// # Errors
    /// [`EditError`]; the file is as it was then.
    pub fn new_aws_credential(&self, key_file: &Path, owner: Owner) -> Result<(String, Secret<String>), EditError> {
        let told = |cause| EditError::KeyFile { file: key_file.to_owned(), cause };
        if !key_file.exists() {
            Sealer::create(key_file).map_err(told)?;
        }
        let (id, secret) = (text::access_key_id()?, text::secret_access_key()?);
        let sealed = Sealer::read(key_file).and_then(|sealer| sealer.seal(&id, &secret)).map_err(told)?;
        self.add(Entry { access_key_id: Some(id.clone()), sealed_secret: Some(Hidden::of(sealed)), ..entry_of(owner)? })?;
        Ok((id, Secret::new(secret)))
    }

    /// Disables a key for good; it stays in the list.
    ///
    /// # Errors
    /// [`EditError`]; the file is as it was then.
    pub fn revoke(&self, id: &str) -> Result<(), EditError> {
        self.change(|entries| match entries.iter_mut().find(|entry| entry.name() == Some(id)) {
            Some(entry) => {
                entry.disabled = true;
                Ok(())
            }
            None => Err(EditError::NoSuchKey { file: self.0.clone(), id: id.to_owned() }),
        })
    }

    /// Every key, in the order of the file, as it stands at `now`.
    ///
    /// # Errors
    /// Where the file can't be used.
    pub fn list(&self, now: SystemTime) -> Result<Vec<KeyRow>, EditError> {
        let row = |(at, entry): (usize, &Entry)| {
            let id = entry.name().unwrap_or_default().to_owned();
            let (kind, expires) = entry.check().map_err(|what| self.told(KeysError::Entry { at: at + 1, name: id.clone(), what }))?;
            let is_over = expires.is_some_and(|end| end <= OffsetDateTime::from(now));
            Ok(KeyRow {
                kind: kind.to_string(),
                id,
                tenant: entry.tenant.clone(),
                user: entry.user.clone().unwrap_or_default(),
                groups: entry.groups.join(","),
                expires: entry.expires.clone().unwrap_or_else(|| "never".to_owned()),
                state: if entry.disabled {
                    "revoked"
                } else if is_over {
                    "expired"
                } else {
                    "active"
                },
            })
        };
        self.entries()?.0.iter().enumerate().map(row).collect()
    }

    fn told(&self, cause: KeysError) -> EditError {
        EditError::Keys { file: self.0.clone(), cause }
    }

    /// What the file holds, and its permissions.
    fn entries(&self) -> Result<(Vec<Entry>, u32), EditError> {
        let (text, mode) = super::text_of(&self.0).map_err(|cause| self.told(cause))?;
        Ok((entry::read(&text).map_err(|cause| self.told(cause))?, mode))
    }

    fn add(&self, new: Entry) -> Result<(), EditError> {
        self.change(|entries| {
            entries.push(new);
            Ok(())
        })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Entry>) -> Result<(), EditError>) -> Result<(), EditError> {
        let unwritable = |cause| EditError::Unwritable { file: self.0.clone(), cause };
        let directory = self.0.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The directory, because the file is replaced and a lock on it would be a lock on the old one.
        let directory = File::open(directory).map_err(unwritable)?;
        directory.lock().map_err(unwritable)?;
        let (mut entries, owner) = match fs::metadata(&self.0) {
            Ok(found) => (self.entries()?.0, Some((found.uid(), found.gid()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), None),
            Err(error) => return Err(unwritable(error)),
        };
        change(&mut entries)?;
        // What a gateway would refuse is not written: each entry as it should be, no name twice, not too many.
        if entries.len() > entry::MAX_ENTRIES {
            return Err(self.told(KeysError::TooMany));
        }
        Index::build(&entries, Wanted::default(), None, 0o600).map_err(|cause| self.told(cause))?;
        let text = entry::written(&entries)?;
        if text.len() as u64 > entry::MAX_FILE {
            return Err(self.told(KeysError::TooLong));
        }
        self.replace(&text, owner).and_then(|()| directory.sync_all()).map_err(unwritable)
    }

    /// Puts `text` in the file's place, for its owner alone to read: who owned the file goes on owning it.
    fn replace(&self, text: &str, owner: Option<(u32, u32)>) -> io::Result<()> {
        let mut name = self.0.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = self.0.with_file_name(name);
        // One that a crash left behind: whoever else writes waits for our lock. There seldom is one.
        drop(fs::remove_file(&beside));
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            let made = file.metadata()?;
            if let Some((user, group)) = owner.filter(|owner| *owner != (made.uid(), made.gid())) {
                fchown(&file, Some(user), Some(group))?;
            }
            file.sync_all()?;
            fs::rename(&beside, &self.0)
        });
        if written.is_err() {
            // There may be nothing to remove.
            drop(fs::remove_file(&beside));
        }
        written
    }
}

fn entry_of(owner: Owner) -> Result<Entry, EditError> {
    let whole_seconds = |at: SystemTime| OffsetDateTime::from(at).replace_nanosecond(0).map_err(|_| EditError::Expiry);
    let expires = owner.expires.map(whole_seconds).transpose()?;
    let expires = expires.map(|at| at.format(&Rfc3339)).transpose().map_err(|_| EditError::Expiry)?;
    Ok(Entry { tenant: owner.tenant, user: owner.user, groups: owner.groups, expires, ..Entry::default() })
}
