//! The buckets of `limits`, compiled on primitives that try one order of threads after another (shuttle): whatever the order, never above capacity, no
//! update lost, no deadlock, and the count of buckets right. A deadlock fails by itself.

#![cfg(test)]

#[path = "../src/limits/bucket.rs"]
#[expect(dead_code, reason = "the room uses more of it")]
mod bucket;
#[path = "../src/limits/buckets/mod.rs"]
#[expect(dead_code, unreachable_pub, unused_imports, reason = "the room uses more of it")]
mod buckets;
#[path = "../src/limits/key.rs"]
#[expect(dead_code, reason = "the room uses more of it")]
mod key;

/// The primitives, as `src/limits/sync.rs` gives them.
mod sync {
    pub(crate) use shuttle::sync::MutexGuard;
    pub(crate) use shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

    /// One whose lock is not poisoned.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

/// Nobody waits here.
mod queue {
    #[derive(Debug, Default)]
    pub(crate) struct Queues {
        waiting: usize,
    }

    impl Queues {
        pub(crate) const fn waiting(&self) -> usize {
            self.waiting
        }
    }
}

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use shuttle::thread;

use bucket::{Ask, Terms};
use buckets::{Buckets, Want, Wants};
use key::{Key, Part, Seed};

const SECOND: u64 = 1_000_000_000;

/// The same in every run, or an order could not be tried again.
fn key(part: Part, name: &str) -> Key {
    static SEED: OnceLock<Seed> = OnceLock::new();
    SEED.get_or_init(Seed::random).part(part, &[name])
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    *EPOCH.get_or_init(Instant::now)
}

fn after(nanos: u64) -> Instant {
    epoch() + Duration::from_nanos(nanos)
}

fn rate(capacity: u64) -> Terms {
    Terms::Rate { amount: 1, period: SECOND, capacity }
}

fn want(name: &str, terms: Terms, amount: u64, hold: bool) -> Want<()> {
    Want::new((), key(Part::User, name), key(Part::Overflow, "rule"), terms, Ask { amount, least: amount, hold })
}

/// Takes all or nothing; what was taken, by key.
fn take(buckets: &Buckets, wants: impl IntoIterator<Item = Want<()>>, now: u64) -> Option<Vec<(Key, Terms, u64)>> {
    let mut wants: Wants<()> = wants.into_iter().collect();
    buckets.take_all(&mut wants, after(now)).ok()?;
    Some(wants.iter().map(|want| (want.key, want.terms, want.taken.unwrap().amount)).collect())
}

/// Of what was taken to be held, `used` of each was used.
fn settle(buckets: &Buckets, taken: &[(Key, Terms, u64)], used: u64, now: u64) {
    for (key, terms, amount) in taken {
        buckets.change(*key, *terms, Some(after(now)), |bucket, at| bucket.settle(*amount, used, *terms, at));
    }
}

fn count_is_right(buckets: &Buckets) {
    assert_eq!(buckets.len(), buckets.dump().len());
}

/// Every order of a few threads, as far as `most` goes, and thousands of random ones of the same.
fn every_order(most: usize, story: fn()) {
    shuttle::check_dfs(story, Some(most));
    shuttle::check_random(story, 3_000);
    shuttle::check_pct(story, 1_000, 3);
}

#[test]
fn two_threads_never_take_more_than_there_is() {
    every_order(20_000, || {
        let buckets = Buckets::new(10, epoch());
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let buckets = Arc::clone(&buckets);
                thread::spawn(move || (0..2).filter(|_| take(&buckets, [want("a", rate(3), 1, false)], 1).is_some()).count())
            })
            .collect();
        let passed: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(passed, 3);
        count_is_right(&buckets);
    });
}

#[test]
fn calls_that_cross_take_from_both_buckets_or_from_none() {
    every_order(20_000, || {
        // Two shards, and the keys in either order.
        let buckets = Buckets::new(128, epoch());
        let threads: Vec<_> = [["a", "b"], ["b", "a"], ["a", "c"]]
            .into_iter()
            .map(|names| {
                let buckets = Arc::clone(&buckets);
                thread::spawn(move || take(&buckets, names.map(|name| want(name, Terms::Max { limit: 2 }, 1, true)), 1))
            })
            .collect();
        let taken: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(taken.len(), 2, "`a` has two places");
        let held: u64 = buckets.dump().values().map(|bucket| bucket.held).sum();
        assert_eq!(held, 4);
        count_is_right(&buckets);
        for taken in taken {
            settle(&buckets, &taken, 0, 1);
        }
        assert!(buckets.dump().values().all(|bucket| bucket.held == 0));
        buckets.sweep(after(2));
        assert_eq!((buckets.len(), buckets.dump().len()), (0, 0));
    });
}

#[test]
fn no_settlement_is_lost_whatever_sweeps_between() {
    every_order(20_000, || {
        let buckets = Buckets::new(10, epoch());
        let quota = Terms::Quota { limit: 100, starts: 0, ends: u64::MAX, ends_in: SECOND };
        let callers: Vec<_> = [7, 11]
            .into_iter()
            .map(|used| {
                let buckets = Arc::clone(&buckets);
                thread::spawn(move || {
                    let taken = take(&buckets, [want("a", quota, 40, true)], 1).unwrap();
                    buckets.change(taken[0].0, quota, Some(after(2)), |bucket, at| bucket.grow(5, quota, at));
                    settle(&buckets, &[(taken[0].0, quota, 45)], used, 3);
                })
            })
            .collect();
        let sweeper = {
            let buckets = Arc::clone(&buckets);
            thread::spawn(move || buckets.sweep(after(3 * SECOND)))
        };
        for thread in callers {
            thread.join().unwrap();
        }
        assert_eq!(sweeper.join().unwrap(), 0, "what is held, or of a period that runs, is kept");
        let left: Vec<_> = buckets.dump().into_values().map(|bucket| (bucket.used, bucket.held)).collect();
        assert_eq!(left, [(18, 0)]);
        count_is_right(&buckets);
    });
}

#[test]
fn at_the_bound_newcomers_get_room_or_share_one_bucket_and_none_is_above_its_capacity() {
    every_order(30_000, || {
        let buckets = Buckets::new(2, epoch());
        let threads: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .map(|name| {
                let buckets = Arc::clone(&buckets);
                thread::spawn(move || {
                    let first = take(&buckets, [want(name, rate(1), 1, false)], 1);
                    // Two seconds on, all that is not held has drained.
                    let second = take(&buckets, [want(name, rate(1), 1, true)], 2 * SECOND);
                    assert!(buckets.len() <= 3, "two, and the one that newcomers share");
                    if let Some(taken) = second {
                        settle(&buckets, &taken, 0, 2 * SECOND);
                    }
                    usize::from(first.is_some())
                })
            })
            .collect();
        let passed: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!((1..=3).contains(&passed), "{passed}");
        assert!(buckets.dump().values().all(|bucket| bucket.held == 0 && bucket.used <= 1));
        count_is_right(&buckets);
        buckets.sweep(after(4 * SECOND));
        assert_eq!((buckets.len(), buckets.dump().len()), (0, 0));
    });
}

#[test]
fn four_threads_that_take_settle_and_sweep_leave_the_sum_of_what_they_used() {
    shuttle::check_random(
        || {
            let buckets = Buckets::new(3, epoch());
            let budget = Terms::Quota { limit: 1_000, starts: 0, ends: u64::MAX, ends_in: SECOND };
            let threads: Vec<_> = (0..4_u64)
                .map(|thread| {
                    let buckets = Arc::clone(&buckets);
                    shuttle::thread::spawn(move || {
                        let mut used = 0;
                        for turn in 0..3 {
                            let own = want(["a", "b", "c", "d"][usize::try_from(thread).unwrap()], Terms::Max { limit: 1 }, 1, true);
                            let shared = want("shared", budget, 10, true);
                            if let Some(taken) = take(&buckets, [own, shared], turn) {
                                let (max, quota): (Vec<_>, Vec<_>) =
                                    taken.into_iter().partition(|(_, terms, _)| matches!(terms, Terms::Max { .. }));
                                settle(&buckets, &max, 0, turn);
                                settle(&buckets, &quota, thread + 1, turn);
                                used += thread + 1;
                            }
                            buckets.sweep(after(turn));
                        }
                        used
                    })
                })
                .collect();
            let used: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            let left = buckets.dump();
            assert_eq!(left.values().map(|bucket| bucket.used).sum::<u64>(), used);
            assert!(left.values().all(|bucket| bucket.held == 0));
            count_is_right(&buckets);
        },
        3_000,
    );
}
