//! Who is it? Tells what is known of a token, and asks Authlete what is not known: once, however
//! many want to know.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use moka::sync::Cache;
use tokio::sync::watch;

use crate::{
    api::{
        Authlete, Error, IntrospectionRequest, Secret, TokenRevokeRequest, TokenUpdateAction,
        TokenUpdateRequest, TokenUpdateResponse,
    },
    cache::{Flight, Flights, Key, KeySpace, MemoryCache, Table},
    clock::Clock,
    future::Asking,
    refresh::{Extender, Refresh},
    rejection::Rejection,
    rotate::{Rotation, Rotator},
    token::TokenInfo,
    verdict::{self, Answer, is_gone},
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
    keys: KeySpace,
    flights: Flights<Answer>,
    extender: Option<Extender>,
    pub(crate) rotator: Option<Arc<Rotator>>,
    /// Which access token was issued with a refresh token.
    issued_with: Cache<Key, Key>,
    clocks_differ: AtomicBool,
}

impl Verifier {
    pub(crate) fn new(
        authlete: Authlete,
        check: Check,
        clock: Clock,
        cache: Option<MemoryCache>,
        refresh: Option<Refresh>,
        rotation: Option<Rotation>,
    ) -> Self {
        let api = match check {
            Check::Introspection => "introspection",
            Check::Update => "update",
        };
        let keys = KeySpace::new(&authlete.identity(), api);
        let (flights, clocks_differ) = (Flights::new(), AtomicBool::new(false));
        let extender = refresh.map(Extender::new);
        let rotator = rotation.map(|rotation| Arc::new(Rotator::new(rotation)));
        let issued_with = Cache::new(MAX_PAIRS);
        Self {
            authlete,
            check,
            clock,
            cache,
            keys,
            flights,
            extender,
            rotator,
            issued_with,
            clocks_differ,
        }
    }

    /// The key of a Bearer token.
    pub(crate) fn key(&self, token: &str) -> Key {
        self.keys.key("bearer", token)
    }

    /// What is known already.
    pub(crate) fn known(&self, key: &Key) -> Option<Answer> {
        let cache = self.cache.as_ref()?;
        // The value may have been changed so little time ago that it is still accepted.
        let overlapping = self.rotator.as_ref().and_then(|rotator| {
            let successor = rotator.overlapping(key, self.clock.now())?;
            cache.get(&successor).filter(Result::is_ok)
        });
        overlapping.or_else(|| cache.get(key))
    }

    /// Asks Authlete, or waits for the answer to someone else who asks. With `fresh`, neither what
    /// is known nor what others asked is good enough.
    pub(crate) async fn ask(self: Arc<Self>, key: Key, token: Secret, fresh: bool) -> Answer {
        for _ in 0..ATTEMPTS {
            let flight = match self.board(key, fresh) {
                Boarding::Known(answer) => return answer,
                Boarding::Join(flight) => flight,
                Boarding::Start(flight, landing) => {
                    // A task of its own, so that no request that goes away takes the others'
                    // answer with it. It is started after the lock is released, since a runtime
                    // that is shutting down drops it at once, and it then locks by itself.
                    tokio::spawn(landing.fly(token.clone()));
                    flight
                }
            };
            let answer = flight.outcome().await;
            if !flight.is_stale() {
                return answer.unwrap_or_else(|| Err(verdict::unknown()));
            }
        }
        Err(verdict::unknown())
    }

    fn board(self: &Arc<Self>, key: Key, fresh: bool) -> Boarding {
        let shared = !fresh && self.cache.is_some();
        let mut flights = self.flights.lock();
        if shared {
            // A flight may have landed since we last looked. What an issue told does not do: whether
            // it is enough was looked at before.
            let complete = |answer: &Answer| answer.as_ref().map_or(true, TokenInfo::is_complete);
            if let Some(answer) = self.known(&key).filter(complete) {
                return Boarding::Known(answer);
            }
            if let Some(flight) = flights.join(&key) {
                return Boarding::Join(flight);
            }
        }
        self.start(&mut flights, key, shared)
    }

    /// Looks again, in the background, at a token that is known but needs a longer life.
    pub(crate) fn keep_alive(self: &Arc<Self>, key: &Key, token: &str, known: &TokenInfo) {
        let Some(extender) = &self.extender else { return };
        if !extender.is_due(key, known, self.clock.now()) {
            return;
        }
        if let Boarding::Start(_, landing) = self.board_in_background(*key) {
            tokio::spawn(landing.fly(token.into()));
        }
    }

    /// A flight that others may join, unless there is one.
    fn board_in_background(self: &Arc<Self>, key: Key) -> Boarding {
        let mut flights = self.flights.lock();
        match flights.join(&key) {
            Some(flight) => Boarding::Join(flight),
            None => self.start(&mut flights, key, true),
        }
    }

    fn start(self: &Arc<Self>, flights: &mut Table<Answer>, key: Key, shared: bool) -> Boarding {
        let (sender, flight) = Flight::new(shared);
        flights.depart(key, flight.clone());
        let landing = Landing { verifier: self.clone(), key, flight: flight.clone(), sender };
        Boarding::Start(flight, landing)
    }

    async fn call(&self, token: &Secret) -> Answer {
        let answer = match self.check {
            Check::Introspection => {
                let request = IntrospectionRequest::new().token(token);
                self.authlete.introspection(&request).await.map(|it| verdict::of_introspection(&it))
            }
            Check::Update => {
                let request = TokenUpdateRequest::new().access_token(token);
                self.authlete
                    .token_update(&request)
                    .await
                    .map(|it| verdict::of_update(&it, self.clock.now()))
            }
        };
        let answer = answer.unwrap_or_else(|error| Err(verdict::of_failure(&error)));
        if answer.as_ref().is_ok_and(|token| self.is_past(token)) {
            self.warn_of_clocks();
        }
        answer
    }

    fn is_past(&self, token: &TokenInfo) -> bool {
        token.expires_at().is_some_and(|at| at <= self.clock.now())
    }

    fn warn_of_clocks(&self) {
        if !self.clocks_differ.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "Authlete says that an access token is good which has expired by this machine's \
                 clock; such tokens are not cached; check that the clock is right"
            );
        }
    }

    /// Nothing that was asked or cached before this returns is used after it.
    pub(crate) fn forget(&self, token: &str) {
        self.replace(self.key(token), None);
    }

    /// Forgets what is known of the token, and keeps something else instead.
    fn replace(&self, key: Key, answer: Option<&Answer>) {
        let mut flights = self.flights.lock();
        flights.forget(&key);
        match (&self.cache, answer) {
            (Some(cache), Some(answer)) => cache.put(key, answer),
            (Some(cache), None) => cache.remove(&key),
            (None, _) => {}
        }
    }

    /// How to ask about a token that is known by what issued it.
    pub(crate) fn recheck(self: &Arc<Self>, token: &str) -> Recheck {
        Recheck { verifier: self.clone(), token: token.into() }
    }

    /// Keeps what was said of a token when it was issued, which must be plain Bearer beyond doubt.
    /// What is known by asking is better, and stays.
    pub(crate) fn remember(&self, token: &str, issued: TokenInfo) {
        let key = self.key(token);
        let mut flights = self.flights.lock();
        let Some(cache) = &self.cache else { return };
        if cache.get(&key).and_then(Result::ok).is_some_and(|known| known.is_complete()) {
            return;
        }
        // It may have been asked about before it existed.
        flights.forget(&key);
        cache.put(key, &Ok(issued));
    }

    /// Keeps which access token came with a refresh token.
    pub(crate) fn remember_pair(&self, refresh: &str, access: &str) {
        self.issued_with.insert(self.keys.key("refresh", refresh), self.key(access));
    }

    /// Forgets the access token that came with a refresh token, which is used up or revoked.
    pub(crate) fn forget_pair(&self, refresh: &str) {
        if let Some(access) = self.issued_with.remove(&self.keys.key("refresh", refresh)) {
            self.replace(access, None);
        }
    }

    pub(crate) fn forget_all(&self) {
        let mut flights = self.flights.lock();
        flights.forget_all();
        if let Some(cache) = &self.cache {
            cache.remove_all();
        }
    }

    /// Ends the token at Authlete and here.
    pub(crate) async fn revoke(&self, token: &str) -> Result<(), Error> {
        let request = TokenRevokeRequest::new().access_token_identifier(token);
        let mut revoked = self.authlete.token_revoke(&request).await;
        // If the token has just got a new value, it is that by which Authlete knows it.
        let successor = self.rotator.as_ref().and_then(|it| it.successor(&self.key(token)));
        if let (Ok(_), Some(successor)) = (&revoked, successor) {
            let request = TokenRevokeRequest::new().access_token_identifier(&successor);
            revoked = self.authlete.token_revoke(&request).await;
            self.forget(successor.expose());
        }
        // After a failure it is not known whether the token is still good: that is to be asked.
        let gone = Err(Rejection::invalid_token("the access token was revoked"));
        self.replace(self.key(token), revoked.is_ok().then_some(&gone));
        revoked.map(|_| ())
    }

    /// Changes the token at Authlete, and what is known of it here.
    pub(crate) async fn update(
        &self,
        token: &str,
        request: TokenUpdateRequest,
    ) -> Result<TokenUpdateResponse, Error> {
        let request = request.access_token(token);
        let response = self.authlete.token_update(&request).await;
        match &response {
            Ok(response) if response.action == TokenUpdateAction::Ok => {
                self.write_through(token, &request, response);
            }
            // Whatever became of it, what is known may not be so any more.
            _ => self.forget(token),
        }
        response
    }

    /// Refreshes what is known of a token by what an update says of it. It never makes anything
    /// known: the answer says nothing of what the token is bound to.
    fn write_through(
        &self,
        token: &str,
        request: &TokenUpdateRequest,
        response: &TokenUpdateResponse,
    ) {
        let key = self.key(token);
        let mut flights = self.flights.lock();
        flights.forget(&key);
        let Some(cache) = &self.cache else { return };
        let known = cache.get(&key).and_then(Result::ok);
        let now_bound =
            request.certificate_thumbprint.is_some() || request.dpop_key_thumbprint.is_some();
        let same = !now_bound && !request.access_token_value_updated;
        let updated = known.filter(|_| same).and_then(|known| known.updated(request, response));
        match updated {
            Some(updated) => cache.put(key, &Ok(updated)),
            None => cache.remove(&key),
        }
    }

    /// Asks Authlete to let a token live longer, of which it just said that it is good.
    async fn extend(
        &self,
        token: &Secret,
        until: SystemTime,
    ) -> Option<(TokenUpdateRequest, TokenUpdateResponse)> {
        let request = TokenUpdateRequest::new().access_token(token).access_token_expires_at(until);
        match self.authlete.token_update(&request).await {
            Ok(response) if response.action == TokenUpdateAction::Ok || is_gone(&response) => {
                Some((request, response))
            }
            Ok(response) => {
                let (action, code) = (response.action, response.result_code);
                tracing::warn!(?action, code, "the life of an access token could not be extended");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "the life of an access token could not be extended");
                None
            }
        }
    }
}

/// In the extensions of a request whose token is known by what issued it: how to ask about it.
#[derive(Clone)]
pub(crate) struct Recheck {
    verifier: Arc<Verifier>,
    token: Secret,
}

impl Recheck {
    pub(crate) fn ask(self) -> Asking {
        let key = self.verifier.key(self.token.expose());
        Box::pin(self.verifier.ask(key, self.token, true))
    }
}

/// What to do about a token that is not known well enough.
enum Boarding {
    /// It has become known meanwhile.
    Known(Answer),
    /// Somebody asks already.
    Join(Arc<Flight<Answer>>),
    /// Nobody asks yet.
    Start(Arc<Flight<Answer>>, Landing),
}

/// A call that takes itself off the table of flights, whatever becomes of it.
struct Landing {
    verifier: Arc<Verifier>,
    key: Key,
    flight: Arc<Flight<Answer>>,
    sender: watch::Sender<Option<Answer>>,
}

impl Landing {
    async fn fly(self, token: Secret) {
        let answer = self.verifier.call(&token).await;
        let extender = self.verifier.extender.as_ref();
        let wanted = extender.zip(answer.as_ref().ok()).and_then(|(extender, info)| {
            let now = self.verifier.clock.now();
            extender.seen(&self.key, now);
            let until = extender.wants(&self.key, info, now)?;
            Some((extender, until, extender.leave(self.key, now)?))
        });
        match wanted {
            None => self.land(answer),
            Some((extender, until, _leave)) if extender.waits() => {
                let answer = self.extended(&token, until, answer).await;
                self.land(answer);
            }
            Some((_, until, _leave)) => {
                self.land(answer);
                let verifier = &self.verifier;
                match verifier.extend(&token, until).await {
                    Some((_, response)) if is_gone(&response) => verifier.forget(token.expose()),
                    Some((request, response)) => {
                        verifier.write_through(token.expose(), &request, &response);
                    }
                    None => {}
                }
            }
        }
    }

    /// The answer after the token was extended.
    async fn extended(&self, token: &Secret, until: SystemTime, answer: Answer) -> Answer {
        let Some((request, response)) = self.verifier.extend(token, until).await else {
            return answer;
        };
        // What set out before the update does not know of it.
        self.verifier.flights.lock().forget_others(&self.key, &self.flight);
        if is_gone(&response) {
            return Err(Rejection::invalid_token("the access token does not exist"));
        }
        let info = answer?;
        Ok(info.updated(&request, &response).unwrap_or(info))
    }

    fn land(&self, answer: Answer) {
        {
            let mut flights = self.verifier.flights.lock();
            let current = flights.land(&self.key, &self.flight);
            let verdict = answer.as_ref().map_or_else(Rejection::is_verdict, |_| true);
            if let Some(cache) = self.verifier.cache.as_ref().filter(|_| current && verdict) {
                cache.put(self.key, &answer);
            }
        }
        self.sender.send_replace(Some(answer));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.verifier.flights.lock().land(&self.key, &self.flight);
    }
}
