//! When the configuration is loaded anew: its file changed, SIGHUP came, or an operator asks. One task does it, one at a time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::reload::{Changes, ReloadError};
use super::{Works, notify};
use crate::admin::{Asked, NotReloaded, Reloaded};
use crate::config::{Config, Faults};
use crate::domain::FileStamp;
use crate::record::Reload;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// So much of why a reload was refused is told with the readiness, in characters.
const REMARK: usize = 300;

/// Where a configuration is from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// The address of the admin listener, where it is told beside the file.
    pub admin: Option<SocketAddr>,
}

impl Source {
    /// A file, and nothing beside it.
    #[must_use]
    pub fn file(file: &Path) -> Self {
        Self { file: file.to_path_buf(), admin: None }
    }

    /// Loads it.
    ///
    /// # Errors
    /// Every fault of the file.
    pub fn load(&self) -> Result<Config, Faults> {
        let mut config = Config::load(&self.file)?;
        config.admin.address = self.admin.unwrap_or(config.admin.address);
        Ok(config)
    }
}

impl Works {
    /// Answers those who ask for a reload, until everything ends.
    pub(super) fn answer_reloads(self: &Arc<Self>, mut asked: mpsc::Receiver<Asked>) {
        // It must not keep alive what it works for.
        let works = Arc::downgrade(self);
        self.spawn(async move {
            while let Some(told) = asked.recv().await {
                let Some(works) = works.upgrade() else { return };
                let answer = match works.reload_file(Reason::Asked).await {
                    Ok(changes) => Ok(Reloaded(serde_json::to_value(&changes).unwrap_or_default())),
                    Err(error @ (ReloadError::Restart(_) | ReloadError::Draining | ReloadError::NoFile)) => {
                        Err(NotReloaded::Impossible(format!("{error}\n")))
                    }
                    Err(error) => Err(NotReloaded::Faulty(format!("{}\n", error.to_string().trim_end()))),
                };
                // Whoever asked may be gone.
                drop(told.send(answer));
            }
        });
    }

    /// Asks for a reload, and waits for nothing. Where others ask already, theirs is still to come, and will do.
    pub(super) fn ask_reload(&self) {
        drop(self.reloads.try_send(oneshot::channel().0));
    }

    /// Looks at `file` again and again, and loads it anew when it has changed and then stood still for one look: an editor may write it in parts, or move
    /// another in its place. A file that is not there changes nothing.
    pub(super) fn watch(self: &Arc<Self>, file: PathBuf) {
        let works = Arc::downgrade(self);
        self.spawn(async move {
            // None is settled: what changed since it was loaded is found by the first looks.
            let (mut settled, mut before) = (None, None);
            loop {
                tokio::time::sleep(LOOK).await;
                let looked = file.clone();
                let stamp = tokio::task::spawn_blocking(move || stamp(&looked)).await.unwrap_or_default();
                let stands_still = stamp.is_some() && stamp == before;
                before = stamp;
                if !stands_still || stamp == settled {
                    continue;
                }
                settled = stamp;
                let Some(works) = works.upgrade() else { return };
                // Why it was refused is told already.
                drop(works.reload_file(Reason::FileChanged).await);
            }
        });
    }

    /// Loads the file, puts it in force, and tells everyone what came of it.
    async fn reload_file(self: &Arc<Self>, reason: Reason) -> Result<Changes, ReloadError> {
        let Some(source) = self.source.get().cloned() else {
            tracing::warn!("there is no file to load anew");
            return Err(ReloadError::NoFile);
        };
        notify::reloading();
        let done = self.load(source, reason).await;
        notify::ready();
        done
    }

    async fn load(self: &Arc<Self>, source: Source, reason: Reason) -> Result<Changes, ReloadError> {
        let loaded = tokio::task::spawn_blocking(move || source.load()).await;
        let done = match loaded {
            Ok(Ok(config)) if reason == Reason::FileChanged && self.in_force.lock().await.config.version == config.version => {
                // It was touched, or is again what is served.
                let unchanged = Ok(Changes { version: config.version, ..Changes::default() });
                if self.readiness.remarked().is_some() {
                    self.tell(&unchanged, reason);
                }
                return unchanged;
            }
            Ok(Ok(config)) => self.reload(&config).await,
            Ok(Err(faults)) => Err(ReloadError::from(faults)),
            Err(_panic) => Err(ReloadError::Broken),
        };
        self.tell(&done, reason);
        done
    }

    fn tell(&self, done: &Result<Changes, ReloadError>, reason: Reason) {
        let because = reason.label();
        match done {
            Ok(changes) => {
                self.live.metrics.config_reload(if changes.changed { Reload::Applied } else { Reload::Unchanged });
                self.readiness.remark(None);
                let paths = changes.differences.iter().map(|difference| difference.path.as_str()).collect::<Vec<_>>().join(", ");
                tracing::info!(version = changes.version, because, changed = paths, "the configuration was loaded anew");
            }
            Err(error) => {
                self.live.metrics.config_reload(Reload::Refused);
                let why = error.to_string();
                self.readiness.remark(Some(remark(&why)));
                tracing::error!(error = why.trim_end(), because, "the configuration can't be put in force; the one before stays");
            }
        }
    }
}

/// Why a reload is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Asked,
    FileChanged,
}

impl Reason {
    const fn label(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::FileChanged => "file changed",
        }
    }
}

/// One line of why: the first, for the log has the rest.
fn remark(why: &str) -> String {
    let first: String = why.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(REMARK).collect();
    format!("the last reload was refused, and the configuration before it is served: {first}")
}

fn stamp(file: &Path) -> Option<FileStamp> {
    std::fs::metadata(file).ok().as_ref().map(FileStamp::of)
}
