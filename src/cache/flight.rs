//! One question for many who ask it: calls under way, and what they must not do when they land.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use super::{Holder, Key};

/// What a call is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A question, whose answer is for all who ask it in the same way.
    Shared(Holder),
    /// A question of one's own.
    Alone,
    /// A change of the token.
    Change,
}

impl Purpose {
    /// A question that does not depend on who asks it.
    pub(crate) const SHARED: Self = Self::Shared(Holder::BEARER);
}

/// A call under way. All who wait for it get its outcome, also a failure.
pub(crate) struct Flight<T> {
    purpose: Purpose,
    /// The token was forgotten since the call set out: its answer is worth nothing.
    stale: AtomicBool,
    outcome: watch::Receiver<Option<T>>,
}

impl<T> Flight<T> {
    /// Waits for the outcome; `None` if the call broke off. It can be dropped at any time.
    pub(crate) async fn outcome(&self) -> Option<T>
    where
        T: Clone,
    {
        let mut outcome = self.outcome.clone();
        outcome.wait_for(Option::is_some).await.ok()?.clone()
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    fn mark(&self) {
        self.stale.store(true, Ordering::Release);
    }
}

/// The calls under way.
///
/// Whoever starts a flight, lands it or forgets a token holds the lock while it looks at or changes
/// the cache. That is what keeps an answer that set out before a token was forgotten from being
/// kept after it.
pub(crate) struct Flights<T>(Mutex<Table<T>>);

pub(crate) struct Table<T> {
    flights: HashMap<Key, Vec<Arc<Flight<T>>>>,
    /// How often tokens were forgotten, by the lots into which their keys fall.
    forgotten: Vec<u64>,
}

/// Whoever waits for an answer compares how often tokens were forgotten before and after, since a flight
/// that has landed is not marked any more.
const LOTS: usize = 1024;

impl<T> Flights<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Table { flights: HashMap::new(), forgotten: vec![0; LOTS] }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Table<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of a flight, after waiting for one that is on its way: who joins it gets nothing.
    pub(crate) async fn occupy(&self, key: Key) -> Berth<'_, T>
    where
        T: Clone,
    {
        loop {
            let other = {
                let mut flights = self.lock();
                let Some(other) = flights.join(&key, Purpose::SHARED) else {
                    let (sender, flight) = flights.depart(key, Purpose::SHARED);
                    return Berth { flights: self, key, flight, _sender: sender };
                };
                other
            };
            other.outcome().await;
        }
    }
}

/// The place of a flight that does not take place.
pub(crate) struct Berth<'f, T> {
    flights: &'f Flights<T>,
    key: Key,
    flight: Arc<Flight<T>>,
    _sender: watch::Sender<Option<T>>,
}

impl<T> Drop for Berth<'_, T> {
    fn drop(&mut self) {
        self.flights.lock().land(&self.key, &self.flight);
    }
}

impl<T> Table<T> {
    /// A flight of the same purpose.
    pub(crate) fn join(&self, key: &Key, purpose: Purpose) -> Option<Arc<Flight<T>>> {
        self.flights.get(key)?.iter().find(|flight| flight.purpose == purpose).cloned()
    }

    /// A new flight, and the sender by which it lands.
    pub(crate) fn depart(
        &mut self,
        key: Key,
        purpose: Purpose,
    ) -> (watch::Sender<Option<T>>, Arc<Flight<T>>) {
        let (sender, outcome) = watch::channel(None);
        let flight = Arc::new(Flight { purpose, stale: AtomicBool::new(false), outcome });
        self.flights.entry(key).or_default().push(flight.clone());
        (sender, flight)
    }

    /// Takes a flight off the table; false if its token was forgotten meanwhile.
    pub(crate) fn land(&mut self, key: &Key, flight: &Arc<Flight<T>>) -> bool {
        let Some(flights) = self.flights.get_mut(key) else {
            return false;
        };
        let before = flights.len();
        flights.retain(|other| !Arc::ptr_eq(other, flight));
        let found = flights.len() < before;
        if flights.is_empty() {
            self.flights.remove(key);
        }
        found
    }

    /// How often tokens of this one's lot were forgotten.
    pub(crate) fn forgotten(&self, key: &Key) -> u64 {
        self.forgotten[key.lot(LOTS)]
    }

    /// Nobody may go by what the token's flights will say, or have just said.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.forgotten[key.lot(LOTS)] += 1;
        self.forget_if(key, |_| true);
    }

    /// The same for all flights of the token but this one.
    pub(crate) fn forget_others(&mut self, key: &Key, flight: &Arc<Flight<T>>) {
        self.forget_if(key, |other| !Arc::ptr_eq(other, flight));
    }

    /// The same for its changes only: it is not known whether what was just learnt is of before or
    /// after them.
    pub(crate) fn forget_changes(&mut self, key: &Key) {
        self.forget_if(key, |flight| flight.purpose == Purpose::Change);
    }

    fn forget_if(&mut self, key: &Key, which: impl Fn(&Arc<Flight<T>>) -> bool) {
        let Some(flights) = self.flights.get_mut(key) else { return };
        flights.extract_if(.., |flight| which(flight)).for_each(|flight| flight.mark());
        if flights.is_empty() {
            self.flights.remove(key);
        }
    }

    pub(crate) fn forget_all(&mut self) {
        self.forgotten.iter_mut().for_each(|times| *times += 1);
        self.flights.drain().flat_map(|(_, flights)| flights).for_each(|flight| flight.mark());
    }

    /// Marks the token's flights without taking them off the table.
    pub(crate) fn mark(&self, key: &Key) {
        self.flights.get(key).into_iter().flatten().for_each(|flight| flight.mark());
    }

    /// Marks all flights without taking them off the table.
    pub(crate) fn mark_all(&self) {
        self.flights.values().flatten().for_each(|flight| flight.mark());
    }
}
