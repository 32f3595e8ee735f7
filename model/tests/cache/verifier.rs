//! The verifier's own protocol, of its sources as they are, around an Authlete that knows nothing but one
//! token. Whoever is told of the token checks that it is not from before what has been told or forgotten.

use core::{
    cell::Cell,
    sync::atomic::{AtomicBool, AtomicU64 as Counter, Ordering},
};
use std::{
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Extensions, HeaderMap, HeaderName};
use loom::{
    future::block_on,
    sync::atomic::AtomicU64,
    thread::{self, JoinHandle},
};
use moka::sync::Cache;
use tokio::sync::Semaphore;
use tower_authlete_model::Register;

use crate::{
    AGE, TOKEN,
    api::{Authlete, Secret, Token, TokenRevokeRequest, TokenUpdateRequest},
    at_once,
    cache::{Flight, Flights, Binding, Key, KeySpace, Landed, MemoryCache},
    clock::{CENTURY, Clock, Moment},
    find,
    lifecycle::{
        Extender, Lineages, PendingExtension, PendingRotation, Refresh, Rotation, Rotator,
        Successor,
    },
    memory,
    observe::LogLimit,
    rejection::{Guard, Rejection},
    resilience::{ResilientClient, Deadline},
    token::{Facts, TokenInfo},
    verdict,
};

#[path = "../../../src/verifier/boarding.rs"]
mod boarding;
#[path = "../../../src/verifier/changes.rs"]
#[allow(dead_code)]
mod changes;
#[path = "../../../src/verifier/landing.rs"]
mod landing;

use self::boarding::Boarding;
pub(crate) use self::changes::Change;

pub(crate) type Verdict = verdict::Verdict;

pub(crate) type Asked = Landed<Verdict>;

/// What the sources take from `src/verifier.rs`.
pub(crate) struct Verifier {
    pub(crate) authlete: Authlete,
    pub(crate) clock: Clock,
    cache: Option<MemoryCache>,
    pub(crate) log: LogLimit,
    guard: Guard,
    pub(crate) caller: ResilientClient,
    pub(crate) flights: Flights<Asked>,
    room: Arc<Semaphore>,
    pub(crate) extender: Option<Extender>,
    pub(crate) lineages: Lineages,
    pub(crate) rotator: Option<Arc<Rotator>>,
    pairs: Cache<Key, Key>,
    endings: AtomicU64,
    keys: KeySpace,
    refresh_keys: KeySpace,
    /// Somebody has begun to change, end or forget the token.
    disturbed: Flag,
    /// Nobody had when a request looked how often tokens were forgotten.
    undisturbed: Flag,
    /// Nobody who begins now may be told what was said before this.
    least: Register<Facts>,
    /// Nor may anybody who began before, since the token was forgotten after them.
    gone: Arc<Register<Facts>>,
}

/// Not loom's: it tells in which order things happened.
#[derive(Default)]
struct Flag(AtomicBool);

impl Flag {
    fn set(&self, to: bool) {
        self.0.store(to, Ordering::SeqCst);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
pub(crate) struct Presented {
    pub(crate) key: Key,
    binding: Binding,
    token: Secret,
}

impl Presented {
    fn with_value(&self, key: Key, token: &Secret) -> Self {
        Self { key, token: token.clone(), ..*self }
    }

    fn sent_by<F>(&self, _: &F) {}

    fn has_proof(&self) -> bool {
        false
    }

    pub(crate) fn is_sent(&self) -> bool {
        false
    }

    pub(crate) fn token(&self) -> &str {
        self.token.expose()
    }
}

/// What is known of a token, and by what.
pub(crate) struct Resolved {
    answer: Verdict,
    call: Option<Arc<Flight<Asked>>>,
}

impl Resolved {
    fn known(answer: Verdict) -> Self {
        Self { answer, call: None }
    }

    fn by(call: &Arc<Flight<Asked>>, answer: Verdict) -> Self {
        Self { answer, call: Some(call.clone()) }
    }
}

impl Verifier {
    pub(crate) fn overloaded(&self) -> Rejection {
        verdict::unknown()
    }

    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::keeping(Some(memory())))
    }

    /// One that keeps nothing.
    pub(crate) fn forgetful() -> Arc<Self> {
        Arc::new(Self::keeping(None))
    }

    /// One that extends the token, which is about to expire.
    pub(crate) fn extending() -> Arc<Self> {
        let (when_below, to) = (4 * AGE, 10 * AGE);
        let refresh = Refresh::extend().when_below(when_below).to(to);
        let extender = Some(Extender::new(refresh, LogLimit::default()));
        Arc::new(Self { extender, ..Self::keeping(Some(memory())) })
    }

    /// One that knows the token, and gives it another value when it is used. The old one is accepted for
    /// some time. If it is impatient, it waits for no rotation when it ends the token.
    pub(crate) fn rotating(impatient: bool) -> Arc<Self> {
        let every = Duration::from_secs(2);
        let header = HeaderName::from_static("x-new-token");
        let rotation = Rotation::in_header(header).every(every).overlap(every / 2);
        let rotator = Rotator::new(rotation);
        let mut verifier = Self::keeping(Some(memory()));
        verifier.caller.impatient = impatient;
        rotator.see(&verifier.key(TOKEN), verifier.clock.moment());
        verifier.clock.advance(every);
        verifier.rotator = Some(Arc::new(rotator));
        Arc::new(verifier).warmed()
    }

    fn keeping(cache: Option<MemoryCache>) -> Self {
        let gone = Arc::new(Register::new(Facts::default()));
        let clock = Clock::frozen(SystemTime::UNIX_EPOCH);
        // Touched before other threads are made.
        clock.moment();
        Self {
            authlete: Authlete::new(SystemTime::UNIX_EPOCH + 3 * AGE),
            clock,
            cache,
            log: LogLimit::default(),
            guard: Guard,
            caller: ResilientClient::new(gone.clone()),
            flights: Flights::new(),
            room: Arc::new(Semaphore),
            extender: None,
            lineages: Lineages::new(CENTURY),
            rotator: None,
            pairs: Cache::builder(),
            endings: AtomicU64::new(0),
            keys: KeySpace::new(&[0; 32], "introspection", "access"),
            refresh_keys: KeySpace::new(&[0; 32], "introspection", "refresh"),
            disturbed: Flag::default(),
            undisturbed: Flag::default(),
            least: Register::new(Facts::default()),
            gone,
        }
    }

    /// One that knows the token as it was first.
    pub(crate) fn warm() -> Arc<Self> {
        Self::new().warmed()
    }

    pub(crate) fn warmed(self: Arc<Self>) -> Arc<Self> {
        assert_eq!(self.look().unwrap().facts, Facts::default());
        self
    }

    pub(crate) fn key(&self, token: &str) -> Key {
        self.keys.key(token)
    }

    fn known(&self, key: &Key, binding: Binding) -> Option<Verdict> {
        self.cache.as_ref()?.get(key, binding, self.clock.moment())
    }

    pub(crate) fn known_by_newest_value(&self, presented: &Presented) -> Option<Verdict> {
        self.known(&self.lineages.newest(&presented.key), presented.binding)
    }

    pub(crate) fn has_other_value(&self, key: &Key) -> bool {
        let renews = |rotator: &Arc<Rotator>| rotator.is_renewing(key);
        self.lineages.newest(key) != *key || self.rotator.as_ref().is_some_and(renews)
    }

    pub(crate) fn is_recent(&self, _: &Flight<Asked>, _: Moment) -> bool {
        true
    }

    pub(crate) async fn look_again(self: &Arc<Self>, presented: &Arc<Presented>) -> Verdict {
        self.ask_now(presented, false).await.answer
    }

    pub(crate) fn epoch(&self, shard: u16) -> u64 {
        let epoch = self.flights.lock().epoch(shard);
        self.undisturbed.set(!self.disturbed.get());
        epoch
    }

    fn look_up(&self, token: &str) -> Option<Verdict> {
        let (cache, key) = (self.cache.as_ref()?, self.key(token));
        let known = find(cache, token, self.clock.moment());
        let successor = match &known {
            Some(Ok(_)) => None,
            _ => self.successor(&key, Binding::BEARER),
        };
        let Some(successor) = successor else { return known };
        self.known(&successor.key, Binding::BEARER).filter(Result::is_ok)
    }

    fn successor(&self, key: &Key, binding: Binding) -> Option<Arc<Successor>> {
        let rotator = self.rotator.as_ref().filter(|_| binding.key.is_none())?;
        rotator.overlapping(key, self.clock.moment())
    }

    fn by_current_value(&self, presented: &Arc<Presented>) -> Arc<Presented> {
        match self.successor(&presented.key, presented.binding) {
            Some(successor) => Arc::new(presented.with_value(successor.key, &successor.value)),
            None => presented.clone(),
        }
    }

    pub(crate) fn ask_in_background(
        self: &Arc<Self>,
        presented: &Arc<Presented>,
    ) -> Option<Arc<Flight<Asked>>> {
        let Presented { key, binding, .. } = **presented;
        let boarding = self.join(&mut self.flights.lock(), key, binding);
        match boarding {
            Boarding::Join(flight) => Some(flight),
            Boarding::Start(flight, landing) => {
                tokio::spawn(landing.fly(presented.clone()));
                Some(flight)
            }
            Boarding::Known(_) | Boarding::Full => None,
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        false
    }

    async fn call(&self, presented: &Presented) -> Verdict {
        self.authlete.introspection(presented.token())
    }

    fn presented(&self, token: &str) -> Arc<Presented> {
        let (key, binding) = (self.key(token), Binding::BEARER);
        Arc::new(Presented { key, binding, token: token.into() })
    }
}

/// What the explorations do.
impl Verifier {
    fn told(&self, answer: Verdict, least: Facts) -> Verdict {
        let facts = match answer {
            // What is not known is no news.
            Err(Rejection::Unknown) => return answer,
            // The token has got another value.
            Err(Rejection::Bad) if self.token().value() != TOKEN => return answer,
            Err(Rejection::Bad) => Facts::END,
            Ok(TokenInfo { facts, .. }) => facts,
        };
        // An answer that was on its way may tell of less of the token's life.
        let least = Facts { extended: least.extended.min(facts.extended), ..least };
        assert!(facts.are_after(least), "told of {facts:?}, after {least:?}");
        self.least.change(|it| it.raise(facts));
        answer
    }

    /// Tells what is kept.
    fn kept(&self, answer: Verdict, least: Facts) -> Verdict {
        let extended = answer.map_or(u64::MAX, |token| token.facts.extended);
        assert!(extended >= least.extended, "told of {answer:?}, after {least:?}");
        self.told(answer, least)
    }

    fn gone(&self, facts: Facts) {
        self.least.change(|it| it.raise(facts));
        self.gone.change(|it| it.raise(facts));
    }

    /// As a request does.
    pub(crate) fn look(self: &Arc<Self>) -> Verdict {
        self.look_at(TOKEN)
    }

    /// The same with another value.
    pub(crate) fn look_at(self: &Arc<Self>, value: &str) -> Verdict {
        let least = self.least.get();
        match self.look_up(value) {
            Some(answer) => self.kept(answer, least),
            None => self.ask_for(value, false),
        }
    }

    pub(crate) fn ask(self: &Arc<Self>, fresh: bool) -> Verdict {
        self.ask_for(TOKEN, fresh)
    }

    fn ask_for(self: &Arc<Self>, value: &str, fresh: bool) -> Verdict {
        let least = self.least.get();
        self.told(block_on(self.ask_now(&self.presented(value), fresh)).answer, least)
    }

    /// The same, with a certificate.
    pub(crate) fn ask_with_certificate(self: &Arc<Self>) -> Verdict {
        let least = self.least.get();
        let binding = Binding { certificate: Some([1; 32]), ..Binding::BEARER };
        let presented = Arc::new(Presented { binding, ..(*self.presented(TOKEN)).clone() });
        self.told(block_on(self.ask_now(&presented, false)).answer, least)
    }

    /// The same, by one that is polled at once when its flight has landed. What is forgotten before
    /// it looks at the answer must not be told.
    pub(crate) fn ask_awake(self: &Arc<Self>, fresh: bool) -> Verdict {
        let least = self.least.get();
        let presented = self.presented(TOKEN);
        let flight = match self.board(&presented, fresh) {
            Boarding::Known(answer) => return self.told(answer, least),
            Boarding::Join(flight) => flight,
            Boarding::Start(flight, landing) => {
                tokio::spawn(landing.fly(presented.clone()));
                flight
            }
            Boarding::Full => unreachable!(),
        };
        block_on(flight.outcome());
        let least = self.gone.get();
        let unknown = Err(verdict::unknown());
        match block_on(self.flights.answer(&presented.key, &flight, unknown)) {
            Some(answer) => self.told(answer, least),
            None => self.ask(fresh),
        }
    }

    /// Starts a call, if there is none, that breaks off.
    pub(crate) fn break_off(self: &Arc<Self>) {
        drop(self.board(&self.presented(TOKEN), false));
    }

    /// Starts a call, if there is none, or waits for it, and goes away.
    pub(crate) fn go_away(self: &Arc<Self>) {
        let presented = self.presented(TOKEN);
        let flight = match self.board(&presented, false) {
            Boarding::Join(flight) => flight,
            Boarding::Start(flight, landing) => {
                thread::spawn(move || tokio::spawn(landing.fly(presented)));
                flight
            }
            _ => return,
        };
        let _ = at_once(pin!(flight.outcome()));
    }

    /// Extends the token, as a request does that is admitted by what it was told and waits for it. The
    /// introspection that the extension follows knows what was changed before that was sent. What was
    /// changed while it waited is known to it.
    pub(crate) fn extend(self: &Arc<Self>, fresh: bool) -> Verdict {
        let (least, presented) = (self.least.get(), self.presented(TOKEN));
        let known = self.look_up(TOKEN).filter(|_| !fresh).map(Resolved::known);
        let resolved = known.unwrap_or_else(|| block_on(self.ask_now(&presented, fresh)));
        let (answer, call) = (self.told(resolved.answer, least), resolved.call);
        let Ok(token) = answer else { return answer };
        let (extender, now) = (self.extender.as_ref().unwrap(), self.clock.moment());
        if !extender.is_due(&presented.key, &token, &self.lineages, now) {
            return answer;
        }
        let meanwhile = Rc::new(Cell::new(least));
        let deadline = {
            let (verifier, meanwhile) = (self.clone(), meanwhile.clone());
            Deadline::then(move || {
                if verifier.undisturbed.get() {
                    meanwhile.set(verifier.gone.get());
                }
            })
        };
        // What the introspection knew, unless another request leads.
        let knew = Arc::new(Counter::new(u64::MAX));
        let admits = {
            let knew = knew.clone();
            move |token: TokenInfo| {
                knew.store(token.facts.updated, Ordering::SeqCst);
                true
            }
        };
        let extension = PendingExtension::new(self, &presented, call, Box::new(admits));
        let answer = self.told(block_on(extension.wait(token, deadline)), meanwhile.get());
        if answer.is_ok_and(|it| it.facts.extended > token.facts.extended) {
            let (knew, gone) = (knew.load(Ordering::SeqCst), self.caller.attempted());
            assert!(knew >= gone, "extended by what was told of {knew}, after {gone}");
        }
        answer
    }

    /// Gives the token a new value, as a request does that is answered with success.
    pub(crate) fn rotate(self: &Arc<Self>) -> Option<String> {
        let pending = PendingRotation::due(self, self.key(TOKEN), TOKEN, &Extensions::new())?;
        let value = block_on(pending.start())?;
        let mut headers = HeaderMap::new();
        value.tell(&mut headers);
        Some(headers["x-new-token"].to_str().unwrap().to_owned())
    }

    /// Whether the first value stands for another one.
    pub(crate) fn overlaps(&self) -> bool {
        self.successor(&self.key(TOKEN), Binding::BEARER).is_some()
    }

    /// Somebody else changes it at Authlete, and nothing is said of it here.
    pub(crate) fn change_elsewhere(&self) {
        self.authlete.change();
    }

    pub(crate) fn end_elsewhere(&self) {
        let request = TokenRevokeRequest::new().access_token_identifier(TOKEN);
        block_on(self.authlete.token_revoke(&request)).unwrap();
    }

    /// The next extension is made twice: it fails at first.
    pub(crate) fn failing(self: Arc<Self>) -> Arc<Self> {
        self.authlete.fails.store(true, core::sync::atomic::Ordering::SeqCst);
        self
    }

    /// What has become of the token at Authlete.
    pub(crate) fn token(&self) -> Token {
        self.authlete.token()
    }

    /// Somebody else changes it, and then it is forgotten.
    pub(crate) fn change_and_forget(&self) {
        self.change_and(|| self.forget(TOKEN));
    }

    /// The same, and then all is forgotten.
    pub(crate) fn change_and_forget_all(&self) {
        self.change_and(|| self.forget_all());
    }

    /// Somebody else changes it, and then this is done.
    pub(crate) fn change_and(&self, forget: impl FnOnce()) {
        let change = self.authlete.change();
        self.disturbed.set(true);
        forget();
        self.gone(Facts { updated: change, asked: change, extended: 0 });
    }

    /// Ends it, by this value. Tells how many tokens that were.
    pub(crate) fn end(&self, value: &str) -> u64 {
        self.disturbed.set(true);
        let ended = block_on(self.revoke(value)).unwrap();
        self.gone(Facts::END);
        ended
    }

    /// Changes it, by this.
    pub(crate) fn change_it(&self) {
        self.change_by(TokenUpdateRequest::new());
    }

    /// Changes it, and its value.
    pub(crate) fn change_value(&self) {
        self.change_by(TokenUpdateRequest::new().access_token_value_updated(true));
    }

    fn change_by(&self, request: TokenUpdateRequest) {
        self.disturbed.set(true);
        let response = block_on(self.update(TOKEN, request)).unwrap();
        self.gone(response.updated);
    }
}

pub(crate) fn beside<T: 'static>(
    verifier: &Arc<Verifier>,
    run: impl FnOnce(Arc<Verifier>) -> T + 'static,
) -> JoinHandle<T> {
    let verifier = verifier.clone();
    thread::spawn(move || run(verifier))
}

pub(crate) fn looks(verifier: &Arc<Verifier>) -> JoinHandle<Verdict> {
    beside(verifier, |verifier| verifier.look())
}

/// It learnt something.
pub(crate) fn learns(other: JoinHandle<Verdict>) {
    assert!(other.join().unwrap().is_ok());
}
