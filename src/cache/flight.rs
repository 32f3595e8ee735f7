//! One question for many who ask it: calls under way, and what they must not do when they land.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::key::{Binding, Key};
use crate::clock::Moment;

/// What a call is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A question, whose answer is for all who ask it in the same way.
    Shared(Binding),
    /// A question of one's own.
    Alone(Binding),
    /// A change of the token.
    Change,
}

impl Purpose {
    /// Whether what is learnt of a token may be newer than what such a flight will say. A yes is about
    /// the token, a no only about who presented it.
    fn is_overtaken(self, by_no_to: Option<Binding>) -> bool {
        match self {
            Self::Shared(binding) | Self::Alone(binding) => by_no_to.is_none_or(|no| no == binding),
            Self::Change => true,
        }
    }
}

/// A call under way. All who wait for it get its outcome, also a failure.
pub(crate) struct Flight<T> {
    purpose: Purpose,
    /// What it tells may have been decided then.
    pub(crate) departed: Moment,
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
}

/// What a flight is good for when it lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing else was learnt since it set out.
    Newest,
    /// Something else was, and nobody knows which is newer.
    Overtaken,
    /// Its token was forgotten since it set out: it is worth nothing.
    Forgotten,
}

/// An answer that has landed.
#[derive(Clone)]
pub(crate) struct Landed<T> {
    answer: T,
    /// How often tokens of its lot had been forgotten by then; `None` if it is worth nothing.
    forgotten: Option<u64>,
}

/// The calls under way.
///
/// Whoever starts a flight, lands it or forgets a token holds the lock while it looks at or changes
/// the cache. That is what keeps an answer that set out before a token was forgotten from being
/// kept after it.
pub(crate) struct Flights<T>(Mutex<Table<T>>);

pub(crate) struct Table<T> {
    flights: HashMap<Key, Vec<Place<T>>>,
    /// How often tokens were forgotten, by the lots into which their keys fall.
    forgotten: Vec<u64>,
}

struct Place<T> {
    flight: Arc<Flight<T>>,
    overtaken: bool,
}

/// Whoever waits for an answer compares how often tokens were forgotten when it landed and when it is
/// used, since a flight that has landed is on the table no more.
const LOTS: usize = 1024;

/// The shard of a key: less than [`LOTS`].
pub(crate) fn shard(key: &Key) -> u16 {
    key.lot(LOTS) as u16
}

impl<T> Flights<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Table { flights: HashMap::new(), forgotten: vec![0; LOTS] }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Table<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Flights<Landed<T>> {
    /// Waits for what a flight tells, or `broken_off`. `None` if the token was forgotten since.
    pub(crate) async fn answer(
        &self,
        key: &Key,
        flight: &Flight<Landed<T>>,
        broken_off: T,
    ) -> Option<T> {
        let Some(landed) = flight.outcome().await else { return Some(broken_off) };
        let current = landed.forgotten == Some(self.lock().forgotten(key));
        current.then_some(landed.answer)
    }

    /// What a flight has told by now.
    pub(crate) fn told(&self, key: &Key, flight: &Flight<Landed<T>>) -> Told<T> {
        self.lock().told(key, flight)
    }
}

impl<T: Clone> Table<Landed<T>> {
    /// What a flight has told by now.
    pub(crate) fn told(&self, key: &Key, flight: &Flight<Landed<T>>) -> Told<T> {
        match &*flight.outcome.borrow() {
            Some(landed) if landed.forgotten == Some(self.forgotten(key)) => {
                Told::Landed(landed.answer.clone())
            }
            None if self.is_under_way(key, flight) => Told::UnderWay,
            _ => Told::Forgotten,
        }
    }
}

/// What became of a flight.
pub(crate) enum Told<T> {
    UnderWay,
    Landed(T),
    /// Its token was forgotten since it set out.
    Forgotten,
}

impl<T> Flight<T> {
    /// Who asks.
    pub(crate) fn binding(&self) -> Binding {
        match self.purpose {
            Purpose::Shared(binding) | Purpose::Alone(binding) => binding,
            Purpose::Change => Binding::BEARER,
        }
    }
}

impl<T> Table<T> {
    /// The last flight of the same purpose.
    pub(crate) fn join(&self, key: &Key, purpose: Purpose) -> Option<Arc<Flight<T>>> {
        let mut places = self.flights.get(key)?.iter().rev();
        let place = places.find(|place| place.flight.purpose == purpose)?;
        Some(place.flight.clone())
    }

    /// Whether a flight is on the table.
    pub(crate) fn is_under_way(&self, key: &Key, flight: &Flight<T>) -> bool {
        let mut places = self.flights.get(key).into_iter().flatten();
        places.any(|place| std::ptr::eq(&*place.flight, flight))
    }

    /// A new flight, and the sender by which it lands.
    pub(crate) fn depart(
        &mut self,
        key: Key,
        purpose: Purpose,
        departed: Moment,
    ) -> (watch::Sender<Option<T>>, Arc<Flight<T>>) {
        let (sender, outcome) = watch::channel(None);
        let flight = Arc::new(Flight { purpose, departed, outcome });
        let place = Place { flight: flight.clone(), overtaken: false };
        self.flights.entry(key).or_default().push(place);
        (sender, flight)
    }

    /// Takes a flight off the table.
    pub(crate) fn land(&mut self, key: &Key, flight: &Arc<Flight<T>>) -> Standing {
        let Some(places) = self.flights.get_mut(key) else { return Standing::Forgotten };
        let mut landed = places.extract_if(.., |place| Arc::ptr_eq(&place.flight, flight));
        let standing = match landed.next() {
            None => Standing::Forgotten,
            Some(Place { overtaken: true, .. }) => Standing::Overtaken,
            Some(_) => Standing::Newest,
        };
        drop(landed);
        if places.is_empty() {
            self.flights.remove(key);
        }
        standing
    }

    /// What is told to who waits for a flight that lands.
    pub(crate) fn landed<A>(&self, key: &Key, standing: Standing, answer: A) -> Landed<A> {
        let told = standing != Standing::Forgotten;
        Landed { answer, forgotten: told.then(|| self.forgotten(key)) }
    }

    /// How often tokens of this one's lot were forgotten.
    pub(crate) fn forgotten(&self, key: &Key) -> u64 {
        self.epoch(shard(key))
    }

    /// How often tokens of a shard were invalidated.
    pub(crate) fn epoch(&self, shard: u16) -> u64 {
        self.forgotten[usize::from(shard)]
    }

    /// Nobody may go by what the token's flights will say, or have just said.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.forgotten[key.lot(LOTS)] += 1;
        self.flights.remove(key);
    }

    pub(crate) fn forget_all(&mut self) {
        self.forgotten.iter_mut().for_each(|times| *times += 1);
        self.flights.clear();
    }

    /// Something is learnt of a token while its flights are on their way: by a no to this binding, or
    /// in another way.
    pub(crate) fn overtake(&mut self, key: &Key, by_no_to: Option<Binding>) {
        let places = self.flights.get_mut(key).into_iter().flatten();
        places.for_each(|it| it.overtaken |= it.flight.purpose.is_overtaken(by_no_to));
    }
}
