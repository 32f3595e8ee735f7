//! One question for many who ask it: calls under way, and what they must not do when they land.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use super::Key;

/// A call under way. All who wait for it get its outcome, also a failure.
pub(crate) struct Flight<T> {
    shared: bool,
    /// The token was forgotten since the call set out: its answer is worth nothing.
    stale: AtomicBool,
    outcome: watch::Receiver<Option<T>>,
}

impl<T: Clone> Flight<T> {
    /// A flight, and the sender by which it lands. With `shared`, others may wait for it too.
    pub(crate) fn new(shared: bool) -> (watch::Sender<Option<T>>, Arc<Self>) {
        let (sender, outcome) = watch::channel(None);
        (sender, Arc::new(Self { shared, stale: AtomicBool::new(false), outcome }))
    }

    /// Waits for the outcome; `None` if the call broke off. It can be dropped at any time.
    pub(crate) async fn outcome(&self) -> Option<T> {
        let mut outcome = self.outcome.clone();
        outcome.wait_for(Option::is_some).await.ok()?.clone()
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }
}

/// The calls under way.
///
/// Whoever starts a flight, lands it or forgets a token holds the lock while it looks at or changes
/// the cache. That is what keeps an answer that set out before a token was forgotten from being
/// kept after it.
pub(crate) struct Flights<T>(Mutex<Table<T>>);

pub(crate) struct Table<T>(HashMap<Key, Vec<Arc<Flight<T>>>>);

impl<T> Flights<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Table(HashMap::new())))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Table<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Table<T> {
    /// A flight that one may join.
    pub(crate) fn join(&self, key: &Key) -> Option<Arc<Flight<T>>> {
        self.0.get(key)?.iter().find(|flight| flight.shared).cloned()
    }

    pub(crate) fn depart(&mut self, key: Key, flight: Arc<Flight<T>>) {
        self.0.entry(key).or_default().push(flight);
    }

    /// Takes a flight off the table; false if its token was forgotten meanwhile.
    pub(crate) fn land(&mut self, key: &Key, flight: &Arc<Flight<T>>) -> bool {
        let Some(flights) = self.0.get_mut(key) else {
            return false;
        };
        let before = flights.len();
        flights.retain(|other| !Arc::ptr_eq(other, flight));
        let found = flights.len() < before;
        if flights.is_empty() {
            self.0.remove(key);
        }
        found
    }

    /// Nobody may go by what the token's flights will say.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.0.remove(key).into_iter().flatten().for_each(|flight| mark(&flight));
    }

    /// The same for all flights of the token but this one.
    pub(crate) fn forget_others(&mut self, key: &Key, flight: &Arc<Flight<T>>) {
        let Some(flights) = self.0.get_mut(key) else { return };
        flights.retain(|other| {
            let same = Arc::ptr_eq(other, flight);
            if !same {
                mark(other);
            }
            same
        });
    }

    pub(crate) fn forget_all(&mut self) {
        self.0.drain().flat_map(|(_, flights)| flights).for_each(|flight| mark(&flight));
    }
}

fn mark<T>(flight: &Flight<T>) {
    flight.stale.store(true, Ordering::Release);
}
