//! One queue: who waits for one bucket, and whose turn it is.
//!
//! A tenant has a lane, where it is first come, first served. Lanes take turns: a lane has as many in a row as its tenant has shares, then goes behind all
//! others. So a call waits for at most a round more than its own tenant's calls before it, however many others come. A full queue is shared in the same way:
//! who has less than their part of it pushes out the latest of the lane that has the most.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::Notify;

/// The waiters of one bucket.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: HashMap<Arc<str>, Lane>,
    /// The lanes by their turn.
    ring: BTreeMap<u64, Arc<str>>,
    /// The turn of the next lane that goes behind all others.
    end: u64,
    /// How many of the first lane were served in its present turn.
    served: u32,
    /// The shares of all lanes.
    shares: u64,
    len: usize,
}

/// The waiters of one tenant: never none.
#[derive(Debug)]
struct Lane {
    /// Its place in the ring.
    turn: u64,
    share: u32,
    /// By when they came.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// Who comes: whose lane it is, the tenant's share, when they came, and how they are called.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub(super) tenant: Arc<str>,
    /// At least 1.
    pub(super) share: u32,
    /// No two have the same.
    pub(super) ticket: u64,
    pub(super) bell: Arc<Notify>,
}

/// What became of one who came.
#[derive(Debug)]
pub(super) enum Entry {
    /// They wait.
    In,
    /// They wait in the place of another, who is to be told.
    For(Arc<Notify>),
    /// There is no place.
    Full,
}

impl Queue {
    /// How many wait.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whose turn it is: their ticket, and how they are called.
    pub(super) fn head(&self) -> Option<(u64, &Arc<Notify>)> {
        let (_, tenant) = self.ring.first_key_value()?;
        let (ticket, bell) = self.lanes.get(tenant)?.waiting.first_key_value()?;
        Some((*ticket, bell))
    }

    pub(super) fn has(&self, tenant: &str, ticket: u64) -> bool {
        self.lanes.get(tenant).is_some_and(|lane| lane.waiting.contains_key(&ticket))
    }

    /// Takes a place among at most `most`.
    pub(super) fn join(&mut self, waiter: Waiter, most: usize) -> Entry {
        let mut entry = Entry::In;
        if self.len >= most {
            match self.push_out(&waiter, most) {
                Some(bell) => entry = Entry::For(bell),
                None => return Entry::Full,
            }
        }
        let Waiter { tenant, share, ticket, bell } = waiter;
        let lane = self.lanes.entry(Arc::clone(&tenant)).or_insert_with(|| {
            let turn = self.end;
            self.end += 1;
            self.ring.insert(turn, tenant);
            Lane { turn, share: 0, waiting: BTreeMap::new() }
        });
        // A reload may have changed it.
        self.shares = self.shares + u64::from(share) - u64::from(lane.share);
        lane.share = share;
        lane.waiting.insert(ticket, bell);
        self.len += 1;
        entry
    }

    /// Forgets one who was there.
    pub(super) fn leave(&mut self, tenant: &str, ticket: u64) {
        let Some(lane) = self.lanes.get_mut(tenant) else { return };
        if lane.waiting.remove(&ticket).is_none() {
            return;
        }
        self.len -= 1;
        if lane.waiting.is_empty() {
            if self.ring.first_key_value().is_some_and(|(turn, _)| *turn == lane.turn) {
                self.served = 0;
            }
            self.ring.remove(&lane.turn);
            self.shares -= u64::from(lane.share);
            self.lanes.remove(tenant);
        }
    }

    /// Forgets one who had their turn, which counts as one of their lane's.
    pub(super) fn served(&mut self, tenant: &str, ticket: u64) {
        self.leave(tenant, ticket);
        let Some(lane) = self.lanes.get_mut(tenant) else { return };
        if self.ring.first_key_value().is_none_or(|(turn, _)| *turn != lane.turn) {
            return;
        }
        self.served += 1;
        if self.served >= lane.share {
            self.served = 0;
            if let Some(tenant) = self.ring.remove(&lane.turn) {
                lane.turn = self.end;
                self.end += 1;
                self.ring.insert(lane.turn, tenant);
            }
        }
    }

    /// Makes one place in a full queue, where `waiter` has less than their part of it: from the lane that has the most beyond its own part there is
    /// one to take then.
    fn push_out(&mut self, waiter: &Waiter, most: usize) -> Option<Arc<Notify>> {
        let own = self.lanes.get(&waiter.tenant);
        let (len, share) = own.map_or((0, 0), |lane| (lane.waiting.len(), lane.share));
        let shares = self.shares + u64::from(waiter.share) - u64::from(share);
        // (len + 1) / most <= share / shares, in whole numbers.
        if wide(len + 1) * u128::from(shares) > wide(most) * u128::from(waiter.share) {
            return None;
        }
        let others = self.lanes.iter().filter(|(tenant, _)| **tenant != waiter.tenant);
        let (tenant, lane) = others.max_by(|(_, one), (_, other)| {
            let (ones, others) = (wide(one.waiting.len()) * u128::from(other.share), wide(other.waiting.len()) * u128::from(one.share));
            ones.cmp(&others).then(one.turn.cmp(&other.turn))
        })?;
        let (ticket, bell) = lane.waiting.last_key_value()?;
        let (tenant, ticket, bell) = (Arc::clone(tenant), *ticket, Arc::clone(bell));
        self.leave(&tenant, ticket);
        Some(bell)
    }
}

fn wide(n: usize) -> u128 {
    u128::try_from(n).unwrap_or(u128::MAX)
}
