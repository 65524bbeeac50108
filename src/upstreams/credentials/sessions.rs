//! The sessions of a role, one for each set of tags: fetched when first wanted, renewed while they are used, forgotten when they are not.
//!
//! Whoever wants a session that is there takes no lock but to read. Whoever wants one that is not there puts it on a list and waits; the upstream's background
//! task asks STS, once for all who wait. A caller that leaves changes nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::renewal::until;
use super::session::{Landing, Session, State, millis};
use super::sts::Asker;
use super::tags::{Tags, Who};
use super::{Keys, News, NoKeys, StsAnswer};
use crate::domain::Clock;

/// The most sessions of an upstream: some 20 MB.
const MOST: usize = 10_000;

/// A call waits so long for its session; longer than STS may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// So many questions are under way at once; AWS allows some hundred a second for each account and region.
const AT_ONCE: usize = 64;

/// Sessions are looked through so often.
const SWEEP: Duration = Duration::from_secs(5);

/// Once none could be found that may go, nobody looks for so long.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The sessions of an upstream.
#[derive(Debug)]
pub(super) struct Sessions {
    upstream: Arc<str>,
    tags: Tags,
    table: RwLock<HashMap<Who, Arc<Session>>>,
    most: usize,
    /// Until when nobody looks for room, in milliseconds.
    full_until: AtomicU64,
    /// Those that STS is still to be asked for, each once: no more than there are sessions.
    wanted: Mutex<VecDeque<Arc<Session>>>,
    asked: Notify,
}

impl Sessions {
    pub(super) fn new(upstream: Arc<str>, tags: Tags) -> Self {
        Self::with_room_for(MOST, upstream, tags)
    }

    pub(super) fn with_room_for(most: usize, upstream: Arc<str>, tags: Tags) -> Self {
        Self {
            upstream,
            tags,
            table: RwLock::default(),
            most,
            full_until: AtomicU64::new(0),
            wanted: Mutex::default(),
            asked: Notify::new(),
        }
    }

    pub(super) const fn tags(&self) -> &Tags {
        &self.tags
    }

    pub(super) fn len(&self) -> usize {
        self.table.read().len()
    }

    /// The keys of the session for `who` at `now`.
    pub(super) async fn keys(&self, who: Who, now: SystemTime) -> Result<Arc<Keys>, NoKeys> {
        let session = self.find(who, now)?;
        if let Some(keys) = session.current(now) {
            return Ok(keys);
        }
        // Few calls wait: the others need not carry the room for it.
        Box::pin(self.wait(&session, now)).await
    }

    async fn wait(&self, session: &Arc<Session>, now: SystemTime) -> Result<Arc<Keys>, NoKeys> {
        let landed = session.landed.notified();
        tokio::pin!(landed);
        // From here on no landing is missed.
        landed.as_mut().enable();
        if let Some(keys) = session.current(now) {
            return Ok(keys);
        }
        if session.board(now)? {
            self.want(Arc::clone(session));
        }
        if tokio::time::timeout(PATIENCE, landed).await.is_err() {
            return Err(NoKeys::Late);
        }
        session.current(now).ok_or_else(|| session.failure().unwrap_or(NoKeys::Missing))
    }

    fn find(&self, who: Who, now: SystemTime) -> Result<Arc<Session>, NoKeys> {
        if let Some(session) = self.table.read().get(&who) {
            session.touch(now);
            return Ok(Arc::clone(session));
        }
        let mut table = self.table.write();
        if table.len() >= self.most && !table.contains_key(&who) {
            self.make_room(&mut table, now)?;
        }
        let session = table.entry(who.clone()).or_insert_with(|| Arc::new(Session::new(who)));
        session.touch(now);
        Ok(Arc::clone(session))
    }

    /// Forgets a sixteenth of all: those of the idle that have been so for longest.
    fn make_room(&self, table: &mut HashMap<Who, Arc<Session>>, now: SystemTime) -> Result<(), NoKeys> {
        if millis(now) < self.full_until.load(Relaxed) {
            return Err(NoKeys::Full);
        }
        let mut idle: Vec<(u64, Who)> =
            table.iter().filter(|(_, session)| session.is_idle(now)).map(|(who, session)| (session.used(), who.clone())).collect();
        if idle.is_empty() {
            self.full_until.store(millis(now + LOOK_AGAIN), Relaxed);
            tracing::warn!(upstream = %self.upstream, sessions = table.len(), "no room for another session: all are in use");
            return Err(NoKeys::Full);
        }
        idle.sort_unstable_by_key(|(used, _)| *used);
        for (_, who) in idle.into_iter().take((self.most / 16).max(1)) {
            table.remove(&who);
        }
        Ok(())
    }

    fn want(&self, session: Arc<Session>) {
        self.wanted.lock().push_back(session);
        self.asked.notify_one();
    }

    pub(super) fn next(&self) -> Option<Arc<Session>> {
        self.wanted.lock().pop_front()
    }

    /// Asks STS for what is wanted, renews what is used and forgets what is not, for ever.
    pub(super) async fn keep_fresh(self: &Arc<Self>, asker: &Asker, clock: &Clock, told: impl Fn(News)) {
        let mut flights = JoinSet::new();
        let mut sweep = Box::pin(until(clock, SWEEP));
        loop {
            while flights.len() < AT_ONCE
                && let Some(session) = self.next()
            {
                flights.spawn(fetch(Arc::clone(self), asker.clone(), clock.clone(), Landing::of(session)));
            }
            tokio::select! {
                () = self.asked.notified() => {}
                Some(landed) = flights.join_next() => {
                    // A panic in it is its own report.
                    if let Ok(answer) = landed {
                        told(News::Asked(answer));
                    }
                    told(News::Sessions(self.len()));
                }
                () = &mut sweep => {
                    self.sweep(clock.wall());
                    told(News::Sessions(self.len()));
                    sweep = Box::pin(until(clock, SWEEP));
                }
            }
        }
    }

    /// Has those renewed whose time has come, and forgets those that nobody used.
    pub(super) fn sweep(&self, now: SystemTime) {
        let mut over = Vec::new();
        for session in self.table.read().values() {
            match session.state(now) {
                State::Fine => {}
                State::Due => {
                    if matches!(session.board(now), Ok(true)) {
                        self.want(Arc::clone(session));
                    }
                }
                State::Over => over.push(session.who().clone()),
            }
        }
        if over.is_empty() {
            return;
        }
        let mut table = self.table.write();
        for who in over {
            // It may have been used since.
            if table.get(&who).is_some_and(|session| session.state(now) == State::Over) {
                table.remove(&who);
            }
        }
    }
}

async fn fetch(sessions: Arc<Sessions>, asker: Asker, clock: Clock, landing: Landing) -> StsAnswer {
    let found = asker.assume(sessions.tags.of(landing.session().who()), &clock).await;
    let answer = StsAnswer::of(&found);
    if let Err(error) = &found {
        tracing::warn!(upstream = %sessions.upstream, %error, "no session of the role");
    }
    landing.land(found, clock.wall());
    answer
}
