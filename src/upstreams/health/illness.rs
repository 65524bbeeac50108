//! Whether an upstream is ejected, for how long, and who finds out whether it is well again.

use std::time::{Duration, Instant};

use super::{after, jittered};
use crate::config::upstreams::HealthRule;
use crate::domain::Ejection;

/// One upstream's ejections. In use, or ejected until a try that was sent after the ejection comes out well.
#[derive(Debug, Default)]
pub(super) struct Illness {
    ejected: Option<Ejected>,
    /// A probe is under way; there is never a second.
    probing: bool,
    /// How many ejections there were. A probe decides on the one that it was sent under, and on no later one.
    number: u64,
    /// How many ejections in a row the last one was, as far as its length grew with them.
    steps: u32,
    /// How long the last ejection was to take.
    last: Duration,
    /// When the last one ended.
    readmitted: Option<Instant>,
    /// By [`Ejection::ALL`].
    counts: [u64; Ejection::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Ejected {
    since: Instant,
    until: Instant,
}

/// Whether a try may go there.
pub(super) enum Place {
    Fit,
    /// As the probe of the ejection of this number.
    Probe(u64),
    Ejected(Instant),
}

/// What is known of a try that came to something.
#[derive(Clone, Copy)]
pub(super) enum By {
    /// The probe of the ejection of this number.
    Probe(u64),
    /// Any other, and when it was sent, where that is known.
    Another(Option<Instant>),
}

impl Illness {
    pub(super) const fn is_ejected(&self) -> bool {
        self.ejected.is_some()
    }

    /// When a probe may go there, if it is ejected.
    pub(super) fn until(&self) -> Option<Instant> {
        self.ejected.map(|ejected| ejected.until)
    }

    pub(super) const fn counts(&self) -> [u64; Ejection::ALL.len()] {
        self.counts
    }

    /// Takes the probe's place, where the time has come and nobody has it.
    pub(super) fn ask(&mut self, now: Instant) -> Place {
        let Some(ejected) = self.ejected else { return Place::Fit };
        if now < ejected.until || self.probing {
            return Place::Ejected(ejected.until);
        }
        self.probing = true;
        Place::Probe(self.number)
    }

    /// The probe has come to something, or was given up.
    pub(super) const fn probed(&mut self) {
        self.probing = false;
    }

    /// Whether a try that failed decides: of an upstream that is ejected, only its probe does. The others were sent before, or without hope.
    pub(super) const fn fails_by(&self, by: By) -> bool {
        matches!(by, By::Probe(number) if number == self.number && self.is_ejected())
    }

    /// Puts it back to use, if a try that came out well tells so much: the probe, or one that was sent after the ejection, for want of anything better.
    pub(super) fn readmit(&mut self, by: By, now: Instant) -> bool {
        let Some(Ejected { since, .. }) = self.ejected else { return false };
        let decides = match by {
            By::Probe(number) => number == self.number,
            By::Another(sent) => sent.is_some_and(|sent| sent > since),
        };
        if decides {
            self.ejected = None;
            self.readmitted = Some(now);
        }
        decides
    }

    /// Ejects it, and tells for how long: twice as long as the time before, up to the most. Each time of good health that is as long as the last ejection
    /// makes up for one of them.
    pub(super) fn eject(&mut self, rule: &HealthRule, why: Ejection, now: Instant) -> Duration {
        let well = self.readmitted.filter(|_| !self.is_ejected()).map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let forgiven = u32::try_from(well.as_nanos() / self.last.as_nanos().max(1)).unwrap_or(u32::MAX);
        let (lasts, steps) = doubled(rule.eject, rule.max_eject, self.steps.saturating_sub(forgiven).saturating_add(1));
        let lasts = jittered(lasts);
        self.steps = steps;
        self.last = lasts;
        self.ejected = Some(Ejected { since: now, until: after(now, lasts) });
        self.number = self.number.wrapping_add(1);
        for (count, _) in self.counts.iter_mut().zip(Ejection::ALL).filter(|(_, each)| *each == why) {
            *count = count.saturating_add(1);
        }
        lasts
    }
}

/// `first`, doubled with each of `steps` beyond the first, until it reaches `most`; and the step at which it does.
pub(super) fn doubled(first: Duration, most: Duration, steps: u32) -> (Duration, u32) {
    let (mut length, mut step) = (first, 1);
    while step < steps && length < most {
        length = length.saturating_mul(2);
        step += 1;
    }
    (length.min(most), step)
}
