//! Who is it? Tells what is known of a token, and asks Authlete what is not known: once, however
//! many want to know.

use std::{
    borrow::Cow,
    pin::Pin,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use moka::sync::Cache;
use tokio::sync::Semaphore;

#[cfg(feature = "dpop")]
use crate::proof::{Proof, Prover};
use crate::{
    api::{
        Authlete, Error, IntrospectionAction, IntrospectionRequest, IntrospectionResponse, Secret,
        TokenUpdateRequest,
    },
    cache::{Binding, Flight, Flights, Key, KeySpace, Known, Landed, MemoryCache, Told},
    clock::{CENTURY, Clock, Moment},
    lifecycle::{
        Admits, Extender, Lineages, PendingExtension, Refresh, Rotation, Rotator, Successor,
    },
    observe::{LogLimit, counters, limited},
    precheck::Precheck,
    rejection::{Reason, Refuser, Rejection},
    resilience::{BreakerState, Health, ResiliencePolicy, ResilientClient, RetryMode},
    token::TokenInfo,
    verdict::{self, Verdict},
};

mod boarding;
mod changes;
mod landing;

use self::boarding::Boarding;
pub(crate) use self::changes::{Change, Issue};

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

/// Of how many refresh tokens the access token is remembered that came with it.
const MAX_PAIRS: u64 = 100_000;

/// What a flight brings.
pub(crate) type Asked = Landed<Verdict>;

/// Set when Authlete is asked with a request's proof: to the call.
pub(crate) type Sent = Arc<OnceLock<Arc<Flight<Asked>>>>;

/// What is known of a token, and by what.
pub(crate) struct Resolved {
    pub(crate) answer: Verdict,
    /// The call that told it; `None` if it was known.
    pub(crate) call: Option<Arc<Flight<Asked>>>,
    /// Whether Authlete should be asked again soon.
    pub(crate) needs_refresh: bool,
}

impl Resolved {
    /// What is known without a call of this request's.
    pub(crate) fn known(answer: Verdict) -> Self {
        Self { answer, call: None, needs_refresh: false }
    }

    /// What a call told.
    fn by(call: &Arc<Flight<Asked>>, answer: Verdict) -> Self {
        Self { answer, call: Some(call.clone()), needs_refresh: false }
    }
}

impl From<Known> for Resolved {
    fn from(Known { answer, ends }: Known) -> Self {
        Self { answer, call: None, needs_refresh: ends }
    }
}

/// What is known on its way. What is known already is not waited for, and needs no box.
pub(crate) type Resolving = Pin<Box<dyn Future<Output = Resolved> + Send>>;

pub(crate) struct Verifier {
    pub(crate) authlete: Authlete,
    pub(crate) check: Check,
    pub(crate) clock: Clock,
    pub(crate) cache: Option<MemoryCache>,
    pub(crate) log: LogLimit,
    /// Goes into what is known of tokens.
    pub(crate) guard: Refuser,
    keys: KeySpace,
    refresh_keys: KeySpace,
    pub(crate) flights: Flights<Asked>,
    room: Arc<Semaphore>,
    pub(crate) caller: ResilientClient,
    pub(crate) extender: Option<Extender>,
    pub(crate) lineages: Lineages,
    /// What tokens have to be like of which nothing is known, if that takes more than a glance.
    pub(crate) precheck: Option<Precheck>,
    pub(crate) rotator: Option<Arc<Rotator>>,
    /// Which access token was issued with a refresh token, by the value that it had then.
    pairs: Cache<Key, Key>,
    /// How often tokens were ended. What an issue tells that was under way then may be about one of them.
    endings: AtomicU64,
    clocks_differ: AtomicBool,
    /// The nonce for DPoP proofs that Authlete told last.
    nonce: RwLock<Option<HeaderValue>>,
}

impl Verifier {
    pub(crate) fn new(
        authlete: Authlete,
        check: Check,
        guard: Refuser,
        cache: Option<MemoryCache>,
        refresh: Option<Refresh>,
        rotation: Option<Rotation>,
        policy: ResiliencePolicy,
    ) -> Self {
        let api = match check {
            Check::Introspection => "introspection",
            Check::Update => "update",
        };
        let keys = KeySpace::new(&authlete.identity(), api, "access");
        let refresh_keys = KeySpace::new(&authlete.identity(), api, "refresh");
        let (flights, clocks_differ) = (Flights::new(), AtomicBool::new(false));
        // They outlive clients that go away.
        let room = policy.max_in_flight.saturating_add(policy.max_waiting);
        let room = Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS)));
        let caller = ResilientClient::new(policy);
        let log = LogLimit::new(guard.clock());
        let extender = refresh.map(|refresh| Extender::new(refresh, log.clone()));
        let lineages = Lineages::new(extender.as_ref().map_or(CENTURY, Extender::longest_life));
        let rotator = rotation.map(|rotation| Arc::new(Rotator::new(rotation)));
        Self {
            authlete,
            check,
            clock: guard.clock().clone(),
            log,
            guard,
            cache,
            keys,
            refresh_keys,
            flights,
            room,
            caller,
            extender,
            lineages,
            precheck: None,
            rotator,
            pairs: Cache::new(MAX_PAIRS),
            endings: AtomicU64::new(0),
            clocks_differ,
            nonce: RwLock::default(),
        }
    }

    /// The key of an access token.
    pub(crate) fn key(&self, token: &str) -> Key {
        self.keys.key(token)
    }

    /// The key of an access token that is in use, and what is known of it already. The value of a token
    /// that overlaps with its successor stands for that.
    #[inline]
    pub(crate) fn look_up(
        &self,
        token: &str,
        binding: Binding,
        now: Moment,
    ) -> (Key, Option<Known>) {
        let Some(cache) = &self.cache else { return (self.key(token), None) };
        let tag = cache.tag(token);
        let (key, known) = match cache.at_hand(tag, binding, now) {
            Some((key, known)) => (key, Some(known)),
            None => {
                let key = self.key(token);
                let known = cache.find(tag, &key, binding, now);
                (key, known)
            }
        };
        let successor = match &known {
            Some(Known { answer: Ok(_), .. }) => None,
            _ => self.successor(&key, binding),
        };
        let Some(successor) = successor else { return (key, known) };
        let answer = cache.get(&successor.key, binding, now).filter(Result::is_ok);
        (key, answer.map(|answer| Known { answer, ends: false }))
    }

    /// What is known already.
    fn known(&self, key: &Key, binding: Binding) -> Option<Verdict> {
        self.cache.as_ref()?.get(key, binding, self.clock.moment())
    }

    /// What is known already, by the newest value: all that can be known, or that the token is bad.
    pub(crate) fn known_by_newest_value(&self, presented: &Presented) -> Option<Verdict> {
        let known = self.known(&self.lineages.newest(&presented.key), presented.binding);
        known.filter(|known| known.as_ref().map_or(true, TokenInfo::is_complete))
    }

    /// Whether a token has got another value, or is getting one.
    pub(crate) fn has_other_value(&self, key: &Key) -> bool {
        let renews = |rotator: &Arc<Rotator>| rotator.is_renewing(key);
        self.lineages.newest(key) != *key || self.rotator.as_ref().is_some_and(renews)
    }

    /// Whether a call set out so little time ago that a check could still wait for it.
    pub(crate) fn is_recent(&self, call: &Flight<Asked>, now: Moment) -> bool {
        call.departed.elapsed(now) <= self.caller.policy.deadline
    }

    /// Asks again about a token that was invalidated while a request waited for its extension: in the
    /// part of a check's time that is kept for what comes after that.
    pub(crate) async fn look_again(self: &Arc<Self>, presented: &Arc<Presented>) -> Verdict {
        let unknown = || Err(verdict::unknown());
        // A proof is not sent twice: it would be taken for a replay.
        if presented.is_sent() {
            return unknown();
        }
        let asking = self.ask_now(presented, false);
        let resolved = tokio::time::timeout(self.caller.policy.deadline / 4, asking).await;
        resolved.map_or_else(|_| unknown(), |resolved| resolved.answer)
    }

    /// The value that a token has got so little time ago that this one is still accepted.
    #[inline]
    fn successor(&self, key: &Key, binding: Binding) -> Option<Arc<Successor>> {
        let rotator = self.rotator.as_ref().filter(|_| binding.key.is_none())?;
        rotator.overlapping(key, self.clock.moment())
    }

    /// What is presented by the value that it stands for.
    fn by_current_value(&self, presented: &Arc<Presented>) -> Arc<Presented> {
        match self.successor(&presented.key, presented.binding) {
            Some(successor) => Arc::new(presented.with_value(successor.key, &successor.value)),
            None => presented.clone(),
        }
    }

    /// Asks Authlete, or waits for the answer to someone else who asks.
    #[expect(clippy::manual_async_fn, reason = "the arguments of an `async fn` are kept twice")]
    pub(crate) fn resolve(
        self: Arc<Self>,
        presented: Arc<Presented>,
        freshness: Freshness,
    ) -> impl Future<Output = Resolved> + Send {
        async move {
            if let Err(rejection) = self.look_closer(presented.token()) {
                return Resolved::known(Err(rejection));
            }
            if let Some(stale) = self.stale_at_once(&presented, freshness) {
                return Resolved::known(Ok(stale));
            }
            let resolved = self.ask_now(&presented, freshness.fresh).await;
            let stale = match &resolved.answer {
                // An overload here does not tell that Authlete cannot be asked.
                Err(rejection) if rejection.is_overload() && self.answers() => None,
                Err(rejection) if rejection.reason() == Reason::Unavailable => {
                    self.stale(&presented, freshness)
                }
                _ => None,
            };
            stale.map_or(resolved, |stale| Resolved::known(Ok(stale)))
        }
    }

    /// In an outage nobody waits who can do without.
    fn stale_at_once(
        self: &Arc<Self>,
        presented: &Arc<Presented>,
        freshness: Freshness,
    ) -> Option<TokenInfo> {
        // Credentials of ours that are refused are no outage.
        let outage = self.is_down() && !self.caller.record.credentials_refused();
        let stale = outage.then(|| self.stale(presented, freshness))??;
        if self.caller.record.breaker.state(self.clock.now_millis()) != BreakerState::Open {
            self.ask_in_background(&self.by_current_value(presented));
        }
        Some(stale)
    }

    /// Refuses what cannot be one of the service's tokens.
    fn look_closer(&self, token: &str) -> Result<(), Rejection> {
        let Some(precheck) = &self.precheck else { return Ok(()) };
        // A token that is extended lives longer than it tells.
        let now = self.extender.is_none().then(|| self.clock.now());
        if precheck.fits_closely(token, now) {
            return Ok(());
        }
        counters::prechecked("jwt");
        Err(Rejection::foreign_token())
    }

    /// What may be used though Authlete should have been asked again.
    fn stale(&self, presented: &Presented, freshness: Freshness) -> Option<TokenInfo> {
        let cache = self.cache.as_ref().filter(|_| !freshness.fresh)?;
        let Presented { key, binding, .. } = presented;
        let stale = cache.stale(key, *binding, freshness.stale, self.clock.moment());
        let stale = stale.filter(TokenInfo::is_complete)?;
        counters::stale();
        Some(stale)
    }

    /// The same for a token that comes with a proof, which was verified: it is used up, whether or not
    /// Authlete is asked. `proven`: it has been used up already, by this request.
    #[cfg(feature = "dpop")]
    pub(crate) async fn resolve_with_proof(
        self: Arc<Self>,
        prover: Arc<Prover>,
        proof: Proof,
        presented: Arc<Presented>,
        mut freshness: Freshness,
        proven: bool,
    ) -> Resolved {
        let deadline = self.caller.deadline();
        // Only Authlete knows which of its nonces are good.
        let foreign = !prover.has_nonces() && (proof.nonce.is_some() || self.nonce().is_some());
        freshness.fresh |= foreign || prover.settings.always_remote;
        let Presented { key, binding, .. } = *presented;
        // On the table, it tells invalidations of this token from those of its neighbours.
        let mark = self.change(key);
        let (_, known) = self.look_up(presented.token(), binding, self.clock.recently());
        let resolved = match known.filter(|_| !freshness.fresh) {
            Some(known) => known.into(),
            None => self.clone().resolve(presented, freshness).await,
        };
        if proven || resolved.answer.is_err() {
            return resolved;
        }
        let used_up = deadline.wait(prover.use_up(&proof, &self.clock, &self.log)).await;
        if let Err(rejection) = used_up.unwrap_or_else(|| Err(verdict::unknown())) {
            return Resolved::known(Err(rejection));
        }
        // The token may have been forgotten while that took its time.
        if !mark.is_current() {
            let known = self.known(&key, binding);
            return Resolved::known(known.unwrap_or_else(|| Err(verdict::unknown())));
        }
        resolved
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

    /// Whether a token that is known has to be presented again: because it ends soon, or is to be extended.
    #[inline]
    pub(crate) fn needs_presenting(
        &self,
        key: &Key,
        token: &TokenInfo,
        needs_refresh: bool,
    ) -> bool {
        needs_refresh || !token.is_complete() || self.is_extension_due(key, token)
    }

    fn is_extension_due(&self, key: &Key, token: &TokenInfo) -> bool {
        let now = || self.clock.moment();
        self.extender.as_ref().is_some_and(|it| it.is_due(key, token, &self.lineages, now()))
    }

    /// Whether requests wait for the extension of their tokens.
    pub(crate) fn waits_for_extensions(&self) -> bool {
        self.extender.as_ref().is_some_and(Extender::waits)
    }

    /// Follows the admission of a request: revalidates what ends soon, and tells whether the token is to
    /// be extended.
    pub(crate) fn follow(
        self: &Arc<Self>,
        presented: &Arc<Presented>,
        token: &TokenInfo,
        needs_refresh: bool,
        call: Option<Arc<Flight<Asked>>>,
        admits: impl FnOnce() -> Admits,
    ) -> Option<PendingExtension> {
        let presented = &self.by_current_value(presented);
        let extends = self.is_extension_due(&presented.key, token);
        // When an outage may be over, somebody has to find out.
        let state = || self.caller.record.breaker.state(self.clock.now_millis());
        let revalidates = needs_refresh && (!self.is_down() || state() == BreakerState::HalfOpen);
        let asked = revalidates.then(|| self.ask_in_background(presented)).flatten();
        extends.then(|| PendingExtension::new(self, presented, call.or(asked), admits()))
    }

    /// Asks, unless somebody does already or too many do. The answer is that of the call.
    pub(crate) fn ask_in_background(
        self: &Arc<Self>,
        presented: &Arc<Presented>,
    ) -> Option<Arc<Flight<Asked>>> {
        let Presented { key, binding, .. } = **presented;
        let boarding = self.join(&mut self.flights.lock(), key, binding);
        match boarding {
            Boarding::Join(flight) => Some(flight),
            Boarding::Start(flight, landing) => {
                presented.sent_by(&flight);
                tokio::spawn(landing.fly(presented.clone()));
                Some(flight)
            }
            Boarding::Known(_) | Boarding::Full => None,
        }
    }

    /// What is known by now of a token that was `known` when a call about it set out; `None` if that is
    /// too old, and the call is to be waited for.
    pub(crate) fn known_since(
        &self,
        key: &Key,
        flight: &Flight<Asked>,
        known: &TokenInfo,
        stale: Duration,
    ) -> Option<Verdict> {
        let too_old = known.is_stale_beyond(stale, self.clock.now_millis());
        match self.flights.told(key, flight) {
            Told::Forgotten => {
                let known = self.known(key, flight.binding());
                Some(known.unwrap_or_else(|| Err(verdict::unknown())))
            }
            Told::Landed(answer) if too_old || verdict::is_one(&answer) => Some(answer),
            Told::UnderWay if too_old => None,
            Told::Landed(_) | Told::UnderWay => Some(Ok(known.clone())),
        }
    }

    /// What a call under way will tell.
    pub(crate) async fn wait(self: Arc<Self>, key: Key, flight: Arc<Flight<Asked>>) -> Resolved {
        let told = self.flights.answer(&key, &flight, Err(verdict::unknown())).await;
        Resolved::by(&flight, told.unwrap_or_else(|| Err(verdict::unknown())))
    }

    /// Whether Authlete answered the last check, and calls are made.
    fn answers(&self) -> bool {
        self.caller.record.was_answered() && !self.is_down()
    }

    /// Whether Authlete could not be asked the last time, a moment ago.
    pub(crate) fn is_down(&self) -> bool {
        self.caller.record.is_down(self.clock.now())
    }

    /// How it and its Authlete are doing.
    pub(crate) fn health(&self) -> Health {
        let entries = self.cache.as_ref().map_or(0, MemoryCache::len);
        self.caller.record.health(entries, self.caller.in_flight(), self.clock.now())
    }

    /// Makes a call of which only matters that it is answered.
    pub(crate) async fn warm_up(&self) -> Result<(), Error> {
        let request = IntrospectionRequest::new().token("warm-up");
        let record = &self.caller.record;
        let pass = record.breaker.pass();
        let answer = self.authlete.introspection(&request).await;
        let error = answer.as_ref().err();
        // It tells the log.
        let _ = error.map(|error| verdict::of_failure(error, &self.log));
        record.add(error.is_none(), self.clock.now());
        record.end(pass, error, self.clock.now_millis());
        answer.map(|_| ())
    }

    async fn call(&self, presented: &Presented) -> Verdict {
        let record = &self.caller.record;
        let pass = match record.breaker.enter(self.clock.now_millis()) {
            Ok(pass) => pass,
            Err(left) => {
                counters::suspended();
                let refused = record.credentials_refused();
                return Err(if refused {
                    verdict::at_fault()
                } else {
                    Rejection::unavailable(left)
                });
            }
        };
        let again = match presented.has_proof() {
            _ if pass.is_probe() => RetryMode::Never,
            // A proof that was sent would be taken for a replay.
            true => RetryMode::IfUnsent,
            false => RetryMode::Always,
        };
        let answer = match self.check {
            Check::Introspection => self.introspect(presented, again).await,
            Check::Update => {
                let request = TokenUpdateRequest {
                    access_token: Some(presented.token.clone()),
                    ..TokenUpdateRequest::new()
                };
                let attempt = || self.authlete.token_update(&request);
                let response = self.caller.check("/auth/token/update", again, attempt).await;
                response.map(|it| Ok(verdict::of_update(&it?, self.clock.now(), &self.log)))
            }
        };
        let Some(answer) = answer else { return Err(self.overloaded()) };
        record.end(pass, answer.as_ref().err(), self.clock.now_millis());
        let answer = answer.unwrap_or_else(|error| Err(verdict::of_failure(&error, &self.log)));
        let succeeded = answer.as_ref().map_or_else(Rejection::is_of_client, |_| true);
        counters::called(succeeded);
        record.add(succeeded, self.clock.now());
        if answer.as_ref().is_ok_and(|token| self.is_past(token)) {
            self.warn_of_clocks();
        }
        answer.map(|token| token.guarded(&self.guard, &presented.key))
    }

    /// How often tokens of a shard were invalidated.
    pub(crate) fn epoch(&self, shard: u16) -> u64 {
        self.flights.lock().epoch(shard)
    }

    /// What `/auth/introspection` says of a token; `None` if there was no time for it.
    async fn introspect(
        &self,
        presented: &Presented,
        again: RetryMode,
    ) -> Option<Result<Verdict, Error>> {
        let deadline = self.caller.deadline();
        let request = presented.request();
        let ask = async |request: &IntrospectionRequest, again| {
            let attempt = || self.authlete.introspection(request);
            let response = self.caller.check("/auth/introspection", again, attempt).await?;
            Some(response.map(|response| {
                self.learn_nonce(request, &response);
                verdict::of_introspection(&response, &self.log)
            }))
        };
        let answer = ask(&request, again).await;
        if !matches!(answer, Some(Ok(Ok(_)))) || !self.has_to_be_bound(presented) {
            return answer;
        }
        // RFC 9449 §7.1: the proof's key is the one that the token is bound to. The answer does not tell
        // whether it is bound to any; then it would be good without a proof, too.
        let bare =
            IntrospectionRequest { dpop: None, htm: None, htu: None, ..request.into_owned() };
        let again = if matches!(again, RetryMode::Never) { again } else { RetryMode::Always };
        let too_late = || Some(Ok(Err(verdict::unknown())));
        match deadline.wait(ask(&bare, again)).await.unwrap_or_else(too_late) {
            Some(Ok(Ok(_))) => Some(Ok(Err(Rejection::invalid_token(
                "the access token is bound to no key, which is required here",
            )))),
            Some(Ok(Err(rejection))) if rejection.is_of_client() => answer,
            unknown => unknown,
        }
    }

    /// Whether a token comes with a proof where it has to be bound to the proof's key, and it is not known
    /// already that it is.
    fn has_to_be_bound(&self, presented: &Presented) -> bool {
        let known = || self.known(&presented.key, presented.binding);
        self.guard.challenges().only_dpop
            && presented.has_proof()
            && known().is_none_or(|known| known.is_err())
    }

    /// There was no room or no time for a call: that says nothing of Authlete.
    fn overloaded(&self) -> Rejection {
        limited!(warn, self.log, "too many access tokens are being checked");
        counters::full("calls");
        verdict::overloaded()
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

/// How new what is known of a token has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Freshness {
    /// Neither what is known nor what others asked is good enough.
    pub(crate) fresh: bool,
    /// For how long after its age an answer may be used while Authlete cannot be asked.
    pub(crate) stale: Duration,
}

/// A token as it was presented, with all that Authlete has to be told of it.
#[derive(Clone)]
pub(crate) struct Presented {
    pub(crate) key: Key,
    pub(crate) binding: Binding,
    token: Secret,
    /// All of it, if that is more than the token.
    request: Option<Arc<IntrospectionRequest>>,
    /// Where it is told that Authlete is asked with its proof.
    pub(crate) sent: Option<Sent>,
}

impl Presented {
    pub(crate) fn new(key: Key, binding: Binding, token: &str) -> Self {
        Self { key, binding, token: token.into(), request: None, sent: None }
    }

    /// With what Authlete is told beside the token.
    pub(crate) fn telling(mut self, request: IntrospectionRequest) -> Self {
        self.request = Some(Arc::new(request));
        self
    }

    /// All that Authlete is told.
    pub(crate) fn request(&self) -> Cow<'_, IntrospectionRequest> {
        match &self.request {
            Some(request) => Cow::Borrowed(request),
            None => Cow::Owned(IntrospectionRequest::new().token(&self.token)),
        }
    }

    fn has_proof(&self) -> bool {
        self.request.as_ref().is_some_and(|request| request.dpop.is_some())
    }

    /// The same by another value of the token.
    fn with_value(&self, key: Key, token: &Secret) -> Self {
        let of = |request: &Arc<IntrospectionRequest>| Arc::new((**request).clone().token(token));
        let request = self.request.as_ref().map(of);
        Self { key, token: token.clone(), request, ..self.clone() }
    }

    /// Tells by which call Authlete is asked with it.
    fn sent_by(&self, flight: &Arc<Flight<Asked>>) {
        let _ = self.sent.as_ref().map(|sent| sent.set(flight.clone()));
    }

    /// Whether Authlete has been asked with its proof.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.get().is_some())
    }

    pub(crate) fn token(&self) -> &str {
        self.token.expose()
    }
}
