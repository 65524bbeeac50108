//! Keys in files: read at the start, and again when a file changes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::{CredentialError, Keys};
use crate::domain::{FileStamp, Secret};

/// A key file is a line; more than this is not one.
const FILE_MAX: u64 = 16 * 1024;

/// Keys in files.
#[derive(Debug)]
pub(super) struct Files {
    access_key_id: Box<str>,
    secret: PathBuf,
    token: Option<PathBuf>,
    /// The files as they were last looked at, whether or not they were good.
    seen: Mutex<[Option<FileStamp>; 2]>,
}

impl Files {
    /// The keys, and where they are looked for from then on.
    pub(super) fn open(access_key_id: &str, secret: &Path, token: Option<&Path>) -> Result<(Self, Keys), CredentialError> {
        let files = Self {
            access_key_id: access_key_id.into(),
            secret: secret.to_path_buf(),
            token: token.map(Path::to_path_buf),
            seen: Mutex::new([None, None]),
        };
        *files.seen.lock() = files.stamps();
        let keys = files.read()?;
        Ok((files, keys))
    }

    /// The keys, where a file has changed since the last look. It waits for a disk.
    pub(super) fn look(&self) -> Option<Result<Keys, CredentialError>> {
        let mut seen = self.seen.lock();
        let stamps = self.stamps();
        if *seen == stamps {
            return None;
        }
        // Taken before the files are read: what is written meanwhile is found by the next look.
        *seen = stamps;
        Some(self.read())
    }

    fn stamps(&self) -> [Option<FileStamp>; 2] {
        let stamp = |file: &Path| file.metadata().ok().as_ref().map(FileStamp::of);
        [stamp(&self.secret), self.token.as_deref().and_then(stamp)]
    }

    fn read(&self) -> Result<Keys, CredentialError> {
        Ok(Keys {
            access_key_id: self.access_key_id.clone(),
            secret_access_key: read(&self.secret)?,
            session_token: self.token.as_deref().map(read).transpose()?,
            expires: None,
        })
    }
}

fn read(file: &Path) -> Result<Secret<String>, CredentialError> {
    let bounded = || {
        if fs::metadata(file)?.len() > FILE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 16 KiB"));
        }
        let text = fs::read_to_string(file)?;
        let text = text.trim();
        if text.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty"));
        }
        Ok(Secret::new(text.to_owned()))
    };
    bounded().map_err(|source| CredentialError { file: file.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing() {
        let file = std::env::temp_dir().join(format!("tollgate-key-file-{}", std::process::id()));
        fs::write(&file, "one\n").unwrap();
        let (files, keys) = Files::open("AKIDEXAMPLE", &file, None).unwrap();
        assert_eq!(keys.secret_access_key.expose(), "one");
        assert!(files.look().is_none(), "nothing has changed");
        fs::write(&file, "two\n").unwrap();
        assert_eq!(files.look().unwrap().unwrap().secret_access_key.expose(), "two");
        fs::write(&file, " \n").unwrap();
        assert!(files.look().unwrap().unwrap_err().to_string().ends_with("it is empty"));
        assert!(files.look().is_none(), "told once");
        fs::remove_file(&file).unwrap();
        assert!(files.look().unwrap().is_err());
    }
}
