//! One session of a role.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::renewal::{Backoff, renewal};
use super::tags::Who;
use super::{Keys, NoKeys};

/// Whoever was not used for so long may be forgotten, where there is no room or nothing to keep.
const IDLE: Duration = Duration::from_mins(1);

/// One session: its keys, and how it is had.
#[derive(Debug)]
pub(super) struct Session {
    who: Who,
    keys: ArcSwapOption<Keys>,
    /// When its keys came, when they are to be renewed, and when it was last used; in milliseconds.
    fetched: AtomicU64,
    renew: AtomicU64,
    used: AtomicU64,
    flight: Mutex<Flight>,
    /// Told when a flight has landed.
    pub(super) landed: Notify,
}

/// How it stands with asking for it.
#[derive(Debug, Default)]
struct Flight {
    under_way: bool,
    /// Why the last one failed, and until when that is taken for the answer.
    failed: Option<(NoKeys, SystemTime)>,
    backoff: Backoff,
}

/// What is to be done about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing.
    Fine,
    /// It is to be renewed.
    Due,
    /// It can be forgotten.
    Over,
}

/// Milliseconds since the epoch.
pub(super) fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl Session {
    pub(super) fn new(who: Who) -> Self {
        Self {
            who,
            keys: ArcSwapOption::empty(),
            fetched: AtomicU64::new(0),
            renew: AtomicU64::new(0),
            used: AtomicU64::new(0),
            flight: Mutex::default(),
            landed: Notify::new(),
        }
    }

    pub(super) const fn who(&self) -> &Who {
        &self.who
    }

    pub(super) fn touch(&self, now: SystemTime) {
        self.used.store(millis(now), Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub(super) fn current(&self, now: SystemTime) -> Option<Arc<Keys>> {
        self.keys.load_full().filter(|keys| keys.last_beyond(now))
    }

    pub(super) fn failure(&self) -> Option<NoKeys> {
        self.flight.lock().failed.as_ref().map(|(why, _)| why.clone())
    }

    /// Whether STS is to be asked by whoever asks this; else it is being asked.
    ///
    /// # Errors
    /// Where it was asked in vain a moment ago.
    pub(super) fn board(&self, now: SystemTime) -> Result<bool, NoKeys> {
        let mut flight = self.flight.lock();
        if flight.under_way {
            return Ok(false);
        }
        if let Some((why, until)) = &flight.failed
            && now < *until
        {
            return Err(why.clone());
        }
        flight.under_way = true;
        Ok(true)
    }

    pub(super) fn is_idle(&self, now: SystemTime) -> bool {
        !self.flight.lock().under_way && millis(now) >= self.used().saturating_add(millis_of(IDLE))
    }

    /// A session that was used since its keys came is renewed before they expire. One that was not is kept as long as they last, and then forgotten.
    pub(super) fn state(&self, now: SystemTime) -> State {
        let there = self.current(now).is_some();
        if there && self.used() > self.fetched.load(Relaxed) && millis(now) >= self.renew.load(Relaxed) {
            State::Due
        } else if !there && self.is_idle(now) {
            State::Over
        } else {
            State::Fine
        }
    }
}

/// A session that STS is asked for. It lands when it is dropped, whatever becomes of whoever asks.
pub(super) struct Landing(Arc<Session>);

impl Landing {
    pub(super) const fn of(session: Arc<Session>) -> Self {
        Self(session)
    }

    pub(super) fn session(&self) -> &Session {
        &self.0
    }

    /// Publishes what STS gave; remembers what it refused.
    pub(super) fn land(self, found: Result<Keys, NoKeys>, now: SystemTime) {
        match found {
            Ok(keys) => {
                let renew = now + renewal(keys.expires, now);
                self.0.keys.store(Some(Arc::new(keys)));
                self.0.renew.store(millis(renew), Relaxed);
                self.0.fetched.store(millis(now), Relaxed);
                let mut flight = self.0.flight.lock();
                flight.failed = None;
                flight.backoff = Backoff::default();
            }
            Err(why) => {
                let mut flight = self.0.flight.lock();
                let until = now + flight.backoff.next();
                flight.failed = Some((why, until));
            }
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.flight.lock().under_way = false;
        self.0.landed.notify_waiters();
    }
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
