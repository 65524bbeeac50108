//! Counts one exchange under its labels: one look-up, then atomic additions.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::entry::{Entry, Metered};
use super::histogram::{FIRST_TOKEN_SECONDS, Histogram, PER_TOKEN_SECONDS, REQUEST_SECONDS, Scale, TOKENS, add, nanos};
use super::labels::StatusClass;
use super::series::{Metered as Cells, Names, Series, guardrail_units};
use super::table::Table;
use crate::domain::{Basis, Cost, Reason, SERVICES, TokenKind, Usage};

/// Counts `entry` in `table`.
pub(super) fn count(table: &Table, entry: &Entry<'_>) {
    let upstream = entry.upstream.unwrap_or_default();
    let tenant = entry.tenant().unwrap_or_default();
    let answered = entry.upstream.is_some() && entry.answered();
    let operation = entry.operation.unwrap_or_default();
    let names = Names::new(tenant, entry.model.unwrap_or_default(), operation, upstream);
    let mut counting = Counting::under(table, names, upstream, answered);
    counting.exchange(entry);
    if answered && entry.model.is_some() {
        counting.times(entry);
    }
    if let Some(usage) = entry.usage {
        counting.usage(usage);
        counting.sizes(usage);
        counting.money(usage, entry.cost, 1);
    }
    let mut overflowed = counting.overflowed;
    for metered in entry.metered_tries() {
        let Metered { tried, usage, newly_unpriced, newly_estimated: _ } = metered;
        let names = Names::new(tenant, entry.model_of(tried).unwrap_or_default(), operation, &tried.upstream);
        let mut counting = Counting::under(table, names, &tried.upstream, tried.answered());
        counting.usage(usage);
        counting.money(usage, tried.cost, newly_unpriced.into());
        overflowed |= counting.overflowed;
    }
    if overflowed {
        table.overflowed();
    }
}

/// One exchange while it is counted.
struct Counting<'a> {
    table: &'a Table,
    series: Arc<Series>,
    upstream: &'a str,
    overflowed: bool,
}

impl<'a> Counting<'a> {
    /// Counts under `names`; under `other` where there is no room for them.
    fn under(table: &'a Table, names: Names<'_>, upstream: &'a str, answered: bool) -> Self {
        match table.series(names, answered) {
            Some(series) => Self { table, series, upstream, overflowed: false },
            None => Self { table, series: table.spare(upstream), upstream, overflowed: true },
        }
    }

    fn exchange(&mut self, entry: &Entry<'_>) {
        let service = entry.service.and_then(|service| SERVICES.iter().position(|known| known.prefix == service.prefix));
        let service = service.unwrap_or(SERVICES.len());
        let class = StatusClass::of(entry.status);
        if let Some(class) = StatusClass::ALL.iter().position(|known| *known == class) {
            self.add(1, |series| series.requests.get(service)?.get_or_init(Box::default).get(class));
        }
        if let Some(reason) = entry.reason.and_then(|reason| Reason::ALL.iter().position(|known| *known == reason)) {
            self.add(1, |series| series.refusals.get_or_init(Box::default).get(reason));
        }
    }

    fn times(&mut self, entry: &Entry<'_>) {
        if entry.complete {
            self.observe(&REQUEST_SECONDS, nanos(entry.total), |metered| &metered.duration);
        }
        if !entry.streamed {
            return;
        }
        if let Some(first) = entry.first_token {
            self.observe(&FIRST_TOKEN_SECONDS, nanos(first), |metered| &metered.first_token);
        }
        // A pace that is worked out from a guess would be one.
        let reported = entry.usage.filter(|usage| usage.basis == Basis::Reported);
        if let (Some(first), Some(last), Some(usage)) = (entry.first_token, entry.last_token, reported)
            && let Some(further @ 1..) = usage.tokens.output.checked_sub(1)
        {
            self.observe(&PER_TOKEN_SECONDS, nanos(last.saturating_sub(first)) / further, |metered| &metered.per_token);
        }
    }

    fn usage(&mut self, usage: &Usage) {
        let tokens = &usage.tokens;
        for (at, kind) in TokenKind::ALL.into_iter().enumerate() {
            let number = tokens.of(kind);
            self.add(number, |series| series.metered().tokens.get(at));
            if usage.basis == Basis::Estimated {
                self.add(number, |series| series.metered().estimated.get(at));
            }
        }
        self.add(tokens.reasoning, |series| Some(&series.metered().reasoning));
        for (at, units) in guardrail_units(&usage.guardrail).into_iter().enumerate() {
            self.add(units, |series| series.metered().guardrail.get(at));
        }
    }

    /// How large an answer was; a try that was given up has none.
    fn sizes(&mut self, usage: &Usage) {
        let tokens = &usage.tokens;
        // What a model read, from wherever: the conventions know no caches.
        let input =
            [tokens.input, tokens.cache_read, tokens.cache_write_5m, tokens.cache_write_1h].into_iter().fold(0, u64::saturating_add);
        if tokens.total() > 0 {
            self.observe(&TOKENS, input, |metered| &metered.input);
            self.observe(&TOKENS, tokens.output, |metered| &metered.output);
        }
    }

    /// What it cost. `unpriced`: how many exchanges become ones that used what no price is known for, where it has none.
    fn money(&mut self, usage: &Usage, cost: Cost, unpriced: u64) {
        match cost {
            Cost::Nothing => {}
            Cost::Priced(cost) => self.add(cost.picos(), |series| Some(&series.metered().cost)),
            Cost::Unpriced => {
                self.add(unpriced, |series| Some(&series.metered().unpriced_requests));
                for (at, kind) in TokenKind::ALL.into_iter().enumerate() {
                    self.add(usage.tokens.of(kind), |series| series.metered().unpriced.get(at));
                }
            }
        }
    }

    /// Adds to one counter; to that of the others where it would be a new line and there is no room for it.
    fn add(&mut self, number: u64, cell: impl Fn(&Series) -> Option<&AtomicU64>) {
        if number == 0 {
            return;
        }
        let Some(mine) = cell(&self.series) else { return };
        let fresh = mine.load(Relaxed) == 0 && !self.series.names.is_others();
        if fresh && !self.table.room.take(1) {
            self.overflowed = true;
            if let Some(theirs) = cell(&self.table.spare(self.upstream)) {
                add(theirs, number);
            }
            return;
        }
        // Another thread may have made the line meanwhile.
        if add(mine, number) != 0 && fresh {
            self.table.room.give(1);
        }
    }

    /// Observes in one histogram; in that of the others where it would be new and there is no room for it.
    fn observe(&mut self, scale: &'static Scale, value: u64, slot: impl Fn(&Cells) -> &OnceLock<Histogram>) {
        let lines = Histogram::lines(scale);
        let mine = slot(self.series.metered());
        if mine.get().is_none() && !self.series.names.is_others() {
            if !self.table.room.take(lines) {
                self.overflowed = true;
                let spare = self.table.spare(self.upstream);
                slot(spare.metered()).get_or_init(|| Histogram::new(scale)).observe(value);
                return;
            }
            let mut made = false;
            mine.get_or_init(|| {
                made = true;
                Histogram::new(scale)
            });
            if !made {
                self.table.room.give(lines);
            }
        }
        mine.get_or_init(|| Histogram::new(scale)).observe(value);
    }
}
