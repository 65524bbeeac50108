//! Exchanges that wait to be written, added up.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use super::names::{Key, Named, Names};
use super::quotas::Changes;
use super::sums::Sums;
use crate::domain::{Basis, Cost, RequestId, Usage};
use crate::record::entry::{Entry, Metered};

/// How much a batch holds. There are two at most, one that fills and one that is being written: some 150 MB where the disk is full, every key is
/// new, and names are as long as usual; and 128 MiB of quotas.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Keys; what comes beyond goes into its tenant's `other`.
    pub(super) keys: usize,
    /// Keys, `other`s included; what comes beyond is lost.
    pub(super) keys_and_others: usize,
    /// Single exchanges; what comes beyond is lost, and its usage is not.
    pub(super) exchanges: usize,
    /// What changes of quotas take, in bytes; what comes beyond is lost. Some 140,000 quotas.
    pub(super) quotas: usize,
}

impl Bounds {
    pub(super) const USUAL: Self = Self { keys: 100_000, keys_and_others: 110_000, exchanges: 100_000, quotas: 64 << 20 };
}

/// No request id of an upstream is longer, in bytes; Bedrock's have 36.
const MOST_REQUEST_ID: usize = 128;

/// A batch that was once larger gives its memory back.
const KEEP: usize = 10_000;

/// What became of an exchange, and of the tries that it gave up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// It is in its tenant's `other`, in part or whole.
    pub(super) folded: bool,
    /// Its usage is lost, in part or whole.
    pub(super) usage_lost: bool,
    /// So much of it was to be kept singly, and is not: itself, and each of its tries.
    pub(super) singles_lost: u64,
}

/// Sums by key, the exchanges that are kept singly, and what was used of quotas.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Where the sums of a key are.
    index: HashMap<Key, usize>,
    sums: Vec<Sums>,
    exchanges: Vec<Exchange>,
    pub(super) quotas: Changes,
    /// When it was begun: as old as the oldest that is in it.
    pub(super) begun: Option<Instant>,
}

/// One exchange with an upstream, for `tollgate reconcile`: what ended a call, or a try that was given up. AWS counts each of them.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Whose it is: a key's place.
    pub(super) key: usize,
    pub(super) began: SystemTime,
    pub(super) request_id: RequestId,
    pub(super) upstream_request_id: [u8; MOST_REQUEST_ID],
    pub(super) upstream_request_id_len: usize,
    pub(super) usage: Usage,
    pub(super) cost: Cost,
}

impl Exchange {
    fn of(entry: &Entry<'_>, key: usize) -> Option<Self> {
        Self::new(entry, key, entry.began, entry.upstream_request_id?, entry.usage?, entry.cost)
    }

    fn of_try(entry: &Entry<'_>, metered: &Metered<'_>, key: usize) -> Option<Self> {
        let Metered { tried, usage, .. } = metered;
        let began = entry.began.checked_add(tried.began).unwrap_or(entry.began);
        Self::new(entry, key, began, tried.upstream_request_id.as_deref()?, usage, tried.cost)
    }

    /// Ids that are no text, or too long, are none of Bedrock's.
    fn new(entry: &Entry<'_>, key: usize, began: SystemTime, id: &[u8], usage: &Usage, cost: Cost) -> Option<Self> {
        std::str::from_utf8(id).ok()?;
        let mut upstream_request_id = [0; MOST_REQUEST_ID];
        upstream_request_id.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self {
            key,
            began,
            request_id: *entry.request_id,
            upstream_request_id,
            upstream_request_id_len: id.len(),
            usage: *usage,
            cost,
        })
    }

    pub(super) fn upstream_request_id(&self) -> &str {
        let id = self.upstream_request_id.get(..self.upstream_request_id_len);
        id.and_then(|id| std::str::from_utf8(id).ok()).unwrap_or_default()
    }

    pub(super) fn is_estimated(&self) -> bool {
        self.usage.basis == Basis::Estimated
    }
}

impl Batch {
    /// Takes an exchange in, and what the tries used that it gave up. `singly`: each of them is also to be kept by itself, where it is metered and has an
    /// upstream's request id.
    pub(super) fn add(&mut self, names: Names<'_>, entry: &Entry<'_>, singly: bool, bounds: Bounds) -> Taken {
        let mut taken = Taken::default();
        self.book(names, &Sums::of(entry), |key| if singly { Exchange::of(entry, key) } else { None }, bounds, &mut taken);
        for metered in entry.metered_tries() {
            let kept = |key| if singly { Exchange::of_try(entry, &metered, key) } else { None };
            self.book(names.of_try(entry, metered.tried), &Sums::of_try(&metered), kept, bounds, &mut taken);
        }
        taken
    }

    /// Adds `sums` to those of `names`, or of its tenant's `other`, and keeps what is kept `single`.
    fn book(&mut self, names: Names<'_>, sums: &Sums, single: impl FnOnce(usize) -> Option<Exchange>, bounds: Bounds, taken: &mut Taken) {
        let mut at = self.place(names, bounds.keys);
        if at.is_none() {
            at = self.place(names.folded(), bounds.keys_and_others);
            taken.folded |= at.is_some();
        }
        let Some((at, of_key)) = at.and_then(|at| self.sums.get_mut(at).map(|sums| (at, sums))) else {
            taken.usage_lost = true;
            return;
        };
        of_key.add(sums);
        if let Some(exchange) = single(at) {
            if self.exchanges.len() < bounds.exchanges {
                self.exchanges.push(exchange);
            } else {
                taken.singles_lost += 1;
            }
        }
    }

    /// Where the sums of `names` are; none where they are new, and there are `most` already.
    fn place(&mut self, names: Names<'_>, most: usize) -> Option<usize> {
        if let Some(at) = self.index.get(&names as &dyn Named) {
            return Some(*at);
        }
        if self.index.len() >= most {
            return None;
        }
        let at = self.sums.len();
        self.sums.push(Sums::default());
        self.index.insert(names.into(), at);
        Some(at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sums.is_empty() && self.quotas.is_empty()
    }

    /// Each key with its sums, those of key `n` in place `n`.
    pub(super) fn rows(&self) -> Vec<(Names<'_>, &Sums)> {
        let mut keys: Vec<_> = self.index.iter().map(|(key, at)| (*at, key.names())).collect();
        keys.sort_unstable_by_key(|(at, _)| *at);
        keys.into_iter().map(|(_, names)| names).zip(&self.sums).collect()
    }

    pub(super) fn exchanges(&self) -> &[Exchange] {
        &self.exchanges
    }

    /// How many exchanges are in it: in sums, and singly.
    pub(super) fn counts(&self) -> (u64, u64) {
        let calls = self.sums.iter().map(|sums| sums.0.first().copied().unwrap_or(0)).fold(0, u64::saturating_add);
        (calls, u64::try_from(self.exchanges.len()).unwrap_or(u64::MAX))
    }

    /// Empties it for the next. A batch of usual size keeps its memory.
    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.index.shrink_to(KEEP);
        self.sums.clear();
        self.sums.shrink_to(KEEP);
        self.exchanges.clear();
        self.exchanges.shrink_to(KEEP);
        self.quotas.clear();
        self.begun = None;
    }
}
