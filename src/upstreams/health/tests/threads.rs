use std::sync::atomic::{AtomicU64, Ordering};

use super::super::{Change, RetryBudget, Verdict};
use super::*;
use crate::config::upstreams::Budget;

const THREADS: u64 = 4;

/// Runs `work` on several threads, each with dice of its own.
fn together(work: impl Fn(&mut fastrand::Rng) + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let work = &work;
            scope.spawn(move || work(&mut fastrand::Rng::with_seed(thread)));
        }
    });
}

#[test]
fn of_many_threads_one_has_the_probe_and_every_ejection_ends() {
    let rule = HealthRule { failures: Some(2), eject: seconds(1), max_eject: seconds(4), ..HealthRule::default() };
    let (health, begin) = (health(rule), start());
    let (time, probes, most) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (ejected, readmitted) = (AtomicU64::new(0), AtomicU64::new(0));
    let count = |change: Option<Change>| match change {
        // A probe that failed begins an ejection while one lasts.
        Some(Change::Ejected { why: crate::domain::Ejection::Probe, .. }) | None => 0,
        Some(Change::Ejected { .. }) => ejected.fetch_add(1, Ordering::SeqCst),
        Some(Change::Readmitted) => readmitted.fetch_add(1, Ordering::SeqCst),
    };
    together(|random| {
        for _ in 0..20_000 {
            let now = begin + Duration::from_millis(time.fetch_add(random.u64(0..200), Ordering::SeqCst));
            // Sent before all this: so nothing but a probe ends an ejection.
            let well = Outcome::Answered { status: 200, first_byte: seconds(1_000_000) };
            let outcome = if random.u8(0..3) == 0 { well } else { Outcome::Broken };
            match health.ask(Some("m"), now) {
                Verdict::Probe(probe) => {
                    most.fetch_max(probes.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    if random.bool() {
                        std::thread::yield_now();
                    }
                    probes.fetch_sub(1, Ordering::SeqCst);
                    if random.u8(0..4) > 0 {
                        count(probe.told(Some("m"), outcome, now));
                    }
                }
                verdict => _ = count(verdict.told(&health, Some("m"), outcome, now)),
            }
        }
    });
    let (ejected, readmitted) = (ejected.load(Ordering::SeqCst), readmitted.load(Ordering::SeqCst));
    assert_eq!(most.load(Ordering::SeqCst), 1);
    assert!(ejected > 100, "{ejected}");
    assert!(ejected == readmitted || ejected == readmitted + 1, "{ejected} ejections, {readmitted} ends of them");
    let late = begin + Duration::from_millis(time.load(Ordering::SeqCst)) + seconds(3600);
    assert!(matches!(health.ask(None, late), Verdict::Fit | Verdict::Probe(_)), "nobody kept the probe's place");
}

#[test]
fn of_many_threads_every_try_is_counted() {
    let (window, now) = (super::super::Window::<1>::new(seconds(10)), start());
    together(|_| (0..50_000).for_each(|_| window.add(0, now)));
    assert_eq!(window.sums(now), [THREADS * 50_000]);
}

#[test]
fn of_many_threads_none_takes_a_retry_too_many() {
    let (budget, now, taken) = (RetryBudget::new(Budget { percent: 20, min_per_second: 10 }), start(), AtomicU64::new(0));
    (0..1000).for_each(|_| budget.deposit(now));
    together(|_| {
        for _ in 0..2_000 {
            taken.fetch_add(u64::from(budget.withdraw(now)), Ordering::SeqCst);
        }
    });
    assert_eq!(taken.load(Ordering::SeqCst), 300);
}
