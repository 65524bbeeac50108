//! Certificate files that are read again when they change.
//!
//! They are looked at, not watched: that works on every file system, through the symbolic links of a Kubernetes secret, and costs a few system
//! calls in two seconds. A file is known by its inode, size and times, and one that has just changed is read once more, since a second write within
//! one tick of the file system's clock would leave those as they are.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::tls::{Shared, TlsError};
use crate::domain::{FileStamp, Reread};

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// Files that make one thing together.
#[derive(Debug)]
pub(super) struct Files {
    paths: Vec<PathBuf>,
    stamps: Vec<Option<FileStamp>>,
    /// Whether they were found unchanged since they were last read.
    settled: bool,
}

impl Files {
    /// As they are now. Call it before they are read: what changes in between is then seen.
    pub(super) fn new<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().cloned().collect();
        let stamps = paths.iter().map(stamp).collect();
        Self { paths, stamps, settled: true }
    }

    /// Whether they are to be read: they have changed since they were looked at, or had at the look before.
    fn look(&mut self) -> Look {
        let stamps: Vec<_> = self.paths.iter().map(stamp).collect();
        if stamps != self.stamps {
            self.stamps = stamps;
            self.settled = false;
            Look::Changed
        } else if self.settled {
            Look::Same
        } else {
            self.settled = true;
            Look::Again
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Look {
    Same,
    Changed,
    Again,
}

fn stamp(path: &PathBuf) -> Option<FileStamp> {
    fs::metadata(path).ok().as_ref().map(FileStamp::of)
}

/// Looks at the files of `tls` for ever, and has what changed read anew; `tell` hears of each change.
pub(super) async fn keep_fresh(tls: Arc<Shared>, files: Vec<Files>, tell: impl Fn(Reread) + Send + Sync + Clone + 'static) {
    let mut files = files;
    loop {
        tokio::time::sleep(EVERY).await;
        let (tls, tell) = (Arc::clone(&tls), tell.clone());
        // Disks may be slow, and networks behind them.
        let looked = tokio::task::spawn_blocking(move || {
            refresh(&tls, &mut files, &tell);
            files
        });
        match looked.await {
            Ok(looked) => files = looked,
            Err(_panic_or_shutdown) => return,
        }
    }
}

fn refresh(tls: &Shared, files: &mut [Files], tell: &dyn Fn(Reread)) {
    for (at, files) in files.iter_mut().enumerate() {
        let look = files.look();
        if look == Look::Same {
            continue;
        }
        let read: Result<(), TlsError> = tls.reload(at);
        match (read, look) {
            (_, Look::Same) | (Ok(()), Look::Again) => {}
            (Ok(()), Look::Changed) => {
                tell(Reread::Taken);
                tracing::info!(files = ?files.paths, "certificate files have changed and are in use");
            }
            // Told again: what was good at the first look may have been half of what is there now.
            (Err(error), Look::Changed | Look::Again) => {
                tell(Reread::Kept);
                tracing::warn!(%error, "changed certificate files can't be used; what was before is kept");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_read_twice_and_then_settled() {
        let dir = std::env::temp_dir().join(format!("tollgate-files-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (one, two) = (dir.join("one"), dir.join("two"));
        fs::write(&one, "1").unwrap();
        let mut files = Files::new([&one, &two]);
        assert_eq!(files.look(), Look::Same, "a file that is not there is like that, too");
        fs::write(&two, "2").unwrap();
        assert_eq!([files.look(), files.look(), files.look()], [Look::Changed, Look::Again, Look::Same]);
        // Renamed into place, with the same size.
        fs::write(dir.join("new"), "3").unwrap();
        fs::rename(dir.join("new"), &one).unwrap();
        assert_eq!(files.look(), Look::Changed);
        fs::remove_file(&two).unwrap();
        assert_eq!([files.look(), files.look(), files.look()], [Look::Changed, Look::Again, Look::Same]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
