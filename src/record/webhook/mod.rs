//! Warnings on their way to a webhook, as JSON whose `text` chats show (Slack's incoming webhooks). One thread posts them.
//!
//! Invariants: no request waits for the webhook, nor does the shutdown for longer than it is told; what waits is bounded, and what is dropped or given
//! up is counted; the URL is a secret, and in no log.

mod message;
mod poster;
#[cfg(test)]
mod tests;

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use http::Uri;
use prometheus::IntCounter;
use tokio::sync::mpsc::{Sender, UnboundedSender, channel, unbounded_channel};

use self::poster::Poster;
use super::error::RecordError;
use super::labels::Posted;
use super::metrics::child;
use crate::config::record::{Webhook as Config, WebhookUrl};
use crate::domain::LimitWarning;

/// Warnings that may wait.
const CAPACITY: usize = 256;

/// What is waited before each try.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5)];

/// What became of warnings, by [`Posted::ALL`].
type Posts = [IntCounter; Posted::ALL.len()];

/// The way out for warnings. Dropping it lets the thread post what is there, without waiting for it: [`Webhook::flush`] waits.
pub(super) struct Webhook {
    queue: Sender<LimitWarning>,
    /// Who waits until the queue is empty. Nothing comes back: the other end is dropped.
    waiting: UnboundedSender<SyncSender<()>>,
    posts: Posts,
}

impl Webhook {
    /// Starts the thread `webhook`. Whoever listens need not be there yet.
    ///
    /// # Errors
    /// [`RecordError::Webhook`].
    pub(super) fn start(config: &Config, posts: Posts) -> Result<Self, RecordError> {
        Self::start_with(config, posts, CAPACITY, PAUSES)
    }

    fn start_with(config: &Config, posts: Posts, capacity: usize, pauses: [Duration; 3]) -> Result<Self, RecordError> {
        let url = url(&config.url).map_err(RecordError::Webhook)?;
        let (queue, warnings) = channel(capacity);
        let (waiting, waiters) = unbounded_channel();
        Poster { url, timeout: config.timeout, pauses, posts: posts.clone() }.start(warnings, waiters).map_err(RecordError::Webhook)?;
        Ok(Self { queue, waiting, posts })
    }

    /// Leaves a warning to be posted; or drops and counts it where the queue is full.
    pub(super) fn post(&self, warning: &LimitWarning) {
        if self.queue.try_send(warning.clone()).is_err() {
            count(&self.posts, Posted::Dropped);
        }
    }

    /// Waits, for at most `patience`, until all warnings left so far have been taken or given up. Returns whether that is so. It blocks the thread.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let (done, when_done) = sync_channel(1);
        self.waiting.send(done).is_ok() && when_done.recv_timeout(patience).is_ok()
    }
}

fn count(posts: &Posts, outcome: Posted) {
    if let Some(counter) = child(posts, &Posted::ALL, &outcome) {
        counter.inc();
    }
}

/// The URL, from its file where that holds it.
fn url(url: &WebhookUrl) -> Result<Uri, String> {
    match url {
        WebhookUrl::Given(url) => Ok(url.expose().clone()),
        WebhookUrl::File(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| format!("`{}`: {error}", file.display()))?;
            WebhookUrl::parse(text.trim()).ok_or_else(|| format!("`{}` holds no URL that can be posted to", file.display()))
        }
    }
}
