//! Keys that the gateway itself issued: API keys and AWS credentials, from a file that is read again whenever it changes.
//!
//! * A request sees one [`Index`], immutable and whole; what changed in the file holds for the next request after it was read.
//! * A file that can't be used never takes the place of one that could: the last good keys stay, loudly.

mod edit;
mod entry;
mod error;
mod index;
mod seal;
#[cfg(test)]
mod tests;
mod text;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use self::index::Wanted;
use self::seal::Sealer;
use super::error::IdentityError;
use super::fault::Fault;
use crate::config::identity as config;
use crate::domain::{FileStamp, Principal};

pub use self::edit::{EditError, KeyRow, KeysFile, Owner};
pub use self::error::KeysError;
pub(super) use self::index::{Credential, Index, Lapsed, SigningKey};
pub use self::seal::SealError;
pub(super) use self::text::is_api_key;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What came of looking at the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is as it was, and good.
    Unchanged,
    /// It changed, and the next request is judged by it.
    Read,
    /// It can't be used, now or since an earlier look; the last good keys stay.
    Refused,
}

/// The keys of one file.
#[derive(Debug)]
pub struct IssuedKeys {
    file: PathBuf,
    /// What its secrets are sealed under.
    key_file: Option<PathBuf>,
    wanted: Wanted,
    index: ArcSwap<Index>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    stamps: [Option<FileStamp>; 2],
    good: bool,
}

/// The files of issued keys that the methods name; one that two methods name is read once.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<(PathBuf, Option<PathBuf>, Wanted)>);

impl Files {
    pub(super) fn api_keys(&mut self, keys: &config::ApiKeys) {
        self.entry(&keys.file).2.api_keys = true;
    }

    pub(super) fn aws_credentials(&mut self, credentials: &config::AwsCredentials) {
        let (_, key_file, wanted) = self.entry(&credentials.file);
        wanted.aws_credentials = true;
        key_file.clone_from(&credentials.key_file);
    }

    fn entry(&mut self, file: &Path) -> &mut (PathBuf, Option<PathBuf>, Wanted) {
        let at = self.0.iter().position(|(known, ..)| known == file).unwrap_or_else(|| {
            self.0.push((file.to_owned(), None, Wanted::default()));
            self.0.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "found or pushed in the line above")]
        &mut self.0[at]
    }

    /// Reads them all, but for those that are `known`: these are read again whenever they change.
    pub(super) fn read(self, known: &[Arc<IssuedKeys>]) -> Result<Vec<Arc<IssuedKeys>>, IdentityError> {
        let read = |(file, key_file, wanted): (PathBuf, Option<PathBuf>, Wanted)| {
            let same = |keys: &&Arc<IssuedKeys>| keys.file == file && keys.key_file == key_file && keys.wanted == wanted;
            if let Some(keys) = known.iter().find(same) {
                return Ok(Arc::clone(keys));
            }
            let stamps = stamps(&file, key_file.as_deref());
            let index = read(&file, key_file.as_deref(), wanted).map_err(|cause| IdentityError::Keys { file: file.clone(), cause })?;
            let seen = Mutex::new(Seen { stamps, good: true });
            Ok(Arc::new(IssuedKeys { file, key_file, wanted, index: ArcSwap::from_pointee(index), seen }))
        };
        self.0.into_iter().map(read).collect()
    }
}

impl IssuedKeys {
    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The keys as they are now.
    pub(super) fn index(&self) -> Arc<Index> {
        self.index.load_full()
    }

    /// Whose API key `key` is at `now`.
    pub(super) fn api_key(&self, key: &str, now: SystemTime) -> Result<Arc<Principal>, Fault> {
        if !text::is_api_key(key) {
            return Err(Fault::NoApiKey);
        }
        if !text::is_whole(key) {
            return Err(Fault::BrokenApiKey);
        }
        match self.index.load().api_key(key).map(|owner| owner.at(now).map(Arc::clone)) {
            Some(Ok(principal)) => Ok(principal),
            Some(Err(Lapsed::Disabled)) => Err(Fault::DisabledApiKey),
            Some(Err(Lapsed::Expired)) => Err(Fault::ExpiredApiKey),
            None => Err(Fault::UnknownApiKey),
        }
    }

    /// Reads the file again if it, or its key file, changed. It waits for a disk.
    pub fn look(&self) -> Look {
        let mut seen = self.seen.lock();
        let stamps = stamps(&self.file, self.key_file.as_deref());
        if seen.stamps == stamps {
            return if seen.good { Look::Unchanged } else { Look::Refused };
        }
        // Taken before the file is read: what is written meanwhile is found by the next look.
        seen.stamps = stamps;
        match read(&self.file, self.key_file.as_deref(), self.wanted) {
            Ok(index) => {
                self.index.store(Arc::new(index));
                seen.good = true;
                tracing::info!(file = %self.file.display(), "issued keys read again");
                Look::Read
            }
            Err(error) => {
                seen.good = false;
                tracing::warn!(file = %self.file.display(), %error, "issued keys can't be used; keeping the last good ones");
                Look::Refused
            }
        }
    }

    /// Looks at the file every two seconds, until it is dropped; `told` hears what came of it.
    pub async fn keep_fresh(self: Arc<Self>, told: impl Fn(Look)) {
        let mut turns = tokio::time::interval(LOOK);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            let keys = Arc::clone(&self);
            // A panic in it is its own report.
            if let Ok(look) = tokio::task::spawn_blocking(move || keys.look()).await {
                told(look);
            }
        }
    }
}

/// One credential of the tenant `acme`, as if a file held it.
#[cfg(test)]
pub(super) fn index_of(access_key_id: &str, secret: &str) -> Index {
    let secret = Some(entry::Hidden::of(secret.to_owned()));
    let entry = entry::Entry {
        access_key_id: Some(access_key_id.to_owned()),
        secret_access_key: secret,
        tenant: "acme".to_owned(),
        ..Default::default()
    };
    Index::build(&[entry], Wanted { api_keys: true, aws_credentials: true }, None, 0o600).unwrap()
}

fn stamps(file: &Path, key_file: Option<&Path>) -> [Option<FileStamp>; 2] {
    let stamp = |file: &Path| file.metadata().ok().as_ref().map(FileStamp::of);
    [stamp(file), key_file.and_then(stamp)]
}

fn read(file: &Path, key_file: Option<&Path>, wanted: Wanted) -> Result<Index, KeysError> {
    let sealer =
        key_file.map(|file| Sealer::read(file).map_err(|cause| KeysError::KeyFile { file: file.to_owned(), cause })).transpose()?;
    let (text, mode) = text_of(file)?;
    Index::build(&entry::read(&text)?, wanted, sealer.as_ref(), mode)
}

/// The text of a file, and its permissions.
fn text_of(file: &Path) -> Result<(String, u32), KeysError> {
    let opened = File::open(file).map_err(KeysError::Unreadable)?;
    let mode = opened.metadata().map_err(KeysError::Unreadable)?.mode() & 0o777;
    let mut text = Vec::new();
    opened.take(entry::MAX_FILE + 1).read_to_end(&mut text).map_err(KeysError::Unreadable)?;
    if text.len() as u64 > entry::MAX_FILE {
        return Err(KeysError::TooLong);
    }
    String::from_utf8(text).map(|text| (text, mode)).map_err(|_| KeysError::Syntax("it is not UTF-8".to_owned()))
}
