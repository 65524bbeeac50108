//! One question, however many ask it at once.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::cache::Fingerprint;

/// What is being asked. Never more than there are requests that wait.
#[derive(Debug)]
pub(super) struct Flights<A>(Mutex<HashMap<Fingerprint, Arc<OnceCell<A>>>>);

/// A seat in one flight: given up on drop, and the last to leave, or the first to know, ends it.
pub(super) struct Seat<'f, A> {
    flights: &'f Flights<A>,
    key: Fingerprint,
    cell: Option<Arc<OnceCell<A>>>,
}

impl<A: Clone> Flights<A> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Takes part in the question `key`, which is perhaps being asked already.
    pub(super) fn join(&self, key: Fingerprint) -> Seat<'_, A> {
        let cell = Arc::clone(self.0.lock().entry(key).or_default());
        Seat { flights: self, key, cell: Some(cell) }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl<A: Clone> Seat<'_, A> {
    /// The answer that `ask` gives, or gave another. Where whoever asks goes away, the next asks.
    pub(super) async fn answer<F: Future<Output = A>>(&self, ask: impl FnOnce() -> F) -> Option<A> {
        Some(self.cell.as_ref()?.get_or_init(ask).await.clone())
    }
}

impl<A> Drop for Seat<'_, A> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock();
        // Let go within the lock, or two that leave at once would each see the other.
        let Some(cell) = self.cell.take() else { return };
        let is_this = flights.get(&self.key).is_some_and(|current| Arc::ptr_eq(current, &cell));
        if is_this && (cell.initialized() || Arc::strong_count(&cell) <= 2) {
            flights.remove(&self.key);
        }
        drop(cell);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_hundred_that_ask_at_once_are_one_question() {
        let (flights, asked) = (Flights::new(), AtomicU32::new(0));
        let ask = async || {
            let seat = flights.join(Fingerprint::of("q"));
            seat.answer(|| async {
                tokio::task::yield_now().await;
                asked.fetch_add(1, Ordering::Relaxed)
            })
            .await
        };
        let answers = futures_util::future::join_all((0..100).map(|_| ask())).await;
        assert_eq!((asked.load(Ordering::Relaxed), flights.len()), (1, 0));
        assert!(answers.iter().all(|answer| *answer == Some(0)));
        assert_eq!(ask().await, Some(1), "an answer is not kept");
    }

    #[tokio::test]
    async fn when_the_one_that_asks_goes_away_another_asks_and_nothing_is_left_behind() {
        let flights = Flights::new();
        let (first, second) = (flights.join(Fingerprint::of("q")), flights.join(Fingerprint::of("q")));
        let mut stuck = Box::pin(first.answer(std::future::pending::<u32>));
        assert!(futures_util::poll!(stuck.as_mut()).is_pending());
        drop(stuck);
        drop(first);
        assert_eq!((second.answer(|| async { 7 }).await, flights.len()), (Some(7), 1));
        drop(second);
        drop(flights.join(Fingerprint::of("r")));
        assert_eq!(flights.len(), 0);
    }
}
