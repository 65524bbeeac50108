//! Finds the set of labels that an exchange is counted under, and keeps their number bounded.
//!
//! Invariants: no more than `max_series` lines come of it, whatever callers send; a hit allocates nothing and waits for no scrape; nothing is lost at
//! the bound: what has no room of its own is counted under `other`. A model or operation gets its name when an upstream has answered for it with 2xx,
//! for callers can make names up, and AWS answers made-up ones with 4xx.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;
use prometheus::IntCounter;

use super::histogram::MOST_LINES;
use super::labels::StatusClass;
use super::series::{GUARDRAIL_POLICIES, Names, OTHER, SERVICE_LABELS, Series};
use crate::domain::{Reason, TokenKind};

/// Readers of one shard don't wait for one another; these keep a newcomer from holding up all of them.
const SHARDS: usize = 16;
/// All lines that one set can come to: what is kept free for each set of `other`.
const SPARE_LINES: u64 =
    (SERVICE_LABELS * StatusClass::ALL.len() + Reason::ALL.len() + 3 * TokenKind::ALL.len() + GUARDRAIL_POLICIES.len() + 3) as u64
        + 5 * MOST_LINES;
/// Upstreams that a reload may add and that still get a set of `other` of their own.
const MORE_UPSTREAMS: u64 = 3;

/// Every set, by its names.
#[derive(Debug)]
pub(super) struct Table {
    max_series: u64,
    hasher: RandomState,
    shards: [RwLock<Shard>; SHARDS],
    /// What has no room of its own, by upstream.
    spares: RwLock<Vec<Arc<Series>>>,
    most_spares: u64,
    pub(super) room: Room,
    models: RwLock<HashSet<Box<str>>>,
    operations: RwLock<HashSet<Box<str>>>,
    overflows: IntCounter,
    warned: AtomicBool,
}

/// Sets by the hash of their names; nearly always one.
type Shard = HashMap<u64, Vec<Arc<Series>>, BuildHasherDefault<Prehashed>>;

impl Table {
    /// Room for `max_series` lines, a tenth of them for limits; `overflows` counts exchanges that found none.
    pub(super) fn new(max_series: u64, upstreams: u64, overflows: IntCounter) -> Self {
        // One more, for the upstreams that have none of their own.
        let affordable = (max_series / 2 / SPARE_LINES).max(1);
        let spares = (upstreams + MORE_UPSTREAMS + 1).min(affordable);
        // The refusals of callers whom nobody knows are shown from the beginning.
        let reserved = spares * SPARE_LINES + max_series / 10 + Reason::ALL.len() as u64;
        Self {
            max_series,
            hasher: RandomState::new(),
            shards: Default::default(),
            spares: RwLock::default(),
            most_spares: spares,
            room: Room(AtomicU64::new(max_series.saturating_sub(reserved))),
            models: RwLock::default(),
            operations: RwLock::default(),
            overflows,
            warned: AtomicBool::new(false),
        }
    }

    /// The most lines that limits may take.
    pub(super) const fn limit_lines(&self) -> u64 {
        self.max_series / 10
    }

    /// The set of these names. Where there is none: made if there is room, and without the names that nobody has answered for unless `answered`.
    /// None where there is no room: see [`Table::spare`].
    pub(super) fn series(&self, mut names: Names<'_>, answered: bool) -> Option<Arc<Series>> {
        if let Some(found) = self.find(&names) {
            return Some(found);
        }
        if !answered {
            for (name, known) in [(&mut names.model, &self.models), (&mut names.operation, &self.operations)] {
                if !name.is_empty() && !known.read().contains(&**name) {
                    *name = Cow::Borrowed(OTHER);
                }
            }
            if let Some(found) = self.find(&names) {
                return Some(found);
            }
        }
        self.insert(names, answered)
    }

    fn find(&self, names: &Names<'_>) -> Option<Arc<Series>> {
        let hash = self.hasher.hash_one(names);
        self.shard(hash)?.read().get(&hash)?.iter().find(|series| series.names == *names).cloned()
    }

    fn insert(&self, names: Names<'_>, answered: bool) -> Option<Arc<Series>> {
        // A tenant may be called `other`. Its unnamed calls and those of the others would be one series twice.
        if names.is_others() {
            return Some(self.spare(&names.upstream));
        }
        let hash = self.hasher.hash_one(&names);
        let mut shard = self.shard(hash)?.write();
        let sets = shard.entry(hash).or_default();
        if let Some(found) = sets.iter().find(|series| series.names == names) {
            return Some(Arc::clone(found));
        }
        // A set takes room before its first line does, or sets without a line would be without bound.
        if !self.room.take(1) {
            if sets.is_empty() {
                shard.remove(&hash);
            }
            return None;
        }
        if answered {
            for (name, known) in [(&names.model, &self.models), (&names.operation, &self.operations)] {
                if !known.read().contains(&**name) {
                    known.write().insert((&**name).into());
                }
            }
        }
        let series = Arc::new(Series::new(names));
        sets.push(Arc::clone(&series));
        Some(series)
    }

    /// The set that counts for whoever has none. There is always room for its lines.
    pub(super) fn spare(&self, upstream: &str) -> Arc<Series> {
        let find = |spares: &[Arc<Series>], upstream: &str| spares.iter().find(|spare| spare.names.upstream == upstream).cloned();
        if let Some(spare) = find(&self.spares.read(), upstream) {
            return spare;
        }
        let mut spares = self.spares.write();
        let room = (spares.len() as u64) + 1 < self.most_spares;
        let upstream = if room { upstream } else { OTHER };
        find(&spares, upstream).unwrap_or_else(|| {
            let spare = Arc::new(Series::new(Names::others(upstream)));
            spares.push(Arc::clone(&spare));
            spare
        })
    }

    /// Counts an exchange that is counted under `other`, in part or whole.
    pub(super) fn overflowed(&self) {
        self.overflows.inc();
        if !self.warned.swap(true, Relaxed) {
            let max_series = self.max_series;
            tracing::warn!(
                max_series,
                "no room for more time series: newcomers are counted under `other`; see `record.metrics.max_series`"
            );
        }
    }

    /// Every set, in the order of their names. Each shard is held only while its references are taken.
    pub(super) fn all(&self) -> Vec<Arc<Series>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.read().values().flatten().cloned());
        }
        all.extend(self.spares.read().iter().cloned());
        all.sort_unstable_by(|one, other| one.names.order().cmp(&other.names.order()));
        all
    }

    fn shard(&self, hash: u64) -> Option<&RwLock<Shard>> {
        // The upper bits: the table within uses the lower ones, and the topmost seven.
        self.shards.get(usize::try_from(hash >> 48).unwrap_or_default() % SHARDS)
    }
}

/// How many more lines there may be.
#[derive(Debug)]
pub(super) struct Room(AtomicU64);

impl Room {
    /// Takes room for so many lines, or none.
    pub(super) fn take(&self, lines: u64) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(lines)).is_ok()
    }

    /// Gives back what was taken twice.
    pub(super) fn give(&self, lines: u64) {
        self.0.fetch_add(lines, Relaxed);
    }
}

/// For keys that are hashes already.
#[derive(Default)]
struct Prehashed(u64);

impl Hasher for Prehashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
