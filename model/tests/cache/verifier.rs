//! The same as in `src/verifier.rs`, which asks an Authlete that knows nothing but how often a token was
//! changed. Whoever is told of a token checks that it is not from before what has been told or forgotten.

use std::{sync::Arc, time::SystemTime};

use loom::{
    future::block_on,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::sync::watch;

use crate::{
    NOW,
    cache::{Flight, Flights, Holder, Key, MemoryCache, Purpose, Table},
    key, memory,
    rejection::Rejection,
    token::TokenInfo,
};

const ATTEMPTS: usize = 4;

pub(crate) type Answer = Result<TokenInfo, Rejection>;

pub(crate) struct Verifier {
    pub(crate) key: Key,
    pub(crate) cache: Option<MemoryCache>,
    pub(crate) flights: Flights<Answer>,
    /// How often Authlete changed the token.
    changes: AtomicU64,
    /// Nobody who begins now may be told what was said before this many changes.
    least: AtomicU64,
    /// Nor may anybody who began before, since the token was forgotten after them.
    gone: AtomicU64,
}

impl Verifier {
    pub(crate) fn new() -> Arc<Self> {
        Self::with(Some(memory()))
    }

    pub(crate) fn with(cache: Option<MemoryCache>) -> Arc<Self> {
        let [changes, least, gone] = [(); 3].map(|()| AtomicU64::new(0));
        Arc::new(Self { key: key("token"), cache, flights: Flights::new(), changes, least, gone })
    }

    /// One that knows the token as it was first.
    pub(crate) fn warm() -> Arc<Self> {
        let verifier = Self::new();
        assert_eq!(verifier.look(), Ok(TokenInfo { said: 0 }));
        verifier
    }

    fn least(&self) -> u64 {
        self.least.load(Ordering::Acquire)
    }

    fn gone(&self, change: u64) {
        self.least.fetch_max(change, Ordering::AcqRel);
        self.gone.fetch_max(change, Ordering::AcqRel);
    }

    /// The newest, as Authlete itself.
    fn call(&self) -> Answer {
        Ok(TokenInfo { said: self.changes.fetch_add(0, Ordering::AcqRel) })
    }

    fn change_there(&self) -> u64 {
        self.changes.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn told(&self, answer: Answer, least: u64) -> Answer {
        if let Ok(TokenInfo { said }) = answer {
            assert!(said >= least, "told of {said}, after {least}");
            self.least.fetch_max(said, Ordering::AcqRel);
        }
        answer
    }

    pub(crate) fn look(self: &Arc<Self>) -> Answer {
        self.look_at(NOW)
    }

    pub(crate) fn look_at(self: &Arc<Self>, now: SystemTime) -> Answer {
        let least = self.least();
        match self.known(now) {
            Some(answer) => self.told(answer, least),
            None => self.ask(now, false),
        }
    }

    fn known(&self, now: SystemTime) -> Option<Answer> {
        self.cache.as_ref()?.get(&self.key, Holder::BEARER, now)
    }

    /// Flies by itself what it starts.
    pub(crate) fn ask(self: &Arc<Self>, now: SystemTime, fresh: bool) -> Answer {
        for _ in 0..ATTEMPTS {
            let least = self.least();
            let (boarding, forgotten) = self.board(now, fresh);
            let flight = match boarding {
                Boarding::Known(answer) => return self.told(answer, least),
                Boarding::Join(flight) => flight,
                Boarding::Start(flight, landing) => {
                    landing.fly();
                    flight
                }
            };
            let answer = block_on(flight.outcome()).unwrap_or(Err(Rejection));
            let least = self.gone.load(Ordering::Acquire);
            let (stale, now_forgotten) = {
                let flights = self.flights.lock();
                (flight.is_stale(), flights.forgotten(&self.key))
            };
            if !stale && forgotten == now_forgotten {
                return self.told(answer, least);
            }
        }
        Err(Rejection)
    }

    pub(crate) fn board(self: &Arc<Self>, now: SystemTime, fresh: bool) -> (Boarding, u64) {
        let mut flights = self.flights.lock();
        let forgotten = flights.forgotten(&self.key);
        (self.board_in(&mut flights, now, fresh), forgotten)
    }

    fn board_in(
        self: &Arc<Self>,
        flights: &mut Table<Answer>,
        now: SystemTime,
        fresh: bool,
    ) -> Boarding {
        if fresh || self.cache.is_none() {
            return self.start(flights, now, Purpose::Alone);
        }
        if let Some(answer) = self.known(now) {
            return Boarding::Known(answer);
        }
        match flights.join(&self.key, Purpose::SHARED) {
            Some(flight) => Boarding::Join(flight),
            None => self.start(flights, now, Purpose::SHARED),
        }
    }

    fn start(
        self: &Arc<Self>,
        flights: &mut Table<Answer>,
        now: SystemTime,
        purpose: Purpose,
    ) -> Boarding {
        let (sender, flight) = flights.depart(self.key, purpose);
        let (verifier, flying) = (self.clone(), flight.clone());
        Boarding::Start(flight, Landing { verifier, flight: flying, sender, now })
    }

    /// Changes the token at Authlete, and forgets it.
    pub(crate) fn revoke(&self) {
        let change = self.change_there();
        self.replace();
        self.gone(change);
    }

    fn replace(&self) {
        let mut flights = self.flights.lock();
        flights.forget(&self.key);
        let Some(cache) = &self.cache else { return };
        cache.remove(&self.key);
    }

    /// Changes the token at Authlete, and forgets all.
    pub(crate) fn revoke_all(&self) {
        let change = self.change_there();
        self.forget_all();
        self.gone(change);
    }

    fn forget_all(&self) {
        let mut flights = self.flights.lock();
        flights.forget_all();
        if let Some(cache) = &self.cache {
            cache.remove_all();
        }
    }

    /// Changes the token at Authlete, and here.
    pub(crate) fn update(&self) {
        let change = self.depart(&mut self.flights.lock());
        let said = self.change_there();
        self.write_through(&change, said);
        self.gone(said);
    }

    fn depart(&self, flights: &mut Table<Answer>) -> Change<'_> {
        let (_, flight) = flights.depart(self.key, Purpose::Change);
        Change { verifier: self, flight }
    }

    fn write_through(&self, change: &Change<'_>, said: u64) {
        let mut flights = self.flights.lock();
        let newest = flights.land(&self.key, &change.flight);
        flights.forget(&self.key);
        let Some(cache) = &self.cache else { return };
        cache.update(&self.key, self.key, NOW, |_, _| newest.then_some(TokenInfo { said }));
    }
}

pub(crate) struct Change<'v> {
    verifier: &'v Verifier,
    flight: Arc<Flight<Answer>>,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.verifier.flights.lock().land(&self.verifier.key, &self.flight);
    }
}

pub(crate) enum Boarding {
    Known(Answer),
    Join(Arc<Flight<Answer>>),
    Start(Arc<Flight<Answer>>, Landing),
}

/// If it is dropped, the call broke off.
pub(crate) struct Landing {
    verifier: Arc<Verifier>,
    flight: Arc<Flight<Answer>>,
    sender: watch::Sender<Option<Answer>>,
    now: SystemTime,
}

impl Landing {
    pub(crate) fn fly(self) {
        let answer = self.verifier.call();
        self.land(answer);
    }

    /// The same, and changes the token when it is answered.
    pub(crate) fn fly_and_extend(self) -> u64 {
        let _answer = self.verifier.call();
        let said = self.verifier.change_there();
        self.verifier.flights.lock().forget_others(&self.verifier.key, &self.flight);
        self.land(Ok(TokenInfo { said }));
        said
    }

    fn land(&self, answer: Answer) {
        self.land_in(&mut self.verifier.flights.lock(), &answer);
        self.sender.send_replace(Some(answer));
    }

    fn land_in(&self, flights: &mut Table<Answer>, answer: &Answer) {
        let current = flights.land(&self.verifier.key, &self.flight);
        if let Some(cache) = self.verifier.cache.as_ref().filter(|_| current) {
            flights.forget_changes(&self.verifier.key);
            cache.put(self.verifier.key, Holder::BEARER, answer, self.now);
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.verifier.flights.lock().land(&self.verifier.key, &self.flight);
    }
}
