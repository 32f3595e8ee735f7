//! Who is it? Tells what is known of a token, and asks Authlete what is not known: once, however
//! many want to know.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use http::HeaderValue;
use moka::sync::Cache;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use crate::{
    api::{
        Authlete, Error, IntrospectionAction, IntrospectionRequest, IntrospectionResponse, Secret,
        TokenUpdateRequest,
    },
    cache::{Flights, Holder, Key, KeySpace, Known, MemoryCache, Purpose, Table},
    clock::{Clock, millis},
    future::Asking,
    meter,
    refresh::{Extender, Refresh},
    rejection::{Guard, Reason, Rejection},
    resilience::{Caller, Health, Patience},
    rotate::{Rotation, Rotator},
    token::TokenInfo,
    verdict::{self, Answer},
};
#[cfg(feature = "dpop")]
use crate::{
    proof::{ProofFor, Prover},
    service::Sent,
};

mod changes;
mod landing;

use self::{
    changes::Change,
    landing::{Boarding, Landing},
};

/// Who keeps forgetting a token faster than Authlete answers gets no answer.
const ATTEMPTS: usize = 4;

/// Of how many refresh tokens it is remembered which access token they came with.
const MAX_PAIRS: u64 = 100_000;

/// By which API a token is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Check {
    /// `/auth/introspection`, which tells all facts.
    #[default]
    Introspection,
    /// `/auth/token/update` with nothing to change, for services that may only use the token
    /// management APIs. It tells expiry, scopes, properties, authorization details and token type,
    /// but no subject, client, audience or authentication: requirements of those are never met.
    ///
    /// **It cannot tell that a token is bound to a client certificate** (RFC 8705): such a token
    /// passes without its certificate. Choose it only if your service issues no such tokens. Tokens
    /// of another type than Bearer are refused.
    Update,
}

pub(crate) struct Verifier {
    pub(crate) authlete: Authlete,
    pub(crate) check: Check,
    pub(crate) clock: Clock,
    pub(crate) cache: Option<MemoryCache>,
    /// Goes into what is known of tokens.
    pub(crate) guard: Guard,
    keys: KeySpace,
    refresh_keys: KeySpace,
    flights: Flights<Answer>,
    room: Arc<Semaphore>,
    caller: Caller,
    extender: Option<Extender>,
    pub(crate) rotator: Option<Arc<Rotator>>,
    /// Which access token was issued with a refresh token.
    issued_with: Cache<Key, Key>,
    clocks_differ: AtomicBool,
    /// The nonce for DPoP proofs that Authlete told last.
    nonce: RwLock<Option<HeaderValue>>,
}

impl Verifier {
    pub(crate) fn new(
        authlete: Authlete,
        check: Check,
        guard: Guard,
        cache: Option<MemoryCache>,
        refresh: Option<Refresh>,
        rotation: Option<Rotation>,
        patience: Patience,
    ) -> Self {
        let api = match check {
            Check::Introspection => "introspection",
            Check::Update => "update",
        };
        let keys = KeySpace::new(&authlete.identity(), api, "access");
        let refresh_keys = KeySpace::new(&authlete.identity(), api, "refresh");
        let (flights, clocks_differ) = (Flights::new(), AtomicBool::new(false));
        // They outlive clients that go away.
        let room = Arc::new(Semaphore::new(patience.max_in_flight + patience.max_waiting));
        let caller = Caller::new(patience);
        let extender = refresh.map(Extender::new);
        let rotator = rotation.map(|rotation| Arc::new(Rotator::new(rotation)));
        let issued_with = Cache::new(MAX_PAIRS);
        Self {
            authlete,
            check,
            clock: guard.clock().clone(),
            guard,
            cache,
            keys,
            refresh_keys,
            flights,
            room,
            caller,
            extender,
            rotator,
            issued_with,
            clocks_differ,
            nonce: RwLock::default(),
        }
    }

    /// The key of an access token.
    pub(crate) fn key(&self, token: &str) -> Key {
        self.keys.key(token)
    }

    /// The key of an access token that is in use, and what is known of it already.
    pub(crate) fn look_up(
        &self,
        token: &str,
        holder: Holder,
        now: SystemTime,
    ) -> (Key, Option<Known>) {
        let Some(cache) = &self.cache else { return (self.key(token), None) };
        let tag = cache.tag(token);
        let (key, known) = match cache.at_hand(tag, holder, now) {
            Some((key, known)) => (key, Some(known)),
            None => {
                let key = self.key(token);
                let known = cache.find(tag, &key, holder, now);
                (key, known)
            }
        };
        let overlapping = self.overlapping(&key, holder, now);
        (key, overlapping.map(|answer| Known { answer, ends: u64::MAX }).or(known))
    }

    /// What is known already.
    fn known(&self, key: &Key, holder: Holder, now: SystemTime) -> Option<Answer> {
        let overlapping = self.overlapping(key, holder, now);
        overlapping.or_else(|| self.cache.as_ref()?.get(key, holder, now))
    }

    /// What is known of the value that a token has got so little time ago that this one is still
    /// accepted.
    fn overlapping(&self, key: &Key, holder: Holder, now: SystemTime) -> Option<Answer> {
        let successor = self.rotator.as_ref()?.overlapping(key, now)?;
        self.cache.as_ref()?.get(&successor, holder, now).filter(Result::is_ok)
    }

    /// Asks Authlete, or waits for the answer to someone else who asks. With `fresh`, neither what
    /// is known nor what others asked is good enough.
    pub(crate) async fn ask(self: Arc<Self>, presented: Presented, fresh: bool) -> Answer {
        let Presented { key, holder, .. } = presented;
        if fresh {
            return self.ask_now(presented, true).await;
        }
        // In an outage nobody waits who can do without.
        if self.caller.record.is_down(self.clock.now())
            && let Some(stale) = self.stale(&key, holder)
        {
            self.ask_in_background(presented);
            return Ok(stale);
        }
        let answer = self.clone().ask_now(presented, false).await;
        match answer {
            Err(rejection) if rejection.reason() == Reason::Unavailable => {
                self.stale(&key, holder).ok_or(rejection)
            }
            answer => answer,
        }
    }

    /// What may be used though Authlete should have been asked again.
    fn stale(&self, key: &Key, holder: Holder) -> Option<TokenInfo> {
        let cache = self.cache.as_ref()?;
        let stale = cache.stale(key, holder, self.clock.now()).filter(TokenInfo::is_complete)?;
        meter::stale();
        Some(stale)
    }

    async fn ask_now(self: Arc<Self>, presented: Presented, fresh: bool) -> Answer {
        let mut fresh = fresh;
        let deadline = Instant::now() + self.caller.patience.deadline;
        for attempt in 0..ATTEMPTS {
            let mut joined = false;
            let (boarding, forgotten) = self.board(&presented, fresh);
            let flight = match boarding {
                Boarding::Known(answer) => return answer,
                Boarding::Join(flight) => {
                    joined = true;
                    flight
                }
                Boarding::Start(flight, landing) => {
                    // A task of its own, so that no request that goes away takes the others'
                    // answer with it. It is started after the lock is released, since a runtime
                    // that is shutting down drops it at once, and it then locks by itself.
                    tokio::spawn(landing.fly(presented.clone()));
                    flight
                }
                Boarding::Full => {
                    tracing::warn!("too many access tokens are being checked");
                    meter::full("calls");
                    return Err(verdict::unknown());
                }
            };
            // A call ends in time by itself, but one that sets out later does not.
            let outcome = match attempt {
                0 => flight.outcome().await,
                _ => timeout_at(deadline, flight.outcome()).await.ok().flatten(),
            };
            let answer = outcome.unwrap_or_else(|| Err(verdict::unknown()));
            // The proof of who asked first may be at fault, and ours not.
            fresh |= joined && answer.as_ref().is_err_and(Rejection::is_of_proof);
            let for_us = !(joined && fresh);
            let (stale, now_forgotten) = {
                let flights = self.flights.lock();
                (flight.is_stale(), flights.forgotten(&presented.key))
            };
            if for_us && !stale && forgotten == now_forgotten {
                return answer;
            }
            // A proof is not sent twice: it would be taken for a replay.
            if !joined && presented.request.dpop.is_some() {
                let known = self.known(&presented.key, presented.holder, self.clock.now());
                return known.filter(|_| !fresh).unwrap_or_else(|| Err(verdict::unknown()));
            }
        }
        Err(verdict::unknown())
    }

    /// The same for a token that comes with a proof, which is verified here whether or not Authlete is
    /// asked. `proven`: this request's proof has been used up already, by this request.
    #[cfg(feature = "dpop")]
    pub(crate) async fn ask_with_proof(
        self: Arc<Self>,
        prover: Arc<Prover>,
        mut presented: Presented,
        fresh: bool,
        proven: bool,
        sent: Sent,
    ) -> Answer {
        let now = self.clock.now();
        let IntrospectionRequest { dpop, htm, htu, .. } = &presented.request;
        let purpose = ProofFor {
            method: htm.as_deref().unwrap_or_default(),
            url: htu.as_deref().unwrap_or_default(),
            token: presented.token(),
            now,
        };
        let proof = prover.verify(dpop.as_ref().map_or("", Secret::expose), &purpose)?;
        prover.check_nonce(&proof, now)?;
        presented.holder.key = Some(proof.thumbprint);
        // Only Authlete knows which of its nonces are good.
        let foreign = !prover.has_nonces() && (proof.nonce.is_some() || self.nonce().is_some());
        let fresh = fresh || foreign || prover.settings.always_remote;
        let Presented { key, holder, .. } = presented;
        let forgotten = self.flights.lock().forgotten(&key);
        let (_, known) = self.look_up(presented.token(), holder, now);
        let (info, ends) = match known.filter(|_| !fresh) {
            Some(known) => (known.answer?, Some(known.ends)),
            None => {
                sent.store(true, Ordering::Release);
                (self.clone().ask(presented.clone(), fresh).await?, None)
            }
        };
        if !proven {
            prover.use_up(&proof, &self.clock).await?;
            // The token may have been forgotten while that took its time.
            if self.flights.lock().forgotten(&key) != forgotten {
                let known = self.known(&key, holder, self.clock.now());
                return known.unwrap_or_else(|| Err(verdict::unknown()));
            }
        }
        if let Some(ends) = ends
            && self.keep_alive(&key, &info, ends, self.clock.now(), || presented)
        {
            sent.store(true, Ordering::Release);
        }
        Ok(info)
    }

    /// The nonce for DPoP proofs that Authlete demands, if it does.
    #[cfg(feature = "dpop")]
    pub(crate) fn nonce(&self) -> Option<HeaderValue> {
        self.nonce.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the nonce that an answer tells. An answer to a proof that tells none demands none.
    fn learn_nonce(&self, request: &IntrospectionRequest, response: &IntrospectionResponse) {
        let told = response.dpop_nonce.as_deref().filter(|nonce| !nonce.is_empty());
        let told = told.and_then(|nonce| HeaderValue::from_str(nonce).ok());
        let ok = response.action == IntrospectionAction::Ok;
        let ended = ok && request.dpop.is_some();
        if told.is_some() || ended {
            let mut nonce = self.nonce.write().unwrap_or_else(PoisonError::into_inner);
            *nonce = told;
        }
    }

    /// What to do, and how often tokens of this one's lot were forgotten by then.
    fn board(self: &Arc<Self>, presented: &Presented, fresh: bool) -> (Boarding, u64) {
        let mut flights = self.flights.lock();
        let forgotten = flights.forgotten(&presented.key);
        (self.board_in(&mut flights, presented, fresh), forgotten)
    }

    fn board_in(
        self: &Arc<Self>,
        flights: &mut Table<Answer>,
        presented: &Presented,
        fresh: bool,
    ) -> Boarding {
        let Presented { key, holder, .. } = *presented;
        if fresh || self.cache.is_none() {
            return self.start(flights, key, holder, Purpose::Alone);
        }
        // A flight may have landed since we last looked. What an issue told does not do: whether it
        // is enough was looked at before.
        let complete = |answer: &Answer| answer.as_ref().map_or(true, TokenInfo::is_complete);
        if let Some(answer) = self.known(&key, holder, self.clock.now()).filter(complete) {
            return Boarding::Known(answer);
        }
        self.join(flights, key, holder)
    }

    /// Looks again, in the background, at a token that is known but needs a longer life, or of which
    /// what is known `ends` (ms since the epoch) soon. Tells whether Authlete is asked with what is
    /// presented.
    pub(crate) fn keep_alive(
        self: &Arc<Self>,
        key: &Key,
        known: &TokenInfo,
        ends: u64,
        now: SystemTime,
        presented: impl FnOnce() -> Presented,
    ) -> bool {
        let extends = self.extender.as_ref().is_some_and(|it| it.look(key, known, now));
        let ends = ends <= millis(now) && !self.caller.record.is_down(now);
        (extends || ends) && self.ask_in_background(presented())
    }

    /// Asks, unless somebody does already. Tells whether it does.
    fn ask_in_background(self: &Arc<Self>, presented: Presented) -> bool {
        let Presented { key, holder, .. } = presented;
        let boarding = self.join(&mut self.flights.lock(), key, holder);
        let Boarding::Start(_, landing) = boarding else { return false };
        tokio::spawn(landing.fly(presented));
        true
    }

    /// How it and its Authlete are doing.
    pub(crate) fn health(&self) -> Health {
        let entries = self.cache.as_ref().map_or(0, MemoryCache::len);
        self.caller.record.health(entries, self.caller.in_flight())
    }

    /// Makes a call of which only matters that it is answered.
    pub(crate) async fn warm_up(&self) -> Result<(), Error> {
        let request = IntrospectionRequest::new().token("warm-up");
        let answer = self.authlete.introspection(&request).await;
        let failed = answer.as_ref().err().map(verdict::of_failure);
        self.caller.record.add(failed.as_ref().map(Rejection::reason), self.clock.now());
        answer.map(|_| ())
    }

    /// A flight that others may join, unless there is one.
    fn join(self: &Arc<Self>, flights: &mut Table<Answer>, key: Key, holder: Holder) -> Boarding {
        let purpose = Purpose::Shared(holder);
        match flights.join(&key, purpose) {
            Some(flight) => Boarding::Join(flight),
            None => self.start(flights, key, holder, purpose),
        }
    }

    fn start(
        self: &Arc<Self>,
        flights: &mut Table<Answer>,
        key: Key,
        holder: Holder,
        purpose: Purpose,
    ) -> Boarding {
        let Ok(room) = self.room.clone().try_acquire_owned() else { return Boarding::Full };
        let (sender, flight) = flights.depart(key, purpose);
        let (verifier, flying) = (self.clone(), flight.clone());
        let (departed, _room) = (self.clock.now(), room);
        let landing = Landing { verifier, key, holder, flight: flying, departed, sender, _room };
        Boarding::Start(flight, landing)
    }

    async fn call(&self, request: &IntrospectionRequest) -> Answer {
        let answer = match self.check {
            Check::Introspection => {
                // A proof that was sent would be taken for a replay.
                let once = request.dpop.is_some();
                let attempt = || self.authlete.introspection(request);
                let response = self.caller.call("/auth/introspection", once, attempt).await;
                response.map(|response| {
                    self.learn_nonce(request, &response);
                    verdict::of_introspection(&response)
                })
            }
            Check::Update => {
                let request = TokenUpdateRequest {
                    access_token: request.token.clone(),
                    ..TokenUpdateRequest::new()
                };
                // It changes nothing, so that it can be made again.
                let attempt = || self.authlete.token_update(&request);
                let response = self.caller.call("/auth/token/update", false, attempt).await;
                response.map(|it| verdict::of_update(&it, self.clock.now()))
            }
        };
        let answer = answer.unwrap_or_else(|error| Err(verdict::of_failure(&error)));
        let failed = answer.as_ref().err().filter(|rejection| !rejection.is_of_client());
        meter::called(failed.is_none());
        self.caller.record.add(failed.map(Rejection::reason), self.clock.now());
        if answer.as_ref().is_ok_and(|token| self.is_past(token)) {
            self.warn_of_clocks();
        }
        answer.map(|token| token.guarded(&self.guard))
    }

    fn is_past(&self, token: &TokenInfo) -> bool {
        token.is_past(self.clock.now_millis())
    }

    fn warn_of_clocks(&self) {
        if !self.clocks_differ.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "Authlete says that an access token is good which has expired by this machine's \
                 clock; such tokens are not cached; check that the clock is right"
            );
        }
    }
}

/// A token as it was presented, with all that Authlete has to be told of it.
#[derive(Clone)]
pub(crate) struct Presented {
    pub(crate) key: Key,
    pub(crate) holder: Holder,
    pub(crate) request: IntrospectionRequest,
}

impl Presented {
    pub(crate) fn bearer(key: Key, token: &str) -> Self {
        Self { key, holder: Holder::BEARER, request: IntrospectionRequest::new().token(token) }
    }

    fn token(&self) -> &str {
        self.request.token.as_ref().map_or("", Secret::expose)
    }
}

/// In the extensions of a request whose token is known by what issued it: how to ask about it.
#[derive(Clone)]
pub(crate) struct Recheck {
    verifier: Arc<Verifier>,
    presented: Presented,
}

impl Recheck {
    pub(crate) fn ask(self) -> Asking {
        Box::pin(self.verifier.ask(self.presented, false))
    }
}
