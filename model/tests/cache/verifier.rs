//! The verifier's own protocol, of its sources as they are, around an Authlete that knows nothing but how
//! often a token was changed. Whoever is told of the token checks that it is not from before what has
//! been told or forgotten.

use std::{future::Future, pin::pin, sync::Arc, task::Poll};

use loom::{
    future::block_on,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::sync::Semaphore;

use crate::{
    NOW, TOKEN,
    api::{Authlete, TokenRevokeRequest, TokenUpdateRequest},
    cache::{Flights, Holder, Key, KeySpace, Landed, MemoryCache},
    clock::Clock,
    find, key, memory,
    refresh::Extender,
    rejection::{Guard, Rejection},
    resilience::Caller,
    rotate::Rotator,
    token::TokenInfo,
    verdict,
};

#[path = "../../../src/verifier/boarding.rs"]
mod boarding;
#[path = "../../../src/verifier/changes.rs"]
#[allow(dead_code, unused_variables)]
mod changes;
#[path = "../../../src/verifier/landing.rs"]
mod landing;

use self::boarding::Boarding;

pub(crate) type Answer = verdict::Answer;

type Asked = Landed<Answer>;

/// What the sources take from `src/verifier.rs`.
pub(crate) struct Verifier {
    authlete: Authlete,
    pub(crate) clock: Clock,
    cache: Option<MemoryCache>,
    guard: Guard,
    caller: Caller,
    pub(crate) flights: Flights<Asked>,
    room: Arc<Semaphore>,
    extender: Option<Extender>,
    rotator: Option<Rotator>,
    pairs: Pairs,
    endings: AtomicU64,
    refresh_keys: KeySpace,
    key: Key,
    /// Nobody who begins now may be told what was said before this many changes.
    least: AtomicU64,
    /// Nor may anybody who began before, since the token was forgotten after them.
    gone: AtomicU64,
}

#[derive(Clone)]
pub(crate) struct Presented {
    key: Key,
    holder: Holder,
}

impl Presented {
    fn bearer(key: Key, _: &str) -> Self {
        Self { key, holder: Holder::BEARER }
    }

    fn sent_by<F>(&self, _: &F) {}

    fn has_proof(&self) -> bool {
        false
    }

    fn token(&self) -> &str {
        TOKEN
    }
}

/// Nobody comes with a refresh token.
struct Pairs;

impl Pairs {
    fn remember(&self, _: Key, _: Key) {}

    fn renew(&self, _: &Key, _: Key) {}

    fn take(&self, _: &Key) -> Option<Key> {
        None
    }
}

/// Not looked at by what is checked.
#[derive(Clone, Copy)]
pub(crate) struct Freshness;

#[allow(dead_code)]
pub(crate) struct Recheck {
    verifier: Arc<Verifier>,
    presented: Presented,
    freshness: Freshness,
}

impl Verifier {
    fn crowded(&self) -> Rejection {
        verdict::unknown()
    }

    pub(crate) fn new() -> Arc<Self> {
        Self::with(Some(memory()), None)
    }

    /// One that keeps nothing.
    pub(crate) fn forgetful() -> Arc<Self> {
        Self::with(None, None)
    }

    /// One that extends the token once.
    pub(crate) fn extending(waits: bool) -> Arc<Self> {
        Self::with(Some(memory()), Some(Extender::new(waits)))
    }

    fn with(cache: Option<MemoryCache>, extender: Option<Extender>) -> Arc<Self> {
        Arc::new(Self {
            authlete: Authlete::new(),
            clock: Clock::new(NOW),
            cache,
            guard: Guard,
            caller: Caller,
            flights: Flights::new(),
            room: Arc::new(Semaphore),
            extender,
            rotator: None,
            pairs: Pairs,
            endings: AtomicU64::new(0),
            refresh_keys: KeySpace::new(&[0; 32], "introspection", "refresh"),
            key: key(TOKEN),
            least: AtomicU64::new(0),
            gone: AtomicU64::new(0),
        })
    }

    /// One that knows the token as it was first.
    pub(crate) fn warm() -> Arc<Self> {
        let verifier = Self::new();
        assert_eq!(verifier.look(), Ok(TokenInfo { said: 0 }));
        verifier
    }

    pub(crate) fn key(&self, _: &str) -> Key {
        self.key
    }

    fn known(&self, key: &Key, holder: Holder, now: std::time::SystemTime) -> Option<Answer> {
        self.cache.as_ref()?.get(key, holder, now)
    }

    async fn call(&self, _: &Presented) -> Answer {
        self.authlete.introspection()
    }

    pub(crate) fn presented(&self) -> Presented {
        Presented::bearer(self.key, TOKEN)
    }

    fn told(&self, answer: Answer, least: u64) -> Answer {
        // What is not known is no news.
        let said = match answer {
            Err(Rejection::Unknown) => return answer,
            Err(Rejection::Bad) => u64::MAX,
            Ok(TokenInfo { said }) => said,
        };
        assert!(said >= least, "told of {said}, after {least}");
        self.least.fetch_max(said, Ordering::AcqRel);
        answer
    }

    fn gone(&self, change: u64) {
        self.least.fetch_max(change, Ordering::AcqRel);
        self.gone.fetch_max(change, Ordering::AcqRel);
    }

    /// As a request does.
    pub(crate) fn look(self: &Arc<Self>) -> Answer {
        let least = self.least.load(Ordering::Acquire);
        let known = self.cache.as_ref().and_then(|it| find(it, TOKEN, self.clock.now()));
        match known {
            Some(answer) => self.told(answer, least),
            None => self.ask(false),
        }
    }

    pub(crate) fn ask(self: &Arc<Self>, fresh: bool) -> Answer {
        let least = self.least.load(Ordering::Acquire);
        self.told(block_on(self.ask_now(&self.presented(), fresh)), least)
    }

    /// The same, with a certificate.
    pub(crate) fn ask_with_certificate(self: &Arc<Self>) -> Answer {
        let least = self.least.load(Ordering::Acquire);
        let holder = Holder { certificate: Some([1; 32]), ..Holder::BEARER };
        let presented = Presented { holder, ..self.presented() };
        self.told(block_on(self.ask_now(&presented, false)), least)
    }

    /// The same, by one that is polled at once when its flight has landed. What is forgotten before
    /// it looks at the answer must not be told.
    pub(crate) fn ask_awake(self: &Arc<Self>, fresh: bool) -> Answer {
        let least = self.least.load(Ordering::Acquire);
        let flight = match self.board(&self.presented(), fresh) {
            Boarding::Known(answer) => return self.told(answer, least),
            Boarding::Join(flight) => flight,
            Boarding::Start(flight, landing) => {
                tokio::spawn(landing.fly(self.presented()));
                flight
            }
            Boarding::Full => unreachable!(),
        };
        block_on(flight.outcome());
        let least = self.gone.load(Ordering::Acquire);
        let unknown = Err(verdict::unknown());
        match block_on(self.flights.answer(&self.key, &flight, unknown)) {
            Some(answer) => self.told(answer, least),
            None => self.ask(fresh),
        }
    }

    /// Starts a call, if there is none, that breaks off.
    pub(crate) fn break_off(self: &Arc<Self>) {
        drop(self.board(&self.presented(), false));
    }

    /// Starts a call, if there is none, or waits for it, and goes away.
    pub(crate) fn go_away(self: &Arc<Self>) {
        let flight = match self.board(&self.presented(), false) {
            Boarding::Join(flight) => flight,
            Boarding::Start(flight, landing) => {
                let presented = self.presented();
                loom::thread::spawn(move || tokio::spawn(landing.fly(presented)));
                flight
            }
            _ => return,
        };
        let waker = std::task::Waker::noop();
        let _ = pin!(flight.outcome()).poll(&mut std::task::Context::from_waker(waker));
    }

    /// Somebody else changes it at Authlete, and nothing is said of it here.
    pub(crate) fn change_elsewhere(&self) {
        self.authlete.change();
    }

    pub(crate) fn end_elsewhere(&self) {
        at_once(self.authlete.token_revoke(&TokenRevokeRequest::new())).unwrap();
    }

    /// How often Authlete was asked.
    pub(crate) fn calls(&self) -> u64 {
        self.authlete.calls()
    }

    /// Somebody else changes it, and then it is forgotten.
    pub(crate) fn change_and_forget(&self) {
        let change = self.authlete.change();
        self.forget(TOKEN);
        self.gone(change);
    }

    /// The same, and then all is forgotten.
    pub(crate) fn change_and_forget_all(&self) {
        let change = self.authlete.change();
        self.forget_all();
        self.gone(change);
    }

    /// Ends it, by this.
    pub(crate) fn end(&self) {
        at_once(self.revoke(TOKEN)).unwrap();
        self.gone(u64::MAX);
    }

    /// Changes it, by this.
    pub(crate) fn change_it(&self) {
        let response = at_once(self.update(TOKEN, TokenUpdateRequest::new()));
        self.gone(response.unwrap().said);
    }
}

/// Of what waits for nothing.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let waker = std::task::Waker::noop();
    match pin!(future).poll(&mut std::task::Context::from_waker(waker)) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}
