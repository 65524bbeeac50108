//! Which warnings were told, so that each is told once.
//!
//! Use of requests goes back where a call was never sent. While an upstream can't be reached, each call would pass the same share again, and warn again.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::key::{Key, Prehashed};
use super::sync::Mutex;

/// So many quotas are remembered for a rule; then all are forgotten, and may be told once more.
const MOST: usize = 4096;

/// What a rule last warned of, by bucket. It lives as long as the rule.
#[derive(Debug, Default)]
pub(super) struct Warned(Mutex<HashMap<Key, Warning, BuildHasherDefault<Prehashed>>>);

/// A share of a limit in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Warning {
    pub(super) ends: u64,
    pub(super) limit: u64,
    pub(super) percent: u8,
}

impl Warned {
    /// Whether this is the first that a bucket's owner hears of such a share in that period, or of a greater one.
    pub(super) fn is_news(&self, key: Key, warning: Warning) -> bool {
        let mut told = self.0.lock();
        let of_same = |last: &&Warning| (last.ends, last.limit) == (warning.ends, warning.limit);
        if told.get(&key).filter(of_same).is_some_and(|last| last.percent >= warning.percent) {
            return false;
        }
        if told.len() >= MOST && !told.contains_key(&key) {
            told.clear();
        }
        told.insert(key, warning);
        true
    }
}
